CREATE TABLE account (
  id             INTEGER PRIMARY KEY,
  name           TEXT    NOT NULL UNIQUE,
  declared       INTEGER NOT NULL,
  verifier       TEXT,
  created_at     REAL    NOT NULL,
  synced_at      REAL,
  failed_at      REAL,
  failure        TEXT    NOT NULL DEFAULT '',
  upstream_count INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE device (
  id                INTEGER PRIMARY KEY AUTOINCREMENT,
  account_id        INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  name              TEXT    NOT NULL COLLATE NOCASE,
  view              TEXT    CHECK (view IN ('all', 'undelivered')),
  since             REAL,
  app_password_hash BLOB    UNIQUE,
  created_at        REAL    NOT NULL,
  seen_at           REAL,
  UNIQUE (account_id, name)
) STRICT;

-- Rows are never deleted: one without its blob is a tombstone that keeps its uid from being used
-- for another message.
CREATE TABLE message (
  id               INTEGER PRIMARY KEY AUTOINCREMENT,
  account_id       INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  uid              TEXT    NOT NULL,
  upstream_uid     TEXT    NOT NULL,
  upstream_octets  INTEGER NOT NULL,
  digest           BLOB    NOT NULL,
  octets           INTEGER NOT NULL,
  dots             INTEGER NOT NULL,
  header_digest    BLOB,
  received_at      REAL    NOT NULL,
  fetched_at       REAL    NOT NULL,
  upstream         TEXT    NOT NULL DEFAULT 'present'
                   CHECK (upstream IN ('present', 'gone', 'expunged')),
  left_upstream_at REAL,
  deleted_at       REAL,
  purged_at        REAL,
  blob_lost        INTEGER NOT NULL DEFAULT 0,
  UNIQUE (account_id, uid)
) STRICT;

CREATE INDEX message_by_digest ON message (digest);
CREATE INDEX message_by_upstream ON message (account_id, upstream, id);

CREATE TABLE delivery (
  device_id    INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE,
  message_id   INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
  retrieved_at REAL,
  deleted_at   REAL,
  PRIMARY KEY (device_id, message_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX delivery_by_message ON delivery (message_id);

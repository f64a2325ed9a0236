-- What a person has to know of, so that a restart tells nothing twice.
CREATE TABLE trouble (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  -- NULL: of the machine.
  account_id   INTEGER REFERENCES account (id) ON DELETE CASCADE,
  kind         TEXT    NOT NULL,
  since        REAL    NOT NULL,
  subject      TEXT    NOT NULL,
  body         TEXT    NOT NULL,
  -- JSON: what it is about, one by one.
  marks        TEXT    NOT NULL DEFAULT '[]',
  -- The notice in the account's maildrops; NULL: there is none.
  message_id   INTEGER REFERENCES message (id) ON DELETE SET NULL,
  over_at      REAL,
  -- When the operator was told that it began, and that it is over.
  alerted_at   REAL,
  recovered_at REAL
) STRICT;

CREATE INDEX trouble_by_account ON trouble (account_id);
CREATE INDEX trouble_by_message ON trouble (message_id);

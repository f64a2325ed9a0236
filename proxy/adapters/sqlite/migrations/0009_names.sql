-- The canonical form of the name, made by `domain.login_name.canonical` when the store is opened.
-- Not unique: earlier versions took two spellings of a name for two accounts.
ALTER TABLE account ADD COLUMN key TEXT NOT NULL DEFAULT '';

CREATE INDEX account_by_key ON account (key);

-- What the SCRAM salt of the account is made of; '': the canonical form of its name. Keys of app
-- passwords that were made before names had one hang on the name as it was spelled.
ALTER TABLE account ADD COLUMN salt_name TEXT NOT NULL DEFAULT '';
UPDATE account SET salt_name = name;

-- Names of accounts that were merged into another one.
CREATE TABLE other_name (
  name       TEXT    PRIMARY KEY,
  account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX other_name_by_account ON other_name (account_id);

-- What one device calls a message that others know by its uid.
CREATE TABLE device_uid (
  device_id  INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE,
  message_id INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
  uid        TEXT    NOT NULL,
  PRIMARY KEY (device_id, message_id),
  UNIQUE (device_id, uid)
) STRICT, WITHOUT ROWID;

CREATE INDEX device_uid_by_message ON device_uid (message_id);

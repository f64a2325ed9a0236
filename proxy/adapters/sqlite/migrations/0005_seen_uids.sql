-- UIDLs of mail that a device had before the proxy knew the mail, as the device's program wrote
-- them. A row goes when a message of this UIDL comes.
CREATE TABLE seen_uid (
  device_id    INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE,
  uid          TEXT    NOT NULL,
  slashes_lost INTEGER NOT NULL,
  imported_at  REAL    NOT NULL,
  -- Whether upstream did not list it once: then it may turn up again for other mail.
  unlisted     INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (device_id, uid)
) STRICT, WITHOUT ROWID;

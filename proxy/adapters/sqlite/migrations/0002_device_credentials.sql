-- SCRAM-SHA-256 keys of the app password (RFC 5802 §3): StoredKey, then ServerKey.
ALTER TABLE device ADD COLUMN scram_keys BLOB;

-- SHA-256 of the certificate that the device may log in with.
ALTER TABLE device ADD COLUMN certificate BLOB;

CREATE UNIQUE INDEX device_by_certificate ON device (certificate);

-- Random octets made once, that must stay the same from then on.
CREATE TABLE secret (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

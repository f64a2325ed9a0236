-- Messages that were sent whole in sessions which ended without QUIT.
CREATE TABLE unconfirmed (
  device_id  INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE,
  message_id INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
  PRIMARY KEY (device_id, message_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX unconfirmed_by_message ON unconfirmed (message_id);

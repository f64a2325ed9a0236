-- Mails that devices have sent: those that may be on their way, and those that may come back.
CREATE TABLE sent (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  account_id  INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  device_id   INTEGER REFERENCES device (id) ON DELETE SET NULL,
  -- As the mail's header has it; "" if it has none.
  message_id  TEXT    NOT NULL,
  sent_at     REAL    NOT NULL,
  -- 1 until it is known what became of the mail.
  under_way   INTEGER NOT NULL DEFAULT 1,
  -- The copy that other devices see; NULL: there is none.
  copy_id     INTEGER REFERENCES message (id) ON DELETE SET NULL,
  -- What came back from upstream while it was under way.
  returned_id INTEGER REFERENCES message (id) ON DELETE SET NULL
) STRICT;

CREATE INDEX sent_by_message_id ON sent (account_id, message_id);
CREATE INDEX sent_by_device ON sent (device_id);
CREATE INDEX sent_by_copy ON sent (copy_id);
CREATE INDEX sent_by_returned ON sent (returned_id);

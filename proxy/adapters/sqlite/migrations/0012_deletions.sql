-- When our own DELE was about to be sent, until it is known what came of it.
ALTER TABLE message ADD COLUMN deleting_at REAL;

-- For finding one mail in two accounts.
CREATE INDEX message_by_header ON message (header_digest) WHERE header_digest IS NOT NULL;

-- Two accounts that seem to stand for one mailbox; first_id is the smaller one.
CREATE TABLE same_mailbox (
  first_id   INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  second_id  INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  -- Whether an operator has said that they are two.
  told_apart INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (first_id, second_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX same_mailbox_by_second ON same_mailbox (second_id);

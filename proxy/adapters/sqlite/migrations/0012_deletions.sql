-- When our own DELE was about to be sent, until it is known what came of it.
ALTER TABLE message ADD COLUMN deleting_at REAL;

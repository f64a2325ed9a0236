-- Whether the proxy made the message itself: upstream knows nothing of it.
ALTER TABLE message ADD COLUMN own INTEGER NOT NULL DEFAULT 0;

-- The one device that it is for; NULL: for all. Ids of devices are never used again, so one that was
-- removed names nobody.
ALTER TABLE message ADD COLUMN only_device INTEGER;

CREATE INDEX message_for_one_device ON message (account_id) WHERE only_device IS NOT NULL;

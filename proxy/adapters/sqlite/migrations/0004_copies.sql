-- A copy for one device, made by the proxy: upstream knows nothing of it. Ids of devices are never
-- used again, so one that was removed names nobody.
ALTER TABLE message ADD COLUMN only_device INTEGER;

CREATE INDEX message_for_one_device ON message (account_id) WHERE only_device IS NOT NULL;

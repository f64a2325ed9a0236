-- What the store knows of time: `domain.timekeeping`. `ran` is on disk before anything that was
-- stamped with it, since every transaction writes it first.
CREATE TABLE clock (
  one         INTEGER PRIMARY KEY CHECK (one = 1),
  ran         REAL    NOT NULL,
  last_now    REAL,
  last_ran    REAL,
  right_now   REAL,
  right_ran   REAL,
  doubt       TEXT    NOT NULL DEFAULT '',
  doubted_ran REAL    NOT NULL DEFAULT 0,
  wrong_since REAL    NOT NULL DEFAULT 0
) STRICT;

INSERT INTO clock (one, ran) VALUES (1, 0);

-- Stamps of running time. What was here before counts from now on.
ALTER TABLE message ADD COLUMN fetched_ran REAL NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN left_ran REAL;
UPDATE message SET left_ran = 0 WHERE left_upstream_at IS NOT NULL;
ALTER TABLE delivery ADD COLUMN ran REAL NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN created_ran REAL NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN seen_ran REAL NOT NULL DEFAULT 0;
ALTER TABLE seen_uid ADD COLUMN imported_ran REAL NOT NULL DEFAULT 0;
ALTER TABLE sent ADD COLUMN sent_ran REAL NOT NULL DEFAULT 0;

-- Whether `received_at` is what the message says of itself, and not when it came.
ALTER TABLE message ADD COLUMN dated INTEGER NOT NULL DEFAULT 0;

-- The last message that was there when the device was made: `since` is about those up to it, and
-- about those that are dated. What comes later is never hidden by it.
ALTER TABLE device ADD COLUMN backlog_to INTEGER NOT NULL DEFAULT 0;
UPDATE device SET backlog_to = (SELECT coalesce(max(id), 0) FROM message);

-- By triggers, so that no statement can forget to.
CREATE TRIGGER message_comes AFTER INSERT ON message BEGIN
  UPDATE message SET fetched_ran = (SELECT ran FROM clock),
    left_ran = CASE WHEN new.left_upstream_at IS NOT NULL THEN (SELECT ran FROM clock) END
  WHERE id = new.id;
END;

CREATE TRIGGER message_leaves AFTER UPDATE OF left_upstream_at ON message
WHEN (old.left_upstream_at IS NULL) <> (new.left_upstream_at IS NULL) BEGIN
  UPDATE message
  SET left_ran = CASE WHEN new.left_upstream_at IS NOT NULL THEN (SELECT ran FROM clock) END
  WHERE id = new.id;
END;

CREATE TRIGGER delivery_begins AFTER INSERT ON delivery BEGIN
  UPDATE delivery SET ran = (SELECT ran FROM clock)
  WHERE device_id = new.device_id AND message_id = new.message_id;
END;

CREATE TRIGGER delivery_goes_on AFTER UPDATE OF retrieved_at, deleted_at ON delivery
WHEN (old.retrieved_at IS NULL) <> (new.retrieved_at IS NULL)
  OR (old.deleted_at IS NULL) <> (new.deleted_at IS NULL) BEGIN
  UPDATE delivery SET ran = (SELECT ran FROM clock)
  WHERE device_id = new.device_id AND message_id = new.message_id;
END;

CREATE TRIGGER device_comes AFTER INSERT ON device BEGIN
  UPDATE device SET created_ran = (SELECT ran FROM clock), seen_ran = (SELECT ran FROM clock),
    backlog_to = (SELECT coalesce(max(id), 0) FROM message)
  WHERE id = new.id;
END;

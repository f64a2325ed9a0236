-- SHA-256 of what stays of a message when a provider changes its header.
ALTER TABLE message ADD COLUMN content_digest BLOB;

-- Whether the message left the listing by RETR, as it does at some providers.
ALTER TABLE message ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;

-- Whether a message has ever been listed again after the session that fetched it.
ALTER TABLE account ADD COLUMN keeps_retrieved INTEGER NOT NULL DEFAULT 0;

-- Seconds to leave between two logins, as learnt from refusals.
ALTER TABLE account ADD COLUMN login_interval REAL NOT NULL DEFAULT 0;

-- JSON: what upstream lists and was not fetched at the last sync, and why.
ALTER TABLE account ADD COLUMN unfetched TEXT NOT NULL DEFAULT '[]';

-- Name of the class of the error that `failure` tells of.
ALTER TABLE account ADD COLUMN failure_kind TEXT NOT NULL DEFAULT '';

-- Listings that lack what was there and are not believed so far; `since` is running time.
CREATE TABLE spell (
  account_id INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
  since      REAL    NOT NULL,
  listings   INTEGER NOT NULL,
  most       INTEGER NOT NULL
) STRICT;

-- When the message left together with so many that all of them may come back under other UIDLs, in
-- running time.
ALTER TABLE message ADD COLUMN left_at_once REAL;

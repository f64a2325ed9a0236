-- Blobs that no message named any more when a purge let go of them. A row goes once the file has.
CREATE TABLE freed_blob (
  digest BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

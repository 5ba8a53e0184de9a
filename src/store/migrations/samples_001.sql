-- Frozen: a database in the field has run it. Changes are new files.
-- Readable without the other two: it holds its own boots, and bodies hold their names.

CREATE TABLE boot (id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, offset_ms INTEGER NOT NULL);

-- What one commit had of one device. tier: 0 rows as they were read, else the width of a slot in seconds.
-- first, last: milliseconds of the boot's clock. keep_s: how long it is wanted.
CREATE TABLE chunk (
  id INTEGER PRIMARY KEY,
  device TEXT NOT NULL,
  tier INTEGER NOT NULL,
  boot INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  keep_s INTEGER NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX chunk_of ON chunk (device, tier, boot, first);

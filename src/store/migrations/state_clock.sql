-- Frozen: a database in the field has run it. Changes are new files.

-- seen: the last moment of the boot that is known, in microseconds of its own clock.
ALTER TABLE boot ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE boot ADD COLUMN quality TEXT;
ALTER TABLE boot ADD COLUMN source TEXT;
ALTER TABLE boot ADD COLUMN error_ms INTEGER;

-- Each offset from a boot's clock to wall time that was ever believed, and from when on.
CREATE TABLE clock (
  id INTEGER PRIMARY KEY,
  boot INTEGER NOT NULL,
  at INTEGER NOT NULL,
  offset_ms INTEGER NOT NULL,
  quality TEXT NOT NULL,
  source TEXT NOT NULL,
  error_ms INTEGER
);
CREATE INDEX clock_boot ON clock (boot, id);

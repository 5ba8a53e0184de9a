-- Frozen: a database in the field has run it. Changes are new files.

-- What was found out about devices and lines, so that it is not found out again on the bus.
CREATE TABLE learned (
  id INTEGER PRIMARY KEY,
  about TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  wall_ms INTEGER NOT NULL,
  UNIQUE (about, key)
);

-- Frozen: a database in the field has run it. Changes are new files.

-- Switched points as they stand. command and source: what made them so, NULL if they were seen so.
CREATE TABLE relay (
  id INTEGER PRIMARY KEY,
  device TEXT NOT NULL,
  point TEXT NOT NULL,
  is_on INTEGER NOT NULL,
  boot INTEGER NOT NULL,
  at INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL,
  command TEXT,
  source TEXT,
  UNIQUE (device, point)
);

-- Their past. changes: how often it had switched since the row before, with this one.
CREATE TABLE relay_history (
  id INTEGER PRIMARY KEY,
  device TEXT NOT NULL,
  point TEXT NOT NULL,
  is_on INTEGER NOT NULL,
  boot INTEGER NOT NULL,
  at INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL,
  command TEXT,
  source TEXT,
  changes INTEGER NOT NULL
);
CREATE INDEX relay_history_device ON relay_history (device, id);

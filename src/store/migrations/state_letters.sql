-- Frozen: a database in the field has run it. Changes are new files.

-- AUTOINCREMENT: the number of a letter that was thrown away must not come to mean another one.
CREATE TABLE letter (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  boot INTEGER NOT NULL,
  at INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL,
  source TEXT NOT NULL,
  topic TEXT NOT NULL,
  reason TEXT NOT NULL,
  body BLOB NOT NULL
);
INSERT INTO letter SELECT * FROM dead_letter;
DROP TABLE dead_letter;
ALTER TABLE letter RENAME TO dead_letter;

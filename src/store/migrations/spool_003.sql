-- Frozen: a database in the field has run it. Changes are new files.

-- Segments that stand for others, by n. level: how often they were thinned. replaces: the n they stand for, as long as
-- those may still be there; what is announced in state.db decides then which of both counts.
CREATE TABLE thinned (
  n INTEGER PRIMARY KEY,
  level INTEGER NOT NULL,
  replaces TEXT
);

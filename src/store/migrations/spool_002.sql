-- Frozen: a database in the field has run it. Changes are new files.

-- Each uplink has a cursor: by name, what it does not have; see core/cursor.rs. Empty: `alive` still says it, for the one
-- uplink that there was.
ALTER TABLE meta ADD COLUMN cursors BLOB NOT NULL DEFAULT x'';

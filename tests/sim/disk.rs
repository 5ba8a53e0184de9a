//! A disk that is full: every write that would need room fails, reads go on.
//!
//! Triggers in the file itself, set over a connection of their own, so that the store needs no switch for it. What they
//! raise is an error of the statement, after which SQLite rolls back as it does when there is no room.

use rusqlite::Connection;
use std::path::Path;

/// File, and the statements that fail.
pub type Place = (&'static str, &'static [(&'static str, &'static str)]);

pub const SPOOL: Place = ("spool.db", &[("INSERT", "segment"), ("UPDATE", "meta")]);
pub const STATE: Place = (
    "state.db",
    &[
        ("INSERT", "event"),
        ("INSERT", "command"),
        ("UPDATE", "command"),
        ("INSERT", "device"),
        ("UPDATE", "device"),
        ("INSERT", "status_history"),
        ("INSERT", "dead_letter"),
    ],
);

pub fn fill(dir: &Path, (file, statements): Place, full: bool) {
    let db = Connection::open(dir.join(file)).expect("the file is there");
    for (n, (verb, table)) in statements.iter().enumerate() {
        let sql = if full {
            format!(
                "CREATE TRIGGER IF NOT EXISTS full_{n} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            )
        } else {
            format!("DROP TRIGGER IF EXISTS full_{n}")
        };
        db.execute_batch(&sql).expect("nobody else writes just now");
    }
}

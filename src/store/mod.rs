//! SQLite with one writer: state.db and spool.db.

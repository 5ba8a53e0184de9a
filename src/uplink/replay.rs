//! A dead letter of an uplink back into the spool.

use super::dialect::back;
use crate::{
    model::{Boot, Receipt},
    store::{DeadLetterRow, Store},
};

/// The receipt is kept when it is durable in the spool. An error says why it cannot come back.
pub fn replay(store: &Store, letter: &DeadLetterRow, receipt: Receipt, now: Boot) -> Result<(), &'static str> {
    if !letter.topic.ends_with("/telemetry") {
        return Err("only telemetry comes back: a command has expired, and an event has its gap");
    }
    let name = letter.source.strip_prefix("uplink ").unwrap_or_default();
    let Some(of) = store.spool().uplink_named(name) else {
        return Err("its uplink is not in the configuration any more");
    };
    let Some((boot, frames)) = back::telemetry(&letter.body) else {
        return Err("its content was cut, so it cannot be sent");
    };
    store.spool().restore(of, boot, frames, receipt, now);
    Ok(())
}

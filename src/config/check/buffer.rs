//! `[buffer]`.

use super::Desk;
use crate::config::{Buffer, keys::Keys, problem::Code};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq)]
enum WhenFull {
    Drop,
    Thin,
    Hold,
}

pub fn check(root: &Keys<'_>, desk: &mut Desk<'_>) -> Buffer {
    let empty = Default::default();
    let (table, at) = root.sub("buffer", "[buffer]", &mut desk.out).unwrap_or((&empty, root.at));
    let trail = root.trail.then("buffer");
    let known = ["window", "ack_within", "disk_max", "when_full", "thin_window", "card_endurance"];
    let keys = Keys::open(table, at, &trail, "[buffer]", &known, &mut desk.out);
    let out = &mut desk.out;
    let window = keys.duration("window", Duration::ZERO..=Duration::from_secs(3600), out).unwrap_or(Duration::from_secs(1));
    let ack_within = keys.duration("ack_within", Duration::ZERO..=Duration::from_secs(60), out).unwrap_or(Duration::from_millis(100));
    let disk_max = keys.size("disk_max", 1 << 20..=1 << 50, out).unwrap_or(512 << 20);
    let choices = [("drop", WhenFull::Drop), ("thin", WhenFull::Thin), ("hold", WhenFull::Hold)];
    let mut thin_window = keys.duration("thin_window", Duration::ZERO..=Duration::from_secs(3600), out).unwrap_or(Duration::from_secs(60));
    match keys.word("when_full", &choices, out) {
        Some(WhenFull::Drop) => thin_window = Duration::ZERO,
        Some(WhenFull::Hold) => {
            out.error(Code::NotInVersion, keys.value_at("when_full"), "buffer.when_full", "`hold` is not in this version")
                .because("this version thins and then drops the oldest telemetry at disk_max, and gap events name it")
                .want("when_full = \"thin\"");
        }
        _ => {}
    }
    let card_endurance = keys.size("card_endurance", 1 << 30..=1 << 60, out).unwrap_or(Buffer::CARD_ENDURANCE);
    Buffer { window, ack_within, disk_max, thin_window, card_endurance }
}

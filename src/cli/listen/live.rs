//! Listening beside the running daemon: the last frames of its line, as they come.

use super::{
    Until,
    say::{Told, own_verdict},
};
use crate::{
    api::control,
    cli::{
        EXIT_UNREACHABLE, Out,
        site::{Held, Trouble},
    },
    drivers::modbus::{
        rtu::crc16,
        sniff::{Direction, Sniffer},
    },
    model::Boot,
};
use serde_json::{Value, json};
use std::time::Duration;

/// How often the daemon is asked for what is new.
const LOOK: Duration = Duration::from_millis(200);

pub fn listen(out: &Out, held: &Held, until: &Until, told: &mut Told<'_>) -> Result<u8, Trouble> {
    if !out.quiet {
        eprintln!("{} is in use by fieldgate; showing what it sends and hears. Ctrl-C stops.", held.id);
    }
    let ask = |after: u64| {
        let request = json!({"frames": {"line": held.id, "after": after}});
        control::ask(&held.socket, &request, Duration::from_secs(5)).map_err(|e| {
            Trouble::new("not-running", EXIT_UNREACHABLE, format!("fieldgate does not answer any more: {e}"), "fieldgate status")
        })
    };
    let (mut next, mut others, mut sniffer) = (0, 0, Sniffer::default());
    loop {
        let answer = ask(next)?;
        let frames = answer["frames"].as_array().map_or(&[][..], Vec::as_slice);
        next = answer["next"].as_u64().unwrap_or(next);
        for (at, sent, bytes) in frames.iter().filter_map(frame) {
            told.keep(at, sent, &bytes);
            for seen in sniffer.hear(at, &as_rtu(&bytes).unwrap_or(bytes)) {
                let is_other = !sent && seen.direction == Direction::Request && !seen.is_echo;
                others += u64::from(is_other);
                told.frame(&seen, None);
            }
        }
        if until.is_over() {
            break;
        }
        if frames.is_empty() {
            std::thread::park_timeout(LOOK);
        }
    }
    sniffer.end();
    let (text, code) = own_verdict(&sniffer.tally, others);
    if out.json {
        eprintln!("{text}")
    } else {
        out.say(&format!("\n{text}"))
    }
    Ok(code)
}

fn frame(row: &Value) -> Option<(Boot, bool, Vec<u8>)> {
    let hex = row["bytes"].as_str()?;
    let byte = |at: usize| hex.get(at..at + 2).and_then(|b| u8::from_str_radix(b, 16).ok());
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    Some((Boot(row["at_us"].as_u64()?), row["sent"].as_bool()?, bytes?))
}

/// A Modbus TCP frame as the same on RTU, so that one sniffer reads both.
fn as_rtu(bytes: &[u8]) -> Option<Vec<u8>> {
    let [_, _, 0, 0, high, low, body @ ..] = bytes else { return None };
    if usize::from(u16::from_be_bytes([*high, *low])) != body.len() {
        return None;
    }
    let mut out = body.to_vec();
    out.extend(crc16(body).to_le_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_control_socket_are_read() {
        let row = json!({"n": 3, "at_us": 17, "sent": true, "bytes": "0102ff"});
        assert_eq!(frame(&row), Some((Boot(17), true, vec![1, 2, 0xff])));
        assert_eq!(frame(&json!({"n": 3})), None);
        let tcp = as_rtu(&[0, 9, 0, 0, 0, 6, 1, 3, 0, 10, 0, 1]).expect("Modbus TCP");
        assert_eq!((&tcp[..6], crc16(&tcp)), (&[1, 3, 0, 10, 0, 1][..], 0));
        assert_eq!(as_rtu(&[1, 3, 0, 10, 0, 1, 2, 3]), None);
    }
}

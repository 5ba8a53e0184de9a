//! Listening on a port of our own: settings are tried until frames are good, and kept.

use super::{
    Until,
    say::{Told, verdict},
};
use crate::{
    cli::{EXIT_NO_ANSWER, Out, out::Paint, site::Trouble},
    config::Serial,
    drivers::{
        line::ear::Ear,
        modbus::sniff::{Direction, Sniffer},
    },
    model::{Parity, Settings},
    system::clock::Clock,
};
use std::time::Duration;

/// So long each settings are tried; a master that polls once a second is heard in it.
const DWELL: Duration = Duration::from_millis(2500);
/// Good frames that settle it: one may be chance, in noise.
const ENOUGH: u64 = 2;
const BAUDS: [u32; 8] = [9600, 19_200, 38_400, 115_200, 57_600, 4800, 2400, 1200];

/// What is tried, in order. `given`: known or asked for; then only the parity is open, unless that was given too.
pub fn candidates(given: Option<Settings>, parity: Option<Parity>) -> Vec<Settings> {
    let all = |baud: u32| [Parity::None, Parity::Even, Parity::Odd].map(|parity| Settings { baud, parity, bits: 8, stop: 1 });
    let mut out = match given {
        Some(settings) => {
            let mut out = vec![settings];
            out.extend(all(settings.baud).into_iter().filter(|s| s.parity != settings.parity));
            out
        }
        // Odd parity is rare: it is tried where it is asked for.
        None => BAUDS.iter().flat_map(|baud| all(*baud)).filter(|s| s.parity != Parity::Odd || parity == Some(Parity::Odd)).collect(),
    };
    if let Some(parity) = parity {
        out.retain(|s| s.parity == parity);
    }
    out
}

pub fn listen(out: &Out, serial: &Serial, candidates: &[Settings], until: &Until, told: &mut Told<'_>) -> Result<u8, Trouble> {
    let trouble = |words: String| {
        let (what, remedy) = words.split_once("; ").map_or((words.as_str(), ""), |(what, remedy)| (what, remedy));
        Trouble::new("no-port", EXIT_NO_ANSWER, what, remedy)
    };
    let Some(first) = candidates.first() else { return Err(Trouble::new("usage", 2, "no settings are left to try", "leave --parity out")) };
    let own = Serial { baud: first.baud, parity: first.parity, bits: first.bits, stop: first.stop, ..serial.clone() };
    let mut ear = Ear::open(&own).map_err(trouble)?;
    if !out.quiet {
        eprintln!("Listening on {}, sending nothing. Ctrl-C stops.", serial.path.display());
    }
    let begun = Clock::Real.now();
    let (mut best, mut heard_any) = (Sniffer::default(), 0);
    for settings in candidates.iter().cycle() {
        if until.is_over() {
            break;
        }
        ear.tune(settings).map_err(trouble)?;
        let sniffer = stay(&ear, *settings, until, told).map_err(trouble)?;
        heard_any += sniffer.tally.bytes;
        let good = sniffer.tally.requests + sniffer.tally.replies;
        if !out.quiet && sniffer.tally.bytes > 0 {
            let found = if good >= ENOUGH { "   ← this is it" } else { "" };
            eprintln!(
                "{}",
                out.paint(Paint::Dim, &format!("  heard    {settings} {:>6} bytes {good:>5} good frames{found}", sniffer.tally.bytes))
            );
        }
        if good > 0 {
            best = sniffer;
        }
        if good >= ENOUGH {
            break;
        }
    }
    best.tally.bytes = best.tally.bytes.max(heard_any);
    let (text, code) = verdict(best.verdict(), &best.tally, Clock::Real.now() - begun);
    if out.json {
        eprintln!("{text}")
    } else {
        out.say(&format!("\n{text}"))
    }
    Ok(code)
}

/// Listens with these settings: until the end if frames are good, else for a while.
fn stay(ear: &Ear, settings: Settings, until: &Until, told: &mut Told<'_>) -> Result<Sniffer, String> {
    let (mut sniffer, mut buffer) = (Sniffer::default(), [0; 1024]);
    let leave = Clock::Real.now() + DWELL;
    let mut held = Vec::new();
    loop {
        let n = ear.hear(&mut buffer, Duration::from_millis(50))?;
        let now = Clock::Real.now();
        held.extend(sniffer.hear(now, &buffer[..n]));
        // One good frame may be chance; it is shown when a second one follows.
        if sniffer.tally.requests + sniffer.tally.replies >= ENOUGH {
            for seen in held.drain(..) {
                told.keep(seen.at, seen.direction == Direction::Request, &seen.bytes);
                told.frame(&seen, Some(settings));
            }
        } else if now >= leave {
            break;
        }
        if until.is_over() {
            break;
        }
    }
    sniffer.end();
    Ok(sniffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(given: Option<Settings>, parity: Option<Parity>) -> Vec<String> {
        candidates(given, parity).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn common_settings_come_first_and_given_ones_are_kept() {
        assert_eq!(shown(None, None)[..4], ["9600 8N1", "9600 8E1", "19200 8N1", "19200 8E1"]);
        assert_eq!(shown(None, Some(Parity::Odd))[..2], ["9600 8O1", "19200 8O1"]);
        let given = Settings { baud: 4800, parity: Parity::Even, bits: 8, stop: 1 };
        assert_eq!(shown(Some(given), None), ["4800 8E1", "4800 8N1", "4800 8O1"]);
        assert_eq!(shown(Some(given), Some(Parity::Even)), ["4800 8E1"]);
    }
}

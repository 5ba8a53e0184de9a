//! Frames as lines on stdout and in a file, and the last word about the bus.

use crate::{
    cli::{EXIT_NO_ANSWER, Out, moment, progress::took, site::Trouble},
    drivers::{
        line::capture,
        modbus::sniff::{Direction, Seen, Tally, Verdict, words},
    },
    model::{Boot, Settings},
    system::clock::Clock,
};
use serde_json::json;
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    time::Duration,
};

pub struct Told<'a> {
    out: &'a Out,
    file: Option<(String, BufWriter<File>)>,
    since: Boot,
}

impl Told<'_> {
    pub fn new<'a>(out: &'a Out, save: Option<&Path>) -> Result<Told<'a>, Trouble> {
        let since = Clock::Real.now();
        let file = save.map(|path| {
            let name = path.display().to_string();
            let wrong = |e| Trouble::new("file", 1, format!("cannot write {name}: {e}"), "name a file in a directory you may write to");
            let mut file = BufWriter::new(File::create(path).map_err(wrong)?);
            writeln!(file, "# fieldgate frames: seconds, > sent by the master, < heard from a unit, bytes").map_err(wrong)?;
            Ok::<_, Trouble>((name, file))
        });
        Ok(Told { out, file: file.transpose()?, since })
    }

    /// Keeps the bytes for the file.
    pub fn keep(&mut self, at: Boot, sent: bool, bytes: &[u8]) {
        if let Some((_, file)) = &mut self.file {
            // A full disk shows at the end, where it is said.
            let _ = writeln!(file, "{}", capture::line(self.since, at, sent, bytes));
        }
    }

    pub fn frame(&self, seen: &Seen, settings: Option<Settings>) {
        let hex: Vec<String> = seen.bytes.iter().map(|b| format!("{b:02x}")).collect();
        let wall = Clock::Real.reading().wall(seen.at).0;
        if self.out.json {
            let direction = if seen.direction == Direction::Request { "request" } else { "reply" };
            let row = json!({
                "at": moment::rfc3339(wall), "baud": settings.map(|s| s.baud), "parity": settings.map(|s| s.parity), "unit": seen.unit,
                "function": seen.function, "direction": direction, "bytes": hex.join(" "), "ok": true,
            });
            return self.out.say(&row.to_string());
        }
        let arrow = match (seen.direction, self.out.ascii) {
            (Direction::Request, false) => "→",
            (Direction::Reply, false) => "←",
            (Direction::Request, true) => "->",
            (Direction::Reply, true) => "<-",
        };
        let echo = if seen.is_echo { "   (its echo)" } else { "" };
        let data = if seen.direction == Direction::Reply && seen.bytes.len() > 5 { &hex[3..hex.len() - 2] } else { &[][..] };
        let line = format!("  {}  unit {:<3} {arrow} {:<34} {}{echo}", moment::time(wall), seen.unit, words(seen), data.join(" "));
        self.out.table(line.trim_end());
    }

    pub fn end(mut self) -> Result<(), Trouble> {
        if let Some((name, file)) = &mut self.file {
            file.flush().map_err(|e| Trouble::new("file", 1, format!("cannot write {name}: {e}"), "free space on that disk"))?;
            if !self.out.quiet {
                eprintln!("frames are in {name}; fieldgate simulate --replay {name} serves them again");
            }
        }
        Ok(())
    }
}

/// The sentence about a bus that somebody else drives, and the exit code.
pub fn verdict(verdict: Verdict, t: &Tally, over: Duration) -> (String, u8) {
    match verdict {
        Verdict::Silence => ("Silence: not a single byte. Check power, wiring, and that this is the port.".into(), 1),
        Verdict::NoFrame => {
            let text = format!("{} bytes and never a valid frame: A and B are swapped, or it is another baud rate or parity.", t.bytes);
            (text, EXIT_NO_ANSWER)
        }
        Verdict::Echo => ("Each request is heard twice: an adapter on this bus hears itself; fieldgate copes with that.".into(), 0),
        Verdict::Master => {
            let text = format!(
                "A master is already on this bus ({} requests in {}). Two masters disturb each\nother: switch it off before fieldgate polls here.",
                t.requests,
                took(over)
            );
            (text, 0)
        }
        Verdict::Replies => (format!("{} replies, and no request is heard: the master's wires may be separate (4-wire).", t.replies), 0),
    }
}

/// The same for a line that our daemon drives: `others` are requests that it did not send.
pub fn own_verdict(t: &Tally, others: u64) -> (String, u8) {
    match (t.bytes, t.replies) {
        (0, _) => ("Silence: the daemon sends nothing there now.".into(), 1),
        _ if others > 0 => (format!("Another master is on this bus ({others} requests that fieldgate did not send): switch it off."), 0),
        (_, 0) => ("fieldgate asks, and nobody answers. Check power and that A and B are not swapped.".into(), EXIT_NO_ANSWER),
        _ if t.echoes > 0 => ("The adapter hears itself; fieldgate copes with that.".into(), 0),
        _ => (format!("Clean: {} requests, {} replies, {} bytes of noise.", t.requests, t.replies, t.noise), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_is_a_sentence_with_its_exit_code() {
        let t = Tally { bytes: 312, requests: 41, replies: 3, ..Tally::default() };
        for (which, says, code) in [
            (Verdict::Silence, "not a single byte", 1),
            (Verdict::NoFrame, "312 bytes and never", 4),
            (Verdict::Echo, "hears itself", 0),
            (Verdict::Master, "41 requests in 20 s", 0),
            (Verdict::Replies, "3 replies", 0),
        ] {
            let (text, exit) = verdict(which, &t, Duration::from_secs(20));
            assert!(text.contains(says) && exit == code, "{text} {exit}");
        }
        assert!(own_verdict(&t, 0).0.starts_with("Clean: 41 requests, 3 replies"));
        assert!(own_verdict(&t, 2).0.starts_with("Another master"));
        assert_eq!(own_verdict(&Tally { bytes: 8, requests: 1, ..Tally::default() }, 0).1, 4);
        assert_eq!(own_verdict(&Tally::default(), 0).1, 1);
    }
}

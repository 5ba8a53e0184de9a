//! The completeness report: one verdict, then what came of each gateway and epoch, and what did not.

use super::{
    books::{Books, Missing, Run},
    numbers::Numbers,
};
use crate::{
    cli::{
        Out,
        out::{Paint, count},
    },
    model::{Epoch, Stream},
};
use serde_json::{Value as Json, json};
use std::{collections::BTreeMap, fmt::Write};

/// Ranges that are named on the screen; the document has all up to [`RANGES`].
const SHOWN: usize = 4;
const RANGES: usize = 10_000;
/// Epochs of one gateway on the screen when all is well with them; those with trouble are always shown.
const WELL_SHOWN: usize = 5;

#[derive(Debug, Default, Clone, PartialEq)]
pub struct Report {
    pub runs: Vec<Of>,
    pub rejected: u64,
}

/// One epoch of one gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Of {
    pub gateway: String,
    pub epoch: Epoch,
    pub run: Run,
    pub telemetry: Missing,
    pub event: Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Complete,
    /// Something may still come; nothing is known to be lost.
    Late,
    Incomplete,
    Nothing,
}

impl Verdict {
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Complete => "complete",
            Verdict::Late => "late",
            Verdict::Incomplete => "incomplete",
            Verdict::Nothing => "nothing",
        }
    }

    pub const fn exit(self) -> u8 {
        match self {
            Verdict::Complete => 0,
            Verdict::Late | Verdict::Incomplete | Verdict::Nothing => 1,
        }
    }
}

impl Report {
    pub fn of(books: &Books) -> Report {
        let of = |(gateway, epoch, run): (&str, Epoch, &Run)| Of {
            gateway: gateway.to_owned(),
            epoch,
            run: run.clone(),
            telemetry: books.missing(gateway, epoch, Stream::Telemetry),
            event: books.missing(gateway, epoch, Stream::Event),
        };
        Report { runs: books.runs().map(of).collect(), rejected: books.rejected }
    }

    pub fn verdict(&self) -> Verdict {
        let sum = Sum::of(self.runs.iter());
        match sum {
            _ if sum.lost > 0 || sum.conflicting > 0 => Verdict::Incomplete,
            _ if sum.late > 0 => Verdict::Late,
            _ if sum.messages == 0 => Verdict::Nothing,
            _ => Verdict::Complete,
        }
    }

    pub fn json(&self) -> Json {
        let all = Sum::of(self.runs.iter());
        json!({
            "v": 1, "verdict": self.verdict().word(), "messages": all.messages, "samples": all.samples, "resent": all.resent,
            "conflicting": all.conflicting, "missing": all.lost.saturating_add(all.late), "lost": all.lost, "late": all.late,
            "answered_by_gap": {"numbers": all.answered, "samples": all.dropped}, "may_have_lost_ms": all.may_have_lost_ms,
            "rejected": self.rejected, "epochs": self.runs.iter().map(Of::json).collect::<Vec<_>>(),
        })
    }

    /// Pure: the screen, without a line break at its end.
    pub fn screen(&self, out: &Out) -> String {
        let mut s = String::new();
        let verdict = self.verdict();
        let glyph = match verdict {
            Verdict::Complete => "well",
            Verdict::Late => "slow",
            Verdict::Incomplete => "trouble",
            Verdict::Nothing => "unknown",
        };
        let _ = writeln!(s, "{} {}", out.glyph(glyph), out.paint(Paint::Bold, &self.sentence(verdict)));
        let mut gateways: BTreeMap<&str, Vec<&Of>> = BTreeMap::new();
        for of in &self.runs {
            gateways.entry(&of.gateway).or_default().push(of);
        }
        for (gateway, runs) in gateways {
            let _ = writeln!(s, "\n  {gateway}");
            let well = runs.iter().filter(|of| of.is_well()).count();
            let mut hidden = well.saturating_sub(WELL_SHOWN);
            if hidden > 0 {
                let _ = writeln!(s, "    … {} earlier epochs are complete", count(hidden as u64));
            }
            for of in runs {
                if of.is_well() && hidden > 0 {
                    hidden -= 1;
                } else {
                    of.lines(&mut s, out);
                }
            }
        }
        if self.rejected > 0 {
            let _ = writeln!(
                s,
                "\n  {} rejected: no message of this dialect; see the rejected ones in the file",
                things(self.rejected, "delivery", "deliveries")
            );
        }
        s.trim_end().to_owned()
    }

    fn sentence(&self, verdict: Verdict) -> String {
        let all = Sum::of(self.runs.iter());
        if verdict == Verdict::Nothing {
            return "nothing came".into();
        }
        let gateways = self.runs.iter().map(|of| &of.gateway).collect::<std::collections::BTreeSet<_>>().len() as u64;
        let mut s =
            format!("{}: {}, {}", verdict.word(), things(all.messages, "message", "messages"), things(all.samples, "sample", "samples"));
        if gateways > 1 {
            let _ = write!(s, " of {} gateways", count(gateways));
        }
        let _ = write!(s, ", {} missing, {} conflicting", count(all.lost.saturating_add(all.late)), count(all.conflicting));
        if all.dropped > 0 {
            let _ = write!(s, "; {} samples were given up by gateways, which said so", count(all.dropped));
        }
        s
    }
}

#[derive(Debug, Default)]
struct Sum {
    messages: u64,
    samples: u64,
    resent: u64,
    conflicting: u64,
    lost: u64,
    late: u64,
    answered: u64,
    dropped: u64,
    may_have_lost_ms: u64,
}

impl Sum {
    fn of<'a>(runs: impl Iterator<Item = &'a Of>) -> Sum {
        let mut sum = Sum::default();
        for of in runs {
            for (sequence, missing) in [(&of.run.telemetry, &of.telemetry), (&of.run.event, &of.event)] {
                sum.messages += sequence.messages;
                sum.samples += sequence.samples;
                sum.resent += sequence.resent;
                sum.conflicting += sequence.conflicting;
                sum.lost = sum.lost.saturating_add(missing.lost.count());
                sum.late = sum.late.saturating_add(missing.late.count());
                sum.answered = sum.answered.saturating_add(sequence.answered.count());
                sum.dropped = sequence.reasons.values().fold(sum.dropped, |n, r| n.saturating_add(r.samples));
            }
            sum.may_have_lost_ms = sum.may_have_lost_ms.saturating_add(of.may_have_lost_ms());
        }
        sum
    }
}

impl Of {
    fn is_well(&self) -> bool {
        let sum = Sum::of(std::iter::once(self));
        sum.lost == 0 && sum.late == 0 && sum.conflicting == 0 && sum.answered == 0 && sum.may_have_lost_ms == 0
    }

    /// At the end of this epoch, as the next one said.
    fn may_have_lost_ms(&self) -> u64 {
        self.run.ended.map_or(0, |next| next.may_have_lost_ms)
    }

    fn json(&self) -> Json {
        let stream = |stream: Stream| {
            let (s, m) = match stream {
                Stream::Telemetry => (&self.run.telemetry, &self.telemetry),
                Stream::Event => (&self.run.event, &self.event),
            };
            let reasons: Vec<Json> = s
                .reasons
                .iter()
                .map(|(reason, r)| json!({"reason": reason, "numbers": r.numbers, "samples": r.samples, "replaced_by": r.replaced_by}))
                .collect();
            json!({
                "messages": s.messages, "samples": s.samples, "resent": s.resent, "conflicting": s.conflicting,
                "first": s.received.first(), "last": s.received.last(), "lost": ranges(&m.lost), "late": ranges(&m.late),
                "before_this_consumer": m.before, "answered_by_gap": {"numbers": s.answered.count(), "reasons": reasons},
            })
        };
        json!({
            "gateway": self.gateway, "epoch": self.epoch, "joined_late": self.run.joined, "ended": self.run.ended.is_some(),
            "may_have_lost_ms": self.may_have_lost_ms(), "telemetry": stream(Stream::Telemetry), "event": stream(Stream::Event),
        })
    }

    fn lines(&self, s: &mut String, out: &Out) {
        let (t, e) = (&self.run.telemetry, &self.run.event);
        let _ = write!(s, "    {}  {}", self.epoch, things(t.messages, "message", "messages"));
        let _ = write!(s, ", {}, {}", things(t.samples, "sample", "samples"), things(e.messages, "event message", "event messages"));
        let resent = t.resent + e.resent;
        let _ = writeln!(s, "{}", if resent > 0 { format!(", {} resent", count(resent)) } else { String::new() });
        let mut detail = |paint: Paint, text: String| {
            let _ = writeln!(s, "      {}", out.paint(paint, &text));
        };
        for (word, sequence, missing) in [("telemetry", t, &self.telemetry), ("event", e, &self.event)] {
            if !missing.lost.is_empty() {
                detail(Paint::Red, format!("{word} {} lost behind the broker: {}", count(missing.lost.count()), some(&missing.lost)));
            }
            if sequence.conflicting > 0 {
                detail(Paint::Red, format!("{word} {} came again with another content", count(sequence.conflicting)));
            }
            if !missing.late.is_empty() {
                detail(Paint::Amber, format!("{word} {} not here yet: {}", count(missing.late.count()), some(&missing.late)));
            }
            for (reason, r) in &sequence.reasons {
                let left =
                    if r.replaced_by > 0 { format!(", what is left of them under {} others", count(r.replaced_by)) } else { String::new() };
                let samples = things(r.samples, "sample", "samples");
                detail(Paint::Dim, format!("{word} {} answered by a gap event, {samples}: {reason}{left}", count(r.numbers)));
            }
            if missing.before > 0 {
                detail(Paint::Dim, format!("{word} {} were sent before this consumer began", count(missing.before)));
            }
        }
        if self.may_have_lost_ms() > 0 {
            detail(
                Paint::Amber,
                format!("ended without a stop: at most {} ms of polled values may be lost", count(self.may_have_lost_ms())),
            );
        }
    }
}

fn things(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

fn ranges(numbers: &Numbers) -> Vec<Json> {
    numbers.ranges().take(RANGES).map(|(from, to)| json!({"from": from, "to": to})).collect()
}

/// `12, 40 to 52, …`
fn some(numbers: &Numbers) -> String {
    let one = |(from, to)| if from == to { format!("{from}") } else { format!("{from} to {to}") };
    let mut parts: Vec<String> = numbers.ranges().take(SHOWN).map(one).collect();
    if numbers.pieces() > SHOWN {
        parts.push(format!("and {} more ranges", count((numbers.pieces() - SHOWN) as u64)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::dialect::read::{Began, Event, Gap, Known};

    fn event(known: Known) -> Event {
        Event { at: 0, word: String::new(), known, members: serde_json::Map::new() }
    }

    fn books() -> Books {
        let mut books = Books::default();
        let a = Epoch(0xa);
        books.run("plant-7", a, false).event.received.insert(1);
        books.event("plant-7", a, 1, &event(Known::Epoch(Began { epoch: a, before: None, telemetry: 0, event: 0, may_have_lost_ms: 0 })));
        let run = books.run("plant-7", a, false);
        run.event.messages = 1;
        (run.telemetry.messages, run.telemetry.samples, run.telemetry.resent) = (3, 6_150, 1);
        run.telemetry.received.insert_range(1, 3);
        books
    }

    #[test]
    fn a_complete_one_says_so_in_the_first_line() {
        let report = Report::of(&books());
        assert_eq!(report.verdict(), Verdict::Complete);
        assert_eq!(
            report.screen(&Out::plain()),
            "● complete: 4 messages, 6,150 samples, 0 missing, 0 conflicting\n\n  plant-7\n    \
             000000000000000a  3 messages, 6,150 samples, 1 event message, 1 resent"
        );
        let json = report.json();
        assert_eq!((&json["verdict"], &json["missing"], &json["resent"]), (&json!("complete"), &json!(0), &json!(1)));
        assert_eq!((Report::default().verdict(), Report::default().screen(&Out::plain())), (Verdict::Nothing, "◌ nothing came".into()));
    }

    #[test]
    fn what_is_wrong_names_its_numbers() {
        let mut books = books();
        let (a, b) = (Epoch(0xa), Epoch(0xb));
        let gap = Gap {
            epoch: a,
            stream: Stream::Telemetry,
            from: 10,
            to: 12,
            samples: 1_500,
            reason: "disk_max reached".into(),
            replaced_by: None,
        };
        books.event("plant-7", a, 2, &event(Known::Gap(gap)));
        books.run("plant-7", b, false).event.received.insert(1);
        books.event(
            "plant-7",
            b,
            1,
            &event(Known::Epoch(Began { epoch: b, before: Some(a), telemetry: 14, event: 1, may_have_lost_ms: 480 })),
        );
        books.event("plant-7", b, 2, &event(Known::Progress(vec![])));
        books.run("plant-7", a, false).telemetry.conflicting = 1;
        let report = Report::of(&books);
        assert_eq!((report.verdict(), report.verdict().exit()), (Verdict::Incomplete, 1));
        let screen = report.screen(&Out::plain());
        for line in [
            "✕ incomplete: 4 messages, 6,150 samples, 8 missing, 1 conflicting; 1,500 samples were given up by gateways, which said so",
            "telemetry 8 lost behind the broker: 4 to 9, 13 to 14",
            "telemetry 1 came again with another content",
            "telemetry 3 answered by a gap event, 1,500 samples: disk_max reached",
            "ended without a stop: at most 480 ms of polled values may be lost",
        ] {
            assert!(screen.contains(line), "{line}\n{screen}");
        }
        assert_eq!(report.json()["epochs"][0]["telemetry"]["lost"], json!([{"from": 4, "to": 9}, {"from": 13, "to": 14}]));
    }
}

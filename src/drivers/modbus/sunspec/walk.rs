//! Finding the chain of models: one small read after the other, each chosen by what the last one said.
//!
//! ```text
//! Confirm (a chain is remembered) --the same device--> Found
//!    '--another--> Marker(40000) --no--> Marker(50000) --no--> Marker(0) --no--> Lost
//!                     '--"SunS"--> Header --model--> Header … --end--> Identity --> Found
//! ```
//!
//! Nothing that a device says is believed without limit: a chain is at most [`limits::SUNSPEC_MODELS`] long, begins with
//! the common model, and stays within 65536 registers. Where a header is refused the chain ends: some devices forget
//! the end mark. Silence decides nothing; the same read is asked again at the next poll.

use crate::{config::Table, drivers::modbus::pdu::Ask, limits};
use std::{fmt, str::FromStr};

/// Where a chain may begin, most usual first.
pub const BASES: [u16; 3] = [40_000, 50_000, 0];
/// "SunS" in two registers.
pub const MARKER: [u8; 4] = *b"SunS";
/// The common model, with which every chain begins.
const COMMON: u16 = 1;
const END: u16 = 0xffff;
/// From the base to the end of the serial number: marker, number and length, then texts.
const IDENTITY_WORDS: u16 = 68;

/// One model of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub model: u16,
    /// Wire address of its number; the first value lies two registers behind.
    pub at: u16,
    /// Registers behind number and length.
    pub length: u16,
}

/// What the common model says of the device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    pub maker: String,
    pub model: String,
    pub version: String,
    pub serial: String,
}

/// A chain as found, and of which device: what is remembered over restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub base: u16,
    pub links: Vec<Link>,
    /// Serial number, or whatever tells the device from another; empty: unknown, so that it is walked again.
    pub serial: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Found {
        chain: Chain,
        identity: Identity,
    },
    /// Why there is none.
    Lost(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Confirm(Chain),
    /// Index in `BASES`.
    Marker(usize),
    /// Base by index, and the address of the next header.
    Header(usize, u16),
    Identity(usize),
    Ended(Outcome),
}

#[derive(Debug)]
pub struct Discovery {
    step: Step,
    links: Vec<Link>,
    /// Most registers that the device allows in one read.
    max_words: u16,
}

impl Discovery {
    /// `known` is confirmed with one read, if the device is the same.
    pub fn new(known: Option<Chain>, max_words: u16) -> Discovery {
        let confirm = known.filter(|k| !k.serial.is_empty() && max_words >= IDENTITY_WORDS);
        let step = confirm.map_or(Step::Marker(0), Step::Confirm);
        Discovery { step, links: Vec::new(), max_words }
    }

    /// What to ask next. `None`: it has ended.
    pub fn next_ask(&self) -> Option<Ask> {
        let (start, count) = match &self.step {
            Step::Confirm(chain) => (chain.base, IDENTITY_WORDS),
            Step::Marker(n) => (BASES[*n], 2),
            Step::Header(_, at) => (*at, 2),
            Step::Identity(n) => (BASES[*n], IDENTITY_WORDS),
            Step::Ended(_) => return None,
        };
        Some(Ask::Read { table: Table::Holding, start, count })
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.step {
            Step::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// The bytes of the reply, or the code of a refusal.
    pub fn answer(&mut self, said: Result<&[u8], u8>) {
        if let Err(code) = said
            && !matches!(code, 1..=3)
        {
            // Busy or failing: it says nothing about the registers.
            return;
        }
        let step = std::mem::replace(&mut self.step, Step::Marker(0));
        self.step = match step {
            Step::Confirm(chain) => match identity(said) {
                Some(identity) if tell_apart(&identity) == chain.serial => Step::Ended(Outcome::Found { chain, identity }),
                _ => Step::Marker(0),
            },
            Step::Marker(n) if said.is_ok_and(|data| data == MARKER) => Step::Header(n, BASES[n] + 2),
            Step::Marker(n) => self.next_base(n),
            Step::Header(n, at) => match header(said) {
                Some((model, length)) => self.header(n, at, model, length),
                None => self.ended(n),
            },
            Step::Identity(n) => self.found(n, identity(said).unwrap_or_default()),
            ended @ Step::Ended(_) => ended,
        };
    }

    fn next_base(&mut self, n: usize) -> Step {
        self.links.clear();
        if n + 1 < BASES.len() { Step::Marker(n + 1) } else { Step::Ended(Outcome::Lost("no SunSpec marker at 40000, 50000 or 0")) }
    }

    fn header(&mut self, n: usize, at: u16, model: u16, length: u16) -> Step {
        let next = u32::from(at) + 2 + u32::from(length);
        let first = self.links.is_empty();
        if model == END || model == 0 || (first && model != COMMON) || next > 0x1_0000 {
            return self.ended(n);
        }
        self.links.push(Link { model, at, length });
        match u16::try_from(next) {
            Ok(next) if next < u16::MAX && self.links.len() < limits::SUNSPEC_MODELS => Step::Header(n, next),
            _ => self.ended(n),
        }
    }

    fn ended(&mut self, n: usize) -> Step {
        if self.links.is_empty() {
            return self.next_base(n);
        }
        if self.max_words >= IDENTITY_WORDS { Step::Identity(n) } else { self.found(n, Identity::default()) }
    }

    fn found(&mut self, n: usize, identity: Identity) -> Step {
        let chain = Chain { base: BASES[n], links: std::mem::take(&mut self.links), serial: tell_apart(&identity) };
        Step::Ended(Outcome::Found { chain, identity })
    }
}

fn header(said: Result<&[u8], u8>) -> Option<(u16, u16)> {
    let [a, b, c, d] = *said.ok()? else { return None };
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Marker, number, length, then maker (16 registers), model (16), options (8), version (8), serial number (16).
fn identity(said: Result<&[u8], u8>) -> Option<Identity> {
    let data = said.ok()?;
    let registers = |from: usize, count: usize| data.get(from * 2..(from + count) * 2);
    if registers(0, 2)? != MARKER || registers(2, 1)? != COMMON.to_be_bytes() {
        return None;
    }
    Some(Identity {
        maker: text(registers(4, 16)?),
        model: text(registers(20, 16)?),
        version: text(registers(44, 8)?),
        serial: text(registers(52, 16)?),
    })
}

/// Padded with NUL or blanks; what cannot be shown becomes a question mark.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let shown: String = bytes[..end].iter().map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '?' }).collect();
    shown.trim().to_owned()
}

/// Serial numbers are given per maker.
fn tell_apart(identity: &Identity) -> String {
    if identity.serial.is_empty() { String::new() } else { format!("{} {} {}", identity.maker, identity.model, identity.serial) }
}

impl fmt::Display for Chain {
    /// `40000 1:66,103:50 Maker Model SN1`: as it is remembered.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.base)?;
        for (n, link) in self.links.iter().enumerate() {
            write!(f, "{}{}:{}", if n == 0 { "" } else { "," }, link.model, link.length)?;
        }
        write!(f, " {}", self.serial)
    }
}

impl FromStr for Chain {
    type Err = ();

    /// Whoever wrote it: what does not fit is no chain, and the device is walked again.
    fn from_str(text: &str) -> Result<Chain, ()> {
        let mut parts = text.splitn(3, ' ');
        let mut next = || parts.next().ok_or(());
        let base = next()?.parse().ok().filter(|base| BASES.contains(base)).ok_or(())?;
        let mut at = u32::from(base) + 2;
        let mut links = Vec::new();
        for link in next()?.split(',') {
            let (model, length) = link.split_once(':').ok_or(())?;
            let (model, length): (u16, u16) = (model.parse().map_err(drop)?, length.parse().map_err(drop)?);
            links.push(Link { model, at: u16::try_from(at).map_err(drop)?, length });
            at += 2 + u32::from(length);
            if at > 0x1_0000 || links.len() > limits::SUNSPEC_MODELS {
                return Err(());
            }
        }
        if links.first().is_none_or(|first| first.model != COMMON) {
            return Err(());
        }
        Ok(Chain { base, links, serial: next()?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Registers of a device; an address that is not there is refused with exception 2, for the whole read.
    #[derive(Default)]
    struct Unit(BTreeMap<u16, u16>);

    impl Unit {
        fn put(&mut self, at: u16, words: &[u16]) -> u16 {
            for (n, word) in (0u16..).zip(words) {
                self.0.insert(at + n, *word);
            }
            at + u16::try_from(words.len()).unwrap()
        }

        /// Marker, common model, these models filled with zeros, end.
        fn sunspec(base: u16, models: &[(u16, u16)], serial: &str) -> Unit {
            let mut unit = Unit::default();
            let mut at = unit.put(base, &[0x5375, 0x6e53, 1, 66]);
            let text = |text: &str, words: usize| -> Vec<u16> {
                let mut bytes = text.as_bytes().to_vec();
                bytes.resize(words * 2, 0);
                bytes.as_chunks::<2>().0.iter().map(|b| u16::from_be_bytes(*b)).collect()
            };
            for (words, what) in [(16, "Acme"), (16, "Sun 5"), (8, ""), (8, "1.2"), (16, serial)] {
                at = unit.put(at, &text(what, words));
            }
            at = unit.put(at, &[1, 0x8000]);
            for (model, length) in models {
                at = unit.put(at, &[*model, *length]);
                at = unit.put(at, &vec![0; usize::from(*length)]);
            }
            unit.put(at, &[END, 0]);
            unit
        }

        fn read(&self, ask: &Ask) -> Result<Vec<u8>, u8> {
            let Ask::Read { start, count, .. } = *ask else { panic!("a discovery only reads") };
            let words: Option<Vec<u16>> = (start..=start.saturating_add(count - 1)).map(|at| self.0.get(&at).copied()).collect();
            Ok(words.ok_or(2)?.iter().flat_map(|w| w.to_be_bytes()).collect())
        }
    }

    /// Walks to the end. Also says how many reads it took.
    fn walk(unit: &Unit, known: Option<Chain>, max_words: u16) -> (Outcome, usize) {
        let mut discovery = Discovery::new(known, max_words);
        let mut reads = 0;
        while let Some(ask) = discovery.next_ask() {
            let reply = unit.read(&ask);
            discovery.answer(reply.as_deref().map_err(|code| *code));
            reads += 1;
            assert!(reads < 200, "it does not end");
        }
        (discovery.outcome().expect("it has ended").clone(), reads)
    }

    fn found(unit: &Unit) -> Chain {
        match walk(unit, None, 125).0 {
            Outcome::Found { chain, .. } => chain,
            lost @ Outcome::Lost(_) => panic!("{lost:?}"),
        }
    }

    #[test]
    fn a_chain_is_found_at_each_base() {
        for base in BASES {
            let unit = Unit::sunspec(base, &[(103, 50), (120, 26), (203, 105)], "SN 7");
            let (outcome, _) = walk(&unit, None, 125);
            let Outcome::Found { chain, identity } = outcome else { panic!("{outcome:?}") };
            let models: Vec<(u16, u16)> = chain.links.iter().map(|l| (l.model, l.at - base)).collect();
            assert_eq!(models, [(1, 2), (103, 70), (120, 122), (203, 150)]);
            assert_eq!((identity.maker.as_str(), identity.serial.as_str()), ("Acme", "SN 7"));
            assert_eq!(chain.serial, "Acme Sun 5 SN 7");
        }
    }

    #[test]
    fn a_device_without_the_marker_is_lost_after_three_reads() {
        assert_eq!(walk(&Unit::default(), None, 125), (Outcome::Lost("no SunSpec marker at 40000, 50000 or 0"), 3));
        let mut unit = Unit::default();
        unit.put(40_000, &[0; 100]);
        assert!(matches!(walk(&unit, None, 125).0, Outcome::Lost(_)));
    }

    #[test]
    fn a_chain_without_an_end_mark_ends_where_it_is_refused() {
        let mut unit = Unit::sunspec(40_000, &[(103, 50)], "1");
        unit.0.retain(|_, word| *word != END);
        assert_eq!(found(&unit).links.len(), 2);
    }

    #[test]
    fn a_known_device_is_confirmed_with_one_read_and_another_one_walked_anew() {
        let unit = Unit::sunspec(50_000, &[(103, 50)], "1");
        let known = found(&unit);
        assert_eq!(walk(&unit, Some(known.clone()), 125).1, 1);
        let other = Unit::sunspec(40_000, &[(103, 50), (160, 28)], "2");
        let (Outcome::Found { chain, .. }, reads) = walk(&other, Some(known.clone()), 125) else { panic!() };
        assert_eq!((chain.base, chain.links.len()), (40_000, 3));
        assert!(reads > 1);
        // Without a serial number nothing tells it from another.
        let nameless = found(&Unit::sunspec(40_000, &[(103, 50)], ""));
        assert_eq!(nameless.serial, "");
        assert!(walk(&unit, Some(nameless), 125).1 > 1);
    }

    #[test]
    fn a_unit_that_is_busy_is_asked_again() {
        let mut discovery = Discovery::new(None, 125);
        for code in [4, 5, 6] {
            discovery.answer(Err(code));
            assert_eq!(discovery.next_ask(), Discovery::new(None, 125).next_ask(), "exception {code}");
        }
        discovery.answer(Err(2));
        assert_eq!(discovery.next_ask(), Some(Ask::Read { table: Table::Holding, start: 50_000, count: 2 }));
    }

    #[test]
    fn a_device_that_allows_few_registers_is_walked_without_its_name() {
        let unit = Unit::sunspec(40_000, &[(103, 50)], "1");
        let (Outcome::Found { chain, identity }, _) = walk(&unit, None, 60) else { panic!() };
        assert_eq!((chain.links.len(), identity), (2, Identity::default()));
    }

    #[test]
    fn a_chain_is_remembered_as_text() {
        let chain = found(&Unit::sunspec(40_000, &[(103, 50)], "SN 7"));
        assert_eq!(chain.to_string(), "40000 1:66,103:50 Acme Sun 5 SN 7");
        assert_eq!(chain.to_string().parse(), Ok(chain));
        for text in ["", "40000", "40001 1:66 x", "40000 103:50 x", "40000 1:66,2:65500 x", "40000 1 x", "40000 1:66"] {
            assert_eq!(text.parse::<Chain>(), Err(()), "{text}");
        }
    }

    proptest! {
        /// Whatever a device says, the walk ends, stays within the registers and within the limit.
        #[test]
        fn every_walk_ends(words in proptest::collection::vec(any::<u16>(), 200), keep in 0usize..200, short in any::<bool>()) {
            let mut discovery = Discovery::new(None, 125);
            let mut reads = 0;
            let mut at = 0;
            while let Some(Ask::Read { start, count, .. }) = discovery.next_ask() {
                prop_assert!(u32::from(start) + u32::from(count) <= 0x1_0000);
                let mut data: Vec<u8> = match reads {
                    0 => MARKER.to_vec(),
                    1 => vec![0, 1, 0, 66],
                    _ => (0..count).flat_map(|n| (words[(at + usize::from(n)) % 200] & 0xff).to_be_bytes()).collect(),
                };
                at += 7;
                if short && reads == keep {
                    data.truncate(1);
                }
                discovery.answer(Ok(&data));
                reads += 1;
                prop_assert!(reads <= limits::SUNSPEC_MODELS + 8);
            }
            prop_assert!(discovery.outcome().is_some());
        }
    }
}

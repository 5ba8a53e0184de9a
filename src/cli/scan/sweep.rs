//! One sweep: the strategy's questions put to a bus, one after the other, and each unit that lives asked who it is.

use super::{
    found::Found,
    identity::{Identify, is_read},
    strategy::{Strategy, Verdict, Wanted},
};
use crate::{
    cli::{
        interrupt::Interrupt,
        progress::Look,
        site::{Bus, BusError},
    },
    config::Profile,
    model::{Settings, SiteAsk},
};
use std::time::Duration;

pub struct Sweep<'a> {
    pub profiles: &'a [Profile],
    /// Where SunSpec is looked for.
    pub bases: &'a [u16],
    pub interrupt: Interrupt,
    pub framing: Option<&'a str>,
}

pub enum Event<'a> {
    Found(Found),
    Collision { unit: u8, settings: Option<Settings> },
    Look(&'a Strategy),
}

#[derive(Debug, Default)]
pub struct Swept {
    pub tries: u64,
    pub minimum: Duration,
    pub garbled: u64,
    pub noisy: Option<Settings>,
    pub found: usize,
}

impl Sweep<'_> {
    pub fn run(&self, bus: &mut dyn Bus, wanted: Wanted, mut tell: impl FnMut(Event<'_>)) -> Result<Swept, BusError> {
        let mut strategy = Strategy::new(wanted);
        while let Some(asked) = strategy.next() {
            tell(Event::Look(&strategy));
            let report = self.ask(bus, &asked.ask())?;
            match strategy.heard(&report) {
                Verdict::Nothing => {}
                Verdict::Collision => tell(Event::Collision { unit: asked.unit, settings: asked.settings }),
                Verdict::Found { took, refused, garbled } => {
                    // It answers: time enough for what it thinks longer about.
                    let timeout = (took * 3).max(asked.timeout);
                    let mut identify = Identify::new(self.profiles, self.bases);
                    while let Some(pdu) = identify.next() {
                        if self.interrupt.came() {
                            break;
                        }
                        let ask = SiteAsk { unit: asked.unit, pdu, timeout: Some(timeout), settings: asked.settings };
                        identify.heard(&self.ask(bus, &ask)?.outcome);
                    }
                    let found = Found::new(&bus.place(), asked.unit, asked.settings, self.framing, identify.verdict(refused));
                    let answer_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                    tell(Event::Found(Found { answer_ms, garbled, ..found }));
                }
            }
            if self.interrupt.came() {
                break;
            }
        }
        Ok(Swept {
            tries: strategy.tries(),
            minimum: strategy.minimum(),
            garbled: strategy.garbled(),
            noisy: strategy.noisy(),
            found: strategy.count(),
        })
    }

    /// The only way onto the bus: what is no read does not pass.
    fn ask(&self, bus: &mut dyn Bus, ask: &SiteAsk) -> Result<crate::model::SiteReport, BusError> {
        assert!(is_read(&ask.pdu), "a scan only reads");
        bus.ask(ask)
    }
}

pub fn look(strategy: &Strategy, place: &str, elapsed: Duration, found: usize) -> Look {
    let (at, of) = strategy.place();
    let settings = strategy.settings().map_or_else(|| place.to_owned(), |s| s.to_string());
    Look {
        what: format!("{settings:11} unit {:>3}, {at} of {of}", strategy.unit()),
        part: strategy.part(),
        so_far: format!("{found} found"),
        left: Some(strategy.left(elapsed)),
    }
}

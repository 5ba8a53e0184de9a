//! `framing = "auto"`: Modbus TCP or RTU frames, whichever is answered on this host and port.
//!
//! A serial server answers nothing to the other framing, or closes, or sends what cannot be read. So a connection that ended
//! without a single valid reply is followed by one with the other framing; the first valid reply settles it and is remembered.
//! What is settled is doubted only after several connections in vain: its devices may be switched off.

use super::Core;
use crate::{
    drivers::line::{
        event::Note,
        exchange::{Framing, Wire},
    },
    model::{Boot, Learned, LineId, Urgent},
};

const KEY: &str = "framing";
/// Connections without a valid reply after which a framing that once worked is doubted.
const DOUBT: u32 = 5;

#[derive(Debug)]
pub(super) struct Auto {
    about: String,
    settled: Option<Framing>,
    in_vain: u32,
}

impl Auto {
    pub fn new(line: &LineId, facts: &[Learned]) -> Auto {
        let about = format!("line {line}");
        let fact = facts.iter().find(|f| f.about == about && f.key == KEY);
        let settled = fact.and_then(|f| [Framing::Mbap, Framing::Rtu].into_iter().find(|framing| word(*framing) == f.value));
        Auto { about, settled, in_vain: 0 }
    }

    pub fn remembered(&self) -> Option<Framing> {
        self.settled
    }

    pub fn word(&self) -> &'static str {
        self.settled.map_or("", word)
    }
}

const fn word(framing: Framing) -> &'static str {
    match framing {
        Framing::Mbap => "mbap",
        Framing::Rtu => "rtu",
    }
}

impl Core {
    /// A valid reply came: this is what is spoken.
    pub(super) fn settle_framing(&mut self, now: Boot) {
        let Some(auto) = &mut self.auto else { return };
        auto.in_vain = 0;
        let framing = self.wire.framing;
        if auto.settled != Some(framing) {
            auto.settled = Some(framing);
            let fact = Learned { about: auto.about.clone(), key: KEY.into(), value: word(framing).into() };
            self.out.notes.push_back(Note::Framing(word(framing)));
            self.out.urgent.push_back(Urgent::Learned { fact, forget: false, at: now });
        }
    }

    /// A connection ends. If it gave no reply to what was asked, the next one speaks the other framing.
    pub(super) fn doubt_framing(&mut self) {
        let Some(auto) = &mut self.auto else { return };
        if self.served || !self.asked {
            return;
        }
        auto.in_vain += 1;
        if auto.in_vain < if auto.settled == Some(self.wire.framing) { DOUBT } else { 1 } {
            return;
        }
        auto.in_vain = 0;
        let other = if self.wire.framing == Framing::Mbap { Framing::Rtu } else { Framing::Mbap };
        self.wire = Wire::tcp(other);
        self.exchange.speak(self.wire);
        self.guard.speak(other);
    }
}

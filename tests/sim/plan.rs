//! What a seed means: a small plant and a list of faults with their times. Pure; printed when a seed fails.

use crate::{brain::Brain, dice::Dice};
use std::{fmt, time::Duration};

/// What a unit does instead of a good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ill {
    /// Hears nothing.
    Silent,
    /// Carries out what it is asked, and says nothing.
    Mute,
    BadCrc,
    Exception(u8),
    /// The answer comes so many milliseconds after the timeout.
    Late(u64),
    WrongUnit,
    /// The answer breaks off.
    Short,
    /// Garbage before the answer.
    Noise,
    /// TCP: the connection is cut between request and answer.
    Cut,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A unit is ill for a time, in so many of a hundred requests.
    Ill {
        line: usize,
        unit: u8,
        ill: Ill,
        chance: u64,
        for_ms: u64,
    },
    Unplug {
        line: usize,
        for_ms: u64,
    },
    BrokerDown {
        for_ms: u64,
    },
    LinkCut,
    /// Acknowledgements of every n-th message are lost; the link is given up some seconds later.
    AckLost {
        every: u64,
        for_ms: u64,
    },
    /// Each link is cut after so many messages.
    CutAfter {
        messages: u64,
        for_ms: u64,
    },
    SlowBroker {
        answer_ms: u64,
        reverse: bool,
        for_ms: u64,
    },
    /// The spool's file takes no writes.
    SpoolFull {
        for_ms: u64,
    },
    /// The state's file takes no writes.
    StateFull {
        for_ms: u64,
    },
    Kill {
        down_ms: u64,
    },
    /// Killed in the moment in which the next write is on the wire.
    KillAtWrite {
        down_ms: u64,
    },
    /// Killed in the moment in which the n-th message from now reaches the broker.
    KillAtPublish {
        after: u64,
        down_ms: u64,
    },
    CleanRestart {
        down_ms: u64,
    },
    /// The wall clock jumps, and may lose its synchronisation.
    ClockStep {
        days: i64,
        synchronised: bool,
    },
    /// The same by seconds, away from the truth.
    ClockShift {
        seconds: i64,
    },
    /// What the first device measures from now on.
    Level {
        value: u16,
    },
    Command {
        device: usize,
        times: u64,
        expires_ms: u64,
        dated: bool,
        read: bool,
    },
    /// An id that was sent before comes again.
    Repeat,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub window: Duration,
    pub ack_within: Duration,
    pub linger: Duration,
    pub disk_max: u64,
    pub thin_window: Duration,
    /// Units per line: the first line is serial, the second is Modbus TCP.
    pub units: [u8; 2],
    pub polls_ms: Vec<u64>,
    pub publishers: u64,
    pub publish_every_ms: u64,
    /// Rules and schedules, if there are any.
    pub brain: Option<Brain>,
    pub actions: Vec<(u64, Action)>,
    pub ends_ms: u64,
}

impl Plan {
    /// The broker is away for so long and nothing else happens.
    pub fn outage(for_ms: u64, poll_ms: u64, disk_max: u64) -> Plan {
        let from = 10_000;
        Plan {
            seed: 1,
            window: Duration::from_secs(1),
            ack_within: Duration::from_millis(100),
            linger: Duration::from_millis(50),
            disk_max,
            thin_window: Duration::from_secs(60),
            units: [2, 1],
            polls_ms: vec![poll_ms; 3],
            publishers: 1,
            publish_every_ms: 3 * poll_ms,
            brain: None,
            actions: vec![(from, Action::BrokerDown { for_ms })],
            ends_ms: from + for_ms + 1_000,
        }
    }

    /// A seed of which most is trouble with the disk, and the rest is what makes that hurt: kills and outages.
    pub fn of_the_disk(seed: u64) -> Plan {
        let mut d = Dice::new(seed.wrapping_mul(0x2000_0003).wrapping_add(29));
        let mut plan = Plan::draw(seed);
        plan.actions.clear();
        let mut at = d.range(500, 5000);
        while at < plan.ends_ms {
            let for_ms = d.pick(&[500, 2000, 6000, 15_000, 30_000]);
            let down_ms = d.pick(&[0, 50, 1500, 8000]);
            let action = match d.below(10) {
                0..3 => Action::SpoolFull { for_ms },
                3..5 => Action::StateFull { for_ms },
                5..7 => Action::BrokerDown { for_ms },
                7 => Action::Kill { down_ms },
                8 => Action::KillAtPublish { after: d.range(1, 20), down_ms },
                _ => Action::AckLost { every: d.range(2, 12), for_ms },
            };
            plan.actions.push((at, action));
            at += d.range(10, 6000);
        }
        plan
    }

    pub fn draw(seed: u64) -> Plan {
        let mut d = Dice::new(seed.wrapping_mul(0x1000_0001).wrapping_add(17));
        let units = [u8::try_from(d.range(1, 4)).expect("small"), u8::try_from(d.range(1, 3)).expect("small")];
        let polls = usize::from(units[0] + units[1]);
        let mut plan = Plan {
            seed,
            window: Duration::from_millis(d.pick(&[1000, 1000, 1000, 400, 3000, 0])),
            ack_within: Duration::from_millis(d.pick(&[100, 100, 20])),
            linger: Duration::from_millis(d.pick(&[50, 50, 50, 0, 300, 2000])),
            disk_max: d.pick(&[64 << 20, 64 << 20, 64 << 20, 208 << 10]),
            // Not drawn, so that the seeds mean what they meant.
            thin_window: if seed.is_multiple_of(3) { Duration::ZERO } else { Duration::from_secs(10) },
            units,
            polls_ms: (0..polls).map(|_| d.pick(&[300, 500, 1000, 2000])).collect(),
            publishers: d.range(0, 3),
            publish_every_ms: d.pick(&[150, 400, 1000]),
            brain: None,
            actions: Vec::new(),
            ends_ms: d.range(60_000, 150_000),
        };
        let calm = d.range(500, 9000);
        let mut at = d.range(500, 5000);
        while at < plan.ends_ms {
            let action = plan.action(&mut d);
            plan.actions.push((at, action));
            at += d.range(10, calm);
        }
        plan
    }

    pub fn action(&self, d: &mut Dice) -> Action {
        let line = usize::from(d.percent(40));
        let unit = u8::try_from(d.range(1, u64::from(self.units[line]))).expect("small");
        let for_ms = d.pick(&[500, 2000, 6000, 15_000, 30_000]);
        let down_ms = d.pick(&[0, 50, 1500, 8000]);
        match d.below(100) {
            0..26 => {
                let ill = match d.below(if line == 1 { 9 } else { 8 }) {
                    0 => Ill::Silent,
                    1 => Ill::Mute,
                    2 => Ill::BadCrc,
                    3 => Ill::Exception(d.pick(&[1, 2, 3, 4, 5, 6, 10, 11])),
                    4 => Ill::Late(d.range(5, 900)),
                    5 => Ill::WrongUnit,
                    6 => Ill::Short,
                    7 => Ill::Noise,
                    _ => Ill::Cut,
                };
                Action::Ill { line, unit, ill, chance: d.pick(&[10, 50, 100, 100]), for_ms }
            }
            26..32 => Action::Unplug { line, for_ms },
            32..37 => Action::BrokerDown { for_ms },
            37..41 => Action::LinkCut,
            41..45 => Action::AckLost { every: d.range(2, 12), for_ms },
            45..48 => Action::CutAfter { messages: d.range(1, 30), for_ms },
            48..51 => Action::SlowBroker { answer_ms: d.range(1, 1800), reverse: d.percent(50), for_ms },
            51..54 => Action::SpoolFull { for_ms },
            54..56 => Action::StateFull { for_ms },
            56..59 => Action::Kill { down_ms },
            59..61 => Action::KillAtWrite { down_ms },
            61..63 => Action::KillAtPublish { after: d.range(1, 20), down_ms },
            63..65 => Action::CleanRestart { down_ms },
            65..68 => {
                let days = d.pick(&[-20_000i64, -400, 1, 800, 15_000, 0]);
                Action::ClockStep { days, synchronised: d.percent(70) }
            }
            68..92 => {
                let device = usize::try_from(d.below(self.polls_ms.len() as u64)).expect("small");
                let expires_ms = d.pick(&[300, 2000, 10_000, 60_000]);
                Action::Command { device, times: d.pick(&[1, 1, 2, 3]), expires_ms, dated: d.percent(60), read: d.percent(15) }
            }
            _ => Action::Repeat,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            seed,
            window,
            ack_within,
            linger,
            disk_max,
            thin_window,
            units,
            polls_ms,
            publishers,
            publish_every_ms,
            brain,
            actions,
            ends_ms,
        } = self;
        writeln!(
            f,
            "seed {seed}: window {window:?}, ack_within {ack_within:?}, linger {linger:?}, disk_max {disk_max} thinned by {thin_window:?}, units {units:?}"
        )?;
        writeln!(f, "  polls {polls_ms:?} ms, {publishers} publishers every {publish_every_ms} ms, heals at {ends_ms} ms")?;
        brain.iter().try_for_each(|brain| writeln!(f, "  {brain:?}"))?;
        actions.iter().try_for_each(|(at, action)| writeln!(f, "  {at:>7} {action:?}"))
    }
}

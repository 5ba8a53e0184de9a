//! Random histories with restarts against a model with one list in its hand: no lanes, no deadlines in order, no index.

use super::*;
use crate::logic::testing::models;
use proptest::test_runner::TestCaseResult;

const DEVICES: [&str; 4] = ["a", "b", "m", "nobody"];
/// A port ends its orders so long after their deadline, or it is gone.
const PORT: u64 = 30_000_000;

#[derive(Debug, Clone)]
enum Op {
    /// Microseconds that it is good for, and by how much it was issued earlier; nothing: it does not say.
    Ask {
        device: usize,
        what: What,
        good_for: u64,
        issued: Option<i64>,
        stored: bool,
    },
    /// An id that was there before comes again, with whatever body.
    Again(usize),
    /// The n-th of all commands ends in this phase, says its port; also of what is not there.
    Done(usize, Phase),
    /// The n-th that is at its port is given back.
    Bounce(usize),
    /// Somebody wants the n-th of all not to be done.
    Cancel(usize),
    Wait(u64),
    /// Nobody looks for so long.
    Late(u64),
    Clock(bool),
    Stop,
    /// Killed, and off for so long; `same`: the machine stays on.
    Restart {
        off: u64,
        same: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Set,
    SetTooHigh,
    Coil,
    Both,
    ReadOnly,
    Read,
    Nothing,
}

impl What {
    fn action(self) -> Action {
        let write = |values: &[(&str, Value)]| Action::Write(values.iter().map(|(p, v)| (point(p), v.clone())).collect());
        match self {
            What::Set => write(&[("set", Value::Uint(30))]),
            What::SetTooHigh => write(&[("set", Value::Uint(81))]),
            What::Coil => write(&[("coil", Value::Bool(true))]),
            What::Both => write(&[("set", Value::Uint(40)), ("coil", Value::Bool(false))]),
            What::ReadOnly => write(&[("temp", Value::Uint(1))]),
            What::Read => Action::Read(vec![]),
            What::Nothing => Action::Write(BTreeMap::new()),
        }
    }

    /// What a device of messages takes, and what one with points takes.
    fn is_taken(self, device: &str) -> bool {
        self != What::Nothing && (device == "m" || !matches!(self, What::SetTooHigh | What::ReadOnly))
    }

    /// What may not be written again for five seconds.
    fn paced(self, device: &str) -> &'static [&'static str] {
        match self {
            _ if device == "m" => &[],
            What::Set => &["set"],
            What::Coil => &["coil"],
            What::Both => &["coil", "set"],
            _ => &[],
        }
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let what = prop_oneof![
        4 => Just(What::Set), 1 => Just(What::SetTooHigh), 4 => Just(What::Coil), 2 => Just(What::Both),
        1 => Just(What::ReadOnly), 2 => Just(What::Read), 1 => Just(What::Nothing)
    ];
    let device = prop_oneof![6 => 0usize..3, 1 => Just(3usize)];
    let good_for = prop_oneof![1_000u64..3_000_000, 3_000_000u64..40_000_000];
    let issued = proptest::option::weighted(0.3, -10_000i64..40_000);
    let ask = (device, what, good_for, issued, prop::bool::weighted(0.15));
    let ask = ask.prop_map(|(device, what, good_for, issued, stored)| Op::Ask { device, what, good_for, issued, stored });
    use Phase::{Accepted, Confirmed, Expired, Failed, Rejected, Sent, Unknown};
    let phase = prop::sample::select(vec![Accepted, Sent, Confirmed, Confirmed, Failed, Expired, Rejected, Unknown]);
    let op = prop_oneof![
        10 => ask,
        1 => any::<usize>().prop_map(Op::Again),
        6 => (any::<usize>(), phase).prop_map(|(n, phase)| Op::Done(n, phase)),
        1 => any::<usize>().prop_map(Op::Bounce),
        2 => any::<usize>().prop_map(Op::Cancel),
        5 => (0u64..6_000_000).prop_map(Op::Wait),
        1 => (6_000_000u64..60_000_000).prop_map(Op::Wait),
        1 => (0u64..50_000_000).prop_map(Op::Late),
        1 => any::<bool>().prop_map(Op::Clock),
        1 => Just(Op::Stop),
        1 => (0u64..50_000_000, any::<bool>()).prop_map(|(off, same)| Op::Restart { off, same }),
    ];
    proptest::collection::vec(op, 1..100)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Waits,
    AtPort,
    Ended,
}

#[derive(Debug, Clone)]
struct Asked {
    id: String,
    device: &'static str,
    what: What,
    deadline: u64,
    stage: Stage,
}

/// What one run of the process knows.
#[derive(Debug, Default)]
struct Naive {
    /// In the order in which they came.
    list: Vec<Asked>,
    /// Device, point and moment of each write that was handed out.
    writes: Vec<(&'static str, &'static str, u64)>,
    stopping: bool,
}

/// What must come of it, in order: an order for a port, or an end.
#[derive(Debug, Clone, PartialEq)]
enum Must {
    Go(String, u64),
    End(String, Phase),
}

impl Naive {
    fn open(&self) -> impl Iterator<Item = &Asked> {
        self.list.iter().filter(|a| a.stage != Stage::Ended)
    }

    /// When it is given up: at its deadline, or when its port is gone.
    fn due(asked: &Asked) -> u64 {
        asked.deadline + if asked.stage == Stage::AtPort { PORT } else { 0 }
    }

    fn ask(&mut self, now: u64, id: &str, device: &'static str, what: What, deadline: Result<u64, ()>, must: &mut Vec<Must>) {
        let phase = match deadline {
            _ if self.stopping || device == "nobody" => Some(Phase::Rejected),
            Err(()) => Some(Phase::Rejected),
            Ok(deadline) if deadline <= now => Some(Phase::Expired),
            Ok(_) if !what.is_taken(device) => Some(Phase::Rejected),
            Ok(_) => None,
        };
        if let Some(phase) = phase {
            return must.push(Must::End(id.into(), phase));
        }
        let deadline = deadline.unwrap_or_default();
        self.list.push(Asked { id: id.into(), device, what, deadline, stage: Stage::Waits });
        self.go_on(now, device, must);
    }

    /// The next one of a device whose port has nothing of it.
    fn go_on(&mut self, now: u64, device: &'static str, must: &mut Vec<Must>) {
        while !self.open().any(|a| a.device == device && a.stage == Stage::AtPort) {
            let Some(n) = self.list.iter().position(|a| a.device == device && a.stage == Stage::Waits) else { return };
            let Asked { id, what, deadline, .. } = self.list[n].clone();
            let paced = what.paced(device);
            let too_soon = self.writes.iter().any(|(d, p, at)| *d == device && paced.contains(p) && now < at + 5_000_000);
            self.list[n].stage = Stage::Ended;
            if deadline <= now {
                must.push(Must::End(id, Phase::Expired));
            } else if too_soon {
                must.push(Must::End(id, Phase::Rejected));
            } else {
                self.list[n].stage = Stage::AtPort;
                self.writes.extend(paced.iter().map(|p| (device, *p, now)));
                must.push(Must::Go(id, deadline));
            }
        }
    }

    fn end(&mut self, now: u64, id: &str, phase: Phase, must: &mut Vec<Must>) {
        let Some(asked) = self.list.iter_mut().find(|a| a.id == id && a.stage != Stage::Ended) else { return };
        asked.stage = Stage::Ended;
        let device = asked.device;
        must.push(Must::End(id.into(), phase));
        self.go_on(now, device, must);
    }

    fn expire(&mut self, now: u64, must: &mut Vec<Must>) {
        loop {
            let id = |a: &Asked| CommandId::parse(&a.id).unwrap();
            let due = self.open().filter(|a| Naive::due(a) < now).min_by_key(|a| (Naive::due(a), id(a))).cloned();
            let Some(asked) = due else { return };
            let phase = if asked.stage == Stage::AtPort { Phase::Unknown } else { Phase::Expired };
            self.end(now, &asked.id, phase, must);
        }
    }

    fn stop(&mut self, now: u64, must: &mut Vec<Must>) {
        self.stopping = true;
        for device in DEVICES {
            let waits = self.list.iter().filter(|a| a.device == device && a.stage == Stage::Waits);
            for id in waits.map(|a| a.id.clone()).collect::<Vec<_>>() {
                self.end(now, &id, Phase::Rejected, must);
            }
        }
    }
}

/// As the store keeps it: a row for each id, the phase as a word, the rest as JSON.
struct Row {
    body: String,
    phase: &'static str,
    ended: Option<Phase>,
}

struct World {
    now: u64,
    synchronised: bool,
    real: Commands,
    naive: Naive,
    disk: BTreeMap<String, Row>,
    /// Ids in the order in which they came, and how often each was handed to a port.
    ids: Vec<String>,
    handed: BTreeMap<String, u32>,
}

impl World {
    fn clock(&self) -> ClockReading {
        if self.synchronised { CLOCK } else { GUESS }
    }

    fn ms(&self) -> i64 {
        i64::try_from(self.now / 1000).unwrap()
    }

    /// What the documentation says: the earlier of receipt and issue, plus the time that it is good for.
    fn deadline(&self, good_for: u64, issued: Option<i64>, stored: bool) -> Result<u64, ()> {
        let by_receipt = self.now + good_for;
        let issued = issued.map(|ago| self.ms() - ago);
        let by_issue = |at: i64| u64::try_from(at + i64::try_from(good_for / 1000).unwrap()).unwrap_or(0) * 1000;
        match (issued, stored) {
            (None, true) => Err(()),
            (Some(at), true) if at > self.ms() + 5_000 => Err(()),
            (Some(at), _) if stored || self.synchronised => Ok(by_receipt.min(by_issue(at))),
            _ => Ok(by_receipt),
        }
    }

    /// Both say the same, and no id is handed out or ended twice.
    fn agree(&mut self, out: Vec<Effect>, must: &[Must], of: &Op) -> TestCaseResult {
        let mut got = Vec::new();
        for effect in out {
            match effect {
                Effect::Dispatch(order) => {
                    let times = self.handed.entry(order.id.to_string()).or_default();
                    *times += 1;
                    prop_assert!(*times == 1, "{} is handed out again", order.id);
                    let row = &self.disk[order.id.as_str()];
                    let kept: Command = serde_json::from_str(&row.body).unwrap();
                    prop_assert_eq!((&kept.device, &kept.action), (&order.device, &order.action));
                    prop_assert!(row.ended.is_none(), "{} has ended", order.id);
                    got.push(Must::Go(order.id.to_string(), order.deadline.0));
                }
                Effect::Part { id, .. } => prop_assert!(false, "{} is no part of another", id),
                Effect::Done { id, device, outcome } => {
                    let row = self.disk.get_mut(id.as_str()).unwrap();
                    let kept: Command = serde_json::from_str(&row.body).unwrap();
                    prop_assert_eq!(&kept.device, &device);
                    prop_assert!(outcome.phase.is_terminal() && row.ended.replace(outcome.phase).is_none(), "{} ends again", id);
                    got.push(Must::End(id.to_string(), outcome.phase));
                }
            }
        }
        prop_assert_eq!(&got, must, "after {:?} at {}", of, self.now);
        prop_assert_eq!(self.real.open(), self.naive.open().count());
        prop_assert_eq!(self.real.at_ports(), self.naive.open().filter(|a| a.stage == Stage::AtPort).count());
        prop_assert_eq!(self.real.next_due(), self.naive.open().map(Naive::due).min().map(Boot));
        Ok(())
    }

    fn ask(&mut self, op: &Op, out: &mut Vec<Effect>, must: &mut Vec<Must>) {
        let Op::Ask { device, what, good_for, issued, stored } = *op else { return };
        let id = format!("c{}", self.ids.len());
        let device = DEVICES[device];
        let command = Command {
            id: CommandId::parse(&id).unwrap(),
            device: super::device(device),
            action: what.action(),
            from: "uplink cloud".into(),
            received: Boot(self.now),
            issued_at: issued.map(|ago| WallMs(WALL + self.ms() - ago)),
            expires_in: Duration::from_micros(good_for),
            from_stored_session: stored,
        };
        let body = serde_json::to_string(&command).unwrap();
        self.disk.insert(id.clone(), Row { body, phase: Phase::Sent.word(), ended: None });
        self.ids.push(id.clone());
        let deadline = self.deadline(good_for, issued, stored);
        self.real.admit(Boot(self.now), command, device != "nobody", self.clock(), out);
        self.naive.ask(self.now, &id, device, what, deadline, must);
    }

    /// Time passes, and whatever is due is looked at a moment later.
    fn wait(&mut self, for_us: u64, op: &Op) -> TestCaseResult {
        let end = self.now + for_us;
        while let Some(due) = self.real.next_due().filter(|due| due.0 < end) {
            self.now = self.now.max(due.0 + 1);
            self.expire(op)?;
        }
        self.now = end;
        Ok(())
    }

    fn expire(&mut self, op: &Op) -> TestCaseResult {
        let (mut out, mut must) = (vec![], vec![]);
        self.real.expire(Boot(self.now), &mut out);
        self.naive.expire(self.now, &mut must);
        self.agree(out, &must, op)
    }

    /// Whatever was open has ended, and may never be handed out again.
    fn restart(&mut self, off: u64, same: bool) -> TestCaseResult {
        self.now = if same { self.now + off } else { off };
        (self.real, self.naive) = (commands(), Naive::default());
        for (id, row) in self.disk.iter_mut().filter(|(_, row)| row.ended.is_none()) {
            let command: Command = serde_json::from_str(&row.body).unwrap();
            prop_assert_eq!(&serde_json::to_string(&command).unwrap(), &row.body);
            let phase = Phase::parse(row.phase).unwrap();
            let outcome = after_restart(Boot(self.now), same, &command, phase);
            prop_assert!(outcome.phase.is_terminal() && !outcome.reason.is_empty(), "{}: {:?}", id, outcome);
            prop_assert!(outcome.phase == Phase::Unknown || !self.handed.contains_key(id), "{} may have been carried out", id);
            row.ended = Some(outcome.phase);
        }
        Ok(())
    }

    fn carry_out(&mut self, op: &Op) -> TestCaseResult {
        let (mut out, mut must) = (vec![], vec![]);
        match *op {
            Op::Ask { .. } => self.ask(op, &mut out, &mut must),
            Op::Again(n) => {
                // The store lets no id through that it knows. One that is open is refused here as well.
                let open = self.naive.open().map(|a| a.id.clone()).collect::<Vec<_>>();
                let Some(id) = open.get(n % open.len().max(1)) else { return Ok(()) };
                let command: Command = serde_json::from_str(&self.disk[id].body).unwrap();
                self.real.admit(Boot(self.now), command, true, self.clock(), &mut out);
            }
            Op::Done(n, phase) => {
                let Some(id) = self.ids.get(n % self.ids.len().max(1)).cloned() else { return Ok(()) };
                self.real.done(Boot(self.now), &CommandId::parse(&id).unwrap(), outcome(phase, "said".into()), &mut out);
                if phase.is_terminal() {
                    self.naive.end(self.now, &id, phase, &mut must);
                }
            }
            Op::Bounce(n) => {
                let at_port = self.naive.open().filter(|a| a.stage == Stage::AtPort).map(|a| a.id.clone()).collect::<Vec<_>>();
                let Some(id) = at_port.get(n % at_port.len().max(1)) else { return Ok(()) };
                self.real.bounced(Boot(self.now), &CommandId::parse(id).unwrap(), "busy", &mut out);
                self.naive.end(self.now, id, Phase::Rejected, &mut must);
            }
            Op::Cancel(n) => {
                let Some(name) = self.ids.get(n % self.ids.len().max(1)).cloned() else { return Ok(()) };
                let id = CommandId::parse(&name).unwrap();
                let answer = self.real.cancel(Boot(self.now), &id, "anna", |_, _| false, &mut out);
                let stage = self.naive.list.iter().find(|a| a.id == name).map_or(Stage::Ended, |a| a.stage);
                let want = match stage {
                    Stage::Waits => Ok(Cancelled { ended: 1, sent: 0 }),
                    Stage::AtPort => Err(NotCancelled::Sent),
                    Stage::Ended => Err(NotCancelled::NotOpen),
                };
                prop_assert_eq!(answer, want);
                if stage == Stage::Waits {
                    self.naive.end(self.now, &name, Phase::Rejected, &mut must);
                }
            }
            Op::Wait(us) => return self.wait(us, op),
            Op::Late(us) => {
                self.now += us;
                return self.expire(op);
            }
            Op::Clock(synchronised) => self.synchronised = synchronised,
            Op::Stop => {
                self.real.stop(Boot(self.now), &mut out);
                self.naive.stop(self.now, &mut must);
            }
            Op::Restart { off, same } => return self.restart(off, same),
        }
        self.agree(out, &must, op)
    }
}

#[test]
fn commands_do_what_one_list_says_and_each_ends_once_over_restarts() {
    models(file!(), "commands", ops(), |ops| {
        let mut world = World {
            now: 50_000_000,
            synchronised: true,
            real: commands(),
            naive: Naive::default(),
            disk: BTreeMap::new(),
            ids: vec![],
            handed: BTreeMap::new(),
        };
        for op in ops.iter().chain(&[Op::Wait(200_000_000)]) {
            world.carry_out(op)?;
        }
        let open: Vec<&String> = world.disk.iter().filter(|(_, row)| row.ended.is_none()).map(|(id, _)| id).collect();
        prop_assert!(open.is_empty(), "left alone for three minutes and still open: {:?}", open);
        Ok(())
    });
}

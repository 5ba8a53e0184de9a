//! Learns what a device refuses, so that its map may be wrong in places and the rest is read all the same.
//!
//! ```text
//! request refused (1, 2, 3) --split at its widest gap, then in halves, each part asked--> suspect: left out of the plan
//! suspect --refused again, seconds later, by a device that gave data meanwhile--> hole: remembered, value `unsupported`
//! suspect or hole --answered--> forgotten, read again      hole --asked again after 10 minutes, doubling to a day-->
//! ```
//!
//! The parts are asked within the poll that met the refusal, one after the other, each in the line's usual order, so that a
//! neighbour whose poll is due comes first; parts that answer give their values. A poll asks at most
//! [`limits::LEARN_PER_POLL`] of them; the next poll goes on where the plan still meets a refusal.
//!
//! A device that refuses everything is no matter of its map (it boots, or another unit answers): nothing is remembered of
//! it, and it is asked on. Absent on purpose: the wire, the schedule, the store.

use crate::{
    config::{Device, Table},
    drivers::modbus::{
        Hole, Holes, Request,
        holes::covers,
        plan::{extent, plan_around, request, span},
    },
    limits,
    model::{Boot, Learned},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    time::Duration,
};

/// The key of the fact that says of which unit the holes were learned. Another unit or line: they are void.
const OF: &str = "asked";

#[derive(Debug, Clone)]
struct Known {
    code: u8,
    /// A suspect becomes a hole at the second refusal.
    first: Boot,
    is_hole: bool,
    /// When it is asked again, and how long it is left alone after that.
    next: Boot,
    wait: Duration,
    /// The range that was refused; that of the hole is a part of it where a gap is to blame.
    test: Option<(Table, Range<u32>)>,
}

#[derive(Debug, Clone)]
enum Part {
    /// Places in `device.points`, in the order of the plan.
    Points(Vec<usize>),
    Bare(Table, Range<u32>),
}

/// A refused range and its two parts.
#[derive(Debug)]
struct Node {
    table: Table,
    span: Range<u32>,
    code: u8,
    /// Registers between the parts.
    gap: Range<u32>,
    parts: [Part; 2],
    /// Whether each part was answered, as far as it was asked.
    said: [Option<bool>; 2],
}

#[derive(Debug, Clone)]
enum Asked {
    /// This part of the node on top.
    Part(usize),
    Again(Hole),
}

#[derive(Debug, Default)]
pub struct Learner {
    about: String,
    /// The unit and line that holes are true of.
    of: String,
    known: BTreeMap<Hole, Known>,
    holes: Holes,
    /// Where the search is: the last one first.
    tree: Vec<Node>,
    asked: Option<Asked>,
    /// Requests of this poll that were sent to learn.
    spent: usize,
    /// The plan differs from the one that is polled.
    changed: bool,
    served: Option<Boot>,
    served_tables: BTreeSet<Table>,
    /// Points that were published as unsupported, and whether there may be others.
    told: BTreeSet<usize>,
    tell: bool,
    /// To be remembered, or with `true` forgotten.
    facts: VecDeque<(Learned, bool)>,
}

/// The holes that facts tell of the device. Those of another unit or line under its name are void.
pub fn remembered(device: &Device, facts: &[Learned]) -> Holes {
    Learner::new(device, facts).holes
}

impl Learner {
    /// With what is remembered of the device.
    pub fn new(device: &Device, facts: &[Learned]) -> Learner {
        let about = device.id.to_string();
        let of = format!("unit {} on {}", device.unit, device.line);
        let mut learner = Learner { about: about.clone(), of: of.clone(), tell: true, ..Learner::default() };
        let mine = || facts.iter().filter(|f| f.about == about);
        let is_same = mine().find(|f| f.key == OF).is_none_or(|f| f.value == of);
        for fact in mine() {
            let Some(hole) = Hole::parse(&fact.key) else { continue };
            match fact.value.parse() {
                Ok(code) if is_same && learner.known.len() < limits::HOLES => {
                    let wait = limits::RELEARN_MAX;
                    let known = Known { code, first: Boot(0), is_hole: true, next: Boot(0) + wait, wait, test: None };
                    learner.known.insert(hole, known);
                    learner.holes.insert(hole, code);
                }
                _ => learner.facts.push_back((fact.clone(), true)),
            }
        }
        learner
    }

    /// What it is not asked for at present.
    pub fn refused_so_far(&self) -> &Holes {
        &self.holes
    }

    /// The clock begins to run: holes that are remembered are asked again a day from here.
    pub fn start(&mut self, now: Boot) {
        for known in self.known.values_mut().filter(|k| k.next < now) {
            known.next = now + known.wait;
        }
    }

    /// The requests of a poll, as far as is known. Never empty where there are points: somebody must be asked whether the
    /// device lives.
    pub fn plan(&self, device: &Device) -> Vec<Request> {
        let mut requests = plan_around(device, &self.holes);
        if requests.is_empty() && !device.points.is_empty() {
            requests.push(request(device, &self.holes, &[0]));
        }
        requests
    }

    /// The new plan, if it has changed.
    pub fn changed_plan(&mut self, device: &Device) -> Option<Vec<Request>> {
        std::mem::take(&mut self.changed).then(|| self.plan(device))
    }

    pub fn take_fact(&mut self) -> Option<(Learned, bool)> {
        self.facts.pop_front()
    }

    /// How many are believed.
    pub fn holes(&self) -> usize {
        self.known.values().filter(|k| k.is_hole).count()
    }

    /// A planned request or a test was answered with data: no hole lies in it.
    pub fn answered(&mut self, now: Boot, request: &Request) {
        self.served = Some(now);
        self.served_tables.insert(request.table);
        if self.known.is_empty() {
            return;
        }
        let range = request.span();
        let void = |hole: &Hole| match hole {
            Hole::Limit { table, most } => *table == request.table && range.len() > usize::from(*most),
            _ => covers(request.table, &range, hole),
        };
        let void: Vec<Hole> = self.known.keys().filter(|hole| void(hole)).copied().collect();
        void.iter().for_each(|hole| self.drop_hole(hole));
    }

    /// A planned request was refused with a code that the plan is to blame for.
    pub fn refused(&mut self, now: Boot, device: &Device, request: &Request, code: u8) {
        let range = request.span();
        // Asked only to see whether the device lives, or a suspect already.
        if self.holes.refuses(request.table, &range).is_some() || self.known.len() >= limits::HOLES {
            return;
        }
        if code == 1 && !self.served_tables.contains(&request.table) {
            return self.suspect(now, Hole::Table(request.table), code, Some((request.table, range)));
        }
        let part = match &request.fields[..] {
            [] if device.points.is_empty() => return,
            [] => Part::Bare(request.table, range),
            fields => Part::Points(fields.iter().map(|f| f.point).collect()),
        };
        self.descend(now, device, part, code);
    }

    /// What came of the request that [`Learner::next`] gave. `code`: refused with it.
    pub fn outcome(&mut self, now: Boot, device: &Device, request: &Request, code: Option<u8>) {
        let Some(asked) = self.asked.take() else { return };
        if code.is_none() {
            self.answered(now, request);
        }
        match asked {
            Asked::Part(n) => match (self.tree.last_mut(), code) {
                (Some(node), None) => node.said[n] = Some(true),
                (Some(node), Some(code @ 1..=3)) => {
                    node.said[n] = Some(false);
                    let part = node.parts[n].clone();
                    self.descend(now, device, part, code);
                }
                // Busy or broken: nothing can be learned now.
                _ => self.tree.clear(),
            },
            Asked::Again(hole) => {
                match (hole, code) {
                    // The function is known after all, only not this register.
                    (Hole::Table(_), Some(2 | 3)) => self.drop_hole(&hole),
                    (_, Some(code @ 1..=3)) => self.confirm(now, &hole, code),
                    _ => {}
                }
            }
        }
    }

    /// What to ask next in order to learn, within the poll that runs. `at_end`: its planned requests are done.
    pub fn next(&mut self, now: Boot, device: &Device, at_end: bool) -> Option<Request> {
        if self.spent < limits::LEARN_PER_POLL
            && let Some(request) = self.step(now, device)
        {
            self.spent += 1;
            return Some(request);
        }
        if !at_end || self.spent >= limits::LEARN_PER_POLL {
            return None;
        }
        let (hole, range, known) = self.known.iter_mut().find_map(|(hole, known)| {
            let range = if known.next <= now { known.test_range(*hole)? } else { return None };
            Some((*hole, range, known))
        })?;
        known.next = now + known.wait;
        self.spent += 1;
        self.asked = Some(Asked::Again(hole));
        Some(Request::bare(range.0, &range.1))
    }

    /// The poll is over, whichever way.
    pub fn poll_ended(&mut self) {
        (self.spent, self.asked) = (0, None);
        self.tree.clear();
    }

    /// Points that are not readable for good and were not said to be so yet.
    pub fn untold(&mut self, device: &Device) -> Vec<usize> {
        if self.served.is_none() || !std::mem::take(&mut self.tell) {
            return Vec::new();
        }
        let mut holes = Holes::default();
        self.known.iter().filter(|(_, k)| k.is_hole).for_each(|(hole, k)| holes.insert(*hole, k.code));
        let mut points = holes.unreadable(device);
        self.told.retain(|n| points.contains(n));
        points.retain(|n| self.told.insert(*n));
        points
    }

    /// Everything is learned anew.
    pub fn forget(&mut self) {
        let all: Vec<Hole> = self.known.keys().copied().collect();
        all.iter().for_each(|hole| self.drop_hole(hole));
        self.poll_ended();
    }

    /// Looks for the cause of the refusal in the part.
    fn descend(&mut self, now: Boot, device: &Device, part: Part, code: u8) {
        match self.node(device, &part, code) {
            Ok(node) => self.tree.push(node),
            Err((table, range)) => self.suspect(now, Hole::span(table, &range), code, Some((table, range))),
        }
    }

    /// `Err`: it cannot be divided, so it is a hole.
    fn node(&self, device: &Device, part: &Part, code: u8) -> Result<Node, (Table, Range<u32>)> {
        let points = match part {
            Part::Bare(table, range) => return Err((*table, range.clone())),
            Part::Points(points) => points,
        };
        let whole = request(device, &self.holes, points);
        let (table, range) = (whole.table, whole.span());
        if let [n] = points[..] {
            let own = span(&device.points[n]);
            if own == range {
                return Err((table, range));
            }
            let factor = if own.start == range.start { range.end - 1..range.end } else { range.start..range.start + 1 };
            let gap = own.end.min(factor.end)..own.start.max(factor.start);
            let parts = [Part::Bare(table, own), Part::Bare(table, factor)];
            return Ok(Node { table, span: range, code, gap, parts, said: [None; 2] });
        }
        let (at, gap) = self.cut(device, points);
        let parts = [Part::Points(points[..at].to_vec()), Part::Points(points[at..].to_vec())];
        Ok(Node { table, span: range, code, gap, parts, said: [None; 2] })
    }

    /// Where to divide: at the widest gap, else in the middle.
    fn cut(&self, device: &Device, points: &[usize]) -> (usize, Range<u32>) {
        let extents: Vec<Range<u32>> = points.iter().map(|n| extent(device, &self.holes, &device.points[*n]).1).collect();
        let mut best = (points.len() / 2, 0..0);
        let mut end = extents.first().map_or(0, |e| e.end);
        for (n, next) in extents.iter().enumerate().skip(1) {
            if end < next.start && (next.start - end) as usize > best.1.len() {
                best = (n, end..next.start);
            }
            end = end.max(next.end);
        }
        best
    }

    /// The next part to ask. Nodes that are done leave the tree.
    fn step(&mut self, now: Boot, device: &Device) -> Option<Request> {
        loop {
            let node = self.tree.last_mut()?;
            let Some(n) = node.said.iter().position(Option::is_none) else {
                let node = self.tree.pop()?;
                if node.said == [Some(true); 2] {
                    self.blame_what_joins(now, device, &node);
                }
                continue;
            };
            let request = match &node.parts[n] {
                Part::Points(points) => request(device, &self.holes, points),
                Part::Bare(table, range) => Request::bare(*table, range),
            };
            // A part as wide as the whole is refused as well: wide values lie over narrow ones.
            if request.span() == node.span {
                node.said[n] = Some(false);
                let (part, code) = (node.parts[n].clone(), node.code);
                self.descend(now, device, part, code);
                continue;
            }
            self.asked = Some(Asked::Part(n));
            return Some(request);
        }
    }

    /// Both parts are readable, and together they are not.
    fn blame_what_joins(&mut self, now: Boot, device: &Device, node: &Node) {
        let len = |part: &Part| match part {
            Part::Points(points) => request(device, &self.holes, points).count,
            Part::Bare(..) => 0,
        };
        let longest = node.parts.iter().map(len).max().unwrap_or(0);
        let hole = match (node.gap.is_empty(), longest) {
            (false, _) => Hole::span(node.table, &node.gap),
            (true, 0) => Hole::span(node.table, &node.span),
            (true, most) => Hole::Limit { table: node.table, most },
        };
        self.suspect(now, hole, node.code, Some((node.table, node.span.clone())));
    }

    fn suspect(&mut self, now: Boot, hole: Hole, code: u8, test: Option<(Table, Range<u32>)>) {
        let wait = limits::LEARN_CONFIRM;
        self.known.insert(hole, Known { code, first: now, is_hole: false, next: now + wait, wait, test });
        self.holes.insert(hole, code);
        self.changed = true;
    }

    /// Refused again.
    fn confirm(&mut self, now: Boot, hole: &Hole, code: u8) {
        let Some(known) = self.known.get_mut(hole) else { return };
        known.code = code;
        if known.is_hole {
            known.wait = (known.wait * 2).min(limits::RELEARN_MAX);
            known.next = now + known.wait;
        } else if self.served.is_some_and(|at| at > known.first) {
            (known.is_hole, self.tell) = (true, true);
            known.wait = limits::RELEARN_MIN;
            known.next = now + known.wait;
            self.facts.push_back((self.fact(OF.into(), self.of.clone()), false));
            self.facts.push_back((self.fact(hole.to_string(), code.to_string()), false));
        }
    }

    fn drop_hole(&mut self, hole: &Hole) {
        let Some(known) = self.known.remove(hole) else { return };
        self.holes.remove(hole);
        (self.changed, self.tell) = (true, true);
        if known.is_hole {
            self.facts.push_back((self.fact(hole.to_string(), known.code.to_string()), true));
        }
    }

    fn fact(&self, key: String, value: String) -> Learned {
        Learned { about: self.about.clone(), key, value }
    }
}

impl Known {
    /// What to ask in order to see whether it is still refused. `None`: only the plan itself could tell.
    fn test_range(&self, hole: Hole) -> Option<(Table, Range<u32>)> {
        self.test.clone().or(match hole {
            Hole::Span { table, start, count } => Some((table, u32::from(start)..u32::from(start) + u32::from(count))),
            Hole::Table(table) => Some((table, 0..1)),
            Hole::Limit { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests;

//! From an order to its steps: what is read first, what is written in one request, what is read back.

use super::words::fixed;
use crate::{
    config::{Device, FixedWrite, Point, Register, Table, WriteRule},
    drivers::modbus::{Ask, Request, mask, plan::plan_points, write_asks},
    model::{PointId, Value},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// Registers in one request of function 16.
const WORDS_MAX: usize = 123;

#[derive(Debug)]
pub(super) enum Step {
    Write(Write),
    /// Reads one written point back.
    Check(Check),
    Read {
        request: Request,
    },
}

/// One write, and what goes before it in the same turn: a look at what is there, then fixed writes that unlock it.
#[derive(Debug)]
pub(super) struct Write {
    /// The commanded points that it writes.
    pub points: Vec<PointId>,
    /// Without a look, or after it, what is sent; before it the commanded bits alone.
    pub ask: Ask,
    pub look: Option<Look>,
    pub looked: bool,
    pub pre: Vec<FixedWrite>,
    /// So many of `pre` were accepted.
    pub unlocked: usize,
}

#[derive(Debug)]
pub(super) struct Look {
    pub at: Ask,
    /// Which bits of each register are commanded; the others keep their value.
    pub masks: Vec<u16>,
    /// Nothing is written if it would change nothing.
    pub if_changed: bool,
}

#[derive(Debug)]
pub(super) struct Check {
    pub request: Request,
    /// The bytes that a read brings, and which of their bits count.
    pub wanted: Vec<u8>,
    pub mask: Vec<u8>,
    pub was_different: bool,
}

impl Write {
    /// What goes on the wire next.
    pub fn next(&self) -> Ask {
        match (&self.look, self.pre.get(self.unlocked)) {
            (Some(look), _) if !self.looked => look.at.clone(),
            (_, Some(pre)) => fixed(pre),
            _ => self.ask.clone(),
        }
    }

    /// Whether [`Write::next`] is the write itself.
    pub fn is_last(&self) -> bool {
        (self.looked || self.look.is_none()) && self.unlocked >= self.pre.len()
    }

    pub fn is_secret(&self) -> bool {
        (self.looked || self.look.is_none()) && self.pre.get(self.unlocked).is_some_and(|pre| pre.secret)
    }

    /// What was found there. `false`: the write would change nothing, and is not wanted then.
    pub fn found(&mut self, data: &[u8]) -> bool {
        self.looked = true;
        let Some(look) = &self.look else { return true };
        let words: Vec<u16> = data.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        let filled = |new: &[u16]| -> Vec<u16> {
            let each = words.iter().zip(new).zip(&look.masks);
            each.map(|((old, new), mask)| old & !mask | new & mask).collect()
        };
        let changes = match &mut self.ask {
            Ask::WriteRegister { value, .. } => {
                *value = filled(&[*value]).first().copied().unwrap_or(*value);
                words.first() != Some(value)
            }
            Ask::WriteRegisters { words: new, .. } => {
                *new = filled(new);
                words != *new
            }
            Ask::MaskWrite { and, or, .. } => words.first().is_none_or(|old| old & *and | *or & !*and != *old),
            Ask::WriteCoil { on, .. } => data.first().is_none_or(|b| (b & 1 == 1) != *on),
            Ask::WriteCoils { bits, .. } => data.first().is_none_or(|b| bits.first() != Some(&(b & 1 == 1))),
            Ask::Read { .. } | Ask::WriteCoilWord { .. } | Ask::Raw(_) => true,
        };
        changes || !look.if_changed
    }
}

impl Check {
    /// The bits behind the last coil of a byte mean nothing.
    pub fn is_same(&self, data: &[u8]) -> bool {
        let offset = self.request.fields.first().map_or(0, |f| usize::from(f.offset));
        if self.request.table.is_bits() {
            let bit = data.get(offset / 8).map(|byte| byte >> (offset % 8) & 1);
            return bit == self.wanted.first().copied();
        }
        let Some(got) = data.get(offset * 2..offset * 2 + self.wanted.len()) else { return false };
        got.iter().zip(&self.wanted).zip(&self.mask).all(|((got, want), mask)| (got ^ want) & mask == 0)
    }
}

/// Everything that a write needs, or why it cannot be carried out. Nothing has been sent then.
pub(super) fn writes(device: &Device, values: &BTreeMap<PointId, Value>, verify: &[PointId]) -> Result<VecDeque<Step>, String> {
    let mut steps = VecDeque::new();
    let mut grouped = BTreeSet::new();
    for (id, value) in values {
        let n = index(device, id)?;
        let rule = rule(&device.points[n]).map_err(|e| format!("{id}: {e}"))?;
        match &rule.group {
            None => {
                let write = single(&device.points[n], rule, value).map_err(|e| format!("{id}: {e}"))?;
                steps.push_back(Step::Write(write));
                steps.extend(verify.contains(id).then(|| check(device, n, value)).flatten());
            }
            Some(name) if grouped.insert(name.clone()) => {
                let members = members(device, name);
                steps.push_back(Step::Write(group(device, name, &members, values)?));
                for n in members {
                    let id = &device.points[n].id;
                    if let Some(value) = values.get(id).filter(|_| verify.contains(id)) {
                        steps.extend(check(device, n, value));
                    }
                }
            }
            Some(_) => {}
        }
    }
    Ok(steps)
}

pub(super) fn index(device: &Device, id: &PointId) -> Result<usize, String> {
    device.points.iter().position(|p| p.id == *id).ok_or_else(|| format!("{}: there is no point {id}", device.id))
}

fn rule(point: &Point) -> Result<&WriteRule, String> {
    point.write.as_deref().ok_or_else(|| format!("{} may not be written; give it write = {{ … }} if it should", point.id))
}

fn single(point: &Point, rule: &WriteRule, value: &Value) -> Result<Write, String> {
    let ask = write_asks(point, value).map_err(|e| e.to_string())?;
    let masks = mask(point);
    let is_whole = masks.iter().all(|m| *m == u16::MAX) || matches!(ask, Ask::MaskWrite { .. });
    let is_known = !matches!(ask, Ask::Raw(_) | Ask::WriteCoilWord { .. });
    let look = (is_known && (rule.if_changed || !is_whole)).then(|| {
        let Register { table, address: start } = read_at(point, rule);
        Look { at: Ask::Read { table, start, count: point.kind.words() }, masks, if_changed: rule.if_changed }
    });
    Ok(Write { points: vec![point.id.clone()], ask, look, looked: false, pre: rule.pre.clone(), unlocked: 0 })
}

/// Where the point shows what it holds.
fn read_at(point: &Point, rule: &WriteRule) -> Register {
    rule.verify_register.filter(|_| !point.read).unwrap_or(point.register)
}

/// In order of address.
fn members(device: &Device, name: &str) -> Vec<usize> {
    let is_member = |n: &usize| device.points[*n].write.as_ref().is_some_and(|w| w.group.as_deref() == Some(name));
    let mut members: Vec<usize> = (0..device.points.len()).filter(is_member).collect();
    members.sort_by_key(|n| device.points[*n].register);
    members
}

/// One request for the whole group. Members that are not named keep what they hold.
fn group(device: &Device, name: &str, members: &[usize], values: &BTreeMap<PointId, Value>) -> Result<Write, String> {
    let points = || members.iter().map(|n| &device.points[*n]);
    let start = points().map(|p| p.register.address).min().unwrap_or(0);
    let end = points().map(|p| usize::from(p.register.address) + usize::from(p.kind.words())).max().unwrap_or(0);
    let count = end - usize::from(start);
    if count > WORDS_MAX || points().any(|p| p.register.table != Table::Holding) {
        return Err(format!("group {name}: not the registers of one request"));
    }
    let (mut words, mut masks) = (vec![0; count], vec![0; count]);
    let (mut named, mut pre, mut if_changed) = (Vec::new(), Vec::<FixedWrite>::new(), false);
    for point in points() {
        let Some(value) = values.get(&point.id) else { continue };
        let whole = Point { write: Some(Box::default()), ..point.clone() };
        let written = match write_asks(&whole, value).map_err(|e| format!("{}: {e}", point.id))? {
            Ask::WriteRegister { value, .. } => vec![value],
            Ask::WriteRegisters { words, .. } => words,
            other => return Err(format!("{}: function {} cannot write a group", point.id, other.function())),
        };
        let from = usize::from(point.register.address - start);
        for (n, (word, mask)) in written.into_iter().zip(mask(point)).enumerate() {
            words[from + n] = words[from + n] & !mask | word;
            masks[from + n] |= mask;
        }
        named.push(point.id.clone());
        let rule = rule(point)?;
        if_changed |= rule.if_changed;
        let new: Vec<FixedWrite> = rule.pre.iter().filter(|w| !pre.contains(w)).cloned().collect();
        pre.extend(new);
    }
    let count = u16::try_from(count).unwrap_or(0);
    let look = (if_changed || masks.iter().any(|m| *m != u16::MAX)).then_some(Look {
        at: Ask::Read { table: Table::Holding, start, count },
        masks,
        if_changed,
    });
    Ok(Write { points: named, ask: Ask::WriteRegisters { start, words }, look, looked: false, pre, unlocked: 0 })
}

/// How the point is read back. `None`: it cannot be.
fn check(device: &Device, n: usize, value: &Value) -> Option<Step> {
    let point = &device.points[n];
    let rule = point.write.as_ref()?;
    let place = rule.verify_register.unwrap_or(point.register);
    if rule.verify_register.is_none() && !point.read {
        return None;
    }
    let (wanted, mask) = as_read(&write_asks(point, value).ok()?, point);
    let request = if place == point.register {
        plan_points(device, [n]).pop()?
    } else {
        let mut elsewhere = device.clone();
        Arc::make_mut(&mut elsewhere.points)[n].register = place;
        plan_points(&elsewhere, [n]).pop()?
    };
    Some(Step::Check(Check { request, wanted, mask, was_different: false }))
}

/// The bytes that a read of what was written brings, and which of their bits count.
fn as_read(ask: &Ask, point: &Point) -> (Vec<u8>, Vec<u8>) {
    let bytes = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
    let masks = bytes(&mask(point));
    match ask {
        Ask::WriteCoil { on, .. } => (vec![u8::from(*on)], vec![1]),
        Ask::WriteCoils { bits, .. } => (vec![u8::from(bits.first() == Some(&true))], vec![1]),
        Ask::WriteRegister { value, .. } => (bytes(&[*value]), masks),
        Ask::WriteRegisters { words, .. } => (bytes(words), masks),
        Ask::MaskWrite { and, or, .. } => (bytes(&[*or]), bytes(&[!*and])),
        Ask::WriteCoilWord { .. } | Ask::Raw(_) | Ask::Read { .. } => (Vec::new(), Vec::new()),
    }
}

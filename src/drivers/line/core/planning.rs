//! What a poll's reply means for the plan: values go out, refusals are learned from, and the plan follows.

use super::{Core, requests};
use crate::{
    config::{Device, Register},
    drivers::{
        line::{event::Out, exchange::Exchange},
        modbus::{Request, decode, exception},
    },
    model::{Boot, Bulk, DeviceId, Heard, Quality, Reading, Urgent, Value},
};
use std::collections::BTreeMap;

/// A scale factor that was never read: SunSpec's own pattern for "not available".
const NO_FACTOR: u16 = 0x8000;

/// Scale factors that have requests of their own, by device.
#[derive(Debug, Default)]
pub struct Factors(BTreeMap<(usize, Register), u16>);

impl Factors {
    /// The values of a reply, or what it says where nobody asked for values.
    pub fn emit(&mut self, out: &mut Out, at: Boot, (n, device): (usize, &Device), request: &Request, data: &[u8]) {
        if request.points.is_empty() {
            self.keep(n, device, request, data);
            out.urgent.push_back(Urgent::Poll { device: device.id.clone(), heard: Heard::Answered, at });
            return;
        }
        let (values, quality) = self.decode((n, device), request, data);
        out.bulk.push_back(Bulk::Reading(Reading { device: device.id.clone(), at, points: request.points.clone(), values, quality }));
    }

    /// The values of a reply, with the factors that were read by requests of their own.
    pub fn decode(&self, (n, device): (usize, &Device), request: &Request, data: &[u8]) -> (Vec<Value>, Option<Vec<Quality>>) {
        let is_behind = |offset: Option<u16>| offset.is_some_and(|o| o >= request.count);
        if !request.fields.iter().any(|f| is_behind(f.scale_offset)) {
            return decode(device, request, data);
        }
        let mut longer = data.to_vec();
        for field in request.fields.iter().filter(|f| is_behind(f.scale_offset)) {
            let register = device.points.get(field.point).and_then(|p| p.scale_register);
            let word = register.and_then(|r| self.0.get(&(n, r))).copied().unwrap_or(NO_FACTOR);
            longer.extend(word.to_be_bytes());
        }
        decode(device, request, &longer)
    }

    /// Its request brought nothing: what it was before may be history.
    pub fn lose(&mut self, n: usize, request: &Request) {
        if request.points.is_empty() && request.count == 1 {
            self.0.remove(&(n, Register { table: request.table, address: request.start }));
        }
    }

    /// The device may be another one.
    pub fn lose_all(&mut self, n: usize) {
        self.0.retain(|(device, _), _| *device != n);
    }

    pub fn keep(&mut self, n: usize, device: &Device, request: &Request, data: &[u8]) {
        let register = Register { table: request.table, address: request.start };
        if let Some(word) = data.first_chunk::<2>()
            && request.count == 1
            && device.points.iter().any(|p| p.scale_register == Some(register))
        {
            self.0.insert((n, register), u16::from_be_bytes(*word));
        }
    }
}

impl Core {
    /// A poll's request was answered, or refused by this exception.
    pub(super) fn polled(&mut self, now: Boot, n: usize, refused: Option<u8>) {
        if self.walked(now, n) {
            return;
        }
        let (schedule, learner, device) = (&mut self.schedule, &mut self.learners[n], &self.devices[n]);
        let request = schedule.current(n);
        if refused.is_some() {
            self.factors.lose(n, request);
        }
        match (schedule.is_detour(n), refused) {
            (true, refused) => learner.outcome(now, device, request, refused),
            (false, None) => learner.answered(now, request),
            (false, Some(code)) if exception::class(code) == exception::Class::Plan => learner.refused(now, device, request, code),
            (false, Some(_)) => {}
        }
        // 10 and 11 do not come here: no unit spoke.
        if refused.is_some_and(|code| exception::class(code) == exception::Class::Retry) {
            schedule.busy(n);
        }
        if schedule.answered(now, n, |at_end| learner.next(now, device, at_end)) {
            self.poll_ended(now, n);
            self.say_unsupported(now, n);
        }
    }

    /// A reading is a sign of life, so this is said only after a poll that was answered.
    fn say_unsupported(&mut self, at: Boot, n: usize) {
        let device = &self.devices[n];
        let untold = self.learners[n].untold(device);
        if untold.is_empty() {
            return;
        }
        let points = untold.iter().filter_map(|n| device.points.get(*n)).map(|p| p.id.clone()).collect();
        let (values, quality) = (vec![Value::Null; untold.len()], Some(vec![Quality::Unsupported; untold.len()]));
        self.out.bulk.push_back(Bulk::Reading(Reading { device: device.id.clone(), at, points, values, quality }));
    }

    /// What was learned in the poll takes effect.
    pub(super) fn poll_ended(&mut self, now: Boot, n: usize) {
        let (learner, device) = (&mut self.learners[n], &self.devices[n]);
        learner.poll_ended();
        self.answers[n].polled(now);
        if let Some(plan) = learner.changed_plan(device) {
            self.schedule.replan(n, requests(plan));
            self.probe_costs[n] = Exchange::cost(&self.wire, &self.schedule.probe(n).ask(), self.guard.base_timeout(n));
        }
        while let Some((fact, forget)) = learner.take_fact() {
            self.out.urgent.push_back(Urgent::Learned { fact, forget, at: now });
        }
    }

    /// Everything that was learned of the device is learned anew.
    pub fn forget(&mut self, now: Boot, device: &DeviceId) {
        if let Some(n) = self.devices.iter().position(|d| d.id == *device) {
            self.learners[n].forget();
            self.poll_ended(now, n);
            self.forget_chain(now, n);
            self.tally(n);
        }
    }
}

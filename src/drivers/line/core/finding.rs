//! Devices that say themselves what they have (SunSpec): their chain is walked before they are polled.
//!
//! ```text
//! line up, device back from the dead, forgotten --> walking --chain--> points, polled as if somebody had written the map
//!                                                      '--no chain--> walked again at the next poll
//! ```
//!
//! The reads of a walk follow each other within one poll, each in the line's usual order. A device keeps its points while it
//! is walked again; only another device, told by its serial number, or another chain brings others.

use super::{Core, requests};
use crate::{
    config::Device,
    drivers::{
        line::{event::Note, exchange::Exchange},
        modbus::{
            Request,
            pdu::Ask,
            sunspec::{self, Chain, Discovery, Identity, Outcome},
        },
    },
    model::{Boot, Bulk, Learned, PointCard, PointId, Quality, Reading, Urgent, Value},
};
use std::sync::Arc;

/// The key of the fact that a chain is remembered under.
const KEY: &str = "sunspec";
/// Registers of a chain are there without a hole, so that a read may span the texts that nobody asks for.
const GAP: u16 = 16;

/// What is known of one such device.
#[derive(Debug)]
pub(super) struct Finder {
    about: String,
    /// Models that are wanted; empty: all.
    models: Vec<u16>,
    /// Points that the operator wrote; those of the chain come behind them.
    own: usize,
    /// `None`: found, and polled.
    walk: Option<Discovery>,
    chain: Option<Chain>,
    /// The chain that the points of the device are of.
    shown: Option<Chain>,
    /// It was said that there is none.
    lost: bool,
}

impl Finder {
    /// `None`: the operator wrote what the device has.
    pub fn new(device: &Device, facts: &[Learned]) -> Option<Finder> {
        let models = device.sunspec.clone()?;
        let about = device.id.to_string();
        let fact = facts.iter().find(|f| f.about == about && f.key == KEY);
        let chain: Option<Chain> = fact.and_then(|f| f.value.parse().ok());
        let walk = Some(Discovery::new(chain.clone(), device.max_words));
        Some(Finder { about, models, own: device.points.len(), walk, chain, shown: None, lost: false })
    }

    /// The read that the walk wants now. `None`: none is under way.
    pub fn request(&self) -> Option<Request> {
        let Ask::Read { table, start, count } = self.walk.as_ref()?.next_ask()? else { return None };
        Some(Request::bare(table, &(u32::from(start)..u32::from(start) + u32::from(count))))
    }

    fn again(&mut self, max_words: u16) {
        self.walk = Some(Discovery::new(self.chain.clone(), max_words));
    }
}

/// A reply to a poll's request, if it was the walk that asked. Returns whether it was.
pub(super) fn answered(finder: &mut Option<Finder>, request: &Request, said: Result<&[u8], u8>) -> bool {
    let Some(finder) = finder else { return false };
    // After a reconnect an older request may still be on top.
    let is_its = finder.request().is_some_and(|wanted| wanted.ask() == request.ask());
    if let Some(walk) = finder.walk.as_mut().filter(|_| is_its) {
        walk.answer(said);
    }
    finder.walk.is_some()
}

impl Core {
    /// A device that may be another one since it was last heard: its chain is confirmed before it is polled.
    pub(super) fn look_again(&mut self, n: usize) {
        let Some(finder) = &mut self.finders[n] else { return };
        finder.again(self.devices[n].max_words);
        let request = finder.request();
        self.schedule.replan(n, request.into_iter().collect());
    }

    /// Nothing is taken over from what was known of its chain.
    pub(super) fn forget_chain(&mut self, now: Boot, n: usize) {
        let Some(finder) = &mut self.finders[n] else { return };
        if let Some(chain) = finder.chain.take() {
            let fact = Learned { about: finder.about.clone(), key: KEY.into(), value: chain.to_string() };
            self.out.urgent.push_back(Urgent::Learned { fact, forget: true, at: now });
        }
        self.look_again(n);
    }

    /// The walk goes on with what it asks next, or ends. Returns whether one was under way.
    pub(super) fn walked(&mut self, now: Boot, n: usize) -> bool {
        let Some(finder) = &mut self.finders[n] else { return false };
        let Some(walk) = &finder.walk else { return false };
        let outcome = walk.outcome().cloned();
        let next = finder.request();
        let asked = self.schedule.current(n).ask();
        // A poll that ends in silence goes on here at the next one.
        if let Some(request) = &next {
            self.schedule.replan(n, vec![request.clone()]);
        }
        let Some(outcome) = outcome else {
            // A unit that is busy is asked the same again, but not before the next poll.
            self.schedule.answered(now, n, |_| next.filter(|r| r.ask() != asked));
            return true;
        };
        match outcome {
            Outcome::Found { chain, identity } => self.found(now, n, chain, &identity),
            Outcome::Lost(why) => {
                finder.chain = None;
                finder.again(self.devices[n].max_words);
                if !std::mem::replace(&mut finder.lost, true) {
                    self.out.notes.push_back(Note::NoChain { device: self.devices[n].id.clone(), why });
                }
                let request = self.finders[n].as_ref().and_then(Finder::request);
                self.schedule.replan(n, request.into_iter().collect());
            }
        }
        // Also where older requests were still to come: their points may be others by now.
        self.schedule.end(now, n);
        true
    }

    fn found(&mut self, now: Boot, n: usize, chain: Chain, identity: &Identity) {
        let Some(finder) = &mut self.finders[n] else { return };
        let device = &mut self.devices[n];
        finder.walk = None;
        finder.lost = false;
        if finder.chain.as_ref() != Some(&chain) {
            let fact = Learned { about: finder.about.clone(), key: KEY.into(), value: chain.to_string() };
            self.out.urgent.push_back(Urgent::Learned { fact, forget: false, at: now });
            finder.chain = Some(chain.clone());
        }
        if finder.shown.as_ref() != Some(&chain) {
            let is_other = finder.shown.replace(chain.clone()).is_some();
            self.orders.outdated(now, n);
            self.factors.lose_all(n);
            let own = &device.points[..finder.own];
            let known: std::collections::BTreeSet<&PointId> = own.iter().map(|p| &p.id).collect();
            // What the operator wrote of the same name stands.
            let said = sunspec::points(&chain, &finder.models).into_iter().filter(|p| !known.contains(&p.id));
            device.points = own.iter().cloned().chain(said).collect();
            device.max_gap = device.max_gap.max(GAP);
            if is_other {
                self.learners[n].forget();
            }
            let unknown = sunspec::models::unknown(&chain);
            let (models, points) = (chain.links.len(), device.points.len());
            self.out.notes.push_back(Note::Chain { device: device.id.clone(), base: chain.base, models, points, unknown });
            self.out.urgent.push_back(Urgent::Discovered { device: device.id.clone(), points: cards(device, identity), at: now });
        }
        let (points, values): (Vec<PointId>, Vec<Value>) = said(identity).map(|(id, text)| (id, Value::Text(text.into()))).unzip();
        if !points.is_empty() {
            let points = points.into();
            self.out.bulk.push_back(Bulk::Reading(Reading {
                device: device.id.clone(),
                at: now,
                points,
                values,
                quality: None::<Vec<Quality>>,
            }));
        }
        let plan = self.learners[n].plan(&self.devices[n]);
        self.schedule.replan(n, requests(plan));
        self.probe_costs[n] = Exchange::cost(&self.wire, &self.schedule.probe(n).ask(), self.guard.base_timeout(n));
    }
}

/// What the device says of itself, under the names of the common model.
fn said(identity: &Identity) -> impl Iterator<Item = (PointId, &str)> {
    let all =
        [("common_Mn", &identity.maker), ("common_Md", &identity.model), ("common_Vr", &identity.version), ("common_SN", &identity.serial)];
    all.into_iter().filter(|(_, text)| !text.is_empty()).filter_map(|(name, text)| Some((PointId::parse(name).ok()?, text.as_str())))
}

fn cards(device: &Device, identity: &Identity) -> Arc<[PointCard]> {
    let text = said(identity).map(|(id, _)| PointCard { id, unit: String::new(), kind: "string", writable: false });
    let points = device.points.iter().map(|p| PointCard {
        id: p.id.clone(),
        unit: p.unit.clone(),
        kind: p.kind.word(),
        writable: p.write.is_some(),
    });
    text.chain(points).collect()
}

#[cfg(test)]
mod tests;

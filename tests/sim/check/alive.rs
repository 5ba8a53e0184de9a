//! Who is there, judged by what units really answered: online at the first answer, offline in time and not before, and a line
//! that is down speaks for its devices.

use super::messages::Received;
use crate::{
    gateway::{LINES, devices},
    plan::Plan,
    world::Log,
};
use fieldgate::{
    config::Device,
    model::{Boot, Cause, LineState, State},
};
use std::{collections::BTreeSet, time::Duration};

/// From an answer on the wire to the row of what it changes, in virtual time.
const MOMENT: Duration = Duration::from_millis(50);
/// What is promised beyond a device's own time.
const LATE: Duration = Duration::from_secs(1);

/// What the line of a device told of it, or of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Said {
    Sign,
    Miss,
    Down,
    Up,
    End,
}

struct Story<'a> {
    device: &'a Device,
    moves: Vec<(State, Option<Cause>, Boot)>,
    began: Boot,
    /// In order, of one life.
    said: Vec<(Boot, Said)>,
}

pub fn check(plan: &Plan, log: &Log, received: &Received, wrong: &mut Vec<String>) {
    for (life, (began, end)) in log.begins.iter().zip(&log.ends).enumerate() {
        for device in &devices(plan) {
            let story = Story::read(log, life, *began, end.at, device);
            story.online_at_each_answer(wrong);
            story.offline_in_time_and_not_before(wrong);
            story.told_as_kept(received, life, end.at, wrong);
        }
        lines(log, received, life, wrong);
    }
    let hung = |e: &serde_json::Value| e["cause"] == "line_down" || e["cause"] == "broker_down";
    for (_, event) in received.of_type("status").filter(|(_, e)| hung(e)) {
        wrong.push(format!("a line speaks for its devices: {event}"));
    }
}

impl<'a> Story<'a> {
    fn read(log: &Log, life: usize, began: Boot, end: Boot, device: &'a Device) -> Story<'a> {
        let inside = |at: &Boot| *at >= began && *at < end;
        let of = |all: &[(fieldgate::model::DeviceId, Boot)], said: Said| -> Vec<(Boot, Said)> {
            all.iter().filter(|(id, at)| *id == device.id && inside(at)).map(|(_, at)| (*at, said)).collect()
        };
        let mut said = of(&log.signs, Said::Sign);
        said.extend(of(&log.misses, Said::Miss));
        for (_, _, state, at) in log.lines_said.iter().filter(|(l, name, ..)| *l == life && *name == device.line.as_str()) {
            said.push((*at, if *state == LineState::Down { Said::Down } else { Said::Up }));
        }
        said.push((end, Said::End));
        said.sort_by_key(|(at, _)| *at);
        let moves = log.moves.iter().filter(|(id, ..)| id == device.id.as_str());
        Story { device, moves: moves.map(|(_, state, cause, at)| (*state, *cause, *at)).collect(), began, said }
    }

    fn state_at(&self, at: Boot) -> Option<State> {
        self.moves.iter().rev().find(|(_, _, since)| *since <= at).map(|(state, ..)| *state)
    }

    /// Unless its line went down or the process ended in the same moment.
    fn online_at_each_answer(&self, wrong: &mut Vec<String>) {
        for (n, (at, _)) in self.said.iter().enumerate().filter(|(_, (_, said))| *said == Said::Sign) {
            let mut after = self.said[n..].iter().take_while(|(then, _)| *then <= *at + MOMENT);
            let undone = after.any(|(_, said)| matches!(said, Said::Down | Said::Up | Said::End));
            let is = self.state_at(*at + MOMENT);
            if !undone && is != Some(State::Online) {
                wrong.push(format!("{} answered at {at:?} and was {is:?} a moment later", self.device.id));
            }
        }
    }

    fn offline_in_time_and_not_before(&self, wrong: &mut Vec<String>) {
        let allowed = self.device.offline_after;
        // Silence counts from here, as long as somebody can hear.
        let mut from = Some(self.began);
        let mut misses = 0;
        let mut enough = None;
        for (at, said) in &self.said {
            let (Some(since), false) = (from, *said == Said::Miss) else {
                if *said == Said::Up {
                    (from, misses, enough) = (Some(*at), 0, None);
                } else if from.is_some() {
                    misses += 1;
                    enough = enough.or((misses == 2).then_some(*at));
                }
                continue;
            };
            // This stretch of silence ends here.
            if let Some(due) = enough.map(|second: Boot| second.max(since + allowed) + LATE).filter(|due| *due < *at)
                && self.state_at(due) != Some(State::Offline)
            {
                wrong.push(format!("{} fell silent at {since:?} and was {:?} at {due:?}", self.device.id, self.state_at(due)));
            }
            let until = (since + allowed).min(*at);
            let early = |(state, cause, then): &&(State, Option<Cause>, Boot)| {
                *state == State::Offline && *cause == Some(Cause::Silent) && *then > since && *then < until
            };
            if let Some(early) = self.moves.iter().find(early) {
                wrong.push(format!("{} was heard or grace began at {since:?}, and it was {early:?}", self.device.id));
            }
            (from, misses, enough) = ((*said != Said::Down).then_some(*at), 0, None);
        }
    }
}

impl Story<'_> {
    /// Each move has its event, unless that was told last; and nothing is told that was not kept.
    fn told_as_kept(&self, received: &Received, life: usize, end: Boot, wrong: &mut Vec<String>) {
        let id = self.device.id.as_str();
        let events = received.of_type("status").filter(|((l, _), e)| *l == life && e["device"] == id);
        let mut told: BTreeSet<(String, Option<u64>)> = BTreeSet::new();
        for (_, event) in events {
            told.insert((event["state"].as_str().unwrap_or_default().to_owned(), event["since"].as_u64()));
        }
        let mut last = None;
        // What moved in the moment of a start moved before it.
        for (state, cause, at) in self.moves.iter().filter(|(.., at)| *at > self.began && *at <= end) {
            // What nobody can see is said by the line, or by the start.
            if *state == State::Unknown {
                continue;
            }
            let is_told = told.remove(&(state.word().to_owned(), Some(at.ms())));
            let is_news = last.replace((*state, *cause)) != Some((*state, *cause));
            if is_told != is_news {
                wrong.push(format!("{id} was {state:?} ({cause:?}) at {at:?} in life {life}; told: {is_told}, news: {is_news}"));
            }
        }
        told.iter().for_each(|what| wrong.push(format!("{id} was told as {what:?} in life {life}, and no row says so")));
    }
}

/// One event for each change of a line, whatever hangs on it.
fn lines(log: &Log, received: &Received, life: usize, wrong: &mut Vec<String>) {
    let end = log.ends[life].at;
    for line in LINES {
        let told = received.of_type("line").filter(|((l, _), e)| *l == life && e["line"] == line);
        let told: Vec<&str> = told.filter_map(|(_, e)| e["state"].as_str()).collect();
        let mut want: Vec<(&str, Boot)> = vec![];
        for (_, _, state, at) in log.lines_said.iter().filter(|(l, name, ..)| *l == life && *name == line) {
            if want.last().is_none_or(|(last, _)| *last != state.word()) {
                want.push((state.word(), *at));
            }
        }
        // What it said in the last moment may have been on its way.
        let sure = want.iter().take_while(|(_, at)| *at + MOMENT < end).count();
        let words: Vec<&str> = want.iter().map(|(word, _)| *word).collect();
        if told.len() < sure || told != words[..told.len().min(words.len())] {
            wrong.push(format!("{line} in life {life} was {want:?}, and told as {told:?}"));
        }
    }
}

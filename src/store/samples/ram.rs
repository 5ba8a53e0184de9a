//! What was read since the last commit, by device. Bounded: what finds no room is counted and left out.

use super::Keep;
use crate::{
    limits,
    model::{DeviceId, Frame, Reading, Row, Value},
};
use std::{collections::BTreeMap, sync::Arc};

#[derive(Debug, Default)]
pub struct Ram {
    pub devices: BTreeMap<DeviceId, Vec<Frame>>,
    bytes: usize,
    /// Samples that found no room since the start.
    pub lost: u64,
}

impl Ram {
    /// Says whether a commit should not wait any longer.
    pub fn put(&mut self, reading: &Reading, keep: &Keep) -> bool {
        if !keep.wants(&reading.device) {
            return false;
        }
        let cost = cost(reading);
        if self.bytes + cost > limits::SAMPLES_RAM {
            self.lost += reading.values.len() as u64;
            return true;
        }
        self.bytes += cost;
        let row = Row { at: reading.at, values: reading.values.clone(), quality: reading.quality.clone() };
        let frames = match self.devices.get_mut(&reading.device) {
            Some(frames) => frames,
            None => self.devices.entry(reading.device.clone()).or_default(),
        };
        let same = |f: &&mut Frame| Arc::ptr_eq(&f.points, &reading.points) || f.points == reading.points;
        match frames.iter_mut().rev().find(same) {
            Some(frame) => frame.rows.push(row),
            None => frames.push(Frame { device: reading.device.clone(), points: reading.points.clone(), rows: vec![row], thin: None }),
        }
        self.bytes > limits::SAMPLES_RAM / 2
    }

    /// All of it; counts go on.
    pub fn take(&mut self) -> BTreeMap<DeviceId, Vec<Frame>> {
        self.bytes = 0;
        std::mem::take(&mut self.devices)
    }
}

fn cost(reading: &Reading) -> usize {
    let texts: usize = reading.values.iter().map(|v| if let Value::Text(t) = v { t.len() } else { 0 }).sum();
    64 + reading.values.len() * size_of::<Value>() + texts + reading.quality.as_ref().map_or(0, Vec::len)
}

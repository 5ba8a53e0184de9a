//! The dictionary: a series is one point of one device, named by a small number for ever.
//!
//! The writer adds to it in the transaction of the segment that needs it; readers only look up.

use super::codec::{Names, Shape};
use crate::model::{DeviceId, Frame, PointId};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// By id, shared with the reader. `None`: a row that is no name.
#[derive(Debug, Clone, Default)]
pub struct Dictionary(Arc<RwLock<Vec<Name>>>);

pub type Name = Option<(DeviceId, PointId)>;

impl Names for Dictionary {
    fn series(&self, id: u32) -> Option<(DeviceId, PointId)> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id as usize)?.clone()
    }
}

impl Dictionary {
    pub fn add(&self, names: impl IntoIterator<Item = Name>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(names);
    }

    pub fn all(&self) -> Vec<Name> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

type Planned = (DeviceId, Arc<[PointId]>, Arc<[u32]>);

#[derive(Debug)]
pub struct Series {
    pub dictionary: Dictionary,
    ids: HashMap<(DeviceId, PointId), u32>,
    /// Readings of one planned request share their list of points: found by its address, which cannot be used again
    /// while the list is held here.
    planned: HashMap<usize, Planned>,
    /// Named in the transaction under way.
    pending: Vec<(DeviceId, PointId)>,
    max: usize,
}

/// Lists of points remembered by address. MQTT makes new ones all the time, so it is emptied when full.
const PLANNED_MAX: usize = 1024;

impl Series {
    pub fn new(known: Vec<Name>, max: usize) -> Series {
        let ids = (0u32..).zip(&known).filter_map(|(id, name)| Some((name.clone()?, id))).collect();
        let dictionary = Dictionary::default();
        dictionary.add(known);
        Series { dictionary, ids, planned: HashMap::new(), pending: Vec::new(), max }
    }

    pub fn shape(&mut self, frame: &Frame) -> Shape {
        let address = Arc::as_ptr(&frame.points).cast::<()>() as usize;
        if let Some((device, points, ids)) = self.planned.get(&address)
            && *device == frame.device
            && points.len() == frame.points.len()
        {
            return Shape::Ids(Arc::clone(ids));
        }
        let Some(ids) = frame.points.iter().map(|p| self.id(&frame.device, p)).collect::<Option<Arc<[u32]>>>() else {
            return Shape::Names;
        };
        if self.planned.len() >= PLANNED_MAX {
            self.planned.clear();
        }
        self.planned.insert(address, (frame.device.clone(), Arc::clone(&frame.points), Arc::clone(&ids)));
        Shape::Ids(ids)
    }

    fn id(&mut self, device: &DeviceId, point: &PointId) -> Option<u32> {
        let name = (device.clone(), point.clone());
        if let Some(id) = self.ids.get(&name) {
            return Some(*id);
        }
        let next = self.dictionary.len() + self.pending.len();
        if next >= self.max {
            return None;
        }
        let id = u32::try_from(next).ok()?;
        self.ids.insert(name.clone(), id);
        self.pending.push(name);
        Some(id)
    }

    /// With their ids, to be written with the segment.
    pub fn pending(&self) -> impl Iterator<Item = (usize, &(DeviceId, PointId))> {
        (self.dictionary.len()..).zip(&self.pending)
    }

    pub fn committed(&mut self) {
        self.dictionary.add(self.pending.drain(..).map(Some));
    }

    pub fn rolled_back(&mut self) {
        for name in self.pending.drain(..) {
            self.ids.remove(&name);
        }
        self.planned.clear();
    }
}

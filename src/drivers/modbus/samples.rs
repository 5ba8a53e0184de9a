//! Points and devices for the tests of this room.

use crate::{
    config::device::{DataType, Device, Point, Register, Report, Table, WordOrder, WriteRule},
    model::{DeviceId, LineId, PointId},
};
use std::time::Duration;

/// An unscaled, writable point of the standard order.
pub fn point(table: Table, address: u16, kind: DataType) -> Point {
    Point {
        id: PointId::parse(&format!("{}-{address}-{}", table.word(), kind.word())).unwrap(),
        register: Register { table, address },
        kind,
        order: WordOrder::Abcd,
        scale: 1.0,
        offset: 0.0,
        unit: String::new(),
        na: Vec::new(),
        report: Report::default(),
        write: Some(WriteRule { min: None, max: None, verify: true, min_interval: Duration::ZERO, function: None }),
        read_alone: false,
    }
}

pub fn device(points: Vec<Point>) -> Device {
    Device {
        id: DeviceId::parse("meter-1").unwrap(),
        line: LineId::parse("meters").unwrap(),
        unit: 1,
        poll: Duration::from_secs(1),
        offline_after: Duration::from_secs(3),
        max_words: 125,
        max_bits: 2000,
        max_gap: 0,
        timeout: None,
        retries: None,
        min_gap: None,
        profile: None,
        points,
    }
}

pub const ORDERS: [WordOrder; 4] = [WordOrder::Abcd, WordOrder::Cdab, WordOrder::Badc, WordOrder::Dcba];

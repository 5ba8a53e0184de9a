//! Lines and devices for the tests of this room.

use crate::{
    config::{DataType, Device, Line, Parity, Point, Register, Report, Serial, Table, Transport, WordOrder, WriteRule},
    model::{DeviceId, LineId, PointId},
};
use std::time::Duration;

pub fn serial_line(baud: u32) -> Line {
    line(Transport::Serial(Serial { path: "/dev/null".into(), baud, parity: Parity::None, bits: 8, stop: 1 }))
}

pub fn line(transport: Transport) -> Line {
    Line {
        id: LineId::parse("meters").expect("valid"),
        transport,
        timeout: Duration::from_millis(300),
        retries: 0,
        min_gap: Duration::ZERO,
        connect_delay: Duration::ZERO,
    }
}

/// With `points` holding registers `r0`, `r10`, `r20`, … far apart, so that each is a request of its own.
pub fn device(id: &str, unit: u8, points: u16) -> Device {
    Device {
        id: DeviceId::parse(id).expect("valid"),
        line: LineId::parse("meters").expect("valid"),
        unit,
        poll: Duration::from_secs(1),
        offline_after: Duration::from_secs(3),
        max_words: 125,
        max_bits: 2000,
        max_gap: 0,
        timeout: None,
        retries: None,
        min_gap: None,
        profile: None,
        points: (0..points).map(|n| point(Table::Holding, n * 10)).collect(),
    }
}

pub fn point(table: Table, address: u16) -> Point {
    Point {
        id: PointId::parse(&format!("r{address}")).expect("valid"),
        register: Register { table, address },
        kind: if table.is_bits() { DataType::Bool } else { DataType::U16 },
        order: WordOrder::Abcd,
        scale: 1.0,
        offset: 0.0,
        unit: String::new(),
        na: Vec::new(),
        report: Report::default(),
        write: matches!(table, Table::Holding | Table::Coil).then_some(WriteRule {
            min: None,
            max: None,
            verify: true,
            min_interval: Duration::ZERO,
            function: None,
        }),
        read_alone: false,
    }
}

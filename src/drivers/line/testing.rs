//! Lines and devices for the tests of this room.

use crate::{
    config::{DataType, Device, Line, Parity, Point, Register, Serial, Table, Transport},
    model::{DeviceId, LineId, PointId},
};
use std::time::Duration;

pub fn serial_line(baud: u32) -> Line {
    line(Transport::Serial(Serial { path: "/dev/null".into(), baud, parity: Parity::None, bits: 8, stop: 1 }))
}

pub fn line(transport: Transport) -> Line {
    Line { timeout: Duration::from_millis(300), ..Line::new(LineId::parse("meters").expect("valid"), transport) }
}

/// With `points` holding registers `r0`, `r10`, `r20`, … far apart, so that each is a request of its own.
pub fn device(id: &str, unit: u8, points: u16) -> Device {
    Device {
        poll: Duration::from_secs(1),
        offline_after: Duration::from_secs(3),
        points: (0..points).map(|n| point(Table::Holding, n * 10)).collect(),
        ..Device::new(DeviceId::parse(id).expect("valid"), LineId::parse("meters").expect("valid"), unit)
    }
}

pub fn point(table: Table, address: u16) -> Point {
    let kind = if table.is_bits() { DataType::Bool } else { DataType::U16 };
    Point {
        write: matches!(table, Table::Holding | Table::Coil).then(Box::default),
        ..Point::new(PointId::parse(&format!("r{address}")).expect("valid"), Register { table, address }, kind)
    }
}

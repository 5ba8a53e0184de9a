//! Points and devices for the tests of this room.

use crate::{
    config::device::{DataType, Device, Point, Register, Table, WordOrder},
    model::{DeviceId, LineId, PointId},
};
/// An unscaled, writable point of the standard order.
pub fn point(table: Table, address: u16, kind: DataType) -> Point {
    let id = PointId::parse(&format!("{}-{address}-{}", table.word(), kind.word())).unwrap();
    Point { write: Some(Box::default()), ..Point::new(id, Register { table, address }, kind) }
}

pub fn device(points: Vec<Point>) -> Device {
    Device { points: points.into(), ..Device::new(DeviceId::parse("meter-1").unwrap(), LineId::parse("meters").unwrap(), 1) }
}

pub const ORDERS: [WordOrder; 4] = [WordOrder::Abcd, WordOrder::Cdab, WordOrder::Badc, WordOrder::Dcba];

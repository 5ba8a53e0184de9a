//! The devices whose replies are fuzzed: every type, every order of words, every table.

use super::feed::Feed;
use fieldgate::{
    config::{Bits, DataType, Device, Point, Register, Table, WordOrder},
    drivers::modbus::{Answer, Ask, Request, decode, pdu, plan},
    model::{DeviceId, LineId, PointId},
};
use std::{sync::LazyLock, time::Duration};

const KINDS: [DataType; 13] = [
    DataType::Bool,
    DataType::Bits(Bits { first: 3, count: 5 }),
    DataType::U8,
    DataType::I8,
    DataType::U16,
    DataType::I16,
    DataType::U32,
    DataType::I32,
    DataType::U64,
    DataType::I64,
    DataType::F16,
    DataType::F32,
    DataType::F64,
];
const ORDERS: [WordOrder; 4] = [WordOrder::Abcd, WordOrder::Cdab, WordOrder::Badc, WordOrder::Dcba];

pub fn device(unit: u8) -> Device {
    let id = |text: String| PointId::parse(&text).expect("valid");
    let mut points = Vec::new();
    let mut address = 0;
    for kind in KINDS {
        for order in ORDERS {
            let register = Register { table: Table::Holding, address };
            let point = Point::new(id(format!("h{address}")), register, kind);
            points.push(Point { order, scale: 0.1, offset: -7.0, na: vec![0x8000, 0x7fc0_0000], ..point });
            address += 4;
        }
    }
    for n in 0..40 {
        points.push(Point::new(id(format!("c{n}")), Register { table: Table::Coil, address: n }, DataType::Bool));
        points.push(Point::new(id(format!("i{n}")), Register { table: Table::Input, address: n * 200 }, DataType::U16));
    }
    let (name, line) = (DeviceId::parse(&format!("d{unit}")).expect("valid"), LineId::parse("bus").expect("valid"));
    Device { poll: Duration::ZERO, max_gap: 8, points: points.into(), ..Device::new(name, line, unit) }
}

static DEVICE: LazyLock<(Device, Vec<Request>)> = LazyLock::new(|| {
    let device = device(9);
    let requests = plan(&device);
    (device, requests)
});

/// A request that could be on the wire.
pub fn ask(feed: &mut Feed<'_>) -> Ask {
    let requests = &DEVICE.1;
    match feed.byte() % 8 {
        0..=3 => requests[usize::from(feed.byte()) % requests.len()].ask(),
        4 => Ask::WriteCoil { address: feed.word(), on: feed.byte() % 2 == 1 },
        5 => Ask::WriteRegister { address: feed.word(), value: feed.word() },
        6 => Ask::WriteCoils { start: feed.word(), bits: vec![true; usize::from(feed.byte() % 20) + 1] },
        _ => Ask::WriteRegisters { start: feed.word(), words: vec![feed.word(); usize::from(feed.byte() % 20) + 1] },
    }
}

/// A PDU that a scan gave out as the reply: it passes the check, and its data decode to as many values as were asked.
pub fn accept(ask: &Ask, reply: &[u8]) {
    let answer = pdu::check(ask, reply).expect("a reply passes the check");
    let Answer::Data(data) = answer else { return };
    assert_eq!(data.len(), ask.data_len());
    let (device, requests) = &*DEVICE;
    for request in requests.iter().filter(|r| r.ask() == *ask) {
        let (values, quality) = decode(device, request, data);
        assert_eq!(values.len(), request.points.len());
        assert!(quality.is_none_or(|q| q.len() == values.len()));
    }
}

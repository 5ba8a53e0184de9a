//! A native telemetry message back into frames: for a sample that was put aside and comes again.
//!
//! Pure. The envelope names the boot and the offset that turned its moments into wall time, so they come back exact.

use crate::model::{Boot, BootIndex, DeviceId, Frame, PointId, Quality, Row, Thin, Value};
use serde_json::Value as Json;
use std::sync::Arc;

/// `None`: it is no whole message of ours, most often because it was cut.
pub fn telemetry(body: &[u8]) -> Option<(BootIndex, Vec<Frame>)> {
    let message: Json = serde_json::from_slice(body).ok()?;
    let offset = message["clock"]["offset_ms"].as_i64()?;
    let boot = BootIndex(u32::try_from(message["clock"]["boot"].as_u64()?).ok()?);
    let mut frames = Vec::new();
    for (device, tables) in message["devices"].as_object()? {
        let device = DeviceId::parse(device).ok()?;
        for table in tables.as_array()? {
            frames.push(frame(&device, table, offset)?);
        }
    }
    Some((boot, frames))
}

fn frame(device: &DeviceId, table: &Json, offset: i64) -> Option<Frame> {
    let (at, columns) = (table["at"].as_i64()?, table["v"].as_object()?);
    let points: Option<Arc<[PointId]>> = columns.keys().map(|name| PointId::parse(name).ok()).collect();
    let mut rows = Vec::new();
    for (n, dt) in table["dt"].as_array()?.iter().enumerate() {
        let ms = at.checked_add(dt.as_i64()?)?.checked_sub(offset)?;
        let values: Option<Vec<Value>> = columns.values().map(|column| value(column.get(n)?)).collect();
        let of = |name: &String| match table["q"].get(name) {
            None => Some(Quality::Good),
            Some(column) => Quality::parse(column.get(n)?.as_str()?),
        };
        let quality: Option<Vec<Quality>> = columns.keys().map(of).collect();
        let quality = quality.filter(|q| q.iter().any(|q| *q != Quality::Good));
        rows.push(Row { at: Boot::from_ms(u64::try_from(ms).ok()?), values: values?, quality });
    }
    let number = |of: &Json| u32::try_from(of.as_u64()?).ok();
    let thin = match table.get("thin") {
        Some(thin) => Some(Thin { window_ms: number(&thin["window_ms"])?, of: number(&thin["of"])? }),
        None => None,
    };
    Some(Frame { device: device.clone(), points: points?, rows, thin })
}

fn value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => Value::Uint(n),
            (None, Some(n)) => Value::Int(n),
            (None, None) => Value::Float(n.as_f64()?),
        },
        Json::Array(_) | Json::Object(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{ClockReading, Epoch, GatewayId, Key, Sealed, Stream},
        uplink::dialect::Native,
    };

    #[test]
    fn what_was_sent_comes_back() {
        let points: Arc<[PointId]> = ["a", "b.c"].iter().map(|p| PointId::parse(p).unwrap()).collect();
        let rows = vec![
            Row { at: Boot::from_ms(70_000), values: vec![Value::Uint(7), Value::Text("x\"y".into())], quality: None },
            Row { at: Boot::from_ms(69_999), values: vec![Value::Int(-1), Value::Null], quality: Some(vec![Quality::Good, Quality::Bad]) },
            Row { at: Boot::from_ms(71_000), values: vec![Value::Float(0.25), Value::Bool(true)], quality: None },
        ];
        let thinned = Some(Thin { window_ms: 60_000, of: 60 });
        let device = |id| DeviceId::parse(id).unwrap();
        let frames = vec![
            Frame { device: device("meter-1"), points: Arc::clone(&points), rows: rows.clone(), thin: None },
            Frame { device: device("meter-2"), points, rows, thin: thinned },
        ];
        let key = Key { epoch: Epoch(1), stream: Stream::Telemetry, seq: 3 };
        let sealed = Sealed { key, boot: BootIndex(5), frames };
        let mut native = Native::new(GatewayId::parse("plant-7").unwrap(), "0.1.0", "p");
        let mut body = Vec::new();
        native.telemetry(&sealed, true, ClockReading::estimated(1_795_255_130_000), &mut body);
        assert_eq!(telemetry(&body), Some((BootIndex(5), sealed.frames)));
        for cut in 0..body.len() {
            assert_eq!(telemetry(&body[..cut]), None);
        }
        assert_eq!(telemetry(b"{\"devices\":{}}"), None);
    }
}

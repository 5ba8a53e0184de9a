//! One register of any unit: written, and read back, with nothing but the user's word for it.

use super::{Args, EXIT_UNKNOWN, Wish, agree, assignment, show};
use crate::{
    cli::{
        EXIT_NO_ANSWER, EXIT_REFUSED, Global, Out,
        read::exception,
        site::{self, Place, Trouble},
    },
    config::{DataType, Device, Point, Register, Table, WordOrder},
    drivers::line::orders::preview,
    model::{DeviceId, PointId, SiteAsk, SiteOutcome},
};
use serde_json::json;
use std::{collections::BTreeMap, process::ExitCode};

pub fn write(global: &Global, out: &Out, args: &Args, place: &Place) -> Result<ExitCode, Trouble> {
    let usage = |message: &str| Trouble::new("usage", 2, message, "fieldgate write PORT --unit 1 holding:101=67 --as u16");
    let unit = args.unit.ok_or_else(|| usage("which unit? a port has many"))?;
    if unit == 0 && place.settings().is_some() {
        return Err(usage("unit 0 is everybody on a serial line; configure a device with broadcast for that"));
    }
    let [what] = args.what.as_slice() else { return Err(usage("one register at a time")) };
    let (register, value) = assignment(what)?;
    let (kind, order) = match args.kind.as_deref().map(|k| k.split_once('/').unwrap_or((k, ""))) {
        Some((kind, order)) => (Some(kind), Some(order.to_ascii_uppercase()).filter(|o| !o.is_empty())),
        None => (None, None),
    };
    let mut point = point_of(register, kind, order.as_deref()).map_err(|why| usage(&why))?;
    point.write = Some(Box::default());
    let id = DeviceId::parse(&format!("unit-{unit}")).map_err(|e| usage(&e.to_string()))?;
    let mut device = Device::new(id, place.line.id.clone(), unit);
    let values = BTreeMap::from([(point.id.clone(), value)]);
    device.points = [point].into();
    let steps = preview(&device, &values).map_err(|why| usage(&why))?;
    let mut wish = Wish { device, place: place.name(), values, before: BTreeMap::new(), steps };
    if args.dry_run {
        return Ok(show::dry(out, &wish, args.expires));
    }
    let mut bus = site::open_place(global, out, place)?;
    let read = wish.steps.iter().map(|s| s.request.clone()).find(|r| matches!(r.first(), Some(1..=4)));
    let ask = |pdu: Vec<u8>| SiteAsk { unit, pdu, timeout: None, settings: None };
    if let Some(read) = read.clone() {
        // What is there belongs into the question.
        if let SiteOutcome::Answer(reply) = bus.ask(&ask(read))?.outcome {
            wish.before = decoded(&wish.device, reply.get(2..).unwrap_or_default());
        }
    }
    if !args.yes {
        agree(out, &show::question(&wish))?;
    }
    let request = wish.steps.iter().map(|s| s.request.clone()).find(|r| matches!(r.first(), Some(5 | 6 | 15 | 16 | 22)));
    let request = request.ok_or_else(|| usage("this cannot be written by one request"))?;
    let report = bus.ask(&ask(request.clone()))?;
    let unknown = |why: &str| {
        Trouble::new(
            "unknown",
            EXIT_UNKNOWN,
            format!("unit {unit} may have carried it out: {why}"),
            "read the register before you write it again",
        )
    };
    match report.outcome {
        SiteOutcome::Answer(_) => {}
        SiteOutcome::Exception(code @ (5 | 0x0b)) => return Err(unknown(&format!("exception {code}"))),
        SiteOutcome::Exception(code) => {
            let (says, remedy) = exception(code);
            return Err(Trouble::new(
                "refused",
                EXIT_REFUSED,
                format!("unit {unit} refuses {register} (exception {code}: {says})"),
                remedy,
            ));
        }
        SiteOutcome::Garbled(why) => return Err(unknown(&why)),
        SiteOutcome::Silent => return Err(unknown("no answer came")),
        SiteOutcome::NotSent(why) => return Err(Trouble::new("not-sent", EXIT_NO_ANSWER, format!("nothing was sent: {why}"), "")),
    }
    let back = match read {
        Some(read) => match bus.ask(&ask(read))?.outcome {
            SiteOutcome::Answer(reply) => decoded(&wish.device, reply.get(2..).unwrap_or_default()),
            _ => BTreeMap::new(),
        },
        None => BTreeMap::new(),
    };
    let (id, wanted) = wish.values.iter().next().ok_or_else(|| usage("one register at a time"))?;
    let got = back.get(id);
    let same = got.is_some_and(|v| v.as_f64().zip(wanted.as_f64()).is_some_and(|(a, b)| (a - b).abs() <= b.abs() * 1e-6));
    if out.json {
        let phase = if same {
            "confirmed"
        } else if got.is_some() {
            "failed"
        } else {
            "unknown"
        };
        let (write, before) = (super::plain(wanted), wish.before.get(id).map(super::plain));
        out.say(&json!({"v": 1, "unit": unit, "register": wish.device.points[0].register.to_string(), "phase": phase, "write": write, "before": before, "read_back": got.map(super::plain)}).to_string());
    }
    match got {
        Some(_) if same => {
            if !out.json {
                out.say(&format!(
                    "{} confirmed: {} of unit {unit} was read back as written",
                    out.glyph("good"),
                    wish.device.points[0].register
                ));
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => Err(Trouble::new(
            "failed",
            1,
            format!("unit {unit} repeats the write and then reads {}", super::plain(other)),
            "its manual may say that it takes effect later, or that another register must be set first",
        )),
        None => Err(unknown("it could not be read back")),
    }
}

/// `holding:101` as `u16`, or as `f32/CDAB`.
fn point_of(register: &str, kind: Option<&str>, order: Option<&str>) -> Result<Point, String> {
    let wrong = || format!("{register} is no register; write holding:101 or coil:3");
    let (table, address) = register.split_once(':').ok_or_else(wrong)?;
    let table = [Table::Holding, Table::Coil].into_iter().find(|t| t.word() == table).ok_or_else(wrong)?;
    let register = Register { table, address: address.parse().map_err(|_| wrong())? };
    let kinds = [DataType::U16, DataType::I16, DataType::U32, DataType::I32, DataType::U64, DataType::I64, DataType::F32, DataType::F64];
    let kind = match kind {
        None | Some("bool") if table == Table::Coil => DataType::Bool,
        None => DataType::U16,
        Some(word) => *kinds
            .iter()
            .find(|k| k.word() == word)
            .ok_or_else(|| format!("{word} is no type that is written here; u16, i16, u32, i32, u64, i64, f32, f64"))?,
    };
    let order = match order {
        None | Some("ABCD") => WordOrder::Abcd,
        Some("CDAB") => WordOrder::Cdab,
        Some("BADC") => WordOrder::Badc,
        Some("DCBA") => WordOrder::Dcba,
        Some(other) => return Err(format!("{other} is no word order; ABCD, CDAB, BADC or DCBA")),
    };
    let id = PointId::parse(&format!("{}-{}", table.word(), register.address)).map_err(|e| e.to_string())?;
    Ok(Point { order, ..Point::new(id, register, kind) })
}

fn decoded(device: &Device, data: &[u8]) -> BTreeMap<PointId, crate::model::Value> {
    let requests = crate::drivers::modbus::plan(device);
    let Some(request) = requests.first() else { return BTreeMap::new() };
    let (values, _) = crate::drivers::modbus::decode(device, request, data);
    request.points.iter().cloned().zip(values).collect()
}

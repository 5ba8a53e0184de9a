//! Asking: tries, refusals halved until the register that is refused stands alone, and what to say when nobody answers.

use super::raw;
use crate::{
    cli::{
        EXIT_NO_ANSWER, EXIT_REFUSED,
        site::{Bus, Trouble},
    },
    config::{Device, Table},
    drivers::modbus::{Request, decode, plan::plan_points},
    model::{Quality, SiteAsk, SiteOutcome, Value},
};
use std::time::Duration;

/// A silent or garbled request is repeated so often.
const TRIES: u32 = 3;

/// One value with everything that is said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Index in the device's points.
    pub point: usize,
    pub value: Value,
    pub quality: Quality,
    pub raw: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct All {
    pub values: Vec<Taken>,
    pub troubles: Vec<Trouble>,
    /// Of the replies, added up.
    pub took: Duration,
    pub sent: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads every request. The first that nobody answers ends it: the others would be as silent, one timeout each.
pub fn all(bus: &mut dyn Bus, device: &Device, requests: &[Request]) -> Result<All, Trouble> {
    let mut all = All::default();
    let mut open: Vec<Request> = requests.iter().rev().cloned().collect();
    while let Some(request) = open.pop() {
        match one(bus, device, &request, &mut all)? {
            Said::Data(data) => take(device, &request, &data, &mut all),
            // An unknown register spoils its whole block; which one it is shows when the block is halved.
            Said::Refused(2 | 3) if request.fields.len() > 1 => {
                let (left, right) = request.fields.split_at(request.fields.len() / 2);
                let halves = [right, left].into_iter().flat_map(|half| plan_points(device, half.iter().map(|field| field.point)));
                open.extend(halves);
            }
            Said::Refused(code) => all.troubles.push(refused(device, &request, code)),
            Said::Nobody(trouble) => {
                all.troubles.push(trouble);
                return Ok(all);
            }
        }
    }
    Ok(all)
}

enum Said {
    Data(Vec<u8>),
    Refused(u8),
    Nobody(Trouble),
}

fn one(bus: &mut dyn Bus, device: &Device, request: &Request, all: &mut All) -> Result<Said, Trouble> {
    let mut pdu = Vec::new();
    request.ask().encode(&mut pdu);
    let ask = SiteAsk { unit: device.unit, pdu, timeout: device.timeout, settings: None };
    let mut waited = Duration::ZERO;
    let mut heard = Vec::new();
    let mut why = None;
    for _ in 0..TRIES {
        let report = bus.ask(&ask)?;
        all.sent.push((report.sent, report.heard.clone()));
        match report.outcome {
            SiteOutcome::Answer(reply) => {
                all.took += report.took;
                return Ok(Said::Data(reply.get(2..).unwrap_or_default().to_vec()));
            }
            // The gateway's word for a unit that is silent behind it.
            SiteOutcome::Exception(0x0b) => why = Some("the gateway says that it does not respond".to_owned()),
            SiteOutcome::Exception(code) => {
                all.took += report.took;
                return Ok(Said::Refused(code));
            }
            SiteOutcome::Garbled(words) => why = Some(words),
            SiteOutcome::Silent => {}
            SiteOutcome::NotSent(words) => return Err(Trouble::new("not-sent", EXIT_REFUSED, format!("nothing was sent: {words}"), "")),
        }
        waited += report.took;
        heard = report.heard;
    }
    Ok(Said::Nobody(nobody(bus, device.unit, waited, &heard, why)))
}

fn take(device: &Device, request: &Request, data: &[u8], all: &mut All) {
    let (values, quality) = decode(device, request, data);
    for (n, (field, value)) in request.fields.iter().zip(values).enumerate() {
        let quality = quality.as_ref().map_or(Quality::Good, |q| q[n]);
        let raw = raw(&device.points[field.point], field.offset, data).to_vec();
        all.values.push(Taken { point: field.point, value, quality, raw });
    }
}

/// `input:12 to 13`, `input:12`.
pub fn span(table: Table, start: u16, count: u16) -> String {
    let last = start.saturating_add(count.saturating_sub(1));
    if last == start { format!("{}:{start}", table.word()) } else { format!("{}:{start} to {last}", table.word()) }
}

fn refused(device: &Device, request: &Request, code: u8) -> Trouble {
    let (says, remedy) = exception(code);
    let what = span(request.table, request.start, request.count);
    Trouble::new("refused", EXIT_REFUSED, format!("unit {} refuses {what} (exception {code}: {says})", device.unit), remedy)
}

/// What an exception means, and what to do.
pub fn exception(code: u8) -> (&'static str, &'static str) {
    match code {
        1 => ("it does not know this function", "the same address may be in another table: input or holding"),
        2 => ("no such register", "try the address one lower, or another table: manuals count from 0 or from 1"),
        3 => ("not in this length", "read one value alone; some registers are only read whole"),
        4 => ("the device failed", "look at the device itself"),
        5 | 6 => ("busy", "try again in a moment"),
        0x0a => ("the gateway has no path to it", "check the gateway's own settings for this unit"),
        0x0b => ("the gateway got no answer from it", "check the unit's address, power and wiring behind the gateway"),
        _ => ("not in the standard", "the device's manual knows"),
    }
}

fn nobody(bus: &dyn Bus, unit: u8, waited: Duration, heard: &[u8], why: Option<String>) -> Trouble {
    let place = bus.place();
    let at = bus.settings().map_or_else(String::new, |s| format!(" at {s}"));
    let tries = format!("({TRIES} tries, {:.1} s)", waited.as_secs_f64());
    let is_serial = bus.settings().is_some();
    match why {
        None => {
            let remedy = if is_serial {
                format!("check power and that A and B are not swapped, or let the bus tell:\n    fieldgate scan {place}")
            } else {
                format!("check the unit's number; what is there tells\n    fieldgate scan {place}")
            };
            Trouble::new(
                "silent",
                EXIT_NO_ANSWER,
                format!("no answer from unit {unit} on {place}{at} {tries}\n  heard: nothing, not even noise"),
                remedy,
            )
        }
        Some(why) => {
            let bytes: Vec<String> = heard.iter().take(16).map(|b| format!("{b:02x}")).collect();
            let more = if heard.len() > 16 { " …" } else { "" };
            let heard = if bytes.is_empty() { "nothing more".to_owned() } else { format!("{}{more}", bytes.join(" ")) };
            let remedy = if is_serial {
                format!("another baud rate or parity, two units with one address, or noise; listening tells:\n    fieldgate listen {place}")
            } else {
                "perhaps RTU frames over TCP: --framing rtu".to_owned()
            };
            Trouble::new(
                "garbled",
                EXIT_NO_ANSWER,
                format!("no valid answer from unit {unit} on {place}{at} {tries}: {why}\n  heard: {heard}"),
                remedy,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::site::BusError,
        config::{DataType, Point, Register},
        drivers::modbus::plan,
        model::{DeviceId, LineId, PointId, Settings, SiteReport},
    };

    /// Holding registers that hold their address; some are refused, some units silent.
    struct Fake {
        holes: Vec<u16>,
        outcome: Option<SiteOutcome>,
        asked: u32,
    }

    impl Bus for Fake {
        fn ask(&mut self, ask: &SiteAsk) -> Result<SiteReport, BusError> {
            self.asked += 1;
            let word = |at: usize| u16::from_be_bytes([ask.pdu[at], ask.pdu[at + 1]]);
            let (start, count) = (word(1), word(3));
            let outcome = self.outcome.clone().unwrap_or_else(|| {
                if self.holes.iter().any(|hole| (start..start + count).contains(hole)) {
                    return SiteOutcome::Exception(2);
                }
                let data = (start..start + count).flat_map(u16::to_be_bytes);
                SiteOutcome::Answer([3, u8::try_from(count * 2).expect("short")].into_iter().chain(data).collect())
            });
            Ok(SiteReport { outcome, sent: vec![1], heard: vec![2], took: Duration::from_millis(20) })
        }

        fn settings(&self) -> Option<Settings> {
            None
        }

        fn timeout(&self) -> Duration {
            Duration::from_millis(300)
        }

        fn place(&self) -> String {
            "10.0.0.5:502".into()
        }

        fn is_shared(&self) -> bool {
            false
        }
    }

    fn device(addresses: &[u16]) -> Device {
        let point = |a: &u16| {
            Point::new(PointId::parse(&format!("r{a}")).expect("valid"), Register { table: Table::Holding, address: *a }, DataType::U16)
        };
        Device {
            points: addresses.iter().map(point).collect(),
            ..Device::new(DeviceId::parse("d").expect("valid"), LineId::parse("l").expect("valid"), 1)
        }
    }

    #[test]
    fn a_refused_block_is_halved_until_only_the_register_that_is_refused_is_missing() {
        let device = device(&[0, 1, 2, 3, 4, 5, 6, 7]);
        let mut bus = Fake { holes: vec![5], outcome: None, asked: 0 };
        let all = all(&mut bus, &device, &plan(&device)).expect("the bus works");
        let read: Vec<usize> = all.values.iter().map(|v| v.point).collect();
        assert_eq!(read, [0, 1, 2, 3, 4, 6, 7]);
        assert!(all.values.iter().all(|v| v.value == Value::Uint(v.point as u64) && v.raw.len() == 2));
        assert_eq!(all.troubles.len(), 1);
        assert_eq!(all.troubles[0].message, "unit 1 refuses holding:5 (exception 2: no such register)");
        assert_eq!(all.troubles[0].exit, 5);
    }

    #[test]
    fn silence_is_tried_again_and_then_said_with_what_to_do() {
        let device = device(&[0, 100]);
        let mut bus = Fake { holes: Vec::new(), outcome: Some(SiteOutcome::Silent), asked: 0 };
        let got = all(&mut bus, &device, &plan(&device)).expect("the bus works");
        assert_eq!((bus.asked, got.values.len(), got.troubles.len()), (3, 0, 1));
        assert!(got.troubles[0].message.starts_with("no answer from unit 1 on 10.0.0.5:502 (3 tries, 0.1 s)"), "{:?}", got.troubles);
        bus.outcome = Some(SiteOutcome::Garbled("the checksum does not fit".into()));
        let got = all(&mut bus, &device, &plan(&device)).expect("the bus works");
        assert!(
            got.troubles[0].message.contains("the checksum does not fit\n  heard: 02") && got.troubles[0].exit == 4,
            "{:?}",
            got.troubles
        );
    }
}

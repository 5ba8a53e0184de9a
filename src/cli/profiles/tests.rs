//! The shipped profiles, and what is shown of them.

use super::*;
use crate::{
    config::{Point, device::DataType},
    drivers::modbus::{Answer, Request, Scan, decode, pdu, plan, rtu, write_asks},
    model::{Quality, Value},
};
use std::{collections::BTreeMap, path::Path};

fn shipped() -> Vec<Profile> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/profiles");
    let around = Surroundings { env: Box::new(|_| None), machine_id: None, profile_dirs: vec![dir], secrets: Secrets::Unread };
    let found = config::profile::profiles(Path::new("nowhere/fieldgate.toml"), &around);
    assert_eq!(found.problems, [], "no error, no warning, no note");
    found.profiles
}

fn named(id: &str) -> Profile {
    shipped().into_iter().find(|p| p.id == id).unwrap_or_else(|| panic!("{id} is not shipped"))
}

#[test]
fn every_device_of_the_list_is_there() {
    let ids: Vec<String> = shipped().into_iter().map(|p| p.id).collect();
    for id in [
        "eastron-sdm120",
        "eastron-sdm630",
        "schneider-iem3155",
        "carlogavazzi-em24",
        "carlogavazzi-em24@e1",
        "carlogavazzi-em340",
        "pzem-004t-v3",
        "sma-tripower",
        "sunspec",
        "growatt-mic-min",
        "growatt-mic-min@rtu",
        "growatt-mic-min@hybrid",
        "victron-gx",
        "victron-gx@16bit",
        "victron-gx@vebus",
        "victron-gx@battery",
        "victron-gx@grid",
        "xy-md02",
        "waveshare-relay-8",
    ] {
        assert!(ids.iter().any(|i| i == id), "{id} of {ids:?}");
    }
}

/// Scaled or real numbers measure something: without a unit nobody knows what. Power factors have none.
fn is_physical(point: &Point) -> bool {
    let real = matches!(point.kind, DataType::F16 | DataType::F32 | DataType::F64) || point.scale != 1.0;
    real && !point.id.as_str().contains("power_factor")
}

#[test]
fn shipped_profiles_say_sources_units_and_probes() {
    for profile in shipped() {
        let about = &profile.about;
        assert!(!about.source.is_empty() && !about.vendor.is_empty() && !about.model.is_empty(), "{}", profile.id);
        assert_eq!(about.verified.word(), "none", "{}: nobody compared it with a device", profile.id);
        assert!(about.serial.is_some() || about.port.is_some(), "{}: no factory setting", profile.id);
        // What only writes is chosen by who wants it.
        assert!(!profile.probes.is_empty() || profile.id.ends_with("@control"), "{}: nothing recognises it", profile.id);
        for point in profile.device.points.iter().filter(|p| is_physical(p)) {
            assert!(!point.unit.is_empty(), "{}: {} has no unit", profile.id, point.id);
        }
    }
}

/// Probes are read from strangers: one small request each, nothing that a device may refuse to others.
#[test]
fn probes_are_cheap() {
    for profile in shipped() {
        let requests = plan(&profile.probing());
        assert!(requests.len() <= config::profile::PROBES_MAX, "{}: {requests:?}", profile.id);
        assert!(requests.iter().all(|r| r.count <= 50), "{}: {requests:?}", profile.id);
    }
}

/// Two entries of one profile must not both fit: their probes tell them apart.
#[test]
fn identification_codes_tell_the_carlo_gavazzi_meters_apart() {
    for (code, want) in [(71, "carlogavazzi-em24"), (1648, "carlogavazzi-em24@e1"), (340, "carlogavazzi-em340")] {
        let read = [Some(Value::Uint(code))];
        let fits: Vec<String> = shipped()
            .into_iter()
            .filter(|p| p.probes.first().is_some_and(|probe| probe.point.register.address == 11) && p.matches(&read).is_some())
            .map(|p| p.id)
            .collect();
        assert_eq!(fits, [want], "code {code}");
    }
}

/// The decoded values of the request that reads the point, when its registers are these: the reply goes through framing,
/// the strict check and the profile, as on a line.
fn decoded(profile: &Profile, frame: &[u8], request: &Request, unit: u8) -> BTreeMap<String, (Value, Quality)> {
    let Scan::Reply { pdu, .. } = rtu::scan(frame, unit, &request.ask()) else { panic!("no reply to {request:?}: {frame:02x?}") };
    let Ok(Answer::Data(data)) = pdu::check(&request.ask(), &frame[pdu]) else { panic!("{frame:02x?}") };
    let (values, quality) = decode(&profile.device, request, data);
    let quality = quality.unwrap_or_else(|| vec![Quality::Good; values.len()]);
    request.points.iter().map(|p| p.to_string()).zip(values.into_iter().zip(quality)).collect()
}

#[track_caller]
fn check_point(id: &str, point: &str, registers: &[u16], want: Value) {
    let profile = named(id);
    let n = profile.device.points.iter().position(|p| p.id.as_str() == point).unwrap_or_else(|| panic!("{id} has no {point}"));
    let request = crate::drivers::modbus::plan::plan_points(&profile.device, [n]).remove(0);
    assert_eq!(usize::from(request.count), registers.len(), "{id} {point}");
    let bytes: Vec<u8> = registers.iter().flat_map(|r| r.to_be_bytes()).collect();
    let function = request.table.read_function();
    let mut frame: Vec<u8> = [1, function, u8::try_from(bytes.len()).unwrap()].into_iter().chain(bytes).collect();
    frame.extend(rtu::crc16(&frame).to_le_bytes());
    let got = &decoded(&profile, &frame, &request, 1)[point];
    let quality = if want == Value::Null { Quality::NotAvailable } else { Quality::Good };
    assert_eq!(*got, (want, quality), "{id} {point} {registers:04x?}");
}

/// The reply that a PZEM-004T gave on a real line.
#[test]
fn a_recorded_reply_of_a_pzem_gives_the_values_of_its_display() {
    let profile = named("pzem-004t-v3");
    let reply = "01041408D1006C000000F400000026000001F4006400005134";
    let frame: Vec<u8> = (0..reply.len()).step_by(2).map(|i| u8::from_str_radix(&reply[i..i + 2], 16).unwrap()).collect();
    let requests = plan(&profile.device);
    assert_eq!(requests.len(), 1, "one read gives everything");
    let got = decoded(&profile, &frame, &requests[0], 1);
    for (point, want) in [
        ("voltage", Value::Float(225.7)),
        ("current", Value::Float(0.108)),
        ("power", Value::Float(24.4)),
        ("energy", Value::Uint(38)),
        ("frequency", Value::Float(50.0)),
        ("power_factor", Value::Float(1.0)),
    ] {
        assert_eq!(got[point], (want, Quality::Good), "{point}");
    }
}

#[test]
fn word_orders_signs_and_sentinels_are_those_of_the_device() {
    check_point("eastron-sdm120", "voltage", &[0x4366, 0x3333], Value::Float(230.2));
    check_point("eastron-sdm630", "power_l2", &[0xc2c8, 0x0000], Value::Float(-100.0));
    check_point("schneider-iem3155", "power", &[0x3f80, 0x0000], Value::Float(1000.0));
    check_point("schneider-iem3155", "import_energy", &[0, 0, 0x0001, 0xe240], Value::Float(123.456));
    check_point("schneider-iem3155", "voltage_l3", &[0xffc0, 0x0000], Value::Null);
    check_point("carlogavazzi-em24", "voltage_l1", &[2301, 0], Value::Float(230.1));
    check_point("carlogavazzi-em24", "power", &[0xff9c, 0xffff], Value::Float(-10.0));
    check_point("carlogavazzi-em24@e1", "frequency", &[500], Value::Float(50.0));
    check_point("carlogavazzi-em340", "import_energy", &[0x86a0, 0x0001], Value::Float(10_000.0));
    check_point("carlogavazzi-em340", "serial_number", &[0x42, 0x41, 0x31, 0x32, 0x33, 0x34, 0], Value::Text("BA1234".into()));
    check_point("victron-gx", "battery_state", &[1], Value::Text("charging".into()));
    check_point("victron-gx", "serial", &[0x4833, 0x3141, 0x4243, 0, 0, 0], Value::Text("H31ABC".into()));
    check_point("pzem-004t-v3", "alarm", &[0xffff], Value::Text("alarm".into()));
    check_point("sma-tripower", "power", &[0x8000, 0x0000], Value::Null);
    check_point("sma-tripower", "power", &[0x0000, 0x0bb8], Value::Int(3000));
    check_point("sma-tripower", "yield_total", &[0xffff; 4], Value::Null);
    check_point("growatt-mic-min", "grid_power", &[0, 15_234], Value::Float(1523.4));
    check_point("growatt-mic-min@rtu", "frequency", &[5001], Value::Float(50.01));
    check_point("victron-gx", "battery_consumed_charge", &[123], Value::Float(-12.3));
    check_point("victron-gx@grid", "l1_power", &[0xffff, 0xff38], Value::Int(-200));
    check_point("xy-md02", "temperature", &[0xff9c], Value::Float(-10.0));
    check_point("xy-md02", "humidity", &[555], Value::Float(55.5));
}

/// The bytes of its manual: 0x5500 toggles; a coil address 0x0200 higher takes the time in 100 ms.
#[test]
fn a_relay_board_toggles_by_value_and_flashes_by_address() {
    let board = named("waveshare-relay-8");
    for (point, value, want) in [
        ("toggle_1", 21760, [5, 0x00, 0x00, 0x55, 0x00]),
        ("flash_1", 7, [5, 0x02, 0x00, 0x00, 0x07]),
        ("flash_8", 7, [5, 0x02, 0x07, 0x00, 0x07]),
    ] {
        let point = board.device.points.iter().find(|p| p.id.as_str() == point).expect("a point of the board");
        let mut pdu = Vec::new();
        write_asks(point, &Value::Uint(value)).expect("it may be written").encode(&mut pdu);
        assert_eq!(pdu, want, "{}", point.id);
    }
}

#[test]
fn the_ethernet_model_of_the_em24_has_another_map() {
    let register = |id: &str, point: &str| {
        let profile = named(id);
        profile.device.points.iter().find(|p| p.id.as_str() == point).map(|p| p.register.to_string()).unwrap()
    };
    assert_eq!(register("carlogavazzi-em24", "import_energy"), "input:66");
    assert_eq!(register("carlogavazzi-em24@e1", "import_energy"), "input:52");
    assert_eq!(register("carlogavazzi-em24@e1", "voltage_l1"), "input:0");
}

#[test]
fn the_list_names_what_is_there_and_how_sure_it_is() {
    let found = Found { profiles: vec![named("eastron-sdm120"), named("sma-tripower")], problems: Vec::new() };
    let text = list_text(&found, &Out::plain());
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("PROFILE         POINTS  VERIFIED  DEVICE"), "{text}");
    assert!(lines[1].starts_with("eastron-sdm120      13  none      Eastron SDM120, single-phase meter"), "{text}");
    assert!(lines[2].ends_with("(+1)"), "{text}");
}

#[test]
fn one_profile_is_shown_with_wire_addresses_and_requests() {
    let profile = named("eastron-sdm120");
    let text = show::text(&profile, &[], &Out::plain());
    assert!(text.contains("  factory   2400 8N1, unit 1"), "{text}");
    assert!(text.contains("total_energy     input:342       0x0156  f32                  kWh"), "{text}");
    assert!(text.contains("2 requests in one poll, 84 registers or bits:\n  input:0+80  input:342+4\n"), "{text}");
    let json = show::json(&profile, &[]);
    assert_eq!((json["points"][0]["register"].as_str(), json["requests"][1]["count"].as_u64()), (Some("input:0"), Some(4)));
    assert_eq!(json["probes"][0]["expect"]["min"], 80.0);
}

//! `[[inputs.modbus]]` in its three styles: registers, requests and metrics. Addresses there are wire addresses.

use super::{Fact, Facts};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Keys of the register style and the table each means.
const TABLES: [(&str, &str); 4] =
    [("coils", "coil"), ("discrete_inputs", "discrete"), ("input_registers", "input"), ("holding_registers", "holding")];

/// One field with what its surroundings say of it.
struct Field<'a> {
    table: &'a str,
    fields: &'a Table,
    order: &'a str,
    /// Bytes of a string: both, upper or lower.
    lane: &'a str,
}

/// `unit`: the slave to read, where the file has several; else the first.
pub fn read(text: &str, name: &str, unit: Option<u8>) -> Result<Facts, String> {
    let root: Table = text.parse().map_err(|e: toml::de::Error| e.message().to_owned())?;
    let plugins = root.get("inputs").and_then(|i| i.get("modbus")).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut facts = Facts { source: name.to_owned(), ..Facts::default() };
    let mut chosen = unit.map(i64::from);
    let mut others = BTreeSet::new();
    for plugin in plugins.iter().filter_map(Value::as_table) {
        let before = facts.points.len();
        one(plugin, &mut chosen, &mut others, &mut facts);
        if facts.points.len() > before && facts.model.is_empty() {
            facts.model = word(plugin, "name").to_owned();
            settings(plugin, chosen, &mut facts);
        }
    }
    for other in others {
        facts.left.push(format!("slave {other}, another device: import it with --unit {other}"));
    }
    Ok(facts)
}

fn one(plugin: &Table, chosen: &mut Option<i64>, others: &mut BTreeSet<i64>, facts: &mut Facts) {
    let lane = plugin.get("workarounds").and_then(|w| w.get("string_register_location")).and_then(Value::as_str).unwrap_or("both");
    let own = plugin.get("slave_id").and_then(Value::as_integer);
    let mut is_chosen = |slave: Option<i64>| {
        let slave = slave.or(own).unwrap_or(1);
        let is_it = *chosen.get_or_insert(slave) == slave;
        if !is_it {
            others.insert(slave);
        }
        is_it
    };
    for (key, table) in TABLES {
        for fields in tables(plugin, key) {
            if is_chosen(None) {
                field(&Field { table, fields, order: word(fields, "byte_order"), lane }, facts);
            }
        }
    }
    for block in tables(plugin, "request").chain(tables(plugin, "metric")) {
        if !is_chosen(block.get("slave_id").and_then(Value::as_integer)) {
            continue;
        }
        let common = word(block, "register");
        for fields in tables(block, "fields").filter(|f| f.get("omit").and_then(Value::as_bool) != Some(true)) {
            let own = word(fields, "register");
            // Both styles read holding registers where nothing is said.
            let table = [own, common, "holding"].into_iter().find(|t| !t.is_empty()).unwrap_or("holding");
            field(&Field { table, fields, order: word(block, "byte_order"), lane }, facts);
        }
    }
}

fn field(field: &Field<'_>, facts: &mut Facts) {
    let f = field.fields;
    let name = word(f, "name");
    let (address, count) = match f.get("address") {
        Some(Value::Integer(n)) => (*n, None),
        Some(Value::Array(list)) => {
            let all: Vec<i64> = list.iter().filter_map(Value::as_integer).collect();
            (all.iter().min().copied().unwrap_or(-1), Some(all.len()))
        }
        _ => (-1, None),
    };
    if !(0..=65_535).contains(&address) {
        return facts.left.push(format!("{name}: no address"));
    }
    let register = format!("{}:{address}", field.table);
    if matches!(field.table, "coil" | "discrete") {
        return facts.points.push(Fact { name: name.to_owned(), register, ..Fact::default() });
    }
    let said = [word(f, "data_type"), word(f, "type")].into_iter().find(|t| !t.is_empty()).unwrap_or("");
    let length = f.get("length").and_then(Value::as_integer).and_then(|n| usize::try_from(n).ok());
    let Some(kind) = kind(said, count, length, f.get("bit").and_then(Value::as_integer)) else {
        return facts.left.push(format!("{name} at {register}: type `{said}` has no kin here"));
    };
    let Some(order) = order(field.order) else {
        return facts.left.push(format!("{name} at {register}: byte order `{}` has no kin here", field.order));
    };
    let scale = f.get("scale").and_then(|s| s.as_float().or_else(|| s.as_integer().and_then(|n| i32::try_from(n).ok()).map(f64::from)));
    let more = match (kind.starts_with("string"), field.lane) {
        (true, "lower") => vec!["bytes = \"low\"".to_owned()],
        (true, "upper") => vec!["bytes = \"high\"".to_owned()],
        _ => Vec::new(),
    };
    facts.points.push(Fact { name: name.to_owned(), register, kind, order, scale, more, ..Fact::default() });
}

/// `registers`: how many addresses stand in the list, which gives fixed-point types their width.
fn kind(said: &str, registers: Option<usize>, length: Option<usize>, bit: Option<i64>) -> Option<String> {
    let wide = |sign: char| match registers {
        Some(1) => Some(format!("{sign}16")),
        Some(2) => Some(format!("{sign}32")),
        Some(4) => Some(format!("{sign}64")),
        _ => None,
    };
    let plain = match said {
        "INT8L" => "i8",
        "UINT8L" => "u8",
        "UINT8H" => "bits:8-15",
        "INT16" => "i16",
        "UINT16" => "u16",
        "INT32" => "i32",
        "UINT32" => "u32",
        "INT64" => "i64",
        "UINT64" => "u64",
        "FLOAT16" | "FLOAT16-IEEE" => "f16",
        "FLOAT32-IEEE" => "f32",
        // In the register style it is an old name of UFIXED; requests and metrics mean the float.
        "FLOAT32" if registers.is_none() => "f32",
        "FLOAT64" | "FLOAT64-IEEE" => "f64",
        "FIXED" => return wide('i'),
        "UFIXED" | "FLOAT32" => return wide('u'),
        "BIT" => return bit.filter(|b| (0..16).contains(b)).map(|b| format!("bit:{b}")),
        "STRING" => return registers.or(length).filter(|n| (1..=125).contains(n)).map(|n| format!("string:{n}")),
        _ => return None,
    };
    Some(plain.to_owned())
}

fn order(said: &str) -> Option<&'static str> {
    Some(match said {
        "" | "AB" | "ABCD" | "ABCDEFGH" => "ABCD",
        "CDAB" | "GHEFCDAB" => "CDAB",
        "BADC" | "BADCFEHG" => "BADC",
        "BA" | "DCBA" | "HGFEDCBA" => "DCBA",
        _ => return None,
    })
}

/// How the device is reached: a hint for whoever uses the profile.
fn settings(plugin: &Table, unit: Option<i64>, facts: &mut Facts) {
    let unit = unit.unwrap_or(1);
    let controller = word(plugin, "controller");
    if let Some(place) = controller.strip_prefix("tcp://") {
        let port: u16 = place.rsplit(':').next().and_then(|p| p.parse().ok()).unwrap_or(502);
        facts.keys.push(format!("net = {{ port = {port}, unit = {unit} }}"));
        if word(plugin, "transmission_mode").eq_ignore_ascii_case("RTUoverTCP") {
            facts.left.push("RTU over TCP: name the device's place with rtu_over_tcp".into());
        }
    } else if let Some(baud) = plugin.get("baud_rate").and_then(Value::as_integer) {
        let parity = match word(plugin, "parity") {
            "E" => "even",
            "O" => "odd",
            _ => "none",
        };
        facts.keys.push(format!("serial = {{ baud = {baud}, parity = \"{parity}\", unit = {unit} }}"));
    }
    let Some(more) = plugin.get("workarounds").and_then(Value::as_table) else { return };
    let pause = word(more, "pause_between_requests");
    match pause {
        "" | "0" | "0s" | "0ms" => {}
        _ if pause.ends_with("ms") || (pause.ends_with('s') && !pause.contains('.')) => facts.keys.push(format!("min_gap = \"{pause}\"")),
        _ => facts.left.push(format!("pause_between_requests = \"{pause}\": write min_gap")),
    }
    if more.get("one_request_per_field").and_then(Value::as_bool) == Some(true) {
        facts.left.push("one_request_per_field: write read_alone = true on the points that need it".into());
    }
    if !matches!(word(more, "pause_after_connect"), "" | "0" | "0s" | "0ms") {
        facts.left.push("pause_after_connect: write connect_delay on the line".into());
    }
}

fn word<'a>(table: &'a Table, key: &str) -> &'a str {
    table.get(key).and_then(Value::as_str).unwrap_or("")
}

fn tables<'a>(table: &'a Table, key: &str) -> impl Iterator<Item = &'a Table> {
    table.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_table)
}

//! One mistake in, its code and place out, as in the tests of the whole configuration.

use crate::config::{
    Loaded, Surroundings,
    framed::{End, FieldPlace, FieldType, Over, Piece, Sum},
    load_with, render,
    surroundings::Secrets,
};

const HEAD: &str = "[gateway]\nid = \"g\"\n[uplink.c]\nurl = \"mqtt://127.0.0.1:1883\"\n";
const LINE: &str = "[line.l]\nprotocol = \"ascii\"\nserial = { path = \"/dev/serial/by-id/x\" }\n";

fn load(toml: &str) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fieldgate.toml");
    std::fs::write(&path, toml).unwrap();
    let around = Surroundings { env: Box::new(|_| None), machine_id: None, profile_dirs: vec![], secrets: Secrets::Unread };
    load_with(&path, &around)
}

/// `code` of each problem, `code key` where `want` says so.
#[track_caller]
fn check_all(toml: &str, want: &[&str]) {
    let loaded = load(toml);
    let said: Vec<String> = loaded.problems.iter().map(|p| format!("{} {}", p.code.word(), p.key)).collect();
    assert_eq!(said, want, "{toml}\n{}", render::text(&loaded.problems, render::Style::default()));
    assert!(loaded.problems.iter().all(|p| !p.want.is_empty() && !p.found.is_empty()), "{:?}", loaded.problems);
    assert_eq!(loaded.config.is_none(), loaded.has_errors());
}

/// The keys of a device and of its point `p`.
#[track_caller]
fn device(keys: &str, point: &str, want: &[&str]) {
    check_all(&format!("{HEAD}{LINE}[device.d]\nline = \"l\"\n{keys}\n[device.d.point.p]\n{point}\n"), want);
}

const GOOD: &str = "request = 'S\\r'\nend = { terminator = '\\r' }\npattern = '(?<p>[0-9]+)'";

#[test]
fn a_device_says_how_it_is_asked() {
    device(GOOD, "", &[]);
    device("end = { silence = \"50ms\" }\npattern = '(?<p>.*)'", "", &["missing-key device.d"]);
    device("listen = true\nend = { silence = \"50ms\" }\npattern = '(?<p>.*)'", "", &[]);
    device("listen = true\npoll = \"1s\"\nend = { silence = \"50ms\" }\npattern = '(?<p>.*)'", "", &["misplaced-key device.d.poll"]);
    device(&format!("listen = true\n{GOOD}"), "", &["two-places device.d.request"]);
    device(&GOOD.replace("request = 'S\\r'", "request_hex = \"05 0D\""), "", &[]);
    device(&GOOD.replace("request = 'S\\r'", "request_hex = \"05 0\""), "", &["bad-value device.d.request_hex"]);
    device(&GOOD.replace("'S\\r'", "'S\\q'"), "", &["bad-value device.d.request"]);
    device(&GOOD.replace("'S\\r'", "''"), "", &["bad-value device.d.request"]);
    device(&GOOD.replace("'S\\r'", "'{unit}\\r'"), "", &["bad-value device.d.request"]);
    device(&GOOD.replace("'S\\r'", "'{value}\\r'"), "", &["unknown-placeholder device.d.request"]);
    device(&GOOD.replace("'S\\r'", "'S{checksum}\\r'"), "", &["unknown-placeholder device.d.request"]);
    device(&format!("{GOOD}\nunit = -1"), "", &["wrong-type device.d.unit"]);
    device(&format!("{GOOD}\npoll = \"10s\"\noffline_after = \"15s\""), "", &["flaps device.d.offline_after"]);
    device(&format!("{GOOD}\nmax_words = 3"), "", &["unknown-key device.d.max_words"]);
}

#[test]
fn a_frame_ends_somewhere_and_its_checksum_stands_somewhere() {
    let end = |end: &str, want: &[&str]| device(&GOOD.replace("{ terminator = '\\r' }", end), "", want);
    end("{ length = 18 }", &[]);
    end("{ start = '\\x02', terminator = '\\x03' }", &[]);
    end("{ start = '\\x02' }", &["bad-frame device.d.end"]);
    end("{ terminator = '\\r', length = 18 }", &["bad-frame device.d.end.length"]);
    end("{ terminator = '' }", &["bad-value device.d.end.terminator"]);
    end("{ length = 18, max_bytes = 10 }", &["bad-frame device.d.end.max_bytes"]);
    end("{ length = 5000 }", &["out-of-range device.d.end.length"]);
    end("{ silence = \"1ms\" }", &["out-of-range device.d.end.silence"]);
    device(&GOOD.replace("end = { terminator = '\\r' }\n", ""), "", &["missing-key device.d.end"]);
    let sum = |sum: &str, want: &[&str]| device(&format!("{GOOD}\nchecksum = {sum}"), "", want);
    sum("{ kind = \"xor8\", as = \"hex\", mark = \"*\" }", &[]);
    sum("{ kind = \"none\" }", &[]);
    sum("{ as = \"hex\" }", &["missing-key device.d.checksum.kind"]);
    sum("{ kind = \"xor8\" }", &["missing-key device.d.checksum.as"]);
    sum("{ kind = \"crc32\", as = \"hex\" }", &["bad-value device.d.checksum.kind"]);
    sum("{ kind = \"xor8\", as = \"hex\", place = \"after\", mark = \"*\" }", &["bad-frame device.d.checksum.mark"]);
    let after = "checksum = { kind = \"xor8\", as = \"hex\", place = \"after\" }";
    device(&format!("{}\n{after}", GOOD.replace("{ terminator = '\\r' }", "{ length = 18 }")), "", &["bad-frame device.d.checksum.place"]);
    let talker = "listen = true\npattern = '(?<p>.*)'\nend = ";
    device(&format!("{talker}{{ length = 18 }}"), "", &["bad-frame device.d.end"]);
    device(&format!("{talker}{{ start = \"#\", length = 18 }}"), "", &[]);
}

#[test]
fn a_point_stands_in_a_pattern_or_in_columns() {
    let point = |point: &str, want: &[&str]| device(GOOD, point, want);
    point("field = \"p\"", &[]);
    point("field = \"q\"", &["unknown-field device.d.point.p.field"]);
    point("field = \"p\"\ncolumns = [1, 2]", &["two-places device.d.point.p.columns"]);
    point("columns = [1, 2]", &["two-places device.d.point.p.columns"]);
    point("type = \"u16\"", &["bad-value device.d.point.p.type"]);
    point("register = \"holding:1\"", &["unknown-key device.d.point.p.register"]);
    point("values = { A = 1, B = true }", &["type-mismatch device.d.point.p.values"]);
    point("scale = 0", &["out-of-range device.d.point.p.scale"]);
    point("decimal = \";\"", &["bad-value device.d.point.p.decimal"]);
    let columns = GOOD.replace("pattern = '(?<p>[0-9]+)'", "");
    device(&columns, "columns = [4, 12]", &[]);
    device(&columns, "columns = [4]", &["bad-value device.d.point.p.columns"]);
    device(&columns, "columns = [5, 4]", &["bad-value device.d.point.p.columns"]);
    device(&columns, "field = \"p\"", &["unknown-field device.d.point.p.field"]);
    device(&columns, "", &["missing-key device.d.point.p"]);
    device(&GOOD.replace("[0-9]+", "[0-9"), "", &["bad-pattern device.d.pattern"]);
    device(&GOOD.replace("'(?<p>[0-9]+)'", "[]"), "", &[]);
    device(&GOOD.replace("'(?<p>", "'{unit}(?<p>"), "", &["unknown-placeholder device.d.pattern"]);
}

#[test]
fn a_write_sends_a_number_or_is_a_command() {
    let good = |write: &str, more: &str, want: &[&str]| device(GOOD, &format!("write = {write}\n{more}"), want);
    good("{ send = 'L {value:.1}\\r', expect = 'L A' }", "", &[]);
    good("{ send = 'Z\\r' }", "", &["bad-write device.d.point.p.write"]);
    good("{ send = 'Z\\r' }", "type = \"bool\"", &[]);
    good("{ send = 'Z {value}\\r' }", "type = \"bool\"", &["bad-write device.d.point.p.write"]);
    good("{ send = 'Z {value}\\r' }", "type = \"text\"", &["bad-write device.d.point.p.write"]);
    good("{ expect = 'Z A' }", "", &["missing-key device.d.point.p.write.send"]);
    good("{ send = 'Z {value}\\r', expect = 'Z (' }", "", &["bad-pattern device.d.point.p.write.expect"]);
    good("{ send = 'Z {value}\\r', refuse = 'E' }", "", &["bad-write device.d.point.p.write.refuse"]);
    good("{ send = 'Z {value}\\r', min = 5, max = 1 }", "", &["min-above-max device.d.point.p.write.min"]);
    good("true", "", &["wrong-type device.d.point.p.write"]);
    // Only written: there is nothing that would show it alive.
    let other = GOOD.replace("<p>", "<q>");
    device(&other, "write = { send = 'Z\\r' }", &["no-points device.d.point"]);
    device(&other, "write = { send = 'Z\\r' }\n[device.d.point.q]", &[]);
}

#[test]
fn a_line_says_what_is_spoken_and_talkers_need_one_rule() {
    let on = |line: &str, want: &[&str]| {
        check_all(&format!("{HEAD}[line.l]\n{line}\n[device.d]\nline = \"l\"\n{GOOD}\n[device.d.point.p]\n"), want);
    };
    on("protocol = \"ascii\"\ntcp = \"box:4001\"", &[]);
    on("protocol = \"ascii\"\ntcp = \"box\"", &["bad-address line.l.tcp"]);
    on("protocol = \"ascii\"\nrtu_over_tcp = \"box:4001\"", &["misplaced-key line.l.rtu_over_tcp"]);
    on(
        "protocol = \"asci\"\ntcp = \"box:4001\"\n#",
        &[
            "bad-value line.l.protocol",
            "missing-key device.d.unit",
            "unknown-key device.d.request",
            "unknown-key device.d.end",
            "unknown-key device.d.pattern",
            "missing-key device.d.point.p.register",
            "missing-key device.d.point.p.type",
        ],
    );
    let two = |second: &str, want: &[&str]| {
        let talker =
            "[device.t]\nline = \"l\"\nlisten = true\nend = { terminator = '\\r' }\npattern = '(?<p>[0-9]+)'\n[device.t.point.p]\n";
        check_all(&format!("{HEAD}{LINE}{talker}[device.u]\nline = \"l\"\n{second}\n[device.u.point.p]\n"), want);
    };
    two(GOOD, &[]);
    two(&GOOD.replace("'\\r' }", "'\\n' }"), &["bad-frame device.u.end"]);
}

#[test]
fn what_was_written_is_what_is_meant() {
    let toml = format!(
        "{HEAD}{LINE}[group.g]\neach = \"1..2\"\nid = \"c-{{n}}\"\nline = \"l\"\nunit = \"0{{n}}\"\n\
         request = '#{{unit}}{{checksum}}\\r'\nend = {{ start = '#', terminator = '\\r' }}\n\
         checksum = {{ kind = \"crc16-modbus\", over = \"frame\", as = \"bytes\" }}\n\
         pattern = '{{unit}}(?<count>[0-9]{{6}})'\n[group.g.point.count]\ntype = \"text\"\n"
    );
    let loaded = load(&toml);
    let config = loaded.config.unwrap_or_else(|| panic!("{}", render::text(&loaded.problems, render::Style::default())));
    assert_eq!(config.framed.len(), 2);
    let second = &config.framed[1];
    assert_eq!(second.request.as_deref(), Some(&[Piece::Bytes(b"#02".to_vec()), Piece::Checksum, Piece::Bytes(b"\r".to_vec())][..]));
    assert_eq!((&second.frame.end, second.frame.start.as_slice()), (&End::Terminator(b"\r".to_vec()), &b"#"[..]));
    let sum = second.frame.checksum.as_ref().unwrap();
    assert_eq!((sum.kind, sum.over, sum.hex, sum.after, sum.little), (Sum::Crc16Modbus, Over::Frame, false, false, true));
    assert!(second.is_addressed && second.patterns[0].regex().is_match("02123456") && !second.patterns[0].regex().is_match("01123456"));
    assert_eq!((&second.points[0].place, second.points[0].kind), (&Some(FieldPlace::Field("count".into())), FieldType::Text));
    assert_eq!(config.line_of(&second.id), Some(&second.line));
}

use super::*;
use crate::{
    config::{Code, Secrets},
    model::Parity,
};

const METER: &str = r#"
vendor = "Acme"
model = "M1"
source = "manual page 12"
serial = { baud = 9600, parity = "none", unit = 7 }
max_words = 11

[[probe]]
register = "input:11"
type = "u16"
equals = 71

[point.voltage]
register = "input:0"
type = "i32"
order = "CDAB"
scale = 0.1
unit = "V"

[point.code]
register = "input:11"
type = "u16"

[variant.net]
model = "M1 Ethernet"
without = ["code"]
net = { port = 502, unit = 1 }
max_words = 20

[[variant.net.probe]]
register = "input:0"
type = "u16"
min = 100
max = 300

[variant.net.point.voltage]
type = "u16"

[variant.net.point.power]
register = "input:40"
type = "i32"
unit = "W"
"#;

fn around(dir: &Path) -> Surroundings {
    Surroundings { env: Box::new(|_| None), machine_id: None, profile_dirs: vec![dir.to_owned()], secrets: Secrets::Unread }
}

fn load(text: &str) -> Found {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("acme-m1.toml"), text).unwrap();
    profiles(Path::new("nowhere/fieldgate.toml"), &around(dir.path()))
}

#[test]
fn a_variant_is_an_entry_of_its_own_with_what_it_changes() {
    let found = load(METER);
    assert_eq!(found.problems, []);
    let [base, net] = &found.profiles[..] else { panic!("{found:?}") };
    assert_eq!((base.id.as_str(), net.id.as_str()), ("acme-m1", "acme-m1@net"));
    assert_eq!((base.about.title.as_str(), net.about.title.as_str()), ("Acme M1", "Acme M1 Ethernet"));
    let serial = Settings { baud: 9600, parity: Parity::None, bits: 8, stop: 1 };
    assert_eq!((base.about.serial, base.about.unit, base.about.port), (Some(serial), Some(7), None));
    assert_eq!((net.about.port, net.about.unit), (Some(502), Some(1)));
    assert_eq!((net.about.source.as_slice(), net.about.verified), (&["manual page 12".to_owned()][..], Verified::None));
    let names = |p: &Profile| p.device.points.iter().map(|p| format!("{} {} {}", p.id, p.register, p.kind.word())).collect::<Vec<_>>();
    assert_eq!(names(base), ["voltage input:0 i32", "code input:11 u16"]);
    assert_eq!(names(net), ["voltage input:0 u16", "power input:40 i32"]);
    assert_eq!((base.device.max_words, net.device.max_words), (11, 20));
    assert_eq!((&base.probes[0].expect, &net.probes[0].expect), (&Expect::Equals(71.0), &Expect::Between { min: 100.0, max: 300.0 }));
}

#[test]
fn without_a_star_a_variant_begins_empty() {
    let found =
        load(&METER.replace("without = [\"code\"]", "without = [\"*\"]").replace("[variant.net.point.voltage]\ntype = \"u16\"\n", ""));
    assert_eq!(found.problems, []);
    let names: Vec<&str> = found.profiles[1].device.points.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(names, ["power"]);
}

#[test]
fn a_profile_fits_only_if_every_probe_does() {
    let found = load(METER);
    let [base, net] = &found.profiles[..] else { panic!() };
    for (profile, read, want) in [
        (base, vec![Some(Value::Uint(71))], Some(4)),
        (base, vec![Some(Value::Uint(72))], None),
        (base, vec![Some(Value::Null)], None),
        (base, vec![None], None),
        (base, vec![], None),
        (net, vec![Some(Value::Uint(230))], Some(1)),
        (net, vec![Some(Value::Float(301.0))], None),
    ] {
        assert_eq!(profile.matches(&read), want, "{} {read:?}", profile.id);
    }
    assert!(Expect::Begins("EM24".into()).fits(&Value::Text("EM24DIN".into())));
    assert!(!Expect::Begins("EM24".into()).fits(&Value::Uint(24)));
}

#[test]
fn what_is_wrong_in_a_profile_is_said_with_its_place() {
    for (from, to, want) in [
        ("equals = 71", "", (Code::MissingKey, "probe")),
        ("equals = 71", "min = 3\nmax = 2", (Code::MinAboveMax, "probe.min")),
        ("without = [\"code\"]", "without = [\"cod\"]", (Code::BadValue, "variant.net.without")),
        ("source = ", "sauce = ", (Code::UnknownKey, "sauce")),
        ("max_words = 11", "poll = \"1s\"", (Code::UnknownKey, "poll")),
        ("type = \"i32\"\nunit", "type = \"i33\"\nunit", (Code::BadValue, "point.power.type")),
        ("[variant.net]", "[variant.net.variant.x]\n[variant.net]", (Code::MisplacedKey, "variant.net.variant")),
    ] {
        let text = METER.replace(from, to);
        assert_ne!(text, METER);
        let found = load(&text);
        assert_eq!(found.profiles, [], "{to}");
        let keys: Vec<_> = found.problems.iter().map(|p| (p.code, p.key.as_str())).collect();
        assert!(keys.contains(&want), "{to}: {keys:?}");
    }
}

#[test]
fn a_device_names_a_variant_behind_an_at_sign() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("acme-m1.toml"), METER).unwrap();
    let main = dir.path().join("fieldgate.toml");
    for (profile, points, because) in
        [("acme-m1", 2, ""), ("acme-m1@net", 2, ""), ("acme-m1@nett", 0, "did you mean `net`?"), ("acme-m1@serial", 0, "its variants: net")]
    {
        let device = format!(
            "[gateway]\nid = \"g\"\n[device.a]\ntcp = \"plc\"\nunit = 1\nprofile = \"{profile}\"\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1\"\n"
        );
        std::fs::write(&main, device).unwrap();
        let loaded = crate::config::load_with(&main, &around(dir.path()));
        let devices = loaded.config.map(|c| c.devices).unwrap_or_default();
        assert_eq!(devices.first().map_or(0, |d| d.points.len()), points, "{profile}: {:?}", loaded.problems);
        let said = loaded.problems.iter().find(|p| p.code == Code::UnknownProfile);
        assert_eq!(said.map_or("", |p| p.because.as_str()), because, "{profile}");
        assert_eq!(devices.first().and_then(|d| d.profile.as_deref()), (points > 0).then_some(profile));
    }
}

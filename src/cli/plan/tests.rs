use super::*;

fn load(text: &str) -> (tempfile::TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fieldgate.toml");
    std::fs::write(&path, text).unwrap();
    let config = config::load_with(&path, &Surroundings::real(Secrets::Unread)).config.expect("it is good");
    (dir, config)
}

/// Two meters at 9600 8E1 with forty registers each.
fn meters(poll: &str) -> (tempfile::TempDir, Config) {
    let mut toml = format!(
        "[gateway]\nid = \"g\"\n[line.meters]\nserial = {{ path = \"/dev/serial/by-id/x\", baud = 9600, parity = \"even\" }}\n[group.meter]\neach = \"1..2\"\nline = \"meters\"\nunit = \"{{n}}\"\npoll = \"{poll}\"\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1\"\n"
    );
    for n in 0..40 {
        let _ = write!(toml, "[group.meter.point.r{n}]\nregister = \"input:{n}\"\ntype = \"u16\"\n");
    }
    load(&toml)
}

fn fact(about: &str, key: &str, value: &str) -> Learned {
    Learned { about: about.into(), key: key.into(), value: value.into() }
}

fn known(config: &Config, facts: &[Learned]) -> Known {
    Known { holes: config.devices.iter().map(|d| (d.id.clone(), line::remembered(d, facts))).collect(), ..Known::default() }
}

#[test]
fn a_device_is_shown_request_by_request_with_what_it_refuses() {
    let (_dir, config) = meters("2s");
    let known = known(&config, &[fact("meter-1", "asked", "unit 1 on meters"), fact("meter-1", "hole input:30+1", "2")]);
    let text = requests(&config, &line_time::plans(&config, &known), &known, "meter-1", &Out::plain());
    for part in [
        "unit 1 on meters, polled every 2 s",
        "input:0+30",
        "input:31+9",
        "r0, r1, r2, r3, r4, r5 and 24 more",
        "input:30+1",
        "exception 2, no such register   r30",
        "--forget meter-1",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let other = requests(&config, &line_time::plans(&config, &known), &known, "meter-2", &Out::plain());
    assert!(other.contains("input:0+40") && !other.contains("Left out"), "{other}");
}

#[test]
fn holes_of_another_unit_are_not_counted() {
    let (_dir, config) = meters("2s");
    let known = known(&config, &[fact("meter-1", "asked", "unit 9 on meters"), fact("meter-1", "hole input:30+1", "2")]);
    assert!(requests(&config, &line_time::plans(&config, &known), &known, "meter-1", &Out::plain()).contains("input:0+40"));
}

#[test]
fn the_verdict_is_the_exit_code() {
    for (poll, want) in [("2s", ExitCode::SUCCESS), ("300ms", ExitCode::FAILURE), ("100ms", ExitCode::from(EXIT_CONFIG))] {
        let (_dir, config) = meters(poll);
        let plans = line_time::plans(&config, &Known::default());
        assert_eq!(format!("{:?}", verdict(&plans)), format!("{want:?}"), "{poll}: {}", plans[0].utilisation);
    }
}

#[test]
fn measured_answers_replace_the_assumed_ones_and_the_saving_is_named() {
    let (_dir, config) = meters("2s");
    let mut known = Known::default();
    let assumed = line_time::plans(&config, &known)[0].utilisation;
    let text = line_time::text(&line_time::plans(&config, &known), Some(&config), &known, &Out::plain());
    assert!(text.contains("assumed at 20 ms") && text.contains("Biggest saving: baud = 19200"), "{text}");
    known.answer_ms.insert(config.devices[0].id.clone(), 220.0);
    known.is_measured = true;
    let plans = line_time::plans(&config, &known);
    assert!((plans[0].utilisation - assumed - 0.1).abs() < 0.001, "200 ms more in 2 s: {assumed} and {}", plans[0].utilisation);
    let text = line_time::text(&plans, Some(&config), &known, &Out::plain());
    assert!(text.contains("as the daemon saw them"), "{text}");
}

#[test]
fn a_store_of_a_version_that_learned_nothing_is_read_as_empty() {
    let dir = tempfile::tempdir().unwrap();
    let old = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    old.execute_batch(include_str!("../../store/migrations/state_001.sql")).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    assert_eq!(store::learned(dir.path()).unwrap(), []);
    store::forget(dir.path(), "meter-1").unwrap();
}

#[test]
fn what_was_learned_is_read_and_forgotten_with_the_daemon_stopped() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(store::learned(dir.path()).unwrap(), []);
    store::forget(dir.path(), "meter-1").unwrap();
    let options = store::Options {
        data_dir: dir.path().into(),
        buffer: load("[gateway]\nid = \"g\"\n").1.buffer,
        clock: crate::system::clock::Clock::Real,
        backing: store::Backing::Inline,
        linger: std::time::Duration::ZERO,
        uplinks: vec![],
        epoch_seed: None,
    };
    let (store, _) = store::Store::open(options.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let change = |about: &str, key: &str, value: &str, forget| store::Change::Learned {
        fact: fact(about, key, value),
        forget,
        at: crate::model::Boot(1),
    };
    let changes = vec![
        change("meter-1", "hole input:30+1", "2", false),
        change("meter-1", "hole input:31+1", "2", false),
        change("meter-1", "hole input:31+1", "2", true),
        change("meter-1", "hole input:30+1", "3", false),
        change("meter-2", "hole input:30+1", "2", false),
    ];
    runtime.block_on(store.submit(changes, |done| done.unwrap()));
    assert_eq!(store.learned().unwrap().len(), 2);
    assert!(store::forget(dir.path(), "meter-1").is_err(), "the daemon has it");
    drop(store);
    assert_eq!(store::learned(dir.path()).unwrap()[0], fact("meter-1", "hole input:30+1", "3"));
    store::forget(dir.path(), "meter-1").unwrap();
    let (_store, restored) = store::Store::open(options).unwrap();
    assert_eq!(restored.learned, [fact("meter-2", "hole input:30+1", "2")]);
}

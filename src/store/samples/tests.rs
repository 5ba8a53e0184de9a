//! The local history as whoever asks sees it: over commits, restarts, age, size and damage.

use super::*;
use crate::{
    config::history::Exceptions,
    model::{Boot, ClockReading, Quality, Value, WallMs},
    store::boots::BootRow,
};
use std::time::Duration;

const HOUR: u64 = 3_600_000;

struct Rig {
    dir: tempfile::TempDir,
    config: History,
    samples: Option<Samples>,
    clocks: Arc<Clocks>,
    /// Of a machine that has run for two hours: age is judged by now.
    clock: Clock,
}

fn config() -> History {
    let day = Duration::from_secs(86_400);
    History {
        keep: day * 7,
        minutes: day * 30,
        quarters: day * 365,
        disk_max: 64 << 20,
        commit_every: Duration::from_secs(3600),
        points: Exceptions::default(),
    }
}

fn clocks(boot: &str, offset_ms: i64) -> Arc<Clocks> {
    let row = BootRow { id: crate::model::BootIndex(1), uuid: boot.into(), clock: ClockReading::synchronised(offset_ms), seen: Boot(0) };
    Arc::new(Clocks::new(row, &[], &[], &BTreeMap::new()))
}

impl Rig {
    fn new(config: History) -> Rig {
        let clock = Clock::Paused { start: tokio::time::Instant::now(), base: Boot::from_ms(2 * HOUR), offset_ms: 0 };
        let mut rig = Rig { dir: tempfile::tempdir().unwrap(), config, samples: None, clocks: clocks("a", 0), clock };
        rig.restart();
        rig
    }

    /// Everything is on the disk afterwards.
    fn restart(&mut self) {
        self.samples.iter().for_each(Samples::close);
        self.samples = None;
        self.samples = Some(Samples::open(self.dir.path(), self.config.clone(), self.clock, Arc::clone(&self.clocks)).unwrap());
    }

    fn samples(&self) -> &Samples {
        self.samples.as_ref().unwrap()
    }

    fn put(&self, ms: u64, values: &[(&str, Value)]) {
        let points = values.iter().map(|(p, _)| PointId::parse(p).unwrap()).collect();
        let values = values.iter().map(|(_, v)| v.clone()).collect();
        self.samples().put(&Reading { device: device(), at: Boot::from_ms(ms), points, values, quality: None });
    }

    fn slots(&self, from: u64, to: u64, step_s: u64) -> Vec<(u64, f64, f64, f64, u64)> {
        let past = Past { from: wall(from), to: wall(to), step: Duration::from_secs(step_s) };
        let all = self.samples().slots(&device(), &[], past).unwrap();
        let of_a = all.get(&PointId::parse("a").unwrap()).cloned().unwrap_or_default();
        of_a.iter().map(|(at, s)| (at.0.cast_unsigned(), s.least, s.mean, s.greatest, s.count)).collect()
    }

    fn rows(&self, from: u64, to: u64) -> Vec<(String, u64, Value)> {
        let (mut from, mut found) = (Some(wall(from)), Vec::new());
        while let Some(next) = from {
            let past = Past { from: next, to: wall(to), step: Duration::from_secs(1) };
            let rows = self.samples().rows(&device(), &[], past).unwrap();
            let flat = rows.points.into_iter().flat_map(|(p, all)| all.into_iter().map(move |(at, v, q)| (p.clone(), at, v, q)));
            found.extend(flat.inspect(|r| assert_eq!(r.3, Quality::Good)).map(|(p, at, v, _)| (p.to_string(), at.0.cast_unsigned(), v)));
            from = rows.next;
        }
        found
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.samples.iter().for_each(Samples::close);
    }
}

fn device() -> DeviceId {
    DeviceId::parse("d").unwrap()
}

fn wall(ms: u64) -> WallMs {
    WallMs(ms.cast_signed())
}

#[test]
fn what_was_read_is_there_before_and_after_it_is_written() {
    let mut rig = Rig::new(config());
    rig.put(1000, &[("a", Value::Int(1)), ("name", Value::Text("x".into()))]);
    rig.put(2000, &[("a", Value::Int(3)), ("name", Value::Null)]);
    let (rows, slots) = (rig.rows(0, HOUR), rig.slots(0, 10_000, 5));
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0], ("a".into(), 1000, Value::Int(1)));
    assert_eq!(slots, [(0, 1.0, 2.0, 3.0, 2)]);
    rig.restart();
    assert_eq!((rig.rows(0, HOUR), rig.slots(0, 10_000, 5)), (rows, slots));
    rig.put(6000, &[("a", Value::Float(0.5))]);
    assert_eq!(rig.slots(0, 10_000, 5), [(0, 1.0, 2.0, 3.0, 2), (5000, 0.5, 0.5, 0.5, 1)], "from the disk and from RAM");
    assert_eq!(rig.slots(0, HOUR, 60), [(0, 0.5, 1.5, 3.0, 3)]);
    assert_eq!(rig.rows(2000, 6000).len(), 2, "the end is not part of it");
    assert!(
        rig.samples()
            .slots(&DeviceId::parse("other").unwrap(), &[], Past { from: wall(0), to: wall(9), step: Duration::from_secs(1) })
            .unwrap()
            .is_empty()
    );
}

#[test]
fn minutes_stay_when_the_samples_have_gone() {
    let mut rig = Rig::new(History { keep: Duration::from_secs(60), ..config() });
    let now = rig.clock.now().ms();
    let old = (now - 600_000) / 60_000 * 60_000;
    for n in 0..10 {
        rig.put(old + n * 1000, &[("a", Value::Int(n.cast_signed()))]);
    }
    rig.restart();
    rig.put(now, &[("a", Value::Int(7))]);
    rig.restart();
    let left: Vec<_> = rig.rows(0, now + 1).into_iter().map(|r| r.1).collect();
    assert_eq!(left, [now], "the samples of ten minutes ago have gone");
    let slots = rig.slots(old, now + 1, 3600);
    assert_eq!(slots.iter().map(|s| s.4).sum::<u64>(), 11, "{slots:?}");
}

#[test]
fn the_file_stays_within_its_size_and_the_oldest_samples_go_first() {
    let mut rig = Rig::new(History { disk_max: 1 << 20, ..config() });
    let mut seed = 1u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Value::Float(f64::from_bits(0x3ff0_0000_0000_0000 | seed >> 12))
    };
    for round in 0..40u64 {
        for n in 0..6000 {
            rig.put((round * 6000 + n) * 1000, &[("a", noise())]);
        }
        rig.restart();
    }
    let size = std::fs::metadata(rig.dir.path().join("samples.db")).unwrap().len();
    assert!(size < 1 << 20, "{size}");
    let all = 40 * 6000;
    let rows = rig.rows(0, all * 1000);
    assert!((20_000..200_000).contains(&rows.len()), "{}", rows.len());
    assert_eq!(rows.last().map(|r| r.1), Some((all - 1) * 1000), "the newest stays");
    let slots = rig.slots(0, all * 1000, 3600);
    assert_eq!(slots.iter().map(|s| s.4).sum::<u64>(), all, "the minutes of all of it are there");
}

#[test]
fn points_have_times_of_their_own() {
    let mut points = Exceptions::default();
    points.devices.insert(device(), Duration::ZERO);
    points.points.entry(device()).or_default().insert(PointId::parse("a").unwrap(), Duration::from_secs(86_400));
    let mut rig = Rig::new(History { points, ..config() });
    rig.put(1000, &[("a", Value::Int(1)), ("b", Value::Int(2))]);
    rig.restart();
    assert_eq!(rig.rows(0, HOUR), [("a".to_owned(), 1000, Value::Int(1))]);
}

#[test]
fn a_clock_that_was_corrected_moves_what_was_recorded_before() {
    let mut rig = Rig::new(config());
    rig.put(1000, &[("a", Value::Int(1))]);
    rig.restart();
    rig.clocks.set(ClockReading::synchronised(1_000_000), Boot(2_000_000));
    assert_eq!(rig.rows(0, 2 * HOUR), [("a".to_owned(), 1_001_000, Value::Int(1))]);
    // Another boot, whose clock begins again: what the file says of the first one counts.
    rig.put(2000, &[("a", Value::Int(2))]);
    rig.samples().close();
    rig.clocks = clocks("b", 5_000_000);
    rig.restart();
    rig.put(1500, &[("a", Value::Int(3))]);
    let found: Vec<u64> = rig.rows(0, 2 * HOUR).into_iter().map(|r| r.1).collect();
    assert_eq!(found, [1_001_000, 1_002_000, 5_001_500]);
}

#[test]
fn a_damaged_history_begins_anew_and_nothing_else_ends() {
    let mut rig = Rig::new(config());
    rig.put(1000, &[("a", Value::Int(1))]);
    rig.samples().close();
    rig.samples = None;
    let path = rig.dir.path().join("samples.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let _ = std::fs::remove_file(rig.dir.path().join("samples.db-wal"));
    rig.restart();
    rig.put(2000, &[("a", Value::Int(2))]);
    rig.restart();
    assert_eq!(rig.rows(0, HOUR), [("a".to_owned(), 2000, Value::Int(2))]);
}

#[test]
fn what_finds_no_room_in_ram_is_counted() {
    let mut ram = Ram::default();
    let reading = |n: u64| Reading {
        device: device(),
        at: Boot(n),
        points: (0..100).map(|n| PointId::parse(&format!("p{n}")).unwrap()).collect(),
        values: vec![Value::Int(1); 100],
        quality: None,
    };
    let mut hurries = 0;
    for n in 0..5000 {
        hurries += u32::from(ram.put(&reading(n), &config()));
    }
    assert!(hurries > 1000 && ram.lost > 0);
    let kept: u64 = ram.take().values().flatten().map(Frame::samples).sum();
    assert_eq!(kept + ram.lost, 500_000);
    assert!(!ram.put(&reading(1), &config()), "there is room again");
}

#[test]
fn what_was_written_is_answered_with_the_daemon_stopped() {
    let mut rig = Rig::new(config());
    rig.clocks = clocks("a", 5000);
    rig.restart();
    rig.put(1000, &[("a", Value::Int(1))]);
    rig.restart();
    let at_rest = Samples::at_rest(rig.dir.path(), config());
    let past = Past { from: wall(0), to: wall(HOUR), step: Duration::from_secs(60) };
    let rows = at_rest.rows(&device(), &[], past).unwrap().points;
    assert_eq!(rows[&PointId::parse("a").unwrap()], [(wall(6000), Value::Int(1), Quality::Good)], "by the clock that the file knows");
    at_rest.close();
    let nothing = Samples::at_rest(&rig.dir.path().join("nothing"), config());
    assert!(nothing.slots(&device(), &[], past).unwrap().is_empty());
}

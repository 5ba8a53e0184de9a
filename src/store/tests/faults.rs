//! Damage that disks really do, done to real files: at the start and while the store runs. Nothing panics, nothing that
//! was sent before is sent with another content, and what cannot be read is named.

use super::*;
use crate::{
    limits,
    model::{ClockReading, DeadLetter, Epoch, StoreState, Stream},
    store::{db, health::Db, quarantine::beside},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

const POINTS: usize = 700;

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

type Contents = BTreeMap<(Epoch, u64), String>;

struct House {
    dir: TempDir,
    store: Option<Store>,
    restored: Restored,
    now: Boot,
    /// What was sealed under each key, in all runs.
    sealed: Contents,
}

impl House {
    fn new() -> House {
        let dir = dir();
        let (store, restored) = Store::open(options(dir.path(), Backing::Inline)).unwrap();
        let house = House { dir, store: Some(store), restored, now: Clock::Real.now(), sealed: Contents::new() };
        house.say_epoch();
        house
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// As the engine does: the first event of an epoch.
    fn say_epoch(&self) {
        run(submit(self.store(), vec![Change::Event(event(self.restored.epoch.0 % 1000))])).unwrap();
    }

    /// Each batch its own segment.
    fn seal(&mut self, count: u64) {
        for _ in 0..count {
            let tag = self.sealed.len() as u64;
            let seq = self.store().spool().append(frames(tag, POINTS, self.now), vec![], self.now);
            let sealed = format!("{:?}", frames(tag, POINTS, Boot::from_ms(self.now.ms())));
            assert_eq!(self.sealed.insert((self.restored.epoch, seq), sealed), None);
            self.pass(1500);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.store().poll(self.now);
    }

    /// Lets whatever is to be mended be mended.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.pass(1100);
        }
    }

    /// As `kill -9` leaves it: closing would move the logs into the files.
    fn kill(&mut self) {
        let names = ["state.db", "spool.db"].into_iter().flat_map(|file| ["", "-wal", "-shm"].map(|tail| beside(&self.path(file), tail)));
        let files: Vec<_> = names.filter_map(|path| fs::read(&path).ok().map(|bytes| (path, bytes))).collect();
        self.store = None;
        for (path, bytes) in files {
            fs::write(path, bytes).unwrap();
        }
    }

    /// What is in the log is read from there: damage to the file alone would not be seen.
    fn empty_log(&self, file: &str) {
        let db = rusqlite::Connection::open(self.path(file)).unwrap();
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }

    fn start(&mut self) {
        let (store, restored) = Store::open(options(self.dir.path(), Backing::Inline)).unwrap();
        assert!(self.sealed.keys().all(|(epoch, _)| *epoch != restored.epoch), "an epoch is used twice");
        (self.store, self.restored) = (Some(store), restored);
        self.say_epoch();
        self.settle();
    }

    /// All that is still to come. Whatever comes is what was sealed under its key.
    #[track_caller]
    fn rest(&self) -> BTreeSet<(Epoch, u64)> {
        let spool = self.store().spool();
        let mut keys = BTreeSet::new();
        while let Some(out) = spool.next_backlog(U).or_else(|| spool.next_live(U)) {
            let key = (out.sealed.key.epoch, out.sealed.key.seq);
            assert_eq!(self.sealed.get(&key), Some(&format!("{:?}", out.sealed.frames)), "{key:?} has another content");
            keys.insert(key);
        }
        keys
    }

    /// Events: numbers announced as gaps, with their samples, and changes of the files.
    fn told(&self) -> (BTreeSet<(Epoch, u64)>, u64, Vec<String>) {
        let (mut gone, mut count, mut files) = (BTreeSet::new(), 0, Vec::new());
        while let Some(message) = self.store().events().next(U) {
            for e in message.events.iter() {
                match &e.kind {
                    EventKind::Gap { epoch, stream: Stream::Telemetry, from, to, samples, .. } => {
                        gone.extend((*from..=*to).map(|seq| (*epoch, seq)));
                        count += samples;
                    }
                    EventKind::Store { file, state, .. } => files.push(format!("{file} {}", state.word())),
                    _ => {}
                }
            }
        }
        (gone, count, files)
    }

    fn states(&self) -> [StoreState; 2] {
        self.store().health().iter().map(|h| h.state).collect::<Vec<_>>().try_into().unwrap()
    }
}

fn garbage(path: &Path, from: u64, len: usize) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let bytes: Vec<u8> = (0..len).map(|n| u8::try_from((n * 7 + n / 256 * 13 + 5) % 256).unwrap_or(0)).collect();
    file.write_all_at(&bytes, from).unwrap();
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

/// Of the files that are damaged.
const PAGE: u64 = db::Page::NEW.bytes();
/// Half of one.
const SECTOR: usize = 512;

type Damage = (&'static str, fn(&Path));

/// Done to a file and to its log.
const DAMAGES: &[Damage] = &[
    ("garbage in the middle", |p| garbage(p, size(p) / 2 / PAGE * PAGE, 8192)),
    ("garbage in the second page", |p| garbage(p, PAGE, SECTOR * 2)),
    ("garbage at the end", |p| garbage(p, size(p).saturating_sub(9000), 9000)),
    ("a torn page", |p| garbage(p, size(p) / 3 / PAGE * PAGE + PAGE / 2, SECTOR)),
    ("one sector of zeros in each page", |p| (0..size(p) / PAGE).for_each(|page| write_zeros(p, page * PAGE + PAGE / 2, SECTOR))),
    ("a header of zeros", |p| write_zeros(p, 0, 100)),
    ("a first page of zeros", |p| write_zeros(p, 0, SECTOR * 2)),
    ("cut to half", |p| set_len(p, size(p) / 2)),
    ("cut within a page", |p| set_len(p, size(p) / 2 + 1000)),
    ("cut to nothing", |p| set_len(p, 0)),
    ("removed", |p| fs::remove_file(p).unwrap()),
    ("a log of garbage", |p| garbage(&beside(p, "-wal"), 32, 9000)),
    ("a log cut within a frame", |p| set_len(&beside(p, "-wal"), size(&beside(p, "-wal")) / 2 + 77)),
    ("a log removed", |p| fs::remove_file(beside(p, "-wal")).unwrap()),
    ("an index of garbage", |p| garbage(&beside(p, "-shm"), 0, 4096)),
];

fn needs_log(name: &str) -> bool {
    name.contains("a log") || name.contains("an index")
}

fn write_zeros(path: &Path, from: u64, len: usize) {
    use std::os::unix::fs::FileExt;
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(&vec![0; len], from).unwrap();
}

fn set_len(path: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[track_caller]
fn check_at_start(file: &str, (name, damage): Damage) {
    let mut house = House::new();
    house.seal(12);
    house.kill();
    // A second run, so that there is an epoch with nothing but what the disk has.
    house.start();
    house.seal(4);
    house.kill();
    if !needs_log(name) {
        house.empty_log(file);
    }
    damage(&house.path(file));
    house.start();
    let (_, _, files) = house.told();
    let rest = house.rest();
    house.seal(3);
    let after = house.rest();
    assert_eq!(after.len(), 3, "{file} {name}: it goes on");
    run(submit(house.store(), vec![Change::Event(event(1))])).unwrap_or_else(|e| panic!("{file} {name}: {e}"));
    if files.iter().any(|f| f.ends_with("quarantined")) {
        assert!(house.states().contains(&StoreState::Quarantined), "{file} {name}: status says so");
    }
    assert!(house.states().iter().all(|s| s.is_written()), "{file} {name}: {:?}", house.store().health());
    if file == "state.db" {
        assert_eq!(rest.len(), 16, "{name}: telemetry does not depend on state.db");
    }
    // What was carried over is there after one more start.
    let waiting = house.store().spool().figures(house.now).waiting_batches;
    house.kill();
    house.start();
    assert_eq!(house.store().spool().figures(house.now).waiting_batches, waiting, "{file} {name}: after one more start");
}

#[test]
fn a_damaged_spool_at_the_start_is_survived() {
    DAMAGES.iter().for_each(|d| check_at_start("spool.db", *d));
}

#[test]
fn a_damaged_state_at_the_start_is_survived() {
    DAMAGES.iter().for_each(|d| check_at_start("state.db", *d));
}

#[track_caller]
fn check_while_running(file: &str, (name, damage): Damage) {
    let mut house = House::new();
    house.seal(12);
    house.empty_log(file);
    damage(&house.path(file));
    // The readers' caches know too much.
    let _ = house.store().spool().reader().open_again();
    house.seal(4);
    house.settle();
    let mut rest = house.rest();
    house.settle();
    rest.extend(house.rest());
    house.seal(3);
    rest.extend(house.rest());
    let (gone, samples, files) = house.told();
    let all: BTreeSet<_> = house.sealed.keys().copied().collect();
    let lost: BTreeSet<_> = all.difference(&rest).copied().collect();
    assert!(lost.is_subset(&gone), "{file} {name}: lost {lost:?}, named {gone:?}; {files:?}");
    assert_eq!(samples, lost.len() as u64 * POINTS as u64, "{file} {name}: to the sample");
    assert!(house.states().iter().all(|s| s.is_written()), "{file} {name}: {:?}", house.store().health());
    // The first commit may be the one that finds it: it is refused, and handed in again.
    if run(submit(house.store(), vec![Change::Event(event(1))])).is_err() {
        house.settle();
        run(submit(house.store(), vec![Change::Event(event(1))])).unwrap_or_else(|e| panic!("{file} {name}: {e}"));
    }
    if file == "state.db" {
        assert!(lost.is_empty(), "{name}: {lost:?}");
    }
    house.kill();
    house.start();
}

#[test]
fn a_spool_that_is_damaged_while_it_is_used_is_replaced_without_a_restart() {
    DAMAGES.iter().filter(|(name, _)| !needs_log(name)).for_each(|d| check_while_running("spool.db", *d));
}

#[test]
fn a_state_that_is_damaged_while_it_is_used_is_replaced_without_a_restart() {
    DAMAGES.iter().filter(|(name, _)| !needs_log(name)).for_each(|d| check_while_running("state.db", *d));
}

#[test]
fn good_segments_of_a_damaged_spool_are_delivered_and_the_others_named_to_the_sample() {
    let mut house = House::new();
    house.seal(20);
    house.kill();
    house.start();
    house.empty_log("spool.db");
    let path = house.path("spool.db");
    // Free pages lie between those in use.
    let sql = "SELECT body FROM segment ORDER BY n LIMIT 1 OFFSET (SELECT count(*) / 2 FROM segment)";
    let body: Vec<u8> = rusqlite::Connection::open(&path).unwrap().query_row(sql, [], |r| r.get(0)).unwrap();
    let part = &body[body.len() / 2..][..32];
    let at = std::fs::read(&path).unwrap().windows(part.len()).position(|bytes| bytes == part).expect("the log is empty");
    garbage(&path, at as u64 / PAGE * PAGE, SECTOR * 2);
    let _ = house.store().spool().reader().open_again();
    house.store().handle.shared.board.suspect(Db::Spool, "told by a test".into(), true);
    house.settle();
    let (gone, samples, files) = house.told();
    let rest = house.rest();
    assert_eq!(files, ["spool.db quarantined"]);
    assert!((1..=2).contains(&gone.len()), "one page, {gone:?}");
    assert_eq!((rest.len() + gone.len(), samples), (20, gone.len() as u64 * POINTS as u64));
    let detail = house.store().health()[1].detail.clone();
    assert!(detail.contains("kept as spool.db.corrupt-1") && detail.contains("of 20 segments carried over"), "{detail}");
    assert!(beside(&path, ".corrupt-1").exists() && !beside(&path, ".new").exists());
}

#[test]
fn a_spool_that_cannot_even_be_opened_for_reading_is_replaced() {
    let mut house = House::new();
    house.seal(12);
    let path = house.path("spool.db");
    for of in [path.clone(), beside(&path, "-wal")] {
        garbage(&of, PAGE, usize::try_from(size(&of).saturating_sub(PAGE)).unwrap());
    }
    let mut rest = house.rest();
    house.settle();
    rest.extend(house.rest());
    let (gone, samples, files) = house.told();
    assert!(files.iter().any(|f| f == "spool.db quarantined"), "{files:?}");
    assert_eq!((rest.len() + gone.len(), samples), (12, gone.len() as u64 * POINTS as u64));
}

#[test]
fn what_ram_holds_of_an_unreadable_segment_is_written_again() {
    let mut house = House::new();
    house.seal(6);
    house.kill();
    house.start();
    // In flight, of an epoch that this process cannot seal any more.
    let first = house.store().spool().next_backlog(U).unwrap().sealed;
    let path = house.path("spool.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute("UPDATE segment SET body = zeroblob(length(body))", []).unwrap();
    drop(db);
    house.store().handle.shared.board.suspect(Db::Spool, "told by a test".into(), true);
    house.settle();
    house.kill();
    house.start();
    assert_eq!(house.rest(), BTreeSet::from([(first.key.epoch, first.key.seq)]), "it is on the disk again");
    let (gone, samples, _) = house.told();
    assert_eq!((gone.len(), samples), (5, 5 * POINTS as u64));
}

#[test]
fn malformed_after_an_io_error_moves_no_sound_file() {
    let mut house = House::new();
    house.seal(5);
    for _ in 0..3 {
        house.store().handle.shared.board.suspect(Db::Spool, "database disk image is malformed".into(), false);
        house.store().handle.shared.board.suspect(Db::State, "database disk image is malformed".into(), false);
        house.seal(1);
        run(submit(house.store(), vec![Change::Event(event(1))])).unwrap();
    }
    assert_eq!(house.states(), [StoreState::Ok; 2]);
    assert!(!beside(&house.path("spool.db"), ".corrupt-1").exists() && !beside(&house.path("state.db"), ".corrupt-1").exists());
    assert_eq!(house.rest().len(), 8);
}

#[test]
fn a_kill_between_the_two_renames_is_finished_by_the_next_start() {
    let mut house = House::new();
    house.seal(5);
    house.kill();
    for file in ["spool.db", "state.db"] {
        let path = house.path(file);
        rusqlite::Connection::open(&path).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        fs::rename(&path, beside(&path, ".new")).unwrap();
        for tail in ["-wal", "-shm"] {
            let _ = fs::remove_file(beside(&path, tail));
        }
    }
    house.start();
    assert_eq!(house.rest().len(), 5);
    assert!(house.restored.before.is_some());
}

#[test]
fn a_lost_state_still_names_the_run_before() {
    let mut house = House::new();
    house.seal(5);
    let old = house.restored.epoch;
    house.kill();
    for tail in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(&house.path("state.db"), tail));
    }
    house.start();
    let before = house.restored.before.unwrap();
    assert_eq!((before.epoch, before.telemetry), (old, 5));
    assert_eq!(house.rest().len(), 5);
}

#[test]
fn a_newer_schema_is_refused_with_a_sentence_and_left_as_it_is() {
    for file in ["state.db", "spool.db"] {
        let mut house = House::new();
        house.seal(2);
        let path = house.path(file);
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch("PRAGMA user_version = 99; PRAGMA application_id = 0x400200c5").unwrap();
        // The newer program was killed: its log is still there.
        std::mem::forget(db);
        let copy: Vec<_> = ["", "-wal"].map(|tail| fs::read(beside(&path, tail)).unwrap()).into();
        let other = dir();
        for (tail, bytes) in ["", "-wal"].iter().zip(&copy) {
            fs::write(beside(&other.path().join(file), tail), bytes).unwrap();
        }
        let error = Store::open(options(other.path(), Backing::Thread)).unwrap_err();
        assert!(matches!(error, StoreError::TooNew { found: 99, .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("written by fieldgate 2.3.5") && said.contains("install that version or a newer one"), "{said}");
        let after: Vec<_> = ["", "-wal"].map(|tail| fs::read(beside(&other.path().join(file), tail)).unwrap()).into();
        assert!(after == copy, "{file} was written to");
    }
}

#[test]
fn one_change_that_cannot_be_stored_fails_alone() {
    let house = House::new();
    let letter = |topic: &str| {
        Change::DeadLetter(DeadLetter { source: "s".into(), topic: topic.into(), reason: "r".into(), body: vec![], at: Boot(0) })
    };
    let db = rusqlite::Connection::open(house.path("state.db")).unwrap();
    db.execute_batch("CREATE UNIQUE INDEX poison ON dead_letter (topic) WHERE topic <> ''").unwrap();
    let changes = vec![letter("a"), Change::Event(event(1)), letter("a"), letter("b"), Change::Event(event(2))];
    run(submit(house.store(), changes)).unwrap();
    let kept: Vec<_> = house.store().dead_letters(10).unwrap().into_iter().map(|l| (l.source, l.topic)).collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(kept, [pair("s", "b"), pair("store", ""), pair("s", "a")]);
    let events: usize = std::iter::from_fn(|| house.store().events().next(U)).skip(1).map(|m| m.events.len()).sum();
    assert_eq!(events, 2);
    assert_eq!(house.states(), [StoreState::Ok; 2], "the disk is well");
}

#[test]
fn a_stored_outcome_that_cannot_be_read_fails_no_other_change() {
    let house = House::new();
    let command = super::suite::command("a");
    assert_eq!(run(accept(house.store(), command.clone())), Accepted::New);
    rusqlite::Connection::open(house.path("state.db")).unwrap().execute("UPDATE command SET outcome = '{broken'", []).unwrap();
    let Accepted::Again(Some(outcome)) = run(accept(house.store(), command)) else { panic!("it was executed once") };
    assert_eq!(outcome.phase, crate::model::Phase::Unknown);
}

#[test]
fn a_clock_that_could_not_be_written_is_written_later() {
    let mut house = House::new();
    let db = rusqlite::Connection::open(house.path("state.db")).unwrap();
    db.execute_batch("ALTER TABLE boot RENAME TO elsewhere").unwrap();
    let reading = ClockReading::synchronised(77_000);
    // The row goes with the event that tells it, and later by itself.
    assert_eq!(house.store().set_clock(reading).len(), 1);
    assert!(run(submit(house.store(), vec![Change::Event(event(1))])).is_err());
    house.store().set_clock(reading);
    db.execute_batch("ALTER TABLE elsewhere RENAME TO boot").unwrap();
    house.pass(1500);
    let stored: i64 = db.query_row("SELECT offset_ms FROM boot", [], |r| r.get(0)).unwrap();
    assert_eq!(stored, 77_000);
    assert_eq!(house.states()[0], StoreState::Ok);
    house.pass(1500);
    assert_eq!(house.told().2, ["state.db failing", "state.db ok"]);
}

#[test]
fn a_run_that_ends_on_a_failing_disk_says_how_much_may_be_lost() {
    let mut house = House::new();
    house.seal(1);
    rusqlite::Connection::open(house.path("spool.db")).unwrap().execute_batch("ALTER TABLE segment RENAME TO elsewhere").unwrap();
    house.store().spool().append(frames(900, 3, house.now), vec![], house.now);
    house.pass(1500);
    assert_eq!(house.states()[1], StoreState::Failing);
    house.kill();
    rusqlite::Connection::open(house.path("spool.db")).unwrap().execute_batch("ALTER TABLE elsewhere RENAME TO segment").unwrap();
    // Written by the run that died: it began to fail an hour before now.
    let text = fs::read_to_string(house.path("disk-trouble")).unwrap();
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words[2] = Clock::Real.now().saturating_sub(Duration::from_secs(3600)).ms().to_string();
    words[1] = crate::system::clock::boot_uuid();
    fs::write(house.path("disk-trouble"), words.join(" ")).unwrap();
    house.now = Clock::Real.now();
    house.start();
    // As far as this machine's boot clock reaches back.
    let known = Clock::Real.now().ms().min(3_600_000);
    let before = house.restored.before.unwrap();
    assert!(before.may_have_lost_ms >= known.saturating_sub(1000) && before.may_have_lost_ms > 1000, "{before:?}");
    assert!(fs::read_to_string(house.path("disk-trouble")).unwrap().starts_with("well"), "until it fails again");
}

#[test]
fn wear_is_counted_on_over_a_restart() {
    let mut house = House::new();
    house.seal(10);
    let wear = house.store().wear();
    assert!(wear.bytes > 10 * 2 * PAGE && wear.syncs >= 10, "{wear:?}");
    run(house.store().close());
    house.kill();
    house.start();
    house.seal(1);
    let after = house.store().wear();
    assert!(after.bytes > wear.bytes && after.syncs > wear.syncs && after.ran_ms >= wear.ran_ms, "{wear:?} {after:?}");
}

/// `cargo test --lib full_ring -- --ignored --nocapture`
#[test]
#[ignore = "writes 512 MiB: run by hand for its figures"]
fn a_start_with_a_full_ring_reads_no_body() {
    let dir = tempfile::tempdir().unwrap();
    let mut o = options(dir.path(), Backing::Thread);
    o.buffer.disk_max = 512 << 20;
    drop(Store::open(o.clone()).unwrap());
    let db = rusqlite::Connection::open(dir.path().join("spool.db")).unwrap();
    // As a day without cloud leaves it: segments of one minute, and bodies that are never looked at here.
    let rows = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
        INSERT INTO segment SELECT i, i, 7, 1, i * 1000000, i * 5 + 1, i * 5 + 5, 5, 500, ?2, randomblob(?2) FROM n";
    let (count, bytes) = (30_000, 16_384);
    db.execute(rows, [count, bytes]).unwrap();
    db.execute("UPDATE meta SET head = ?1, epoch = 7, telemetry = ?2", [count, count * 5]).unwrap();
    drop(db);
    let size = size(&dir.path().join("spool.db")) >> 20;
    let _ = std::process::Command::new("sync").status();
    let _ = fs::write("/proc/sys/vm/drop_caches", "3");
    let read = || -> u64 {
        let io = fs::read_to_string("/proc/self/io").unwrap();
        io.lines().find_map(|l| l.strip_prefix("read_bytes: ")?.parse().ok()).unwrap_or(0)
    };
    let (begun, before) = (Clock::Real.now(), read());
    let (store, _) = Store::open(o).unwrap();
    let (took, bytes) = (Clock::Real.now() - begun, read() - before);
    println!("ring of {size} MiB, {count} segments: open in {took:?}, {} MiB read meanwhile", bytes >> 20);
    assert_eq!(store.spool().figures(Clock::Real.now()).waiting_batches, 150_000);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// As the daemon reads: `changed` tells when what must be read is there.
async fn everything_beside(store: &Store, batches_want: usize, events_want: usize) -> (Vec<u64>, usize) {
    let (mut batches, mut events) = (Vec::new(), 0);
    while batches.len() < batches_want || events < events_want {
        if let Some(out) = store.spool().next_backlog(U) {
            batches.push(out.sealed.key.seq);
        } else if let Some(message) = store.events().next(U) {
            store.events().acknowledged(U, message.key);
            events += message.events.len();
        } else {
            let told = async {
                tokio::select! {
                    biased;
                    () = store.spool().changed(U) => {}
                    () = store.events().changed(U) => {}
                }
            };
            tokio::time::timeout(Duration::from_secs(20), told).await.expect("it is told when it was read");
        }
    }
    (batches, events)
}

#[test]
fn a_thread_that_reads_beside_gives_everything_in_order() {
    let mut house = House::new();
    house.seal(12);
    let many = limits::EVENTS_IN_RAM * 2;
    for n in 0..many as u64 {
        run(submit(house.store(), vec![Change::Event(event(n))])).unwrap();
    }
    house.kill();
    let (store, _) = Store::open(options(house.dir.path(), Backing::Thread)).unwrap();
    store.read_beside().unwrap();
    store.read_beside().unwrap();
    let (batches, events) = run(everything_beside(&store, 12, many + 1));
    assert_eq!(batches, (1..=12).collect::<Vec<u64>>());
    assert_eq!(events, many + 1, "and the epoch's first");
    assert_eq!((store.spool().has_backlog(U), store.events().has_next(U)), (false, false));
    drop(store);
    assert!(Store::open(options(house.dir.path(), Backing::Thread)).is_ok(), "nobody holds the directory");
}

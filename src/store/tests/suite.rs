use super::*;
use crate::model::{Action, Cause, CommandId, DeadLetter, DeviceId, DeviceStatus, Evidence, EvidenceKind, Outcome, Phase, State, Stream};
use std::collections::BTreeMap;

/// Runs on both back ends. Real time: the thread lives in it.
macro_rules! on_both {
    ($($name:ident => $test:ident;)*) => {
        mod thread { $(#[test] fn $name() { super::run(super::$test(crate::store::Backing::Thread)) })* }
        mod inline { $(#[test] fn $name() { super::run(super::$test(crate::store::Backing::Inline)) })* }
    };
}

on_both! {
    events_share_a_message_and_survive => events;
    a_failed_commit_gives_no_number_away => numbers;
    the_same_command_is_new_once => commands;
    a_wall_clock_that_jumps_ahead_forgets_no_command => jump_ahead;
    of_a_command_to_several_the_ended_parts_are_found_again => parts_of_a_command;
    devices_come_back_as_they_were => devices;
    dead_letters_are_readable => dead_letters;
    the_number_of_a_letter_that_was_thrown_away_is_not_used_again => letters_numbers;
    a_batch_in_time_is_never_written => in_time;
    a_late_batch_survives_a_kill => late;
    an_awaited_receipt_pulls_the_commit => awaited;
    window_zero_offers_only_what_is_durable => window_zero;
    a_clean_stop_has_lost_nothing => clean_stop;
    a_lost_connection_sends_the_same_again => again;
    one_store_per_directory => one_store;
    a_newer_schema_is_refused => newer;
    a_damaged_file_is_moved_aside => damaged_file;
    clocks_are_remembered => clocks;
    the_first_good_offset_counts_for_the_whole_boot_also_backwards => backwards;
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn open(dir: &Path, backing: Backing) -> (Store, Restored) {
    Store::open(options(dir, backing)).unwrap()
}

/// Lets time pass for either back end.
async fn pass(store: &Store, time: Duration) {
    tokio::time::sleep(time).await;
    store.poll(Clock::Real.now());
}

async fn events(backing: Backing) {
    let dir = dir();
    let (store, restored) = open(dir.path(), backing);
    submit(&store, vec![Change::Event(event(1)), Change::Event(event(2))]).await.unwrap();
    submit(&store, vec![Change::Event(event(3))]).await.unwrap();
    let key = |seq| Key { epoch: restored.epoch, stream: Stream::Event, seq };
    let first = store.events().next(U).unwrap();
    assert_eq!((first.key, &*first.events, first.boot), (key(1), &[event(1), event(2)][..], restored.boot));
    assert_eq!(store.events().next(U).unwrap().key, key(2));
    assert!(store.events().next(U).is_none());
    store.events().return_unacknowledged(U);
    assert_eq!(store.events().next(U).unwrap(), first);
    store.events().acknowledged(U, first.key);
    store.events().acknowledged(U, first.key);
    store.events().acknowledged(U, key(77));
    assert_eq!(store.events().alive()[0].lowest, 2);
    // The next commit deletes it.
    submit(&store, vec![Change::Event(event(4))]).await.unwrap();
    drop(store);

    let (store, again) = open(dir.path(), backing);
    let before = again.before.unwrap();
    assert_eq!((before.epoch, before.event, before.may_have_lost_ms), (restored.epoch, 3, 1000));
    submit(&store, vec![Change::Event(event(5))]).await.unwrap();
    let alive: Vec<_> = store.events().alive().iter().map(|a| (a.epoch, a.lowest, a.highest)).collect();
    assert_eq!(alive, [(restored.epoch, 2, 3), (again.epoch, 1, 1)]);
    let next: Vec<_> = std::iter::from_fn(|| store.events().next(U)).map(|m| (m.key.epoch, m.key.seq)).collect();
    assert_eq!(next, [(restored.epoch, 2), (restored.epoch, 3), (again.epoch, 1)]);
}

async fn numbers(backing: Backing) {
    let dir = dir();
    let (store, _) = open(dir.path(), backing);
    submit(&store, vec![Change::Event(event(1))]).await.unwrap();
    let other = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    other.execute_batch("ALTER TABLE event RENAME TO elsewhere").unwrap();
    assert!(submit(&store, vec![Change::Event(event(2))]).await.is_err());
    other.execute_batch("ALTER TABLE elsewhere RENAME TO event").unwrap();
    submit(&store, vec![Change::Event(event(3))]).await.unwrap();
    // That the disk failed is told with it, or in a message of its own.
    let sent: Vec<_> = std::iter::from_fn(|| store.events().next(U)).collect();
    let seqs: Vec<_> = sent.iter().map(|m| m.key.seq).collect();
    assert_eq!(seqs, (1..=sent.len() as u64).collect::<Vec<_>>());
    let told: Vec<_> = sent.iter().flat_map(|m| m.events.iter()).filter(|e| !matches!(e.kind, EventKind::Store { .. })).collect();
    assert_eq!(told, [&event(1), &event(3)]);
}

pub fn command(id: &str) -> Command {
    Command {
        id: CommandId::parse(id).unwrap(),
        device: device(1),
        action: Action::Write(BTreeMap::from([(PointId::parse("k1").unwrap(), Value::Bool(true))])),
        from: "uplink cloud".into(),
        received: Clock::Real.now(),
        issued_at: None,
        expires_in: Duration::from_secs(60),
        from_stored_session: false,
    }
}

async fn commands(backing: Backing) {
    let dir = dir();
    let (store, _) = open(dir.path(), backing);
    let (a, b) = (command("a"), command("b"));
    assert_eq!(accept(&store, a.clone()).await, Accepted::New);
    assert_eq!(accept(&store, a.clone()).await, Accepted::Again(None));
    assert_eq!(accept(&store, b.clone()).await, Accepted::New);
    let outcome =
        |reason: &str| Outcome::new(Phase::Confirmed, reason).with(BTreeMap::from([(PointId::parse("k1").unwrap(), Value::Float(1.5))]));
    let done = |of: &Command, outcome| Change::CommandDone { id: of.id.clone(), device: of.device.clone(), outcome, at: Boot(9) };
    submit(&store, vec![done(&a, outcome("first"))]).await.unwrap();
    submit(&store, vec![done(&a, outcome("second"))]).await.unwrap();
    drop(store);
    let (store, restored) = open(dir.path(), backing);
    assert_eq!(restored.open_commands, [(b, Phase::Sent)]);
    assert_eq!(accept(&store, a).await, Accepted::Again(Some(outcome("first"))));
    let rows = store.commands(10).unwrap();
    assert_eq!(rows.iter().map(|r| (r.id.as_str(), r.phase)).collect::<Vec<_>>(), [("b", Phase::Sent), ("a", Phase::Confirmed)]);
}

async fn parts_of_a_command(backing: Backing) {
    let dir = dir();
    let (store, _) = open(dir.path(), backing);
    let each = crate::model::Each { devices: vec![device(1), device(2)], action: command("x").action };
    let whole = Command { device: DeviceId::gateway(), action: Action::Each(Box::new(each)), ..command("w") };
    let [one, two] = whole.parts().try_into().unwrap();
    // Somebody has used the name of the first: it is another command.
    assert_eq!(accept(&store, one.clone()).await, Accepted::New);
    let outcome = Outcome::new(Phase::Confirmed, "");
    let done = |of: &Command| Change::CommandDone { id: of.id.clone(), device: of.device.clone(), outcome: outcome.clone(), at: Boot(9) };
    submit(&store, vec![done(&one)]).await.unwrap();
    let (answer, answered) = tokio::sync::oneshot::channel();
    let all = vec![whole.clone(), one, two.clone()];
    store
        .accept_all(vec![], all, move |answers| drop(answer.send(answers.unwrap().into_iter().map(Result::unwrap).collect::<Vec<_>>())))
        .await;
    assert_eq!(answered.await.unwrap(), [Accepted::New, Accepted::Again(Some(outcome.clone())), Accepted::New]);
    submit(&store, vec![done(&two)]).await.unwrap();
    drop(store);
    let (_, restored) = open(dir.path(), backing);
    assert_eq!(restored.open_commands, [(whole, Phase::Sent)]);
    assert_eq!(restored.ended_parts, BTreeMap::from([(two.id, outcome)]), "the other one's end is not the part's");
}

async fn jump_ahead(backing: Backing) {
    let dir = dir();
    let (store, _) = open(dir.path(), backing);
    let (a, b) = (command("a"), command("b"));
    assert_eq!(accept(&store, a.clone()).await, Accepted::New);
    let outcome = Outcome::new(Phase::Confirmed, "");
    let done = Change::CommandDone { id: a.id.clone(), device: a.device.clone(), outcome: outcome.clone(), at: Boot(9) };
    submit(&store, vec![done]).await.unwrap();
    let years = 800 * 86_400_000;
    store.set_clock(ClockReading::synchronised(years));
    assert_eq!(accept(&store, b).await, Accepted::New);
    assert_eq!(accept(&store, a).await, Accepted::Again(Some(outcome)), "it would be executed a second time");
}

async fn devices(backing: Backing) {
    let dir = dir();
    let (store, restored) = open(dir.path(), backing);
    let status = |state, cause, since| DeviceStatus {
        device: device(1),
        line: None,
        state,
        cause,
        since: Boot(since),
        evidence: Some(Evidence { kind: EvidenceKind::Poll, at: Boot(since) }),
        missed: 2,
    };
    let registered =
        Change::Registered { device: device(1), via: "plugs".into(), offline_after: Some(WINDOW), quarantined: true, at: Boot(1) };
    submit(&store, vec![registered, Change::Status(status(State::Online, None, 5))]).await.unwrap();
    submit(&store, vec![Change::Status(status(State::Online, None, 6))]).await.unwrap();
    submit(&store, vec![Change::Status(status(State::Offline, Some(Cause::Silent), 7))]).await.unwrap();
    let history = store.history(&device(1), 10).unwrap();
    let states: Vec<_> = history.iter().map(|h| (h.state, h.cause, h.at.0)).collect();
    assert_eq!(states, [(State::Offline, Some(Cause::Silent), 7), (State::Online, None, 5)], "transitions only");
    drop(store);
    let (_store, again) = open(dir.path(), backing);
    let want = RestoredDevice {
        status: status(State::Offline, Some(Cause::Silent), 7),
        boot: restored.boot,
        via: Some("plugs".into()),
        offline_after: Some(WINDOW),
        quarantined: true,
    };
    assert_eq!(again.devices, [want]);
}

async fn dead_letters(backing: Backing) {
    let dir = dir();
    let (store, _) = open(dir.path(), backing);
    let letter = DeadLetter { source: "mqtt".into(), topic: "t".into(), reason: "no JSON".into(), body: vec![7; 5000], at: Boot(1) };
    submit(&store, vec![Change::DeadLetter(letter)]).await.unwrap();
    let rows = store.dead_letters(10).unwrap();
    assert_eq!((rows.len(), rows[0].body.len(), rows[0].reason.as_str()), (1, 4096, "no JSON"));
}

/// Somebody who still has the old number must not show, replay or purge another letter by it.
async fn letters_numbers(backing: Backing) {
    let dir = dir();
    let (store, _) = open(dir.path(), backing);
    let letter = |n: u8| DeadLetter { source: "mqtt".into(), topic: "t".into(), reason: "no JSON".into(), body: vec![n], at: Boot(1) };
    submit(&store, vec![Change::DeadLetter(letter(1))]).await.unwrap();
    let first = store.dead_letters(10).unwrap()[0].id;
    submit(&store, vec![Change::ForgetLetters(vec![first])]).await.unwrap();
    submit(&store, vec![Change::DeadLetter(letter(2))]).await.unwrap();
    let ids: Vec<i64> = store.dead_letters(10).unwrap().iter().map(|l| l.id).collect();
    assert_eq!(ids, [first + 1]);
}

async fn in_time(backing: Backing) {
    let dir = dir();
    let (store, _) = open(dir.path(), backing);
    let spool = store.spool();
    for n in 0..10 {
        spool.append(frames(n, 3, Clock::Real.now()), vec![], Clock::Real.now());
        let sent = spool.next_live(U).unwrap();
        assert!(!sent.backlog);
        spool.acknowledged(U, sent.sealed.key, Clock::Real.now());
        pass(&store, Duration::from_millis(80)).await;
    }
    let figures = spool.figures(Clock::Real.now());
    assert_eq!((figures.commits, figures.acknowledged_samples, figures.waiting_batches), (0, 30, 0), "{figures:?}");
}

async fn late(backing: Backing) {
    let dir = dir();
    let (store, first) = open(dir.path(), backing);
    let now = Clock::Real.now();
    store.spool().append(frames(1, 3, now), vec![], now);
    store.spool().append(frames(2, 3, now), vec![], now);
    let live = store.spool().next_live(U).unwrap();
    pass(&store, Duration::from_millis(700)).await;
    let figures = store.spool().figures(Clock::Real.now());
    assert_eq!((figures.commits, figures.waiting_batches, figures.waiting_samples), (1, 2, 6), "{figures:?}");
    drop(store);
    let (store, again) = open(dir.path(), backing);
    let before = again.before.unwrap();
    assert_eq!((before.epoch, before.telemetry, before.may_have_lost_ms), (first.epoch, 2, 1000));
    assert_eq!(store.spool().alive()[0].lowest, 1);
    assert!(store.spool().figures(Clock::Real.now()).oldest_age_ms.unwrap() >= 600);
    let back = store.spool().next_backlog(U).unwrap();
    assert_eq!((&back.sealed, back.backlog), (&live.sealed, true));
    assert_eq!(store.spool().next_backlog(U).unwrap().sealed.key.seq, 2);
    assert!(store.spool().next_backlog(U).is_none() && store.spool().next_live(U).is_none());
    let key = back.sealed.key;
    store.spool().acknowledged(U, key, Clock::Real.now());
    store.close().await;
    drop(store);
    let (store, _) = open(dir.path(), backing);
    assert_eq!(store.spool().next_backlog(U).unwrap().sealed.key.seq, 2, "a segment delivered in part");
}

async fn awaited(backing: Backing) {
    let dir = dir();
    let (store, _) = open(dir.path(), backing);
    let (receipt, told) = receipts();
    let now = Clock::Real.now();
    store.spool().append(frames(1, 1, now), vec![receipt(1)], now);
    store.spool().append(frames(2, 1, now), vec![receipt(2)], now);
    let sent = store.spool().next_live(U).unwrap();
    store.spool().acknowledged(U, sent.sealed.key, now);
    assert_eq!(told.try_recv().unwrap(), (1, Settled::Kept), "acknowledged by the cloud");
    assert!(told.try_recv().is_err());
    pass(&store, Duration::from_millis(250)).await;
    assert_eq!(told.try_recv().unwrap(), (2, Settled::Kept), "durable");
    store.spool().append(frames(3, 1, now), vec![receipt(3)], Clock::Real.now());
    drop(store);
    assert_eq!(told.try_recv().unwrap(), (3, Settled::NotKept), "a kill keeps no promise that was not made");
}

async fn window_zero(backing: Backing) {
    let dir = dir();
    let mut o = options(dir.path(), backing);
    o.buffer.window = Duration::ZERO;
    let (store, _) = Store::open(o).unwrap();
    let now = Clock::Real.now();
    store.spool().append(frames(1, 1, now), vec![], now);
    while !store.spool().has_live(U) {
        tokio::time::timeout(Duration::from_secs(5), store.spool().changed(U)).await.unwrap();
    }
    assert_eq!(store.spool().figures(now).commits, 1);
    let sent = store.spool().next_live(U).unwrap();
    assert!(!sent.backlog && !store.spool().has_backlog(U));
}

async fn clean_stop(backing: Backing) {
    let dir = dir();
    let (store, first) = open(dir.path(), backing);
    let now = Clock::Real.now();
    (1..=3).for_each(|n| _ = store.spool().append(frames(n, 1, now), vec![], now));
    let sent = store.spool().next_live(U).unwrap();
    store.spool().acknowledged(U, sent.sealed.key, now);
    submit(&store, vec![Change::Event(event(1))]).await.unwrap();
    let sent = store.events().next(U).unwrap();
    store.events().acknowledged(U, sent.key);
    store.close().await;
    store.close().await;
    assert!(matches!(&*submit(&store, vec![]).await.unwrap_err(), StoreError::Closed));
    drop(store);
    let (store, again) = open(dir.path(), backing);
    assert_eq!(again.before, Some(Before { epoch: first.epoch, telemetry: 3, event: 1, may_have_lost_ms: 0 }));
    assert!(store.events().next(U).is_none());
    let seqs: Vec<_> = std::iter::from_fn(|| store.spool().next_backlog(U)).map(|o| o.sealed.key.seq).collect();
    assert_eq!(seqs, [2, 3]);
}

async fn again(backing: Backing) {
    let dir = dir();
    let (store, _) = open(dir.path(), backing);
    let spool = store.spool();
    let now = Clock::Real.now();
    (1..=4).for_each(|n| _ = spool.append(frames(n, 1, now), vec![], now));
    let sent: Vec<_> = std::iter::from_fn(|| spool.next_live(U)).collect();
    spool.acknowledged(U, sent[1].sealed.key, now);
    spool.return_unacknowledged(U);
    spool.acknowledged(U, sent[2].sealed.key, now);
    spool.append(frames(5, 1, now), vec![], now);
    assert_eq!(spool.next_live(U).unwrap().sealed.key.seq, 5, "live first");
    let back: Vec<_> = std::iter::from_fn(|| spool.next_backlog(U)).collect();
    let want: Vec<_> = [0, 2, 3].map(|n: usize| Outgoing { backlog: true, ..sent[n].clone() }).into();
    assert_eq!(back, want, "an acknowledgement of a connection that is gone does not count");
}

/// Another program holds state.db (a backup, a shell): the writer waits for it, but the stop does not wait for the writer.
#[test]
fn a_writer_that_hangs_does_not_hold_the_stop() {
    run(async {
        let dir = dir();
        let (store, _) = open(dir.path(), Backing::Thread);
        submit(&store, vec![Change::Event(event(1))]).await.unwrap();
        let other = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let began = Clock::Real.now();
        assert!(tokio::time::timeout(Duration::from_millis(300), store.close()).await.is_err(), "it does not hang");
        drop(store);
        let took = Clock::Real.now() - began;
        assert!(took < Duration::from_millis(4500), "the writer itself waits 5 s: {took:?}");
    });
}

async fn one_store(backing: Backing) {
    let dir = dir();
    let (store, _) = open(dir.path(), backing);
    assert!(matches!(Store::open(options(dir.path(), backing)), Err(StoreError::InUse { .. })));
    drop(store);
    open(dir.path(), backing);
}

async fn newer(backing: Backing) {
    for file in ["state.db", "spool.db"] {
        let dir = dir();
        drop(open(dir.path(), backing));
        rusqlite::Connection::open(dir.path().join(file)).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Store::open(options(dir.path(), backing)).unwrap_err();
        assert!(matches!(&error, StoreError::TooNew { found: 99, .. }), "{error}");
        assert!(error.to_string().contains("install that version or a newer one"), "{error}");
    }
}

async fn damaged_file(backing: Backing) {
    for file in ["state.db", "spool.db"] {
        let dir = dir();
        drop(open(dir.path(), backing));
        std::fs::write(dir.path().join(file), "this is no database, but long enough to be taken for one".repeat(200)).unwrap();
        let _ = std::fs::remove_file(dir.path().join(format!("{file}-wal")));
        let (store, restored) = open(dir.path(), backing);
        assert_eq!(restored.quarantined, [dir.path().join(format!("{file}.corrupt-1"))]);
        submit(&store, vec![Change::Event(event(1))]).await.unwrap();
    }
}

async fn clocks(backing: Backing) {
    let dir = dir();
    let (store, restored) = open(dir.path(), backing);
    let reading = ClockReading::synchronised(123_456);
    store.set_clock(reading);
    assert_eq!(store.clock_of(restored.boot), reading);
    submit(&store, vec![]).await.unwrap();
    drop(store);
    let db = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    // As if the machine had been restarted since.
    db.execute("UPDATE boot SET uuid = 'another'", []).unwrap();
    drop(db);
    let (store, again) = open(dir.path(), backing);
    assert_ne!(again.boot, restored.boot);
    assert_eq!(store.clock_of(restored.boot), reading);
    assert_eq!(store.offsets().len(), 2);
}

/// Three runs of the process: two in one boot that learns its clock in the second, one after a power cut.
async fn backwards(backing: Backing) {
    use crate::model::ClockQuality;
    let dir = dir();
    let now = Clock::Real.now();
    let (store, first) = open(dir.path(), backing);
    store.spool().append(frames(1, 1, now), vec![], now);
    store.set_clock(ClockReading::estimated(-5));
    pass(&store, Duration::from_millis(700)).await;
    submit(&store, vec![]).await.unwrap();
    drop(store);
    let (store, second) = open(dir.path(), backing);
    assert_eq!(first.boot, second.boot);
    assert_eq!(store.clock().0, ClockReading::estimated(-5), "as it was told");
    let changes = store.set_clock(ClockReading { error_ms: Some(7), ..ClockReading::synchronised(123_456) });
    assert_eq!(changes.iter().map(|c| (c.boot, c.before.map(|b| b.offset_ms))).collect::<Vec<_>>(), [(first.boot, Some(-5))]);
    let late = store.spool().next_backlog(U).unwrap();
    let of = store.clock_of(late.sealed.boot);
    assert_eq!((of.offset_ms, of.quality, of.error_ms), (123_456, ClockQuality::Synchronised, Some(7)), "what the run before spooled");
    store.close().await;
    drop(store);
    let db = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
    let offsets: Vec<(i64, String)> = db
        .prepare("SELECT offset_ms, quality FROM clock WHERE offset_ms IN (-5, 123456) ORDER BY id")
        .unwrap()
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(offsets, [(-5, "estimated".into()), (123_456, "synchronised".into())]);
    db.execute("UPDATE boot SET uuid = 'another'", []).unwrap();
    drop(db);
    let (store, third) = open(dir.path(), backing);
    assert_ne!(third.boot, first.boot);
    let of = store.clock_of(first.boot);
    assert_eq!((of.offset_ms, of.quality), (123_456, ClockQuality::Synchronised));
}

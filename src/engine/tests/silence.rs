//! Many devices that fall silent at one moment: when each is judged, how it is told, and what else had to wait for it.

use super::*;
use std::collections::BTreeSet;

fn watched(n: usize, offline_after: Duration) -> Device {
    let poll = Duration::from_millis(100);
    Device { poll, offline_after, points: [].into(), ..Device::new(device(&format!("d{n:06}")), line(), 1) }
}

/// What became of them.
#[derive(Debug, Default)]
struct Fell {
    told: usize,
    messages: usize,
    largest: usize,
    /// The moments at which they were judged, in microseconds: one for each group.
    judged: BTreeSet<u64>,
    last_told: Boot,
    /// Of the file with the state, from the moment at which all were due to the last event.
    commits: u64,
}

/// As an uplink does, on a thread of its own.
fn listen(store: Store, clock: Clock, count: usize) -> tokio::task::JoinHandle<Fell> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async move {
            let (mut fell, until) = (Fell::default(), clock.now() + Duration::from_secs(120));
            while fell.told < count && clock.now() < until {
                while let Some(message) = store.events().next(U) {
                    store.events().acknowledged(U, message.key);
                    let offline = message.events.iter().filter(|e| matches!(e.kind, EventKind::Status { state: State::Offline, .. }));
                    let judged: Vec<u64> = offline.map(|e| e.at.0).collect();
                    if !judged.is_empty() {
                        (fell.told, fell.messages) = (fell.told + judged.len(), fell.messages + 1);
                        (fell.largest, fell.last_told) = (fell.largest.max(message.events.len()), clock.now());
                        fell.judged.extend(judged);
                    }
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            fell
        })
    })
}

/// The engine shares its thread with this: whoever wakes late was held up by it.
fn feel(clock: Clock, from: Boot) -> Arc<AtomicU64> {
    const EACH: Duration = Duration::from_millis(1);
    let worst = Arc::new(AtomicU64::new(0));
    let held_up = Arc::clone(&worst);
    tokio::spawn(async move {
        clock.sleep_until(from).await;
        loop {
            let before = clock.now();
            tokio::time::sleep(EACH).await;
            let late = clock.now().since(before).saturating_sub(EACH);
            held_up.fetch_max(u64::try_from(late.as_micros()).unwrap(), Ordering::Relaxed);
        }
    });
    worst
}

/// How late the last of them was judged, the longest hold-up, and what became of them.
async fn fall_silent(count: usize, allowed: Duration) -> (Duration, Duration, Fell) {
    let config = Config { devices: (0..count).map(|n| watched(n, allowed)).collect(), mqtt: None, ..config() };
    let house = House::of(config, Clock::Real, Backing::Thread, |_| {});
    while house.handle.turns() < 3 {
        house.wait(10).await;
    }
    // Their silence counts from the moment from which they were watched.
    let watched_since = house.handle.snapshot().await.unwrap().devices[0].since;
    let due = watched_since + allowed;
    for n in 0..count {
        for _ in 0..2 {
            let heard = Heard::Silent { after: Duration::from_millis(100) };
            let device = device(&format!("d{n:06}"));
            house.urgent.send(Urgent::Poll { device, heard, at: house.clock.now() }).await.unwrap();
        }
    }
    let worst = feel(house.clock, due.saturating_sub(Duration::from_millis(200)));
    let commits = |store: &Store| store.commits().iter().filter(|(file, _)| *file == "state.db").map(|(_, took)| took.count).sum::<u64>();
    let before = commits(&house.store);
    let mut fell = listen(house.store.clone(), house.clock, count).await.unwrap();
    fell.commits = commits(&house.store) - before;
    let worst = Duration::from_micros(worst.load(Ordering::Relaxed));
    let latest = Boot(fell.judged.last().copied().unwrap_or(0)).since(due);
    let Fell { told, messages, largest, judged, last_told, commits } = &fell;
    println!(
        "{count} devices fell silent: the last was judged {} ms after its time, all were told after {} ms; {told} events in {} \
         groups, {commits} commits and {messages} messages of at most {largest}; longest hold-up {:.1} ms",
        latest.as_millis(),
        last_told.since(due).as_millis(),
        judged.len(),
        worst.as_secs_f64() * 1000.0
    );
    assert_eq!(*told, count);
    assert!(*largest <= 1000, "{largest} events in one message");
    (latest, worst, fell)
}

#[tokio::test]
async fn devices_that_fall_silent_together_are_told_in_groups() {
    fall_silent(1_500, Duration::from_secs(1)).await;
}

#[tokio::test]
#[ignore = "for figures, in a release build: tests/run --long fallen"]
async fn a_hundred_thousand_devices_fall_silent_together() {
    let (latest, worst, fell) = fall_silent(100_000, Duration::from_secs(20)).await;
    let groups = fell.judged.len() as u64;
    assert_eq!(groups, 100_000_u64.div_ceil(limits::EXPIRE_TURN as u64), "groups as large as they may be");
    // The gateway's own clockwork commits now and then.
    assert!((groups..groups + 10).contains(&fell.commits), "{} commits for {groups} groups: each is one transaction", fell.commits);
    assert!(latest <= Duration::from_secs(1), "judged {latest:?} late");
    assert!(worst <= Duration::from_millis(50), "held up for {worst:?}");
}

/// Lines, uplinks and surfaces share the engine's thread.
#[tokio::test(start_paused = true)]
async fn others_come_between_while_many_devices_fall_silent() {
    let (count, allowed) = (4 * limits::EXPIRE_TURN, Duration::from_secs(1));
    let config = Config { devices: (0..count).map(|n| watched(n, allowed)).collect(), ..config() };
    let clock = Clock::Paused { start: tokio::time::Instant::now(), base: BASE, offset_ms: 1_700_000_000_000 };
    let house = House::of(config, clock, Backing::Inline, |_| {});
    house.wait(10).await;
    for n in 0..2 * count {
        let heard = Heard::Silent { after: Duration::from_millis(100) };
        let device = device(&format!("d{:06}", n / 2));
        house.urgent.send(Urgent::Poll { device, heard, at: house.clock.now() }).await.unwrap();
    }
    house.local.lock().unwrap().clear();
    let mut live = house.handle.live();
    // The first of them, or that there were more than fit.
    let _told = live.recv().await;
    let judged = house.local.lock().unwrap().len();
    assert!(judged <= 2 * limits::EXPIRE_TURN, "{judged} devices were judged before anybody else had a turn");
}

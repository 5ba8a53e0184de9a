//! What the field says, and what becomes of it.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_reading_makes_its_device_online_and_reaches_the_spool() {
    let house = House::start();
    let both = points(&["u", "k"]);
    house.reading(&both, &[230, 1]).await;
    house.wait(1).await;
    house.reading(&both, &[231, 1]).await;
    house.reading(&both, &[232, 2]).await;
    assert_eq!(house.events().await, ["epoch", "meter online"]);
    let frames = house.frames().await;
    assert_eq!(frames.iter().map(|f| (f.points.len(), f.rows.len())).collect::<Vec<_>>(), [(2, 2), (1, 1)], "k is reported on change");
    assert!(Arc::ptr_eq(&frames[0].points, &both));
    let told: Vec<_> = house.local.lock().unwrap().iter().map(|m| (m.topic.clone(), m.body.clone(), m.retain)).collect();
    assert_eq!(told, [("devices/status/meter".into(), b"0".to_vec(), true), ("devices/status/meter".into(), b"1".to_vec(), true)]);
    let card = house.cards.borrow().first().cloned().unwrap();
    assert_eq!((card.status.state, card.profile.as_deref(), card.points.len()), (State::Online, Some("p"), 2));
    let snapshot = house.handle.snapshot().await.unwrap();
    assert_eq!((snapshot.readings_in, snapshot.samples_in), (3, 6));
}

#[tokio::test(start_paused = true)]
async fn silence_is_offline_only_with_missed_polls_and_one_answer_brings_it_back() {
    let house = House::start();
    let both = points(&["u", "k"]);
    house.reading(&both, &[230, 1]).await;
    house.wait(30_000).await;
    assert_eq!(house.events().await, ["epoch", "meter online", "meter suspect silent"]);
    for _ in 0..2 {
        house.poll(Heard::Silent { after: Duration::from_millis(300) }).await;
        house.wait(1000).await;
    }
    assert_eq!(house.events().await, ["meter offline silent"]);
    house.poll(Heard::Refused(2)).await;
    assert_eq!(house.events().await, ["meter online"]);
    house.frames().await;
    house.reading(&both, &[230, 1]).await;
    assert_eq!(house.frames().await[0].points.len(), 2, "after a return everything is news");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_goes_down_is_one_event() {
    let house = House::start();
    house.line(LineState::Up).await;
    house.reading(&points(&["u"]), &[230]).await;
    house.wait(10).await;
    house.line(LineState::Down).await;
    house.wait(60_000).await;
    assert_eq!(house.events().await, ["epoch", "bus up", "meter online", "bus down", "progress 2"]);
    assert_eq!(house.state("meter").await, (State::Unknown, Some(Cause::LineDown)));
    assert_eq!(house.local.lock().unwrap().last().unwrap().body, b"0");
    house.line(LineState::Up).await;
    house.wait(10).await;
    house.reading(&points(&["u"]), &[230]).await;
    assert_eq!(house.events().await, ["bus up"]);
    assert_eq!(house.state("meter").await, (State::Online, None));
    assert_eq!(house.local.lock().unwrap().last().unwrap().body, b"1");
}

#[tokio::test(start_paused = true)]
async fn unknown_devices_are_registered_quarantined_or_refused_by_their_route() {
    let house = House::start();
    house.message("plug", "open", false, 1).await;
    house.message("odd", "quiet", false, 2).await;
    house.message("bad", "closed", false, 3).await;
    house.message("lost", "nowhere", false, 4).await;
    house.wait(20).await;
    assert_eq!(house.kept(), [2, 3, 4], "what goes nowhere is acknowledged, what goes upstream waits");
    let want = ["epoch", "plug registered", "plug online", "odd registered", "dead letters 1"];
    assert_eq!(house.events().await, want);
    let frames = house.frames().await;
    assert_eq!(frames.iter().map(|f| f.device.as_str()).collect::<Vec<_>>(), ["plug"]);
    assert_eq!(house.kept(), [2, 3, 4, 1], "it is durable, or the cloud has it");
    let snapshot = house.handle.snapshot().await.unwrap();
    assert_eq!(snapshot.quarantined, [device("odd")]);
    assert!(house.cards.borrow().iter().all(|c| c.status.device != device("odd")));
    house.wait(10_000).await;
    assert_eq!(house.events().await, ["dead letters 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_retained_message_is_data_but_no_proof_of_life() {
    let house = House::start();
    house.message("plug", "open", true, 1).await;
    assert_eq!(house.events().await, ["epoch", "plug registered"]);
    assert_eq!(house.frames().await.len(), 1);
    assert_eq!(house.state("plug").await, (State::Unknown, Some(Cause::Restored)));
    let said = |online, retained, id| Said {
        device: device("plug"),
        via: "open".into(),
        online,
        will: false,
        retained,
        session: None,
        at: house.clock.now(),
        offline_after: None,
        receipt: house.receipt(id),
    };
    house.urgent.send(Urgent::Said(said(true, true, 2))).await.unwrap();
    assert_eq!(house.events().await, [""; 0]);
    house.urgent.send(Urgent::Said(said(true, false, 3))).await.unwrap();
    house.urgent.send(Urgent::Said(said(false, false, 4))).await.unwrap();
    assert_eq!(house.events().await, ["plug online", "plug offline said"]);
    assert_eq!(house.kept(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_paused_process_calls_nobody_offline() {
    let house = House::start();
    house.message("plug", "open", false, 1).await;
    house.wait(50_000).await;
    house.events().await;
    tokio::time::advance(Duration::from_secs(600)).await;
    house.wait(3_000).await;
    assert!(house.events().await.iter().all(|e| !e.starts_with("plug")), "the observer was blind");
    house.wait(60_000).await;
    assert!(house.events().await.contains(&"plug offline silent".to_owned()), "but not for ever");
}

#[tokio::test(start_paused = true)]
async fn evidence_that_waits_in_its_door_is_not_overtaken_by_its_timer() {
    let house = House::start();
    let both = points(&["u", "k"]);
    house.reading(&both, &[230, 1]).await;
    house.wait(2000).await;
    // The engine gets all of this at once, much too late, but each with its time of arrival.
    let at = house.clock.now();
    for n in 1..=100u64 {
        let at = at + Duration::from_millis(n * 20);
        let values = vec![Value::Uint(n), Value::Uint(1)];
        let reading = Reading { device: device("meter"), at, points: Arc::clone(&both), values, quality: None };
        house.bulk.try_send(Bulk::Reading(reading)).unwrap();
        if n % 10 == 0 {
            let heard = Heard::Silent { after: Duration::from_millis(5) };
            house.urgent.try_send(Urgent::Poll { device: device("meter"), heard, at: at + Duration::from_millis(1) }).unwrap();
        }
    }
    house.wait(1000).await;
    assert_eq!(house.events().await, ["epoch", "meter online"]);
}

#[tokio::test(start_paused = true)]
async fn stopping_empties_the_doors_and_seals_what_there_is() {
    let house = House::start();
    house.wait(100).await;
    house.stop.cancel();
    for n in 0..500 {
        house.reading(&points(&["u"]), &[n]).await;
    }
    let begun = house.clock.now();
    let House { task, store, clock, urgent, bulk, .. } = house;
    task.await.unwrap();
    assert!(clock.now() - begun <= Duration::from_millis(1_100), "{:?}", clock.now() - begun);
    drop((urgent, bulk));
    let rows: usize = std::iter::from_fn(|| store.spool().next_live(U)).flat_map(|o| o.sealed.frames.clone()).map(|f| f.rows.len()).sum();
    assert_eq!(rows, 500);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_status_does_not_starve_telemetry() {
    let house = House::start();
    house.wait(10).await;
    let urgent = house.urgent.clone();
    let flood = tokio::spawn(async move {
        loop {
            let said = Urgent::Poll { device: device("meter"), heard: Heard::Answered, at: BASE };
            if urgent.send(said).await.is_err() {
                return;
            }
        }
    });
    for n in 0..1000 {
        house.reading(&points(&["u"]), &[n]).await;
    }
    // The flood never pauses, so time stands still: only a turn that is shared lets the readings through.
    while house.handle.snapshot().await.unwrap().readings_in < 1000 {
        tokio::task::yield_now().await;
    }
    flood.abort();
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_sees_turns_also_when_nothing_happens() {
    let house = House::start();
    house.wait(10).await;
    let before = house.handle.turns();
    house.wait(10_000).await;
    assert!(house.handle.turns() >= before + 9);
}

/// With the writer in its own thread and real time: more commands than may be at the store at once.
/// The cost of a reading of 100 points, from its door to the spool. Run it optimised:
/// `CARGO_PROFILE_TEST_OPT_LEVEL=3 cargo test --lib cost_of_a_reading -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn cost_of_a_reading() {
    const READINGS: u32 = 20_000;
    let house = House::start();
    let names: Vec<String> = (0..100).map(|n| format!("point-{n}")).collect();
    let points = points(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let ready: Vec<Reading> = (0..READINGS)
        .map(|n| {
            let values = vec![Value::Float(f64::from(n)); 100];
            Reading {
                device: device("meter"),
                at: BASE + Duration::from_micros(n.into()),
                points: Arc::clone(&points),
                values,
                quality: None,
            }
        })
        .collect();
    let begun = tokio::time::Instant::now();
    for reading in ready {
        house.bulk.send(Bulk::Reading(reading)).await.unwrap();
        if house.store.spool().has_live(U) {
            while let Some(o) = house.store.spool().next_live(U) {
                house.store.spool().acknowledged(U, o.sealed.key, BASE);
            }
        }
    }
    println!("{:?} a reading", begun.elapsed() / READINGS);
}

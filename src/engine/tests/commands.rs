//! Commands through the engine, the store and a port; and what a restart makes of them.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_command_is_executed_once_and_every_asker_hears_its_end() {
    let house = House::start();
    house.command("c1", 50.0, 1).await;
    house.command("c1", 50.0, 2).await;
    house.command("c2", 95.0, 3).await;
    assert_eq!(house.events().await, ["epoch", "c2 rejected 95 is above the most for u, 90"]);
    assert_eq!(house.kept(), [1, 2, 3]);
    {
        let orders = house.orders.lock().unwrap();
        assert_eq!(orders.len(), 1);
        assert_eq!(orders[0].verify, *points(&["u"]));
    }
    house.done("c1", Phase::Confirmed).await;
    house.done("c1", Phase::Failed).await;
    assert_eq!(house.events().await, ["c1 confirmed"]);
    house.command("c1", 50.0, 4).await;
    house.command("c2", 50.0, 5).await;
    assert_eq!(house.events().await, ["c1 confirmed", "c2 rejected 95 is above the most for u, 90"]);
    assert_eq!(house.orders.lock().unwrap().len(), 1);
    house.port_full.store(true, Ordering::Relaxed);
    house.command("c3", 50.0, 6).await;
    assert!(house.events().await[0].starts_with("c3 rejected busy"));
    assert_eq!(house.handle.snapshot().await.unwrap().commands_open, 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_devices_have_a_grace_and_open_commands_an_end() {
    let write = |id: &str| Command {
        id: CommandId::parse(id).unwrap(),
        device: device("meter"),
        action: Action::Write(BTreeMap::from([(PointId::parse("u").unwrap(), Value::Uint(50))])),
        from: "uplink cloud".into(),
        received: BASE.saturating_sub(Duration::from_secs(10)),
        issued_at: None,
        expires_in: Duration::from_secs(60),
        from_stored_session: false,
    };
    let row = |name: &str, via: Option<&str>, quarantined| RestoredDevice {
        status: DeviceStatus {
            device: device(name),
            line: None,
            state: State::Online,
            cause: None,
            since: BASE,
            evidence: None,
            missed: 0,
        },
        boot: crate::model::BootIndex(1),
        via: via.map(str::to_owned),
        offline_after: Some(Duration::from_secs(9)),
        quarantined,
    };
    let house = House::start_after(|restored| {
        restored.open_commands = vec![(write("c1"), Phase::Sent), (write("c2"), Phase::Accepted)];
        restored.devices =
            vec![row("meter", None, false), row("plug", Some("open"), false), row("odd", Some("gone"), true), row("old", None, false)];
    });
    let want = [
        "epoch",
        "c1 unknown the gateway restarted between sending and the answer",
        "c2 rejected the gateway restarted before it was sent; send it again under a new id",
    ];
    assert_eq!(house.events().await, want);
    assert!(house.orders.lock().unwrap().is_empty(), "nothing is executed again");
    for name in ["meter", "plug", "odd"] {
        assert_eq!(house.state(name).await, (State::Unknown, Some(Cause::Restored)), "{name}");
    }
    assert!(house.handle.snapshot().await.unwrap().devices.iter().all(|d| d.device != device("old")), "no longer configured");
    house.wait(59_000).await;
    assert_eq!(house.state("odd").await.0, State::Offline, "what was stored with it counts where its route is gone");
    assert_eq!(house.state("plug").await.0, State::Unknown, "the route of today allows 60 s");
    house.wait(2_000).await;
    assert_eq!(house.events().await, ["progress 2", "plug offline silent"], "quarantine is nothing to the cloud");
}

#[tokio::test]
async fn a_flood_of_commands_lands_while_the_writer_writes() {
    let house = House::build(Clock::Real, Backing::Thread, |_| {});
    let many = limits::STORE_CHANGES as u64 * 2 + 100;
    for n in 0..many {
        house.command(&format!("c{n}"), 50.0, n).await;
    }
    for _ in 0..200 {
        if house.kept().len() as u64 == many {
            break;
        }
        house.wait(50).await;
    }
    assert_eq!(house.kept().len() as u64, many);
    house.wait(200).await;
    assert_eq!(house.handle.snapshot().await.unwrap().commands_open as u64, many);
    assert_eq!(house.orders.lock().unwrap().len(), 1, "one at a time for one device");
    house.stop.cancel();
    let House { task, store, .. } = house;
    task.await.unwrap();
    store.close().await;
    let mut ended = 0;
    while let Some(message) = store.events().next(U) {
        ended += message.events.iter().filter(|e| matches!(e.kind, EventKind::Command { phase: Phase::Rejected, .. })).count();
    }
    assert_eq!(ended as u64, many - 1, "what waited is rejected at the stop");
}

/// The share of the stop that `app` gives the engine is over at the same moment for both, and what is sealed after the
/// store is closed is lost.
#[tokio::test(start_paused = true)]
async fn the_last_readings_are_sealed_before_the_stop_goes_on_without_the_engine() {
    let house = House::start();
    house.command("c1", 50.0, 1).await;
    house.wait(10).await;
    house.reading(&points(&["u", "k"]), &[230, 1]).await;
    house.stop.cancel();
    let House { task, store, .. } = house;
    let ended = tokio::time::timeout(Duration::from_secs(1), task).await;
    assert!(ended.is_ok(), "an order that nobody answers holds the engine for longer than its share");
    assert!(store.spool().has_live(U));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_disk_refused_is_stored_and_told_when_it_works_again() {
    let house = House::start();
    house.command("c1", 50.0, 1).await;
    house.reading(&points(&["u", "k"]), &[230, 1]).await;
    assert_eq!(house.events().await, ["epoch", "meter online"]);
    let db = rusqlite::Connection::open(house._dir.path().join("state.db")).unwrap();
    db.execute_batch("ALTER TABLE event RENAME TO elsewhere").unwrap();
    house.done("c1", Phase::Confirmed).await;
    house.line(LineState::Down).await;
    house.wait(3_000).await;
    db.execute_batch("ALTER TABLE elsewhere RENAME TO event").unwrap();
    house.wait(3_000).await;
    let told = house.events().await;
    let about_disk = told.iter().filter(|e| e.starts_with("state.db")).collect::<Vec<_>>();
    assert_eq!(about_disk, ["state.db failing", "state.db ok"]);
    assert_eq!(told.iter().filter(|e| !e.starts_with("state.db")).collect::<Vec<_>>(), ["c1 confirmed", "bus down"]);
    assert!(house.store.commands(1).unwrap()[0].outcome.is_some(), "an open row would never be answered again");
    assert_eq!(house.store.history(&device("meter"), 1).unwrap()[0].cause, Some(Cause::LineDown));
    house.wait(3_000).await;
    assert!(house.events().await.is_empty(), "once");
}

//! Commands to several devices, cancelling, and what the gateway itself is asked for: through the engine and the store.

use super::*;
use crate::model::{Each, Own};

fn each(devices: &[&str], value: f64) -> Action {
    let action = Action::Write(BTreeMap::from([(PointId::parse("u").unwrap(), Value::Float(value))]));
    Action::Each(Box::new(Each { devices: devices.iter().map(|d| device(d)).collect(), action }))
}

fn own(json: serde_json::Value) -> Action {
    Action::Own(Box::new(Own::read(&json).unwrap()))
}

fn id(text: &str) -> CommandId {
    CommandId::parse(text).unwrap()
}

impl House {
    /// The stored end of a command.
    fn end(&self, of: &str) -> Outcome {
        self.store.command(of).unwrap().unwrap().outcome.unwrap_or_else(|| panic!("{of} has not ended"))
    }

    async fn value(&self, of: &str, action: Action, name: &str) -> Option<Value> {
        self.ask(of, action).await;
        self.wait(50).await;
        let end = self.end(of);
        assert_eq!(end.phase, Phase::Confirmed, "{end:?}");
        end.values.get(&PointId::parse(name).unwrap()).cloned()
    }

    fn wishes(&self) -> Vec<Wish> {
        let mut wishes = self.wishes.lock().unwrap();
        std::iter::from_fn(|| wishes.try_recv().ok()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_to_several_devices_is_told_once_with_a_line_for_each() {
    let house = House::start();
    house.ask("w", each(&["meter", "nobody"], 50.0)).await;
    assert_eq!(house.events().await, ["epoch"]);
    assert_eq!(house.orders.lock().unwrap()[0].id, id("w@meter"));
    house.done("w@meter", Phase::Confirmed).await;
    assert_eq!(house.events().await, ["w failed 1 confirmed, 1 rejected"]);
    let end = house.end("w");
    assert_eq!(end.results[&device("meter")].phase, Phase::Confirmed);
    assert_eq!(end.results[&device("nobody")].reason, "there is no device nobody here");
    assert_eq!(house.end("w@meter").phase, Phase::Confirmed, "each has a row of its own in the audit");
    house.ask("w", each(&["meter", "nobody"], 60.0)).await;
    assert_eq!(house.events().await, ["w failed 1 confirmed, 1 rejected"], "its first result again");
    assert_eq!(house.orders.lock().unwrap().len(), 1, "nothing runs twice");
}

#[tokio::test(start_paused = true)]
async fn an_id_that_a_part_would_have_is_not_taken_for_a_repetition() {
    let house = House::start();
    house.command("w@meter", 50.0, 1).await;
    house.ask("w", each(&["meter"], 60.0)).await;
    let told = house.events().await;
    assert_eq!(told[1..], ["w rejected 1 rejected"]);
    assert!(house.end("w").results[&device("meter")].reason.contains("w@meter was used before"));
    house.done("w@meter", Phase::Confirmed).await;
    assert_eq!(house.events().await, ["w@meter confirmed"], "whose command it is hears its own end");
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_what_is_known_of_each_device_is_told() {
    let whole = Command {
        id: id("w"),
        device: DeviceId::gateway(),
        action: each(&["meter", "pump", "valve"], 50.0),
        from: "uplink cloud".into(),
        received: BASE,
        issued_at: None,
        expires_in: Duration::from_secs(60),
        from_stored_session: false,
    };
    let house = House::start_after(|restored| {
        let pump = whole.parts().remove(1);
        restored.open_commands = vec![(whole, Phase::Sent), (pump, Phase::Sent)];
        restored.ended_parts = [(id("w@meter"), Outcome::new(Phase::Confirmed, ""))].into();
    });
    assert_eq!(house.events().await, ["epoch", "w unknown 1 confirmed, 1 rejected, 1 unknown"]);
    assert!(house.orders.lock().unwrap().is_empty(), "nothing is executed again");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_what_waits_and_says_what_it_did() {
    let house = House::start();
    house.command("c1", 50.0, 1).await;
    house.command("c2", 60.0, 2).await;
    house.ask("x1", Action::Cancel(id("c2"))).await;
    assert_eq!(house.events().await, ["epoch", "c2 rejected cancelled by uplink cloud; nothing was sent", "x1 confirmed"]);
    house.ask("x2", Action::Cancel(id("c1"))).await;
    house.ask("x3", Action::Cancel(id("c2"))).await;
    let want = [
        "x2 rejected it was sent already, and nothing takes it back",
        "x3 rejected no command of this id is open: it has ended, or it never came",
    ];
    assert_eq!(house.events().await, want);
    house.done("c1", Phase::Confirmed).await;
    assert_eq!(house.events().await, ["c1 confirmed"]);
}

#[tokio::test(start_paused = true)]
async fn the_gateway_shows_itself() {
    let house = House::start();
    house.message("plug", "open", false, 1).await;
    house.message("odd", "quiet", false, 2).await;
    house.wait(50).await;
    let text = |text: &str| Some(Value::Text(text.into()));
    assert_eq!(house.value("p", own("ping".into()), "gateway").await, text("g"));
    assert_eq!(house.value("d", own("devices".into()), "plug").await, text("online"));
    assert_eq!(house.end("d").values.get(&PointId::parse("odd").unwrap()), None, "quarantine is nothing to the cloud");
    assert_eq!(house.value("s", own("status".into()), "devices.online").await, Some(Value::Uint(2)));
    assert_eq!(house.value("g", own("diagnostics".into()), "store.state.db").await, text("ok"));
    house.value("r", own("rebirth".into()), "x").await;
    assert_eq!(house.wishes(), [Wish::Rebirth]);
    let row = house.store.command("p").unwrap().unwrap();
    assert_eq!(row.asked, Some(own("ping".into())), "the audit says what was asked");
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_wished_for_once_and_after_its_end_is_durable() {
    let house = House::start();
    house.ask("r", own("restart".into())).await;
    assert_eq!(house.events().await, ["epoch", "r confirmed"]);
    assert_eq!(house.wishes(), [Wish::Restart]);
    assert_eq!(house.end("r").phase, Phase::Confirmed);
    house.ask("r", own("restart".into())).await;
    assert_eq!(house.events().await, ["r confirmed"]);
    assert!(house.wishes().is_empty(), "who asks again hears the first result and restarts nothing");
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_when_whoever_reads_the_file_says_so() {
    let house = House::start();
    house.ask("l", own("reload".into())).await;
    assert_eq!(house.events().await, ["epoch"]);
    assert_eq!(house.wishes(), [Wish::Reload { id: id("l") }]);
    assert!(house.handle.ended(id("l"), Outcome::new(Phase::Rejected, "it does not check")).await);
    assert_eq!(house.events().await, ["l rejected it does not check"]);
}

#[tokio::test(start_paused = true)]
async fn maintenance_and_attributes_come_by_command() {
    let house = House::start();
    let on = serde_json::json!({"maintenance.on": {"device": "meter", "for_s": 60, "reason": "new bearing"}});
    house.ask("m1", own(on)).await;
    let told = house.events().await;
    assert!(told.contains(&"meter maintenance on".to_owned()) && told.contains(&"m1 confirmed".to_owned()), "{told:?}");
    assert_eq!(house.state("meter").await.1, Some(Cause::Maintenance));
    house.ask("m2", own(serde_json::json!({"maintenance.off": {"device": "nobody"}}))).await;
    assert_eq!(house.events().await, ["m2 rejected there is no device nobody here"]);
    house.ask("m3", own(serde_json::json!({"maintenance.off": {"device": "meter"}}))).await;
    assert!(house.events().await.contains(&"m3 confirmed".to_owned()));
    let set = serde_json::json!({"attributes.set": {"device": "meter", "values": {"room": "B12", "floor": 3}}});
    house.ask("a1", own(set)).await;
    assert_eq!(house.events().await, ["meter floor=3 room=B12", "a1 confirmed"]);
    house.ask("a2", own(serde_json::json!({"attributes.set": {"device": "meter", "values": {"floor": null}}}))).await;
    assert_eq!(house.events().await, ["meter floor=-", "a2 confirmed"]);
    let get = serde_json::json!({"attributes.get": {"device": "meter"}});
    assert_eq!(house.value("a3", own(get), "room").await, Some(Value::Text("B12".into())));
    assert_eq!(house.end("a3").values.len(), 1);
    let stored: Vec<String> = house.store.attributes(&device("meter")).unwrap().into_iter().map(|a| a.value).collect();
    assert_eq!(stored, ["B12"], "they outlive a restart");
    let many: BTreeMap<String, u8> = (0..=limits::ATTRIBUTES).map(|n| (format!("n{n}"), 0)).collect();
    house.ask("a4", own(serde_json::json!({"attributes.set": {"device": "meter", "values": many}}))).await;
    assert!(house.events().await.last().unwrap().starts_with("a4 rejected meter has at most 32 attributes"));
}

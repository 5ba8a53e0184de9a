//! Schedules over restarts: how far they had come, what came of their runs, and that all of a run is one transaction.

use super::*;
use crate::model::{Action, Command, CommandId, Outcome, Phase, Schedule, ScheduleId};
use std::collections::BTreeMap;

fn id(name: &str) -> ScheduleId {
    ScheduleId::parse(name).unwrap()
}

fn night() -> Schedule {
    let json =
        serde_json::json!({"cron": "0 22 * * *", "zone": "Europe/Berlin", "write": {"device": "meter-0", "point": "p0", "value": 1}});
    Schedule::read(&json).unwrap()
}

fn put(name: &str, body: Option<Schedule>, timing: &str, enabled: bool) -> Change {
    let (id, by) = (id(name), "local anna".to_owned());
    Change::Schedule(ScheduleChange::Put { id, body: body.map(Box::new), timing: timing.into(), enabled, by, at: Boot(1) })
}

fn command(moment: &str, n: usize) -> Command {
    Command {
        id: CommandId::of_schedule(&id("night"), moment, n),
        device: device(0),
        action: Action::Write(BTreeMap::from([(PointId::parse("p0").unwrap(), Value::Int(1))])),
        from: "schedule:night".into(),
        received: Boot(5),
        issued_at: None,
        expires_in: Duration::from_secs(60),
        from_stored_session: false,
    }
}

async fn run(store: &Store, second: i64, commands: Vec<Command>) -> Vec<Accepted> {
    let ids = commands.iter().map(|c| (c.id.clone(), c.device.clone())).collect();
    let ran = Change::Schedule(ScheduleChange::Ran { id: id("night"), second, is_wall: true, commands: ids, at: Boot(5) });
    let (tell, told) = tokio::sync::oneshot::channel();
    store.accept_all(vec![ran], commands, |result| tell.send(result.map_err(drop)).unwrap()).await;
    told.await.unwrap().unwrap().into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn how_far_a_schedule_came_is_there_after_a_restart() {
    for backing in [Backing::Inline, Backing::Thread] {
        let dir = dir();
        let (store, restored) = Store::open(options(dir.path(), backing)).unwrap();
        assert!(restored.schedules.is_empty());
        submit(&store, vec![put("fixed", None, "t", true), put("night", Some(night()), "t", true)]).await.unwrap();
        submit(&store, vec![Change::Schedule(ScheduleChange::Mark { id: id("fixed"), mark: 60 })]).await.unwrap();
        assert_eq!(run(&store, 100, vec![command("a", 0), command("a", 1)]).await, [Accepted::New, Accepted::New]);
        assert_eq!(run(&store, 100, vec![command("a", 0), command("b", 0)]).await, [Accepted::Again(None), Accepted::New]);
        let outcome = Outcome::new(Phase::Failed, "no");
        let ended = Change::CommandDone { id: command("a", 1).id, device: device(0), outcome, at: Boot(6) };
        submit(&store, vec![ended]).await.unwrap();
        store.close().await;
        drop(store);

        let (store, restored) = Store::open(options(dir.path(), backing)).unwrap();
        let rows: Vec<_> = restored.schedules.iter().map(|s| (s.id.as_str(), s.body.is_some(), s.enabled, s.mark, s.ran)).collect();
        assert_eq!(rows, [("fixed", false, true, Some(60), None), ("night", true, true, Some(100), Some(100))]);
        assert_eq!(restored.schedules[1].body.as_ref(), Some(&night()));
        let runs: Vec<_> = store.schedule_runs(Some(&id("night"))).unwrap();
        let said: Vec<_> = runs.iter().map(|r| format!("{} {} {}", r.command, r.phase.map_or("-", Phase::word), r.reason)).collect();
        assert_eq!(said, ["schedule:night@b - ", "schedule:night@a#2 failed no", "schedule:night@a - "]);
        // What it has done belongs to its timing; disabled and enabled again it has missed nothing.
        submit(&store, vec![put("fixed", None, "other", true), put("night", Some(night()), "t", false)]).await.unwrap();
        store.close().await;
        drop(store);

        let (store, restored) = Store::open(options(dir.path(), backing)).unwrap();
        let rows: Vec<_> = restored.schedules.iter().map(|s| (s.enabled, s.mark, s.ran)).collect();
        assert_eq!(rows, [(true, None, None), (false, None, Some(100))]);
        submit(&store, vec![Change::Schedule(ScheduleChange::Gone(id("night")))]).await.unwrap();
        assert!(store.schedule_runs(None).unwrap().is_empty());
        store.close().await;
    }
}

#[tokio::test]
async fn the_last_ten_runs_are_kept() {
    let dir = dir();
    let (store, _) = Store::open(options(dir.path(), Backing::Inline)).unwrap();
    submit(&store, vec![put("night", Some(night()), "t", true)]).await.unwrap();
    for n in 0..15 {
        run(&store, 1000 - n, vec![command(&n.to_string(), 0), command(&n.to_string(), 1)]).await;
    }
    let runs = store.schedule_runs(None).unwrap();
    assert_eq!((runs.len(), runs[0].command.as_str(), runs[19].command.as_str()), (20, "schedule:night@14#2", "schedule:night@5"));
    store.close().await;
}

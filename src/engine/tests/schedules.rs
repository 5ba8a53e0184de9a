//! Schedules through the engine, the store and a port: over months, restarts and kills.

use super::*;
use crate::{
    config::Schedule as Configured,
    engine::{ScheduleError, ScheduleView},
    model::{Schedule, ScheduleAsk, ScheduleId, calendar},
};
use tempfile::TempDir;

fn id(name: &str) -> ScheduleId {
    ScheduleId::parse(name).unwrap()
}

fn schedule(json: serde_json::Value) -> Schedule {
    let mut json = json;
    json["write"] = serde_json::json!({"device": "meter", "point": "u", "value": 50});
    Schedule::read(&json).unwrap()
}

fn at(text: &str) -> i64 {
    calendar::parse_rfc3339(text).unwrap().0
}

/// One run of the process on a machine that started in January 2026.
struct Life {
    engine: tokio::task::JoinHandle<()>,
    port: tokio::task::JoinHandle<()>,
    urgent: mpsc::Sender<Urgent>,
    handle: Handle,
    store: Store,
    _bulk: mpsc::Sender<Bulk>,
    _cards: watch::Receiver<Arc<Vec<DeviceCard>>>,
}

/// What was carried out, over all lives.
type Executed = Arc<Mutex<Vec<String>>>;

impl Life {
    fn begin(config: &Config, dir: &TempDir, wall: &str, executed: &Executed) -> Life {
        let offset_ms = at("2026-01-01T00:00:00Z");
        let base = Boot::from_ms((at(wall) - offset_ms).unsigned_abs());
        let clock = Clock::Paused { start: tokio::time::Instant::now(), base, offset_ms };
        let options = Options {
            data_dir: dir.path().into(),
            buffer: config.buffer.clone(),
            clock,
            backing: Backing::Inline,
            linger: Duration::ZERO,
            uplinks: vec![],
            epoch_seed: Some(base.0),
        };
        let (store, restored) = Store::open(options).unwrap();
        let (urgent, urgent_in) = mpsc::channel(limits::URGENT);
        let (bulk, bulk_in) = mpsc::channel(limits::BULK);
        let (cards_out, cards) = watch::channel(Arc::default());
        let (give, mut orders) = mpsc::channel::<Order>(limits::URGENT);
        let port: OrderPort = Arc::new(move |order| give.try_send(order).map_err(mpsc::error::TrySendError::into_inner));
        let (engine, handle) = Engine::new(Parts {
            config: Arc::new(config.clone()),
            restored,
            store: store.clone(),
            clock,
            urgent: urgent_in,
            bulk: bulk_in,
            bursts: Arc::default(),
            ports: BTreeMap::from([(line(), port)]),
            mqtt: None,
            push: None,
            recall: None,
            wishes: mpsc::channel(1).0,
            samples: None,
            cards: cards_out,
            stop: CancellationToken::new(),
        });
        let (engine, done, executed) = (tokio::spawn(engine.run()), urgent.clone(), Arc::clone(executed));
        let port = tokio::spawn(async move {
            while let Some(order) = orders.recv().await {
                executed.lock().unwrap().push(order.id.to_string());
                let outcome = Outcome::new(Phase::Confirmed, "");
                let at = clock.now();
                let _ = done.send(Urgent::Done(WriteDone { id: order.id, device: order.device, outcome, at })).await;
            }
        });
        Life { engine, port, urgent, handle, store, _bulk: bulk, _cards: cards }
    }

    async fn lasts(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    async fn kill(self) {
        self.engine.abort();
        self.port.abort();
        let _ = (self.engine.await, self.port.await);
    }

    async fn ask(&self, ask: ScheduleAsk) -> Result<(), ScheduleError> {
        self.handle.schedule(ask, "local anna".into()).await
    }

    async fn views(&self) -> Vec<ScheduleView> {
        self.handle.schedules().await.unwrap()
    }

    async fn events(&self) -> Vec<String> {
        self.lasts(1).await;
        let mut out = vec![];
        while let Some(message) = self.store.events().next(U) {
            self.store.events().acknowledged(U, message.key);
            out.extend(message.events.iter().map(|e| words(&e.kind)));
        }
        out.retain(|e| !["epoch", "progress", "meter"].iter().any(|w| e.starts_with(w)));
        out
    }

    /// What was acknowledged just before a kill is told again.
    async fn events_but(&self, told: &[String]) -> Vec<String> {
        let mut out = self.events().await;
        out.retain(|e| !told.contains(e));
        out
    }

    fn runs(&self, of: &str) -> Vec<String> {
        let runs = self.store.schedule_runs(Some(&id(of))).unwrap();
        runs.iter().map(|r| format!("{} {}", r.command, r.phase.map_or("-", Phase::word))).collect()
    }
}

fn with(schedules: Vec<(&str, Schedule)>) -> Config {
    let mut config = Config { mqtt: None, ..config() };
    config.schedules = schedules.into_iter().map(|(name, is)| Configured { id: id(name), is, enabled: true }).collect();
    config
}

#[tokio::test(start_paused = true)]
async fn across_both_changes_of_the_clock_a_week_off_and_ten_restarts_it_runs_as_its_policy_says() {
    for (missed, weeks, summer) in [("skip", 0, 0), ("once", 1, 1), ("all", 7, 100)] {
        let config = with(vec![("night", schedule(serde_json::json!({"cron": "30 2 * * *", "zone": "Europe/Berlin", "missed": missed})))]);
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let executed = Executed::default();
        for (begin, seconds) in [
            ("2026-03-28T20:00:00Z", 600),
            // 02:30 is left out: it runs at the change.
            ("2026-03-29T00:50:00Z", 1200),
            ("2026-03-30T00:29:30Z", 60),
            ("2026-03-30T00:30:31Z", 60),
            // A week off.
            ("2026-04-06T02:00:00Z", 30),
            ("2026-04-06T02:00:40Z", 120),
            // A summer off, and 02:30 comes twice.
            ("2026-10-25T00:29:00Z", 300),
            ("2026-10-25T00:34:30Z", 60),
            ("2026-10-25T01:29:00Z", 300),
            ("2026-10-26T01:29:30Z", 40),
            ("2026-10-26T01:30:20Z", 60),
        ] {
            let life = Life::begin(&config, &dir, begin, &executed);
            life.lasts(seconds).await;
            life.kill().await;
        }
        let mut want = vec!["2026-03-29T01:00:00Z".to_owned(), "2026-03-30T00:30:00Z".to_owned()];
        let day = |last: &str, back: i64| format!("{}Z", calendar::text(at(last) / 1000 - back * 86_400));
        want.extend((0..weeks).rev().map(|back| day("2026-04-06T00:30:00Z", back)));
        want.extend((0..summer).rev().map(|back| day("2026-10-24T00:30:00Z", back)));
        want.extend(["2026-10-25T00:30:00Z".to_owned(), "2026-10-26T01:30:00Z".to_owned()]);
        let want: Vec<String> = want.into_iter().map(|moment| format!("schedule:night@{moment}")).collect();
        assert_eq!(*executed.lock().unwrap(), want, "{missed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_told_and_the_last_runs_are_kept_with_their_ends() {
    let config = with(vec![("pump", schedule(serde_json::json!({"every_s": 600, "missed": "all"})))]);
    let dir = tempfile::tempdir().unwrap();
    let executed = Executed::default();
    let life = Life::begin(&config, &dir, "2026-06-01T12:05:00Z", &executed);
    life.lasts(601).await;
    let before = life.events().await;
    assert_eq!(before, ["schedule:pump@2026-06-01T12:10:00Z confirmed"]);
    life.kill().await;
    let life = Life::begin(&config, &dir, "2026-06-01T14:25:00Z", &executed);
    life.lasts(1).await;
    let events = life.events_but(&before).await;
    assert_eq!((events.len(), events[0].as_str()), (14, "pump missed 13, ran 13"));
    assert_eq!(events[13], "schedule:pump@2026-06-01T14:20:00Z confirmed");
    let runs = life.runs("pump");
    assert_eq!((runs.len(), runs[0].as_str()), (10, "schedule:pump@2026-06-01T14:20:00Z confirmed"));
    assert_eq!(runs[9], "schedule:pump@2026-06-01T12:50:00Z confirmed");
    assert_eq!(life.views().await[0].next, Some(crate::model::WallMs(at("2026-06-01T14:30:00Z"))));
}

#[tokio::test(start_paused = true)]
async fn schedules_are_added_changed_disabled_and_removed_while_it_runs_and_stay_so() {
    let config = with(vec![("fixed", schedule(serde_json::json!({"cron": "@hourly", "missed": "all"})))]);
    let dir = tempfile::tempdir().unwrap();
    let executed = Executed::default();
    let life = Life::begin(&config, &dir, "2026-06-01T12:05:00Z", &executed);
    let quarter = || schedule(serde_json::json!({"every_s": 900}));
    assert_eq!(life.ask(ScheduleAsk::Set(id("more"), quarter())).await, Ok(()));
    assert_eq!(life.ask(ScheduleAsk::Set(id("fixed"), quarter())).await, Err(ScheduleError::Configured(id("fixed"))));
    assert_eq!(life.ask(ScheduleAsk::Remove(id("fixed"))).await, Err(ScheduleError::Configured(id("fixed"))));
    assert_eq!(life.ask(ScheduleAsk::Remove(id("none"))).await, Err(ScheduleError::Unknown(id("none"))));
    let why = |asked: Result<(), ScheduleError>| asked.unwrap_err().to_string();
    let mut strange = quarter();
    strange.write[0].device = device("nobody");
    assert_eq!(why(life.ask(ScheduleAsk::Set(id("x"), strange)).await), "there is no device nobody here");
    let mut high = quarter();
    high.write[0].value = Value::Int(95);
    assert_eq!(why(life.ask(ScheduleAsk::Set(id("x"), high)).await), "meter: 95 is above the most for u, 90");
    let past = schedule(serde_json::json!({"at": "2026-06-01T12:00:00Z"}));
    assert_eq!(why(life.ask(ScheduleAsk::Set(id("x"), past)).await), "its time is over");
    let nowhere = schedule(serde_json::json!({"cron": "@daily", "zone": "Europe/Berlim"}));
    assert!(why(life.ask(ScheduleAsk::Set(id("x"), nowhere)).await).contains("does not know the time zone Europe/Berlim"));
    life.lasts(600).await;
    assert_eq!(life.events().await, ["more set", "schedule:more@2026-06-01T12:15:00Z confirmed"]);
    assert_eq!(life.ask(ScheduleAsk::Enable(id("fixed"), false)).await, Ok(()));
    assert_eq!(life.ask(ScheduleAsk::Enable(id("fixed"), false)).await, Ok(()));
    let before = life.events().await;
    assert_eq!(before, ["fixed disabled"]);
    life.kill().await;

    let life = Life::begin(&config, &dir, "2026-06-01T12:30:30Z", &executed);
    life.lasts(1).await;
    let views = life.views().await;
    let said: Vec<String> = views.iter().map(|v| format!("{} {} {} {}", v.id, v.enabled, v.configured, v.by)).collect();
    assert_eq!(said, ["fixed false true local anna", "more true false local anna"]);
    assert_eq!(life.events_but(&before).await, ["schedule:more@2026-06-01T12:30:00Z confirmed"], "half a minute late is on time");
    life.lasts(3600).await;
    assert_eq!(life.ask(ScheduleAsk::Enable(id("fixed"), true)).await, Ok(()));
    assert_eq!(life.ask(ScheduleAsk::Remove(id("more"))).await, Ok(()));
    life.kill().await;

    let life = Life::begin(&config, &dir, "2026-06-01T14:00:10Z", &executed);
    life.lasts(1).await;
    assert_eq!(life.views().await.len(), 1);
    let fixed: Vec<String> = executed.lock().unwrap().iter().filter(|c| c.contains("fixed")).cloned().collect();
    assert_eq!(fixed, ["schedule:fixed@2026-06-01T14:00:00Z"], "what came while it was disabled was not missed");
}

#[tokio::test(start_paused = true)]
async fn the_cloud_manages_schedules_by_commands_of_the_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let life = Life::begin(&with(vec![]), &dir, "2026-06-01T12:05:00Z", &Executed::default());
    let send = async |name: &str, run: serde_json::Value, issued: Option<&str>| {
        let command = Command {
            id: CommandId::parse(name).unwrap(),
            device: crate::model::DeviceId::gateway(),
            action: Action::Run(Box::new(ScheduleAsk::read(&run).unwrap())),
            from: "uplink cloud".into(),
            received: Boot::from_ms((at("2026-06-01T12:05:00Z") - at("2026-01-01T00:00:00Z")).unsigned_abs()),
            issued_at: issued.map(|t| crate::model::WallMs(at(t))),
            expires_in: Duration::from_secs(60),
            from_stored_session: false,
        };
        life.urgent.send(Urgent::Command { command, receipt: Receipt::none() }).await.unwrap();
    };
    let write = serde_json::json!({"device": "meter", "point": "u", "value": 50});
    send("1", serde_json::json!({"schedule.set": {"id": "night", "cron": "0 22 * * *", "write": write}}), None).await;
    send("2", serde_json::json!("schedule.list"), None).await;
    send("3", serde_json::json!({"schedule.remove": "day"}), None).await;
    send("1", serde_json::json!({"schedule.remove": "night"}), None).await;
    send("4", serde_json::json!({"schedule.disable": "night"}), Some("2026-06-01T12:00:00Z")).await;
    let want =
        ["night set", "1 confirmed", "2 confirmed", "3 rejected there is no schedule day", "4 expired its time was over when it arrived"];
    assert_eq!(life.events().await, want);
    let listed = life.store.commands(10).unwrap().into_iter().find(|c| c.id == "2").unwrap().outcome.unwrap().values;
    let said = Value::Text("every day at 22:00, next 2026-06-01T22:00:00Z".into());
    assert_eq!(listed, BTreeMap::from([(PointId::parse("night").unwrap(), said)]));
}

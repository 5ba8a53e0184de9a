//! Builds every part from the configuration, joins them, and takes them down in order. The only file that sees everything.
//!
//! Order of the stop: field (nothing new comes in) → engine (what came in is sealed) → uplink (what can be sent is
//! sent) → store (the rest is on disk, marked as a clean stop). Each has its share of `limits::SHUTDOWN`.

use crate::{
    api::{
        control, http,
        status::{Figures, LineDoor, Replay, Sources},
    },
    config::{self, Config, Protocol},
    drivers::{Doors, ascii, line, mqtt, push},
    engine::{self, Engine, Wish},
    limits,
    model::{Boot, DeviceId, LineId, LineState, Outcome, Phase, PointId, PushPort, UplinkFigures, UplinkIndex, Urgent, Value},
    store::{Backing, Holder, Options, Store, samples::Samples},
    system::{clock::Clock, notify},
    uplink,
};
use anyhow::Context;
use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Shares of `limits::SHUTDOWN` (5 s): field 0.5, engine 1, uplink 2, store 1.25; the rest is for taking down what is left.
const FIELD_STOPS_IN: Duration = Duration::from_millis(500);
const ENGINE_STOPS_IN: Duration = Duration::from_secs(1);
const UPLINK_STOPS_IN: Duration = Duration::from_secs(2);
const STORE_STOPS_IN: Duration = Duration::from_millis(1250);
const _: () = assert!(
    FIELD_STOPS_IN.as_millis() + ENGINE_STOPS_IN.as_millis() + UPLINK_STOPS_IN.as_millis() + STORE_STOPS_IN.as_millis()
        <= limits::SHUTDOWN.as_millis()
);

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Stopped,
    /// To be begun anew: somebody asked for it, or the configuration is another one.
    Again,
}

/// Runs until SIGTERM or SIGINT, or until it is to begin anew. An error is one of starting: once it runs, every fault is a
/// state that is shown. `file`: where the configuration is read again.
pub async fn run(config: Config, file: &Path) -> anyhow::Result<End> {
    let stop = CancellationToken::new();
    let (hang_up, mut hang_ups) = mpsc::channel(1);
    tokio::spawn(signals(stop.clone(), hang_up)?);
    let config = Arc::new(config);
    let clock = Clock::Real;
    let started = clock.now();
    make_dir(&config.gateway.data_dir)?;
    make_dir(&config.gateway.run_dir)?;
    let (store, restored) = Store::open(Options {
        data_dir: config.gateway.data_dir.clone(),
        buffer: config.buffer.clone(),
        clock,
        backing: Backing::Thread,
        linger: engine::unsealed(&config),
        uplinks: Holder::with_hooks(&config.uplinks, &config.webhooks),
        epoch_seed: None,
    })
    .context("cannot open the store")?;
    store.read_beside().context("cannot start reading")?;
    let epoch = restored.epoch;

    let (urgent, urgent_rx) = mpsc::channel(limits::URGENT);
    let (bulk, bulk_rx) = mpsc::channel(limits::BULK);
    let tcp_lines = config.lines.iter().filter(|l| !matches!(l.transport, config::Transport::Serial(_))).count();
    let watched = Arc::new(engine::watched(&config));
    let doors = Doors { company: engine::company(&config), watched, tcp_lines, ..Doors::new(urgent.clone(), bulk) };
    let local_commands = urgent.downgrade();
    let [field_stop, engine_stop, uplink_stop, surface_stop] = [(); 4].map(|()| CancellationToken::new());

    let mut ports = BTreeMap::new();
    let mut lines = Vec::new();
    let mut line_doors = Vec::new();
    let mut known = line::Known { facts: &restored.learned, ..line::Known::default() };
    for l in &config.lines {
        let mut devices: Vec<_> = config.devices.iter().filter(|d| d.line == l.id).cloned().collect();
        // Mostly one, on hundreds of lines, and they stay.
        devices.shrink_to_fit();
        let framed: Vec<_> = config.framed.iter().filter(|d| d.line == l.id).cloned().collect();
        let handle = match l.protocol {
            Protocol::Modbus if !devices.is_empty() => line::start(l, devices, &mut known, doors.clone(), clock, field_stop.clone()),
            Protocol::Ascii if !framed.is_empty() => ascii::start(l, framed, doors.clone(), clock, field_stop.clone()),
            Protocol::Modbus | Protocol::Ascii => continue,
        };
        ports.insert(l.id.clone(), handle.orders.clone());
        line_doors.push(LineDoor { line: l.clone(), site: handle.site.clone(), frames: handle.frames.clone() });
        lines.push(handle);
    }
    let local = start_mqtt(&config, &doors, clock, &field_stop).await;
    let pushes = config.api.as_ref().map(|_| {
        let offsets = store.clone();
        push::start(doors.clone(), clock, Arc::new(move || offsets.clock().0), field_stop.clone())
    });
    let samples = keep_samples(&config, &store);
    let (wish, mut wishes) = mpsc::channel(limits::WISHES);
    let (cards, cards_rx) = watch::channel(Arc::new(Vec::new()));
    let (engine, handle) = Engine::new(engine::Parts {
        config: config.clone(),
        restored,
        store: store.clone(),
        clock,
        urgent: urgent_rx,
        bulk: bulk_rx,
        bursts: Arc::clone(&doors.bursts),
        ports,
        mqtt: local.as_ref().map(|l| (l.orders.clone(), l.local.clone())),
        push: pushes.as_ref().map(|p| p.orders.clone()),
        recall: pushes.as_ref().map(|p| p.recall.clone()),
        samples: samples.clone(),
        cards,
        wishes: wish,
        stop: engine_stop.clone(),
    });
    let (shown, figures): (Vec<_>, Vec<_>) = config.uplinks.iter().map(|_| watch::channel(idle(clock.now()))).unzip();
    let figures: Vec<_> = config.uplinks.iter().map(|u| u.id.clone()).zip(figures).collect();
    let engine = tokio::spawn(engine.watching(&figures).run());

    let (reborn, rebirth) = watch::channel(0);
    let mut uplink_tasks = JoinSet::new();
    for (index, (u, figures)) in (0..).map(UplinkIndex).zip(config.uplinks.iter().zip(shown)) {
        uplink_tasks.spawn(uplink::run(uplink::Parts {
            config: u.clone(),
            index,
            gateway: config.gateway.id.clone(),
            version: env!("CARGO_PKG_VERSION"),
            store: store.clone(),
            epoch,
            urgent: urgent.clone(),
            cards: cards_rx.clone(),
            rebirth: rebirth.clone(),
            figures,
            clock,
            stop: uplink_stop.clone(),
        }));
    }
    // Behind the uplinks in the event stream; without any, behind the place that is kept for one.
    for (index, hook) in (config.uplinks.len().max(1)..).zip(&config.webhooks) {
        uplink_tasks.spawn(uplink::hooks::run(uplink::hooks::Parts {
            config: hook.clone(),
            index: UplinkIndex(u8::try_from(index).unwrap_or(u8::MAX)),
            gateway: config.gateway.id.clone(),
            store: store.clone(),
            urgent: urgent.downgrade(),
            clock,
            stop: uplink_stop.clone(),
        }));
    }
    drop(urgent);

    let sources = Arc::new(Sources {
        gateway: config.gateway.id.clone(),
        engine: handle.clone(),
        store: store.clone(),
        samples: samples.clone(),
        rules: config.rules.clone(),
        lines: lines.iter().map(|l| Box::new(l.reader()) as Figures).collect(),
        doors: line_doors,
        forget: forget_ports(&config, &lines),
        replay: replay(store.clone(), clock, local.as_ref().map(mqtt::MqttHandle::again)),
        urgent: local_commands,
        uplinks: config.uplinks.iter().map(|u| u.required).zip(figures).map(|(required, (id, f))| (id, required, f)).collect(),
        clock,
        started,
        epoch: epoch.to_string(),
        card_endurance: config.buffer.card_endurance,
    });
    let surface = match (&config.api, pushes) {
        (Some(api), Some(pushes)) => start_http(api, sources.clone(), pushes.port, field_stop.clone()),
        _ => None,
    };
    match control::bind(&config.gateway.socket()) {
        Ok(listener) => {
            tokio::spawn(control::serve(listener, sources, surface_stop.clone()));
        }
        Err(error) => tracing::warn!(%error, "no control socket"),
    }
    let (turns, age) = (handle.clone(), store.clone());
    tokio::spawn(notify::feed_watchdog(move || turns.turns(), move || age.writer_age(), surface_stop.clone()));
    let (devices, busses) = (config.devices.len() + config.framed.len(), lines.len());
    tracing::info!(gateway = %config.gateway.id, %epoch, lines = busses, devices, version = env!("CARGO_PKG_VERSION"), "fieldgate runs");
    let ready = format!("{busses} lines, {devices} devices");
    notify::ready(&ready);

    let end = loop {
        let wish = tokio::select! {
            biased;
            () = stop.cancelled() => break End::Stopped,
            Some(wish) = wishes.recv() => wish,
            Some(()) = hang_ups.recv() => {
                if reload(&config, file, &ready).await.1 {
                    break End::Again;
                }
                continue;
            }
        };
        match wish {
            Wish::Rebirth => reborn.send_modify(|n| *n += 1),
            Wish::Restart => {
                notify::reloading();
                break End::Again;
            }
            Wish::Reload { id } => {
                let (outcome, again) = reload(&config, file, &ready).await;
                let kept = handle.ended(id, outcome).await;
                if again && kept {
                    break End::Again;
                }
                notify::ready(&ready);
            }
        }
    };
    if end == End::Stopped {
        notify::stopping();
    }
    let begun = clock.now();
    tracing::info!("stopping");
    drop(doors);
    field_stop.cancel();
    let field = async {
        for l in lines {
            l.ended().await;
        }
        if let Some(l) = local {
            l.ended().await;
        }
        // Last: what it hands in is still answered.
        if let Some(s) = surface {
            s.ended().await;
        }
    };
    in_time("field", FIELD_STOPS_IN, field).await;
    engine_stop.cancel();
    in_time("engine", ENGINE_STOPS_IN, engine).await;
    uplink_stop.cancel();
    in_time("uplink", UPLINK_STOPS_IN, async { while uplink_tasks.join_next().await.is_some() {} }).await;
    surface_stop.cancel();
    let kept = async {
        if let Some(samples) = samples {
            // A panic there is said there.
            let _ = tokio::task::spawn_blocking(move || samples.close()).await;
        }
    };
    in_time("store", STORE_STOPS_IN, async { tokio::join!(store.close(), kept) }).await;
    let _ = fs::remove_file(config.gateway.socket());
    tracing::info!(took_ms = (clock.now() - begun).as_millis(), "stopped");
    Ok(end)
}

/// Reads the configuration again: what came of it, and whether it is to begin anew with it. One that does not check is
/// refused, and the running one stays; one that says the same changes nothing.
async fn reload(config: &Config, file: &Path, ready: &str) -> (Outcome, bool) {
    notify::reloading();
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || config::load(&path)).await;
    let (outcome, again) = match read {
        Err(_) => (Outcome::new(Phase::Failed, "the configuration could not be read"), false),
        Ok(config::Loaded { config: None, problems, .. }) => (Outcome::new(Phase::Rejected, refused(&problems)), false),
        Ok(config::Loaded { config: Some(next), .. }) => {
            let changed = next != *config;
            let values = PointId::parse("changed").map(|name| (name, Value::Bool(changed)));
            (Outcome::new(Phase::Confirmed, "").with(values.into_iter().collect()), changed)
        }
    };
    match (outcome.phase, again) {
        (Phase::Confirmed, true) => tracing::info!("the configuration has changed; fieldgate begins anew with it"),
        (Phase::Confirmed, false) => tracing::info!("the configuration says what it said; nothing changes"),
        _ => tracing::error!(reason = %outcome.reason, "the configuration was not taken; the one that runs stays"),
    }
    if !again {
        notify::ready(ready);
    }
    (outcome, again)
}

/// The first problems in a sentence each.
fn refused(problems: &[config::Problem]) -> String {
    let errors: Vec<&config::Problem> = problems.iter().filter(|p| p.severity == config::Severity::Error).collect();
    let told: Vec<String> =
        errors.iter().take(limits::RELOAD_PROBLEMS).map(|p| format!("{}: {}", config::render::place(p), p.found)).collect();
    let more = errors.len().saturating_sub(limits::RELOAD_PROBLEMS);
    let more = if more > 0 { format!("; and {more} more, see fieldgate check") } else { String::new() };
    format!("the configuration does not check: {}{more}", told.join("; "))
}

/// A history that cannot be kept is one clear message; everything else runs.
fn keep_samples(config: &Config, store: &Store) -> Option<Samples> {
    let kept = store.keep_samples(&config.gateway.data_dir, config.history.clone()?);
    kept.inspect_err(|error| tracing::error!(%error, "the local history is not kept")).ok()
}

/// Dead letters go back to where they came from: the spool, or the local MQTT door.
fn replay(store: Store, clock: Clock, local: Option<mqtt::Again>) -> Replay {
    Box::new(move |letter, receipt| {
        if letter.source.starts_with("uplink ") {
            let done = uplink::replay::replay(&store, letter, receipt, clock.now()).map_err(str::to_owned);
            return Box::pin(std::future::ready(done));
        }
        if letter.source.starts_with("http ") {
            return Box::pin(std::future::ready(
                Err("its sender was told what was wrong; only it can send it again, corrected".to_owned()),
            ));
        }
        let Some(local) = letter.source.strip_prefix("mqtt ").and(local.as_ref()) else {
            return Box::pin(std::future::ready(Err("nothing here takes it: its door is not in the configuration".to_owned())));
        };
        if letter.body.len() >= limits::DEAD_LETTER_BYTES {
            return Box::pin(std::future::ready(Err("its content was cut, so it cannot be handed in again".to_owned())));
        }
        let waiting = local(&letter.topic, &letter.body, receipt);
        Box::pin(async move {
            if let Some(waiting) = waiting {
                waiting.await;
            }
            Ok(())
        })
    })
}

/// Of each configured device, the port of its line.
fn forget_ports(config: &Config, lines: &[line::LineHandle]) -> BTreeMap<DeviceId, line::ForgetPort> {
    let port = |line: &LineId| lines.iter().find(|l| l.id == *line).map(|l| l.forget.clone());
    config.devices.iter().filter_map(|d| Some((d.id.clone(), port(&d.line)?))).collect()
}

/// Before the first attempt to connect.
fn idle(now: Boot) -> UplinkFigures {
    UplinkFigures { since: now, reason: "not connected yet".into(), ..UplinkFigures::default() }
}

async fn in_time<T>(part: &str, limit: Duration, end: impl Future<Output = T>) {
    if timeout(limit, end).await.is_err() {
        tracing::warn!(part, limit_ms = limit.as_millis(), "did not end in time; going on without it");
    }
}

/// An endpoint that cannot open is one clear event; everything else runs.
async fn start_mqtt(config: &Config, doors: &Doors, clock: Clock, stop: &CancellationToken) -> Option<mqtt::MqttHandle> {
    let local = config.mqtt.as_ref()?;
    match mqtt::start(local, doors.clone(), clock, stop.clone()) {
        Ok(handle) => Some(handle),
        Err(error) => {
            tracing::error!(%error, "local MQTT does not run");
            let line = LineId::parse("mqtt").expect("a constant that fits");
            let _ = doors.urgent.send(Urgent::Line { line, state: LineState::Down, reason: error.to_string(), at: clock.now() }).await;
            None
        }
    }
}

/// An address that cannot be opened is one clear message; everything else runs.
fn start_http(api: &config::Api, sources: Arc<Sources>, push: PushPort, stop: CancellationToken) -> Option<http::HttpHandle> {
    match http::start(api, sources, push, stop) {
        Ok(handle) => {
            handle.at.iter().for_each(|at| tracing::info!(%at, "the HTTP API is there"));
            Some(handle)
        }
        Err(error) => {
            tracing::error!(%error, "the HTTP API does not run");
            None
        }
    }
}

fn make_dir(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path)
        .with_context(|| format!("cannot create {}; create it, or set data_dir and run_dir in [gateway]", path.display()))
}

fn signals(stop: CancellationToken, hang_up: mpsc::Sender<()>) -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    Ok(async move {
        loop {
            tokio::select! {
                biased;
                _ = term.recv() => break,
                _ = int.recv() => break,
                // Full: it is about to be read.
                _ = hup.recv() => drop(hang_up.try_send(())),
            }
        }
        stop.cancel();
    })
}

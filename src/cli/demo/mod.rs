//! `fieldgate demo`: the whole gateway at work without hardware, broker or root.
//!
//! Simulated meters on a paced pseudo-terminal, a PLC on TCP, MQTT plugs, a broker as the cloud, and the real daemon
//! (a child process) between them. The cable to the cloud is pulled for 20 s; a meter loses its power; the cloud sends
//! a command. At the end the field is stopped first, so that what was sent and what arrived can be compared exactly.

mod cable;
mod cloud;
mod field;
mod gateway;
pub(super) mod keys;
mod ledger;
mod screen;
mod script;
mod summary;

use super::{Global, Out, out::count, simulate};
use crate::config::Parity;
use anyhow::Context;
use cable::Cable;
use cloud::Cloud;
use gateway::Gateway;
use screen::Picture;
use script::{Cue, Script};
use serde_json::Value;
use std::{process::ExitCode, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate demo                        about 80 s, four acts\n  fieldgate demo --for 60s --json       for a script: exit 0 only if nothing is missing and nothing came twice\n  fieldgate demo --messages             what the cloud receives, line by line\n  fieldgate demo --broker mqtt://127.0.0.1:1883     with your own mosquitto as the cloud;\n                                        read along: mosquitto_sub -t 'fieldgate/demo/#' -v\n\nKeys: space holds the picture, o pulls or plugs the cable, k kills or revives a meter, q ends."
)]
pub struct Args {
    /// End by itself after this time
    #[arg(long = "for", value_name = "TIME", value_parser = super::duration)]
    length: Option<Duration>,
    /// 20 s in all, with a short outage
    #[arg(long, conflicts_with = "length")]
    fast: bool,
    /// Keep running after the last act, until q or Ctrl-C
    #[arg(long)]
    serve: bool,
    /// Print the messages as the cloud sees them instead of the picture
    #[arg(long)]
    messages: bool,
    /// A broker of your own as the cloud
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Same seed, same values
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Room for the last polls, the drain and the stop after the last act.
const CLOSING: Duration = Duration::from_secs(5);
const COMMAND: (&str, &str, f64) = ("plc", "setpoint", 67.0);

pub fn run(_global: &Global, out: &Out, args: &Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime needs only memory and an epoll descriptor");
    match play(&runtime, out, args) {
        Ok(code) => code,
        Err(error) => {
            out.error("demo", &format!("{error:#}"), "");
            ExitCode::FAILURE
        }
    }
}

/// Everything that runs beside the picture.
struct Stage {
    devices: simulate::Running,
    cable: Cable,
    cloud: Cloud,
    gateway: Gateway,
    plugs: CancellationToken,
    stop: CancellationToken,
    meter_is_dead: bool,
    commands: u32,
    outage_began: Option<Instant>,
    outage: Duration,
    back_at: Option<Instant>,
    drained_in: Option<Duration>,
}

fn play(runtime: &tokio::runtime::Runtime, out: &Out, args: &Args) -> anyhow::Result<ExitCode> {
    let dir = tempdir()?;
    let length = args.length.unwrap_or(Duration::from_secs(if args.fast { 20 } else { 80 }));
    let (seen_tx, mut seen) = mpsc::channel(10_000);
    let mut stage = runtime.block_on(set_up(&dir.0, args, args.messages.then_some(seen_tx)))?;
    let terminal = (!args.messages && !out.json).then(keys::Terminal::take).flatten();
    let mut script = Script::new(length.saturating_sub(if length > CLOSING * 3 { CLOSING } else { Duration::ZERO }), !args.serve);
    let mut picture = Picture::default();
    let mut story = Story::default();
    let begun = Instant::now();
    let interrupted = interrupt(runtime);
    let mut ended = false;
    while !ended && !interrupted.is_cancelled() {
        wait(&mut stage, terminal.as_ref(), &mut script, &mut picture, &mut story, &mut ended);
        while let Some(cue) = script.due(begun.elapsed()) {
            act(&mut stage, cue, &mut story, &mut ended);
        }
        if stage.gateway.has_ended() {
            let log = std::fs::read_to_string(&stage.gateway.log).unwrap_or_default();
            anyhow::bail!("the gateway ended by itself; its last words:\n{}", log.lines().rev().take(5).collect::<Vec<_>>().join("\n"));
        }
        let status = stage.gateway.status();
        summary::observe(&mut stage, status.as_ref());
        while let Ok((topic, body)) = seen.try_recv() {
            out.say(&format!("{topic} {}", String::from_utf8_lossy(&body)));
        }
        if !picture.held {
            paint(&mut picture, &stage, status.as_ref(), begun.elapsed(), &story);
        }
        match &terminal {
            Some(t) => t.draw(&screen::render(&picture, out)),
            None => story.tell(begun.elapsed(), args.messages || out.json),
        }
    }
    drop(terminal);
    let code = summary::close(&mut stage, out, begun)?;
    while let Ok((topic, body)) = seen.try_recv() {
        out.say(&format!("{topic} {}", String::from_utf8_lossy(&body)));
    }
    stage.stop.cancel();
    Ok(code)
}

async fn set_up(dir: &std::path::Path, args: &Args, seen: Option<cloud::Seen>) -> anyhow::Result<Stage> {
    let stop = CancellationToken::new();
    let rtu = dir.join("meters");
    let simulated = simulate::Config {
        tcp: vec!["127.0.0.1:0".parse()?],
        rtu: vec![rtu.clone()],
        baud: field::BAUD,
        parity: Parity::None,
        units: (1..=field::METERS).collect(),
        seed: args.seed,
        ..simulate::Config::default()
    };
    let devices = simulate::Devices::start(simulated, stop.clone()).await.context("cannot start the simulated devices")?;
    let prefix = "fieldgate/demo";
    let cloud = Cloud::open(args.broker.as_deref(), prefix, seen, stop.clone()).await?;
    let cable = Cable::lay(cloud.broker, stop.clone()).await?;
    let mqtt = field::free_port()?;
    let plc = devices.tcp_addrs[0];
    let gateway = Gateway::start(
        dir,
        &gateway::Field { rtu: &rtu, baud: field::BAUD, meters: field::METERS, plc, mqtt, cloud: cable.near, topic_prefix: prefix },
    )?;
    let plugs = stop.child_token();
    field::start_plugs(mqtt, &plugs);
    Ok(Stage {
        devices,
        cable,
        cloud,
        gateway,
        plugs,
        stop,
        meter_is_dead: false,
        commands: 0,
        outage_began: None,
        outage: Duration::ZERO,
        back_at: None,
        drained_in: None,
    })
}

/// What is said under the picture, and without a terminal as lines with a time in front.
#[derive(Default)]
struct Story {
    caption: Vec<String>,
    told: usize,
    version: usize,
}

impl Story {
    fn say(&mut self, lines: &[&str]) {
        self.caption = lines.iter().map(|l| (*l).to_owned()).collect();
        self.version += 1;
    }

    fn tell(&mut self, elapsed: Duration, silent: bool) {
        if self.told == self.version {
            return;
        }
        self.told = self.version;
        let text = format!("{:>3} s  {}", elapsed.as_secs(), self.caption.join(" "));
        if silent { eprintln!("{text}") } else { println!("{text}") }
    }
}

fn wait(
    stage: &mut Stage,
    terminal: Option<&keys::Terminal>,
    script: &mut Script,
    picture: &mut Picture,
    story: &mut Story,
    ended: &mut bool,
) {
    const FRAME: Duration = Duration::from_millis(250);
    if story.version == 0 {
        story.say(&[
            "All is well. Eight simulated devices are polled or speak by MQTT; the cloud",
            "confirms every message before the gateway forgets it.",
        ]);
    }
    let Some(terminal) = terminal else {
        return sleep_frame(FRAME);
    };
    match terminal.key(FRAME) {
        Some(b'q' | keys::CTRL_C) => *ended = true,
        Some(b' ') => picture.held = !picture.held,
        Some(b'o') if stage.cable.is_plugged() => {
            stage.cable.pull();
            script.skip(Cue::PullCable);
            story.say(&["You pulled the cable. Press o to plug it in again."]);
        }
        Some(b'o') => {
            stage.cable.plug();
            script.skip(Cue::PlugCable);
            story.say(&["You plugged the cable in again."]);
        }
        Some(b'k') => {
            stage.meter_is_dead = !stage.meter_is_dead;
            if stage.meter_is_dead {
                stage.devices.kill_unit(field::RTU_LINE, field::METERS);
                script.skip(Cue::KillMeter);
                story.say(&["You cut the power of meter-3. Press k to give it back."]);
            } else {
                stage.devices.revive_unit(field::RTU_LINE, field::METERS);
                story.say(&["meter-3 has power again; a probe will find it."]);
            }
        }
        _ => {}
    }
}

/// The picture has its own thread; nothing else waits while it does.
fn sleep_frame(frame: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(frame);
}

fn act(stage: &mut Stage, cue: Cue, story: &mut Story, ended: &mut bool) {
    match cue {
        Cue::PullCable => {
            stage.cable.pull();
            story.say(&[
                "The cable to the cloud was pulled. Polling goes on, nothing is thrown away;",
                "every value waits on disk with its time and number.",
            ]);
        }
        Cue::PlugCable => {
            stage.cable.plug();
            story.say(&["The cable is back. Present values go first, what waited follows in order."]);
        }
        Cue::KillMeter => {
            stage.meter_is_dead = true;
            stage.devices.kill_unit(field::RTU_LINE, field::METERS);
            story.say(&["Now meter-3 lost its power. Its neighbours on the same two wires keep", "their pace."]);
        }
        Cue::SendCommand => {
            stage.commands += 1;
            let (device, point, value) = COMMAND;
            // Three times, as a backend that got no answer would: it is executed once.
            for _ in 0..3 {
                stage.cloud.command(&format!("demo-{}", stage.commands), device, point, value);
            }
            story.say(&[
                "The cloud sends a command, three times with one id: plc setpoint = 67 °C.",
                "It is written once, read back, and its result goes up as an event.",
            ]);
        }
        Cue::End => *ended = true,
    }
}

fn paint(p: &mut Picture, stage: &Stage, status: Option<&Value>, elapsed: Duration, story: &Story) {
    p.elapsed_s = elapsed.as_secs();
    p.caption.clone_from(&story.caption);
    let books = stage.cloud.books();
    if let Some(result) = summary::command_result(&books) {
        p.caption.push(result);
    }
    p.twice = books.twice;
    p.resends = books.resends;
    p.received_per_s = p.received_rate.per_s(elapsed, books.received);
    Picture::remember(&mut p.arriving_history, p.received_per_s);
    let offline = |d: &str| status.is_some_and(|s| s["exceptions"].as_array().into_iter().flatten().any(|e| e["id"] == d));
    p.values = ["meter-1", "meter-2", "meter-3"]
        .iter()
        .filter_map(|d| {
            let (_, v) = books.latest.get(&((*d).to_owned(), "power".to_owned()))?;
            let mut recent = p.values.iter().find(|(name, _, _)| name == d).map(|(_, _, r)| r.clone()).unwrap_or_default();
            recent.push_back(*v);
            while recent.len() > 16 {
                recent.pop_front();
            }
            // An old value stays readable and looks old.
            let mark = if offline(d) { "old " } else { "" };
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // watts of a small meter
            Some(((*d).to_owned(), format!("{mark}{} W", count(v.max(0.0) as u64)), recent))
        })
        .collect();
    let holes = books.holes();
    drop(books);
    let Some(s) = status else { return };
    p.waiting = s["spool"]["waiting"].as_u64().unwrap_or(0);
    p.missing = if p.waiting == 0 { holes } else { 0 };
    p.written = s["spool"]["bytes_written"].as_u64().unwrap_or(0);
    Picture::remember(&mut p.waiting_history, p.waiting);
    p.in_per_s = p.in_rate.per_s(elapsed, s["spool"]["sealed"].as_u64().unwrap_or(0));
    let up = &s["uplinks"][0];
    p.cloud = up["state"].as_str().unwrap_or("unknown").to_owned();
    p.cloud_since_s = up["since_s"].as_u64().unwrap_or(0);
    p.answer_ms = up["answer_ms"].as_u64();
    p.groups = [("meters", "meter-"), ("plc", "plc"), ("mqtt", "plug-")]
        .iter()
        .map(|(name, start)| {
            let mine: Vec<_> =
                s["all"].as_array().into_iter().flatten().filter(|d| d["id"].as_str().is_some_and(|id| id.starts_with(start))).collect();
            ((*name).to_owned(), mine.iter().filter(|d| d["state"] == "online").count() as u64, mine.len() as u64)
        })
        .collect();
}

/// Ctrl-C, SIGTERM or a closed terminal.
fn interrupt(runtime: &tokio::runtime::Runtime) -> CancellationToken {
    let token = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let hit = token.clone();
        runtime.spawn(async move {
            if let Ok(mut signals) = signal(kind) {
                signals.recv().await;
                hit.cancel();
            }
        });
    }
    token
}

/// A folder of the demo's own, gone when it ends.
struct Temp(std::path::PathBuf);

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tempdir() -> anyhow::Result<Temp> {
    let dir = std::env::temp_dir().join(format!("fieldgate-demo-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(Temp(dir))
}

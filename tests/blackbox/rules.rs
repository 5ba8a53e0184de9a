//! Rules where they count: with the cloud away, on a line that is asked without a pause.

use crate::{
    gateway::{Gateway, uplink},
    process::free_port,
    turn,
    wait::{now, pause, punctual, secs, until},
};
use fieldgate::model::Boot;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

const POLL: Duration = Duration::from_millis(50);
/// What the rule may add to one poll.
const ALLOWED: Duration = Duration::from_millis(10);
/// Of each rule: as often as it may fire in a minute, with one to spare.
const ROUNDS: usize = 9;

/// A write to the relay.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    at: Boot,
    on: bool,
    /// Reads that the units had begun to answer by then.
    pub reads: u64,
}

type Writes = Mutex<Vec<Written>>;

/// Three units on one wire: 1 has a temperature, 2 a relay, 3 anything. Each answer takes a while, as at 115200 baud.
pub struct Units {
    pub path: String,
    temperature: Arc<AtomicU16>,
    relay: Arc<Writes>,
    /// Microseconds that the wire was busy.
    pub wire: Arc<AtomicU64>,
    /// Reads that the units have begun to answer.
    pub reads: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Units {
    pub fn start() -> Units {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo-terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let path = ptsname(&master, Vec::new()).expect("named").into_string().expect("ASCII");
        let (temperature, relay) = (Arc::new(AtomicU16::new(100)), Arc::<Writes>::default());
        let (end, wire, reads) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let thread = {
            let (temperature, relay, end) = (Arc::clone(&temperature), Arc::clone(&relay), Arc::clone(&end));
            let (wire, reads) = (Arc::clone(&wire), Arc::clone(&reads));
            std::thread::spawn(move || serve(&master, &temperature, &relay, (&wire, &reads), &end))
        };
        Units { path, temperature, relay, wire, reads, end, thread: Some(thread) }
    }

    pub fn last_write(&self) -> Option<Written> {
        self.relay.lock().expect("no holder panics").last().copied()
    }

    /// From the moment at which the value changed until the relay was written.
    fn reaction(&self, temperature: u16, want: bool) -> Duration {
        let before = self.relay.lock().expect("no holder panics").len();
        let set = now();
        self.temperature.store(temperature, Ordering::SeqCst);
        let written = until("the relay is written", secs(5), || self.relay.lock().expect("no holder panics").get(before).copied());
        assert_eq!(written.on, want);
        written.at - set
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn serve(master: &OwnedFd, temperature: &AtomicU16, relay: &Writes, (wire, reads): (&AtomicU64, &AtomicU64), end: &AtomicBool) {
    let (mut heard, mut buffer, mut coil) = (Vec::new(), [0; 256], false);
    while !end.load(Ordering::SeqCst) {
        let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let mut fds = [PollFd::new(master, PollFlags::IN)];
        if poll(&mut fds, Some(&wait)) != Ok(1) || !fds[0].revents().contains(PollFlags::IN) {
            continue;
        }
        let Ok(n) = rustix::io::read(master, &mut buffer) else { continue };
        heard.extend_from_slice(&buffer[..n]);
        while heard.len() >= 8 {
            let frame: Vec<u8> = heard.drain(..8).collect();
            let (unit, function) = (frame[0], frame[1]);
            if function == 5 {
                coil = frame[4] == 0xff;
                relay.lock().expect("no holder panics").push(Written { at: now(), on: coil, reads: reads.load(Ordering::SeqCst) });
            } else {
                reads.fetch_add(1, Ordering::SeqCst);
            }
            // As it was when the request came.
            let value = if unit == 1 { temperature.load(Ordering::SeqCst) } else { 7 };
            let mut reply = match function {
                5 => frame[..6].to_vec(),
                1 => vec![unit, 1, 1, u8::from(coil)],
                _ => {
                    let count = usize::from(u16::from_be_bytes([frame[4], frame[5]]));
                    let mut reply = vec![unit, function, u8::try_from(2 * count).expect("short")];
                    (0..count).for_each(|_| reply.extend(value.to_be_bytes()));
                    reply
                }
            };
            reply.extend(crc16(&reply).to_le_bytes());
            // Eleven bits a byte, there and back.
            let took = 95 * (8 + reply.len() as u64);
            pause(Duration::from_micros(took));
            wire.fetch_add(took, Ordering::Relaxed);
            let _ = rustix::io::write(master, &reply);
        }
    }
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, b| (0..8).fold(crc ^ u16::from(*b), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 }))
}

fn config(units: &Units) -> String {
    // Nobody listens there: the cloud is away from the first moment on.
    let mut config = uplink(free_port());
    config += &format!("[line.bus]\nserial = {{ path = \"{}\", baud = 115200, parity = \"even\" }}\n", units.path);
    config += &format!("[device.boiler]\nline = \"bus\"\nunit = 1\npoll = \"{}ms\"\n", POLL.as_millis());
    config += "[device.boiler.point.flow_temp]\nregister = \"holding:0\"\ntype = \"u16\"\n";
    config += "[device.relays]\nline = \"bus\"\nunit = 2\npoll = \"1s\"\n";
    config += "[device.relays.point.k1]\nregister = \"coil:0\"\ntype = \"bool\"\nwrite = true\n";
    // The line is never idle.
    config += "[device.meter]\nline = \"bus\"\nunit = 3\npoll = \"0s\"\n";
    config += "[device.meter.point.power]\nregister = \"holding:0\"\ntype = \"u16\"\n";
    config += "[rule.frost]\nwhen = \"boiler.flow_temp < 50\"\nhysteresis = 10\n";
    config += "write = { device = \"relays\", point = \"k1\", value = true }\n";
    config += "alarm = { severity = \"critical\", text = \"flow too cold\" }\n";
    config += "[rule.thaw]\nwhen = \"boiler.flow_temp >= 60\"\n";
    config += "write = { device = \"relays\", point = \"k1\", value = false }\n";
    config
}

#[test]
fn a_relay_closes_within_one_poll_and_10_ms_of_its_threshold_with_the_cloud_away() {
    let _alone = turn::alone();
    let units = Units::start();
    let gateway = Gateway::started("rules", &config(&units));
    // It is warm: the first thing that happens.
    until("the relay is open", secs(20), || units.relay.lock().expect("no holder panics").first().copied());
    pause(secs(1));
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        took.push(units.reaction(40, true));
        // Not in step with the polls.
        pause(Duration::from_millis(73));
        if took.len() < 2 * ROUNDS - 2 {
            took.push(units.reaction(100, false));
            pause(Duration::from_millis(61));
        }
    }
    took.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{} reactions at a poll of {} ms: fastest {:.1} ms, median {:.1} ms, slowest {:.1} ms",
        took.len(),
        POLL.as_millis(),
        ms(took[0]),
        ms(median),
        ms(worst)
    );
    // Now and then the machine itself is late.
    punctual("half of the reactions", median, POLL + ALLOWED);
    let answer = gateway.command(&["alarms"]);
    let shown = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.status.code() == Some(1) && shown.contains("rule frost") && shown.contains("flow too cold"), "{shown}");
    let id =
        shown.split_whitespace().nth(shown.split_whitespace().position(|w| w == "boiler").expect("the device") - 1).expect("its number");
    assert_eq!(gateway.command(&["alarms", "ack", id]).status.code(), Some(0));
    assert_eq!(gateway.command(&["alarms"]).status.code(), Some(0), "seen");
    let explained = String::from_utf8_lossy(&gateway.command(&["rules", "explain", "frost"]).stdout).into_owned();
    for want in ["frost   true now", "boiler.flow_temp < 50   (40,", "it has fired, and waits for its condition to be false"] {
        assert!(explained.contains(want), "{want}: {explained}");
    }
    let listed = String::from_utf8_lossy(&gateway.command(&["rules"]).stdout).into_owned();
    assert!(listed.contains("2 rules"), "{listed}");
}

#[test]
fn an_alarm_and_its_acknowledgement_outlive_a_kill_and_no_rule_fires_twice_for_one_cause() {
    let _alone = turn::alone();
    let units = Units::start();
    let mut gateway = Gateway::started("rules-kill", &config(&units));
    units.temperature.store(40, Ordering::SeqCst);
    let closed = || units.relay.lock().expect("no holder panics").iter().filter(|w| w.on).count();
    until("the relay is closed", secs(20), || (closed() == 1).then_some(()));
    until("the alarm is raised", secs(10), || (gateway.command(&["alarms"]).status.code() == Some(1)).then_some(()));
    assert_eq!(gateway.command(&["alarms", "ack", "1"]).status.code(), Some(0));
    gateway.kill();
    gateway.start();
    let alarms = || String::from_utf8_lossy(&gateway.command(&["alarms", "--all"]).stdout).into_owned();
    until("it answers", secs(20), || alarms().contains("1 acknowledged").then_some(()));
    until("it has looked", secs(20), || {
        String::from_utf8_lossy(&gateway.command(&["rules", "explain", "frost"]).stdout).contains("true now").then_some(())
    });
    assert_eq!(closed(), 1, "the same cause");
    units.temperature.store(100, Ordering::SeqCst);
    until("the alarm is over", secs(20), || alarms().contains("No open alarms").then_some(()));
    units.temperature.store(40, Ordering::SeqCst);
    until("the relay is closed again", secs(20), || (closed() == 2).then_some(()));
}

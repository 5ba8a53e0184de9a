//! Promise: a crowd of local MQTT devices is taken without a loss, and what they say of their state overtakes their values.
//!
//! The load is ours, byte for byte from the standard: values over as many connections as the gateway allows and more
//! devices than connections, statuses over one more. First at a steady rate, then as fast as the endpoint takes it.

use crate::{
    broker::Mosquitto,
    gateway::{Gateway, uplink},
    mqtt::{Client, Login, Packet},
    process::{free_port, host},
    publishers::listening,
    turn,
    wait::{millis, now, of_hundred, pause, scaled, secs, until},
};
use fieldgate::model::Boot;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value as Json;
use std::{
    collections::{BTreeMap, VecDeque},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Of the statuses, one in so many says offline; the next value of the device says the contrary.
const GOODBYES: u64 = 10;

/// Two messages of one device, on two connections, so close together may be taken in either order.
const CROSSING: Duration = Duration::from_millis(50);

/// How many are due after so long at so many a second.
fn in_time(length: Duration, a_second: u64) -> u64 {
    u64::try_from(length.as_micros()).expect("no ages") * a_second / 1_000_000
}

fn device_of(n: usize) -> String {
    format!("dev-{n}")
}

/// When each device said that it is offline.
type Goodbyes = BTreeMap<usize, VecDeque<Boot>>;

/// A body and when it came.
type Message = (Vec<u8>, Boot);

/// What arrived in the cloud, unread: reading it takes the processors that the gateway needs.
struct Sink {
    messages: Arc<Mutex<Vec<Message>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    fn start(port: u16, gateway: &str) -> Sink {
        let (messages, stop) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let (into, until_stop) = (messages.clone(), stop.clone());
        let mut client = Client::connect(port, &Login { id: "sink", ..Login::default() }).expect("mosquitto takes it");
        client.subscribe(&format!("fieldgate/{gateway}/telemetry")).expect("sent");
        client.subscribe(&format!("fieldgate/{gateway}/event")).expect("sent");
        let thread = std::thread::spawn(move || {
            while !until_stop.load(Ordering::Relaxed) {
                if let Ok(Some(Packet::Publish { body, .. })) = client.next(Duration::from_millis(50)) {
                    into.lock().expect("no holder panics").push((body, now()));
                }
            }
        });
        Sink { messages, stop, thread: Some(thread) }
    }

    fn count(&self) -> usize {
        self.messages.lock().expect("no holder panics").len()
    }

    fn end(mut self) -> Vec<Message> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
        std::mem::take(&mut *self.messages.lock().expect("no holder panics"))
    }
}

/// Counts what is acknowledged on all connections.
struct Acknowledged {
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acknowledged {
    fn count(streams: Vec<TcpStream>) -> Acknowledged {
        let (count, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, until_stop) = (count.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut fds: Vec<PollFd<'_>> = streams.iter().map(|s| PollFd::new(s, PollFlags::IN)).collect();
            let mut buffer = [0; 4096];
            let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            while !until_stop.load(Ordering::Relaxed) {
                let ready = poll(&mut fds, Some(&wait)).unwrap_or(0);
                for (fd, stream) in fds.iter().zip(&streams).filter(|(fd, _)| ready > 0 && !fd.revents().is_empty()) {
                    assert_eq!(fd.revents(), PollFlags::IN, "the endpoint closes no connection");
                    // A PUBACK is four bytes, and nothing else is sent to a publisher.
                    let bytes = (&mut &*stream).read(&mut buffer).unwrap_or(0) as u64;
                    counted.fetch_add(bytes, Ordering::Relaxed);
                }
                // Several acknowledgements a look: this program is to cost little beside the one that is measured.
                pause(Duration::from_millis(5));
            }
        });
        Acknowledged { count, stop, thread: Some(thread) }
    }

    fn messages(&self) -> u64 {
        self.count.load(Ordering::Relaxed) / 4
    }
}

impl Drop for Acknowledged {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

struct Crowd {
    clients: Vec<Client>,
    /// When the n-th value of each device was sent, from 1 on.
    sent: Vec<Vec<Boot>>,
    turn: usize,
    acknowledged: Acknowledged,
    speaker: Speaker,
}

/// Sends statuses, the same number in each second.
struct Speaker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(u64, Goodbyes)>>,
}

impl Speaker {
    fn start(port: u16, devices: usize, a_second: u64) -> Speaker {
        let stop = Arc::<AtomicBool>::default();
        let until_stop = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(port, &Login { id: "speaker", ..Login::default() }).expect("it is taken");
            let (begun, mut said, mut goodbyes) = (now(), 0u64, Goodbyes::new());
            while !until_stop.load(Ordering::Relaxed) {
                let due = in_time(now() - begun, a_second);
                while said < due {
                    let device = usize::try_from(said % devices as u64).expect("one of them");
                    let goodbye = (said + said / devices as u64).is_multiple_of(GOODBYES);
                    if goodbye {
                        goodbyes.entry(device).or_default().push_back(now());
                    }
                    let word: &[u8] = if goodbye { b"0" } else { b"1" };
                    client.publish(&format!("devices/say/{}", device_of(device)), word).expect("it is taken");
                    said += 1;
                }
                // Its acknowledgements, and the pause between two looks.
                while client.next(Duration::from_millis(2)).expect("it stays connected").is_some() {}
            }
            (said, goodbyes)
        });
        Speaker { stop, thread: Some(thread) }
    }

    fn end(&mut self) -> (u64, Goodbyes) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it ends once").join().expect("every status was taken")
    }
}

impl Crowd {
    fn come(port: u16, devices: usize, connections: usize) -> Crowd {
        let connect = |n: usize| Client::connect(port, &Login { id: &format!("crowd-{n}"), ..Login::default() }).expect("it is taken");
        let clients: Vec<Client> = (0..connections).map(connect).collect();
        let streams = clients.iter().map(|c| c.stream().try_clone().expect("a second descriptor")).collect();
        let speaker = Speaker { stop: Arc::default(), thread: None };
        Crowd { clients, sent: vec![vec![]; devices], turn: 0, acknowledged: Acknowledged::count(streams), speaker }
    }

    /// One value of the device whose turn it is.
    fn send(&mut self) {
        let device = self.turn % self.sent.len();
        self.turn += 1;
        let n = self.sent[device].len() + 1;
        let connection = device % self.clients.len();
        let payload = format!("{{\"n\":{n},\"t1\":{device},\"t2\":{},\"t3\":{}}}", n % 7, n % 100);
        self.sent[device].push(now());
        self.clients[connection].publish(&format!("tele/{}/SENSOR", device_of(device)), payload.as_bytes()).expect("it is taken");
    }

    /// Gives how many values a second were acknowledged.
    fn at(&mut self, a_second: u64, length: Duration) -> f64 {
        let (begun, before) = (now(), self.acknowledged.messages());
        let mut sent = 0;
        while now() < begun + length {
            let due = in_time(now() - begun, a_second);
            // Not more at once than two milliseconds' worth, so that being held up by the endpoint ends in time.
            let until = due.min(sent + 1 + a_second / 500);
            (sent..until).for_each(|_| self.send());
            sent = until;
            pause(Duration::from_millis(if sent < due { 0 } else { 2 }));
        }
        let took = now() - begun;
        (self.acknowledged.messages() - before) as f64 / took.as_secs_f64()
    }

    #[track_caller]
    fn all_acknowledged(&self) {
        let sent = self.turn as u64;
        until("every value is acknowledged", secs(60), || (self.acknowledged.messages() >= sent).then_some(()));
    }
}

/// What nobody can do without: an endpoint that reads each message, acknowledges it, and forgets it. Gives the processor time
/// of one message.
fn floor(devices: usize, connections: usize, rate: u64, length: Duration) -> Duration {
    use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
    let listener = TcpListener::bind((host(), 0)).expect("loopback has a port");
    let port = listener.local_addr().expect("it is bound").port();
    let stop = Arc::<AtomicBool>::default();
    let until_stop = stop.clone();
    let server = std::thread::spawn(move || {
        let all = epoll::create(CreateFlags::CLOEXEC).expect("an epoll");
        let mut streams: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming().take(connections) {
            let mut stream = stream.expect("a connection");
            let mut connect = [0; 256];
            let _ = stream.read(&mut connect).expect("CONNECT");
            stream.write_all(&[0x20, 2, 0, 0]).expect("CONNACK");
            epoll::add(&all, &stream, EventData::new_u64(streams.len() as u64), EventFlags::IN).expect("one more");
            streams.push(stream);
        }
        let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let (before, mut messages, mut buffer, mut acks) = (cpu(), 0u32, [0; 16 * 1024], Vec::new());
        let mut events = Vec::with_capacity(256);
        while !until_stop.load(Ordering::Relaxed) {
            let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            events.clear();
            let _ = epoll::wait(&all, rustix::buffer::spare_capacity(&mut events), Some(&wait));
            for event in &events {
                let mut stream = &streams[usize::try_from(event.data.u64()).expect("a place")];
                let n = stream.read(&mut buffer).unwrap_or(0);
                let mut left = &buffer[..n];
                acks.clear();
                // Small messages, which TCP never cut on loopback: one byte of length, then the topic, then the id.
                while let [0x32, length, rest @ ..] = left {
                    let topic = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    acks.extend([0x40, 2, rest[2 + topic], rest[3 + topic]]);
                    left = &rest[usize::from(*length)..];
                    messages += 1;
                }
                let _ = stream.write_all(&acks);
            }
        }
        let spent = |t: Timespec| Duration::new(t.tv_sec.try_into().expect("after 1970"), t.tv_nsec.try_into().expect("below 1 s"));
        (spent(cpu()) - spent(before)) / messages.max(1)
    });
    let mut crowd = Crowd::come(port, devices, connections);
    crowd.at(rate, length);
    stop.store(true, Ordering::Relaxed);
    server.join().expect("the floor holds")
}

#[derive(Default)]
struct Judged {
    values: Vec<Duration>,
    goodbyes: Vec<Duration>,
    /// By device: how often each number came, at number - 1.
    came: Vec<Vec<u8>>,
    owed: usize,
}

/// Every value exactly once, every goodbye told.
fn judge(messages: &[Message], sent: &[Vec<Boot>], mut goodbyes: Goodbyes) -> Judged {
    let mut out = Judged { came: sent.iter().map(|s| vec![0; s.len()]).collect(), ..Judged::default() };
    let number = |name: &str| name.strip_prefix("dev-").and_then(|n| n.parse::<usize>().ok()).expect("one of ours");
    for (body, arrived) in messages {
        let message: Json = serde_json::from_slice(body).expect("JSON");
        for (name, frames) in message["devices"].as_object().into_iter().flatten() {
            let device = number(name);
            let columns = frames.as_array().into_iter().flatten().filter_map(|frame| frame["v"]["n"].as_array());
            for n in columns.flatten().filter_map(Json::as_u64) {
                let at = usize::try_from(n).expect("a count") - 1;
                out.came[device][at] += 1;
                out.values.push(*arrived - sent[device][at]);
            }
        }
        for event in message["events"].as_array().into_iter().flatten() {
            if event["type"] == "status" && event["state"] == "offline" {
                let said = goodbyes.get_mut(&number(event["device"].as_str().expect("a device"))).expect("it said so");
                let last = said.iter().rposition(|at| at <= arrived).and_then(|n| said.remove(n)).expect("it said so once");
                out.goodbyes.push(*arrived - last);
            }
        }
    }
    // A device that went on speaking in the same moment has not gone: its goodbye is older than its last sign of life.
    let went_on = |device: usize, said: &Boot| sent[device].iter().any(|at| *at <= *said + CROSSING && *said <= *at + CROSSING);
    let owed = |(device, said): (&usize, &VecDeque<Boot>)| said.iter().filter(|said| !went_on(*device, said)).count();
    out.owed = goodbyes.iter().map(owed).sum();
    out.values.sort();
    out.goodbyes.sort();
    out
}

#[test]
fn a_crowd_of_devices_loses_nothing_and_its_statuses_overtake_its_values() {
    crowd(scaled(30, 1_000));
}

#[test]
fn a_crowd_behind_a_few_bridges_loses_nothing_and_its_statuses_overtake_its_values() {
    crowd(scaled(2, 8));
}

fn crowd(connections: usize) {
    let _alone = scaled(None, Some(turn::alone()));
    let (devices, rate, length) = (scaled(300, 10_000), scaled(600, 15_000), scaled(secs(3), secs(60)));
    let (statuses, flat_out) = (scaled(40, 1_000), scaled(secs(1), secs(20)));
    let (broker, port) = (Mosquitto::start(), free_port());
    let sink = Sink::start(broker.port, "crowd");
    let mut gateway = Gateway::started("crowd", &(uplink(broker.port) + &listening(port)));
    let empty = gateway.memory_kib();
    let mut crowd = Crowd::come(port, devices, connections);
    // Everybody once, so that the rest is of devices that are known.
    for _ in 0..devices {
        crowd.send();
    }
    crowd.all_acknowledged();
    let known = gateway.memory_kib();

    crowd.speaker = Speaker::start(port, devices, statuses);
    let (cpu, begun) = (gateway.cpu(), now());
    let steady = crowd.at(rate, length);
    let (cpu, took) = (gateway.cpu() - cpu, now() - begun);
    crowd.all_acknowledged();
    let (said, goodbyes) = crowd.speaker.end();
    let at_rate = crowd.sent.clone();
    let peak = gateway.memory_kib();
    settled(&sink);
    let taken = sink.count();

    crowd.speaker = Speaker::start(port, devices, statuses / 10 + 1);
    let most = crowd.at(1_000_000, flat_out);
    crowd.all_acknowledged();
    let (_, late_goodbyes) = crowd.speaker.end();
    settled(&sink);
    gateway.assert_runs();
    let messages = sink.end();

    let floor = floor(devices, connections, rate, scaled(secs(1), secs(10)));
    let first = judge(&messages[..taken], &at_rate, goodbyes);
    let second = judge(&messages[taken..], &crowd.sent, late_goodbyes);
    let sent: usize = at_rate.iter().map(Vec::len).sum();
    println!(
        "{devices} devices on {connections} connections: {steady:.0} values/s and {} statuses/s for {} s; {:.1} us of CPU each",
        said / took.as_secs().max(1),
        took.as_secs(),
        cpu.as_secs_f64() * 1e6 / ((sent - devices) as f64 + said as f64)
    );
    println!("  a program that only reads and acknowledges such messages: {:.1} us each", floor.as_secs_f64() * 1e6);
    println!(
        "  to the cloud: a status 50 % {:.1} ms, 99 % {:.1} ms; a value 50 % {:.1} ms, 99 % {:.1} ms",
        millis(of_hundred(&first.goodbyes, 50)),
        millis(of_hundred(&first.goodbyes, 99)),
        millis(of_hundred(&first.values, 50)),
        millis(of_hundred(&first.values, 99))
    );
    println!(
        "  flat out: {most:.0} values/s; a status 50 % {:.1} ms, 99 % {:.1} ms; a value 99 % {:.1} ms",
        millis(of_hundred(&second.goodbyes, 50)),
        millis(of_hundred(&second.goodbyes, 99)),
        millis(of_hundred(&second.values, 99))
    );
    println!(
        "  resident: {empty} KiB without devices, {known} KiB with {devices} that spoke once ({} bytes each), {peak} KiB under load",
        (known.saturating_sub(empty)) * 1024 / devices as u64
    );
    for (device, (before, after)) in first.came.iter().zip(&second.came).enumerate() {
        let odd = after.iter().enumerate().find(|(n, count)| **count + before.get(*n).copied().unwrap_or(0) != 1);
        assert!(odd.is_none(), "device {device}: value {odd:?} did not come exactly once");
    }
    assert_eq!((first.owed, second.owed), (0, 0), "every goodbye was told");
}

/// Until nothing more comes.
fn settled(sink: &Sink) {
    let (mut before, mut since) = (sink.count(), now());
    until("nothing more comes", secs(120), || {
        if sink.count() != before {
            (before, since) = (sink.count(), now());
        }
        (now() - since > secs(2)).then_some(())
    });
}

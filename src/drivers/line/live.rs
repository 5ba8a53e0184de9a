//! The owners on the real thing: a pseudo-terminal, a TCP socket, the real clock.

use super::{Known, LineHandle, start, testing};
use crate::{
    config::{Device, Line, Parity, Serial, Transport},
    drivers::{Doors, modbus::rtu::crc16},
    model::{Action, Boot, Bulk, CommandId, LineState, Order, Phase, PointId, Reading, Urgent, Value},
    system::clock::Clock,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

fn value(unit: u8, address: u16) -> u16 {
    u16::from(unit) * 2048 + address
}

/// A correct slave of any unit; remembers what was written.
#[derive(Default)]
struct Slave(BTreeMap<(u8, u16), u16>);

impl Slave {
    fn reply(&mut self, unit: u8, pdu: &[u8]) -> Vec<u8> {
        let word = |at: usize| u16::from_be_bytes([pdu[at], pdu[at + 1]]);
        if pdu[0] == 6 {
            self.0.insert((unit, word(1)), word(3));
            return pdu.to_vec();
        }
        let mut reply = vec![pdu[0], u8::try_from(word(3) * 2).expect("short")];
        for address in word(1)..word(1) + word(3) {
            reply.extend(self.0.get(&(unit, address)).copied().unwrap_or(value(unit, address)).to_be_bytes());
        }
        reply
    }
}

struct Running {
    handle: LineHandle,
    urgent: mpsc::Receiver<Urgent>,
    bulk: mpsc::Receiver<Bulk>,
    stop: CancellationToken,
}

fn run(line: &Line, devices: Vec<Device>) -> Running {
    let ((urgent_in, urgent), (bulk_in, bulk)) = (mpsc::channel(64), mpsc::channel(64));
    let stop = CancellationToken::new();
    let doors = Doors::new(urgent_in, bulk_in);
    let handle = start(line, devices, &mut Known::default(), doors, Clock::Real, stop.clone());
    Running { handle, urgent, bulk, stop }
}

impl Running {
    async fn reading(&mut self) -> Reading {
        match timeout(PATIENCE, self.bulk.recv()).await {
            Ok(Some(Bulk::Reading(reading))) => reading,
            other => panic!("no reading: {other:?}; {:?}", self.handle.figures()),
        }
    }

    async fn urgent(&mut self) -> Urgent {
        timeout(PATIENCE, self.urgent.recv()).await.expect("something urgent").expect("the line runs")
    }

    async fn line(&mut self) -> (LineState, String) {
        loop {
            if let Urgent::Line { state, reason, .. } = self.urgent().await {
                return (state, reason);
            }
        }
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(2), self.handle.ended()).await.expect("it ends when it should");
    }
}

#[track_caller]
fn check_reading(reading: &Reading, unit: u8) {
    for (point, got) in reading.points.iter().zip(&reading.values) {
        let address: u16 = point.as_str()[1..].parse().expect("r<address>");
        assert_eq!(*got, Value::Uint(value(unit, address).into()), "{point}");
    }
}

fn write(unit: u8, deadline: Boot) -> Order {
    let point = PointId::parse("r0").expect("valid");
    Order {
        id: CommandId::parse("c1").expect("valid"),
        device: crate::model::DeviceId::parse(&format!("d{unit}")).expect("valid"),
        verify: vec![point.clone()],
        action: Action::Write(BTreeMap::from([(point, Value::Uint(5))])),
        deadline,
    }
}

/// The other end of a cable.
fn pty() -> (OwnedFd, std::path::PathBuf) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo-terminal");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let path = ptsname(&master, Vec::new()).expect("named").into_string().expect("ASCII");
    (master, path.into())
}

/// Answers requests of 8 bytes until told to unplug.
fn serve(master: OwnedFd, unplug: CancellationToken) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut slave, mut heard, mut buffer) = (Slave::default(), Vec::new(), [0; 256]);
        while !unplug.is_cancelled() {
            let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            let mut fds = [PollFd::new(&master, PollFlags::IN)];
            if poll(&mut fds, Some(&wait)) != Ok(1) || !fds[0].revents().contains(PollFlags::IN) {
                continue;
            }
            let Ok(n) = rustix::io::read(&master, &mut buffer) else { continue };
            heard.extend_from_slice(&buffer[..n]);
            while heard.len() >= 8 {
                let frame: Vec<u8> = heard.drain(..8).collect();
                assert_eq!(crc16(&frame), 0, "the line sends whole frames");
                let mut reply = vec![frame[0]];
                reply.extend(slave.reply(frame[0], &frame[1..6]));
                reply.extend(crc16(&reply).to_le_bytes());
                rustix::io::write(&master, &reply).expect("written");
            }
        }
    })
}

fn serial(path: &std::path::Path, baud: u32, parity: Parity) -> Line {
    testing::line(Transport::Serial(Serial { path: path.to_owned(), baud, parity, bits: 8, stop: 1 }))
}

fn device(unit: u8, points: u16, poll: Duration) -> Device {
    Device { poll, ..testing::device(&format!("d{unit}"), unit, points) }
}

#[tokio::test]
async fn a_serial_line_reads_writes_and_notices_a_pulled_adapter() {
    let (master, path) = pty();
    let unplug = CancellationToken::new();
    let slave = serve(master, unplug.clone());
    let mut running = run(&serial(&path, 38_400, Parity::Even), vec![device(3, 2, Duration::from_millis(20))]);
    assert_eq!(running.line().await, (LineState::Up, String::new()));
    for _ in 0..20 {
        let reading = running.reading().await;
        check_reading(&reading, 3);
    }
    let order = write(3, Clock::Real.now() + PATIENCE);
    (running.handle.orders)(order).expect("there is room");
    let done = loop {
        tokio::select! {
            Some(urgent) = running.urgent.recv() => if let Urgent::Done(done) = urgent { break done },
            _ = running.bulk.recv() => {}
        }
    };
    assert_eq!((done.outcome.phase, done.outcome.reason.as_str()), (Phase::Confirmed, ""));
    let figures = running.handle.figures();
    assert!(figures.answers >= 20 && figures.garbled == 0 && figures.foreign == 0, "{figures:?}");
    unplug.cancel();
    slave.join().expect("the slave was content");
    assert_eq!(running.line().await, (LineState::Down, "the adapter was unplugged".into()));
    running.end().await;
}

/// Serves so many requests, answers one more by half, and is pulled.
fn serve_and_break_off(master: OwnedFd, requests: u32) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut slave, mut request) = (Slave::default(), [0; 8]);
        for n in 0..=requests {
            let mut have = 0;
            while have < request.len() {
                let mut fds = [PollFd::new(&master, PollFlags::IN)];
                let _ = poll(&mut fds, None);
                have += rustix::io::read(&master, &mut request[have..]).unwrap_or(0);
            }
            let mut reply = vec![request[0]];
            reply.extend(slave.reply(request[0], &request[1..6]));
            reply.extend(crc16(&reply).to_le_bytes());
            let len = if n == requests { reply.len() / 2 } else { reply.len() };
            rustix::io::write(&master, &reply[..len]).expect("written");
        }
    })
}

#[tokio::test]
async fn an_adapter_pulled_in_mid_frame_is_polled_again_within_two_seconds_of_its_return() {
    let dir = tempfile::tempdir().expect("a directory");
    let by_id = dir.path().join("by-id");
    let link = by_id.join("usb-FTDI_FT232R_A50285BI-if00-port0");
    let plug = |path: &std::path::Path| {
        std::fs::create_dir(&by_id).expect("as udev does");
        std::os::unix::fs::symlink(path, &link).expect("linked");
    };
    let (master, path) = pty();
    plug(&path);
    let first = serve_and_break_off(master, 20);
    let mut running = run(&serial(&link, 38_400, Parity::None), vec![device(3, 2, Duration::from_millis(20))]);
    assert_eq!(running.line().await.0, LineState::Up);
    first.join().expect("twenty replies and a half");
    let reason = "the adapter was unplugged".to_owned();
    assert_eq!(running.line().await, (LineState::Down, reason));
    while running.bulk.try_recv().is_ok() {}
    // udev takes the name and, with the last adapter, its directory; so often nothing is there when it is looked for.
    std::fs::remove_dir_all(&by_id).expect("removed");
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let (master, path) = pty();
    let unplug = CancellationToken::new();
    let second = serve(master, unplug.clone());
    let back = Clock::Real.now();
    plug(&path);
    check_reading(&running.reading().await, 3);
    let took = Clock::Real.now() - back;
    assert!(took < Duration::from_secs(20), "{took:?}");
    for _ in 0..10 {
        check_reading(&running.reading().await, 3);
    }
    let mut lines = Vec::new();
    while let Ok(urgent) = running.urgent.try_recv() {
        if let Urgent::Line { state, .. } = urgent {
            lines.push(state);
        }
    }
    assert_eq!(lines, [LineState::Up], "one event when it went, one when it came back");
    println!("polled again {} ms after its name appeared", took.as_millis());
    running.end().await;
    unplug.cancel();
    second.join().expect("the slave was content");
}

#[tokio::test]
async fn a_missing_port_is_said_once_and_opened_when_it_appears() {
    let dir = tempfile::tempdir().expect("a directory");
    let link = dir.path().join("ttyUSB0");
    let mut running = run(&serial(&link, 9600, Parity::None), vec![device(3, 1, Duration::from_millis(100))]);
    let (state, reason) = running.line().await;
    assert!(state == LineState::Down && reason.contains("does not exist"), "{reason}");
    let (master, path) = pty();
    let unplug = CancellationToken::new();
    let slave = serve(master, unplug.clone());
    std::os::unix::fs::symlink(path, &link).expect("linked");
    assert_eq!(running.line().await.0, LineState::Up);
    check_reading(&running.reading().await, 3);
    running.end().await;
    unplug.cancel();
    slave.join().expect("the slave was content");
}

#[tokio::test]
async fn a_full_door_stretches_a_serial_line_and_loses_nothing() {
    let (master, path) = pty();
    let unplug = CancellationToken::new();
    let slave = serve(master, unplug.clone());
    let mut running = run(&serial(&path, 115_200, Parity::None), vec![device(3, 1, Duration::ZERO)]);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let stalled = running.handle.figures().requests;
    assert!((64..=73).contains(&stalled), "what the door holds and what waited for company: {stalled}");
    for _ in 0..200 {
        check_reading(&running.reading().await, 3);
    }
    running.end().await;
    unplug.cancel();
    slave.join().expect("the slave was content");
}

#[tokio::test]
async fn a_serial_line_polled_without_a_pause_keeps_its_silence() {
    let (master, path) = pty();
    let unplug = CancellationToken::new();
    let slave = serve(master, unplug.clone());
    let mut running = run(&serial(&path, 115_200, Parity::None), vec![Device { max_gap: 100, ..device(3, 10, Duration::ZERO) }]);
    running.reading().await;
    let (from, mut count) = (Clock::Real.now(), 0u32);
    while Clock::Real.now() - from < Duration::from_secs(3) {
        running.reading().await;
        count += 1;
    }
    // 8 bytes out, 91 registers = 187 bytes back, 3.5 characters (1.75 ms) before the next: 10 bits each.
    let ideal = 3.0 / ((8.0 + 187.0) * 10.0 / 115_200.0 + 0.001_75);
    let share = f64::from(count) / ideal * 100.0;
    println!("{count} of {ideal:.0} possible requests: {share:.1} % of the wire");
    // How much of it is used on a machine with nothing beside it is measured elsewhere; more than all of it would be a broken silence.
    assert!(share < 101.0, "{share:.1} % of the wire");
    running.end().await;
    unplug.cancel();
    slave.join().expect("the slave was content");
}

/// A Modbus TCP server; `close_after` requests it closes the connection.
async fn tcp_slave(listener: TcpListener, close_after: usize) {
    loop {
        let (stream, _) = listener.accept().await.expect("accepted");
        tokio::spawn(tcp_session(stream, close_after));
    }
}

async fn tcp_session(mut stream: TcpStream, close_after: usize) {
    let mut slave = Slave::default();
    let mut request = [0; 12];
    for _ in 0..close_after {
        if stream.read_exact(&mut request).await.is_err() {
            return;
        }
        let pdu = slave.reply(request[6], &request[7..]);
        let mut frame = request[..4].to_vec();
        frame.extend(u16::try_from(pdu.len() + 1).expect("short").to_be_bytes());
        frame.push(request[6]);
        frame.extend(pdu);
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn tcp_line(close_after: usize) -> Line {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(tcp_slave(listener, close_after));
    testing::line(Transport::Tcp { host: "127.0.0.1".into(), port })
}

#[tokio::test]
async fn a_tcp_line_reads_and_writes() {
    let line = tcp_line(usize::MAX).await;
    let mut running = run(&line, vec![device(1, 2, Duration::from_millis(20)), device(2, 2, Duration::from_millis(20))]);
    assert_eq!(running.line().await.0, LineState::Up);
    for _ in 0..40 {
        let reading = running.reading().await;
        check_reading(&reading, reading.device.as_str()[1..].parse().expect("d<unit>"));
    }
    (running.handle.orders)(write(1, Clock::Real.now() + PATIENCE)).expect("there is room");
    let Urgent::Done(done) = running.urgent().await else { panic!("only the order is urgent") };
    assert_eq!(done.outcome.phase, Phase::Confirmed);
    running.end().await;
}

#[tokio::test]
async fn a_server_that_closes_every_few_requests_is_read_all_the_same() {
    let line = tcp_line(3).await;
    let mut running = run(&line, vec![device(1, 2, Duration::from_millis(20))]);
    assert_eq!(running.line().await.0, LineState::Up);
    for _ in 0..40 {
        check_reading(&running.reading().await, 1);
    }
    assert!(running.urgent.try_recv().is_err(), "no event, no silent poll");
    running.end().await;
}

#[tokio::test]
async fn a_server_that_greets_with_something_else_than_modbus_is_not_stormed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (tell, mut accepted) = mpsc::channel(1000);
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
            open.push(stream);
            let _ = tell.try_send(());
        }
    });
    let line = testing::line(Transport::Tcp { host: "127.0.0.1".into(), port });
    let running = run(&line, vec![device(1, 2, Duration::from_millis(20))]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut connections = 0;
    while accepted.try_recv().is_ok() {
        connections += 1;
    }
    assert!((1..=8).contains(&connections), "{connections} connections in two seconds");
    let figures = running.handle.figures();
    assert!(figures.reason.contains("no Modbus TCP"), "{figures:?}");
    running.end().await;
}

#[tokio::test]
async fn a_refused_connection_says_why() {
    let line = testing::line(Transport::Tcp { host: "127.0.0.1".into(), port: 1 });
    let mut running = run(&line, vec![device(1, 2, Duration::from_millis(20))]);
    let (state, reason) = running.line().await;
    assert!(state == LineState::Down && reason.contains("connection refused"), "{reason}");
    running.end().await;
}

/// `cargo test --release --lib line::live::cpu -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
async fn cpu_of_fifty_tcp_lines() {
    let (tell, mut ports) = mpsc::channel(50);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            for _ in 0..50 {
                let Transport::Tcp { port, .. } = tcp_line(usize::MAX).await.transport else { unreachable!() };
                tell.send(port).await.expect("told");
            }
            std::future::pending::<()>().await;
        });
    });
    let mut lines = Vec::new();
    for _ in 0..50 {
        let port = ports.recv().await.expect("a port");
        let line = testing::line(Transport::Tcp { host: "127.0.0.1".into(), port });
        lines.push(run(&line, vec![Device { max_gap: 100, ..device(1, 10, Duration::from_millis(1000)) }]));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("readable");
        text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("a number") / 1000.0
    };
    let (before, requests) = (used(), lines.iter().map(|l| l.handle.figures().requests).sum::<u64>());
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        lines.iter_mut().for_each(|line| while line.bulk.try_recv().is_ok() {});
    }
    let polls = lines.iter().map(|l| l.handle.figures().requests).sum::<u64>() - requests;
    #[allow(clippy::cast_precision_loss)]
    let each = (used() - before) / polls as f64;
    println!("{polls} polls, {each:.1} us of CPU each");
}

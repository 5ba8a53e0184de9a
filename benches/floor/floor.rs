//! The floor: the least work that turns Modbus TCP registers into MQTT messages. It shows what the machine and its kernel
//! ask for, so that a gateway's figure can be read as a multiple of it instead of as seconds of one particular CPU.
//!
//! One thread. Every interval it asks all devices, takes the answers in turn, writes one JSON row per device by hand and
//! publishes them, 50 devices to a message, QoS 1. Nothing is kept, nothing is checked beyond the lengths, and whatever
//! goes wrong ends it: it is a yardstick and no gateway.
//!
//! `floor BROKER REGISTERS INTERVAL_MS DEVICE…`; compiled by `benches/run` with `rustc -O`, no package needed.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const DEVICES_PER_MESSAGE: usize = 50;
const TOPIC: &[u8] = b"fieldgate/floor/telemetry";

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [broker, registers, interval, addresses @ ..] = args.as_slice() else {
        panic!("usage: floor BROKER REGISTERS INTERVAL_MS DEVICE…");
    };
    let registers: u16 = registers.parse().expect("a number of registers");
    let interval = Duration::from_millis(interval.parse().expect("milliseconds"));
    let mut devices = addresses.iter().map(connected).collect::<Result<Vec<_>, _>>()?;
    let mut broker = session(broker)?;
    let [high, low] = registers.to_be_bytes();
    let request = [0, 1, 0, 0, 0, 6, 1, 3, 0, 0, high, low];
    let mut reply = vec![0; 9 + 2 * usize::from(registers)];
    let (mut body, mut packet, mut acknowledgement) = (Vec::new(), Vec::new(), [0; 4]);
    let mut next = Instant::now();
    loop {
        for device in &mut devices {
            device.write_all(&request)?;
        }
        for (n, device) in devices.iter_mut().enumerate() {
            device.read_exact(&mut reply)?;
            assert_eq!(reply[7], 3, "device {n} refuses");
            row(&mut body, n, &reply[9..]);
            if n % DEVICES_PER_MESSAGE == DEVICES_PER_MESSAGE - 1 || n + 1 == addresses.len() {
                body.extend_from_slice(b"}}");
                publish(&mut packet, &body);
                broker.write_all(&packet)?;
                broker.read_exact(&mut acknowledgement)?;
                body.clear();
            }
        }
        next += interval;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn connected(address: &String) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An MQTT 3.1.1 session without keep-alive.
fn session(address: &String) -> std::io::Result<TcpStream> {
    let mut stream = connected(address)?;
    stream.write_all(b"\x10\x11\0\x04MQTT\x04\x02\0\0\0\x05floor")?;
    let mut accepted = [0; 4];
    stream.read_exact(&mut accepted)?;
    assert_eq!(accepted, [0x20, 2, 0, 0], "the broker refuses");
    Ok(stream)
}

/// `"d7":[{"at":…,"dt":[0],"v":{"t0":[…],…}}]`, the shape that fieldgate's own messages have.
fn row(out: &mut Vec<u8>, device: usize, words: &[u8]) {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64);
    out.extend_from_slice(if out.is_empty() { b"{\"devices\":{\"d" } else { b",\"d" });
    number(out, device as u64);
    out.extend_from_slice(b"\":[{\"at\":");
    number(out, at);
    out.extend_from_slice(b",\"dt\":[0],\"v\":{");
    for (n, word) in words.chunks_exact(2).enumerate() {
        out.extend_from_slice(if n == 0 { b"\"t" } else { b",\"t" });
        number(out, n as u64);
        out.extend_from_slice(b"\":[");
        number(out, u16::from_be_bytes([word[0], word[1]]).into());
        out.push(b']');
    }
    out.extend_from_slice(b"}}]");
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

fn publish(packet: &mut Vec<u8>, body: &[u8]) {
    packet.clear();
    packet.push(0x32);
    let mut length = 2 + TOPIC.len() + 2 + body.len();
    while length >= 0x80 {
        packet.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    packet.extend_from_slice(&(TOPIC.len() as u16).to_be_bytes());
    packet.extend_from_slice(TOPIC);
    // Only one message is ever in flight.
    packet.extend_from_slice(&[0, 1]);
    packet.extend_from_slice(body);
}

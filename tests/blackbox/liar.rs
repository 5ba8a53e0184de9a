//! A cloud that does not keep to its part: a scripted MQTT broker, 3.1.1 and 5, packet by packet from the standards.
//!
//! What it takes goes to the same judge as what mosquitto delivers; what it does not take is never shown to it.

use crate::{
    cloud::Seen,
    process::host,
    wait::{now, until},
};
use fieldgate::model::Boot;
use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// So many PUBACKs.
    Ack(usize),
    Silence,
    /// A negative PUBACK (MQTT 5).
    Refuse(u8),
    /// It is read, and the socket closed.
    Close,
}

/// Of one message: its topic and body.
pub type Script = Box<dyn Fn(&str, &[u8]) -> Answer + Send>;

#[derive(Default)]
pub struct Told {
    /// When each connection was made, and when it was over.
    pub connects: Vec<Boot>,
    pub ends: Vec<Boot>,
    /// PUBLISH packets, whatever came of them, and those that were not taken.
    pub publishes: u64,
    pub not_taken: u64,
    /// What no client of ours should send.
    pub faults: Vec<String>,
}

struct Shared {
    script: Mutex<Script>,
    seen: Mutex<Seen>,
    told: Mutex<Told>,
}

pub struct Liar {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Liar {
    pub fn start(script: impl Fn(&str, &[u8]) -> Answer + Send + 'static) -> Liar {
        let listener = TcpListener::bind((host(), 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared { script: Mutex::new(Box::new(script)), seen: Mutex::default(), told: Mutex::default() });
        let of = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let of = Arc::clone(&of);
                of.told.lock().expect("no holder panics").connects.push(now());
                std::thread::spawn(move || {
                    let _ = serve(stream, &of);
                    of.told.lock().expect("no holder panics").ends.push(now());
                });
            }
        });
        Liar { port, shared }
    }

    /// From now on it does this.
    pub fn change(&self, script: impl Fn(&str, &[u8]) -> Answer + Send + 'static) {
        *self.shared.script.lock().expect("no holder panics") = Box::new(script);
    }

    /// What it took.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen.lock().expect("no holder panics")
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.shared.told.lock().expect("no holder panics")
    }

    #[track_caller]
    pub fn wait<T>(&self, what: &str, within: Duration, mut look: impl FnMut(&Seen) -> Option<T>) -> T {
        until(what, within, || look(&self.seen()))
    }
}

fn serve(mut stream: TcpStream, of: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut five = false;
    loop {
        let (head, body) = packet(&mut stream)?;
        match head >> 4 {
            1 => {
                // The level follows the name "MQTT" with its length.
                five = body.get(6) == Some(&5);
                stream.write_all(if five { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] })?;
            }
            3 => {
                let Some((topic, id, payload)) = published(head, &body, five) else {
                    return Err(io::Error::other("no PUBLISH of the standard"));
                };
                let answer = (of.script.lock().expect("no holder panics"))(&topic, payload);
                {
                    let mut told = of.told.lock().expect("no holder panics");
                    told.publishes += 1;
                    told.not_taken += u64::from(!matches!(answer, Answer::Ack(_)));
                    if head & 0x06 != 2 {
                        told.faults.push(format!("{topic} came with quality of service {}", head >> 1 & 3));
                    }
                }
                let [high, low] = id.to_be_bytes();
                match answer {
                    Answer::Ack(times) => {
                        of.seen.lock().expect("no holder panics").take(&topic, payload, now());
                        stream.write_all(&[0x40, 2, high, low].repeat(times))?;
                    }
                    Answer::Refuse(reason) => stream.write_all(&[0x40, 3, high, low, reason])?,
                    Answer::Silence => {}
                    Answer::Close => return Ok(()),
                }
            }
            8 => {
                let (high, low) = (body[0], body[1]);
                let granted = if five { vec![0x90, 4, high, low, 0, 1] } else { vec![0x90, 3, high, low, 1] };
                stream.write_all(&granted)?;
            }
            12 => stream.write_all(&[0xd0, 0])?,
            14 => return Ok(()),
            _ => {}
        }
    }
}

/// First byte, and what follows the length.
fn packet(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let head = byte[0];
    let mut length = 0;
    for n in 0..4 {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << (7 * n);
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}

fn published(head: u8, body: &[u8], five: bool) -> Option<(String, u16, &[u8])> {
    let word = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    let length = usize::from(word(0)?);
    let topic = String::from_utf8_lossy(body.get(2..2 + length)?).into_owned();
    let (id, mut at) = if head & 0x06 == 0 { (0, 2 + length) } else { (word(2 + length)?, 4 + length) };
    if five {
        // No property is ever sent that would need a second length byte.
        at += 1 + usize::from(*body.get(at)?);
    }
    Some((topic, id, body.get(at..)?))
}

/// A cable between a gateway and a broker that can go dead without a word: both ends stay connected, and nothing passes.
pub struct Cable {
    pub port: u16,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Connections made before this one are dead.
    dead_before: usize,
    connects: Vec<Boot>,
    /// When the gateway let go of each.
    ends: Vec<(usize, Boot)>,
}

impl Cable {
    pub fn to(broker: u16) -> Cable {
        let listener = TcpListener::bind((host(), 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let inner = Arc::new(Mutex::new(Inner::default()));
        let of = Arc::clone(&inner);
        std::thread::spawn(move || {
            for gateway in listener.incoming().map_while(Result::ok) {
                let Ok(broker) = TcpStream::connect((host(), broker)) else { continue };
                let number = {
                    let mut inner = of.lock().expect("no holder panics");
                    inner.connects.push(now());
                    inner.connects.len() - 1
                };
                let both = gateway.try_clone().and_then(|g| Ok((g, broker.try_clone()?)));
                let Ok((gateway_again, broker_again)) = both else { continue };
                let (up, down) = (Arc::clone(&of), Arc::clone(&of));
                std::thread::spawn(move || pass(gateway, broker_again, number, &up, true));
                std::thread::spawn(move || pass(broker, gateway_again, number, &down, false));
            }
        });
        Cable { port, inner }
    }

    /// What is connected now goes dead. What connects later works.
    pub fn cut_silently(&self) {
        let mut inner = self.inner.lock().expect("no holder panics");
        inner.dead_before = inner.connects.len();
    }

    pub fn connects(&self) -> usize {
        self.inner.lock().expect("no holder panics").connects.len()
    }

    /// When the gateway let go of its connection with that number.
    pub fn left(&self, number: usize) -> Option<Boot> {
        self.inner.lock().expect("no holder panics").ends.iter().find(|(n, _)| *n == number).map(|(_, at)| *at)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, number: usize, of: &Mutex<Inner>, is_gateway: bool) {
    let mut chunk = [0; 16 * 1024];
    loop {
        let read = from.read(&mut chunk);
        let dead = number < of.lock().expect("no holder panics").dead_before;
        match read {
            Ok(n) if n > 0 => {
                // The receiving kernel takes and acknowledges it all the same, as behind a NAT that forgot.
                if !dead && to.write_all(&chunk[..n]).is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    if is_gateway {
        of.lock().expect("no holder panics").ends.push((number, now()));
    }
    // The broker learns nothing of a gateway behind a dead cable, and the other way round.
    if number >= of.lock().expect("no holder panics").dead_before {
        let _ = to.shutdown(std::net::Shutdown::Both);
    } else {
        std::mem::forget(to);
    }
}

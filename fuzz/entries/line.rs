//! The whole core of a line, with any bytes at any moment, sometimes a right answer, and a port that comes and goes.

use super::{feed::Feed, plant};
use fieldgate::{
    config::{Line, Parity, Serial, Transport},
    drivers::{
        line::{
            core::Core,
            event::{Event, Want},
        },
        modbus::rtu::crc16,
    },
    model::{Action, Boot, CommandId, LineId, Order, Settings, SiteAsk, SiteJob, Value},
};
use std::{collections::BTreeMap, time::Duration};

/// What one step may say at most: each device once, and every order that waits.
const SAYS: usize = 200;

#[derive(PartialEq)]
enum Wanted {
    Open,
    Send(Vec<u8>),
    Tune,
    Until(Boot),
}

pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let transport = match feed.byte() % 3 {
        0 => Transport::Serial(Serial { path: "/dev/null".into(), baud: 9600, parity: Parity::Even, bits: 8, stop: 1 }),
        1 => Transport::Tcp { host: "h".into(), port: 502 },
        _ => Transport::RtuOverTcp { host: "h".into(), port: 502 },
    };
    let is_mbap = matches!(transport, Transport::Tcp { .. });
    let line = Line::new(LineId::parse("bus").expect("valid"), transport);
    let mut core = Core::new(&line, vec![plant::device(1), plant::device(2)]);
    let mut now = Boot::from_ms(1000);
    let mut sent: Vec<u8> = Vec::new();
    let mut wanted = own(core.step(now, Event::Time));
    while !feed.is_empty() {
        let op = feed.byte();
        let want = match op % 14 {
            // What an owner does.
            0..=3 => match std::mem::replace(&mut wanted, Wanted::Until(now)) {
                Wanted::Open => core.step(now, Event::Opened),
                Wanted::Send(frame) => {
                    sent = frame;
                    core.step(now, Event::Sent)
                }
                Wanted::Tune => core.step(now, Event::Tuned),
                Wanted::Until(until) => {
                    now = now.max(until.min(now + Duration::from_secs(60)));
                    core.step(now, Event::Time)
                }
            },
            // A right answer to what was sent, perhaps bent in one byte.
            4..=6 => {
                let mut reply = answer(&sent, is_mbap);
                if op > 127 && !reply.is_empty() {
                    let at = usize::from(feed.byte()) % reply.len();
                    reply[at] ^= feed.byte();
                }
                core.step(now, Event::Bytes(&reply))
            }
            7 => {
                let n = usize::from(feed.byte());
                core.step(now, Event::Bytes(feed.take(n)))
            }
            8 => {
                now = now + Duration::from_millis(u64::from(feed.byte()) * 8);
                core.step(now, Event::Time)
            }
            9 => core.step(now, Event::Order(order(&mut feed, now))),
            10 => core.step(now, Event::Lost("gone")),
            11 => core.step(now, Event::Appeared),
            12 => core.step(now, Event::Site(site(&mut feed, now))),
            _ if op > 250 => core.step(now, Event::Stop),
            _ => core.step(now, Event::Failed("not there")),
        };
        wanted = own(want);
        let says = core.out.urgent.len() + core.out.bulk.len() + core.out.notes.len() + core.out.site.len();
        assert!(says <= SAYS, "one step says {says} things");
        core.out = fieldgate::drivers::line::event::Out::default();
    }
}

fn own(want: Want<'_>) -> Wanted {
    match want {
        Want::Open => Wanted::Open,
        Want::Send(frame) | Want::SendSecret(frame) => {
            assert!(frame.len() <= 260, "a frame of {} bytes", frame.len());
            Wanted::Send(frame.to_vec())
        }
        Want::Tune(_) => Wanted::Tune,
        Want::Close => Wanted::Until(Boot(0)),
        Want::Recv { need, until, .. } => {
            assert!(need >= 1);
            Wanted::Until(until)
        }
        Want::Silence(until) | Want::Idle(until) => Wanted::Until(until),
    }
}

/// As a unit that holds zeros answers.
fn answer(sent: &[u8], is_mbap: bool) -> Vec<u8> {
    let (head, from) = if is_mbap { (6, 6) } else { (0, 0) };
    let Some([unit, function, a, b, c, d, ..]) = sent.get(from..) else { return Vec::new() };
    let count = usize::from(u16::from_be_bytes([*c, *d]));
    let mut frame = sent[..head].to_vec();
    frame.extend([*unit, *function]);
    match function {
        1 | 2 => frame.extend(std::iter::once(u8::try_from(count.div_ceil(8)).unwrap_or(0)).chain(vec![0; count.div_ceil(8)])),
        3 | 4 => frame.extend(std::iter::once(u8::try_from(count * 2).unwrap_or(0)).chain(vec![0; count * 2])),
        _ => frame.extend([*a, *b, *c, *d]),
    }
    if is_mbap {
        let length = u16::try_from(frame.len() - head).unwrap_or(0);
        frame[4..6].copy_from_slice(&length.to_be_bytes());
    } else {
        frame.extend(crc16(&frame).to_le_bytes());
    }
    frame
}

fn order(feed: &mut Feed<'_>, now: Boot) -> Order {
    let device = plant::device(feed.byte() % 3 + 1);
    let point = device.points[usize::from(feed.byte()) % device.points.len()].id.clone();
    Order {
        id: CommandId::parse(&format!("c{}", feed.word())).expect("valid"),
        device: device.id,
        verify: if feed.byte() % 2 == 1 { vec![point.clone()] } else { vec![] },
        action: Action::Write(BTreeMap::from([(point, Value::Uint(feed.byte().into()))])),
        deadline: now + Duration::from_millis(u64::from(feed.word())),
    }
}

fn site(feed: &mut Feed<'_>, now: Boot) -> SiteJob {
    let settings = Settings { baud: 19_200, parity: Parity::None, bits: 8, stop: 1 };
    let (unit, timeout) = (feed.byte(), Duration::from_millis(feed.byte().into()));
    let n = usize::from(feed.byte() % 16);
    let ask = SiteAsk { unit, pdu: feed.take(n).to_vec(), timeout: Some(timeout), settings: (n % 2 == 1).then_some(settings) };
    SiteJob { ask, deadline: now + Duration::from_secs(1), tell: Box::new(|_| {}) }
}

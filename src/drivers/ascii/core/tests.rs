//! The core in virtual time: a loop that does what it wants, and a script of what comes when.

use super::*;
use crate::{
    config::{Parity, Serial},
    drivers::ascii::testing::{self, pattern, scale, weather},
    model::{Action, Bulk, CommandId, DeviceId, Heard, Order, Phase, PointId, Value},
};
use std::collections::{BTreeMap, VecDeque};

const MS: Duration = Duration::from_millis(1);

/// What the other end does with the n-th request: after so long these bytes, several times.
type Answer = Vec<(u64, &'static [u8])>;

struct Bench {
    core: Core,
    now: Boot,
    /// Taken in turn; the last one stays.
    answers: VecDeque<Answer>,
    coming: Vec<(Boot, Vec<u8>)>,
    sent: Vec<(Boot, Vec<u8>)>,
    readings: Vec<(Boot, String)>,
    heard: Vec<(Boot, String)>,
    done: Vec<(Phase, String)>,
    echoing: bool,
}

fn line(transport: Transport) -> Line {
    Line { timeout: MS * 300, ..Line::new(LineId::parse("scales").unwrap(), transport) }
}

fn serial() -> Line {
    line(Transport::Serial(Serial { path: "/dev/null".into(), baud: 9600, parity: Parity::None, bits: 8, stop: 1 }))
}

impl Bench {
    fn new(devices: Vec<Framed>, answers: &[&[(u64, &'static [u8])]]) -> Bench {
        Bench {
            core: Core::new(&serial(), devices),
            now: Boot::from_ms(1000),
            answers: answers.iter().map(|a| a.to_vec()).collect(),
            coming: Vec::new(),
            sent: Vec::new(),
            readings: Vec::new(),
            heard: Vec::new(),
            done: Vec::new(),
            echoing: false,
        }
    }

    fn say(mut self, at_ms: u64, bytes: &[u8]) -> Bench {
        self.coming.push((Boot::from_ms(at_ms), bytes.to_vec()));
        self.coming.sort();
        self
    }

    fn on_request(&mut self, frame: &[u8]) {
        self.sent.push((self.now, frame.to_vec()));
        if self.echoing {
            self.coming.push((self.now + MS, frame.to_vec()));
        }
        let answer = if self.answers.len() > 1 { self.answers.pop_front() } else { self.answers.front().cloned() };
        for (after, bytes) in answer.into_iter().flatten() {
            self.coming.push((self.now + MS * u32::try_from(after).unwrap(), bytes.to_vec()));
        }
        self.coming.sort();
    }

    fn order(&mut self, action: Action, within: Duration) {
        let device = self.core.devices[0].id.clone();
        let order = Order { id: CommandId::parse("c").unwrap(), device, action, deadline: self.now + within, verify: vec![] };
        let _ = self.core.step(self.now, Event::Order(order));
        self.collect();
    }

    /// Runs until this moment; steps without progress are a fault.
    fn run(&mut self, until_ms: u64) -> &mut Bench {
        let until = Boot::from_ms(until_ms);
        let mut steps = 0;
        let mut event = None::<(&str, Vec<u8>)>;
        while self.now < until {
            steps += 1;
            assert!(steps < 100_000, "the core stands still at {:?}", self.now);
            let want = match &event {
                Some(("bytes", bytes)) => self.core.step(self.now, Event::Bytes(bytes)),
                Some(("sent", _)) => self.core.step(self.now, Event::Sent),
                Some(("opened", _)) => self.core.step(self.now, Event::Opened),
                _ => self.core.step(self.now, Event::Time),
            };
            let wait = match want {
                Want::Open => {
                    event = Some(("opened", Vec::new()));
                    None
                }
                Want::Send(frame) | Want::SendSecret(frame) => {
                    let frame = frame.to_vec();
                    self.on_request(&frame);
                    event = Some(("sent", Vec::new()));
                    None
                }
                Want::Tune(settings) => panic!("nobody asked for {settings}"),
                Want::Close => panic!("nobody asked to close"),
                Want::Recv { until, .. } | Want::Idle(until) | Want::Silence(until) => Some(until),
            };
            if let Some(wait) = wait {
                let next = self.coming.first().map_or(NEVER, |(at, _)| *at);
                let to = wait.min(next).min(until);
                self.now = self.now.max(to);
                event = if next <= self.now { Some(("bytes", self.coming.remove(0).1)) } else { None };
            }
            self.collect();
        }
        self
    }

    fn collect(&mut self) {
        for bulk in self.core.out.bulk.drain(..) {
            let Bulk::Reading(r) = bulk else { panic!("{bulk:?}") };
            let values: Vec<String> = r.points.iter().zip(&r.values).map(|(id, v)| format!("{id}={}", word(v))).collect();
            self.readings.push((r.at, format!("{} {}", r.device, values.join(" "))));
        }
        for urgent in self.core.out.urgent.drain(..) {
            match urgent {
                Urgent::Poll { device, heard, at } => self.heard.push((at, format!("{device} {}", kind(&heard)))),
                Urgent::Done(done) => self.done.push((done.outcome.phase, done.outcome.reason)),
                _ => {}
            }
        }
    }

    fn read(&self) -> Vec<&str> {
        self.readings.iter().map(|(_, text)| text.as_str()).collect()
    }

    fn told(&self) -> Vec<&str> {
        self.heard.iter().map(|(_, text)| text.as_str()).collect()
    }
}

fn word(value: &Value) -> String {
    value.as_f64().map_or("null".into(), |v| v.to_string())
}

fn kind(heard: &Heard) -> &'static str {
    match heard {
        Heard::Refused(_) => "refused",
        Heard::Garbled(_) => "garbled",
        Heard::Silent { .. } => "silent",
        Heard::Answered => "answered",
    }
}

const GOOD: &[u8] = b"S S     100.00 g\r\n";

#[test]
fn a_scale_is_polled_on_its_grid() {
    let mut bench = Bench::new(vec![scale("s")], &[&[(20, GOOD)]]);
    bench.run(4900);
    assert_eq!(bench.read(), ["s stable=1 weight=100"; 4]);
    assert!(bench.sent.iter().all(|(_, frame)| frame == b"SI\r\n"));
    assert_eq!(bench.core.counters().answers, 4);
    let begun: Vec<u64> = bench.sent.iter().map(|(at, _)| at.0 / 1_000_000).collect();
    assert_eq!(begun, [1, 2, 3, 4], "a poll each second");
}

#[test]
fn pieces_of_an_answer_become_one_and_a_broken_one_is_garbled() {
    check(&[(20, b"S S   "), (60, b"  100.00 g"), (110, b"\r\n")], &["s stable=1 weight=100"], &[]);
    check(&[(20, b"S S     100.00 g")], &[], &["s garbled"]);
    check(&[(20, b"S S     1_0.00 g\r\n")], &[], &["s garbled"]);
    check(&[(20, b"\xff\x00\r\nS S     100.00 g\r\n")], &["s stable=1 weight=100"], &[]);
    check(&[], &[], &["s silent"]);
}

#[track_caller]
fn check(answer: &[(u64, &'static [u8])], read: &[&str], told: &[&str]) {
    let mut bench = Bench::new(vec![scale("s")], &[answer]);
    bench.run(1900);
    assert_eq!((bench.read(), bench.told()), (read.to_vec(), told.to_vec()), "{answer:?}");
}

#[test]
fn a_late_answer_is_never_taken_for_the_next_requests() {
    let late: &[(u64, &'static [u8])] = &[(700, b"S S 1.0 g\r\n")];
    let mut bench = Bench::new(vec![Framed { poll: Duration::ZERO, ..scale("s") }], &[late, &[(20, b"S S 2.0 g\r\n")]]);
    bench.run(3000);
    assert!(!bench.read().iter().any(|r| r.ends_with("weight=1")), "{:?}", bench.read());
    assert_eq!(bench.core.counters().late, 1);
    assert_eq!(bench.told(), ["s silent", "s answered"], "late is a sign of life");
    let second = bench.sent[1].0;
    assert!(second - bench.sent[0].0 >= MS * 1300, "barred for a second after the timeout");
    assert!(bench.core.guard.timeout(0) > MS * 300, "raised to what would have been enough");
}

/// Each answer comes 2.4 s late, one after the other as a slow device gives them: the second of them must not meet the
/// third request.
#[test]
fn what_was_given_up_meanwhile_bars_too() {
    let late: [&[(u64, &'static [u8])]; 3] = [&[(2400, b"S S 1.0 g\r\n")], &[(3400, b"S S 1.0 g\r\n")], &[(20, b"S S 2.0 g\r\n")]];
    let mut bench = Bench::new(vec![Framed { poll: Duration::ZERO, ..scale("s") }], &late);
    bench.run(12_000);
    assert!(!bench.read().iter().any(|r| r.ends_with("weight=1")), "{:?} {:?}", bench.readings, bench.sent);
    assert_eq!(bench.core.counters().late, 2);
    assert!(!bench.read().is_empty());
}

#[test]
fn without_an_address_in_the_answer_a_late_one_bars_the_whole_line() {
    let other = |addressed| {
        let mut b = scale("b");
        let mut a = scale("a");
        (a.is_addressed, b.is_addressed) = (addressed, addressed);
        (a.request, b.request) = (testing::request("A\r\n"), testing::request("B\r\n"));
        let mut bench = Bench::new(vec![a, b], &[&[], &[(20, GOOD)]]);
        bench.run(3000);
        bench.sent[1].0 - bench.sent[0].0
    };
    assert!(other(false) >= MS * 1300);
    assert!(other(true) < MS * 600, "the neighbour does not wait: {:?}", other(true));
}

#[test]
fn a_dead_device_is_probed_and_comes_back_with_its_first_answer() {
    let silent: &[(u64, &'static [u8])] = &[];
    let mut bench = Bench::new(vec![scale("s")], &[silent, silent, silent, silent, &[(20, GOOD)]]);
    bench.run(20_000);
    assert_eq!(bench.told(), ["s silent"; 4]);
    assert!(bench.readings.len() > 5, "{:?}", bench.readings);
}

#[test]
fn an_adapter_that_hears_itself_is_recognised() {
    let mut bench = Bench::new(vec![scale("s")], &[&[(20, GOOD)]]);
    bench.echoing = true;
    bench.run(3900);
    assert_eq!(bench.read(), ["s stable=1 weight=100"; 3]);
    assert_eq!((bench.core.counters().foreign, bench.core.counters().garbled), (0, 0));
    // Only the echo and nothing else is silence.
    let mut bench = Bench::new(vec![scale("s")], &[&[]]);
    bench.echoing = true;
    bench.run(1900);
    assert_eq!(bench.told(), ["s silent"]);
}

#[test]
fn a_talker_is_heard_without_being_asked() {
    let mut bench = Bench::new(vec![weather("w")], &[&[]])
        .say(1500, b"$WIMWV,214.8,R,0.1,")
        .say(1520, b"K,A*28\r\n")
        .say(2500, b"$WIMWV,214.8,R,0.9,K,A*28\r\n")
        .say(3500, b"$GPGGA,1*4B\r\n$WIMTA,12.5,C*1D\r\n")
        // Broken off: what comes a second later is not its end.
        .say(5000, b"$WIMWV,214.8,R,")
        .say(6000, b"0.1,K,A*28\r\n");
    bench.run(9000);
    assert_eq!(bench.read(), ["w angle=214.8 speed=0.1", "w air=12.5"]);
    assert!(bench.sent.is_empty());
    assert!(bench.core.counters().garbled >= 2, "{:?}", bench.core.counters());
}

#[test]
fn a_talker_without_start_and_checksum_is_believed_from_its_first_whole_frame() {
    let talker = |id| Framed {
        request: None,
        patterns: vec![pattern("(?<weight>[0-9.]+)")],
        points: vec![testing::point("weight", crate::config::framed::FieldType::Number)],
        ..scale(id)
    };
    // The port was opened in the middle of 1234.5.
    let mut bench = Bench::new(vec![talker("t")], &[&[]]).say(1010, b"4.5\r\n").say(1030, b"1234.5\r\n").say(1500, b"1234.6\r\n");
    bench.run(2000);
    assert_eq!(bench.read(), ["t weight=1234.5", "t weight=1234.6"]);
    // It was quiet when the port was opened.
    let mut bench = Bench::new(vec![talker("t")], &[&[]]).say(1400, b"1234.5\r\n");
    bench.run(2000);
    assert_eq!(bench.read(), ["t weight=1234.5"]);
}

#[test]
fn silence_ends_a_frame_where_the_rule_says_so() {
    let mut device = scale("s");
    device.frame.end = End::Silence(MS * 50);
    let mut bench = Bench::new(vec![device.clone()], &[&[(20, b"S S   "), (50, b" 100.00 g")]]);
    bench.run(1900);
    assert_eq!(bench.read(), ["s stable=1 weight=100"]);
    device.request = None;
    let mut bench = Bench::new(vec![device], &[&[]]).say(1500, b"S S 1.5").say(1530, b" g").say(1700, b"S S 2.5 g");
    bench.run(2000);
    assert_eq!(bench.read(), ["s stable=1 weight=1.5", "s stable=1 weight=2.5"]);
}

fn write(point: &str, value: Value) -> Action {
    Action::Write(BTreeMap::from([(PointId::parse(point).unwrap(), value)]))
}

#[test]
fn a_write_goes_on_the_wire_once_and_ends_in_one_outcome() {
    check_write("zero", Value::Bool(true), &[(20, b"Z A\r\n")], (Phase::Confirmed, ""), b"Z\r\n");
    check_write("zero", Value::Bool(true), &[(20, b"Z +\r\n")], (Phase::Failed, "zero: it answered `Z +`"), b"Z\r\n");
    check_write("zero", Value::Bool(true), &[], (Phase::Unknown, "zero: sent, but no answer within"), b"Z\r\n");
    check_write("zero", Value::Bool(true), &[(20, b"ES\r\n")], (Phase::Unknown, "zero: sent, but the answer was garbled"), b"Z\r\n");
    check_write("limit", Value::Float(12.25), &[], (Phase::Unknown, "limit: sent; the device does not answer"), b"L 12.2\r\n");
}

#[track_caller]
fn check_write(point: &str, value: Value, answer: &[(u64, &'static [u8])], want: (Phase, &str), sent: &[u8]) {
    let mut bench = Bench::new(vec![scale("s")], &[&[(20, GOOD)], answer]);
    bench.run(1500);
    bench.order(write(point, value), Duration::from_secs(5));
    bench.run(1990);
    assert_eq!(bench.done.len(), 1, "{:?}", bench.done);
    assert_eq!(bench.done[0].0, want.0, "{:?}", bench.done);
    assert!(bench.done[0].1.starts_with(want.1), "{:?}", bench.done);
    assert_eq!(bench.sent.iter().filter(|(_, f)| f == sent).count(), 1);
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_sent() {
    for (action, why) in [
        (write("zero", Value::Bool(false)), "only true"),
        (write("weight", Value::Float(1.0)), "it cannot be written"),
        (write("limit", Value::Text("5".into())), "it takes a number"),
        (write("nothing", Value::Bool(true)), "there is no point"),
        (Action::Write(BTreeMap::new()), "nothing to do"),
    ] {
        let mut bench = Bench::new(vec![scale("s")], &[&[]]);
        bench.order(action, Duration::from_secs(5));
        assert_eq!(bench.done.len(), 1);
        assert!(bench.done[0].0 == Phase::Rejected && bench.done[0].1.contains(why), "{:?}", bench.done);
    }
}

#[test]
fn a_read_on_demand_answers_with_the_values() {
    let mut bench = Bench::new(vec![scale("s")], &[&[(20, GOOD)]]);
    bench.run(1500);
    bench.order(Action::Read(vec![PointId::parse("weight").unwrap()]), Duration::from_secs(5));
    bench.run(1900);
    assert_eq!(bench.done, [(Phase::Confirmed, String::new())]);
    let mut talker = Bench::new(vec![weather("w")], &[&[]]);
    talker.order(Action::Read(vec![]), Duration::from_secs(5));
    assert_eq!(talker.done[0].0, Phase::Rejected);
}

#[test]
fn orders_wait_for_a_line_that_is_down_until_their_deadline_only() {
    let mut core = Core::new(&serial(), vec![scale("s")]);
    let at = Boot::from_ms(1000);
    let _ = core.step(at, Event::Time);
    let _ = core.step(at, Event::Failed("no such port"));
    assert_eq!(core.line_state(), (LineState::Down, "no such port"));
    let order = Order {
        id: CommandId::parse("c").unwrap(),
        device: DeviceId::parse("s").unwrap(),
        action: write("zero", Value::Bool(true)),
        deadline: at + MS * 100,
        verify: vec![],
    };
    let _ = core.step(at, Event::Order(order));
    let _ = core.step(at + MS * 200, Event::Time);
    let done = core.out.urgent.iter().find_map(|u| if let Urgent::Done(d) = u { Some(d.outcome.phase) } else { None });
    assert_eq!(done, Some(Phase::Expired));
}

#[test]
fn a_tcp_connection_lost_once_is_reopened_without_a_word_and_a_talkers_is_down() {
    let tcp = line(Transport::Tcp { host: "sim".into(), port: 4001 });
    for (device, want) in [(scale("s"), LineState::Up), (weather("w"), LineState::Down)] {
        let mut core = Core::new(&tcp, vec![device]);
        let at = Boot::from_ms(1000);
        let _ = core.step(at, Event::Time);
        let _ = core.step(at, Event::Opened);
        let _ = core.step(at + MS * 5000, Event::Lost("the peer closed the connection"));
        assert_eq!(core.line_state().0, want);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..proptest::prelude::ProptestConfig::with_cases(100) })]

    #[test]
    fn any_noise_never_stops_the_line_and_never_fills_the_memory(
        noise in proptest::collection::vec((1000u64..20_000, proptest::collection::vec(proptest::prelude::any::<u8>(), 1..200)), 0..60),
    ) {
        let mut bench = Bench::new(vec![scale("s"), Framed { request: None, patterns: vec![pattern("never")], ..scale("t") }], &[&[(20, GOOD)]]);
        for (at, bytes) in &noise {
            bench.coming.push((Boot::from_ms(*at), bytes.clone()));
        }
        bench.coming.sort();
        bench.run(40_000);
        proptest::prop_assert!(bench.core.exchange.rx.len() <= bench.core.rx_max);
        proptest::prop_assert!(bench.read().iter().all(|r| *r == "s stable=1 weight=100"), "{:?}", bench.read());
        proptest::prop_assert!(bench.readings.iter().any(|(at, _)| *at > Boot::from_ms(30_000)), "it is polled again when the noise is over");
    }
}

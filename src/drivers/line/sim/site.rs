//! Requests of site tools: their turn, their settings, their reply, and what they leave to the polls.

use super::*;
use crate::{
    config::{Parity, Serial},
    model::{Settings, SiteOutcome},
};

fn ask(unit: u8, pdu: &[u8]) -> SiteAsk {
    SiteAsk { unit, pdu: pdu.to_vec(), timeout: None, settings: None }
}

const READ_10: &[u8] = &[3, 0, 10, 0, 1];

impl Sim {
    fn give(&mut self, ask: SiteAsk) {
        let job = SiteJob { ask, deadline: self.now + Duration::from_secs(60), tell: Box::new(|_| {}) };
        self.script.push((self.now, Scripted::Site(job)));
    }

    /// Asks once and runs until the report.
    fn ask(&mut self, ask: SiteAsk) -> SiteReport {
        let before = self.site.len();
        self.give(ask);
        let end = self.now + Duration::from_secs(60);
        while self.site.len() == before && self.now < end {
            self.turn(end);
        }
        self.site.last().expect("a report within a minute").2.clone()
    }
}

fn answer(unit: u8) -> SiteOutcome {
    let [high, low] = value(unit, 10).to_be_bytes();
    SiteOutcome::Answer(vec![3, 2, high, low])
}

fn settings(baud: u32, parity: Parity) -> Settings {
    Settings { baud, parity, bits: 8, stop: 1 }
}

#[test]
fn a_request_on_an_idle_line_is_answered_refused_or_silent() {
    for transport in [rtu(9600), mbap(), rtu_over_tcp()] {
        let mut sim = Sim::new(transport.clone(), &[], 1);
        sim.bus.add(3);
        sim.bus.add(4);
        sim.fault(4, Fault::Refuses(2));
        let report = sim.ask(ask(3, READ_10));
        assert_eq!(report.outcome, answer(3), "{transport:?}");
        assert!(!report.sent.is_empty() && report.heard.len() >= 7 && report.took < MS * 40, "{report:?}");
        assert_eq!(sim.ask(ask(4, READ_10)).outcome, SiteOutcome::Exception(2));
        let report = sim.ask(SiteAsk { timeout: Some(MS * 50), ..ask(9, READ_10) });
        assert_eq!(report.outcome, SiteOutcome::Silent);
        assert!(report.heard.is_empty() && report.took >= MS * 50 && report.took < MS * 70, "{report:?}");
        assert_eq!(sim.ask(ask(3, &[17])).outcome, SiteOutcome::Answer(vec![17, 3, 3, 0xff, 9]), "{transport:?}");
        let unknown = vec![0x41, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(sim.ask(ask(3, &[0x41, 1])).outcome, SiteOutcome::Answer(unknown), "{transport:?}");
        assert_eq!(sim.ask(ask(3, &[6, 0, 1, 0, 5])).outcome, SiteOutcome::Answer(vec![6, 0, 1, 0, 5]));
        assert_eq!(sim.bus.slaves[&3].writes, 1);
    }
}

#[test]
fn a_site_tool_finds_out_what_a_connection_speaks() {
    for (spoken, word) in [(mbap(), "mbap"), (rtu_over_tcp(), "rtu")] {
        let line = Line { auto_framing: true, ..testing::line(mbap()) };
        let mut sim = Sim::on(&line, &[], &[], 1);
        sim.bus.wire = Wire::new(&spoken);
        sim.bus.add(3);
        let tries: Vec<SiteOutcome> = (0..2).map(|_| sim.ask(ask(3, READ_10)).outcome).collect();
        assert_eq!(tries[1], answer(3), "{word}: {tries:?}");
        assert_eq!(super::super::event::Step::framing(&sim.core), word);
        assert_eq!(sim.ask(ask(9, READ_10)).outcome, SiteOutcome::Silent, "{word}");
        assert_eq!(sim.ask(ask(3, READ_10)).outcome, answer(3), "{word}: a silent neighbour changes nothing");
    }
}

#[test]
fn an_echoing_adapter_is_recognised_by_site_tools_too() {
    let mut sim = Sim::new(rtu(9600), &[], 1);
    sim.bus.add(3);
    sim.bus.echoes = true;
    assert_eq!(sim.ask(ask(3, READ_10)).outcome, answer(3));
    assert_eq!(sim.ask(ask(3, &[17])).outcome, SiteOutcome::Answer(vec![17, 3, 3, 0xff, 9]));
    assert_eq!(sim.ask(ask(3, &[6, 0, 1, 0, 5])).outcome, SiteOutcome::Answer(vec![6, 0, 1, 0, 5]));
    assert_eq!(sim.ask(ask(9, READ_10)).outcome, SiteOutcome::Silent, "its own echo is no sign of life");
    sim.fault(3, Fault::MuteOnWrites);
    assert_eq!(sim.ask(ask(3, &[6, 0, 1, 0, 6])).outcome, SiteOutcome::Silent, "nor the reply to a write");
}

#[test]
fn what_cannot_be_sent_is_said_in_words() {
    let mut sim = Sim::new(rtu(9600), &[], 1);
    for (unit, pdu, why) in [(0, READ_10, "1 to 247"), (248, READ_10, "1 to 247"), (3, &[][..], "1 to 253 bytes")] {
        let SiteOutcome::NotSent(said) = sim.ask(ask(unit, pdu)).outcome else { panic!("it was sent") };
        assert!(said.contains(why), "{said}");
    }
    let mut sim = Sim::new(mbap(), &[], 1);
    sim.door = Door::Refused;
    let report = sim.ask(ask(3, READ_10));
    assert_eq!(report.outcome, SiteOutcome::NotSent("connection refused".into()));
    assert!(report.sent.is_empty() && sim.bus.requests == 0);
}

#[test]
fn too_many_requests_at_once_are_refused_and_each_is_reported_once() {
    let mut sim = Sim::new(rtu(9600), &[], 1);
    for unit in 1..=12 {
        sim.give(SiteAsk { timeout: Some(MS * 20), ..ask(unit, READ_10) });
    }
    sim.run_for(Duration::from_secs(5));
    let refused = sim.site.iter().filter(|(.., r)| matches!(&r.outcome, SiteOutcome::NotSent(why) if why.contains("too many"))).count();
    assert_eq!(sim.site.len(), 12);
    assert!((1..=12 - crate::limits::SITE_JOBS).contains(&refused), "{refused} refused");
}

#[test]
fn other_settings_are_for_one_request_alone_and_polls_go_on_with_the_lines() {
    let devices = [device(7, 2, MS * 100)];
    let mut sim = Sim::new(rtu(9600), &devices, 5);
    let (own, other) = (settings(9600, Parity::None), settings(19_200, Parity::Even));
    sim.bus.slaves.get_mut(&7).expect("added").settings = Some(own);
    sim.bus.add(9);
    sim.bus.slaves.get_mut(&9).expect("added").settings = Some(other);
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.ask(SiteAsk { settings: Some(other), ..ask(9, READ_10) }).outcome, answer(9));
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.bus.wire.settings, Some(own), "back as it was");
    assert_eq!(sim.ask(ask(9, READ_10)).outcome, SiteOutcome::Silent, "it does not hear the line's own settings");
    assert_eq!(sim.ask(SiteAsk { settings: Some(own), ..ask(7, READ_10) }).outcome, answer(7));
    sim.run_for(Duration::from_secs(5));
    assert!(sim.wrong.is_empty() && sim.bus.rude == 0, "{:?}, {} rude", sim.wrong, sim.bus.rude);
    let silent = sim.heard.iter().filter(|(.., h)| matches!(h, Heard::Silent { .. })).count();
    assert!(silent == 0 && sim.readings[&devices[0].id] >= 130, "{silent} silent polls, {:?}", sim.readings);
}

#[test]
fn a_unit_that_answers_late_is_barred_and_its_reply_never_taken_for_anothers() {
    for unit_has_device in [false, true] {
        let devices = [device(7, 2, Duration::ZERO), device(9, 1, Duration::from_secs(3600))];
        let mut sim = Sim::new(rtu(19_200), if unit_has_device { &devices } else { &devices[..1] }, 5);
        if !unit_has_device {
            sim.bus.add(9);
        }
        sim.run_for(Duration::from_secs(2));
        sim.fault(9, Fault::After(MS * 600));
        let late = SiteAsk { timeout: Some(MS * 300), ..ask(9, READ_10) };
        assert_eq!(sim.ask(late.clone()).outcome, SiteOutcome::Silent);
        let at = sim.now;
        // The same shape, another register: the late reply to the first must not answer it.
        sim.fault(9, Fault::None);
        let report = sim.ask(ask(9, &[3, 0, 20, 0, 1]));
        let [high, low] = value(9, 20).to_be_bytes();
        assert_eq!(report.outcome, SiteOutcome::Answer(vec![3, 2, high, low]));
        assert!(sim.now - at >= MS * 900, "{:?}", sim.now - at);
        assert!(sim.wrong.is_empty(), "{:?}", sim.wrong);
    }
}

#[test]
fn a_long_scan_leaves_half_of_the_line_to_the_polls() {
    let devices = [device(7, 2, Duration::ZERO), device(8, 2, Duration::ZERO)];
    let mut sim = Sim::new(rtu(9600), &devices, 5);
    sim.run_for(Duration::from_secs(1));
    let rate = |sim: &mut Sim, scan: bool| {
        let (from, before): (Boot, u64) = (sim.now, sim.readings.values().sum());
        let mut unit = 20;
        while sim.now < from + Duration::from_secs(20) {
            if scan {
                assert_eq!(sim.ask(SiteAsk { timeout: Some(MS * 100), ..ask(unit, READ_10) }).outcome, SiteOutcome::Silent);
                unit += 1;
            } else {
                sim.run_for(MS * 100);
            }
        }
        sim.readings.values().sum::<u64>() - before
    };
    let (alone, shared) = (rate(&mut sim, false), rate(&mut sim, true));
    assert!(shared * 100 >= alone * 45, "{shared} readings beside a scan, {alone} alone");
    assert!(sim.site.len() > 70, "{} units scanned in 20 s", sim.site.len());
    assert!(sim.wrong.is_empty() && sim.bus.rude == 0);
}

#[test]
fn a_lost_connection_repeats_a_read_once_and_never_a_write() {
    for (pdu, want) in [(READ_10, 2), (&[6, 0, 1, 0, 5][..], 1)] {
        let mut sim = Sim::new(mbap(), &[], 5);
        sim.bus.add(3);
        assert_eq!(sim.ask(ask(3, READ_10)).outcome, answer(3));
        sim.fault(3, Fault::After(Duration::from_secs(1)));
        let before = sim.bus.requests;
        sim.give(SiteAsk { timeout: Some(Duration::from_secs(2)), ..ask(3, pdu) });
        sim.script.push((sim.now + MS * 500, Scripted::Lost("the peer closed the connection")));
        sim.run_for(Duration::from_secs(5));
        let report = &sim.site[1].2;
        assert_eq!(sim.bus.requests - before, want, "{report:?}");
        match want {
            2 => assert_eq!(report.outcome, answer(3)),
            _ => assert!(matches!(&report.outcome, SiteOutcome::Garbled(why) if why.contains("lost")), "{report:?}"),
        }
    }
}

#[test]
fn a_refused_setting_ends_the_request_and_not_the_line() {
    let serial = Serial { path: "/dev/null".into(), baud: 9600, parity: Parity::None, bits: 8, stop: 1 };
    let mut core = Core::new(&testing::line(Transport::Serial(serial)), Vec::new());
    let mut now = Boot::from_ms(1000);
    let mut step = |core: &mut Core, event: Event<'_>| {
        now = now + MS * 10;
        format!("{:?}", core.step(now, event))
    };
    step(&mut core, Event::Time);
    step(&mut core, Event::Opened);
    let odd = Some(settings(31_250, Parity::None));
    let job = SiteJob { ask: SiteAsk { settings: odd, ..ask(3, READ_10) }, deadline: Boot::from_ms(60_000), tell: Box::new(|_| {}) };
    step(&mut core, Event::Site(job));
    let want = step(&mut core, Event::Time);
    assert!(want.starts_with("Tune(Settings { baud: 31250"), "{want}");
    let want = step(&mut core, Event::Failed("the port refuses 31250 8N1"));
    assert!(want.starts_with("Tune(Settings { baud: 9600"), "{want}");
    assert!(step(&mut core, Event::Tuned).starts_with("Idle"));
    assert_eq!(core.out.site[0].report.outcome, SiteOutcome::NotSent("the port refuses 31250 8N1".into()));
}

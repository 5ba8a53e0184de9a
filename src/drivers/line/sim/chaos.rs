//! Any event at any time: no panic, one outcome per order, a write on the wire at most once.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Wait(u32),
    Bytes(Vec<u8>),
    /// The reply that is awaited, if one is, with one byte changed or not.
    Reply {
        spoil: Option<usize>,
    },
    Order,
    Opened,
    Failed,
    Lost,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u32..3_000_000).prop_map(Step::Wait),
        2 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
        6 => proptest::option::of(0usize..12).prop_map(|spoil| Step::Reply { spoil }),
        2 => Just(Step::Order),
        1 => Just(Step::Opened),
        1 => Just(Step::Failed),
        1 => Just(Step::Lost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_events_breaks_the_core(tcp in any::<bool>(), steps in proptest::collection::vec(step(), 1..200)) {
        let transport = if tcp { mbap() } else { rtu(9600) };
        let mut sim = Sim::new(transport, &[device(7, 2, MS * 100), device(8, 1, Duration::ZERO)], 1);
        let (mut orders, mut writes, mut last) = (0u32, 0u32, Vec::new());
        for step in steps {
            let mut reply = Vec::new();
            let mut order = None;
            match &step {
                Step::Wait(us) => sim.now = sim.now + Duration::from_micros((*us).into()),
                Step::Bytes(bytes) => reply.clone_from(bytes),
                Step::Reply { spoil } => {
                    sim.bus.reply_to(&last, &mut reply);
                    if let Some(byte) = spoil.and_then(|n| reply.get_mut(n)) {
                        *byte ^= 0x10;
                    }
                }
                Step::Order => {
                    orders += 1;
                    let order_now = super::orders::write(&sim, 7, &[("r0", 5)], MS * 2_000);
                    order = Some(order_now);
                }
                Step::Opened | Step::Failed | Step::Lost => {}
            }
            let event = match (&step, order) {
                (_, Some(order)) => Event::Order(order),
                (Step::Opened, _) => Event::Opened,
                (Step::Failed, _) => Event::Failed("no"),
                (Step::Lost, _) => Event::Lost("gone"),
                _ if !reply.is_empty() => Event::Bytes(&reply),
                _ => Event::Time,
            };
            // Events that no owner would report now must not break anything either.
            let mut want = sim.core.step(sim.now, event);
            for _ in 0..4 {
                match want {
                    Want::Send(frame) | Want::SendSecret(frame) => {
                        writes += u32::from(frame.get(if tcp { 7 } else { 1 }) == Some(&6));
                        last = frame.to_vec();
                        want = sim.core.step(sim.now, Event::Sent);
                    }
                    Want::Silence(until) => {
                        sim.now = sim.now.max(until);
                        want = sim.core.step(sim.now, Event::Time);
                    }
                    Want::Tune(_) => want = sim.core.step(sim.now, Event::Tuned),
                    Want::Close => want = sim.core.step(sim.now, Event::Time),
                    Want::Open => want = sim.core.step(sim.now, Event::Opened),
                    Want::Recv { .. } | Want::Idle(_) => break,
                }
            }
            // What the scripted unit says here is made up: only outcomes are judged.
            sim.core.out.bulk.clear();
            sim.collect();
        }
        let _ = sim.core.step(sim.now, Event::Stop);
        sim.collect();
        prop_assert_eq!(sim.done.len(), orders as usize);
        prop_assert!(writes <= orders, "{} writes for {} orders", writes, orders);
    }
}

//! A recording becomes a test: what `listen --save` writes is put to the core as it came, and gives the same readings.

use super::*;
use crate::{drivers::line::capture, model::WireFrame};

/// Device, points and values of each reading.
type Told = Vec<(DeviceId, Vec<PointId>, Vec<Value>)>;

/// Puts the recorded frames to a new core: what it sends has to be what was sent, and what was heard comes when it came.
fn replay(line: &Line, devices: &[Device], frames: &[WireFrame], since: Boot) -> Told {
    let mut core = Core::new(line, devices.to_vec());
    let (mut now, mut next) = (since, 0);
    let moment = |n: usize| frames.get(n).map(|f: &WireFrame| since + (f.at - Boot(0)));
    let mut want = core.step(now, Event::Time);
    while let Some(frame) = frames.get(next) {
        let at = moment(next).unwrap_or(now);
        let event = match want {
            Want::Open => {
                now = now + MS;
                Event::Opened
            }
            Want::Send(bytes) | Want::SendSecret(bytes) => {
                assert_eq!((frame.sent, frame.bytes.as_slice()), (true, bytes), "frame {next} at {now:?}");
                now = now.max(at);
                next += 1;
                Event::Sent
            }
            Want::Idle(until) | Want::Silence(until) | Want::Recv { until, .. } if frame.sent || at > until => {
                // The owner that recorded it woke a little late.
                let is_now = frame.sent && (until..until + MS).contains(&at);
                now = now.max(if is_now { at } else { until });
                Event::Time
            }
            Want::Idle(_) | Want::Silence(_) | Want::Recv { .. } => {
                now = now.max(at);
                next += 1;
                Event::Bytes(&frame.bytes)
            }
            Want::Tune(_) | Want::Close => Event::Time,
        };
        want = core.step(now, event);
    }
    let readings = core.out.bulk.drain(..).filter_map(|message| match message {
        Bulk::Reading(reading) => Some((reading.device, reading.points.to_vec(), reading.values)),
        _ => None,
    });
    readings.collect()
}

#[track_caller]
fn check(transport: Transport, fault: Fault) {
    let (line, devices) = (testing::line(transport.clone()), [device(7, 3, MS * 200), device(8, 2, MS * 300)]);
    let mut sim = Sim::on(&line, &devices, &[], 17);
    let since = sim.now;
    sim.fault(8, fault);
    sim.tape = Some(capture::Capture::new(crate::limits::CAPTURE_BYTES));
    sim.run_for(MS * 5_000);
    let recorded = sim.tape.as_ref().expect("it was recorded").since(0, usize::MAX);
    assert_eq!(recorded.first().map(|f| f.n), Some(0), "the ring holds all of it");
    let text: String = recorded.iter().map(|f| capture::line(since, f.at, f.sent, &f.bytes) + "\n").collect();
    let frames = capture::parse(&text).expect("what was saved reads back");
    let again = replay(&line, &devices, &frames, since);
    let (got, want) = (again.len(), sim.told.len());
    assert!(want > 20 && again == sim.told, "{transport:?} {fault:?}: {got} readings of {want}");
}

#[test]
fn a_recording_that_was_saved_gives_the_same_readings_again() {
    for transport in [rtu(19_200), mbap(), rtu_over_tcp()] {
        check(transport.clone(), Fault::None);
        check(transport.clone(), Fault::Silent);
        check(transport, Fault::CorruptCrc);
    }
}

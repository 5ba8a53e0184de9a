use super::*;
use proptest::prelude::*;

fn rows(of: &[(u32, &str)]) -> Vec<BootRow> {
    of.iter()
        .map(|(id, uuid)| BootRow { id: BootIndex(*id), uuid: (*uuid).into(), clock: ClockReading::estimated(0), seen: Boot(0) })
        .collect()
}

#[track_caller]
fn check(state: &[(u32, &str)], spool: &[(u32, &str)], want: u32) {
    assert_eq!(index("now", &rows(state), &rows(spool)), BootIndex(want), "{state:?} {spool:?}");
}

#[test]
fn an_index_names_one_boot_in_both_files() {
    check(&[], &[], 1);
    check(&[(1, "old")], &[], 2);
    check(&[(1, "old"), (2, "now")], &[(1, "old")], 2);
    check(&[(1, "now")], &[(1, "now")], 1);
    // state.db was lost: the spool's boots are older than ours.
    check(&[], &[(1, "old"), (2, "older")], 3);
    // spool.db came from elsewhere.
    check(&[(2, "now")], &[(2, "other")], 3);
}

/// 2026-11-21T10:00:00Z, and an empty clock's first idea.
const NOW: i64 = 1_795_255_200_000;
const OLD: i64 = 1_478_131_200_000;

fn row(id: u32, clock: ClockReading, seen_s: u64) -> BootRow {
    BootRow { id: BootIndex(id), uuid: id.to_string(), clock, seen: Boot::from_ms(seen_s * 1000) }
}

fn clocks(here: BootRow, before: &[BootRow]) -> Clocks {
    Clocks::new(here, before, &[], &BTreeMap::new())
}

#[test]
fn a_boot_between_two_known_moments_has_bounds() {
    // Boot 1 was seen last 1000 s after NOW; boot 3 begins 5000 s after NOW; boot 2 ran for at least 600 s between.
    let before = [row(1, ClockReading::synchronised(NOW), 1000), row(2, ClockReading::estimated(OLD), 600)];
    let clocks = clocks(row(3, ClockReading::estimated(OLD), 1), &before);
    assert_eq!(clocks.of(BootIndex(2)).quality, ClockQuality::Estimated);
    assert_eq!(clocks.of(BootIndex(2)).offset_ms, NOW + 1_000_000, "not before the boot before it was over");
    assert_eq!(clocks.of(BootIndex(3)).offset_ms, NOW + 1_600_000);
    let changes = clocks.set(ClockReading::synchronised(NOW + 5_000_000), Boot::from_ms(700_000));
    let interval = ClockReading {
        offset_ms: NOW + 4_400_000,
        quality: ClockQuality::Interval,
        error_ms: Some(3_400_000),
        source: ClockSource::Neighbours,
    };
    assert_eq!(clocks.of(BootIndex(2)), interval);
    let told: Vec<_> = changes.iter().map(|c| (c.boot.0, c.before.map(|b| b.offset_ms), c.after.offset_ms)).collect();
    assert_eq!(told, [(3, None, NOW + 5_000_000), (2, Some(NOW + 1_000_000), NOW + 4_400_000)]);
    assert_eq!(clocks.set(ClockReading::synchronised(NOW + 5_000_010), Boot::from_ms(705_000)), [], "slewing is no news");
    assert_eq!(clocks.of(BootIndex(3)).offset_ms, NOW + 5_000_010, "and is followed");
}

#[test]
fn what_an_earlier_run_of_the_boot_told_is_corrected() {
    let before = [row(1, ClockReading::estimated(OLD), 5)];
    let clocks = clocks(row(1, ClockReading::synchronised(NOW), 9), &before);
    assert_eq!(clocks.here().clock, ClockReading::estimated(OLD), "until it is told");
    let changes = clocks.set(ClockReading::synchronised(NOW), Boot::from_ms(9000));
    assert_eq!(changes.iter().map(|c| c.before.map(|b| b.offset_ms)).collect::<Vec<_>>(), [Some(OLD)]);
}

#[test]
fn how_far_a_boot_came_is_kept_once_an_hour() {
    let clocks = clocks(row(1, ClockReading::estimated(OLD), 0), &[]);
    let at = |s: u64| Boot::from_ms(s * 1000);
    assert_eq!(clocks.set(ClockReading::synchronised(NOW), at(1)).len(), 1);
    clocks.written(&clocks.unwritten());
    let writes = (5..86_400).step_by(5).filter(|s| {
        clocks.set(ClockReading::synchronised(NOW), at(*s));
        let rows = clocks.unwritten();
        clocks.written(&rows);
        !rows.is_empty()
    });
    assert_eq!(writes.count(), 23);
}

#[test]
fn telemetry_is_held_by_the_age_of_the_boot() {
    let clocks = clocks(row(1, ClockReading::estimated(OLD), 0), &[]);
    let at = |s: u64| Boot::from_ms(s * 1000);
    assert_eq!(clocks.held_until(at(10)), None, "nobody asked for it");
    clocks.hold(Duration::from_secs(60));
    assert_eq!(clocks.held_until(at(10)), Some(at(60)));
    assert_eq!(clocks.held_until(at(60)), None, "the machine is up for longer");
    clocks.set(ClockReading::synchronised(NOW), at(20));
    assert_eq!(clocks.held_until(at(20)), None);
}

#[test]
fn certificates_are_judged_by_the_latest_time_that_is_known() {
    let at = Boot::from_ms(60_000);
    let fresh = clocks(row(1, ClockReading::estimated(OLD), 0), &[]);
    assert_eq!(fresh.latest_known(at), clock::built(), "a clock in 2016 is wrong for sure");
    let future = NOW + 86_400_000_000;
    let known = clocks(row(2, ClockReading::estimated(OLD), 0), &[row(1, ClockReading::synchronised(future), 100)]);
    assert_eq!(known.latest_known(at), WallMs(future + 160_000), "as old as the boot before, and this one runs since");
    known.set(ClockReading::synchronised(NOW), at);
    assert_eq!(known.latest_known(at), WallMs(NOW + 60_000), "what is synchronised is believed, also backwards");
}

#[derive(Debug, Clone)]
struct Past {
    /// It ran so long, of which the last part is not known; then the machine was off.
    ran_s: u64,
    unseen_s: u64,
    off_s: u64,
    guess: i64,
    synchronised: bool,
}

fn past() -> impl Strategy<Value = Past> {
    (1u64..1_000_000, 0u64..10_000, 0u64..1_000_000, -10_000_000_000i64..10_000_000_000, any::<bool>())
        .prop_map(|(ran_s, unseen_s, off_s, guess, synchronised)| Past { ran_s, unseen_s, off_s, guess, synchronised })
}

proptest! {
    /// Whatever the clocks showed: bounds that are told hold, and the order of boots is kept.
    #[test]
    fn bounds_hold(pasts in proptest::collection::vec(past(), 0..12), error_ms in 0u64..1000, off in -1.0f64..1.0) {
        let ms = |s: u64| i64::try_from(s * 1000).unwrap();
        let told = |truth: i64| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            let wrong = (error_ms as f64 * off) as i64;
            ClockReading { error_ms: Some(error_ms), ..ClockReading::synchronised(truth + wrong) }
        };
        let (mut wall, mut truths, mut before) = (NOW, Vec::new(), Vec::new());
        for (n, p) in pasts.iter().enumerate() {
            let clock = if p.synchronised { told(wall) } else { ClockReading::estimated(wall + p.guess) };
            before.push(row(u32::try_from(n).unwrap(), clock, p.ran_s.saturating_sub(p.unseen_s)));
            truths.push(wall);
            wall += ms(p.ran_s + p.off_s);
        }
        let here = row(u32::try_from(pasts.len()).unwrap(), ClockReading::estimated(OLD), 1);
        let clocks = clocks(here, &before);
        clocks.set(told(wall), Boot::from_ms(1000));
        for (n, truth) in truths.iter().enumerate() {
            let got = clocks.of(BootIndex(u32::try_from(n).unwrap()));
            if let Some(error) = got.error_ms {
                prop_assert!(got.offset_ms.abs_diff(*truth) <= error, "boot {}: {:?}, truth {}", n, got, truth);
            }
            let known_before = pasts[..n].iter().any(|p| p.synchronised);
            let want = match (pasts[n].synchronised, known_before) {
                (true, _) => ClockQuality::Synchronised,
                (false, true) => ClockQuality::Interval,
                (false, false) => ClockQuality::Estimated,
            };
            prop_assert_eq!(got.quality, want);
        }
    }
}

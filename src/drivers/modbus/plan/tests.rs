use super::super::samples::{device, point};
use super::*;
use crate::config::device::DataType;
use proptest::prelude::*;

/// Requests as `table:start+count`, one blank between two.
fn shown(device: &Device) -> String {
    let show = |r: &Request| format!("{}:{}+{}", r.table.word(), r.start, r.count);
    plan(device).iter().map(show).collect::<Vec<_>>().join(" ")
}

fn words(addresses: &[u16]) -> Vec<Point> {
    addresses.iter().map(|address| point(Table::Holding, *address, DataType::U16)).collect()
}

#[track_caller]
fn check(device: &Device, want: &str) {
    assert_eq!(shown(device), want);
}

#[test]
fn neighbours_merge_and_holes_do_not() {
    check(&device(words(&[0, 1, 2, 4, 5])), "holding:0+3 holding:4+2");
    check(&Device { max_gap: 1, ..device(words(&[0, 1, 2, 4, 5])) }, "holding:0+6");
    check(&Device { max_gap: 1, ..device(words(&[0, 3])) }, "holding:0+1 holding:3+1");
    check(&device(vec![]), "");
}

#[test]
fn tables_never_merge() {
    let points = [Table::Coil, Table::Discrete, Table::Input, Table::Holding].map(|t| point(t, 1, DataType::Bool));
    check(&device(points.to_vec()), "coil:1+1 discrete:1+1 input:1+1 holding:1+1");
}

#[test]
fn the_limit_counts_the_span_and_not_the_points() {
    check(&Device { max_words: 10, max_gap: 100, ..device(words(&[0, 5, 9, 10])) }, "holding:0+10 holding:10+1");
    check(&device(words(&(0..200).collect::<Vec<_>>())), "holding:0+125 holding:125+75");
    check(&Device { max_words: 9999, ..device(words(&(0..130).collect::<Vec<_>>())) }, "holding:0+125 holding:125+5");
    let coils: Vec<Point> = (0..40).map(|n| point(Table::Coil, n, DataType::Bool)).collect();
    check(&Device { max_bits: 32, max_words: 1, ..device(coils) }, "coil:0+32 coil:32+8");
}

#[test]
fn a_wide_value_is_never_split() {
    let points: Vec<Point> = (0..5).map(|n| point(Table::Input, n * 4, DataType::F64)).collect();
    check(&Device { max_words: 10, ..device(points.clone()) }, "input:0+8 input:8+8 input:16+4");
    check(&Device { max_words: 2, ..device(points[..2].to_vec()) }, "input:0+4 input:4+4");
    check(&device(vec![point(Table::Input, 65_534, DataType::U32)]), "input:65534+2");
}

#[test]
fn a_point_that_must_be_read_alone_is_and_nobody_reads_across_it() {
    let mut points = words(&[0, 1, 2, 3, 4]);
    points[2].read_alone = true;
    check(&Device { max_gap: 10, ..device(points) }, "holding:0+2 holding:2+1 holding:3+2");
}

#[test]
fn points_that_share_a_register_share_a_request() {
    let bits = |first| DataType::Bits(crate::config::Bits { first, count: 1 });
    let points = [bits(0), bits(1), DataType::U32, DataType::U16].map(|kind| point(Table::Holding, 7, kind));
    let device = device(points.to_vec());
    check(&device, "holding:7+2");
    assert_eq!(plan(&device)[0].points.len(), 4);
}

#[test]
fn some_points_are_planned_alone() {
    let device = device(words(&[0, 1, 2, 3, 9]));
    let some = plan_points(&device, [3, 1, 2, 99]);
    assert_eq!((some.len(), some[0].start, some[0].count), (1, 1, 3));
}

#[track_caller]
fn check_around(device: &Device, holes: &[&str], want: &str) {
    let mut all = Holes::default();
    holes.iter().for_each(|key| all.insert(super::super::holes::Hole::parse(key).unwrap(), 2));
    let show = |r: &Request| format!("{}:{}+{}", r.table.word(), r.start, r.count);
    assert_eq!(plan_around(device, &all).iter().map(show).collect::<Vec<_>>().join(" "), want, "{holes:?}");
}

#[test]
fn a_known_hole_is_never_spanned_and_its_point_never_asked() {
    let near = Device { max_gap: 10, ..device(words(&[0, 1, 2, 3, 9])) };
    check_around(&near, &[], "holding:0+10");
    check_around(&near, &["hole holding:2+1"], "holding:0+2 holding:3+7");
    check_around(&near, &["hole holding:4+5"], "holding:0+4 holding:9+1");
    check_around(&near, &["hole holding:1+2"], "holding:0+2 holding:2+8");
    check_around(&near, &["limit holding+4"], "holding:0+4 holding:9+1");
    check_around(&near, &["hole input:2+1", "table input"], "holding:0+10");
    check_around(&near, &["table holding"], "");
}

fn scaled(address: u16, factor: u16) -> Point {
    Point { scale_register: Some(Register { table: Table::Holding, address: factor }), ..point(Table::Holding, address, DataType::U16) }
}

#[test]
fn a_scale_factor_is_read_with_its_value_across_any_gap() {
    let joined = device(vec![scaled(10, 30), scaled(11, 30)]);
    check(&joined, "holding:10+21");
    assert_eq!(plan(&joined)[0].fields.iter().map(|f| f.scale_offset).collect::<Vec<_>>(), [Some(20), Some(20)]);
    check(&device(vec![scaled(30, 10)]), "holding:10+21");
    assert_eq!(plan(&device(vec![scaled(30, 10)]))[0].fields[0].offset, 20);
}

#[test]
fn a_scale_factor_out_of_reach_is_read_first_and_stands_behind_the_data() {
    let far = Device { max_words: 20, ..device(vec![scaled(10, 40), scaled(11, 50), scaled(12, 40)]) };
    check(&far, "holding:40+1 holding:50+1 holding:10+3");
    assert_eq!(plan(&far)[2].fields.iter().map(|f| f.scale_offset).collect::<Vec<_>>(), [Some(3), Some(4), Some(5)]);
    check_around(&device(vec![scaled(10, 30)]), &["hole holding:11+19"], "holding:30+1 holding:10+1");
    check_around(&device(vec![scaled(10, 30)]), &["hole holding:30+1"], "");
}

fn any_device(points: std::ops::Range<usize>) -> impl Strategy<Value = Device> {
    let kinds = prop::sample::select(vec![DataType::U16, DataType::F32, DataType::F64]);
    let tables = prop::sample::select(vec![Table::Holding, Table::Holding, Table::Coil]);
    let point = (tables, 0u16..60, kinds, prop::bool::weighted(0.1));
    let points = prop::collection::vec(point, points);
    (points, 4u16..20, 1u16..20, 0u16..6).prop_map(|(points, max_words, max_bits, max_gap)| {
        let make = |(table, address, kind, read_alone)| Point { read_alone, ..point_of(table, address, kind) };
        let mut points: Vec<Point> = points.into_iter().map(make).collect();
        points.sort_by_key(|p| p.register);
        Device { max_words, max_bits, max_gap, ..device(points) }
    })
}

fn point_of(table: Table, address: u16, kind: DataType) -> Point {
    point(table, address, if table.is_bits() { DataType::Bool } else { kind })
}

/// Whether these points may be one request: the rules, told without the planner's words.
fn permitted(device: &Device, points: &[usize]) -> bool {
    let of = |n: &usize| &device.points[*n];
    let one_table = points.iter().all(|n| of(n).register.table == of(&points[0]).register.table);
    if points.len() == 1 {
        return true;
    }
    if !one_table || points.iter().any(|n| of(n).read_alone) {
        return false;
    }
    let table = of(&points[0]).register.table;
    let asked: std::collections::BTreeSet<u32> = points.iter().flat_map(|n| span(of(n))).collect();
    let (first, last) = (*asked.first().unwrap(), *asked.last().unwrap());
    let alone: Vec<u32> = device.points.iter().filter(|p| p.read_alone && p.register.table == table).flat_map(span).collect();
    let mut hole = 0;
    for register in first..=last {
        hole = if asked.contains(&register) { 0 } else { hole + 1 };
        if hole > u32::from(device.max_gap) || (hole > 0 && alone.contains(&register)) {
            return false;
        }
    }
    last - first < u32::from(if table.is_bits() { device.max_bits } else { device.max_words })
}

/// The fewest permitted groups, by trying every partition.
fn fewest(device: &Device, next: usize, groups: &mut Vec<Vec<usize>>) -> usize {
    if next == device.points.len() {
        let fine = groups.iter().all(|group| permitted(device, group));
        return if fine { groups.len() } else { usize::MAX };
    }
    let mut best = usize::MAX;
    for n in 0..groups.len() {
        groups[n].push(next);
        best = best.min(fewest(device, next + 1, groups));
        groups[n].pop();
    }
    groups.push(vec![next]);
    best = best.min(fewest(device, next + 1, groups));
    groups.pop();
    best
}

proptest! {
    #[test]
    fn every_rule_is_kept(device in any_device(0..60)) {
        let requests = plan(&device);
        let mut covered: Vec<usize> = requests.iter().flat_map(|r| r.fields.iter().map(|f| f.point)).collect();
        covered.sort_unstable();
        prop_assert_eq!(covered, (0..device.points.len()).collect::<Vec<_>>(), "every point exactly once");
        for request in &requests {
            let points: Vec<usize> = request.fields.iter().map(|f| f.point).collect();
            prop_assert!(permitted(&device, &points), "{:?}", request);
            for (field, id) in request.fields.iter().zip(request.points.iter()) {
                let point = &device.points[field.point];
                prop_assert_eq!(&point.id, id);
                prop_assert_eq!(point.register.table, request.table);
                prop_assert_eq!(request.start + field.offset, point.register.address);
                let width = u16::try_from(span(point).len()).unwrap();
                prop_assert!(field.offset + width <= request.count, "a value is never split");
            }
        }
        let order: Vec<_> = requests.iter().map(|r| (r.table, r.start)).collect();
        prop_assert!(order.is_sorted());
    }

    #[test]
    fn no_plan_has_fewer_requests(device in any_device(0..8)) {
        prop_assert_eq!(plan(&device).len(), fewest(&device, 0, &mut Vec::new()).min(device.points.len()));
    }
}

//! The days on which clocks are changed, in zones where that differs.

use super::*;

/// All moments of a schedule between two, and the same one by one.
#[track_caller]
fn check(place: &str, text: &str, from: &str, to: &str, want: &[&str]) {
    let table = cron(text, zone(place)).table;
    let shown = |at: i64| calendar::text(at)[5..16].to_owned();
    let came = table.between(at(from), at(to), 1000);
    let all: Vec<String> = came.iter().flat_map(|c| c.newest.iter().map(|at| shown(*at))).collect();
    assert_eq!(all, want, "{text} in {place}");
    let mut one_by_one = Vec::new();
    let mut now = at(from);
    while let Some(next) = table.next(now).filter(|next| *next <= at(to)) {
        one_by_one.push(shown(next));
        now = next;
    }
    assert_eq!(one_by_one, want, "{text} in {place}, one by one");
}

#[test]
fn in_spring_a_time_that_is_left_out_comes_at_the_change() {
    // 02:00 becomes 03:00 at 01:00 UTC.
    let berlin = |text, want: &[&str]| check("Europe/Berlin", text, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", want);
    berlin("30 1 * * *", &["03-29T00:30", "03-29T23:30"]);
    berlin("30 2 * * *", &["03-29T01:00", "03-30T00:30"]);
    berlin("30 3 * * *", &["03-29T01:30", "03-30T01:30"]);
    berlin("0,30 2,3 * * *", &["03-29T01:00", "03-29T01:30", "03-30T00:00", "03-30T00:30", "03-30T01:00", "03-30T01:30"]);
    berlin("30 2 29 3 *", &["03-29T01:00"]);
    // 02:00 becomes 03:00 at 07:00 UTC.
    let york = |text, want: &[&str]| check("America/New_York", text, "2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z", want);
    york("30 2 * * *", &["03-08T07:00", "03-09T06:30"]);
    york("0 6 * * *", &["03-08T10:00", "03-09T10:00"]);
    // Half an hour: 02:00 becomes 02:30 at 15:30 UTC.
    let howe = |text, want: &[&str]| check("Australia/Lord_Howe", text, "2026-10-03T00:00:00Z", "2026-10-04T23:00:00Z", want);
    howe("15 2 * * *", &["10-03T15:30", "10-04T15:15"]);
    howe("45 2 * * *", &["10-03T15:45", "10-04T15:45"]);
}

#[test]
fn in_autumn_a_time_that_comes_twice_counts_once() {
    // 03:00 becomes 02:00 at 01:00 UTC.
    let berlin = |text, want: &[&str]| check("Europe/Berlin", text, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z", want);
    berlin("30 1 * * *", &["10-24T23:30", "10-26T00:30"]);
    berlin("30 2 * * *", &["10-25T00:30", "10-26T01:30"]);
    berlin("0 3 * * *", &["10-25T02:00", "10-26T02:00"]);
    // 02:00 becomes 01:00 at 06:00 UTC.
    let york = |text, want: &[&str]| check("America/New_York", text, "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z", want);
    york("30 1 * * *", &["11-01T05:30", "11-02T06:30"]);
    york("0 2 * * *", &["11-01T07:00", "11-02T07:00"]);
    // Half an hour: 02:00 becomes 01:30 at 15:00 UTC.
    let howe = |text, want: &[&str]| check("Australia/Lord_Howe", text, "2026-04-04T00:00:00Z", "2026-04-05T23:00:00Z", want);
    howe("45 1 * * *", &["04-04T14:45", "04-05T15:15"]);
    howe("0 2 * * *", &["04-04T15:30", "04-05T15:30"]);
}

#[test]
fn what_comes_every_hour_follows_time_itself() {
    let spring = |text, want: &[&str]| check("Europe/Berlin", text, "2026-03-28T23:59:00Z", "2026-03-29T02:30:00Z", want);
    spring("30 * * * *", &["03-29T00:30", "03-29T01:30", "03-29T02:30"]);
    spring("*/30 * * * *", &["03-29T00:00", "03-29T00:30", "03-29T01:00", "03-29T01:30", "03-29T02:00", "03-29T02:30"]);
    let autumn = |text, want: &[&str]| check("Europe/Berlin", text, "2026-10-24T23:59:00Z", "2026-10-25T02:30:00Z", want);
    autumn("30 * * * *", &["10-25T00:30", "10-25T01:30", "10-25T02:30"]);
    autumn("0 * 25 10 *", &["10-25T00:00", "10-25T01:00", "10-25T02:00"]);
    let howe = |text, want: &[&str]| check("Australia/Lord_Howe", text, "2026-04-04T14:00:00Z", "2026-04-04T16:30:00Z", want);
    howe("0 * * * *", &["04-04T15:30", "04-04T16:30"]);
    howe("30 * * * *", &["04-04T14:30", "04-04T15:00", "04-04T16:00"]);
}

#[test]
fn zones_without_changes_and_odd_ones() {
    check("Asia/Kolkata", "0 6 * * mon-fri", "2026-11-20T00:00:00Z", "2026-11-24T00:00:00Z", &["11-20T00:30", "11-23T00:30"]);
    // Midnight is left out: 00:00 becomes 01:00 at 22:00 UTC.
    check("Asia/Beirut", "@daily", "2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z", &["03-27T22:00", "03-28T22:00", "03-29T21:00"]);
    // Midnight becomes 23:00 at 21:00 UTC.
    check("Asia/Beirut", "30 23 * * *", "2026-10-24T12:00:00Z", "2026-10-25T23:00:00Z", &["10-24T20:30", "10-25T21:30"]);
    // A whole day was left out at 10:00 UTC.
    check("Pacific/Apia", "0 12 * * *", "2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z", &["12-29T22:00", "12-30T10:00", "12-30T22:00"]);
    check("UTC", "0 0 29 2 *", "2026-01-01T00:00:00Z", "2032-12-31T00:00:00Z", &["02-29T00:00", "02-29T00:00"]);
}

#[test]
fn a_moment_of_local_time_is_found_once() {
    let once = |when: &str| {
        let timing = Timing::At(When::parse(when).unwrap());
        Timetable::new(timing, zone("Europe/Berlin")).next(0).map(calendar::text)
    };
    for (when, want) in [
        ("2026-12-24T18:00:00", "2026-12-24T17:00:00"),
        ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00"),
        ("2026-03-29T02:30:00", "2026-03-29T01:00:00"),
        ("2026-10-25T02:30:00", "2026-10-25T00:30:00"),
        ("2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00"),
    ] {
        assert_eq!(once(when).as_deref(), Some(want), "{when}");
    }
}

#[test]
fn years_of_minutes_are_counted_at_once() {
    let table = cron("* * * * *", zone("Europe/Berlin")).table;
    let came = table.between(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"), 3).unwrap();
    assert_eq!((came.count, came.newest.len(), came.first), (365 * 1440, 3, at("2026-01-01T00:01:00Z")));
    assert_eq!(table.between(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:59Z"), 3), None);
}

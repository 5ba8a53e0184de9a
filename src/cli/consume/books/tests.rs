//! Which numbers are missing, and whose fault that is.

use super::*;
use serde_json::Map;

const A: Epoch = Epoch(0xa);
const B: Epoch = Epoch(0xb);

fn came(books: &mut Books, epoch: Epoch, stream: Stream, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        books.run("g", epoch, false).sequence_mut(stream).received.insert(n);
    }
}

fn said(books: &mut Books, epoch: Epoch, seq: u64, known: Known) {
    books.event("g", epoch, seq, &Event { at: 0, word: String::new(), known, members: Map::new() });
}

fn began(epoch: Epoch, before: Option<Epoch>, telemetry: u64, event: u64) -> Known {
    Known::Epoch(Began { epoch, before, telemetry, event, may_have_lost_ms: 500 })
}

fn gap(epoch: Epoch, from: u64, to: u64, reason: &str) -> Known {
    Known::Gap(Gap { epoch, stream: Stream::Telemetry, from, to, samples: 10, reason: reason.into(), replaced_by: None })
}

fn alive(epoch: Epoch, stream: Stream, lowest: u64, highest: u64) -> Alive {
    Alive { epoch, stream, lowest, highest }
}

#[track_caller]
fn check(books: &Books, epoch: Epoch, lost: &[(u64, u64)], late: &[(u64, u64)], before: u64) {
    let m = books.missing("g", epoch, Stream::Telemetry);
    assert_eq!(
        (m.lost.ranges().collect::<Vec<_>>(), m.late.ranges().collect::<Vec<_>>(), m.before),
        (lost.to_vec(), late.to_vec(), before)
    );
}

/// A gateway that this consumer knew from its first message on.
fn from_the_start() -> Books {
    let mut books = Books::default();
    came(&mut books, A, Stream::Event, [1]);
    said(&mut books, A, 1, began(A, None, 0, 0));
    books
}

#[test]
fn a_hole_is_late_until_the_gateway_says_that_it_was_acknowledged() {
    let mut books = from_the_start();
    came(&mut books, A, Stream::Telemetry, [2, 3, 6]);
    check(&books, A, &[], &[(1, 1), (4, 5)], 0);
    said(&mut books, A, 2, Known::Progress(vec![alive(A, Stream::Telemetry, 5, 8)]));
    check(&books, A, &[(1, 1), (4, 4)], &[(5, 5), (7, 8)], 0);
}

#[test]
fn a_gap_answers_its_numbers_also_before_any_of_them_came() {
    let mut books = from_the_start();
    came(&mut books, A, Stream::Telemetry, [1, 5]);
    said(&mut books, A, 2, gap(A, 2, 3, "disk_max"));
    said(&mut books, A, 3, gap(A, 4, 4, "disk_max"));
    check(&books, A, &[], &[], 0);
    let reason = &books.gateways["g"].runs[&A].telemetry.reasons["disk_max"];
    assert_eq!((reason.numbers, reason.samples), (3, 20));
}

#[test]
fn numbers_above_the_end_of_an_epoch_never_come_and_those_below_do() {
    let mut books = from_the_start();
    came(&mut books, A, Stream::Telemetry, [1, 2, 9]);
    came(&mut books, B, Stream::Event, [1]);
    said(&mut books, B, 1, began(B, Some(A), 4, 1));
    check(&books, A, &[], &[(3, 4)], 0);
    // It is over, and the gateway names it no more: what is missing of it was acknowledged.
    said(&mut books, B, 2, Known::Progress(vec![alive(B, Stream::Telemetry, 1, 0)]));
    check(&books, A, &[(3, 4)], &[], 0);
    assert_eq!(books.missing("g", A, Stream::Event), Missing::default());
}

#[test]
fn a_consumer_that_came_later_misses_nothing_of_before_its_time() {
    let mut books = Books::default();
    came(&mut books, A, Stream::Telemetry, [40, 41, 43]);
    said(&mut books, A, 12, Known::Progress(vec![alive(A, Stream::Telemetry, 44, 43)]));
    check(&books, A, &[(42, 42)], &[], 39);
}

#[test]
fn a_gateway_that_is_known_and_begins_anew_owes_its_first_number() {
    let mut books = from_the_start();
    came(&mut books, B, Stream::Telemetry, [3]);
    check(&books, B, &[], &[(1, 2)], 0);
    // What is late and of an epoch before this consumer's time is another matter.
    books.run("g", Epoch(0xc), true).telemetry.received.insert(700);
    check(&books, Epoch(0xc), &[], &[], 699);
}

#[test]
fn an_older_progress_does_not_undo_a_newer_one() {
    let mut books = from_the_start();
    came(&mut books, A, Stream::Telemetry, [1, 3]);
    said(&mut books, A, 9, Known::Progress(vec![alive(A, Stream::Telemetry, 4, 3)]));
    said(&mut books, A, 8, Known::Progress(vec![alive(A, Stream::Telemetry, 1, 2)]));
    check(&books, A, &[(2, 2)], &[], 0);
}

#[test]
fn reasons_without_end_take_no_memory_without_end() {
    let mut books = from_the_start();
    for n in 1..1_000 {
        said(&mut books, A, n, gap(A, n, n, &format!("reason {n}")));
    }
    let run = &books.gateways["g"].runs[&A].telemetry;
    assert_eq!((run.reasons.len(), run.reasons.values().map(|r| r.numbers).sum::<u64>()), (REASONS + 1, 999));
}

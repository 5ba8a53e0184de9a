//! The books from the tables, for the report.

use crate::{
    cli::consume::books::Books,
    model::{Epoch, Stream, event::Replaced},
    uplink::dialect::read::{Alive, Began, Event, Gap, Known},
};
use rusqlite::{Connection, Row};

fn event(known: Known) -> Event {
    Event { at: 0, word: String::new(), known, members: serde_json::Map::new() }
}

fn epoch(r: &Row<'_>, n: usize) -> rusqlite::Result<Epoch> {
    let text: String = r.get(n)?;
    Epoch::parse(&text).ok_or(rusqlite::Error::InvalidQuery)
}

fn stream(r: &Row<'_>, n: usize) -> rusqlite::Result<Stream> {
    Ok(if r.get::<_, String>(n)? == Stream::Event.word() { Stream::Event } else { Stream::Telemetry })
}

fn number(r: &Row<'_>, n: usize) -> rusqlite::Result<u64> {
    Ok(r.get::<_, i64>(n)?.max(0).cast_unsigned())
}

pub fn books(db: &Connection) -> rusqlite::Result<Books> {
    // One moment of the file, while other consumers write.
    let db = db.unchecked_transaction()?;
    let mut books = Books::default();
    let mut all =
        db.prepare("SELECT gateway, epoch, stream, joined, messages, samples, resent, conflicting, id FROM sequence ORDER BY id")?;
    let mut ranges = db.prepare("SELECT first, last FROM received WHERE sequence = ? ORDER BY first")?;
    let mut rows = all.query([])?;
    while let Some(r) = rows.next()? {
        let gateway: String = r.get(0)?;
        let run = books.run(&gateway, epoch(r, 1)?, false);
        run.joined = r.get(3)?;
        let sequence = run.sequence_mut(stream(r, 2)?);
        (sequence.messages, sequence.samples, sequence.resent, sequence.conflicting) =
            (number(r, 4)?, number(r, 5)?, number(r, 6)?, number(r, 7)?);
        let mut came = ranges.query([r.get::<_, i64>(8)?])?;
        while let Some(range) = came.next()? {
            sequence.received.insert_range(number(range, 0)?, number(range, 1)?);
        }
    }
    said(&db, &mut books)?;
    books.rejected = db.query_row("SELECT coalesce(sum(n), 0) FROM counter WHERE name = 'rejected'", [], |r| number(r, 0))?;
    Ok(books)
}

fn said(db: &Connection, books: &mut Books) -> rusqlite::Result<()> {
    let none = Epoch(0);
    let mut gaps = db.prepare(
        "SELECT gateway, epoch, stream, first, last, samples, reason, replaced_epoch, replaced_first, replaced_last FROM gap ORDER BY rowid",
    )?;
    let mut rows = gaps.query([])?;
    while let Some(r) = rows.next()? {
        let replaced_by = match r.get::<_, Option<String>>(7)?.as_deref().and_then(Epoch::parse) {
            Some(epoch) => Some(Replaced { epoch, from: number(r, 8)?, to: number(r, 9)? }),
            None => None,
        };
        let (from, to, samples, reason) = (number(r, 3)?, number(r, 4)?, number(r, 5)?, r.get(6)?);
        let gap = Gap { epoch: epoch(r, 1)?, stream: stream(r, 2)?, from, to, samples, reason, replaced_by };
        books.event(&r.get::<_, String>(0)?, none, 0, &event(Known::Gap(gap)));
    }
    let mut epochs = db.prepare("SELECT gateway, body FROM event WHERE type = 'epoch' ORDER BY id")?;
    let mut rows = epochs.query([])?;
    while let Some(r) = rows.next()? {
        if let Ok(began) = serde_json::from_str::<Began>(&r.get::<_, String>(1)?) {
            books.event(&r.get::<_, String>(0)?, none, 0, &event(Known::Epoch(began)));
        }
    }
    let mut progress =
        db.prepare("SELECT gateway, said_epoch, said_seq, epoch, stream, lowest, highest FROM progress ORDER BY gateway, rowid")?;
    let mut rows = progress.query([])?;
    let mut last: Option<(String, Epoch, u64, Vec<Alive>)> = None;
    while let Some(r) = rows.next()? {
        let alive = Alive { epoch: epoch(r, 3)?, stream: stream(r, 4)?, lowest: number(r, 5)?, highest: number(r, 6)? };
        let gateway: String = r.get(0)?;
        match &mut last {
            Some((of, .., all)) if *of == gateway => all.push(alive),
            _ => {
                tell(books, last.take());
                last = Some((gateway, epoch(r, 1)?, number(r, 2)?, vec![alive]));
            }
        }
    }
    tell(books, last);
    Ok(())
}

fn tell(books: &mut Books, said: Option<(String, Epoch, u64, Vec<Alive>)>) {
    if let Some((gateway, epoch, seq, alive)) = said {
        books.event(&gateway, epoch, seq, &event(Known::Progress(alive)));
    }
}

//! A batch goes and its parts come, for one uplink, in one transaction of spool.db, after the gap events in state.db.
//!
//! A crash before the transaction leaves the old batch, and a gap event that is followed by another one for the same
//! number; a crash after it leaves the parts. Never both.

use super::{Announce, Saver, Spool};
use crate::{
    model::{Boot, Receipt},
    store::{
        boots::Clocks,
        spool::{codec, core::replacing::Reserved},
    },
};

/// Rounds in one turn; what is left waits for the next one, so that commits fall due in between.
const ROUNDS: usize = 64;

impl Saver {
    /// Carries out what was asked. Whether something was written.
    pub(super) fn replace(&mut self, spool: &Spool, clocks: &Clocks, now: Boot, announce: Announce) -> rusqlite::Result<bool> {
        let mut wrote = false;
        for _ in 0..ROUNDS {
            if !spool.lock().replacing.wanted() {
                break;
            }
            // In order of numbers: what is older is saved before.
            wrote |= self.save(spool, clocks, now, announce)?;
            let Some(mut reserved) = spool.lock().reserve() else { continue };
            let told = reserved.gaps.is_empty() || announce(reserved.gaps.clone(), &self.gone);
            let result = if told { self.write_parts(spool, clocks, now, &mut reserved, announce) } else { Err(untold()) };
            if let Err(e) = result {
                self.disk.series.rolled_back();
                spool.lock().not_replaced(reserved);
                return Err(e);
            }
            wrote = true;
        }
        Ok(wrote)
    }

    fn write_parts(&mut self, spool: &Spool, clocks: &Clocks, now: Boot, of: &mut Reserved, announce: Announce) -> rusqlite::Result<()> {
        let body = if of.parts.is_empty() { Vec::new() } else { codec::encode(&of.parts, |frame| self.disk.series.shape(frame)) };
        self.make_room(spool, body.len(), announce)?;
        let boots = self.boots(clocks);
        let (segment, mut meta) = {
            let mut core = spool.lock();
            let segment = (!of.parts.is_empty()).then(|| super::prepare(&mut core, &of.parts, &body, now));
            let cursors = core.written_with(of, segment.as_ref());
            let meta = super::meta_of(&core, cursors);
            (segment, meta)
        };
        let write = segment.as_ref().map(|new @ (n, s)| {
            meta.head = n + 1;
            meta.telemetry = meta.telemetry.max(s.last());
            super::write_of(new, meta.epoch, &body)
        });
        let result = self.disk.commit(write.as_ref(), Some(&meta), &boots);
        let mut core = spool.lock();
        if let Err(e) = result {
            if let Some((_, s)) = segment {
                core.ring.give_back(s.slot);
            }
            return Err(e);
        }
        self.committed(&mut core, boots, body.len());
        let receipts = core.replaced(of, segment, now);
        drop(core);
        receipts.into_iter().for_each(Receipt::keep);
        spool.tell();
        Ok(())
    }
}

fn untold() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
        Some("the gap event of a refused batch cannot be committed".into()),
    )
}

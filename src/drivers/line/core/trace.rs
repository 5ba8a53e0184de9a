//! What `fieldgate trace` sees of a poll, while somebody looks.

use super::{Core, Job, Kind};
use crate::{
    model::{Boot, Heard},
    system::tap::{Step, TAP},
};

impl Core {
    /// What came of the job's request; `None`: data.
    pub(super) fn trace(&self, now: Boot, job: Job, heard: Option<&Heard>) {
        if TAP.is_open() {
            self.trace_poll(now, job, heard);
        }
    }

    #[cold]
    fn trace_poll(&self, now: Boot, job: Job, heard: Option<&Heard>) {
        let request = match job.kind {
            Kind::Poll => self.schedule.current(job.device),
            Kind::Probe => self.schedule.probe(job.device),
            _ => return,
        };
        let device = &self.devices[job.device];
        let last = request.start + request.count.max(1) - 1;
        let asked = Step {
            step: "asked",
            at: self.exchange.begun(),
            detail: format!("{}, unit {}, {} {} to {last}", self.id, device.unit, request.table.word(), request.start),
            bytes: self.exchange.frame().to_vec(),
        };
        let (step, detail) = match heard {
            None | Some(Heard::Answered) => ("answered", format!("{} bytes", self.exchange.rx().len())),
            Some(Heard::Refused(code)) => ("refused", format!("exception {code}")),
            Some(Heard::Garbled(why)) => ("garbled", why.clone()),
            Some(Heard::Silent { after }) => ("silent", format!("no answer within {} ms", after.as_millis())),
        };
        let came = Step { step, at: now, detail, bytes: self.exchange.rx().to_vec() };
        TAP.polled(&device.id, &request.points, asked, came, heard.is_none());
    }
}

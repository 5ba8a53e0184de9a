//! The loop: connect, subscribe, take what came, commit it, and only then acknowledge. Everything else waits for that.
//!
//! Messages that are here already share one commit, so the disk is asked as often as it can answer and no timer delays
//! anything. When the disk or the link fails the link is dropped: the broker still has all that was not acknowledged.

use super::{
    Args,
    books::Books,
    is_stdout, open, refused,
    report::{Report, Verdict},
    say,
    sink::{Delivery, Sink, SinkError, lines::Lines},
    unwritable, wall_ms,
};
use crate::{
    cli::{Out, site::Trouble},
    limits,
    logic::backoff::Backoff,
    uplink::{
        broker::{Arrived, Broker, Link, Lost, Message, NoLink},
        client::Client,
        dialect::read::{self, Kind},
    },
};
use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::yield_now,
    time::{Instant, sleep_until},
};

const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// A file that cannot be opened is tried again after this.
const REOPEN: Duration = Duration::from_secs(1);
/// Nothing came for so long: with `--until-complete` the books are looked at.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Time,
    Complete,
    Interrupted,
    /// Not once, in all the time.
    NeverConnected,
}

pub struct End {
    pub why: Why,
    pub books: Books,
}

struct Session<'a> {
    out: &'a Out,
    args: &'a Args,
    sink: Box<dyn Sink>,
    until: Option<Instant>,
    next_report: Option<Instant>,
    /// When the books are looked at, if nothing more comes; `None`: they were.
    quiet_at: Option<Instant>,
    connected: bool,
    denied: bool,
    signals: Signals,
}

struct Signals {
    int: Signal,
    term: Signal,
    report: Signal,
}

/// What ended one link.
enum Cut {
    Link(Lost),
    Sink(SinkError),
    Refused,
    End(Why),
}

/// What to do although no message came.
enum Due {
    End(Why),
    Report,
    Look,
}

impl Session<'_> {
    async fn run(mut self, mut client: Client) -> Result<End, Trouble> {
        let hello = self.args.broker.hello()?;
        let mut backoff = Backoff::new(RECONNECT_MAX, u64::from(std::process::id()));
        let why = loop {
            let began = Instant::now();
            let connecting = tokio::select! {
                biased;
                why = self.due_end() => break why,
                link = client.connect(&hello) => link,
            };
            let (cut, useful) = match connecting {
                Ok((link, _)) => self.link(link).await,
                Err(NoLink::Refused(why)) => {
                    return Err(refused(
                        format!("{} refused us: {why}", self.args.broker.name()),
                        "check --user, the password, --cert and --client-id",
                    ));
                }
                Err(no) => {
                    self.wait_words(&no.to_string());
                    (None, false)
                }
            };
            match cut {
                Some(Cut::End(why)) => break why,
                Some(Cut::Refused) => {
                    let filter = self.args.broker.filter();
                    return Err(refused(
                        format!("the broker does not let us read {filter}"),
                        "allow it in the broker's access list, or name another --topic",
                    ));
                }
                Some(Cut::Link(lost)) => self.wait_words(&lost.to_string()),
                Some(Cut::Sink(SinkError::Closed)) => break Why::Interrupted,
                Some(Cut::Sink(e)) => {
                    self.wait_words(&e.to_string());
                    self.reopen().await?;
                }
                None => {}
            }
            backoff.ended(began.elapsed(), useful);
            let wait = backoff.next_wait();
            tokio::select! {
                biased;
                why = self.due_end() => break why,
                () = tokio::time::sleep(wait) => {}
            }
        };
        let why = if self.connected || why == Why::Interrupted { why } else { Why::NeverConnected };
        Ok(End { why, books: self.sink.books().map_err(|e| unwritable(&e))? })
    }

    /// What was not committed goes with the old one: its transaction, its lock and what it believed to be written.
    async fn reopen(&mut self) -> Result<(), Trouble> {
        self.sink = Box::new(Lines::stdout());
        loop {
            match open(&self.args.to) {
                Ok(sink) => {
                    self.sink = sink;
                    return Ok(());
                }
                Err(e @ SinkError::Foreign { .. }) => return Err(unwritable(&e)),
                Err(e) => tokio::select! {
                    biased;
                    _ = self.due_end() => return Err(unwritable(&e)),
                    () = tokio::time::sleep(REOPEN) => {}
                },
            }
        }
    }

    fn wait_words(&self, why: &str) {
        if !self.out.quiet {
            eprintln!("{}: {why}; trying again", self.args.broker.name());
        }
    }

    /// One connection. Whether anything was acknowledged on it.
    async fn link(&mut self, mut link: <Client as Broker>::Link) -> (Option<Cut>, bool) {
        let mut useful = false;
        link.subscribe(&self.args.broker.filter());
        loop {
            let arrived = tokio::select! {
                biased;
                due = self.due() => match due {
                    Due::End(why) => {
                        link.close().await;
                        return (Some(Cut::End(why)), useful);
                    }
                    Due::Report => match self.report() {
                        Ok(()) => continue,
                        Err(e) => return (Some(Cut::Sink(e)), useful),
                    },
                    Due::Look => match self.is_complete() {
                        Ok(true) => {
                            link.close().await;
                            return (Some(Cut::End(Why::Complete)), useful);
                        }
                        Ok(false) => continue,
                        Err(e) => return (Some(Cut::Sink(e)), useful),
                    },
                },
                arrived = link.next() => arrived,
            };
            let first = match arrived {
                Ok(Arrived::Message(message)) => Some(message),
                Ok(Arrived::Subscribed { granted }) => {
                    self.subscribed(granted);
                    None
                }
                Ok(_) => None,
                Err(lost) => return (Some(Cut::Link(lost)), useful),
            };
            if let Some(first) = first {
                match self.group(&mut link, first).await {
                    Ok((acknowledge, lost)) => {
                        acknowledge.into_iter().for_each(|id| link.acknowledge(id));
                        useful = true;
                        self.quiet_at = Some(Instant::now() + QUIET);
                        if let Some(lost) = lost {
                            return (Some(Cut::Link(lost)), useful);
                        }
                    }
                    Err(e) => return (Some(Cut::Sink(e)), useful),
                }
            }
            if self.denied {
                return (Some(Cut::Refused), useful);
            }
        }
    }

    /// What waited for us may come before the answer to our subscription, so this is met in the middle of a group too.
    fn subscribed(&mut self, granted: bool) {
        self.denied = !granted;
        self.quiet_at = Some(Instant::now() + QUIET);
        if granted && !std::mem::replace(&mut self.connected, true) && !self.out.quiet {
            eprintln!("reading {} at {} as {}", self.args.broker.filter(), self.args.broker.name(), self.args.broker.client_id());
        }
    }

    /// The first and all that are here already, in one commit. What to acknowledge, and whether the link ended meanwhile.
    async fn group(&mut self, link: &mut <Client as Broker>::Link, first: Message) -> Result<(Vec<u16>, Option<Lost>), SinkError> {
        let (mut ids, mut bytes, mut lost) = (Vec::new(), 0, None);
        let (mut next, mut patience) = (Some(first), 0);
        loop {
            if let Some(message) = next.take() {
                patience = 1;
                bytes += message.length;
                take(&mut *self.sink, &message)?;
                ids.push(message.id);
            }
            if ids.len() >= limits::CONSUME_GROUP || bytes >= limits::CONSUME_GROUP_BYTES {
                break;
            }
            match at_once(link.next()).await {
                Some(Ok(Arrived::Message(message))) => next = Some(message),
                Some(Ok(Arrived::Subscribed { granted })) => self.subscribed(granted),
                Some(Ok(_)) => {}
                Some(Err(e)) => {
                    lost = Some(e);
                    break;
                }
                // The runtime looks at its sockets between two turns: what came meanwhile is seen then.
                None if patience > 0 => {
                    patience -= 1;
                    yield_now().await;
                }
                None => break,
            }
        }
        self.sink.commit()?;
        Ok((ids, lost))
    }

    /// A moment to end, to report, or to look whether all is there. May be dropped at any time.
    async fn due(&mut self) -> Due {
        let look = if self.args.until_complete { self.quiet_at } else { None };
        tokio::select! {
            biased;
            _ = self.signals.int.recv() => Due::End(Why::Interrupted),
            _ = self.signals.term.recv() => Due::End(Why::Interrupted),
            () = at(self.until) => Due::End(Why::Time),
            _ = self.signals.report.recv() => Due::Report,
            () = at(self.next_report) => {
                self.next_report = self.args.report_every.map(|every| Instant::now() + every);
                Due::Report
            }
            () = at(look) => {
                self.quiet_at = None;
                Due::Look
            }
        }
    }

    /// While there is no link: reports are printed, and an end ends.
    async fn due_end(&mut self) -> Why {
        loop {
            match self.due().await {
                Due::End(why) => return why,
                Due::Report => _ = self.report(),
                Due::Look => {}
            }
        }
    }

    fn report(&mut self) -> Result<(), SinkError> {
        say(self.out, &Report::of(&self.sink.books()?), is_stdout(&self.args.to));
        Ok(())
    }

    fn is_complete(&mut self) -> Result<bool, SinkError> {
        Ok(Report::of(&self.sink.books()?).verdict() == Verdict::Complete)
    }
}

/// All that needs no runtime yet.
pub struct Starting<'a> {
    out: &'a Out,
    args: &'a Args,
    client: Client,
    sink: Box<dyn Sink>,
}

impl<'a> Starting<'a> {
    pub fn new(out: &'a Out, args: &'a Args, client: Client) -> Result<Starting<'a>, Trouble> {
        let sink = open(&args.to).map_err(|e| unwritable(&e))?;
        Ok(Starting { out, args, client, sink })
    }

    /// Inside a runtime: signals are taken from here on.
    pub async fn run(self) -> Result<End, Trouble> {
        let Starting { out, args, client, sink } = self;
        let signals = Signals::take().map_err(|e| Trouble::new("system", 1, format!("cannot take signals: {e}"), ""))?;
        let (until, next_report) = (args.length.map(|l| Instant::now() + l), args.report_every.map(|e| Instant::now() + e));
        Session { out, args, sink, until, next_report, quiet_at: None, connected: false, denied: false, signals }.run(client).await
    }
}

impl Signals {
    fn take() -> std::io::Result<Signals> {
        let of = |kind| signal(kind);
        Ok(Signals { int: of(SignalKind::interrupt())?, term: of(SignalKind::terminate())?, report: of(SignalKind::user_defined1())? })
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

/// What is ready now, without waiting.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

fn take(sink: &mut dyn Sink, message: &Message) -> Result<(), SinkError> {
    let delivery = Delivery { topic: &message.topic, body: &message.body, received_ms: wall_ms() };
    let kind = read::kind(&message.topic);
    if message.length > message.body.len() {
        return sink.reject(&delivery, &format!("{} bytes, longer than any message of a gateway", message.length));
    }
    match kind {
        Some(Kind::Stream(stream)) => match read::message(&message.body) {
            Ok(m) if m.stream != stream => sink.reject(&delivery, &format!("a message of the stream {} on this topic", m.stream.word())),
            Ok(m) => sink.take(&delivery, &m).map(drop),
            Err(e) => sink.reject(&delivery, &e.0),
        },
        Some(Kind::State | Kind::Devices) if serde_json::from_slice::<serde::de::IgnoredAny>(&message.body).is_ok() => {
            sink.retained(&delivery)
        }
        Some(Kind::State | Kind::Devices) => sink.reject(&delivery, "not JSON"),
        Some(Kind::Command) => Ok(()),
        None => sink.reject(&delivery, "no topic of a gateway"),
    }
}

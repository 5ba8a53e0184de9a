//! Webhooks: events told by HTTP, in order, each until it was taken.
//!
//! ```text
//! event stream ─ its own lane, as an optional uplink's ─► asked for? ─► POST ─ 2xx ─────────────────► next
//!                                                          no: next      ├ 410 ─► off until the next start
//!                                                                        └ else ─► again, longer and longer apart;
//!                                                                                  after a day put aside
//! ```
//! One request at a time for each webhook, on a connection of its own, so a receiver that hangs holds up nothing but itself.
//! Where a webhook is in the stream is written with the commits: after a crash it may be told again what it was told, under
//! the same id. One that is far behind loses the oldest, and a gap event names it.

mod post;
mod sign;

use crate::{
    config::Webhook,
    logic::backoff::Backoff,
    model::{Boot, DeadLetter, Event, EventKind, GatewayId, Key, UplinkIndex, Urgent},
    store::{OutgoingEvents, Store},
    system::clock::Clock,
};
use post::Signed;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The longest wait between two attempts.
const APART: Duration = Duration::from_secs(300);
/// A receiver that has not taken an event for so long will not.
const GIVEN_UP: Duration = Duration::from_secs(86_400);

pub struct Parts {
    pub config: Webhook,
    /// Its lane of the event stream.
    pub index: UplinkIndex,
    pub gateway: GatewayId,
    pub store: Store,
    /// For what is put aside.
    pub urgent: mpsc::WeakSender<Urgent>,
    pub clock: Clock,
    pub stop: CancellationToken,
}

/// What became of an event.
enum Fate {
    Taken,
    /// The receiver wants nothing any more.
    Gone,
    Stopped,
}

/// Until it is told to stop.
pub async fn run(parts: Parts) {
    let Parts { config, index, store, stop, .. } = &parts;
    let Some(key) = config.key() else {
        tracing::error!(webhook = config.name, "the secret is no base64; nothing is sent");
        return;
    };
    let mut hook = Hook { parts: &parts, key, gone: false };
    loop {
        let Some(message) = store.events().next(*index) else {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = store.events().changed(*index) => continue,
            }
        };
        if !hook.tell(&message).await {
            return store.events().return_unacknowledged(*index);
        }
        store.events().acknowledged(*index, message.key);
    }
}

struct Hook<'a> {
    parts: &'a Parts,
    key: Vec<u8>,
    gone: bool,
}

impl Hook<'_> {
    /// False: it was told to stop before all of it was taken.
    async fn tell(&mut self, message: &OutgoingEvents) -> bool {
        for (n, event) in message.events.iter().enumerate() {
            let Some(word) = sign::word(&event.kind).filter(|word| self.is_for_us(word, &event.kind) && !self.gone) else { continue };
            match self.deliver(word, message, n, event).await {
                Fate::Taken => {}
                Fate::Gone => {
                    self.gone = true;
                    tracing::error!(webhook = self.parts.config.name, "it answered 410 Gone; nothing is sent to it until the next start");
                }
                Fate::Stopped => return false,
            }
        }
        true
    }

    /// It asked for all of the kind, or a rule asked for it.
    fn is_for_us(&self, word: &str, kind: &EventKind) -> bool {
        let config = &self.parts.config;
        config.wants(word) || matches!(kind, EventKind::Rule { webhook, .. } if *webhook == config.name)
    }

    async fn deliver(&self, word: &str, message: &OutgoingEvents, n: usize, event: &Event) -> Fate {
        let Parts { config, gateway, store, clock, stop, .. } = self.parts;
        let begun = clock.now();
        let mut backoff = Backoff::new(APART, seed(message.key));
        let id = sign::id(gateway, message.key, n);
        loop {
            // As it is known now: a clock that was corrected meanwhile corrects the event too.
            let body = sign::body(word, gateway, event, store.clock_of(message.boot));
            let now = store.clock().0.wall(clock.now());
            let seconds = now.0.div_euclid(1000);
            let signed = Signed { signature: sign::signature(&self.key, &id, seconds, &body), id: id.clone(), seconds, body };
            let answer = tokio::select! {
                biased;
                () = stop.cancelled() => return Fate::Stopped,
                answer = post::post(config, &signed, now) => answer,
            };
            let why = match answer {
                Ok(status) if status.is_success() => {
                    tracing::debug!(webhook = config.name, id, word, "told");
                    return Fate::Taken;
                }
                Ok(status) if status.as_u16() == 410 => return Fate::Gone,
                Ok(status) => format!("it answered {status}"),
                Err(why) => why,
            };
            if clock.now().since(begun) > GIVEN_UP {
                self.put_aside(&signed, &why).await;
                return Fate::Taken;
            }
            let wait = backoff.next_wait();
            tracing::warn!(webhook = config.name, id, word, %why, again_in_s = wait.as_secs_f32(), "a webhook was not taken");
            tokio::select! {
                biased;
                () = stop.cancelled() => return Fate::Stopped,
                () = clock.sleep_until(clock.now() + wait) => {}
            }
        }
    }

    async fn put_aside(&self, signed: &Signed, why: &str) {
        let Parts { config, urgent, clock, .. } = self.parts;
        tracing::error!(webhook = config.name, id = signed.id, why, "a webhook was not taken for a day; it is put aside");
        let at: Boot = clock.now();
        let (source, topic, reason) = (format!("webhook {}", config.name), signed.id.clone(), format!("not taken for a day: {why}"));
        let mut body = signed.body.clone().into_bytes();
        body.truncate(crate::limits::DEAD_LETTER_BYTES);
        if let Some(urgent) = urgent.upgrade() {
            let _ = urgent.send(Urgent::DeadLetter(DeadLetter { source, topic, reason, body, at })).await; // closed: it stops
        }
    }
}

/// So that the jitter of two events differs.
fn seed(key: Key) -> u64 {
    key.epoch.0 ^ key.seq
}

//! The network edge of the uplink. Two implementations: [`super::client`], MQTT on a socket, and
//! [`super::simulated`], for virtual time.
//!
//! ```text
//! connect ──► Link ── publish → packet id …… Arrived::Acknowledged(id), in any order, at most once per publish
//!                 └── Lost: the link is dropped, nothing of it survives, the spool sends again on a new one
//! ```
//! Invariants: `publish` only queues and never waits, `unsent` says how much is queued; an acknowledgement is reported
//! only for a packet id that this link gave out and that is still open, so a PUBACK that comes twice, or comes for a
//! link before, releases nothing.
//!
//! Absent on purpose: resending and waiting for room in the window. The pump decides both.

use crate::model::WallMs;
use bytes::Bytes;
use std::{future::Future, sync::Arc, time::Duration};

/// With more than this queued nothing further is published: on a slow link the window counts bytes as well.
pub const UNSENT_MAX: usize = 2 * crate::limits::MESSAGE_BYTES;

/// Bytes of a PUBLISH beside its topic and body, at most.
pub const PUBLISH_EXTRA: usize = 5 + 2 + 2 + 1;

/// Who we are, for the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<crate::config::Secret>,
    pub keep_alive: Duration,
    /// Retained, QoS 1: published by the broker when this link dies. An empty topic: none.
    pub will: (String, Vec<u8>),
    /// Certificates are judged as of this time: the latest that is known to have come.
    pub judged_at: WallMs,
}

/// What the broker said to [`Hello`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Welcome {
    /// The broker kept our session: messages that it stored for us follow.
    pub resumed: bool,
    /// Unacknowledged publishes that it takes at once; `None`: it did not say (MQTT 3.1.1 cannot).
    pub receive_max: Option<u16>,
    /// Bytes of the largest packet that it takes, fixed header included.
    pub max_packet: Option<u32>,
}

/// Why the broker does not take one message (MQTT 5), in words for `status` and for the dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it gives no reason (0x80)")]
    Unspecified,
    #[error("it cannot process it (0x83)")]
    Implementation,
    #[error("not authorised to publish there (0x87); check the broker's access rules for topic_prefix")]
    NotAuthorised,
    #[error("it does not take this topic (0x90); check topic_prefix")]
    Topic,
    #[error("a quota is used up (0x97)")]
    Quota,
    #[error("the payload is not in the form that it wants (0x99)")]
    Payload,
    #[error("it is larger than the broker takes")]
    TooLarge,
    /// What the pump finds out where the broker says nothing.
    #[error("it closes the connection on it")]
    Closes,
    #[error("it never acknowledges it")]
    NeverAcknowledges,
}

/// Why there is no link, in words for `status`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLink {
    #[error("the name {host} is not known: {why}")]
    Name { host: String, why: String },
    #[error("{at}: {why}")]
    Tcp { at: String, why: String },
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the broker refused us: {0}")]
    Refused(String),
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("{0}")]
    Ended(#[from] Lost),
}

/// Why a link ended, in words for `status`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("the broker closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Io(String),
    #[error("no sign of life from the broker for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the broker sent what is not MQTT: {0}")]
    Garbled(String),
    /// It answers pings, but the oldest message was not acknowledged for so long.
    #[error("the broker has not acknowledged a message within {} s", .0.as_secs())]
    Unacknowledged(Duration),
    /// DISCONNECT with a reason (MQTT 5)…
    #[error("the broker ended the connection: {0}")]
    Told(String),
    /// …which says that it was something that we sent.
    #[error("the broker ended the connection: {0}")]
    Rejected(String),
}

/// What comes from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrived {
    /// PUBACK for a publish of this link.
    Acknowledged(u16),
    /// The same, but the broker did not take it (MQTT 5).
    Refused(u16, Refusal),
    /// SUBACK: whether the subscription was granted.
    Subscribed {
        granted: bool,
    },
    Message(Message),
    /// What was queued has been written. Reported once after `unsent` was above [`UNSENT_MAX`].
    Written,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// To be given to `acknowledge`; 0 for QoS 0, which needs none.
    pub id: u16,
    pub topic: String,
    pub body: Bytes,
    /// The length on the wire. More than `body` if it was cut because it is larger than we take.
    pub length: usize,
    /// The broker kept it for whoever subscribes: not meant for now.
    pub retained: bool,
    /// It may have reached us before.
    pub again: bool,
}

pub trait Broker: Send {
    type Link: Link;
    fn connect(&mut self, hello: &Hello) -> impl Future<Output = Result<(Self::Link, Welcome), NoLink>> + Send;
    /// The one that `connect` tried last, for people, and whether it is the one that is wanted.
    fn in_use(&self) -> (Arc<str>, bool) {
        (Arc::default(), true)
    }
    /// A link ended; whether anything was acknowledged on it.
    fn ended(&mut self, _useful: bool) {}
}

pub trait Link: Send {
    /// Queues a message at QoS 1 and gives its packet id.
    fn publish(&mut self, topic: &str, body: &[u8], retain: bool) -> u16;
    /// Queues a subscription at QoS 1.
    fn subscribe(&mut self, filter: &str);
    /// Queues the PUBACK for a message from the broker.
    fn acknowledge(&mut self, id: u16);
    /// Bytes queued and not yet handed to the kernel.
    fn unsent(&self) -> usize;
    /// Writes, reads and waits. May be dropped and called again at any time without losing anything.
    fn next(&mut self) -> impl Future<Output = Result<Arrived, Lost>> + Send;
    /// Writes what is queued and a DISCONNECT, which keeps the broker from publishing the will.
    fn close(self) -> impl Future<Output = ()> + Send;
}

//! `[api]`: the HTTP surface, who may use it, and what becomes of devices that report by it.

use super::{mqtt::Unknown, uplink::Secret};
use crate::model::DeviceId;
use std::{net::SocketAddr, time::Duration};

#[derive(Debug, Clone, PartialEq)]
pub struct Api {
    /// Default: 127.0.0.1:8080.
    pub listen: Vec<SocketAddr>,
    /// A device that reports by HTTP and that nobody has named.
    pub unknown: Unknown,
    /// Silence that a device is allowed that registered by HTTP. Default 5 min.
    pub offline_after: Duration,
    /// Without any everything is refused.
    pub tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Who it is, for the audit: the name of its table, or the device.
    pub name: String,
    pub secret: Secret,
    pub rights: Rights,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// A person or a program.
    Person(Role),
    /// It speaks for this device and may do nothing else.
    Device(DeviceId),
    /// The same for all whose ids begin so.
    Devices(String),
}

/// Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees everything.
    Viewer,
    /// Sends commands, acknowledges alarms, switches rules and schedules.
    Operator,
    Admin,
}

impl Role {
    pub const fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl Rights {
    /// Whether it may speak for the device of this id.
    pub fn speaks_for(&self, device: &str) -> bool {
        match self {
            Rights::Person(_) => false,
            Rights::Device(own) => own.as_str() == device,
            Rights::Devices(begin) => device.starts_with(begin.as_str()),
        }
    }
}

//! A serial port that is only listened to. Nothing is ever written.

use super::tty::Tty;
use crate::{config::Serial, model::Settings};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::Duration;

pub struct Ear(Tty);

impl Ear {
    /// The error says in words what is wrong with the port.
    pub fn open(serial: &Serial) -> Result<Ear, String> {
        Tty::open(serial).map(Ear).map_err(|e| e.to_string())
    }

    /// Other settings from now on; what was heard with the old ones is dropped.
    pub fn tune(&mut self, settings: &Settings) -> Result<(), String> {
        self.0.tune(settings).map_err(|e| e.to_string())
    }

    /// Bytes that came within this time; 0: none.
    pub fn hear(&self, into: &mut [u8], within: Duration) -> Result<usize, String> {
        let wait = Timespec { tv_sec: within.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: within.subsec_nanos().into() };
        let mut fds = [PollFd::from_borrowed_fd(self.0.fd(), PollFlags::IN)];
        if poll(&mut fds, Some(&wait)) != Ok(1) {
            return Ok(0);
        }
        self.0.read(into).map_err(|e| e.to_string())
    }
}

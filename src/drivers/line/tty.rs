//! A serial port: opened and set up through tokio-serial, read and written through a descriptor of our own.
//!
//! Two descriptors of one terminal: tokio-serial's sets baud rate, parity and stop bits and holds the lock against other
//! programs; it lends its descriptor only as a number, which safe code cannot poll. Ours is opened first, because the lock
//! refuses everyone who comes later. Both are closed together.

use crate::{
    config::{Parity, Serial},
    model::Settings,
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{Mode, OFlags},
    io::Errno,
    termios::{QueueSelector, tcflush},
};
use std::path::Path;

pub struct Tty {
    fd: OwnedFd,
    /// Keeps the settings and the lock.
    port: Box<dyn tokio_serial::SerialPort>,
    /// The port goes without the parity that was asked for: a pseudo-terminal has none.
    pub without_parity: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum TtyError {
    #[error("{path} does not exist; is the adapter plugged in? Give its /dev/serial/by-id name")]
    Missing { path: String },
    #[error("{path} may not be opened; add the user of fieldgate to the group dialout")]
    Forbidden { path: String },
    #[error("{path} is in use by another program; stop it, a bus has one master")]
    Busy { path: String },
    #[error("{path}: {problem}")]
    Other { path: String, problem: String },
    #[error("the port refuses {settings}: {problem}")]
    Settings { settings: Settings, problem: String },
    #[error("the adapter was unplugged")]
    HungUp,
    #[error("the port failed: {0}")]
    Failed(Errno),
}

impl Tty {
    pub fn open(serial: &Serial) -> Result<Tty, TtyError> {
        let fd = rustix::fs::open(&serial.path, OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| cannot_open(&serial.path, errno))?;
        let (port, without_parity) = match set_up(serial, serial.parity) {
            Ok(port) => {
                // A pseudo-terminal drops the parity without a word.
                let got = port.parity().unwrap_or(parity(serial.parity));
                (port, got != parity(serial.parity))
            }
            Err(error) if serial.parity != Parity::None && is_invalid(&error) => {
                (set_up(serial, Parity::None).map_err(|e| cannot_set_up(&serial.path, &e))?, true)
            }
            Err(error) => return Err(cannot_set_up(&serial.path, &error)),
        };
        // What an adapter emits while it is opened is no reply to anything.
        let _ = tcflush(&fd, QueueSelector::IOFlush);
        Ok(Tty { fd, port, without_parity })
    }

    /// Other settings from now on; what was heard with the old ones is dropped.
    pub fn tune(&mut self, settings: &Settings) -> Result<(), TtyError> {
        let refused = |error: tokio_serial::Error| TtyError::Settings { settings: *settings, problem: error.to_string() };
        // What was sent has left the port before the settings change under it.
        rustix::termios::tcdrain(&self.fd).map_err(TtyError::Failed)?;
        self.port.set_baud_rate(settings.baud).map_err(refused)?;
        self.port.set_data_bits(data_bits(settings.bits)).map_err(refused)?;
        self.port.set_stop_bits(stop_bits(settings.stop)).map_err(refused)?;
        match self.port.set_parity(parity(settings.parity)) {
            // A pseudo-terminal has none.
            Err(error) if !(self.without_parity && is_invalid(&error)) => return Err(refused(error)),
            _ => {}
        }
        tcflush(&self.fd, QueueSelector::IFlush).map_err(TtyError::Failed)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What is there now; 0: nothing.
    pub fn read(&self, into: &mut [u8]) -> Result<usize, TtyError> {
        match rustix::io::read(&self.fd, into) {
            // A pulled adapter reads as the end of a file.
            Ok(0) | Err(Errno::IO | Errno::NODEV | Errno::NXIO) => Err(TtyError::HungUp),
            Ok(n) => Ok(n),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(TtyError::Failed(errno)),
        }
    }

    /// Hands the frame to the driver. A port that takes nothing (nobody reads the other end of a pseudo-terminal) drops it:
    /// what stood in the queue must not come out later.
    pub fn write(&self, frame: &[u8]) -> Result<(), TtyError> {
        let mut left = frame;
        while !left.is_empty() {
            match rustix::io::write(&self.fd, left) {
                Ok(n) if n > 0 => left = &left[n..],
                Ok(_) | Err(Errno::AGAIN) => {
                    return tcflush(&self.fd, QueueSelector::OFlush).map_err(TtyError::Failed);
                }
                Err(Errno::INTR) => {}
                Err(Errno::IO | Errno::NODEV | Errno::NXIO) => return Err(TtyError::HungUp),
                Err(errno) => return Err(TtyError::Failed(errno)),
            }
        }
        Ok(())
    }
}

fn set_up(serial: &Serial, with: Parity) -> tokio_serial::Result<Box<dyn tokio_serial::SerialPort>> {
    tokio_serial::new(serial.path.to_string_lossy(), serial.baud)
        .data_bits(data_bits(serial.bits))
        .stop_bits(stop_bits(serial.stop))
        .parity(parity(with))
        .flow_control(tokio_serial::FlowControl::None)
        .open()
}

fn data_bits(bits: u8) -> tokio_serial::DataBits {
    if bits == 7 { tokio_serial::DataBits::Seven } else { tokio_serial::DataBits::Eight }
}

fn stop_bits(stop: u8) -> tokio_serial::StopBits {
    if stop == 2 { tokio_serial::StopBits::Two } else { tokio_serial::StopBits::One }
}

fn parity(parity: Parity) -> tokio_serial::Parity {
    match parity {
        Parity::None => tokio_serial::Parity::None,
        Parity::Even => tokio_serial::Parity::Even,
        Parity::Odd => tokio_serial::Parity::Odd,
    }
}

fn is_invalid(error: &tokio_serial::Error) -> bool {
    use tokio_serial::ErrorKind;
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Io(std::io::ErrorKind::InvalidInput) | ErrorKind::Unknown)
}

fn cannot_open(path: &Path, errno: Errno) -> TtyError {
    let path = path.display().to_string();
    match errno {
        Errno::NOENT | Errno::NXIO | Errno::NODEV => TtyError::Missing { path },
        Errno::ACCESS | Errno::PERM => TtyError::Forbidden { path },
        Errno::BUSY => TtyError::Busy { path },
        errno => TtyError::Other { path, problem: errno.to_string() },
    }
}

fn cannot_set_up(path: &Path, error: &tokio_serial::Error) -> TtyError {
    let path = path.display().to_string();
    match error.kind() {
        tokio_serial::ErrorKind::NoDevice => TtyError::Busy { path },
        _ => TtyError::Other { path, problem: error.to_string() },
    }
}

//! The line held by this process: the daemon's own line owner, without devices, on a small runtime of its own.

use super::{
    Trouble,
    bus::{Bus, BusError},
    target::Place,
};
use crate::{
    cli::{EXIT_NO_ANSWER, EXIT_REFUSED},
    config::{Line, Transport},
    drivers::{Doors, line},
    limits,
    model::{LineFigures, LineState, Settings, SiteAsk, SiteJob, SiteOutcome, SitePort, SiteReport},
    system::{
        clock::Clock,
        ports::{self, Roots},
    },
};
use rustix::{fs::Access, io::Errno};
use std::{
    path::Path,
    sync::mpsc::{Receiver, channel, sync_channel},
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub struct Direct {
    site: SitePort,
    figures: Box<dyn Fn() -> LineFigures + Send>,
    settings: Option<Settings>,
    timeout: Duration,
    place: String,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Direct {
    pub fn open(place: &Place) -> Result<Direct, Trouble> {
        if let Transport::Serial(serial) = &place.line.transport {
            may_open(&serial.path)?;
        }
        let stop = CancellationToken::new();
        let (give, started) = sync_channel(1);
        let (line, until) = (place.line.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("site".into())
            .spawn(move || hold(&line, &until, &give))
            .map_err(|e| Trouble::new("start", 1, format!("cannot start a thread: {e}"), "free memory or processes"))?;
        let (site, figures) = started.recv().map_err(|_| Trouble::new("start", 1, "the line did not start", ""))?;
        let (settings, timeout, name) = (place.settings(), place.line.timeout, place.name());
        Ok(Direct { site, figures, settings, timeout, place: name, stop, thread: Some(thread) })
    }
}

type Started = (SitePort, Box<dyn Fn() -> LineFigures + Send>);

fn hold(line: &Line, stop: &CancellationToken, give: &std::sync::mpsc::SyncSender<Started>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs only memory and an epoll descriptor");
    runtime.block_on(async {
        let ((urgent, mut urgent_rx), (bulk, mut bulk_rx)) = (mpsc::channel(16), mpsc::channel(16));
        let doors = Doors::new(urgent, bulk);
        let handle = line::start(line, Vec::new(), &mut line::Known::default(), doors, Clock::Real, stop.clone());
        let _ = give.send((handle.site.clone(), Box::new(handle.reader())));
        let drain = async {
            loop {
                tokio::select! {
                    biased;
                    Some(_) = urgent_rx.recv() => {}
                    Some(_) = bulk_rx.recv() => {}
                    else => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            biased;
            () = handle.ended() => {}
            () = drain => {}
        }
    });
    // A name lookup that hangs must not hold the tool.
    runtime.shutdown_background();
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Bus for Direct {
    fn ask(&mut self, ask: &SiteAsk) -> Result<SiteReport, BusError> {
        let report = give(&self.site, ask, limits::SITE_WAIT)
            .ok_or_else(|| BusError::Down(format!("{} takes no request", self.place)))?
            .recv()
            .map_err(|_| BusError::Down(format!("{} was given up", self.place)))?;
        let figures = (self.figures)();
        match report.outcome {
            SiteOutcome::NotSent(_) if figures.state == LineState::Down => Err(BusError::Down(figures.reason)),
            _ => Ok(report),
        }
    }

    fn settings(&self) -> Option<Settings> {
        self.settings
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn is_shared(&self) -> bool {
        false
    }
}

/// Hands a request in; the report comes out of the receiver.
fn give(site: &SitePort, ask: &SiteAsk, within: Duration) -> Option<Receiver<SiteReport>> {
    let (tell, told) = channel();
    let tell = Box::new(move |report| {
        let _ = tell.send(report);
    });
    site(SiteJob { ask: ask.clone(), deadline: Clock::Real.now() + within, tell }).ok()?;
    Some(told)
}

/// Says what is wrong with a port before it is opened, while there is still somebody to tell.
pub fn may_open(path: &Path) -> Result<(), Trouble> {
    let shown = path.display();
    match rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => is_free(path),
        Err(Errno::NOENT) => Err(Trouble::new(
            "no-port",
            EXIT_NO_ANSWER,
            format!("{shown} does not exist"),
            "plug the adapter in;  fieldgate ports     lists what is there",
        )),
        Err(Errno::ACCESS | Errno::PERM) => Err(Trouble::new(
            "permission",
            EXIT_REFUSED,
            format!("no permission to open {shown}"),
            "sudo usermod -aG dialout $USER     then log in again",
        )),
        Err(errno) => Err(Trouble::new("no-port", EXIT_NO_ANSWER, format!("{shown}: {errno}"), "")),
    }
}

/// Root is not kept out by another program's lock, and two masters disturb each other.
fn is_free(path: &Path) -> Result<(), Trouble> {
    let holders = ports::held_by(&Roots::default(), path);
    let Some(holder) = holders.first() else { return Ok(()) };
    let remedy = match holder.as_str() {
        "fieldgate" => "give its --config or --socket, so that requests take turns with it".to_owned(),
        "getty" => "free the login console: raspi-config, or systemctl stop serial-getty@…".to_owned(),
        other => format!("stop {other}; a bus has one master"),
    };
    Err(Trouble::new("busy", EXIT_NO_ANSWER, format!("{} is in use by {holder}", path.display()), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Serial,
        model::{LineId, Parity},
    };
    use std::io::{Read, Write};

    fn place(transport: Transport) -> Place {
        Place { line: Line::new(LineId::parse("site").expect("valid"), transport), is_configured: false, device: None }
    }

    #[test]
    fn a_server_is_asked_by_this_process_itself() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = server.local_addr().expect("bound").port();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("accepted");
            let mut request = [0; 12];
            stream.read_exact(&mut request).expect("a request");
            stream.write_all(&[request[0], request[1], 0, 0, 0, 5, 1, 3, 2, 0, 7]).expect("written");
            request
        });
        let mut bus = Direct::open(&place(Transport::Tcp { host: "127.0.0.1".into(), port })).expect("opened");
        let ask = SiteAsk { unit: 1, pdu: vec![3, 0, 10, 0, 1], timeout: None, settings: None };
        let report = bus.ask(&ask).expect("asked");
        assert_eq!(report.outcome, SiteOutcome::Answer(vec![3, 2, 0, 7]));
        assert_eq!(served.join().expect("served")[6..], [1, 3, 0, 10, 0, 1]);
        assert!(!bus.is_shared() && bus.settings().is_none() && bus.place() == format!("127.0.0.1:{port}"));
    }

    #[test]
    fn a_refused_connection_and_a_missing_port_say_what_to_do() {
        let mut bus = Direct::open(&place(Transport::Tcp { host: "127.0.0.1".into(), port: 1 })).expect("opened");
        let ask = SiteAsk { unit: 1, pdu: vec![3, 0, 10, 0, 1], timeout: None, settings: None };
        let trouble = Trouble::from(bus.ask(&ask).expect_err("refused"));
        assert_eq!((trouble.exit, trouble.remedy.as_str()), (4, "is Modbus TCP switched on, and this the port?"));
        let path = "/dev/nothing-here".into();
        let missing = place(Transport::Serial(Serial { path, baud: 9600, parity: Parity::None, bits: 8, stop: 1 }));
        let trouble = Direct::open(&missing).map(|_| ()).expect_err("missing");
        assert!(trouble.message.contains("does not exist") && trouble.remedy.contains("fieldgate ports"), "{trouble:?}");
    }
}

//! mosquitto on a port of its own, as the cloud or as a local broker. It can be killed and comes back with its sessions.

use crate::{
    process::{Process, free_port, host},
    wait::{secs, until},
};
use rustix::process::Signal;
use std::{fs, net::TcpStream, path::Path, process::Command};
use tempfile::TempDir;

pub struct Mosquitto {
    pub port: u16,
    host: &'static str,
    dir: TempDir,
    process: Option<Process>,
}

/// Where a TLS listener's files are.
pub struct Certificates<'a> {
    pub ca: &'a Path,
    pub cert: &'a Path,
    pub key: &'a Path,
}

impl Mosquitto {
    pub fn start() -> Mosquitto {
        Mosquitto::with(host(), "")
    }

    pub fn start_tls(files: &Certificates<'_>) -> Mosquitto {
        let show = |path: &Path| path.display().to_string();
        // Its certificate is for localhost.
        Mosquitto::with("127.0.0.1", &format!("cafile {}\ncertfile {}\nkeyfile {}\n", show(files.ca), show(files.cert), show(files.key)))
    }

    fn with(host: &'static str, listener: &str) -> Mosquitto {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        // A persistent subscriber's queue must survive a kill, else the judge and not the gateway loses messages: no
        // queue of it has a limit, and `kill` has its session saved before. Without nodelay its second small packet waits
        // for the delayed acknowledgement of the first, 40 ms of nobody's doing.
        let config = format!(
            "user root\npersistence true\npersistence_location {}/\nautosave_interval 0\nmax_queued_messages 0\n\
             max_inflight_messages 0\nset_tcp_nodelay true\nlog_dest stderr\nlog_type error\nlog_type warning\nlog_type notice\n\
             listener {port} {host}\nallow_anonymous true\n{listener}",
            dir.path().display()
        );
        fs::write(dir.path().join("mosquitto.conf"), config).expect("the temporary directory takes a file");
        let mut broker = Mosquitto { port, host, dir, process: None };
        broker.restart();
        broker
    }

    /// Starts it again on the same port with what it had saved.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "mosquitto runs already");
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].into_iter().find(|p| Path::new(p).exists());
        let mut command = Command::new(program.unwrap_or("mosquitto"));
        command.arg("-c").arg(self.dir.path().join("mosquitto.conf"));
        let mut process = Process::start("mosquitto", &mut command);
        until("mosquitto listens", secs(10), || {
            if let Some(status) = process.ended() {
                panic!("mosquitto ended with {status}: {}", process.said());
            }
            TcpStream::connect((self.host, self.port)).ok()
        });
        self.process = Some(process);
    }

    /// In order, as an upgrade stops it: all that it took is in its file, nobody is told.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("mosquitto runs");
        process.signal(Signal::TERM);
        process.wait_end(secs(20));
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// As a power cut: no goodbye to anybody. Only the sessions are saved a moment before, for the collector's sake.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("mosquitto runs");
        let file = self.dir.path().join("mosquitto.db");
        let saved = || fs::metadata(&file).and_then(|m| m.modified()).ok();
        let before = saved();
        process.signal(Signal::USR1);
        until("mosquitto saves its sessions", secs(5), || (saved().is_some() && saved() != before).then_some(()));
        process.signal(Signal::KILL);
        process.wait_end(secs(5));
    }
}

//! The process under test, with a configuration, data and run directory of its own.

use crate::{
    process::{Process, host},
    turn::{self, Turn},
    unit,
    wait::{now, secs, until},
};
use rustix::process::Signal;
use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::{Command, Output},
    rc::Rc,
    time::Duration,
};
use tempfile::TempDir;

pub struct Gateway {
    pub id: String,
    dir: TempDir,
    process: Option<Process>,
    _turn: Rc<Turn>,
}

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_fieldgate");

impl Gateway {
    /// Writes the configuration: `[gateway]` is added in front of `config`.
    pub fn new(id: &str, config: &str) -> Gateway {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let show = |name: &str| dir.path().join(name).display().to_string();
        let head = format!("[gateway]\nid = \"{id}\"\ndata_dir = \"{}\"\nrun_dir = \"{}\"\n\n", show("data"), show("run"));
        for name in ["data", "run"] {
            fs::create_dir(dir.path().join(name)).expect("a new directory");
        }
        fs::write(dir.path().join("fieldgate.toml"), head + config).expect("the temporary directory takes a file");
        Gateway { id: id.to_owned(), dir, process: None, _turn: turn::shared() }
    }

    /// With `config` as the whole file.
    pub fn of_file(config: &str) -> Gateway {
        let gateway = Gateway::new("whole", "");
        fs::write(gateway.config(), config).expect("the temporary directory takes a file");
        gateway
    }

    /// More for the end of its file.
    pub fn configure(&self, more: &str) {
        let file = fs::read_to_string(self.config()).expect("it was written");
        fs::write(self.config(), file + more).expect("the temporary directory takes a file");
    }

    pub fn started(id: &str, config: &str) -> Gateway {
        let mut gateway = Gateway::new(id, config);
        gateway.start();
        gateway
    }

    /// A file of its data directory, in bytes; 0 if it is not there.
    pub fn data_bytes(&self, name: &str) -> u64 {
        fs::metadata(self.dir.path().join("data").join(name)).map_or(0, |m| m.len())
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("fieldgate.toml")
    }

    /// Starts `fieldgate run` and waits for nothing.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "fieldgate runs already");
        self.process = Some(Process::start_in("fieldgate", unit::command(PROGRAM, &self.config(), &[])));
    }

    pub fn pid(&self) -> i32 {
        self.process.as_ref().expect("fieldgate runs").pid().as_raw_nonzero().get()
    }

    /// Resident memory of the running process, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.process.as_ref().map_or(0, Process::memory_kib)
    }

    /// Processor time of the running process.
    pub fn cpu(&self) -> Duration {
        self.process.as_ref().map_or(Duration::ZERO, Process::cpu)
    }

    /// Fails if it has ended by itself.
    #[track_caller]
    pub fn assert_runs(&mut self) {
        let process = self.process.as_mut().expect("fieldgate was started");
        if let Some(status) = process.ended() {
            panic!("fieldgate ended with {status}: {}", process.said());
        }
        // Asking for it takes time, which a kill that follows does not have.
        process.pid();
    }

    /// Starts `fieldgate run` and waits for its control socket to answer.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same with more in its environment, as systemd adds.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        assert!(self.process.is_none(), "fieldgate runs already");
        let mut process = Process::start_in("fieldgate", unit::command(PROGRAM, &self.config(), environment));
        until("fieldgate answers on its socket", secs(20), || {
            if let Some(status) = process.ended() {
                panic!("fieldgate ended with {status}: {}", process.said());
            }
            (self.command(&["status", "--json"]).status.code() != Some(3)).then_some(())
        });
        self.process = Some(process);
    }

    /// Another subcommand on the same configuration.
    pub fn command(&self, args: &[&str]) -> Output {
        Command::new(PROGRAM).args(args).arg("--config").arg(self.config()).output().expect("the program runs")
    }

    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("fieldgate runs").signal(signal);
    }

    /// `kill -9`: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("fieldgate runs");
        process.signal(Signal::KILL);
        process.wait_end(secs(5));
        unit::release_ports(&self.config());
    }

    /// SIGTERM: how long it took, and the exit code.
    #[track_caller]
    pub fn stop(&mut self) -> (Duration, Option<i32>) {
        let mut process = self.process.take().expect("fieldgate runs");
        let begun = now();
        process.signal(Signal::TERM);
        let status = process.wait_end(secs(20));
        (now() - begun, status.code())
    }

    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::said).unwrap_or_default()
    }
}

/// Sections of a configuration file.
pub fn uplink(port: u16) -> String {
    format!("[uplink.cloud]\nurl = \"mqtt://{}:{port}\"\nreconnect_max = \"1s\"\n\n", host())
}

/// A Modbus TCP device with a 32-bit counter `c` at 0 and 16-bit points `r2`… up to `registers`. Its timeout is long:
/// on a busy machine a server's late answer would look like a read that fieldgate lost.
pub fn counting_device(id: &str, port: u16, registers: usize, poll: &str) -> String {
    let mut out = format!("[device.{id}]\ntcp = \"{}:{port}\"\nunit = 1\ntimeout = \"5s\"\npoll = \"{poll}\"\n", host());
    out.push_str(&counting_points(id, registers));
    out
}

pub fn counting_points(id: &str, registers: usize) -> String {
    let mut out = format!("[device.{id}.point.c]\nregister = \"holding:0\"\ntype = \"u32\"\n");
    for r in 2..registers {
        let _ = write!(out, "[device.{id}.point.r{r}]\nregister = \"holding:{r}\"\ntype = \"u16\"\n");
    }
    out.push('\n');
    out
}

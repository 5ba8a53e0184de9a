//! Child processes with their output kept, ended by their own process id when they go out of scope.

use crate::{unit, wait::until};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    cell::OnceCell,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

pub struct Process {
    name: String,
    child: std::process::Child,
    /// It is in a unit of systemd, and the child only waits for it.
    unit: Option<String>,
    /// Its own, once it was asked for: `exec` keeps it.
    pid: OnceCell<Pid>,
    stdin: Option<ChildStdin>,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub fn start(name: &str, command: &mut Command) -> Process {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}): {e}; run tests/run once, it installs what is missing"));
        let stdout = keep(child.stdout.take().expect("stdout is piped"));
        let stderr = keep(child.stderr.take().expect("stderr is piped"));
        Process { name: name.to_owned(), stdin: child.stdin.take(), child, unit: None, pid: OnceCell::new(), stdout, stderr }
    }

    /// The same for one that [`unit::command`] may have put into a unit.
    pub fn start_in(name: &str, (mut command, unit): (Command, Option<String>)) -> Process {
        let mut process = Process::start(name, &mut command);
        process.unit = unit;
        process
    }

    pub fn pid(&self) -> Pid {
        let Some(name) = &self.unit else { return Pid::from_child(&self.child) };
        *self.pid.get_or_init(|| {
            until(&format!("{} has a process", self.name), Duration::from_secs(20), || Pid::from_raw(unit::main_pid(name)?))
        })
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.pid();
        kill_process(pid, signal).unwrap_or_else(|e| panic!("cannot signal {}: {e}", self.name));
    }

    /// Resident memory in KiB; 0 once it has ended.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Processor time that its threads took; of one that has ended none.
    pub fn cpu(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid().as_raw_nonzero())).into_iter().flatten().flatten();
        let spent = |at: std::path::PathBuf| std::fs::read_to_string(at).ok()?.split_whitespace().next()?.parse().ok();
        threads.filter_map(|thread| spent(thread.path().join("schedstat"))).map(Duration::from_nanos).sum()
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    #[track_caller]
    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        until(&format!("{} ends", self.name.clone()), within, || self.ended())
    }

    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{line}").expect("the child reads its stdin");
    }

    /// The n-th line of stdout, once it is there.
    #[track_caller]
    pub fn line(&mut self, n: usize, within: Duration) -> String {
        let lines = self.stdout.clone();
        let name = self.name.clone();
        until(&format!("{name} says line {n}"), within, || {
            if let Some(line) = lines.lock().expect("no reader panics").get(n) {
                return Some(line.clone());
            }
            if let Some(status) = self.ended() {
                panic!("{name} ended with {status}: {}", self.said());
            }
            None
        })
    }

    /// Everything on stderr so far.
    pub fn said(&self) -> String {
        self.stderr.lock().expect("no reader panics").join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            if let Some(name) = &self.unit {
                unit::end(name);
            }
            // SIGKILL to this child alone: it must not outlive its test.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let said = self.stderr.lock().map(|l| l[l.len().saturating_sub(60)..].join("\n")).unwrap_or_default();
            eprintln!("--- {} said last ---\n{said}\n---", self.name);
        }
    }
}

fn keep(from: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let into = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            into.lock().expect("no holder panics").push(String::from_utf8_lossy(&line).into_owned());
        }
    });
    lines
}

/// A loopback address of this test process alone. A gateway of another run that still calls a server which is gone would
/// sooner or later reach one of ours on the same port, and read our counters.
pub fn host() -> &'static str {
    static HOST: LazyLock<String> = LazyLock::new(|| {
        let id = std::process::id();
        format!("127.{}.{}.{}", 64 + (id >> 16) % 64, (id >> 8) % 256, id % 256)
    });
    &HOST
}

/// A port that was free a moment ago. The system does not hand the same one out again soon.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((host(), 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

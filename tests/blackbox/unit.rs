//! The daemon in the sandbox of its systemd unit: `FIELDGATE_UNIT=systemd/fieldgate.service`, as root where systemd runs.
//! `tests/run --long unit` boots such a machine. Everything else, brokers, devices and tools, stays outside as it is in life.
//!
//! Every line of the unit's [Service] holds but these: what starts, restarts and watches it (the tests do that); its user,
//! who is root without any capability, because the tests make the files that it owns; the directories, which are the tests'
//! own (`ReadWritePaths`).

use rustix::fs::{Mode, OFlags};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Lines that do not hold, and why is said above.
const NOT_HERE: &[&str] = &[
    "Type",
    "ExecStart",
    "ExecReload",
    "Restart",
    "RestartSec",
    "RestartSteps",
    "RestartMaxDelaySec",
    "RestartPreventExitStatus",
    "WatchdogSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "User",
    "Group",
    "SupplementaryGroups",
    "StateDirectory",
    "StateDirectoryMode",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "RuntimeDirectoryPreserve",
    "ConfigurationDirectory",
    "ConfigurationDirectoryMode",
];

struct Unit {
    lines: Vec<String>,
    /// A copy that its sandbox lets it see: sources may lie in a home.
    program: PathBuf,
    tmp: PathBuf,
    boot: String,
}

/// `None`: the daemon is an ordinary child.
static UNIT: LazyLock<Option<Unit>> = LazyLock::new(|| {
    let file = std::env::var_os("FIELDGATE_UNIT")?;
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let lines: Vec<String> = service(&text).map(str::to_owned).collect();
    assert!(lines.len() > 30, "{} has a sandbox: {lines:?}", file.display());
    let tmp = std::env::temp_dir();
    assert!(!tmp.starts_with("/tmp") && !tmp.starts_with("/var/tmp"), "PrivateTmp hides {}: set TMPDIR", tmp.display());
    let program = tmp.join(format!("fieldgate-{}", std::process::id()));
    fs::copy(crate::gateway::PROGRAM, &program).expect("the temporary directory takes a file");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a kernel").trim().replace('-', "");
    Some(Unit { lines, program, tmp, boot })
});

fn service(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim).skip_while(|l| *l != "[Service]").skip(1).take_while(|l| !l.starts_with('['));
    let holds = |line: &str| {
        let key = line.split('=').next().unwrap_or_default();
        // A specifier is filled where a unit is read; of the one that there is the value is given.
        !NOT_HERE.contains(&key) && (key != "Environment" || !line.contains('%'))
    };
    lines.filter(move |l| !l.is_empty() && !l.starts_with('#') && holds(l))
}

/// How to start the daemon, and the name of its unit where it gets one.
pub fn command(program: &str, config: &Path, environment: &[(&str, &str)]) -> (Command, Option<String>) {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let Some(unit) = UNIT.as_ref() else {
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(config).envs(environment.iter().copied());
        return (command, None);
    };
    let name = format!("fieldgate-test-{}-{}.service", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
    let mut command = Command::new("systemd-run");
    command.args(["--quiet", "--pipe", "--wait", "--collect", "--unit", &name, "-p", "Type=exec"]);
    command.arg("-p").arg(format!("ReadWritePaths={}", unit.tmp.display()));
    command.args(unit.lines.iter().flat_map(|line| ["-p", line]));
    command.args(["-E", &format!("FIELDGATE_BOOT_ID={}", unit.boot)]);
    for (key, value) in environment {
        command.args(["-E", &format!("{key}={value}")]);
    }
    command.arg("--").arg(&unit.program).arg("run").arg("--config").arg(config);
    (command, Some(name))
}

/// The process that it is in, once it has been started.
pub fn main_pid(name: &str) -> Option<i32> {
    let shown = Command::new("systemctl").args(["show", "-P", "MainPID", name]).output().expect("systemd runs here");
    String::from_utf8_lossy(&shown.stdout).trim().parse().ok().filter(|pid| *pid > 0)
}

/// What is left of it ends at once.
pub fn end(name: &str) {
    let _ = Command::new("systemctl").args(["kill", "--signal=KILL", name]).output();
}

/// A serial port is anybody's again when its last descriptor is closed. The other end of a pseudo-terminal is held by the tests, so
/// the mark "mine alone" of a daemon that was killed stays; outside of the sandbox root is above it.
pub fn release_ports(config: &Path) {
    if UNIT.is_none() {
        return;
    }
    let text = fs::read_to_string(config).unwrap_or_default();
    for path in text.split('"').filter(|word| word.starts_with("/dev/")) {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
        if let Ok(port) = rustix::fs::open(path, flags, Mode::empty()) {
            let _ = rustix::termios::ioctl_tiocnxcl(&port);
        }
    }
}

/// The kernel's own word that the sandbox is there: a test of this campaign, not of the product.
#[test]
fn the_daemon_is_in_the_sandbox_of_its_unit() {
    let Some(_) = UNIT.as_ref() else { return };
    let mut gateway = crate::gateway::Gateway::started("boxed", "");
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("it runs");
    let line = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default().trim().to_owned();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(set).trim_start_matches('0'), "", "{set}");
    }
    assert_eq!((line("NoNewPrivs:").as_str(), line("Seccomp:").as_str()), ("1", "2"), "{status}");
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", gateway.pid())).expect("it runs");
    let is_read_only = mounts.lines().any(|l| l.split(' ').nth(4) == Some("/") && l.split(' ').nth(5).is_some_and(|o| o.starts_with("ro")));
    assert!(is_read_only, "{mounts}");
    gateway.stop();
}

//! The real daemon as a child process of the demo, and its status asked over its control socket.

use crate::api::control;
use serde_json::{Value, json};
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

pub struct Gateway {
    child: Child,
    pub log: PathBuf,
    socket: PathBuf,
}

/// Where the simulated field is, to be written into the daemon's configuration.
pub struct Field<'a> {
    pub rtu: &'a Path,
    pub baud: u32,
    pub meters: u8,
    pub plc: SocketAddr,
    pub mqtt: SocketAddr,
    pub cloud: SocketAddr,
    pub topic_prefix: &'a str,
}

/// The configuration that the demo runs: also a complete example of one.
pub fn config(dir: &Path, f: &Field) -> String {
    let Field { rtu, baud, meters, plc, mqtt, cloud, topic_prefix } = f;
    let (dir, rtu) = (dir.display(), rtu.display());
    format!(
        r#"# Written by `fieldgate demo`.
[gateway]
id = "demo"
data_dir = "{dir}/data"
run_dir = "{dir}/run"

[line.meters]
serial = {{ path = "{rtu}", baud = {baud}, parity = "none" }}

[group.meter]
each = "1..{meters}"
id = "meter-{{n}}"
line = "meters"
unit = "{{n}}"
poll = "500ms"
offline_after = "3s"
max_gap = 6

[group.meter.point]
voltage = {{ register = "input:0", type = "f32", unit = "V" }}
current = {{ register = "input:6", type = "f32", unit = "A" }}
power = {{ register = "input:12", type = "f32", unit = "W" }}
reads = {{ register = "holding:2", type = "u16" }}

[device.plc]
tcp = "{plc}"
unit = 1
poll = "200ms"
max_gap = 10

[device.plc.point]
reads = {{ register = "holding:2", type = "u16" }}
power = {{ register = "input:12", type = "f32", unit = "W" }}
frequency = {{ register = "input:70", type = "f32", unit = "Hz" }}
setpoint = {{ register = "holding:100", type = "u16", scale = 0.1, unit = "°C", write = {{ min = 20, max = 80 }} }}
{more}
[mqtt]
listen = "{mqtt}"

[mqtt.route.telemetry]
topic = "tele/{{device}}/SENSOR"
kind = "telemetry"

[mqtt.route.status]
topic = "devices/status/{{device}}"
kind = "status"

[uplink.cloud]
url = "mqtt://{cloud}"
topic_prefix = "{topic_prefix}"
reconnect_max = "1s"
"#,
        more = (1..20).map(|n| format!("r{n} = {{ register = \"holding:{}\", type = \"u16\" }}\n", 100 + n)).collect::<String>(),
    )
}

impl Gateway {
    pub fn start(dir: &Path, field: &Field) -> io::Result<Gateway> {
        let config_path = dir.join("fieldgate.toml");
        fs::write(&config_path, config(dir, field))?;
        let log = dir.join("fieldgate.log");
        let child = Command::new(std::env::current_exe()?)
            .args(["run", "--config"])
            .arg(&config_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("JOURNAL_STREAM")
            // Ctrl-C and a closed terminal are the demo's: it ends the daemon once everything has arrived.
            .process_group(0)
            .spawn()?;
        Ok(Gateway { child, log, socket: dir.join("run/control.sock") })
    }

    /// `None` while it starts or stops.
    pub fn status(&self) -> Option<Value> {
        let answer = control::ask(&self.socket, &json!({"get": "status", "all": true}), Duration::from_secs(2)).ok()?;
        answer.get("error").is_none().then_some(answer)
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().ok().flatten().is_some()
    }

    /// Resident memory in kB at its highest.
    pub fn peak_kb(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        text.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
    }

    /// SIGTERM, and wait for the orderly end.
    pub fn stop(&mut self) -> bool {
        if self.has_ended() {
            return true;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        self.child.wait().is_ok_and(|s| s.success())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! `fieldgate ports`: which serial ports there are, by names that last, and who holds them. Nothing is opened.

use super::{
    Global, Out, site,
    table::{Table, left},
};
use crate::system::ports::{self, Permission, Port, Roots};
use serde_json::{Value, json};
use std::{fmt::Write, path::Path, process::ExitCode, time::Duration};

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fieldgate ports                      what is plugged in, and who holds it\n  fieldgate ports -w                   plug it in and see it come\n  fieldgate ports --json | jq -r '.ports[].stable'\n\nThe first column goes into the configuration: it names the adapter, or its USB socket,\nwhatever number the kernel gives it.\nExit: 1 no port. Next: fieldgate listen PORT, fieldgate scan PORT"
)]
pub struct Args {
    /// Built-in consoles too
    #[arg(long)]
    all: bool,
    /// Say it again whenever something changes
    #[arg(short, long)]
    watch: bool,
}

pub fn run(global: &Global, out: &Out, args: &Args) -> ExitCode {
    let look = || {
        let mut ports = ports::list(&Roots::default());
        name_daemon(&mut ports, &site::daemon_paths(global));
        ports
    };
    let mut ports = look();
    say(&ports, out, args);
    if !args.watch {
        return if listed(&ports, args.all).next().is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    loop {
        std::thread::park_timeout(LOOK);
        let now = look();
        if now != ports {
            ports = now;
            if !out.json {
                out.say("");
            }
            say(&ports, out, args);
        }
    }
}

/// The daemon says which ports it holds, also to users who may not look into its process.
fn name_daemon(ports: &mut [Port], held: &[std::path::PathBuf]) {
    for port in ports {
        let is_held = held.iter().any(|path| site::is_same(path, &port.path));
        if is_held && port.held_by.is_empty() {
            port.held_by.push("fieldgate".into());
        }
    }
}

fn listed(ports: &[Port], all: bool) -> impl Iterator<Item = &Port> {
    ports.iter().filter(move |p| all || !(p.is_console && p.usb.is_none()))
}

fn say(ports: &[Port], out: &Out, args: &Args) {
    if out.json {
        out.say(&document(ports, args.all).to_string());
        return;
    }
    let is_cut = std::io::IsTerminal::is_terminal(&std::io::stdout());
    // Rows are cut to a narrow terminal; what is said below them wraps.
    let text = render(ports, out, args.all, is_cut);
    let (rows, hints) = text.trim_end().split_once("\n\n").unwrap_or((text.trim_end(), ""));
    out.table(rows);
    if !hints.is_empty() {
        out.say(&format!("\n{hints}"));
    }
    if let Some(port) = listed(ports, args.all).find(|p| p.is_free()) {
        out.next(&format!("fieldgate scan {}", port.stable.display()));
    }
}

fn document(ports: &[Port], all: bool) -> Value {
    let rows: Vec<Value> = listed(ports, all)
        .map(|p| {
            let usb = p.usb.as_ref().map(|u| json!({"vendor": u.vendor, "product": u.product, "serial": u.serial, "says": u.says}));
            let permission = if p.permission == Permission::Granted { "granted" } else { "missing" };
            json!({"stable": p.stable, "path": p.path, "chip": p.chip, "usb": usb, "held_by": p.held_by, "permission": permission})
        })
        .collect();
    json!({"v": 1, "ports": rows})
}

/// Pure: the list in, the screen out.
fn render(ports: &[Port], out: &Out, all: bool, is_cut: bool) -> String {
    let mut s = String::new();
    let rows: Vec<(&Port, String)> =
        listed(ports, all).map(|p| (p, if is_cut { cut(&p.stable) } else { p.stable.display().to_string() })).collect();
    if rows.is_empty() {
        s.push_str("No serial port here. Plug the adapter in; fieldgate ports -w shows it come.\n");
    } else {
        let mut table = Table::new(&[left("PORT"), left("NOW AT").rank(1), left("CHIP").rank(2), left("HELD BY").text(12)]);
        for (p, stable) in rows {
            let (word, held) = state(p);
            table.row(format!("{} ", out.glyph(word)), [stable, p.name.clone(), p.chip.clone(), held]);
        }
        s.push_str(&table.text(out));
    }
    let hints = hints(ports, all);
    if !hints.is_empty() {
        let _ = write!(s, "\n{hints}");
    }
    s
}

/// The glyph's word and the last column.
fn state(p: &Port) -> (&'static str, String) {
    let held = if p.held_by.is_empty() { "free".to_owned() } else { p.held_by.join(", ") };
    match &p.permission {
        Permission::Missing { .. } => ("down", format!("{held}, and you may not open it")),
        Permission::Granted if p.is_console && p.held_by.is_empty() => ("down", "kernel console".into()),
        Permission::Granted if p.held_by.is_empty() || p.held_by == ["fieldgate"] => ("up", held),
        Permission::Granted => ("down", held),
    }
}

/// `/dev/serial/by-path/…usb-0:1.3:1.0-port0`: the controller before the USB socket is the same for all.
fn cut(stable: &Path) -> String {
    let text = stable.display().to_string();
    match (text.split_once("by-path/"), text.find("usb-")) {
        (Some((dir, _)), Some(at)) => format!("{dir}by-path/…{}", &text[at..]),
        _ => text,
    }
}

fn hints(ports: &[Port], all: bool) -> String {
    let mut s = String::new();
    if let Some(p) = listed(ports, all).find(|p| p.lacks_serial()) {
        let _ = writeln!(
            s,
            "{} adapters have no serial number of their own: {} is named by its USB socket;\nlabel the socket.",
            p.chip, p.name
        );
    }
    for p in listed(ports, all) {
        if let Permission::Missing { group } = &p.permission {
            let _ = writeln!(s, "No permission to open {}: sudo usermod -aG {group} $USER, then log in again.", p.name);
        }
    }
    let consoles: Vec<&Port> = ports.iter().filter(|p| p.is_console && p.usb.is_none()).collect();
    for p in consoles {
        let what = if p.held_by.iter().any(|h| h == "getty") { "a login console" } else { "a console of the kernel" };
        let not = if all { "" } else { " and not listed; --all shows it" };
        let free =
            if p.name.starts_with("ttyAMA") { "raspi-config frees it" } else { "take console= off the kernel's command line to free it" };
        let _ = writeln!(s, "{} is {what}{not}; {free}.", p.name);
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::ports::Usb;

    fn port(stable: &str, name: &str, chip: &str, serial: Option<&str>, held_by: &[&str]) -> Port {
        let usb = Usb { vendor: "0403".into(), product: "6001".into(), serial: serial.map(Into::into), says: "FTDI".into() };
        Port {
            name: name.into(),
            path: format!("/dev/{name}").into(),
            stable: stable.into(),
            chip: chip.into(),
            usb: name.starts_with("ttyUSB").then_some(usb),
            held_by: held_by.iter().map(|h| (*h).to_owned()).collect(),
            permission: Permission::Granted,
            is_console: name.starts_with("ttyAMA"),
        }
    }

    fn ports() -> Vec<Port> {
        vec![
            port("/dev/serial/by-id/usb-FTDI_A50285BI-if00-port0", "ttyUSB0", "FT232R", Some("A50285BI"), &["fieldgate"]),
            port("/dev/serial/by-path/platform-fd500000.pcie-usb-0:1.3:1.0-port0", "ttyUSB1", "CH340", None, &[]),
            port("/dev/ttyAMA0", "ttyAMA0", "PL011", None, &["getty"]),
        ]
    }

    #[test]
    fn the_table_is_the_one_of_the_screens() {
        assert_eq!(
            render(&ports(), &Out::plain(), true, true),
            "  PORT                                            NOW AT   CHIP    HELD BY\n\
             ● /dev/serial/by-id/usb-FTDI_A50285BI-if00-port0  ttyUSB0  FT232R  fieldgate\n\
             ● /dev/serial/by-path/…usb-0:1.3:1.0-port0        ttyUSB1  CH340   free\n\
             ✕ /dev/ttyAMA0                                    ttyAMA0  PL011   getty\n\
             \n\
             CH340 adapters have no serial number of their own: ttyUSB1 is named by its USB socket;\nlabel the socket.\n\
             ttyAMA0 is a login console; raspi-config frees it.\n"
        );
        let short = render(&ports(), &Out::plain(), false, false);
        assert!(!short.contains("✕") && short.contains("platform-fd500000") && short.contains("--all shows it"), "{short}");
        assert!(render(&[], &Out::plain(), false, true).starts_with("No serial port here"));
    }

    #[test]
    fn missing_permission_is_a_row_and_a_remedy() {
        let mut ports = ports();
        ports[1].permission = Permission::Missing { group: "uucp".into() };
        let s = render(&ports, &Out::plain(), false, true);
        assert!(s.contains("✕ /dev/serial/by-path/…usb-0:1.3:1.0-port0        ttyUSB1  CH340   free, and you may not open it"), "{s}");
        assert!(s.contains("sudo usermod -aG uucp $USER"), "{s}");
    }

    #[test]
    fn the_document_names_what_scripts_need() {
        let d = document(&ports(), false);
        assert_eq!(d["ports"].as_array().map(Vec::len), Some(2));
        assert_eq!(d["ports"][0]["usb"]["serial"], "A50285BI");
        assert_eq!((&d["ports"][1]["permission"], &d["ports"][1]["held_by"]), (&json!("granted"), &json!([])));
    }

    #[test]
    fn the_daemon_is_named_to_those_who_cannot_see_its_process() {
        let mut ports = ports();
        name_daemon(&mut ports, &["/dev/ttyUSB1".into()]);
        assert_eq!(ports[1].held_by, ["fieldgate"]);
    }
}

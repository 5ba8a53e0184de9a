//! The serial ports of this machine: their stable names, their chip, who holds them, whether they may be opened.
//!
//! Read from sysfs, `/dev/serial` and `/proc` alone: opening a port moves its control lines, and that resets devices.
//! The roots are given, so that tests use trees of their own.

mod chip;
mod holders;

use rustix::fs::Access;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where to look.
#[derive(Debug, Clone)]
pub struct Roots {
    pub sys: PathBuf,
    pub dev: PathBuf,
    pub proc: PathBuf,
    pub run: PathBuf,
    pub etc: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots { sys: "/sys".into(), dev: "/dev".into(), proc: "/proc".into(), run: "/run".into(), etc: "/etc".into() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `ttyUSB0`.
    pub name: String,
    /// `/dev/ttyUSB0`, which may be another adapter after a replug.
    pub path: PathBuf,
    /// The name for the configuration: by-id, by-path if that is not unique, or the path of a port that is built in.
    pub stable: PathBuf,
    pub chip: String,
    pub usb: Option<Usb>,
    /// Programs that hold it, as far as this user may see.
    pub held_by: Vec<String>,
    pub permission: Permission,
    /// The kernel or a login speaks on it.
    pub is_console: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usb {
    /// As USB says it: four hexadecimal digits.
    pub vendor: String,
    pub product: String,
    pub serial: Option<String>,
    /// What the adapter calls itself.
    pub says: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    Granted,
    /// Members of this group may.
    Missing {
        group: String,
    },
}

impl Port {
    pub fn is_free(&self) -> bool {
        self.held_by.is_empty() && !self.is_console && self.permission == Permission::Granted
    }

    /// Its by-id name would be that of every adapter of this kind.
    pub fn lacks_serial(&self) -> bool {
        self.usb.as_ref().is_some_and(|usb| !is_unique(usb.serial.as_deref()))
    }
}

/// A serial number of zeros, and 0001 as CP2102 adapters leave the factory, tells nothing apart.
fn is_unique(serial: Option<&str>) -> bool {
    serial.is_some_and(|s| !s.is_empty() && !s.bytes().all(|b| b == b'0') && s != "0001")
}

/// All ports with hardware behind them; adapters first, by their stable names.
pub fn list(roots: &Roots) -> Vec<Port> {
    let mut ports: Vec<Port> = names(&roots.sys.join("class/tty")).into_iter().filter_map(|name| port(roots, &name)).collect();
    holders::find(roots, &mut ports);
    ports.sort_by(|a, b| (a.usb.is_none(), &a.stable).cmp(&(b.usb.is_none(), &b.stable)));
    ports
}

/// Programs that hold this port, as far as this user may see, ourselves left out.
pub fn held_by(roots: &Roots, path: &Path) -> Vec<String> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    list(roots).into_iter().find(|p| p.path == real).map(|p| p.held_by).unwrap_or_default()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn port(roots: &Roots, name: &str) -> Option<Port> {
    let class = roots.sys.join("class/tty").join(name);
    // Virtual consoles and pseudo-terminals have no device behind them.
    let device = class.join("device").canonicalize().ok()?;
    // Four ports of an 8250 driver exist on every PC, with a chip or without: type 0 is none.
    if read(&class.join("type")).as_deref() == Some("0") {
        return None;
    }
    let path = roots.dev.join(name);
    if !path.exists() {
        return None;
    }
    let usb = usb(&device, &roots.sys);
    let driver = fs::read_link(device.join("driver")).ok().and_then(|d| Some(d.file_name()?.to_string_lossy().into_owned()));
    let chip = chip::name(usb.as_ref(), driver.as_deref().unwrap_or_default(), name);
    let is_console = read(&class.join("console")).as_deref() == Some("Y");
    let permission = permission(roots, &path);
    let mut port = Port { name: name.to_owned(), stable: path.clone(), path, chip, usb, held_by: Vec::new(), permission, is_console };
    let by_id = link(roots, "by-id", name);
    let by_path = link(roots, "by-path", name);
    let best = if port.lacks_serial() { by_path.or(by_id) } else { by_id.or(by_path) };
    port.stable = best.unwrap_or(port.stable);
    Some(port)
}

/// The name of the port in `/dev/serial/by-id` or `by-path`.
fn link(roots: &Roots, kind: &str, name: &str) -> Option<PathBuf> {
    let dir = roots.dev.join("serial").join(kind);
    let leads_here = |link: &PathBuf| fs::read_link(link).is_ok_and(|to| to.file_name().is_some_and(|n| n == name));
    let links = names(&dir).into_iter().map(|n| dir.join(n)).filter(leads_here);
    // Newer udev adds names with the USB revision; the shortest is the one that has always been there.
    links.min_by_key(|link| link.as_os_str().len())
}

/// The USB device above a port, if any.
fn usb(device: &Path, sys: &Path) -> Option<Usb> {
    let above = device.ancestors().take_while(|dir| *dir != sys).find(|dir| dir.join("idVendor").exists())?;
    let text = |name: &str| read(&above.join(name)).filter(|t| !t.is_empty());
    let says = [text("manufacturer"), text("product")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    Some(Usb { vendor: text("idVendor")?, product: text("idProduct")?, serial: text("serial"), says })
}

fn permission(roots: &Roots, path: &Path) -> Permission {
    match rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Permission::Granted,
        Err(_) => Permission::Missing { group: group(roots, path).unwrap_or_else(|| "dialout".into()) },
    }
}

fn group(roots: &Roots, path: &Path) -> Option<String> {
    let gid = rustix::fs::stat(path).ok()?.st_gid.to_string();
    let groups = fs::read_to_string(roots.etc.join("group")).ok()?;
    groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|g| g.get(2) == Some(&gid.as_str())).map(|g| g[0].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A machine with an FT232R, two CH340 without serial numbers, a built-in UART with a login, and an empty 8250 place.
    struct Machine {
        _dir: tempfile::TempDir,
        roots: Roots,
    }

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("in a directory")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn tie(link: &Path, to: &str) {
        fs::create_dir_all(link.parent().expect("in a directory")).expect("made");
        symlink(to, link).expect("linked");
    }

    impl Machine {
        fn new() -> Machine {
            let dir = tempfile::tempdir().expect("a directory");
            let base = dir.path().canonicalize().expect("real");
            let at = |name: &str| base.join(name);
            let roots = Roots { sys: at("sys"), dev: at("dev"), proc: at("proc"), run: at("run"), etc: at("etc") };
            let machine = Machine { _dir: dir, roots };
            machine.adapter("ttyUSB0", "1-1.2", ["0403", "6001", "A50285BI"], "ftdi_sio", "usb-FTDI_A50285BI-if00-port0");
            machine.adapter("ttyUSB1", "1-1.3", ["1a86", "7523", ""], "ch341-uart", "usb-1a86_USB_Serial-if00-port0");
            machine.built_in("ttyAMA0", "uart-pl011", "Y", "32");
            machine.built_in("ttyS1", "serial8250", "N", "0");
            fs::create_dir_all(machine.roots.sys.join("class/tty/tty1")).expect("made");
            put(&machine.roots.proc.join("812/comm"), "agetty\n");
            tie(&machine.roots.proc.join("812/fd/0"), &machine.roots.dev.join("ttyAMA0").display().to_string());
            put(&machine.roots.proc.join("901/comm"), "fieldgate\n");
            tie(&machine.roots.proc.join("901/fd/11"), &machine.roots.dev.join("ttyUSB0").display().to_string());
            tie(&machine.roots.proc.join("901/fd/12"), &machine.roots.dev.join("ttyUSB0").display().to_string());
            machine
        }

        fn adapter(&self, name: &str, socket: &str, [vendor, product, serial]: [&str; 3], driver: &str, id: &str) {
            let (sys, dev) = (&self.roots.sys, &self.roots.dev);
            let usb = sys.join(format!("devices/usb1/{socket}"));
            put(&usb.join("idVendor"), &format!("{vendor}\n"));
            put(&usb.join("idProduct"), &format!("{product}\n"));
            if !serial.is_empty() {
                put(&usb.join("serial"), &format!("{serial}\n"));
            }
            put(&usb.join("product"), "USB Serial\n");
            let place = usb.join(format!("{socket}:1.0/{name}"));
            tie(&place.join("driver"), &format!("../../../../bus/usb-serial/drivers/{driver}"));
            tie(&sys.join(format!("class/tty/{name}/device")), &place.display().to_string());
            put(&dev.join(name), "");
            tie(&dev.join("serial/by-id").join(id), &format!("../../{name}"));
            let port = socket.trim_start_matches("1-");
            tie(&dev.join(format!("serial/by-path/platform-usb-0:{port}:1.0-port0")), &format!("../../{name}"));
            tie(&dev.join(format!("serial/by-path/platform-usbv2-0:{port}:1.0-port0")), &format!("../../{name}"));
        }

        fn built_in(&self, name: &str, driver: &str, console: &str, kind: &str) {
            let sys = &self.roots.sys;
            let place = sys.join(format!("devices/platform/{name}.serial"));
            tie(&place.join("driver"), &format!("../../../bus/platform/drivers/{driver}"));
            let class = sys.join("class/tty").join(name);
            tie(&class.join("device"), &place.display().to_string());
            put(&class.join("console"), console);
            put(&class.join("type"), kind);
            put(&self.roots.dev.join(name), "");
        }
    }

    #[test]
    fn ports_are_listed_with_stable_name_chip_and_holder() {
        let machine = Machine::new();
        let ports = list(&machine.roots);
        let shown: Vec<String> = ports
            .iter()
            .map(|p| {
                let stable = p.stable.strip_prefix(&machine.roots.dev).expect("in dev").display();
                format!("{stable} {} {} held by {:?}{}", p.name, p.chip, p.held_by, if p.is_console { ", console" } else { "" })
            })
            .collect();
        assert_eq!(
            shown,
            [
                "serial/by-id/usb-FTDI_A50285BI-if00-port0 ttyUSB0 FT232R held by [\"fieldgate\"]",
                "serial/by-path/platform-usb-0:1.3:1.0-port0 ttyUSB1 CH340 held by []",
                "ttyAMA0 ttyAMA0 PL011 held by [\"getty\"], console",
            ]
        );
        assert!(ports[1].lacks_serial() && ports[1].is_free() && !ports[0].lacks_serial() && !ports[2].is_free());
        assert_eq!(held_by(&machine.roots, &ports[0].stable), ["fieldgate"]);
    }

    #[test]
    fn locks_of_programs_that_cannot_be_looked_into_are_seen() {
        let machine = Machine::new();
        put(&machine.roots.run.join("lock/LCK..ttyUSB1"), "      4711\n");
        put(&machine.roots.proc.join("4711/comm"), "minicom\n");
        assert_eq!(list(&machine.roots)[1].held_by, ["minicom"]);
        put(&machine.roots.proc.join("4711/comm"), "");
        fs::remove_file(machine.roots.proc.join("4711/comm")).expect("removed");
        assert!(list(&machine.roots)[1].held_by.is_empty(), "a lock that a dead program left behind");
    }

    #[test]
    fn serial_numbers_that_every_adapter_has_are_none() {
        for (serial, is) in [(None, false), (Some("0"), false), (Some("0000"), false), (Some("0001"), false), (Some("A50285BI"), true)] {
            assert_eq!(is_unique(serial), is, "{serial:?}");
        }
    }

    #[test]
    fn a_machine_without_ports_has_an_empty_list() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        assert!(list(&Roots { sys: at("sys"), dev: at("dev"), proc: at("proc"), run: at("run"), etc: at("etc") }).is_empty());
    }
}

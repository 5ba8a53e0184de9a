//! A network: which addresses have a Modbus port open, then who answers there. Gently: few connections at once, and never
//! more than a user asked for.

use super::{Desk, Total, strategy::Wanted};
use crate::{
    cli::{
        progress::Look,
        site::{Framing, Target, Trouble, open_place, resolve},
    },
    limits,
};
use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet, time::timeout};

/// What devices on TCP are addressed by, likely first.
const UNITS: [u8; 8] = [1, 255, 0, 247, 2, 3, 4, 5];
/// So many of them are asked again where nobody answered.
const AGAIN: usize = 4;
const CONNECT: Duration = Duration::from_millis(500);
const CONNECT_FAST: Duration = Duration::from_millis(200);

pub fn scan(desk: &mut Desk<'_>) -> Result<Total, Trouble> {
    let (hosts, ports) = places(&desk.args.target, &desk.args.tcp_ports)?;
    if hosts.len() > limits::SCAN_ADDRESSES && !desk.args.yes {
        let message = format!("{} are {} addresses", desk.args.target, crate::cli::out::count(hosts.len() as u64));
        return Err(Trouble::new("too-many", 2, message, "add --yes if this network is yours to scan"));
    }
    desk.say_head(&format!(
        "Scanning {} on port{} {}: reads only, nothing is written",
        desk.args.target,
        if ports.len() == 1 { "" } else { "s" },
        ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
    ));
    let open = open_ports(desk, &hosts, &ports)?;
    let mut total = Total { tries: (hosts.len() * ports.len()) as u64 - open.len() as u64, ..Total::default() };
    let (first, second) = looks(desk.args);
    let mut mute = Vec::new();
    for (n, place) in open.iter().enumerate() {
        if desk.interrupt.came() {
            return Ok(total);
        }
        let rest = small(open.len() - n - 1);
        desk.ahead = first.time() * rest + second.as_ref().map_or(Duration::ZERO, Wanted::time) * (rest + small(mute.len()) + 1);
        if ask(desk, place, &first, &mut total)? {
            mute.push(place);
        }
    }
    let Some(second) = second.filter(|_| !mute.is_empty()) else { return Ok(total) };
    let places = if mute.len() == 1 { "1 port is open and mute".into() } else { format!("{} ports are open and mute", mute.len()) };
    desk.say_head(&format!("{places}: asking again, with {} s for an answer", second.patience.as_secs_f64()));
    for (n, place) in mute.iter().enumerate() {
        if desk.interrupt.came() {
            break;
        }
        desk.ahead = second.time() * small(mute.len() - n - 1);
        ask(desk, place, &second, &mut total)?;
    }
    Ok(total)
}

/// What each host is asked, and what those are asked again that took the connection and said nothing. Who chose the wait
/// gets no second look.
fn looks(args: &super::Args) -> (Wanted, Option<Wanted>) {
    let units = args.units.clone().map_or_else(|| UNITS.to_vec(), |u| u.0);
    // Most devices answer to any unit: the first one says enough, unless units were asked for.
    let stop_at = args.stop_at.or(args.units.is_none().then_some(1));
    let first = Wanted { settings: vec![None], units, stop_at, patience: args.patience(300, 100) };
    let units: Vec<u8> = first.units.iter().take(AGAIN).copied().collect();
    let second = Wanted { units, patience: limits::SCAN_SECOND_LOOK, ..first.clone() };
    (first, Some(second).filter(|_| args.wait.is_none() && !args.fast))
}

impl Wanted {
    /// Of one host in both framings, if it says nothing.
    fn time(&self) -> Duration {
        self.patience * small(self.units.len()) * 2
    }
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Modbus TCP first; if nothing there speaks it, RTU frames over the connection, as transparent serial servers take them.
/// Whether it took the connection and said nothing.
fn ask(desk: &mut Desk<'_>, (host, port): &(String, u16), wanted: &Wanted, total: &mut Total) -> Result<bool, Trouble> {
    let mut mute = false;
    for (framing, word) in [(Framing::Mbap, "mbap"), (Framing::Rtu, "rtu")] {
        let target = Target { what: format!("{host}:{port}"), framing, ..Target::default() };
        let mut bus = open_place(desk.global, desk.out, &resolve(desk.global, &target)?)?;
        // A peer that goes away is a peer that speaks something else.
        let Ok(swept) = desk.sweep(bus.as_mut(), wanted.clone(), Some(word)) else { continue };
        total.add(&swept);
        if swept.found > 0 || swept.garbled > 0 || desk.interrupt.came() {
            return Ok(false);
        }
        mute = true;
    }
    Ok(mute)
}

/// Addresses and ports of what was typed.
fn places(target: &str, ports: &[u16]) -> Result<(Vec<String>, Vec<u16>), Trouble> {
    let mut hosts = Vec::new();
    let mut named = Vec::new();
    for part in target.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let part = match part.rsplit_once(':') {
            Some((host, port)) => {
                named.push(port.parse::<u16>().map_err(|_| usage(&format!("{port} is no port")))?);
                host
            }
            None => part,
        };
        hosts.extend(addresses(part)?);
        if hosts.len() > limits::SCAN_ADDRESSES_MAX {
            return Err(usage(&format!("{target} are more than {} addresses", limits::SCAN_ADDRESSES_MAX)));
        }
    }
    if hosts.is_empty() {
        return Err(usage("no address was given"));
    }
    Ok((hosts, if named.is_empty() { ports.to_vec() } else { named }))
}

fn usage(message: &str) -> Trouble {
    let remedy = "fieldgate scan 192.168.1.0/24, 192.168.1.10-20, a host name, or a port such as /dev/ttyUSB0";
    Trouble::new("usage", 2, message, remedy)
}

fn addresses(text: &str) -> Result<Vec<String>, Trouble> {
    let show = |first: u32, last: u32| (first..=last).map(|n| Ipv4Addr::from(n).to_string()).collect();
    let whole = |n: u32| n as usize <= limits::SCAN_ADDRESSES_MAX;
    if let Some((base, bits)) = text.split_once('/') {
        let base: Ipv4Addr = base.parse().map_err(|_| usage(&format!("{base} is no IPv4 address")))?;
        let bits: u32 =
            bits.parse().ok().filter(|b| (8..=32).contains(b)).ok_or_else(|| usage(&format!("/{bits} is no network from /8 to /32")))?;
        let size = 1u64 << (32 - bits);
        let first = u32::from(base) & u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        let last = first + u32::try_from(size - 1).unwrap_or(u32::MAX);
        if !whole(last - first) {
            return Err(usage(&format!("{text} has more than {} addresses", limits::SCAN_ADDRESSES_MAX)));
        }
        // The first names the network, the last calls everybody in it.
        return Ok(if bits < 31 { show(first + 1, last - 1) } else { show(first, last) });
    }
    if let Some((from, to)) = text.split_once('-').filter(|(from, _)| from.parse::<Ipv4Addr>().is_ok()) {
        let from: Ipv4Addr = from.parse().map_err(|_| usage(text))?;
        let [a, b, c, _] = from.octets();
        let to = to.parse::<u8>().map(|d| Ipv4Addr::new(a, b, c, d)).or_else(|_| to.parse::<Ipv4Addr>());
        let to = to.map_err(|_| usage(&format!("{text} is no range of addresses")))?;
        let (from, to) = (u32::from(from), u32::from(to));
        if from > to || !whole(to - from) {
            return Err(usage(&format!("{text} is no range of addresses")));
        }
        return Ok(show(from, to));
    }
    Ok(vec![text.to_owned()])
}

/// Where something accepts a connection, in the order of addresses and ports.
fn open_ports(desk: &mut Desk<'_>, hosts: &[String], ports: &[u16]) -> Result<Vec<(String, u16)>, Trouble> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| usage(&format!("cannot start the runtime: {e}")))?;
    let within = if desk.args.fast { CONNECT_FAST } else { CONNECT };
    let all = hosts.len() * ports.len();
    runtime.block_on(async {
        let places = Arc::new(Semaphore::new(limits::SCAN_CONNECTS));
        let mut tries = JoinSet::new();
        let mut open = BTreeMap::new();
        let places_to_try = hosts.iter().enumerate().flat_map(|(n, h)| ports.iter().map(move |p| (n, h, *p)));
        for (begun, (n, host, port)) in places_to_try.enumerate() {
            if desk.interrupt.came() {
                break;
            }
            let Ok(place) = places.clone().acquire_owned().await else { break };
            let (host, key) = (host.clone(), (n, port));
            tries.spawn(async move {
                let connected = timeout(within, TcpStream::connect((host.as_str(), port))).await;
                drop(place);
                connected.is_ok_and(|c| c.is_ok()).then_some((key, host))
            });
            while let Some(done) = tries.try_join_next() {
                open.extend(done.ok().flatten());
            }
            tokio::time::sleep(limits::SCAN_CONNECT_EVERY).await;
            let (elapsed, found) = (desk.progress.elapsed(), open.len());
            desk.progress.show(|| connecting(begun, all, found, elapsed));
        }
        while let Some(done) = tries.join_next().await {
            open.extend(done.ok().flatten());
        }
        Ok(open.into_iter().map(|((_, port), host)| (host, port)).collect())
    })
}

#[allow(clippy::cast_precision_loss)] // addresses
fn connecting(begun: usize, all: usize, open: usize, elapsed: Duration) -> Look {
    let part = begun as f64 / all.max(1) as f64;
    let left = elapsed.mul_f64((1.0 - part) / part.max(0.001));
    Look { what: format!("connecting {begun:>5} of {all}"), part, so_far: format!("{open} open"), left: Some(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<(usize, &str, &str)>) {
        let got = addresses(text).ok().map(|a| (a.len(), a[0].clone(), a[a.len() - 1].clone()));
        assert_eq!(got, want.map(|(n, first, last)| (n, first.to_owned(), last.to_owned())), "{text}");
    }

    #[test]
    fn networks_and_ranges_become_addresses() {
        check("192.168.1.0/24", Some((254, "192.168.1.1", "192.168.1.254")));
        check("192.168.1.77/30", Some((2, "192.168.1.77", "192.168.1.78")));
        check("10.0.0.5/32", Some((1, "10.0.0.5", "10.0.0.5")));
        check("10.0.0.10-12", Some((3, "10.0.0.10", "10.0.0.12")));
        check("10.0.0.250-10.0.1.2", Some((9, "10.0.0.250", "10.0.1.2")));
        check("inverter-1.local", Some((1, "inverter-1.local", "inverter-1.local")));
        check("10.0.0.0/8", None);
        check("10.0.0.9-3", None);
        check("10.0.0.0/40", None);
    }

    #[test]
    fn a_port_behind_the_host_replaces_the_usual_ones() {
        let (hosts, ports) = places("10.0.0.5:1502", &[502]).ok().unwrap();
        assert_eq!((hosts.len(), ports.as_slice()), (1, &[1502][..]));
        assert!(places("10.0.0.5:x", &[502]).is_err());
    }
}

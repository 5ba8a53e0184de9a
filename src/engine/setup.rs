//! From what the operator wrote to the rules of the state machines.

use crate::{
    config::{
        Api, Config, DataType, Device, Framed, Mode, Names, Point, Report, Route, RouteKind, Watching, framed::FramedPoint, mqtt::Unknown,
    },
    logic::{
        commands::{Commands, Kind, PointRule, Takes, WriteRule},
        counter::{self, Counters},
        registry::{LOCAL_BROKER, Rules, Watch},
        report::{Filter, Rule},
    },
    model::{DeviceId, LineId, PUSHED, PointId},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The way by which a device speaks that no file names, as the configuration knows it.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    Route(&'a Route),
    Pushed(&'a Api),
}

impl<'a> Way<'a> {
    /// `None`: it is not in the configuration.
    pub fn find(config: &'a Config, via: &str) -> Option<Self> {
        if via == PUSHED {
            return config.api.as_ref().map(Self::Pushed);
        }
        config.mqtt.iter().flat_map(|m| &m.routes).find(|r| r.id.as_str() == via).map(Self::Route)
    }

    pub fn unknown(self) -> Unknown {
        match self {
            Self::Route(route) => route.unknown,
            Self::Pushed(api) => api.unknown,
        }
    }

    /// The silence that it allows its devices.
    pub fn offline_after(self) -> Option<Duration> {
        match self {
            Self::Route(route) => route.offline_after,
            Self::Pushed(api) => Some(api.offline_after),
        }
    }
}

/// How long a batch waits for company where no uplink says it.
const LINGER: Duration = Duration::from_millis(50);

pub(super) fn rules(config: &Config) -> Rules {
    let Watching { flaps, flap_window, stable_for, .. } = config.watch;
    Rules { flaps, flap_window, stable_for }
}

pub(super) fn watch_framed(device: &Framed, default: &Watching) -> Watch {
    let poll = device.request.is_some().then_some(device.poll);
    let alarm_after = device.alarm_after.or(default.alarm_after);
    Watch { line: Some(device.line.clone()), poll, offline_after: Some(device.offline_after), alarm_after, pinged: false }
}

pub(super) fn watch(device: &Device, default: &Watching) -> Watch {
    let (poll, offline_after) = (Some(device.poll), Some(device.offline_after));
    let alarm_after = device.alarm_after.or(default.alarm_after);
    Watch { line: Some(device.line.clone()), poll, offline_after, alarm_after, pinged: false }
}

/// For devices that messages registered.
pub(super) fn guest_watch(offline_after: Option<Duration>, way: Option<Way>, default: &Watching) -> Watch {
    // Who reports by HTTP needs no broker to be heard.
    let (line, route) = match way {
        Some(Way::Pushed(_)) => (None, None),
        Some(Way::Route(route)) => (LineId::parse(LOCAL_BROKER).ok(), Some(route)),
        None => (LineId::parse(LOCAL_BROKER).ok(), None),
    };
    let alarm_after = route.and_then(|r| r.alarm_after).or(default.alarm_after);
    let pinged = route.is_some_and(|r| r.ping.is_some());
    Watch { line, poll: None, offline_after, alarm_after, pinged }
}

/// Of what a batch waits, the multiple that the readings of a line without a pause may wait before they come to it.
const COMPANY: u32 = 3;
const COMPANY_MAX: Duration = Duration::from_millis(150);

pub fn company(config: &Config) -> Duration {
    (linger(config) * COMPANY).min(COMPANY_MAX)
}

/// Longest time that a reading waits in memory before it is sealed.
pub fn unsealed(config: &Config) -> Duration {
    linger(config) + company(config)
}

pub fn linger(config: &Config) -> Duration {
    config.uplinks.iter().map(|u| u.linger).min().unwrap_or(LINGER)
}

pub(super) fn filter(config: &Config) -> Filter {
    let mut filter = Filter::default();
    // What goes upstream as windows only, also of devices that nobody configured.
    let mut replaced: BTreeMap<&DeviceId, Vec<(PointId, Rule)>> = BTreeMap::new();
    for a in config.analytics.iter().filter(|a| a.replace) {
        replaced.entry(&a.of.device).or_default().push((a.of.point.clone(), Rule { never: true, ..Rule::default() }));
    }
    for device in &config.devices {
        let own = device.points.iter().map(|p| (p.id.clone(), report(&p.report)));
        filter.set(&device.id, own.chain(replaced.remove(&device.id).unwrap_or_default()));
    }
    for device in &config.framed {
        let own = device.points.iter().map(|p| (p.id.clone(), report(&p.report)));
        filter.set(&device.id, own.chain(replaced.remove(&device.id).unwrap_or_default()));
    }
    for (device, rules) in replaced {
        filter.set(device, rules);
    }
    filter
}

pub(super) fn counters(config: &Config) -> Counters {
    let mut counters = Counters::default();
    for device in &config.devices {
        counters.set(&device.id, device.points.iter().filter_map(|p| Some((p.id.clone(), counter(p)?, p.delta_id()))));
    }
    counters
}

/// In steps of what the device counts: of its last decimal, or of a millionth where it counts in floating point.
#[allow(clippy::cast_possible_truncation)] // a float cast saturates
fn counter(point: &Point) -> Option<counter::Rule> {
    let config = point.counter?;
    let inverse = (1.0 / point.scale.abs()).round();
    let whole = point.kind.is_whole() && point.scale_register.is_none();
    let decimal = (0..=12).map(|n| 10f64.powi(n)).any(|ten| ten == inverse) && (inverse * point.scale.abs() - 1.0).abs() < 1e-12;
    let per_unit = match (whole, decimal) {
        (true, true) if inverse > 1.0 || point.offset.fract() == 0.0 => inverse,
        _ => 1e6,
    };
    Some(counter::Rule {
        per_unit,
        modulo: config.modulo.map(|m| (m * per_unit).round() as i128),
        daily: config.daily,
        confirm: config.confirm,
        max_per_s: config.max_per_s.map(|m| m * per_unit),
    })
}

fn report(report: &Report) -> Rule {
    Rule { on_change: report.on_change, deadband: report.deadband, at_least_every: report.at_least_every, never: false }
}

/// What follows from the points of each configured device, made once for those that share their list.
pub(super) fn by_kind<T>(config: &Config, make: impl Fn(&[Point]) -> Arc<T>) -> Vec<Arc<T>>
where
    T: ?Sized,
{
    let mut made: BTreeMap<*const Point, Arc<T>> = BTreeMap::new();
    let of = |d: &Device| Arc::clone(made.entry(d.points.as_ptr()).or_insert_with(|| make(&d.points)));
    config.devices.iter().map(of).collect()
}

/// Also for a write while the daemon is stopped: the same limits.
pub fn commands(config: &Config) -> Commands {
    let rules = by_kind(config, |points| Arc::new(points.iter().map(|p| (p.id.clone(), rule(p))).collect()));
    let takes = config.devices.iter().zip(rules).map(|(d, rules)| (d.id.clone(), Takes::Points(rules)));
    let framed = |d: &Framed| Takes::Points(Arc::new(d.points.iter().map(|p| (p.id.clone(), framed_rule(p))).collect()));
    let framed = config.framed.iter().map(|d| (d.id.clone(), framed(d)));
    let routes = config.mqtt.iter().flat_map(|m| &m.routes);
    let reachable = routes.into_iter().any(|r| matches!(r.kind, RouteKind::Command { .. }));
    let reachable = reachable || config.api.is_some();
    Commands::new(takes.chain(framed).collect(), if reachable { Takes::Anything } else { Takes::Nothing })
}

fn rule(point: &Point) -> PointRule {
    let write = point.write.as_ref().map(|w| {
        let (least, most) = range(point);
        Box::new(WriteRule {
            kind: kind(point),
            min: w.min.map_or(least, |m| m.max(least)),
            max: w.max.map_or(most, |m| m.min(most)),
            verify: w.verify,
            min_interval: w.min_interval,
        })
    });
    PointRule { write }
}

/// Nothing is read back: the device's own answer says whether it was done.
fn framed_rule(point: &FramedPoint) -> PointRule {
    let write = point.write.as_ref().map(|w| {
        Box::new(WriteRule {
            kind: if w.takes_number() { Kind::Number } else { Kind::Switch },
            min: w.min.unwrap_or(f64::MIN),
            max: w.max.unwrap_or(f64::MAX),
            verify: false,
            min_interval: w.min_interval,
        })
    });
    PointRule { write }
}

fn kind(point: &Point) -> Kind {
    if let Names::Values(words) = &point.names {
        return Kind::Words(words.iter().map(|(_, word)| Arc::clone(word)).collect());
    }
    match point.kind {
        DataType::Text(_) | DataType::Time(_) => Kind::Text,
        DataType::Bool => Kind::Switch,
        DataType::Bits(bits) if bits.count <= 1 => Kind::Switch,
        _ => Kind::Number,
    }
}

/// What the type can hold, in the point's own unit.
fn range(point: &Point) -> (f64, f64) {
    let (least, most) = match point.kind {
        DataType::Bool => return (0.0, 1.0),
        DataType::Bits(bits) => (0.0, f64::from(bits.count.min(16)).exp2() - 1.0),
        DataType::U8 => (0.0, f64::from(u8::MAX)),
        DataType::I8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
        DataType::U16 => (0.0, f64::from(u16::MAX)),
        DataType::I16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
        DataType::U32 => (0.0, f64::from(u32::MAX)),
        DataType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        DataType::U64 => (0.0, 64f64.exp2()),
        DataType::I64 => (-63f64.exp2(), 63f64.exp2()),
        DataType::F16 => (-65504.0, 65504.0),
        DataType::F32 => (f64::from(f32::MIN), f64::from(f32::MAX)),
        DataType::F64 => (f64::MIN, f64::MAX),
        DataType::Bcd(digits) => (0.0, 10f64.powi(digits.into()) - 1.0),
        DataType::M10k(registers) => (0.0, 10_000f64.powi(registers.into()) - 1.0),
        // They have no order to limit.
        DataType::Text(_) | DataType::Time(_) => return (f64::MIN, f64::MAX),
    };
    let (a, b) = (least * point.scale + point.offset, most * point.scale + point.offset);
    (a.min(b), a.max(b))
}

/// Where devices say their status under the very topic that we would use, on a broker that sends us our own messages,
/// our word would come back as theirs.
pub(super) fn would_hear_itself(config: &Config) -> bool {
    let Some(mqtt) = &config.mqtt else { return false };
    let is_ours = |topic: &str| covers(topic, &["devices", "status", "any"]);
    matches!(mqtt.mode, Mode::Broker { .. }) && mqtt.routes.iter().any(|r| is_ours(&r.topic))
}

/// Whether a route's topic, its places taken as wildcards, matches the levels.
fn covers(topic: &str, levels: &[&str]) -> bool {
    let mut pattern = topic.split('/');
    for level in levels {
        match pattern.next() {
            Some("#") => return true,
            Some(p) if p == "+" || p.starts_with('{') || p == *level => {}
            _ => return false,
        }
    }
    matches!(pattern.next(), None | Some("#"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Register, Table};
    use crate::model::PointId;

    #[test]
    fn a_route_that_covers_our_own_topic_is_seen() {
        let ours = ["devices", "status", "any"];
        for (topic, want) in [
            ("devices/status/{device}", true),
            ("devices/+/{device}", true),
            ("devices/#", true),
            ("#", true),
            ("devices/status/{device}/#", true),
            ("tele/{device}/LWT", false),
            ("devices/status", false),
            ("devices/status/{device}/x", false),
        ] {
            assert_eq!(covers(topic, &ours), want, "{topic}");
        }
    }

    #[test]
    fn the_type_bounds_what_may_be_written() {
        let check = |kind, scale, offset, want| {
            let register = Register { table: Table::Holding, address: 0 };
            let point = Point { scale, offset, ..Point::new(PointId::parse("p").unwrap(), register, kind) };
            assert_eq!(range(&point), want, "{kind:?} x {scale} + {offset}");
        };
        check(DataType::U16, 1.0, 0.0, (0.0, 65535.0));
        check(DataType::U16, -1.0, 10.0, (-65525.0, 10.0));
        check(DataType::I16, 0.5, 0.0, (-16384.0, 16383.5));
        check(DataType::Bits(crate::config::Bits { first: 4, count: 3 }), 1.0, 0.0, (0.0, 7.0));
        check(DataType::Bcd(4), 1.0, 0.0, (0.0, 9999.0));
        check(DataType::M10k(2), 1.0, 0.0, (0.0, 99_999_999.0));
    }

    #[test]
    fn counters_count_in_steps_of_their_last_decimal() {
        let check = |kind, scale, modulo, want: (f64, Option<i128>)| {
            let register = Register { table: Table::Holding, address: 0 };
            let config = crate::config::Counter { modulo, ..crate::config::Counter::default() };
            let point = Point { scale, counter: Some(config), ..Point::new(PointId::parse("p").unwrap(), register, kind) };
            let rule = counter(&point).unwrap();
            assert_eq!((rule.per_unit, rule.modulo), want, "{kind:?} x {scale}");
        };
        check(DataType::U32, 1.0, Some(4_294_967_296.0), (1.0, Some(1 << 32)));
        check(DataType::U32, 0.01, Some(10_000.0), (100.0, Some(1_000_000)));
        check(DataType::U16, 10.0, None, (1e6, None));
        check(DataType::F32, 1.0, Some(10_000.0), (1e6, Some(10_000_000_000)));
    }
}

//! What the registers of a chain mean: points for every model that is known, as if somebody had written the map.
//!
//! Points are called as in the SunSpec models, behind what the model is: `inverter_W`, `meter_TotWhImp`; the second meter
//! of a chain is `meter2_…`, the third input of an inverter `mppt_3_DCV`. Values that a device does not have read as the
//! model's sentinel and become null, not available. A model that is shorter than the definition has the points that fit.

use super::walk::{Chain, Link};
use crate::{
    config::device::{DataType, Point, Register, Table},
    limits,
    model::PointId,
};
use std::collections::BTreeMap;

const TEXT: &str = include_str!("models.txt");

/// One block of `models.txt`.
#[derive(Debug, Default, PartialEq)]
struct Model {
    ids: Vec<u16>,
    prefix: &'static str,
    length: u16,
    items: Vec<Item>,
    /// Length of the repeated part, and what is in it, counted from its begin.
    each: Option<(u16, Vec<Item>)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Item {
    offset: u16,
    name: &'static str,
    kind: DataType,
    /// The raw pattern of "not implemented".
    na: Option<u64>,
    unit: &'static str,
    /// Register of the power of ten, from the model's number.
    scale: Option<u16>,
}

/// Types of the models and what "not implemented" looks like. A float is NaN then, which no float needs to be told.
const TYPES: &[(&str, DataType, Option<u64>)] = &[
    ("u16", DataType::U16, Some(0xffff)),
    ("i16", DataType::I16, Some(0x8000)),
    ("u32", DataType::U32, Some(0xffff_ffff)),
    ("i32", DataType::I32, Some(0x8000_0000)),
    ("u64", DataType::U64, Some(u64::MAX)),
    ("i64", DataType::I64, Some(1 << 63)),
    ("acc32", DataType::U32, Some(0)),
    ("acc64", DataType::U64, Some(0)),
    ("f32", DataType::F32, None),
];

/// The points of everything in the chain that is known; `wanted` leaves out other models, empty: all.
pub fn points(chain: &Chain, wanted: &[u16]) -> Vec<Point> {
    let models = models();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut out = Vec::new();
    for link in chain.links.iter().filter(|l| wanted.is_empty() || wanted.contains(&l.model)) {
        let Some(model) = models.iter().find(|m| m.ids.contains(&link.model)) else { continue };
        let nth = seen.entry(model.prefix).and_modify(|n| *n += 1).or_insert(1);
        let prefix = if *nth == 1 { model.prefix.to_owned() } else { format!("{}{nth}", model.prefix) };
        out.extend(model.items.iter().filter_map(|item| point(link, &prefix, 0, item)));
        let Some((length, items)) = &model.each else { continue };
        let parts = link.length.saturating_sub(model.length) / (*length).max(1);
        for part in (0..parts).take(limits::SUNSPEC_PARTS) {
            let begin = 2 + model.length + part * length;
            let prefix = format!("{prefix}_{}", part + 1);
            out.extend(items.iter().filter_map(|item| point(link, &prefix, begin, item)));
        }
    }
    out
}

/// Numbers of the models in the chain that are not known here. The common model says who the device is and no more.
pub fn unknown(chain: &Chain) -> Vec<u16> {
    let models = models();
    chain.links.iter().map(|l| l.model).filter(|id| *id != 1 && !models.iter().any(|m| m.ids.contains(id))).collect()
}

/// `begin`: where a repeated part begins in the model.
fn point(link: &Link, prefix: &str, begin: u16, item: &Item) -> Option<Point> {
    let at = begin.checked_add(item.offset)?;
    // Registers behind number and length: a shorter, older revision ends before.
    let end = 2 + u32::from(link.length);
    if u32::from(at) + u32::from(item.kind.words()) > end || item.scale.is_some_and(|s| u32::from(s) >= end) {
        return None;
    }
    let register = |offset: u16| Some(Register { table: Table::Holding, address: link.at.checked_add(offset)? });
    let id = PointId::parse(&format!("{prefix}_{}", item.name)).ok()?;
    let mut point = Point::new(id, register(at)?, item.kind);
    point.unit = item.unit.to_owned();
    point.na = item.na.into_iter().collect();
    point.scale_register = match item.scale {
        Some(offset) => Some(register(offset)?),
        None => None,
    };
    Some(point)
}

/// The table as it is written. A line that cannot be read is left out; a test finds it.
fn models() -> Vec<Model> {
    let mut out: Vec<Model> = Vec::new();
    for line in TEXT.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let words: Vec<&'static str> = line.split(' ').collect();
        match words[..] {
            ["model", ref ids @ .., prefix, length] => {
                let ids = ids.iter().filter_map(|id| id.parse().ok()).collect();
                out.push(Model { ids, prefix, length: length.parse().unwrap_or(0), ..Model::default() });
            }
            ["each", length] => {
                if let Some(model) = out.last_mut() {
                    model.each = length.parse().ok().map(|length| (length, Vec::new()));
                }
            }
            _ => {
                let (Some(item), Some(model)) = (item(&words), out.last_mut()) else { continue };
                match &mut model.each {
                    Some((_, items)) => items.push(item),
                    None => model.items.push(item),
                }
            }
        }
    }
    out
}

fn item(words: &[&'static str]) -> Option<Item> {
    let [offset, name, kind, unit, scale] = *words else { return None };
    let (_, kind, na) = *TYPES.iter().find(|(word, ..)| *word == kind)?;
    let scale = if scale == "-" { None } else { Some(scale.parse().ok()?) };
    Some(Item { offset: offset.parse().ok()?, name, kind, na, unit: if unit == "-" { "" } else { unit }, scale })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn chain(models: &[(u16, u16)]) -> Chain {
        let mut at = 40_002;
        let link = |(model, length): &(u16, u16)| {
            let link = Link { model: *model, at, length: *length };
            at += 2 + length;
            link
        };
        Chain { base: 40_000, links: models.iter().map(link).collect(), serial: String::new() }
    }

    #[test]
    fn every_line_of_the_table_is_read() {
        let lines = TEXT.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).count();
        let models = models();
        let each = models.iter().filter(|m| m.each.is_some()).count();
        let items: usize = models.iter().map(|m| m.items.len() + m.each.as_ref().map_or(0, |(_, items)| items.len())).sum();
        assert_eq!(models.len() + each + items, lines);
        for model in &models {
            assert!(!model.ids.is_empty() && !model.prefix.is_empty(), "{model:?}");
            let inside = |i: &Item, from: u16, length: u16| i.offset >= from && i.offset + i.kind.words() <= length;
            assert!(model.items.iter().all(|i| inside(i, 2, model.length + 2)), "{model:?}");
            assert!(model.items.iter().all(|i| i.scale.is_none_or(|s| s < model.length + 2)), "{model:?}");
            if let Some((length, items)) = &model.each {
                assert!(items.iter().all(|i| inside(i, 0, *length) && i.scale.is_none_or(|s| s < model.length + 2)), "{model:?}");
            }
        }
        for id in [101, 102, 103, 111, 112, 113, 120, 121, 122, 124, 160, 201, 202, 203, 204, 211, 212, 213, 214, 701, 802] {
            assert_eq!(models.iter().filter(|m| m.ids.contains(&id)).count(), 1, "model {id}");
        }
    }

    #[test]
    fn a_three_phase_inverter_is_read_with_its_scale_factors() {
        let points = points(&chain(&[(1, 66), (103, 50)]), &[]);
        let power = points.iter().find(|p| p.id.as_str() == "inverter_W").expect("it has power");
        // Base 40000, marker 2, common 68: the model lies at 40070, power 14 behind, its power of ten next to it.
        let holding = |address| Register { table: Table::Holding, address };
        assert_eq!((power.register, power.scale_register), (holding(40_084), Some(holding(40_085))));
        assert_eq!((power.kind, power.unit.as_str(), power.na.as_slice()), (DataType::I16, "W", &[0x8000][..]));
        assert_eq!(points.len(), 31);
    }

    #[test]
    fn names_differ_however_many_models_are_alike() {
        let all = points(&chain(&[(1, 66), (103, 50), (160, 48), (203, 105), (1, 66), (203, 105), (160, 68), (64_001, 10)]), &[]);
        let names: BTreeSet<&str> = all.iter().map(|p| p.id.as_str()).collect();
        assert_eq!(names.len(), all.len());
        for name in ["mppt_1_DCA", "mppt_2_DCA", "mppt2_3_DCV", "meter_TotWhImp", "meter2_TotWhImp"] {
            assert!(names.contains(name), "{name} of {names:?}");
        }
        assert!(!names.contains("mppt_3_DCA"));
    }

    #[test]
    fn an_older_shorter_model_has_the_points_that_fit() {
        let points = points(&chain(&[(1, 66), (103, 20)]), &[]);
        assert!(points.iter().any(|p| p.id.as_str() == "inverter_VA"));
        assert!(points.iter().all(|p| p.register.address < 40_070 + 22), "{points:?}");
        assert!(!points.iter().any(|p| p.id.as_str() == "inverter_PF"), "its scale factor lies behind the end");
    }

    #[test]
    fn only_the_wanted_models_are_read_and_the_unknown_are_named() {
        let chain = chain(&[(1, 66), (103, 50), (120, 26), (64_001, 4)]);
        assert!(points(&chain, &[120]).iter().all(|p| p.id.as_str().starts_with("nameplate_")));
        assert_eq!(unknown(&chain), [64_001]);
    }

    #[test]
    fn a_chain_that_claims_thousands_of_parts_is_bounded() {
        let all = points(&chain(&[(1, 66), (160, 20_008)]), &[]);
        assert_eq!(all.len(), 3 + 8 * limits::SUNSPEC_PARTS);
    }
}

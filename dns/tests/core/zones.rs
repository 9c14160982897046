//! Any zone: nested names, names that exist only by what is below them, wildcards, aliases, services.

use model::patch::ZonePatch;
use model::{Block, Record, RecordData, RecordSet, Zone};
use proptest::prelude::*;

use crate::home::name;

/// Owners below the origin, wildcards among them.
pub(crate) const PREFIXES: [&str; 13] =
    ["a", "b", "hub", "a.b", "b.b", "a.b.b", "x.y.z", "y.z", "a.x.y.z", "*", "*.b", "*.x.y.z", "*.hub"];
/// Names below the origin of which few or none exist, to ask for besides.
pub(crate) const STRANGERS: [&str; 9] =
    ["z", "b.x.y.z", "missing", "q.b", "q.q.b", "q.a.b", "q.q.x.y.z", "*.q", "q.*.b"];
const ORIGINS: [&str; 3] = ["home.internal", "b.home.internal", "home.arpa"];
const BLOCKS: [(&str, &str); 3] = [
    ("100.64.0.0/16", "fd12:3456:789a::/48"),
    ("100.64.0.0/29", "fd12:3456:789a::/48"),
    ("100.64.16.0/20", "fd12:3456:789b::/48"),
];
/// Addresses that owners are given.
pub(crate) const HOSTS: u32 = 4;

/// Number of the origin, of the block, and the owners.
pub(crate) type Plan = (usize, usize, Vec<Entry>);

/// Number of the prefix, what it holds (type, value, TTL), whether it answers PTR.
type Entry = (usize, Vec<(u8, u8, u8)>, bool);

pub(crate) fn plans() -> impl Strategy<Value = Plan> {
    let records = prop::collection::vec((0..7_u8, any::<u8>(), 0..2_u8), 0..4);
    let entries = prop::collection::vec((0..PREFIXES.len() + 1, records, any::<bool>()), 0..10);
    // Mostly the same head, so that most patches are small.
    let mostly_first = |all| prop_oneof![8 => Just(0), 1 => 0..all];
    (mostly_first(ORIGINS.len()), mostly_first(BLOCKS.len()), entries)
}

pub(crate) fn zone((origin, block_number, entries): &Plan) -> Zone {
    let (v4, v6) = BLOCKS[block_number % BLOCKS.len()];
    let block = Block::from_nets(v4.parse().expect("a net"), v6.parse().expect("a net")).expect("a block");
    let origin = name(ORIGINS[origin % ORIGINS.len()]);
    let mut zone = Zone::new(origin.clone(), block);
    for (prefix, records, reverse) in entries {
        let records = records.iter().map(|r| record(*r, block, &origin)).collect();
        zone.names.insert(owner(*prefix, &origin), set(records, *reverse));
    }
    zone
}

fn set(mut records: Vec<Record>, reverse: bool) -> RecordSet {
    records.sort();
    records.dedup_by(|a, b| a.data == b.data);
    if let Some(alias) = records.iter().find(|r| matches!(r.data, RecordData::Cname(_))) {
        records = vec![alias.clone()];
    }
    RecordSet { records, reverse }
}

fn owner(prefix: usize, origin: &model::Name) -> model::Name {
    match PREFIXES.get(prefix) {
        Some(prefix) => origin.below(&name(prefix)).expect("short"),
        None => origin.clone(),
    }
}

fn record((kind, value, ttl): (u8, u8, u8), block: Block, origin: &model::Name) -> Record {
    let host = block.host(u32::from(value) % HOSTS + 1).expect("in the block");
    let target = || match usize::from(value) % (PREFIXES.len() + 3) {
        number if number <= PREFIXES.len() => owner(number, origin),
        number if number % 2 == 0 => name("www.example.org"),
        _ => name("www.internal"),
    };
    let data = match kind % 7 {
        0 => RecordData::A(host.v4),
        1 => RecordData::Aaaa(host.v6),
        2 => RecordData::Txt(value.to_string().parse().expect("short")),
        3 => RecordData::A([192, 0, 2, value].into()),
        4 => RecordData::Srv { priority: value.into(), weight: 5, port: 443, target: target() },
        5 => RecordData::Txt("x".repeat(value.into()).parse().expect("short")),
        _ => RecordData::Cname(target()),
    };
    Record { data, ttl: 30 + u32::from(ttl) }
}

/// Every question that could tell two zones apart.
pub(crate) fn questions(zone: &Zone) -> Vec<String> {
    let below = PREFIXES.iter().chain(&STRANGERS).map(|prefix| format!("{prefix}.{}", zone.origin));
    let names: Vec<String> =
        below.chain([zone.origin.to_string(), format!("hostmaster.{}", zone.origin)]).collect();
    names.iter().flat_map(|name| crate::ask::KINDS.map(|kind| format!("{name} {kind}"))).collect()
}

/// The change from one zone to another in many patches, in an order that `shuffle` decides. Names that stay are
/// touched too.
pub(crate) fn steps(before: &Zone, after: &Zone, shuffle: u64) -> Vec<ZonePatch> {
    let whole = ZonePatch::diff(before, after);
    let mut steps: Vec<ZonePatch> = Vec::new();
    for gone in &whole.gone {
        steps.push(ZonePatch { gone: vec![gone.clone()], ..ZonePatch::default() });
    }
    for (owner, set) in after.names.iter() {
        steps.push(ZonePatch { set: vec![(owner.clone(), set.clone())], ..ZonePatch::default() });
    }
    let mut state = shuffle | 1;
    for at in (1..steps.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(state >> 33).expect("31 bits") % (at + 1);
        steps.swap(at, other);
    }
    let head = ZonePatch { head: whole.head, ..ZonePatch::default() };
    std::iter::once(head).chain(steps).collect()
}

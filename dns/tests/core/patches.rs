//! Patches and whole zones give the same answers, and both the right ones.

use std::net::IpAddr;

use dns::{Names, Transport};
use hickory_proto::rr::Name as WireName;
use model::patch::ZonePatch;
use model::{Block, Generation, Record, RecordData, RecordSet, Zone};
use proptest::prelude::*;

use crate::ask::{KINDS, ask, query, text};
use crate::home::{TENANT, name};
use crate::reference;

const PREFIXES: [&str; 9] = ["a", "b", "hub", "a.b", "b.b", "a.b.b", "x.y.z", "y.z", "a.x.y.z"];
const ORIGINS: [&str; 2] = ["home.internal", "b.home.internal"];
const BLOCKS: [(&str, &str); 3] = [
    ("100.64.0.0/16", "fd12:3456:789a::/48"),
    ("100.64.0.0/29", "fd12:3456:789a::/48"),
    ("100.64.16.0/20", "fd12:3456:789b::/48"),
];
const HOSTS: u32 = 4;

fn block(number: usize) -> Block {
    let (v4, v6) = BLOCKS[number % BLOCKS.len()];
    Block::from_nets(v4.parse().expect("a net"), v6.parse().expect("a net")).expect("a block")
}

/// Prefix, what it holds, whether it answers PTR.
type Entry = (usize, Vec<(u8, u8)>, bool);

fn zone((origin, block_number, entries): &(usize, usize, Vec<Entry>)) -> Zone {
    let block = block(*block_number);
    let origin = name(ORIGINS[origin % ORIGINS.len()]);
    let mut zone = Zone::new(origin.clone(), block);
    for (prefix, records, reverse) in entries {
        let mut set = RecordSet {
            records: records.iter().map(|r| record(*r, block, &origin)).collect(),
            reverse: *reverse,
        };
        set.records.sort();
        set.records.dedup();
        if let Some(alias) = set.records.iter().find(|r| matches!(r.data, RecordData::Cname(_))) {
            set.records = vec![alias.clone()];
        }
        let owner = match PREFIXES.get(*prefix) {
            Some(prefix) => origin.below(&name(prefix)).expect("short"),
            None => origin.clone(),
        };
        zone.names.insert(owner, set);
    }
    zone
}

fn record((kind, value): (u8, u8), block: Block, origin: &model::Name) -> Record {
    let host = block.host(u32::from(value) % HOSTS + 1).expect("in the block");
    let data = match kind % 5 {
        0 => RecordData::A(host.v4),
        1 => RecordData::Aaaa(host.v6),
        2 => RecordData::Txt(value.to_string().parse().expect("short")),
        3 => RecordData::A([192, 0, 2, value].into()),
        _ => RecordData::Cname(match PREFIXES.get(usize::from(value) % 11) {
            Some(prefix) => origin.below(&name(prefix)).expect("short"),
            None if value % 2 == 0 => name("www.example.org"),
            None => origin.clone(),
        }),
    };
    Record { data, ttl: 30 }
}

fn zones() -> impl Strategy<Value = (usize, usize, Vec<Entry>)> {
    let records = prop::collection::vec((0..5u8, any::<u8>()), 0..4);
    let entries = prop::collection::vec((0..PREFIXES.len() + 1, records, any::<bool>()), 0..10);
    // Mostly the same head, so that most patches are small.
    let mostly_first = |all| prop_oneof![8 => Just(0), 1 => 0..all];
    (mostly_first(ORIGINS.len()), mostly_first(BLOCKS.len()), entries)
}

/// Every question that could tell two zones apart.
fn questions(zone: &Zone) -> Vec<String> {
    let below =
        PREFIXES.iter().chain(&["z", "b.x.y.z", "missing"]).map(|prefix| format!("{prefix}.{}", zone.origin));
    let names: Vec<String> = below.chain([zone.origin.to_string()]).collect();
    names.iter().flat_map(|name| KINDS.map(|kind| format!("{name} {kind}"))).collect()
}

fn check_all(names: &Names, zone: &Zone, serial: u32) -> Result<(), TestCaseError> {
    let source = zone.block.hub().v4.into();
    for question in questions(zone) {
        let answer = text(&ask(names, &query(&question), source, Transport::Tcp));
        let (name, kind) = question.split_once(' ').expect("a name and a type");
        prop_assert_eq!(answer, reference::expect(zone, serial, name, kind), "{}", question);
    }
    for address in (1..=HOSTS + 1).flat_map(|n| zone.block.host(n).expect("in the block").both()) {
        let owner = WireName::from(address);
        let labels = match address {
            IpAddr::V4(_) => usize::from(zone.block.v4().prefix_len() / 8) + 2,
            IpAddr::V6(_) => 14,
        };
        let answer = text(&ask(names, &query(&format!("{owner} PTR")), source, Transport::Tcp));
        let apex = owner.trim_to(labels).to_string();
        prop_assert_eq!(answer, reference::expect_ptr(zone, serial, address, &owner.to_string(), &apex));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn patches_equal_whole_zones(history in prop::collection::vec(zones(), 1..6)) {
        let zones: Vec<Zone> = history.iter().map(zone).collect();
        let names = Names::new();
        names.whole(TENANT, Generation(0), &zones[0]).expect("alone");
        check_all(&names, &zones[0], 0)?;
        for (serial, pair) in (1..).zip(zones.windows(2)) {
            let patch = ZonePatch::diff(&pair[0], &pair[1]);
            names.patch(TENANT, Generation(serial.into()), &patch).expect("alone");
            check_all(&names, &pair[1], serial)?;
        }
    }
}

//! A tenant to ask about: `home.internal` in 100.64.0.0/16.

use model::{Block, Name, RecordData, RecordSet, TenantId, Zone};

pub(crate) const TENANT: TenantId = TenantId::from_bytes([1; 16]);

/// What is random in the table.
pub(crate) const SEED: [u8; 32] = *b"thirty-two bytes nobody guesses.";

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn block() -> Block {
    let v6 = "fd12:3456:789a::/48".parse().expect("a net");
    Block::from_nets("100.64.0.0/16".parse().expect("a net"), v6).expect("a block")
}

/// A set without PTR from `TYPE value` lines.
pub(crate) fn set(records: &[&str]) -> RecordSet {
    let record = |text: &&str| {
        let (kind, value) = text.split_once(' ').expect("a type and a value");
        model::Record { data: RecordData::parse(kind, value).expect("a value of the type"), ttl: 60 }
    };
    RecordSet { records: records.iter().map(record).collect(), reverse: false }
}

pub(crate) fn of_host(number: u32) -> RecordSet {
    RecordSet::of_node(block().host(number).expect("in the block"))
}

pub(crate) fn zone() -> Zone {
    let mut zone = Zone::new(name("home.internal"), block());
    let mut add =
        |owner: &str, set: RecordSet| zone.names.insert(name(&format!("{owner}.home.internal")), set);
    add("hub", of_host(1));
    add("laptop", of_host(2));
    add("v4only", set(&["A 100.64.0.9"]));
    add("www", set(&["CNAME laptop.home.internal"]));
    add("alias", set(&["CNAME www.home.internal"]));
    add("dangling", set(&["CNAME missing.home.internal"]));
    add("away", set(&["CNAME www.example.org"]));
    add("round", set(&["CNAME trip.home.internal"]));
    add("trip", set(&["CNAME round.home.internal"]));
    add("note", set(&["TXT hello", "A 100.64.0.10"]));
    add("a.b.deep", set(&["A 100.64.0.11"]));
    for n in 0..12 {
        add(&format!("link{n}"), set(&[&format!("CNAME link{}.home.internal", n + 1)]));
    }
    let texts: Vec<String> = (10..40).map(|n| format!("TXT {n}{}", "x".repeat(98))).collect();
    add("big", set(&texts.iter().map(String::as_str).collect::<Vec<_>>()));
    add("*.apps", set(&["A 100.64.0.12", "TXT wild"]));
    add("own.apps", set(&["A 100.64.0.13"]));
    add("below.deep.apps", set(&["A 100.64.0.14"]));
    add("*.elsewhere", set(&["CNAME laptop.home.internal"]));
    add("_http._tcp", set(&["SRV 10 5 8080 laptop.home.internal", "SRV 20 0 80 www.example.org"]));
    let outside = RecordSet { reverse: true, ..set(&["A 192.0.2.1"]) };
    add("outside", outside);
    zone
}

//! Queries of Magic DNS: what the hot path writes over a query, the slow path would have sent.

use std::net::IpAddr;
use std::sync::LazyLock;

use dns::{Answer, HOT_BUFFER_BYTES, Hot, Names, Transport};
use model::{Block, Generation, Name, Record, RecordData, RecordSet, TenantId, Zone};

static NAMES: LazyLock<Names> = LazyLock::new(names);

/// Both paths say the same to the last bit, or the hot path nothing; and whatever is sent is an answer to this query.
/// The first byte says who asks.
pub(crate) fn check(bytes: &[u8]) {
    let Some((asker, query)) = bytes.split_first() else { return };
    let source = match asker % 4 {
        0 => IpAddr::from([100, 64, 0, 2]),
        1 => "fd12:3456:789a::2".parse().expect("an address"),
        2 => IpAddr::from([100, 65, 0, 2]),
        _ => IpAddr::from([192, 0, 2, 1]),
    };
    let mut buffer = query.to_vec();
    buffer.resize(query.len().max(HOT_BUFFER_BYTES), 0xaa);
    let hot = NAMES.answer_in_place(&mut buffer, query.len(), source);
    let slow = NAMES.answer(query, source, Transport::Udp);
    match (hot, &slow) {
        (Hot::Slow, _) | (Hot::Foreign, Answer::Foreign { .. }) => {
            assert_eq!(buffer[..query.len()], *query, "what is left to the slow path is untouched");
        }
        (Hot::Reply { length, code }, Answer::Reply { bytes, code: expect }) => {
            assert_eq!((code, &buffer[..length]), (*expect, &bytes[..]));
        }
        (Hot::Drop, Answer::Drop) => {}
        (hot, slow) => panic!("{hot:?} and {slow:?}"),
    }
    for answer in [slow, NAMES.answer(query, source, Transport::Tcp)] {
        match answer {
            Answer::Reply { bytes, .. } | Answer::Foreign { refusal: bytes } => {
                assert_eq!((&bytes[..2], bytes[2] & 0xf8), (&query[..2], query[2] & 0x78 | 0x80));
            }
            Answer::Away(away) => assert_eq!(away.into_bare()[..2], query[..2]),
            Answer::Drop => assert!(query.len() < 12 || query[2] & 0x80 != 0),
        }
    }
}

/// Two tenants, of whom the first sees the names of the second. The recorded inputs ask for these names.
fn names() -> Names {
    let names = Names::new([7; 32]);
    let tenants = [1, 2].map(|n| TenantId::from_bytes([n; 16]));
    let home = zone(
        "home.internal",
        64,
        &[
            ("v4only", "A", "192.0.2.1"),
            ("www", "CNAME", "laptop.home.internal"),
            ("alias", "CNAME", "www.home.internal"),
            ("away", "CNAME", "www.example.org"),
            ("round", "CNAME", "trip.home.internal"),
            ("trip", "CNAME", "round.home.internal"),
            ("dangling", "CNAME", "missing.home.internal"),
            ("a.b.deep", "A", "192.0.2.2"),
            ("*.apps", "A", "192.0.2.3"),
            ("own.apps", "TXT", "hello"),
            ("*.else", "CNAME", "x.apps.home.internal"),
            ("_http._tcp", "SRV", "10 5 8080 laptop.home.internal"),
        ],
    );
    names.whole(tenants[0], Generation(7), &home).expect("the block is free");
    let work = zone("work.arpa", 65, &[("*", "A", "192.0.2.4"), ("round", "CNAME", "round.work.arpa")]);
    names.whole(tenants[1], Generation(8), &work).expect("the block is free");
    names.see(tenants[0], &[tenants[1]]);
    names
}

fn zone(origin: &str, second: u8, records: &[(&str, &str, &str)]) -> Zone {
    let v4 = format!("100.{second}.0.0/16").parse().expect("a net");
    let v6 = format!("fd12:3456:78{}::/48", if second == 64 { "9a" } else { "9b" }).parse().expect("a net");
    let block = Block::from_nets(v4, v6).expect("a block");
    let origin: Name = origin.parse().expect("a name");
    let mut zone = Zone::new(origin.clone(), block);
    let owner = |below: &str| origin.below(&below.parse().expect("a name")).expect("short");
    for (number, device) in (1..).zip(["hub", "laptop"]) {
        zone.names.insert(owner(device), RecordSet::of_node(block.host(number).expect("in the block")));
    }
    for (below, kind, value) in records {
        let data = RecordData::parse(kind, value).expect("a record");
        zone.names
            .insert(owner(below), RecordSet { records: vec![Record { data, ttl: 60 }], reverse: false });
    }
    let texts = (10..40).map(|n| format!("{n}{}", "x".repeat(98)));
    let record = |text: String| Record { data: RecordData::parse("TXT", &text).expect("a record"), ttl: 60 };
    zone.names.insert(owner("big"), RecordSet { records: texts.map(record).collect(), reverse: false });
    zone
}

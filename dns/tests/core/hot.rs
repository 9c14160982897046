//! The hot path says what the slow path says, to the last bit, or nothing; and it answers what people ask.

use std::net::IpAddr;

use dns::{Answer, HOT_BUFFER_BYTES, Hot, Names, Transport};
use hickory_proto::op::Edns;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name as WireName, RecordType};
use model::{Generation, Zone};
use proptest::prelude::*;

use crate::ask::{KINDS, both, bytes, query, v4};
use crate::fuzz::mutate;
use crate::home::{SEED, TENANT, block, name, of_host, set};
use crate::zones::{HOSTS, PREFIXES, STRANGERS, plans, zone};

fn names(zone: &Zone) -> Names {
    let names = Names::new(SEED);
    names.whole(TENANT, Generation(7), zone).expect("alone");
    names
}

#[test]
fn what_people_ask_is_answered_here() {
    let names = names(&crate::home::zone());
    let six = format!("2.{}a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa PTR", "0.".repeat(19));
    for question in [
        "laptop.home.internal A",
        "laptop.home.internal AAAA",
        "laptop.home.internal HTTPS",
        "laptop.home.internal ANY",
        "v4only.home.internal AAAA",
        "hub.home.internal A",
        "hub.home.internal HTTPS",
        "x.hub.home.internal A",
        "hostmaster.home.internal A",
        "missing.home.internal A",
        "a.b.c.d.missing.home.internal A",
        "b.deep.home.internal A",
        "note.home.internal TXT",
        "www.home.internal A",
        "www.home.internal CNAME",
        "www.home.internal ANY",
        "alias.home.internal AAAA",
        "alias.home.internal MX",
        "dangling.home.internal A",
        "away.home.internal A",
        "round.home.internal A",
        "link0.home.internal A",
        "x.apps.home.internal A",
        "x.apps.home.internal AAAA",
        "x.elsewhere.home.internal A",
        "x.own.apps.home.internal A",
        "_http._tcp.home.internal SRV",
        "big.home.internal TXT",
        "home.internal SOA",
        "home.internal NS",
        "home.internal ANY",
        "home.internal A",
        "2.0.64.100.in-addr.arpa PTR",
        "2.0.64.100.in-addr.arpa ANY",
        "2.0.64.100.in-addr.arpa A",
        "9.9.64.100.in-addr.arpa PTR",
        "x.2.0.64.100.in-addr.arpa PTR",
        "0.64.100.in-addr.arpa PTR",
        "64.100.in-addr.arpa SOA",
        "64.100.in-addr.arpa NS",
        "64.100.in-addr.arpa PTR",
        &six,
    ] {
        let answer = both(&names, &bytes(&query(question)), v4(2)).expect("both paths agree");
        assert!(answer.is_some(), "{question}");
        let mixed: String =
            question.chars().map(|c| if c < 'm' { c.to_ascii_uppercase() } else { c }).collect();
        let mut message = query(&mixed);
        message.set_edns(Edns::new());
        let answer = both(&names, &bytes(&message), v4(2)).expect("both paths agree");
        assert!(answer.is_some(), "{mixed} with EDNS");
    }
    let stranger = IpAddr::from([192, 0, 2, 1]);
    let refused = both(&names, &bytes(&query("laptop.home.internal A")), stranger).expect("both paths agree");
    assert!(refused.is_some_and(|answer| answer[3] & 0x0f == 5), "strangers are refused at once");
}

#[test]
fn what_is_not_certain_is_left_to_the_slow_path() {
    let mut zone = crate::home::zone();
    zone.names.insert(name("twin.home.internal"), of_host(2));
    let names = names(&zone);
    let far = format!("{}home.internal A", "a.".repeat(41));
    let questions = [
        "home.internal AXFR",
        // Two names of one address.
        "2.0.64.100.in-addr.arpa PTR",
        &far,
    ];
    for question in questions {
        let answer = both(&names, &bytes(&query(question)), v4(2)).expect("both paths agree");
        assert_eq!(answer, None, "{question}");
    }
}

#[test]
fn what_is_foreign_is_told_at_once() {
    let names = names(&crate::home::zone());
    for question in ["www.example.org A", "1.2.0.192.in-addr.arpa PTR", ". NS", "ahome.internal TXT"] {
        let asked = bytes(&query(question));
        let mut buffer = [0; HOT_BUFFER_BYTES];
        buffer[..asked.len()].copy_from_slice(&asked);
        assert_eq!(names.answer_in_place(&mut buffer, asked.len(), v4(2)), Hot::Foreign, "{question}");
        both(&names, &asked, v4(2)).expect("both paths agree");
    }
}

#[test]
fn aliases_that_lead_outside_are_left_to_the_slow_path_where_they_are_followed() {
    let mut zone = crate::home::zone();
    zone.names.insert(name("far.home.internal"), set(&["CNAME away.home.internal"]));
    zone.names.insert(name("near.home.internal"), set(&["CNAME 2.0.64.100.in-addr.arpa"]));
    let names = names(&zone);
    let target = |question: &str, desired: bool| {
        let mut message = query(question);
        message.metadata.recursion_desired = desired;
        let asked = bytes(&message);
        let is_hot = both(&names, &asked, v4(2)).expect("both paths agree").is_some();
        match names.answer(&asked, v4(2), Transport::Udp) {
            Answer::Away(away) => {
                assert!(!is_hot, "{question}");
                Some(away.target().expect("a name").to_string())
            }
            _ => None,
        }
    };
    assert_eq!(target("away.home.internal A", true), None, "nobody follows them");
    names.hand_over_aliases();
    let check = |question, desired, expect: Option<&str>| {
        assert_eq!(target(question, desired).as_deref(), expect, "{question}");
    };
    check("away.home.internal A", true, Some("www.example.org"));
    check("FAR.home.internal HTTPS", true, Some("www.example.org"));
    check("away.home.internal A", false, None);
    check("away.home.internal CNAME", true, None);
    check("away.home.internal ANY", true, None);
    check("near.home.internal PTR", true, None);
    check("alias.home.internal A", true, None);
    check("dangling.home.internal A", true, None);
    check("round.home.internal A", true, None);
    check("link0.home.internal A", true, None);
}

#[test]
fn a_buffer_without_room_is_left_as_it_is() {
    let names = names(&crate::home::zone());
    let asked = bytes(&query("laptop.home.internal A"));
    for (room, length) in
        [(HOT_BUFFER_BYTES - 1, asked.len()), (HOT_BUFFER_BYTES, HOT_BUFFER_BYTES + 1), (0, 0)]
    {
        let mut buffer = asked.clone();
        buffer.resize(room, 0);
        let before = buffer.clone();
        assert_eq!(names.answer_in_place(&mut buffer, length, v4(2)), Hot::Slow);
        assert_eq!(buffer, before);
    }
}

#[test]
fn an_origin_that_fills_a_name_is_answered_by_both() {
    let origin = ["a".repeat(61), "b".repeat(61), "c".repeat(61), "d".repeat(61)].join(".");
    for origin in [
        origin.clone(),
        origin[5..].to_owned(),
        origin[10..].to_owned(),
        ["x"; 100].join("."),
        ["x"; 33].join("."),
    ] {
        let mut zone = Zone::new(name(&origin), block());
        zone.names.insert(name(&origin), set(&["A 192.0.2.1", "TXT x"]));
        let names = names(&zone);
        for question in
            [format!("{origin} A"), format!("{origin} AAAA"), format!("{origin} SOA"), format!("{origin} NS")]
        {
            both(&names, &bytes(&query(&question)), v4(2)).expect("both paths agree");
        }
        for question in ["2.0.64.100.in-addr.arpa PTR", "64.100.in-addr.arpa SOA", "64.100.in-addr.arpa NS"] {
            both(&names, &bytes(&query(question)), v4(2)).expect("both paths agree");
        }
    }
}

/// Number of a name, of a type, which letters are upper case, EDNS.
type Question = (usize, usize, u64, Option<(u16, u16, u8, Vec<u8>)>);

fn questions() -> impl Strategy<Value = Question> {
    let data = prop::collection::vec(any::<u8>(), 0..20);
    let version = prop_oneof![9 => Just(0_u8), 1 => any::<u8>()];
    let edns = prop::option::of((any::<u16>(), any::<u16>(), version, data));
    (0..PREFIXES.len() + STRANGERS.len() + 8, 0..KINDS.len() + 2, any::<u64>(), edns)
}

fn asked(zone: &Zone, (owner, kind, upper, edns): &Question) -> Vec<u8> {
    let prefixes: Vec<&str> = PREFIXES.iter().chain(&STRANGERS).copied().collect();
    let owner = match prefixes.get(*owner) {
        Some(prefix) => format!("{prefix}.{}", zone.origin),
        None => match owner - prefixes.len() {
            0 => zone.origin.to_string(),
            1 => format!("hostmaster.{}", zone.origin),
            2 => "www.example.org".into(),
            number => {
                let host = zone.block.host(number as u32 % HOSTS + 1).expect("in the block");
                let whole = WireName::from(host.both()[number % 2]).to_string();
                let cut =
                    if number == 7 { whole.split_once('.').map(|(_, rest)| rest.to_owned()) } else { None };
                cut.unwrap_or(whole)
            }
        },
    };
    let change =
        |(at, c): (usize, char)| if upper >> (at % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c };
    let owner: String = owner.chars().enumerate().map(change).collect();
    let mut message = query(&format!("{owner} A"));
    let kinds = KINDS.iter().copied().chain([RecordType::HTTPS, RecordType::AXFR]);
    message.queries[0].set_query_type(kinds.collect::<Vec<_>>()[*kind]);
    if let Some((size, option, version, data)) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(*size).set_version(*version).set_dnssec_ok(upper & 1 == 1);
        if upper & 2 == 2 {
            edns.options_mut().insert(EdnsOption::Unknown(*option, data.clone()));
        }
        message.set_edns(edns);
    }
    bytes(&message)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn both_paths_say_the_same(
        plan in plans(),
        asked_for in prop::collection::vec(questions(), 1..20),
        mutations in prop::collection::vec((0..4_u8, any::<prop::sample::Index>(), any::<u8>()), 0..4),
        stranger in prop::bool::weighted(0.05),
        follows in any::<bool>(),
    ) {
        let zone = zone(&plan);
        let names = names(&zone);
        if follows {
            names.hand_over_aliases();
        }
        let source = if stranger { IpAddr::from([192, 0, 2, 1]) } else { zone.block.hub().v6.into() };
        for question in &asked_for {
            let asked = asked(&zone, question);
            both(&names, &asked, source).map_err(TestCaseError::fail)?;
            both(&names, &mutate(asked, &mutations), source).map_err(TestCaseError::fail)?;
        }
    }
}

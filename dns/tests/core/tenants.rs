//! Who sees what: by the source address alone.

use std::net::IpAddr;

use dns::{Answer, Names, NamesError, Rcode, Transport};
use model::patch::ZonePatch;
use model::{Block, Generation, RecordSet, TenantId, Zone};

use crate::ask::{ask, bytes, query, text, v4};
use crate::home::{SEED, TENANT, name, set, zone};

const OTHER: TenantId = TenantId::from_bytes([2; 16]);

fn names() -> Names {
    let names = Names::new(SEED);
    names.whole(TENANT, Generation(7), &zone()).expect("the block is free");
    names
}

fn other_block(third: u8) -> Block {
    let (v4, v6) = (format!("100.{third}.0.0/16"), format!("fd99:9999:{third}::/48"));
    Block::from_nets(v4.parse().expect("a net"), v6.parse().expect("a net")).expect("a block")
}

/// A zone with one device, `desk`.
fn work(origin: &str, block: Block) -> Zone {
    let mut zone = Zone::new(name(origin), block);
    let addresses = block.host(2).expect("in the block");
    zone.names.insert(name(&format!("desk.{origin}")), RecordSet::of_node(addresses));
    zone
}

#[test]
fn strangers_and_other_tenants_see_nothing() {
    let names = names();
    let other_block = other_block(65);
    let check = |source: &str, question: &str, expect: &str| {
        let source: IpAddr = source.parse().expect("an address");
        let answer = text(&ask(&names, &query(question), source, Transport::Udp));
        assert_eq!(answer, expect, "{question} from {source}");
    };
    let laptop = "noerror aa: laptop.home.internal. 30 A 100.64.0.2 / ";
    check("127.0.0.1", "laptop.home.internal A", laptop);
    check("::1", "laptop.home.internal A", laptop);
    check("::ffff:100.64.3.4", "laptop.home.internal A", laptop);
    check("100.65.0.1", "laptop.home.internal A", "refused:  / ");

    names.whole(OTHER, Generation(3), &work("work.internal", other_block)).expect("the block is free");
    check("100.64.0.2", "laptop.home.internal A", laptop);
    check("fd12:3456:789a::2", "laptop.home.internal A", laptop);
    check("100.65.0.2", "desk.work.internal A", "noerror aa: desk.work.internal. 30 A 100.65.0.2 / ");
    check("100.64.0.2", "desk.work.internal A", "refused:  / ");
    check("100.65.0.2", "laptop.home.internal A", "refused:  / ");
    check("fd99:9999:65::2", "laptop.home.internal A", "refused:  / ");
    check("100.65.0.2", "2.0.64.100.in-addr.arpa PTR", "refused:  / ");
    for stranger in ["127.0.0.1", "192.0.2.1", "100.66.0.1", "100.63.255.255", "fd99:9999:66::1", "::"] {
        check(stranger, "laptop.home.internal A", "refused:  / ");
    }
    names.gone(OTHER);
    check("100.65.0.2", "desk.work.internal A", "refused:  / ");
    check("100.64.0.2", "laptop.home.internal A", laptop);
}

#[test]
fn guests_of_a_machine_see_what_it_sees_unless_it_is_a_hub_of_many() {
    let names = names();
    let check = |source: &str, expect: &str| {
        let source: IpAddr = source.parse().expect("an address");
        let answer = text(&ask(&names, &query("laptop.home.internal A"), source, Transport::Udp));
        assert_eq!(answer, expect, "from {source}");
    };
    let (laptop, refused) = ("noerror aa: laptop.home.internal. 30 A 100.64.0.2 / ", "refused:  / ");
    check("172.17.0.2", refused);
    names.guests(["172.17.0.0/16", "fd42::/64"].map(|net| net.parse().expect("a net")));
    check("172.17.0.2", laptop);
    check("fd42::2", laptop);
    check("172.18.0.2", refused);
    names.whole(OTHER, Generation(3), &work("work.internal", other_block(65))).expect("the block is free");
    check("172.17.0.2", refused);
    names.gone(OTHER);
    names.guests([]);
    check("172.17.0.2", refused);
}

#[test]
fn blocks_may_not_overlap() {
    let names = names();
    let taken = Err(NamesError::BlockTaken { tenant: OTHER, other: TENANT });
    assert_eq!(names.whole(OTHER, Generation(1), &zone()), taken);
    assert_eq!(names.whole(TENANT, Generation(8), &zone()), Ok(()), "its own block is free for a tenant");
    let patch = ZonePatch::default();
    assert_eq!(names.patch(OTHER, Generation(1), &patch), Err(NamesError::UnknownTenant(OTHER)));
}

#[test]
fn some_see_the_names_of_other_tenants_too() {
    let names = names();
    let third = TenantId::from_bytes([3; 16]);
    names.whole(OTHER, Generation(3), &work("work.internal", other_block(65))).expect("the block is free");
    names
        .whole(third, Generation(4), &work("lab.work.internal", other_block(66)))
        .expect("the block is free");
    let check = |source: &str, question: &str, expect: &str| {
        let source: IpAddr = source.parse().expect("an address");
        let answer = text(&ask(&names, &query(question), source, Transport::Udp));
        assert_eq!(answer, expect, "{question} from {source}");
    };
    let laptop = "noerror aa: laptop.home.internal. 30 A 100.64.0.2 / ";
    let desk = "noerror aa: desk.work.internal. 30 A 100.65.0.2 / ";
    let bench = "noerror aa: desk.lab.work.internal. 30 A 100.66.0.2 / ";
    names.see(TENANT, &[OTHER, third, TenantId::from_bytes([4; 16])]);
    check("100.64.0.2", "laptop.home.internal A", laptop);
    check("100.64.0.2", "desk.work.internal A", desk);
    // The nearest origin answers.
    check("100.64.0.2", "desk.lab.work.internal A", bench);
    check(
        "100.64.0.2",
        "desk.work.internal AAAA",
        "noerror aa: desk.work.internal. 30 AAAA fd99:9999:65::2 / ",
    );
    check("100.64.0.2", "no.work.internal A", "nxdomain aa:  / work.internal. 10 SOA 3 10");
    // Names, not whose addresses are whose.
    check("100.64.0.2", "2.0.65.100.in-addr.arpa PTR", "refused:  / ");
    check(
        "100.64.0.2",
        "2.0.64.100.in-addr.arpa PTR",
        "noerror aa: 2.0.64.100.in-addr.arpa. 30 PTR laptop.home.internal. / ",
    );
    // It holds one way only.
    check("100.65.0.2", "laptop.home.internal A", "refused:  / ");
    check("100.65.0.2", "desk.lab.work.internal A", "nxdomain aa:  / work.internal. 10 SOA 3 10");

    let patch =
        ZonePatch { set: vec![(name("new.work.internal"), set(&["A 100.65.0.9"]))], ..ZonePatch::default() };
    names.patch(OTHER, Generation(5), &patch).expect("the tenant is known");
    check("100.64.0.2", "new.work.internal A", "noerror aa: new.work.internal. 60 A 100.65.0.9 / ");
    names.whole(TENANT, Generation(8), &zone()).expect("its own block");
    check("100.64.0.2", "desk.work.internal A", desk);
    names.see(TENANT, &[third]);
    check("100.64.0.2", "desk.work.internal A", "refused:  / ");
    check("100.64.0.2", "desk.lab.work.internal A", bench);
    names.gone(third);
    check("100.64.0.2", "desk.lab.work.internal A", "refused:  / ");
    names.gone(TENANT);
    names.whole(TENANT, Generation(9), &zone()).expect("the block is free");
    names
        .whole(third, Generation(4), &work("lab.work.internal", other_block(66)))
        .expect("the block is free");
    check("100.64.0.2", "desk.lab.work.internal A", "refused:  / ");
}

#[test]
fn ones_own_zone_is_not_overshadowed() {
    let names = names();
    names
        .whole(OTHER, Generation(3), &work("apps.home.internal", other_block(65)))
        .expect("the block is free");
    names.see(TENANT, &[OTHER]);
    let answer = text(&ask(&names, &query("desk.apps.home.internal A"), v4(2), Transport::Udp));
    assert_eq!(answer, "noerror aa: desk.apps.home.internal. 60 A 100.64.0.12 / ");
}

#[test]
fn what_is_foreign_may_be_asked_elsewhere() {
    let names = names();
    let check = |question: &str, source: IpAddr, foreign: bool| {
        let asked = bytes(&query(question));
        match names.answer(&asked, source, Transport::Tcp) {
            Answer::Foreign { refusal } => {
                assert!(foreign, "{question} from {source}");
                assert_eq!(
                    (refusal[3] & 0x0f, &refusal[..2]),
                    (5, &asked[..2]),
                    "a refusal, if nobody knows more"
                );
            }
            answer => assert!(!foreign, "{question} from {source}: {answer:?}"),
        }
    };
    check("www.example.org A", v4(2), true);
    check("1.2.0.192.in-addr.arpa PTR", v4(2), true);
    check(". NS", v4(2), true);
    check("laptop.home.internal A", v4(2), false);
    check("missing.home.internal A", v4(2), false);
    check("9.0.64.100.in-addr.arpa PTR", v4(2), false);
    // Nothing is asked elsewhere for a stranger, and no transfer for anybody.
    check("www.example.org A", IpAddr::from([192, 0, 2, 1]), false);
    check("example.org AXFR", v4(2), false);
}

#[test]
fn aliases_into_a_zone_that_the_asker_sees_are_asked_of_nobody() {
    let names = names();
    names.hand_over_aliases();
    let mut zone = zone();
    zone.names.insert(name("theirs.home.internal"), set(&["CNAME desk.work.internal"]));
    names.whole(TENANT, Generation(8), &zone).expect("as before");
    names.whole(OTHER, Generation(3), &work("work.internal", other_block(65))).expect("the block is free");
    let asked = bytes(&query("theirs.home.internal A"));
    let is_away = || matches!(names.answer(&asked, v4(2), Transport::Tcp), Answer::Away(_));
    assert!(is_away(), "it is of no zone that they see");
    names.see(TENANT, &[OTHER]);
    assert!(!is_away());
}

#[test]
fn looking_ahead_changes_no_answer_whoever_asks_at_once() {
    let names = names();
    let zones: Vec<u8> = (65..75).collect();
    for &third in &zones {
        let zone = work(&format!("work{third}.internal"), other_block(third));
        names.whole(TenantId::from_bytes([third; 16]), Generation(1), &zone).expect("the block is free");
    }
    let query = |third: &u8| bytes(&query(&format!("desk.work{third}.internal A")));
    let asker = |third: &u8| IpAddr::from([100, *third, 0, 2]);
    // More zones and more queries than it looks after, and a stranger's.
    let all: Vec<(Vec<u8>, IpAddr)> =
        (0..8).flat_map(|_| zones.iter().map(|third| (query(third), asker(third)))).collect();
    let stranger = (query(&65), IpAddr::from([192, 0, 2, 1]));
    names.bring_near([&stranger].into_iter().chain(&all).map(|(query, asker)| (query.as_slice(), *asker)));
    for (query, asker) in &all {
        assert!(matches!(
            names.answer(query, *asker, Transport::Udp),
            Answer::Reply { code: Rcode::NoError, .. }
        ));
    }
    assert!(matches!(
        names.answer(&stranger.0, stranger.1, Transport::Udp),
        Answer::Reply { code: Rcode::Refused, .. }
    ));
}

//! People are told why.

use std::net::IpAddr;

use dns::{Names, Rcode};
use hickory_proto::rr::RecordType;
use model::{Generation, TenantId, Zone};

use crate::ask::v4;
use crate::home::{SEED, TENANT, name, set, zone};

const OWN: &str = "the zone home.internal is the asker's own";
const BLOCK: &str = "the zone 64.100.in-addr.arpa is of the asker's addresses";

/// Asks for a name: the code, and the rules in their order.
fn check(owner: &str, kind: RecordType, code: Rcode, rules: &[&str]) {
    let names = Names::new(SEED);
    names.whole(TENANT, Generation(7), &zone()).expect("alone");
    let told = names.explain(&name(owner), kind.into(), v4(2));
    let lines: Vec<String> = told.rules.iter().map(ToString::to_string).collect();
    assert_eq!(
        (&lines[..], told.code),
        (&rules.iter().map(ToString::to_string).collect::<Vec<_>>()[..], code)
    );
    assert_eq!(told.tenant, (!matches!(code, Rcode::Refused | Rcode::FormErr)).then_some(TENANT));
}

#[test]
fn records_and_their_absence_are_told_apart() {
    let laptop = "laptop.home.internal has a record of this type";
    check("laptop.home.internal", RecordType::A, Rcode::NoError, &[OWN, laptop]);
    let nodata = "v4only.home.internal exists, without records of this type";
    check("v4only.home.internal", RecordType::AAAA, Rcode::NoError, &[OWN, nodata]);
    let missing = "x.laptop.home.internal does not exist, nor *.laptop.home.internal";
    check("x.laptop.home.internal", RecordType::A, Rcode::NxDomain, &[OWN, missing]);
    let many = "big.home.internal has 30 records of this type";
    check("big.home.internal", RecordType::TXT, Rcode::NoError, &[OWN, many]);
    let foreign = "www.example.org is of no zone that the asker sees";
    check("www.example.org", RecordType::A, Rcode::Refused, &[foreign]);
}

#[test]
fn wildcards_and_aliases_are_told_in_their_order() {
    let through = [
        OWN,
        "x.elsewhere.home.internal does not exist; *.elsewhere.home.internal answers for it",
        "x.elsewhere.home.internal is an alias of laptop.home.internal",
        "laptop.home.internal has a record of this type",
    ];
    check("x.elsewhere.home.internal", RecordType::A, Rcode::NoError, &through);
    let away = [
        OWN,
        "away.home.internal is an alias of www.example.org",
        "www.example.org is outside of the zone: asked of others, or by the asker",
    ];
    check("away.home.internal", RecordType::A, Rcode::NoError, &away);
    let round = [
        OWN,
        "round.home.internal is an alias of trip.home.internal",
        "trip.home.internal is an alias of round.home.internal",
        "the aliases do not end: given up at round.home.internal",
    ];
    check("round.home.internal", RecordType::A, Rcode::NoError, &round);
}

#[test]
fn addresses_are_told_by_their_zone() {
    let has = "2.0.64.100.in-addr.arpa has a record of this type";
    check("2.0.64.100.in-addr.arpa", RecordType::PTR, Rcode::NoError, &[BLOCK, has]);
    let nobody = "9.9.64.100.in-addr.arpa does not exist, nor *.64.100.in-addr.arpa";
    check("9.9.64.100.in-addr.arpa", RecordType::PTR, Rcode::NxDomain, &[BLOCK, nobody]);
}

#[test]
fn what_is_no_type_of_records_is_refused_for_that() {
    let transfer = "transfers of whole zones are refused (RFC 5936)";
    for name in ["home.internal", "nobody.home.internal", "www.example.org", "64.100.in-addr.arpa"] {
        check(name, RecordType::AXFR, Rcode::Refused, &[transfer]);
        check(name, RecordType::IXFR, Rcode::Refused, &[transfer]);
        check(name, RecordType::from(249), Rcode::Refused, &["that is no type of records"]);
        check(name, RecordType::OPT, Rcode::FormErr, &["that is no type of records"]);
    }
}

#[test]
fn strangers_and_other_zones_are_told_apart() {
    let names = Names::new(SEED);
    names.whole(TENANT, Generation(7), &zone()).expect("alone");
    let lines = |owner: &str, source: IpAddr| {
        let told = names.explain(&name(owner), RecordType::A.into(), source);
        (told.rules.iter().map(ToString::to_string).collect::<Vec<_>>(), told.tenant)
    };
    let (stranger, nobody) = lines("laptop.home.internal", IpAddr::from([192, 0, 2, 1]));
    assert_eq!(
        (stranger.as_slice(), nobody),
        (&["the asker's address is in no tenant's block: refused".into()][..], None)
    );

    let other = TenantId::from_bytes([2; 16]);
    let (v4_net, v6_net) = ("100.65.0.0/16".parse().expect("a net"), "fd99::/48".parse().expect("a net"));
    let mut work =
        Zone::new(name("work.internal"), model::Block::from_nets(v4_net, v6_net).expect("a block"));
    work.names.insert(name("desk.work.internal"), set(&["A 100.65.0.2"]));
    names.whole(other, Generation(1), &work).expect("the block is free");
    names.see(TENANT, &[other]);
    let (seen, whose) = lines("desk.work.internal", v4(2));
    assert_eq!(
        seen,
        ["the zone work.internal is another tenant's", "desk.work.internal has a record of this type"]
    );
    assert_eq!(whose, Some(other));
}

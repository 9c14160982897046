//! One question, one expected line.

use std::net::IpAddr;

use dns::{Answer, Names, NamesError, Rcode, Transport};
use hickory_proto::op::{Edns, Message, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, RecordType};
use model::patch::ZonePatch;
use model::{Block, Generation, RecordSet, TenantId, Zone};

use crate::ask::{ask, bytes, query, text, v4};
use crate::home::{TENANT, block, name, of_host, set, zone};

const SOA: &str = "home.internal. 10 SOA 7 10";

fn names() -> Names {
    let names = Names::new();
    names.whole(TENANT, Generation(7), &zone()).expect("the block is free");
    names
}

fn check(question: &str, expect: &str) {
    let answer = ask(&names(), &query(question), v4(2), Transport::Udp);
    assert_eq!(text(&answer), expect, "{question}");
}

#[test]
fn names_have_addresses() {
    check("laptop.home.internal A", "noerror aa: laptop.home.internal. 30 A 100.64.0.2 / ");
    check("laptop.home.internal AAAA", "noerror aa: laptop.home.internal. 30 AAAA fd12:3456:789a::2 / ");
    check("note.home.internal TXT", "noerror aa: note.home.internal. 60 TXT hello / ");
}

#[test]
fn case_is_kept_and_does_not_matter() {
    check("LapTop.hOmE.InternaL A", "noerror aa: LapTop.hOmE.InternaL. 30 A 100.64.0.2 / ");
    let mixed = query("LapTop.hOmE.InternaL A");
    let Answer::Reply { bytes: reply, .. } = names().answer(&bytes(&mixed), v4(2), Transport::Udp) else {
        panic!("no answer");
    };
    assert_eq!(reply[12..bytes(&mixed).len()], bytes(&mixed)[12..], "the question comes back bit by bit");
}

#[test]
fn a_name_without_the_type_is_not_a_missing_name() {
    // musl asks A and AAAA together and fails the look-up if one says NXDOMAIN.
    check("v4only.home.internal A", "noerror aa: v4only.home.internal. 60 A 100.64.0.9 / ");
    check("v4only.home.internal AAAA", &format!("noerror aa:  / {SOA}"));
    check("laptop.home.internal MX", &format!("noerror aa:  / {SOA}"));
    check("missing.home.internal A", &format!("nxdomain aa:  / {SOA}"));
    check("x.laptop.home.internal A", &format!("nxdomain aa:  / {SOA}"));
    check("b.deep.home.internal A", &format!("noerror aa:  / {SOA}"));
    check("deep.home.internal ANY", &format!("noerror aa:  / {SOA}"));
    check("c.deep.home.internal A", &format!("nxdomain aa:  / {SOA}"));
}

#[test]
fn aliases_are_followed_inside_the_zone() {
    let www = "www.home.internal. 60 CNAME laptop.home.internal.";
    check("www.home.internal A", &format!("noerror aa: {www}, laptop.home.internal. 30 A 100.64.0.2 / "));
    let alias = "alias.home.internal. 60 CNAME www.home.internal.";
    check(
        "alias.home.internal A",
        &format!("noerror aa: {alias}, {www}, laptop.home.internal. 30 A 100.64.0.2 / "),
    );
    check("alias.home.internal CNAME", &format!("noerror aa: {alias} / "));
    check("www.home.internal MX", &format!("noerror aa: {www} / {SOA}"));
    let dangling = "dangling.home.internal. 60 CNAME missing.home.internal.";
    check("dangling.home.internal A", &format!("nxdomain aa: {dangling} / {SOA}"));
    check("away.home.internal A", "noerror aa: away.home.internal. 60 CNAME www.example.org. / ");
}

#[test]
fn alias_chains_end() {
    let (_, round) = ask(&names(), &query("round.home.internal A"), v4(2), Transport::Udp);
    assert_eq!(round.answers.len(), 2, "{round}");
    let (code, long) = ask(&names(), &query("link0.home.internal A"), v4(2), Transport::Udp);
    assert_eq!((code, long.answers.len()), (Rcode::NoError, dns::limits::CNAME_CHAIN_MAX + 1));
}

#[test]
fn the_apex_has_soa_and_ns() {
    check("home.internal SOA", "noerror aa: home.internal. 30 SOA 7 10 / ");
    check("home.internal NS", "noerror aa: home.internal. 30 NS hub.home.internal. / ");
    check("home.internal ANY", "noerror aa: home.internal. 30 SOA 7 10 / ");
    check("home.internal A", &format!("noerror aa:  / {SOA}"));
    check("laptop.home.internal SOA", &format!("noerror aa:  / {SOA}"));
}

#[test]
fn any_is_answered_in_little() {
    check("laptop.home.internal ANY", "noerror aa: laptop.home.internal. 30 HINFO RFC8482 / ");
    check("www.home.internal ANY", "noerror aa: www.home.internal. 60 CNAME laptop.home.internal. / ");
    check("missing.home.internal ANY", &format!("nxdomain aa:  / {SOA}"));
}

#[test]
fn addresses_have_names() {
    let soa = "64.100.in-addr.arpa. 10 SOA 7 10";
    check(
        "2.0.64.100.in-addr.arpa PTR",
        "noerror aa: 2.0.64.100.in-addr.arpa. 30 PTR laptop.home.internal. / ",
    );
    check("2.0.64.100.in-addr.arpa A", &format!("noerror aa:  / {soa}"));
    check("2.0.64.100.in-addr.arpa ANY", "noerror aa: 2.0.64.100.in-addr.arpa. 30 HINFO RFC8482 / ");
    check("9.0.64.100.in-addr.arpa PTR", &format!("nxdomain aa:  / {soa}"));
    check("9.9.64.100.In-Addr.ARPA PTR", "nxdomain aa:  / 64.100.In-Addr.ARPA. 10 SOA 7 10");
    check("0.64.100.in-addr.arpa PTR", &format!("noerror aa:  / {soa}"));
    check("64.100.in-addr.arpa SOA", "noerror aa: 64.100.in-addr.arpa. 30 SOA 7 10 / ");
    check("64.100.in-addr.arpa NS", "noerror aa: 64.100.in-addr.arpa. 30 NS hub.home.internal. / ");
    check("x.2.0.64.100.in-addr.arpa PTR", &format!("nxdomain aa:  / {soa}"));
    check("1.2.0.192.in-addr.arpa PTR", "refused:  / ");
    let six = |host: &str| format!("{host}{}a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa", ".0".repeat(19) + ".");
    let apex = "a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa.";
    check(
        &format!("{} PTR", six("2")),
        &format!("noerror aa: {}. 30 PTR laptop.home.internal. / ", six("2")),
    );
    check(&format!("{} PTR", six("f")), &format!("nxdomain aa:  / {apex} 10 SOA 7 10"));
    check(&format!("{apex} NS"), &format!("noerror aa: {apex} 30 NS hub.home.internal. / "));
}

#[test]
fn what_is_not_ours_is_refused() {
    for foreign in ["example.org A", "internal SOA", ". NS", "ahome.internal A", "100.in-addr.arpa SOA"] {
        check(foreign, "refused:  / ");
    }
    // IXFR, AXFR, MAILB, MAILA, TKEY.
    for transfer in [251, 252, 253, 254, 249] {
        let mut message = query("home.internal SOA");
        message.queries[0].set_query_type(RecordType::from(transfer));
        assert_eq!(text(&ask(&names(), &message, v4(2), Transport::Tcp)), "refused:  / ", "{message}");
    }
    let mut message = query("home.internal SOA");
    message.queries[0].set_query_type(RecordType::OPT);
    assert_eq!(text(&ask(&names(), &message, v4(2), Transport::Udp)), "formerr:  / ");
}

#[test]
fn strangers_and_other_tenants_see_nothing() {
    let names = names();
    let other = TenantId::from_bytes([2; 16]);
    let v6 = "fd99:9999:9999::/48".parse().expect("a net");
    let other_block = Block::from_nets("100.65.0.0/16".parse().expect("a net"), v6).expect("a block");
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

    let mut zone = Zone::new(name("work.internal"), other_block);
    let addresses = other_block.host(2).expect("in the block");
    zone.names.insert(name("desk.work.internal"), RecordSet::of_node(addresses));
    names.whole(other, Generation(3), &zone).expect("the block is free");
    check("100.64.0.2", "laptop.home.internal A", laptop);
    check("fd12:3456:789a::2", "laptop.home.internal A", laptop);
    check("100.65.0.2", "desk.work.internal A", "noerror aa: desk.work.internal. 30 A 100.65.0.2 / ");
    check("100.64.0.2", "desk.work.internal A", "refused:  / ");
    check("100.65.0.2", "laptop.home.internal A", "refused:  / ");
    check("fd99:9999:9999::2", "laptop.home.internal A", "refused:  / ");
    check("100.65.0.2", "2.0.64.100.in-addr.arpa PTR", "refused:  / ");
    for stranger in ["127.0.0.1", "192.0.2.1", "100.66.0.1", "100.63.255.255", "fd99:9999:999a::1", "::"] {
        check(stranger, "laptop.home.internal A", "refused:  / ");
    }
    names.gone(other);
    check("100.65.0.2", "desk.work.internal A", "refused:  / ");
    check("100.64.0.2", "laptop.home.internal A", laptop);
}

#[test]
fn blocks_may_not_overlap() {
    let names = names();
    let other = TenantId::from_bytes([2; 16]);
    let taken = Err(NamesError::BlockTaken { tenant: other, other: TENANT });
    assert_eq!(names.whole(other, Generation(1), &zone()), taken);
    assert_eq!(names.whole(TENANT, Generation(8), &zone()), Ok(()), "its own block is free for a tenant");
    let patch = ZonePatch::default();
    assert_eq!(names.patch(other, Generation(1), &patch), Err(NamesError::UnknownTenant(other)));
}

#[test]
fn a_change_moves_the_name_of_an_address() {
    let names = names();
    let check = |question: &str, expect: &str| {
        let answer = text(&ask(&names, &query(question), v4(2), Transport::Udp));
        assert_eq!(answer, expect, "{question}");
    };
    let patch = ZonePatch {
        head: None,
        set: vec![(name("desk.home.internal"), of_host(2))],
        gone: vec![name("laptop.home.internal")],
    };
    names.patch(TENANT, Generation(8), &patch).expect("the tenant is known");
    check("desk.home.internal A", "noerror aa: desk.home.internal. 30 A 100.64.0.2 / ");
    check(
        "2.0.64.100.in-addr.arpa PTR",
        "noerror aa: 2.0.64.100.in-addr.arpa. 30 PTR desk.home.internal. / ",
    );
    check("laptop.home.internal A", "nxdomain aa:  / home.internal. 10 SOA 8 10");

    let patch = ZonePatch {
        head: None,
        set: vec![
            (name("desk.home.internal"), of_host(3)),
            (name("also.home.internal"), of_host(3)),
            (name("quiet.home.internal"), set(&["A 100.64.0.3"])),
        ],
        gone: Vec::new(),
    };
    names.patch(TENANT, Generation((1 << 32) + 9), &patch).expect("the tenant is known");
    check("2.0.64.100.in-addr.arpa PTR", "nxdomain aa:  / 64.100.in-addr.arpa. 10 SOA 9 10");
    let owner = "3.0.64.100.in-addr.arpa. 30 PTR";
    let both = format!("noerror aa: {owner} also.home.internal., {owner} desk.home.internal. / ");
    check("3.0.64.100.in-addr.arpa PTR", &both);
}

fn with_edns(question: &str, change: impl FnOnce(&mut Edns) -> &mut Edns) -> Message {
    let mut query = query(question);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    change(&mut edns);
    query.set_edns(edns);
    query
}

#[test]
fn edns_is_answered_with_our_own() {
    let ask = |message: &Message| ask(&names(), message, v4(2), Transport::Udp);
    let unknown = EdnsOption::Unknown(4711, vec![1, 2, 3]);
    let query = with_edns("laptop.home.internal A", |edns| {
        edns.options_mut().insert(unknown);
        edns.flags_mut().z = 0x80;
        edns.set_dnssec_ok(true)
    });
    let (code, reply) = ask(&query);
    let edns = reply.edns.as_ref().expect("EDNS answers EDNS");
    assert_eq!((code, edns.max_payload(), edns.version()), (Rcode::NoError, 1232, 0));
    assert!(edns.options().as_ref().is_empty() && edns.flags().z == 0 && edns.flags().dnssec_ok);
    let (code, reply) = ask(&with_edns("laptop.home.internal A", |edns| edns.set_version(1)));
    let edns = reply.edns.as_ref().expect("EDNS answers EDNS");
    assert_eq!((code, edns.version(), reply.answers.len()), (Rcode::BadVers, 0, 0));
    let (_, plain) = ask(&crate::ask::query("laptop.home.internal A"));
    assert_eq!(plain.edns, None);
}

#[test]
fn long_answers_come_over_tcp() {
    let names = names();
    let check = |message: &Message, transport, expect: (bool, usize)| {
        let (_, reply) = ask(&names, message, v4(2), transport);
        assert_eq!((reply.metadata.truncation, reply.answers.len()), expect, "{message} over {transport:?}");
        assert_eq!(reply.queries.len(), 1);
    };
    let big = |size: u16| with_edns("big.home.internal TXT", |edns| edns.set_max_payload(size));
    check(&query("big.home.internal TXT"), Transport::Udp, (true, 0));
    check(&big(4096), Transport::Udp, (true, 0));
    check(&big(512), Transport::Tcp, (false, 30));
    // 4 names of 18 bytes and their records fit 512 bytes; the limit is the asker's, not ours.
    check(&query("alias.home.internal A"), Transport::Udp, (false, 3));
}

#[test]
fn other_queries_are_turned_down() {
    let names = names();
    let check = |change: &dyn Fn(&mut Message), expect: &str| {
        let mut message = query("laptop.home.internal A");
        change(&mut message);
        assert_eq!(text(&ask(&names, &message, v4(2), Transport::Udp)), expect, "{message}");
    };
    for op in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(15)] {
        check(&|message| message.metadata.op_code = op, "notimp:  / ");
    }
    for class in [DNSClass::CH, DNSClass::ANY, DNSClass::HS, DNSClass::NONE] {
        check(
            &|message| {
                message.queries[0].set_query_class(class);
            },
            "refused:  / ",
        );
    }
    check(&|message| message.queries.clear(), "formerr:  / ");
    check(&|message| message.queries.push(Query::new()), "formerr:  / ");
}

#[test]
fn what_is_no_query_gets_no_answer_or_a_format_error() {
    let names = names();
    let good = bytes(&query("laptop.home.internal A"));
    let code = |query: &[u8]| match names.answer(query, v4(2), Transport::Udp) {
        Answer::Reply { code, .. } => Some(code),
        Answer::Drop => None,
    };
    assert_eq!(code(&good), Some(Rcode::NoError));
    let response: Vec<u8> =
        good.iter().enumerate().map(|(at, b)| if at == 2 { b | 0x80 } else { *b }).collect();
    assert_eq!(code(&response), None, "a response is never answered, or two servers would talk for ever");
    assert_eq!(code(&[]), None);
    assert_eq!(code(&good[..11]), None);
    assert_eq!(code(&good[..12]), Some(Rcode::FormErr));
    assert_eq!(code(&good[..good.len() - 1]), Some(Rcode::FormErr));
    assert_eq!(code(&[&good[..], &[0]].concat()), Some(Rcode::FormErr));
    let claims_answers = [&good[..6], &[0xff, 0xff], &good[8..]].concat();
    assert_eq!(code(&claims_answers), Some(Rcode::FormErr));
}

#[test]
fn a_dot_inside_a_label_finds_nothing() {
    let mut message = query("laptop.home.internal A");
    let odd = Name::from_labels([&b"laptop.home"[..], b"internal"]).expect("a name");
    message.queries[0].set_name(odd);
    assert_eq!(text(&ask(&names(), &message, v4(2), Transport::Udp)), "refused:  / ");
    assert!(block().contains(v4(2)));
}

//! One question, one expected line.

use dns::{Names, Rcode, Transport};
use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use model::Generation;
use model::patch::ZonePatch;

use crate::ask::{ask, bytes, query, reply, text, v4};
use crate::home::{SEED, TENANT, block, name, of_host, set, zone};

const SOA: &str = "home.internal. 10 SOA 7 10";

fn names() -> Names {
    let names = Names::new(SEED);
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
    let (_, reply) = reply(&names(), &bytes(&mixed), v4(2), Transport::Udp).expect("an answer");
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
fn wildcards_answer_for_what_does_not_exist() {
    let a = |owner: &str, address: &str| format!("noerror aa: {owner}.home.internal. 60 A {address} / ");
    check("x.apps.home.internal A", &a("x.apps", "100.64.0.12"));
    check("y.X.apps.home.internal A", &a("y.X.apps", "100.64.0.12"));
    check("x.apps.home.internal TXT", "noerror aa: x.apps.home.internal. 60 TXT wild / ");
    check("x.apps.home.internal AAAA", &format!("noerror aa:  / {SOA}"));
    check("x.apps.home.internal ANY", "noerror aa: x.apps.home.internal. 30 HINFO RFC8482 / ");
    check("*.apps.home.internal A", &a("*.apps", "100.64.0.12"));
    // Names that exist, with records or by what is below them, and all that is below those.
    check("own.apps.home.internal A", &a("own.apps", "100.64.0.13"));
    check("own.apps.home.internal TXT", &format!("noerror aa:  / {SOA}"));
    check("x.own.apps.home.internal A", &format!("nxdomain aa:  / {SOA}"));
    check("apps.home.internal A", &format!("noerror aa:  / {SOA}"));
    check("deep.apps.home.internal A", &format!("noerror aa:  / {SOA}"));
    check("x.deep.apps.home.internal A", &format!("nxdomain aa:  / {SOA}"));
    // The asterisk in the middle is a label like any other (RFC 4592, section 2.3).
    check("x.*.apps.home.internal A", &format!("nxdomain aa:  / {SOA}"));
    let link = "x.elsewhere.home.internal. 60 CNAME laptop.home.internal.";
    check(
        "x.elsewhere.home.internal A",
        &format!("noerror aa: {link}, laptop.home.internal. 30 A 100.64.0.2 / "),
    );
    check("x.elsewhere.home.internal TXT", &format!("noerror aa: {link} / {SOA}"));
    check("x.elsewhere.home.internal CNAME", &format!("noerror aa: {link} / "));
}

#[test]
fn services_have_their_places() {
    let owner = "_http._tcp.home.internal.";
    check(
        "_http._tcp.home.internal SRV",
        &format!(
            "noerror aa: {owner} 60 SRV 10 5 8080 laptop.home.internal., {owner} 60 SRV 20 0 80 www.example.org. / "
        ),
    );
    check("_http._tcp.home.internal A", &format!("noerror aa:  / {SOA}"));
    check("_tcp.home.internal SRV", &format!("noerror aa:  / {SOA}"));
}

#[test]
fn names_end_in_the_case_of_the_question() {
    let mut asked = query("wWw.HOME.internal A");
    asked.metadata.id = 0x4242;
    let (_, bytes) = reply(&names(), &bytes(&asked), v4(2), Transport::Udp).expect("an answer");
    let text = text(&ask(&names(), &asked, v4(2), Transport::Udp));
    assert_eq!(
        text,
        "noerror aa: wWw.HOME.internal. 60 CNAME laptop.HOME.internal., laptop.HOME.internal. 30 A 100.64.0.2 / "
    );
    assert_eq!(bytes.len(), 12 + 23 + (12 + 9) + 16, "one label is new, all else is a pointer");
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
fn a_dot_inside_a_label_finds_nothing() {
    let mut message = query("laptop.home.internal A");
    let odd = Name::from_labels([&b"laptop.home"[..], b"internal"]).expect("a name");
    message.queries[0].set_name(odd);
    assert_eq!(text(&ask(&names(), &message, v4(2), Transport::Udp)), "refused:  / ");
    assert!(block().contains(v4(2)));
}

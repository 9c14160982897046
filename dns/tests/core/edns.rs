//! EDNS and what is unknown in a query (RFC 6891, RFC 8906), and what is no query at all.

use dns::{Names, Rcode, Transport};
use hickory_proto::op::{Edns, Message};
use hickory_proto::rr::rdata::opt::EdnsOption;
use model::Generation;

use crate::ask::{ask, both, bytes, query, reply, v4};
use crate::home::{SEED, TENANT, zone};

fn names() -> Names {
    let names = Names::new(SEED);
    names.whole(TENANT, Generation(7), &zone()).expect("the block is free");
    names
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
    let names = names();
    let ask = |message: &Message| ask(&names, message, v4(2), Transport::Udp);
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
    let (_, plain) = ask(&crate::ask::query("laptop.home.internal A"));
    assert_eq!(plain.edns, None);
}

/// The tests of RFC 8906, section 8.2, over both transports: what dig sends, what has to come back.
#[test]
fn what_is_unknown_in_edns_is_ignored_but_for_its_version() {
    let names = names();
    let unknown = |edns: &mut Edns| edns.options_mut().insert(EdnsOption::Unknown(100, Vec::new()));
    let check = |name: &str, change: &dyn Fn(&mut Edns), expect: Rcode| {
        let asked = with_edns("home.internal SOA", |edns| {
            change(edns);
            edns
        });
        for transport in [Transport::Udp, Transport::Tcp] {
            let (code, reply) = ask(&names, &asked, v4(2), transport);
            let edns = reply.edns.as_ref().expect("EDNS answers EDNS");
            assert_eq!(code, expect, "{name} over {transport:?}");
            assert_eq!((edns.version(), edns.flags().z, edns.options().as_ref().len()), (0, 0, 0), "{name}");
            assert_eq!(
                edns.flags().dnssec_ok,
                asked.edns.as_ref().is_some_and(|e| e.flags().dnssec_ok),
                "{name}"
            );
            let answered = expect == Rcode::NoError;
            assert_eq!(
                (reply.answers.len(), reply.metadata.authoritative),
                (answered.into(), answered),
                "{name}"
            );
            assert_eq!(reply.queries, asked.queries, "{name}");
        }
    };
    check("8.2.1 plain", &|_| {}, Rcode::NoError);
    check("8.2.2 version 1", &|edns| _ = edns.set_version(1), Rcode::BadVers);
    check("version 255", &|edns| _ = edns.set_version(255), Rcode::BadVers);
    check("8.2.3 unknown option", &|edns| unknown(edns), Rcode::NoError);
    check("8.2.4 unknown flag", &|edns| edns.flags_mut().z = 0x40, Rcode::NoError);
    check("all flags", &|edns| edns.flags_mut().z = 0x7fff, Rcode::NoError);
    check(
        "8.2.5 version 1, unknown flag",
        &|edns| {
            edns.set_version(1).flags_mut().z = 0x40;
        },
        Rcode::BadVers,
    );
    check(
        "8.2.6 version 1, unknown option",
        &|edns| {
            unknown(edns);
            edns.set_version(1);
        },
        Rcode::BadVers,
    );
    check("8.2.8 DO", &|edns| _ = edns.set_dnssec_ok(true), Rcode::NoError);
    check("8.2.9 version 1, DO", &|edns| _ = edns.set_version(1).set_dnssec_ok(true), Rcode::BadVers);
    check(
        "8.2.10 known and unknown options",
        &|edns| {
            unknown(edns);
            for code in [3, 8, 9, 10] {
                edns.options_mut().insert(EdnsOption::Unknown(code, vec![0; 8]));
            }
        },
        Rcode::NoError,
    );
    check("extended code", &|edns| _ = edns.set_rcode_high(1), Rcode::NoError);
}

/// An OPT record by hand.
fn opt(owner: &[u8], data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("short").to_be_bytes();
    [owner, &[0, 41, 4, 208, 0, 0, 0, 0], &length, data].concat()
}

/// A query followed by records, all counted as additional ones.
fn followed_by(records: &[Vec<u8>]) -> Vec<u8> {
    let mut asked = bytes(&query("laptop.home.internal A"));
    asked[11] = u8::try_from(records.len()).expect("few");
    records.iter().for_each(|record| asked.extend_from_slice(record));
    asked
}

#[test]
fn edns_that_is_broken_is_a_format_error() {
    let names = names();
    let check = |name: &str, asked: &[u8], expect: Rcode, hot: bool| {
        let (code, _) = reply(&names, asked, v4(2), Transport::Udp).expect("an answer");
        assert_eq!(code, expect, "{name}");
        let answered = both(&names, asked, v4(2)).expect("both paths agree");
        assert_eq!(answered.is_some(), hot, "{name} on the hot path");
    };
    let plain = opt(&[0], &[]);
    let record = [&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 9, 0, 2], &b"xy"[..]].concat();
    check("one", &followed_by(std::slice::from_ref(&plain)), Rcode::NoError, true);
    check("an option", &followed_by(&[opt(&[0], &[0, 10, 0, 2, 1, 2])]), Rcode::NoError, true);
    check("two", &followed_by(&[plain.clone(), plain.clone()]), Rcode::FormErr, false);
    check("not of the root", &followed_by(&[opt(&[1, b'a', 0], &[])]), Rcode::FormErr, false);
    check("of the root by a pointer", &followed_by(&[opt(&[0xc0, 33], &[])]), Rcode::NoError, false);
    check("half an option", &followed_by(&[opt(&[0], &[0, 10, 0, 3, 1, 2])]), Rcode::FormErr, false);
    check("half a head of an option", &followed_by(&[opt(&[0], &[0, 10, 0])]), Rcode::FormErr, false);
    check(
        "among others",
        &followed_by(&[record.clone(), plain.clone(), record.clone()]),
        Rcode::NoError,
        false,
    );
    check("another record", &followed_by(&[record]), Rcode::NoError, false);
    check("less than counted", &followed_by(std::slice::from_ref(&plain))[..30], Rcode::FormErr, false);
    let mut answers = followed_by(&[plain]);
    answers.swap(7, 11);
    check("among the answers", &answers, Rcode::FormErr, false);
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
fn what_is_no_query_gets_no_answer_or_a_format_error() {
    let names = names();
    let good = bytes(&query("laptop.home.internal A"));
    let code = |query: &[u8]| {
        both(&names, query, v4(2)).expect("both paths agree");
        reply(&names, query, v4(2), Transport::Udp).map(|(code, _)| code)
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
fn flags_are_given_back_or_not() {
    let names = names();
    let good = bytes(&query("laptop.home.internal A"));
    // RFC 8906, section 8.1.4: the last reserved bit, and all others that mean nothing in a query.
    for (flags, expect) in [
        ([0x00, 0x00], [0x84, 0x00]),
        ([0x01, 0x00], [0x85, 0x00]),
        ([0x00, 0x10], [0x84, 0x10]),
        ([0x01, 0x40], [0x85, 0x00]),
        ([0x07, 0xff], [0x85, 0x10]),
    ] {
        let asked = [&good[..2], &flags, &good[4..]].concat();
        let answer = both(&names, &asked, v4(2)).expect("both paths agree").expect("hot");
        assert_eq!(answer[2..4], expect, "{flags:02x?}");
    }
}

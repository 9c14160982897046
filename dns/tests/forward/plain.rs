//! Servers that are asked by datagram and TCP.

use std::collections::BTreeSet;

use dns::Transport;
use dns::forward::ForwardConfig;
use dns::serve::Forward as _;
use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{RData, Record, RecordType};

use crate::ask::{ask, cached, extended_error, forwarder, forwarder_with, parse, query, said, try_ask};
use crate::fake::{Act, Fake, answer, no_such_name, with_address};

#[tokio::test]
async fn an_answer_is_fetched_once_and_then_at_hand() {
    let fake = Fake::with_address(60, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[fake.rule()]);
    let mut asked = query("www.example.", RecordType::A);
    assert!(cached(&forwarder, &asked).is_none());
    assert_eq!(said(&ask(&forwarder, "www.example.").await), "192.0.2.1");
    asked.metadata.id = 77;
    let mut shouted = query("WWW.EXAMPLE.", RecordType::A);
    shouted.metadata.id = 78;
    for asked in [&asked, &shouted] {
        let given = cached(&forwarder, asked).expect("it is at hand");
        assert_eq!((said(&given).as_str(), given.metadata.id), ("192.0.2.1", asked.metadata.id));
        assert!(given.queries[0].name().eq_case(asked.queries[0].name()), "the case stays");
        assert!(given.answers[0].ttl <= 60 && given.answers[0].ttl > 50);
        assert!(given.metadata.recursion_available && !given.metadata.authoritative);
    }
    assert_eq!(forwarder.counters().asked.total(), 1);
    assert_eq!(forwarder.cache().hits, 2);
}

#[tokio::test]
async fn a_no_is_kept_too() {
    let fake = Fake::start(|heard| Act::Say(no_such_name(&heard.query, 40))).await;
    let forwarder = forwarder(&[fake.rule()]);
    for _ in 0..2 {
        let given = ask(&forwarder, "nothing.example.").await;
        assert_eq!(given.metadata.response_code, ResponseCode::NXDomain);
        assert!(given.authorities[0].ttl <= 40, "{}", given.authorities[0]);
    }
    assert_eq!(forwarder.counters().asked.total(), 1);
}

#[tokio::test]
async fn what_says_that_it_may_not_be_kept_is_not() {
    let fake = Fake::with_address(0, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[fake.rule()]);
    for _ in 0..3 {
        assert_eq!(said(&ask(&forwarder, "www.example.").await), "192.0.2.1");
    }
    assert_eq!(forwarder.counters().asked.total(), 3);
}

#[tokio::test]
async fn what_is_too_long_for_a_datagram_comes_over_tcp() {
    let fake = Fake::start(|heard| {
        let mut message = answer(&heard.query, ResponseCode::NoError);
        message.metadata.truncation = heard.transport == Transport::Udp;
        if heard.transport == Transport::Tcp {
            let owner = heard.query.queries[0].name().clone();
            let record = |last| Record::from_rdata(owner.clone(), 60, RData::A(A([192, 0, 2, last].into())));
            message.add_answers((0..100).map(record));
        }
        Act::Say(message)
    })
    .await;
    let forwarder = forwarder(&[fake.rule()]);
    let asked = query("many.example.", RecordType::A);
    let cut = try_ask(&forwarder, &asked).await.expect("it is forwarded");
    assert!(cut.metadata.truncation && cut.answers.is_empty(), "the asker comes back over TCP, too");
    let whole = forwarder.forward(asked.to_vec().unwrap(), Transport::Tcp).await.expect("it is forwarded");
    assert_eq!(Message::from_vec(&whole).unwrap().answers.len(), 100);
    assert_eq!((forwarder.counters().asked.total(), fake.heard()[0].transport), (1, Transport::Udp));
    assert!(fake.heard().iter().any(|heard| heard.transport == Transport::Tcp));
}

#[tokio::test]
async fn a_server_that_does_not_know_edns_is_asked_without() {
    let fake = Fake::start(|heard| {
        Act::Say(match heard.query.edns {
            Some(_) => answer(&heard.query, ResponseCode::FormErr),
            None => with_address(&heard.query, 60, [192, 0, 2, 1]),
        })
    })
    .await;
    let forwarder = forwarder(&[fake.rule()]);
    assert_eq!(said(&ask(&forwarder, "a.example.").await), "192.0.2.1");
    assert_eq!(said(&ask(&forwarder, "b.example.").await), "192.0.2.1");
    let with_edns = fake.heard().iter().filter(|heard| heard.query.edns.is_some()).count();
    assert!(with_edns <= 1 && fake.heard().len() >= 2, "it is remembered");
}

#[tokio::test]
async fn lies_are_not_believed() {
    let fake = Fake::start(|heard| {
        let good = with_address(&heard.query, 60, [192, 0, 2, 1]).to_vec().unwrap();
        let lie = with_address(&heard.query, 60, [203, 0, 113, 66]);
        let mut other_id = lie.clone();
        other_id.metadata.id = lie.metadata.id.wrapping_add(1);
        let mut other_name = lie.clone();
        other_name.queries = query("other.example.", RecordType::A).queries;
        let mut other_kind = lie.clone();
        other_kind.queries = query("www.example.", RecordType::TXT).queries;
        let mut no_answer = lie;
        no_answer.metadata.message_type = hickory_proto::op::MessageType::Query;
        let lies = [other_id, other_name, other_kind, no_answer].map(|lie| lie.to_vec().unwrap());
        Act::Bytes([lies.to_vec(), vec![vec![], good[..20].to_vec(), good]].concat())
    })
    .await;
    let forwarder = forwarder(&[fake.rule()]);
    assert_eq!(said(&ask(&forwarder, "www.example.").await), "192.0.2.1");
}

#[tokio::test]
async fn who_guesses_is_escaped_from_over_tcp() {
    let fake = Fake::start(|heard| match heard.transport {
        Transport::Tcp => Act::Say(with_address(&heard.query, 60, [192, 0, 2, 1])),
        Transport::Udp => {
            let guesses = (0..50).map(|guess| {
                let mut lie = with_address(&heard.query, 60, [203, 0, 113, 66]);
                lie.metadata.id = heard.query.metadata.id.wrapping_add(guess + 1);
                lie.to_vec().unwrap()
            });
            Act::Bytes(guesses.collect())
        }
    })
    .await;
    let forwarder = forwarder(&[fake.rule()]);
    assert_eq!(said(&ask(&forwarder, "www.example.").await), "192.0.2.1");
}

#[tokio::test]
async fn who_refuses_makes_place_for_the_next_and_is_quoted_when_there_is_none() {
    let refusing = Fake::start(|heard| Act::Say(answer(&heard.query, ResponseCode::Refused))).await;
    let good = Fake::start(|heard| match heard.query.queries[0].name().to_ascii().as_str() {
        "bogus.example." => {
            let mut bogus = answer(&heard.query, ResponseCode::ServFail);
            let mut edns = Edns::new();
            edns.options_mut().insert(EdnsOption::Unknown(15, vec![0, 6]));
            bogus.set_edns(edns);
            Act::Say(bogus)
        }
        _ => Act::Say(with_address(&heard.query, 60, [192, 0, 2, 1])),
    })
    .await;
    let forwarder = forwarder(&[refusing.rule(), good.rule()]);
    assert_eq!(said(&ask(&forwarder, "www.example.").await), "192.0.2.1");
    for _ in 0..3 {
        let bogus = ask(&forwarder, "bogus.example.").await;
        assert_eq!((said(&bogus).as_str(), extended_error(&bogus)), ("ServFail", Some(6)));
    }
    assert_eq!(forwarder.counters().failed.total(), 1, "a failure is kept for a moment (RFC 9520)");
}

#[tokio::test]
async fn of_an_askers_options_only_the_wish_for_signatures_is_passed_on() {
    let fake = Fake::with_address(60, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[fake.rule()]);
    let mut asked = query("www.example.", RecordType::A);
    let edns = asked.edns.as_mut().unwrap();
    edns.set_dnssec_ok(true).set_max_payload(4096);
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
    edns.options_mut().insert(EdnsOption::Unknown(65_001, vec![2; 8]));
    let signed = try_ask(&forwarder, &asked).await.expect("it is forwarded");
    let edns = signed.edns.expect("the asker speaks it");
    assert!(edns.flags().dnssec_ok && edns.options().as_ref().is_empty());
    let mut unchecked = query("www.example.", RecordType::A);
    unchecked.metadata.checking_disabled = true;
    assert!(try_ask(&forwarder, &unchecked).await.expect("it is forwarded").metadata.checking_disabled);
    ask(&forwarder, "www.example.").await;
    assert_eq!(forwarder.counters().asked.total(), 3, "each is another question");
    let mut passed_on = BTreeSet::new();
    for heard in fake.heard() {
        let edns = heard.query.edns.as_ref().expect("we speak it");
        assert_eq!((edns.max_payload(), edns.options().as_ref().len()), (1232, 0));
        passed_on.insert((edns.flags().dnssec_ok, heard.query.metadata.checking_disabled));
    }
    assert_eq!(passed_on, BTreeSet::from([(true, false), (false, true), (false, false)]));
    let mut without = query("www.example.", RecordType::A);
    without.edns = None;
    assert!(cached(&forwarder, &without).expect("it is at hand").edns.is_none());
}

#[tokio::test]
async fn each_name_goes_to_the_servers_of_its_suffix() {
    let corp = Fake::with_address(60, [10, 0, 0, 1]).await;
    let rest = Fake::with_address(60, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[corp.rule_for("corp.example"), rest.rule()]);
    assert_eq!(said(&ask(&forwarder, "www.corp.example.").await), "10.0.0.1");
    assert_eq!(said(&ask(&forwarder, "www.example.").await), "192.0.2.1");
    for (fake, name) in [(&corp, "www.corp.example."), (&rest, "www.example.")] {
        assert!(fake.heard().iter().all(|heard| heard.query.queries[0].name().to_ascii() == name));
    }
}

#[tokio::test]
async fn the_case_is_mixed_where_that_is_wished() {
    let fake = Fake::with_address(60, [192, 0, 2, 1]).await;
    let config =
        ForwardConfig { upstreams: vec![parse(&fake.rule())], mixed_case: true, ..Default::default() };
    let forwarder = forwarder_with(config);
    let name = "a-name-of-many-letters-to-choose-from.example.";
    assert_eq!(said(&ask(&forwarder, name).await), "192.0.2.1");
    let sent = fake.heard()[0].query.queries[0].name().to_ascii();
    assert_ne!(sent, name);
    assert!(sent.eq_ignore_ascii_case(name));
    fake.behave(|heard| {
        let mut lower = with_address(&heard.query, 60, [203, 0, 113, 66]);
        lower.queries[0].name = lower.queries[0].name.to_lowercase();
        Act::Bytes(vec![
            lower.to_vec().unwrap(),
            with_address(&heard.query, 60, [192, 0, 2, 2]).to_vec().unwrap(),
        ])
    });
    let given = ask(&forwarder, "another-name-of-many-letters.example.").await;
    assert_eq!(said(&given), "192.0.2.2", "an answer in another case is none");
}

#[tokio::test]
async fn ids_are_not_guessed_from_the_last() {
    let fake = Fake::with_address(60, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[fake.rule()]);
    for number in 0..20 {
        ask(&forwarder, &format!("n{number}.example.")).await;
    }
    let ids: Vec<u16> = fake.heard().iter().map(|heard| heard.query.metadata.id).collect();
    let steps = ids.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) < 16).count();
    assert!(steps < 5, "{ids:?}");
}

//! What is never asked, and what is not believed.

use std::sync::Arc;

use dns::Transport;
use dns::forward::{ForwardConfig, Machine, Mesh};
use dns::serve::Forward as _;
use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use crate::ask::{ask, extended_error, forwarder, forwarder_with, machine, parse, query, said, try_ask};
use crate::fake::{Act, Fake, answer, with_address};

#[tokio::test]
async fn names_of_the_mesh_and_odd_questions_go_nowhere() {
    let fake = Fake::with_address(60, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[fake.rule(), fake.rule_for("internal")]);
    for name in ["home.internal.", "x.y.HOME.internal."] {
        assert!(try_ask(&forwarder, &query(name, RecordType::A)).await.is_none(), "{name}");
    }
    let odd = |change: &dyn Fn(&mut Message)| {
        let mut message = query("www.example.", RecordType::A);
        change(&mut message);
        message.to_vec().unwrap()
    };
    let odd_ones = [
        odd(&|message| message.metadata.recursion_desired = false),
        odd(&|message| message.metadata.op_code = OpCode::Notify),
        odd(&|message| message.queries[0].query_class = DNSClass::CH),
        odd(&|message| message.queries[0].query_type = RecordType::AXFR),
        odd(&|message| message.queries.clear()),
        vec![0; 5],
        Vec::new(),
    ];
    for bytes in odd_ones {
        assert_eq!(forwarder.forward(bytes.clone(), Transport::Tcp).await, None, "{bytes:?}");
    }
    assert!(fake.heard().is_empty());
    assert_eq!(forwarder.counters().refused.total(), 9);
}

#[tokio::test]
async fn who_has_an_address_of_the_mesh_is_nobody_elses_to_say() {
    let fake = Fake::with_address(60, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[fake.rule_for("100.in-addr.arpa")]);
    forwarder.set_mesh(Mesh {
        zones: Vec::new(),
        blocks: ["100.64.0.0/16", "100.70.16.0/20", "fd12:3456:789a::/48"]
            .map(|net| net.parse().unwrap())
            .into(),
        own: Vec::new(),
    });
    forwarder.set_machine(machine(&[fake.address]));
    let six = "a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa.";
    for name in [
        "64.100.in-addr.arpa.",
        "4.3.64.100.IN-ADDR.arpa.",
        "x.4.3.64.100.in-addr.arpa.",
        "4.31.70.100.in-addr.arpa.",
        six,
        &format!("1.{}{six}", "0.".repeat(19)),
    ] {
        for kind in [RecordType::PTR, RecordType::SOA] {
            assert!(try_ask(&forwarder, &query(name, kind)).await.is_none(), "{name}");
        }
    }
    assert!(fake.heard().is_empty());
    for name in
        ["4.3.65.100.in-addr.arpa.", "4.32.70.100.in-addr.arpa.", "1.b.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa."]
    {
        assert_eq!(said(&ask(&forwarder, name).await), "192.0.2.1", "the site's own");
    }
}

#[tokio::test]
async fn names_of_nobody_are_answered_here() {
    let fake = Fake::with_address(60, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[]);
    forwarder.set_machine(machine(&["203.0.113.53:53".parse().unwrap()]));
    for name in
        ["x.invalid.", "a.test.", "shop.onion.", "printer.home.arpa.", "1.0.0.10.in-addr.arpa.", "x.local."]
    {
        assert_eq!(said(&ask(&forwarder, name).await), "NXDomain", "{name}");
    }
    assert_eq!(said(&ask(&forwarder, "localhost.").await), "127.0.0.1");
    assert_eq!(forwarder.counters().asked.total(), 0);
    forwarder.set_machine(machine(&[fake.address]));
    assert_eq!(
        said(&ask(&forwarder, "printer.home.arpa.").await),
        "192.0.2.1",
        "the site's own server may be asked"
    );
    assert_eq!(said(&ask(&forwarder, "shop.onion.").await), "NXDomain");
}

#[tokio::test]
async fn our_own_address_is_no_server() {
    let forwarder = forwarder(&["100.64.0.2".into()]);
    assert!(forwarder.upstreams().is_empty());
    forwarder.set_machine(Machine {
        resolvers: vec!["[::ffff:100.64.0.2]:53".parse().unwrap()],
        domains: Vec::new(),
    });
    assert!(forwarder.upstreams().is_empty());
    assert_eq!(said(&ask(&forwarder, "www.example.").await), "ServFail");
}

/// Answers with the address that the first label names: `a-10-0-0-1`.
fn as_named(query: &Message) -> Message {
    let name = query.queries[0].name().to_ascii();
    let octets: Vec<u8> =
        name.split(['-', '.']).skip(1).take(4).filter_map(|text| text.parse().ok()).collect();
    match <[u8; 4]>::try_from(octets) {
        Ok(octets) => with_address(query, 60, octets),
        Err(_) => answer(query, ResponseCode::NoError),
    }
}

#[tokio::test]
async fn names_of_strangers_lead_only_into_the_world() {
    let fake = Arc::new(Fake::start(|heard| Act::Say(as_named(&heard.query))).await);
    let config = ForwardConfig {
        upstreams: vec![parse(&fake.rule_for("corp.example"))],
        rebind_allow: vec!["plex.direct".parse().unwrap(), "*.starred.example".parse().unwrap()],
        ..Default::default()
    };
    let forwarder = forwarder_with(config);
    forwarder.set_machine(machine(&[fake.address]));
    let check = async |name: &str, expect: &str| {
        let given = ask(&forwarder, name).await;
        assert_eq!(said(&given), expect, "{name}");
        assert_eq!(extended_error(&given), expect.is_empty().then_some(15), "{name}");
    };
    check("a-192-0-2-7.evil.example.", "192.0.2.7").await;
    for address in ["10-0-0-1", "192-168-1-1", "169-254-169-254", "127-0-0-1", "100-64-3-4", "0-0-0-0"] {
        check(&format!("a-{address}.evil.example."), "").await;
        check(&format!("a-{address}.evil.example."), "").await;
        check(&format!("a-{address}.corp.example."), &address.replace('-', ".")).await;
        check(&format!("a-{address}.plex.direct."), &address.replace('-', ".")).await;
        check(&format!("a-{address}.starred.example."), &address.replace('-', ".")).await;
    }
    check("a-192-168-1-9.lan.example.", "192.168.1.9").await;
    check("a-100-64-3-4.lan.example.", "").await;
    check("a-192-168-1-9.home.arpa.", "192.168.1.9").await;
    assert_eq!(forwarder.counters().blocked.total(), 7, "each once, as that is kept too");
}

#[tokio::test]
async fn one_bad_address_among_good_ones_takes_them_with_it() {
    let fake = Fake::start(|heard| {
        let mut message = with_address(&heard.query, 60, [192, 0, 2, 1]);
        let owner = heard.query.queries[0].name().clone();
        message.add_answer(Record::from_rdata(owner, 60, RData::A(A([10, 0, 0, 1].into()))));
        Act::Say(message)
    })
    .await;
    let forwarder = forwarder(&[fake.rule()]);
    assert_eq!(said(&ask(&forwarder, "www.example.").await), "");
}

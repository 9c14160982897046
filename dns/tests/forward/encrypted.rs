//! Servers over TLS and HTTPS: who they are is checked, and what is asked is padded.

use dns::forward::{Condition, ForwardConfig, Forwarder};

use crate::ask::{ask, forwarder_with, parse, said};
use crate::safe::{Kind, NAME, Safe};
use crate::wait;

fn rule(safe: &Safe, kind: Kind, name: &str) -> String {
    match kind {
        Kind::Tls => format!("tls://{}{name}", safe.address),
        Kind::Https => format!("https://{}/ask?us{name}", safe.address),
    }
}

fn forwarder(safe: &Safe, kind: Kind, name: &str) -> Forwarder {
    let upstreams = vec![parse(&rule(safe, kind, name))];
    forwarder_with(ForwardConfig {
        upstreams,
        authorities: Some(safe.authority.clone()),
        ..Default::default()
    })
}

const KINDS: [Kind; 2] = [Kind::Tls, Kind::Https];

#[tokio::test]
async fn one_connection_serves_many_questions() {
    for kind in KINDS {
        let safe = Safe::start(kind).await;
        let forwarder = forwarder(&safe, kind, &format!("#{NAME}"));
        for number in 0..20 {
            assert_eq!(said(&ask(&forwarder, &format!("n{number}.example.")).await), "192.0.2.1", "{kind:?}");
        }
        let connections = safe.shared.connections.lock().unwrap().clone();
        assert_eq!(connections, [Some(NAME.to_owned())], "{kind:?}");
        let heard = safe.shared.heard.lock().unwrap().clone();
        assert!(heard.len() >= 20);
        for (query, path) in heard {
            assert_eq!(query.len() % 128, 0, "questions are padded");
            assert_eq!(path, if kind == Kind::Https { "/ask?us" } else { "" });
        }
        assert!(forwarder.upstreams()[0].condition == Condition::Good);
    }
}

#[tokio::test]
async fn an_address_is_a_name_too() {
    for kind in KINDS {
        let safe = Safe::start(kind).await;
        assert_eq!(said(&ask(&forwarder(&safe, kind, ""), "www.example.").await), "192.0.2.1", "{kind:?}");
    }
}

#[tokio::test]
async fn another_name_or_authority_is_not_believed() {
    for kind in KINDS {
        let safe = Safe::start(kind).await;
        let upstreams = || vec![parse(&rule(&safe, kind, &format!("#{NAME}")))];
        let strangers = forwarder_with(ForwardConfig { upstreams: upstreams(), ..Default::default() });
        for forwarder in [forwarder(&safe, kind, "#other.example"), strangers] {
            assert_eq!(said(&ask(&forwarder, "www.example.").await), "ServFail", "{kind:?}");
        }
        assert!(safe.shared.heard.lock().unwrap().is_empty(), "nobody else hears the question");
    }
}

#[tokio::test]
async fn a_connection_that_ends_is_made_anew() {
    for kind in KINDS {
        let safe = Safe::start(kind).await;
        let forwarder = forwarder(&safe, kind, &format!("#{NAME}"));
        for round in 0..3 {
            assert_eq!(said(&ask(&forwarder, &format!("n{round}.example.")).await), "192.0.2.1", "{kind:?}");
            safe.hang_up();
        }
        let connections = || safe.shared.connections.lock().unwrap().len();
        wait::until("connections are counted", || connections() >= 3).await;
    }
}

#[test]
fn authorities_that_are_none_are_refused() {
    let start = |authorities: &[u8]| {
        let config = ForwardConfig { authorities: Some(authorities.to_vec()), ..Default::default() };
        Forwarder::start(config).map(|_| ()).expect_err("no forwarder").to_string()
    };
    assert!(start(b"nonsense").contains("holds no certificate"), "{}", start(b"nonsense"));
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(start(broken).contains("no authority"), "{}", start(broken));
}

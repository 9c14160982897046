//! Where answers are said to come from.

use dns::forward::{Forwarder, Origin, Target};
use hickory_proto::rr::RecordType;

use crate::ask::{forwarder, query};
use crate::fake::{Act, Fake, with_address};
use crate::wait;

async fn origin(forwarder: &Forwarder, name: &str) -> Origin {
    let query = query(name, RecordType::A).to_vec().expect("it is sound");
    forwarder.explain(&query).await.1
}

#[tokio::test]
async fn an_answer_comes_from_a_server_then_from_memory_and_is_old_when_nobody_has_a_newer_one() {
    let fake = Fake::with_address(1, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[fake.rule()]);
    let server = Some(Target::Plain(fake.address));
    assert_eq!(origin(&forwarder, "www.example.").await, Origin::Server(server.clone()));
    let kept = origin(&forwarder, "www.example.").await;
    assert_eq!(kept, Origin::Kept { server: server.clone(), seconds: Some(0) });
    fake.behave(|_| Act::Nothing);
    wait::for_some("it has ended, and nobody has another", async || {
        let stale = Origin::Kept { server: server.clone(), seconds: None };
        (origin(&forwarder, "www.example.").await == stale).then_some(())
    })
    .await;
    assert_eq!(origin(&forwarder, "other.example.").await, Origin::Nobody);
}

#[tokio::test]
async fn what_is_nobodys_or_the_meshs_is_asked_of_nobody() {
    let fake = Fake::start(|heard| Act::Say(with_address(&heard.query, 60, [192, 0, 2, 1]))).await;
    let forwarder = forwarder(&[fake.rule()]);
    assert_eq!(origin(&forwarder, "www.localhost.").await, Origin::Here);
    assert_eq!(origin(&forwarder, "beta.home.internal.").await, Origin::Refused);
    assert!(fake.heard().is_empty());
}

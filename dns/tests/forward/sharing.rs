//! Many who ask at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::rr::RecordType;
use tokio::task::JoinSet;

use crate::ask::{ask, cached, forwarder, query, said};
use crate::fake::{Act, Fake, with_address};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_questions_are_asked_once() {
    let fake = Fake::with_address(60, [192, 0, 2, 1]).await;
    let forwarder = Arc::new(forwarder(&[fake.rule()]));
    let mut askers = JoinSet::new();
    for _ in 0..200 {
        let forwarder = Arc::clone(&forwarder);
        askers.spawn(async move { said(&ask(&forwarder, "www.example.").await) });
    }
    while let Some(given) = askers.join_next().await {
        assert_eq!(given.expect("no asker panics"), "192.0.2.1");
    }
    assert_eq!(forwarder.counters().asked.total(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn different_questions_get_their_own_answers() {
    let number = |name: &str| name.split(['.', 'n']).nth(1).and_then(|text| text.parse::<u8>().ok());
    let fake = Fake::start(move |heard| {
        let number = number(&heard.query.queries[0].name().to_ascii()).unwrap_or_default();
        Act::Say(with_address(&heard.query, 60, [192, 0, 2, number]))
    })
    .await;
    let forwarder = Arc::new(forwarder(&[fake.rule()]));
    let mut askers = JoinSet::new();
    for asker in 0..150_u8 {
        let forwarder = Arc::clone(&forwarder);
        askers.spawn(async move {
            for round in 0..4_u8 {
                let number = asker.wrapping_add(round) % 100;
                let given = ask(&forwarder, &format!("n{number}.example.")).await;
                assert_eq!(said(&given), format!("192.0.2.{number}"));
            }
        });
    }
    while let Some(asked) = askers.join_next().await {
        asked.expect("every answer is right");
    }
    assert_eq!(forwarder.counters().asked.total(), 100, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_questions_is_turned_away_and_what_is_at_hand_is_given_meanwhile() {
    let heard_most = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start({
        let heard_most = Arc::clone(&heard_most);
        move |heard| match heard.query.queries[0].name().to_ascii().as_str() {
            "known.example." => Act::Say(with_address(&heard.query, 60, [192, 0, 2, 1])),
            _ => {
                heard_most.fetch_add(1, Ordering::Relaxed);
                Act::Nothing
            }
        }
    })
    .await;
    let forwarder = Arc::new(forwarder(&[fake.rule()]));
    ask(&forwarder, "known.example.").await;
    let mut askers = JoinSet::new();
    for number in 0..1_000 {
        let forwarder = Arc::clone(&forwarder);
        askers.spawn(async move { said(&ask(&forwarder, &format!("n{number}.example.")).await) });
    }
    while let Some(given) = askers.join_next().await {
        assert!(cached(&forwarder, &query("known.example.", RecordType::A)).is_some());
        assert_eq!(given.expect("no asker panics"), "ServFail");
    }
    assert!(forwarder.counters().crowded.total() > 0, "{:?}", forwarder.counters());
}

//! Servers that are slow, silent or gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dns::forward::{Condition, Forwarder};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::ask::{ask, cached, extended_error, forwarder, machine, query, said};
use crate::fake::{Act, Fake, answer, no_such_name, nobody, with_address};
use crate::wait;

fn condition(forwarder: &Forwarder, of: &Fake) -> Condition {
    let upstreams = forwarder.upstreams();
    upstreams
        .iter()
        .find(|upstream| upstream.target.address() == of.address)
        .expect("it is one of them")
        .condition
}

#[tokio::test]
async fn the_next_is_asked_soon_and_the_silent_one_no_more() {
    let silent = Fake::start(|_| Act::Nothing).await;
    let good = Fake::with_address(60, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[silent.rule(), good.rule()]);
    let began = Instant::now();
    assert_eq!(said(&ask(&forwarder, "first.example.").await), "192.0.2.1");
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    wait::until("the silent one is out of favour", || condition(&forwarder, &silent) > Condition::Good).await;
    let before = silent.heard().len();
    for number in 0..20 {
        ask(&forwarder, &format!("n{number}.example.")).await;
    }
    assert_eq!(silent.heard().len(), before);
}

#[tokio::test]
async fn where_nobody_is_failure_comes_at_once_and_says_why() {
    let forwarder = forwarder(&[nobody().await.to_string()]);
    let began = Instant::now();
    let failed = ask(&forwarder, "www.example.").await;
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    assert_eq!((said(&failed).as_str(), extended_error(&failed)), ("ServFail", Some(23)));
}

#[tokio::test]
async fn silence_ends_in_failure_then_failure_is_known_and_then_the_server_is_back() {
    let fake = Fake::start(|_| Act::Nothing).await;
    let forwarder = forwarder(&[fake.rule()]);
    let began = Instant::now();
    let (failed, _, _) = tokio::join!(
        ask(&forwarder, "first.example."),
        ask(&forwarder, "second.example."),
        ask(&forwarder, "third.example.")
    );
    assert!(began.elapsed() < Duration::from_millis(4_500), "{:?}", began.elapsed());
    assert_eq!((said(&failed).as_str(), extended_error(&failed)), ("ServFail", Some(22)));
    assert_eq!(condition(&forwarder, &fake), Condition::Dead);
    let (began, before) = (Instant::now(), fake.heard().len());
    for number in 0..50 {
        assert_eq!(said(&ask(&forwarder, &format!("n{number}.example.")).await), "ServFail");
    }
    assert!(began.elapsed() < Duration::from_millis(1_500), "at once: {:?}", began.elapsed());
    assert_eq!(fake.heard().len(), before, "nobody asks a dead server");
    fake.behave(|heard| Act::Say(with_address(&heard.query, 60, [192, 0, 2, 1])));
    wait::for_some("it is found to be back", async || {
        (said(&ask(&forwarder, "back.example.").await) == "192.0.2.1").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_a_server_cannot_find_takes_no_other_name_with_it() {
    let fake = Fake::start(|heard| match heard.query.queries[0].name().to_ascii().as_str() {
        "broken.example." => Act::Nothing,
        _ => Act::Say(with_address(&heard.query, 60, [192, 0, 2, 1])),
    })
    .await;
    let forwarder = Arc::new(forwarder(&[fake.rule()]));
    let broken = tokio::spawn({
        let forwarder = Arc::clone(&forwarder);
        async move { said(&ask(&forwarder, "broken.example.").await) }
    });
    let mut others = 0;
    while !broken.is_finished() {
        assert_eq!(said(&ask(&forwarder, &format!("n{others}.example.")).await), "192.0.2.1");
        others += 1;
    }
    assert_eq!(broken.await.expect("no asker panics"), "ServFail");
    assert_eq!(condition(&forwarder, &fake), Condition::Good, "after {others} others");
}

#[tokio::test]
async fn names_that_nobody_answers_do_not_take_the_only_server_away() {
    // Its silence about probes is what some filters make of names of `test`.
    let fake = Fake::start(|heard| match heard.query.queries[0].name().to_ascii() {
        name if name.starts_with("good") => Act::Say(with_address(&heard.query, 60, [192, 0, 2, 1])),
        _ => Act::Nothing,
    })
    .await;
    let forwarder = forwarder(&[fake.rule()]);
    assert_eq!(said(&ask(&forwarder, "good0.example.").await), "192.0.2.1");
    assert_eq!(said(&ask(&forwarder, "silent0.example.").await), "ServFail");
    assert_eq!(condition(&forwarder, &fake), Condition::Doubtful, "one question is one failure");
    assert_eq!(said(&ask(&forwarder, "good1.example.").await), "192.0.2.1");
    // As programs ask: addresses of both families, and more.
    tokio::join!(
        ask(&forwarder, "silent1.example."),
        ask(&forwarder, "silent2.example."),
        ask(&forwarder, "silent3.example.")
    );
    assert_eq!(condition(&forwarder, &fake), Condition::Dead);
    assert_eq!(said(&ask(&forwarder, "good2.example.").await), "192.0.2.1", "it answered a moment ago");
    assert_eq!(condition(&forwarder, &fake), Condition::Good);
}

#[tokio::test]
async fn without_any_server_failure_comes_at_once() {
    let forwarder = forwarder(&[]);
    let failed = ask(&forwarder, "www.example.").await;
    assert_eq!((said(&failed).as_str(), extended_error(&failed)), ("ServFail", Some(22)));
}

#[tokio::test]
async fn an_ended_answer_is_better_than_none() {
    let fake = Fake::start(|heard| {
        Act::Say(match heard.query.queries[0].name().to_ascii().as_str() {
            "no.example." => no_such_name(&heard.query, 1),
            _ => with_address(&heard.query, 1, [192, 0, 2, 1]),
        })
    })
    .await;
    let forwarder = forwarder(&[fake.rule()]);
    ask(&forwarder, "www.example.").await;
    ask(&forwarder, "no.example.").await;
    fake.behave(|heard| Act::Say(answer(&heard.query, ResponseCode::ServFail)));
    let ended = |name: &str| cached(&forwarder, &query(name, RecordType::A)).is_none();
    wait::until("they have ended", || ended("www.example.") && ended("no.example.")).await;
    for _ in 0..2 {
        let stale = ask(&forwarder, "www.example.").await;
        assert_eq!((said(&stale).as_str(), extended_error(&stale)), ("192.0.2.1", Some(3)));
        assert_eq!(stale.answers[0].ttl, 30);
    }
    let stale = ask(&forwarder, "no.example.").await;
    assert_eq!((said(&stale).as_str(), extended_error(&stale)), ("NXDomain", Some(19)));
    assert!(cached(&forwarder, &query("www.example.", RecordType::A)).is_some(), "for a while at hand");
    let asked = fake.heard().len();
    ask(&forwarder, "www.example.").await;
    assert_eq!(fake.heard().len(), asked, "and nobody is asked meanwhile");
}

#[tokio::test]
async fn who_has_an_ended_answer_does_not_wait_for_the_last_server() {
    let fake = Fake::with_address(1, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[fake.rule()]);
    ask(&forwarder, "www.example.").await;
    fake.behave(|_| Act::Nothing);
    let asked = query("www.example.", RecordType::A);
    wait::until("it has ended", || cached(&forwarder, &asked).is_none()).await;
    let began = Instant::now();
    let stale = ask(&forwarder, "www.example.").await;
    assert_eq!((said(&stale).as_str(), extended_error(&stale)), ("192.0.2.1", Some(3)));
    assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_wanted_is_fresh_before_it_ends() {
    let fake = Fake::with_address(5, [192, 0, 2, 1]).await;
    let forwarder = forwarder(&[fake.rule()]);
    ask(&forwarder, "www.example.").await;
    let asked = query("www.example.", RecordType::A);
    wait::until("it is fetched anew", || {
        assert!(cached(&forwarder, &asked).is_some(), "nobody waits for it");
        forwarder.counters().asked.total() == 2
    })
    .await;
    assert_eq!(forwarder.counters().refreshed.total(), 1);
}

#[tokio::test]
async fn another_network_has_other_servers_and_other_answers() {
    let (cafe, office) =
        (Fake::with_address(600, [192, 0, 2, 1]).await, Fake::with_address(600, [192, 0, 2, 2]).await);
    let forwarder = forwarder(&[]);
    forwarder.set_machine(machine(&[cafe.address]));
    assert_eq!(said(&ask(&forwarder, "www.example.").await), "192.0.2.1");
    forwarder.set_machine(machine(&[]));
    assert_eq!(said(&ask(&forwarder, "www.example.").await), "192.0.2.1", "no network is no other one");
    forwarder.set_machine(machine(&[cafe.address]));
    assert_eq!(said(&ask(&forwarder, "www.example.").await), "192.0.2.1");
    assert_eq!(forwarder.counters().asked.total(), 1, "and what was learnt there is of use again");
    forwarder.set_machine(machine(&[office.address]));
    assert_eq!(said(&ask(&forwarder, "www.example.").await), "192.0.2.2");
}

#[tokio::test]
async fn an_asker_that_goes_away_leaves_the_answer_to_the_next() {
    let open = Arc::new(AtomicBool::new(false));
    let fake = Fake::start({
        let open = Arc::clone(&open);
        move |heard| match open.load(Ordering::Relaxed) {
            true => Act::Say(with_address(&heard.query, 60, [192, 0, 2, 1])),
            false => Act::Nothing,
        }
    })
    .await;
    let forwarder = forwarder(&[fake.rule()]);
    let asked = query("www.example.", RecordType::A);
    let impatient = tokio::time::timeout(Duration::from_millis(50), ask(&forwarder, "www.example.")).await;
    assert!(impatient.is_err(), "nobody answers yet");
    open.store(true, Ordering::Relaxed);
    wait::until("the next attempt is answered", || cached(&forwarder, &asked).is_some()).await;
}

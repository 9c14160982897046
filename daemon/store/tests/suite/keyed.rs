//! Requests with a key of their sender's.

use store::{KEYED_REQUESTS_MAX, Keyed, KeyedRequest, Store};

use crate::support::{Fresh, at, on_both_engines};

on_both_engines! {
    a_key_is_taken_once_until_it_is_old_or_abandoned,
    the_newest_keys_of_each_are_kept,
}

fn request(holder: &str, key: &str) -> KeyedRequest {
    KeyedRequest { holder: holder.into(), key: key.into() }
}

async fn begin(store: &Store, request: &KeyedRequest, now: i64) -> Keyed {
    store.begin_keyed(request, b"asked", at(now), (at(now - 100), at(now - 10))).await.expect("begins")
}

async fn a_key_is_taken_once_until_it_is_old_or_abandoned(fresh: Fresh) {
    let (store, one) = (fresh.open().await, request("user:ada", "one"));
    let known = |answer: Option<(u16, &[u8])>| Keyed::Known {
        asked: b"asked".to_vec(),
        answer: answer.map(|(status, body)| (status, body.to_vec())),
        abandoned: false,
    };
    assert_eq!(begin(&store, &one, 1000).await, Keyed::New);
    assert_eq!(begin(&store, &one, 1005).await, known(None));
    assert_eq!(begin(&store, &request("user:bob", "one"), 1005).await, Keyed::New);
    let gone = Keyed::Known { asked: b"asked".to_vec(), answer: None, abandoned: true };
    assert_eq!(begin(&store, &one, 1011).await, gone, "whoever began it is gone");
    store.answer_keyed(&one, 201, b"answer").await.expect("writes");
    store.forget_keyed(&one).await.expect("what is answered stays");
    assert_eq!(begin(&store, &one, 1100).await, known(Some((201, b"answer"))));
    assert_eq!(begin(&store, &one, 1101).await, Keyed::New, "its day is over");
    store.forget_keyed(&one).await.expect("writes");
    assert_eq!(begin(&store, &one, 1112).await, Keyed::New, "it was refused");
    assert_eq!(store.prune_keyed(at(1112)).await.expect("prunes"), 1, "that of bob");
    assert_eq!(begin(&store, &one, 1112).await, known(None));
    let (a, b, two) = (fresh.open().await, store, request("user:ada", "two"));
    let both = tokio::join!(begin(&a, &two, 2000), begin(&b, &two, 2000));
    assert!([both.0, both.1].iter().filter(|begun| **begun == Keyed::New).count() == 1);
}

async fn the_newest_keys_of_each_are_kept(fresh: Fresh) {
    let store = fresh.open().await;
    begin(&store, &request("user:bob", "0"), 0).await;
    let many = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {}) \
         INSERT INTO keyed_requests (holder, key, asked, asked_at) \
         SELECT 'user:ada', CAST(n AS TEXT), asked, asked_at + n * 1000000 FROM numbers, keyed_requests",
        KEYED_REQUESTS_MAX - 1,
    );
    fresh.raw().await.run(&many).await;
    begin(&store, &request("user:ada", &KEYED_REQUESTS_MAX.to_string()), i64::from(KEYED_REQUESTS_MAX)).await;
    let wide = (at(-1), at(-1));
    let kept = async |holder: &str, key: &str| {
        let begun = store.begin_keyed(&request(holder, key), b"asked", at(5000), wide).await;
        begun.expect("begins") != Keyed::New
    };
    assert!(kept("user:bob", "0").await, "another's");
    assert!(kept("user:ada", "1").await && kept("user:ada", &KEYED_REQUESTS_MAX.to_string()).await);
    assert!(!kept("user:ada", "0").await, "the oldest");
}

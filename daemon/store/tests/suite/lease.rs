//! The lease: one holder at a time by the clock of the database, terms that only grow, and commits that they fence.

use std::time::Duration;

use control::{CommitError, Fact, Term};
use store::{Claim, Holding, Store};

use crate::support::{Fresh, commit, make_tenant, on_both_engines, record, sealed, tenant_id};

on_both_engines! {
    one_holds_it_until_it_ends,
    a_replica_that_was_restarted_holds_it_again_in_a_new_term,
    of_many_that_claim_at_once_one_holds_it,
    what_a_former_holder_commits_is_refused,
    a_term_of_elsewhere_begins_once,
}

const LONG: Duration = Duration::from_secs(60);

async fn claim(store: &Store, holder: &str, known: Option<Term>, lasts: Duration) -> Holding {
    store.hold_lease(Claim { holder, known, lasts }).await.expect("an answer")
}

fn others(term: u64, holder: &str) -> Holding {
    Holding::Others { term: Term(term), holder: holder.into() }
}

pub(crate) async fn one_holds_it_until_it_ends(fresh: Fresh) {
    let store = fresh.open().await;
    assert_eq!(claim(&store, "a", None, LONG).await, Holding::Held(Term(1)));
    assert_eq!(claim(&store, "b", None, LONG).await, others(1, "a"));
    let moment = Duration::ZERO;
    assert_eq!(claim(&store, "a", Some(Term(1)), moment).await, Holding::Held(Term(1)), "it is prolonged");
    assert_eq!(claim(&store, "b", None, LONG).await, Holding::Held(Term(2)), "it has ended");
    assert_eq!(claim(&store, "a", Some(Term(1)), LONG).await, others(2, "b"));
    assert_eq!(store.last_term().await.expect("a term"), Term(2));
}

async fn a_replica_that_was_restarted_holds_it_again_in_a_new_term(fresh: Fresh) {
    let store = fresh.open().await;
    assert_eq!(claim(&store, "a", None, LONG).await, Holding::Held(Term(1)));
    assert_eq!(claim(&store, "a", None, LONG).await, Holding::Held(Term(2)));
    assert_eq!(claim(&store, "a", Some(Term(2)), LONG).await, Holding::Held(Term(2)));
}

pub(crate) async fn of_many_that_claim_at_once_one_holds_it(fresh: Fresh) {
    let store = fresh.open().await;
    let claims = (0..8).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { claim(&store, &format!("r{n}"), None, LONG).await })
    });
    let mut held = 0;
    for claimed in claims.collect::<Vec<_>>() {
        held += u32::from(matches!(claimed.await.expect("no panic"), Holding::Held(Term(1))));
    }
    assert_eq!(held, 1);
}

pub(crate) async fn what_a_former_holder_commits_is_refused(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    claim(&store, "a", None, Duration::ZERO).await;
    let of_term = |term| {
        let facts = vec![Fact::Record(record("printer.tenant1.internal", "A", "10.0.0.9"))];
        control::Commit { term: Some(Term(term)), ..commit(tenant_id(1), version, facts) }
    };
    claim(&store, "b", None, LONG).await;
    assert_eq!(store.commit(&of_term(1), &sealed()).await, Err(CommitError::Conflict));
    store.commit(&of_term(2), &sealed()).await.expect("the present holder may");
}

async fn a_term_of_elsewhere_begins_once(fresh: Fresh) {
    let store = fresh.open().await;
    assert!(store.begin_term(Term(7), "a").await.expect("an answer"));
    assert!(store.begin_term(Term(7), "a").await.expect("an answer"));
    for (term, holder) in [(7, "b"), (6, "a")] {
        assert!(!store.begin_term(Term(term), holder).await.expect("an answer"), "{term} {holder}");
    }
    assert_eq!(claim(&store, "b", None, LONG).await, Holding::Held(Term(8)), "it goes on from there");
}

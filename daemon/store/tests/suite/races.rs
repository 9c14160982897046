//! Commits that meet: of each other, of a lock, of a crash.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use control::{CommitError, Device, Fact};
use model::{Block, Generation, Standing, TokenId, Version};
use store::{Sealed, Store};

use crate::support::{
    Fresh, at, audit_count, commit, device, device_id, label, make_tenant, on_both_engines, put, rows_of,
    sealed, tenant, tenant_id, token,
};

on_both_engines! {
    of_two_replicas_one_commits,
    of_twenty_devices_one_redeems,
    a_dead_token_lets_nobody_in,
    a_commit_dropped_anywhere_is_whole_or_nothing,
    a_commit_that_fails_anywhere_leaves_nothing,
    a_commit_that_breaks_a_uniqueness_leaves_nothing,
    rows_of_another_tenant_stay,
    overlapping_blocks_are_founded_once,
    a_short_lock_is_waited_for_and_a_long_one_is_named,
    a_restored_database_has_another_epoch,
}

pub(crate) async fn of_two_replicas_one_commits(fresh: Fresh) {
    let (a, b) = (fresh.open().await, fresh.open().await);
    let version = make_tenant(&a, 1).await;
    let (first, second) = tokio::join!(
        put(&a, tenant_id(1), version, vec![Fact::Device(device(1))]),
        put(&b, tenant_id(1), version, vec![Fact::Device(device(2))]),
    );
    let winner = if first.is_ok() { 1 } else { 2 };
    let results = [&first, &second];
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
    assert!(results.contains(&&Err(CommitError::Conflict)), "{results:?}");
    let rows = rows_of(&a, 1).await;
    assert_eq!((rows.devices, rows.version.generation), (vec![device(winner)], Generation(2)));
    assert_eq!(audit_count(&a).await, 2);
}

/// As a server does: on a conflict look again, then decide again.
async fn redeem(store: Store, joining: Device, token: TokenId) -> Result<(), CommitError> {
    loop {
        let expect = rows_of(&store, 1).await.version;
        let mut commit = commit(tenant_id(1), expect, vec![Fact::Device(joining.clone())]);
        commit.redeems = Some(token);
        match store.commit(&commit, &Sealed::default()).await {
            Err(CommitError::Conflict) => {}
            done => return done,
        }
    }
}

pub(crate) async fn of_twenty_devices_one_redeems(fresh: Fresh) {
    const RACING: u8 = 20;
    let stores = [fresh.open().await, fresh.open().await, fresh.open().await];
    let version = make_tenant(&stores[0], 1).await;
    put(&stores[0], tenant_id(1), version, vec![Fact::Token(token(9, 1))]).await.expect("commits");
    let tasks: Vec<_> = (0..RACING)
        .zip(stores.iter().cycle())
        .map(|(n, store)| tokio::spawn(redeem(store.clone(), device(n), token(9, 1).id)))
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no panic"));
    }
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
    assert_eq!(
        results.iter().filter(|r| **r == Err(CommitError::TokenUsed)).count(),
        usize::from(RACING) - 1
    );
    let rows = rows_of(&stores[0], 1).await;
    assert_eq!((rows.devices.len(), rows.tokens[0].uses), (1, 1));
}

async fn a_dead_token_lets_nobody_in(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let mut revoked = token(1, 5);
    revoked.revoked_at = Some(at(2));
    let mut expired = token(2, 5);
    expired.expires_at = at(100);
    let facts = vec![Fact::Token(revoked), Fact::Token(expired), Fact::Token(token(3, 5))];
    let version = put(&store, tenant_id(1), version, facts).await.expect("commits");
    for (id, expect) in [
        (1, Err(CommitError::TokenUsed)),
        (2, Err(CommitError::TokenUsed)),
        (4, Err(CommitError::TokenUsed)),
        (3, Ok(())),
    ] {
        let mut commit = commit(tenant_id(1), version, vec![Fact::Device(device(1))]);
        commit.redeems = Some(TokenId::from_bytes([id; 16]));
        assert_eq!(store.commit(&commit, &Sealed::default()).await, expect, "token {id}");
    }
    let rows = rows_of(&store, 1).await;
    assert_eq!(rows.tokens.iter().map(|t| t.uses).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(audit_count(&store).await, 3);
}

/// Polls a future so many times at most, then drops it as a crash would.
async fn crash_after<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        let Some(rest) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = rest;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

pub(crate) async fn a_commit_dropped_anywhere_is_whole_or_nothing(fresh: Fresh) {
    let (store, witness) = (fresh.open().await, fresh.open().await);
    let mut version = make_tenant(&store, 1).await;
    version = put(&store, tenant_id(1), version, vec![Fact::Token(token(9, 200))]).await.expect("commits");
    let mut raw = fresh.raw().await;
    let mut done = false;
    for n in 0..100_u8 {
        let mut commit = commit(tenant_id(1), version, vec![Fact::Device(device(n))]);
        (commit.redeems, commit.devices_count) = (Some(token(9, 200).id), 1_000 + u32::from(n));
        let before = rows_of(&witness, 1).await;
        let audited = audit_count(&witness).await;
        done = crash_after(u32::from(n), store.commit(&commit, &Sealed::default())).await.is_some();
        // Waits until the transaction of the dropped one has ended.
        raw.run("UPDATE directories SET devices_count = devices_count").await;
        let after = rows_of(&witness, 1).await;
        let whole = usize::from(after.version == commit.result());
        assert_eq!(after.devices.len() - before.devices.len(), whole, "devices after {n} polls");
        assert_eq!(
            after.tokens[0].uses - before.tokens[0].uses,
            u32::from(whole == 1),
            "uses after {n} polls"
        );
        assert_eq!(audit_count(&witness).await - audited, whole, "audit entries after {n} polls");
        assert_eq!(
            usize::from(after.devices_count == commit.devices_count),
            whole,
            "counter after {n} polls"
        );
        version = after.version;
        if done {
            break;
        }
    }
    assert!(done, "it ends in the end");
}

/// What PostgreSQL remarks on our statements.
#[derive(Clone, Default)]
struct Notices(Arc<Mutex<String>>);

impl io::Write for Notices {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics with it").push_str(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One connection: whatever one transaction leaves behind, the next one meets. On one thread, whose events are heard.
#[tokio::test]
async fn a_transaction_dropped_anywhere_leaves_a_connection_as_it_was() {
    let notices = Notices::default();
    let writer = notices.clone();
    let heard = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone())
        .finish();
    let _heard = tracing::subscriber::set_default(heard);
    let fresh = Fresh::postgres().await;
    let opened = Store::reach_with(&fresh.url, 1).await.expect("the cluster answers");
    let store = opened.migrate().await.expect("migrates");
    let mut version = make_tenant(&store, 1).await;
    let mut done = [false, false];
    for n in 0..100_u8 {
        let reads = crash_after(u32::from(n), store.load()).await;
        let commit = commit(tenant_id(1), version, vec![Fact::Device(device(n))]);
        let writes = crash_after(u32::from(n), store.commit(&commit, &Sealed::default())).await;
        done = [reads.is_some(), writes.is_some()];
        version = rows_of(&store, 1).await.version;
        let heard = notices.0.lock().expect("nobody panics with it").clone();
        assert_eq!(heard, "", "after {n} polls");
        if done == [true, true] {
            break;
        }
    }
    assert_eq!(done, [true, true], "both end in the end");
}

async fn a_commit_that_fails_anywhere_leaves_nothing(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let version = put(&store, tenant_id(1), version, vec![Fact::Token(token(9, 1))]).await.expect("commits");
    let mut commit = commit(tenant_id(1), version, vec![Fact::Device(device(1))]);
    (commit.redeems, commit.devices_count) = (Some(token(9, 1).id), 1);
    let before = (format!("{:?}", rows_of(&store, 1).await), audit_count(&store).await);
    let mut raw = fresh.raw().await;
    let sqlite = fresh.directory.is_some();
    if !sqlite {
        raw.run(
            "CREATE FUNCTION stop() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN RAISE 'stopped'; END $$",
        )
        .await;
    }
    let writes = [
        ("UPDATE", "directories"),
        ("UPDATE", "tokens"),
        ("INSERT", "devices"),
        ("INSERT", "changes"),
        ("INSERT", "audit"),
    ];
    for (event, table) in writes {
        let (body, on) = if sqlite {
            ("BEGIN SELECT RAISE(ABORT, 'stopped'); END", String::new())
        } else {
            ("FOR EACH ROW EXECUTE FUNCTION stop()", format!(" ON {table}"))
        };
        raw.run(&format!("CREATE TRIGGER stopping BEFORE {event} ON {table} {body}")).await;
        let failed = store.commit(&commit, &Sealed::default()).await;
        assert!(
            matches!(&failed, Err(CommitError::Unavailable(why)) if why.contains("stopped")),
            "{table}: {failed:?}"
        );
        raw.run(&format!("DROP TRIGGER stopping{on}")).await;
        let after = (format!("{:?}", rows_of(&store, 1).await), audit_count(&store).await);
        assert_eq!(before, after, "{table}");
        assert_eq!(raw.count("SELECT COUNT(*) FROM changes").await, 2, "{table}");
    }
    store.commit(&commit, &Sealed::default()).await.expect("nothing of the failures stayed");
}

/// As SQLite does by itself where the disk is full: the driver is not told that its transaction is over.
#[tokio::test]
async fn a_transaction_that_sqlite_ended_takes_no_connection_with_it() {
    let fresh = Fresh::sqlite();
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let mut raw = fresh.raw().await;
    raw.run("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ROLLBACK, 'stopped'); END").await;
    let facts = vec![Fact::Device(device(1))];
    for _ in 0..3 {
        let failed = put(&store, tenant_id(1), version, facts.clone()).await;
        assert!(
            matches!(&failed, Err(CommitError::Unavailable(why)) if why.contains("stopped")),
            "{failed:?}"
        );
    }
    raw.run("DROP TRIGGER full").await;
    put(&store, tenant_id(1), version, facts).await.expect("there is room again");
    store.probe().await.expect("well again");
}

async fn a_commit_that_breaks_a_uniqueness_leaves_nothing(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let version = put(&store, tenant_id(1), version, vec![Fact::Device(device(1))]).await.expect("commits");
    let collide = |change: fn(&mut Device)| {
        let mut other = device(2);
        change(&mut other);
        vec![Fact::Token(token(1, 1)), Fact::Device(other)]
    };
    let collisions = [
        collide(|d| d.name = label("device1")),
        collide(|d| d.kind = device(1).kind),
        collide(|d| d.wireguard = device(1).wireguard),
        collide(|d| d.number = device(1).number),
    ];
    for facts in collisions {
        assert_eq!(put(&store, tenant_id(1), version, facts).await, Err(CommitError::Conflict));
    }
    let rows = rows_of(&store, 1).await;
    assert_eq!((rows.version, rows.devices.len(), rows.tokens.len()), (version, 1, 0));
    assert_eq!(audit_count(&store).await, 2);

    let mut gone = device(1);
    (gone.standing, gone.revoked_at) = (Standing::Revoked, Some(at(50)));
    let mut heir = device(2);
    (heir.name, heir.number, heir.wireguard) = (gone.name.clone(), gone.number, gone.wireguard);
    let facts = vec![Fact::Device(gone), Fact::Device(heir)];
    put(&store, tenant_id(1), version, facts).await.expect("a revoked device holds nothing but its identity");
}

async fn rows_of_another_tenant_stay(fresh: Fresh) {
    let store = fresh.open().await;
    let one = make_tenant(&store, 1).await;
    let two = make_tenant(&store, 2).await;
    put(&store, tenant_id(1), one, vec![Fact::Device(device(1))]).await.expect("commits");
    let mut thief = device(5);
    thief.id = device_id(1);
    let stolen = put(&store, tenant_id(2), two, vec![Fact::Device(thief)]).await;
    assert_eq!(stolen, Err(CommitError::Conflict));
    assert_eq!(rows_of(&store, 1).await.devices, vec![device(1)]);
    assert_eq!(rows_of(&store, 2).await.version, two);
}

pub(crate) async fn overlapping_blocks_are_founded_once(fresh: Fresh) {
    let stores = [fresh.open().await, fresh.open().await];
    let epoch = stores[0].load().await.expect("loads").epoch;
    let found = |n: u8, net: &str| {
        let mut new = tenant(n);
        new.block = Block::new(net.parse().expect("a net"), new.id).expect("a block");
        commit(new.id, Version { epoch, generation: Generation(0) }, vec![Fact::Tenant(new)])
    };
    let (wide, narrow) = (found(1, "100.64.0.0/12"), found(2, "100.65.0.0/16"));
    let anchor = sealed();
    let (a, b) = tokio::join!(stores[0].commit(&wide, &anchor), stores[1].commit(&narrow, &anchor),);
    assert!([&a, &b].contains(&&Ok(())) && [&a, &b].contains(&&Err(CommitError::Conflict)), "{a:?} {b:?}");
    assert_eq!(stores[0].load().await.expect("loads").tenants.len(), 1);
    let again = if a.is_ok() { &wide } else { &narrow };
    assert_eq!(stores[0].commit(again, &sealed()).await, Err(CommitError::Conflict), "a tenant is new once");
    let unsealed = stores[0].commit(&found(3, "100.96.0.0/16"), &Sealed::default()).await;
    assert!(
        matches!(unsealed, Err(CommitError::Unavailable(_))),
        "no tenant without its anchor: {unsealed:?}"
    );
}

pub(crate) async fn a_short_lock_is_waited_for_and_a_long_one_is_named(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let mut raw = fresh.raw().await;
    let begin = if fresh.directory.is_some() { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let lock = "UPDATE directories SET devices_count = devices_count";
    raw.run(begin).await;
    raw.run(lock).await;
    let (committed, ()) =
        tokio::join!(put(&store, tenant_id(1), version, vec![Fact::Device(device(1))]), raw.run("COMMIT"));
    let version = committed.expect("the lock was gone in time");

    raw.run(begin).await;
    raw.run(lock).await;
    let waited = put(&store, tenant_id(1), version, vec![Fact::Device(device(2))]).await;
    let Err(CommitError::Unavailable(why)) = &waited else { panic!("{waited:?}") };
    assert!(why.contains("the database is locked"), "{why}");
    store.load().await.expect("reads go on");
    raw.run("ROLLBACK").await;
    put(&store, tenant_id(1), version, vec![Fact::Device(device(2))]).await.expect("the same, later");
    store.probe().await.expect("well again");
}

async fn a_restored_database_has_another_epoch(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let version = put(&store, tenant_id(1), version, vec![Fact::Token(token(1, 5))]).await.expect("commits");
    let epoch = store
        .raise_epoch(&store::After::default(), &crate::support::entry("server.restore", None))
        .await
        .expect("raised");
    assert!(epoch > version.epoch);
    let rows = rows_of(&store, 1).await;
    assert_eq!(rows.version, Version { epoch, ..version });
    assert_eq!(rows.tokens[0].revoked_at, Some(at(100)));
    let facts = vec![Fact::Device(device(1))];
    assert_eq!(put(&store, tenant_id(1), version, facts.clone()).await, Err(CommitError::Conflict));
    put(&store, tenant_id(1), rows.version, facts).await.expect("at the new epoch");
}

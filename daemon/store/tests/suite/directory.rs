//! The change log, the counter and the cheap look at the versions.

use control::{CommitError, Fact, Refresh, Since, Tenant};
use model::limits::OWN_INTERFACES_MAX;
use model::{Generation, TenantId, Version};
use store::{GENERATIONS_KEPT, ReadError, Sealed, Store};

use crate::support::{
    Fresh, audit_count, commit, device, label, make_tenant, on_both_engines, put, rows_of, tenant, tenant_id,
};

on_both_engines! {
    the_change_log_tells_what_was_missed,
    a_change_log_that_does_not_reach_back_gives_the_whole,
    the_counter_is_what_the_commit_said,
    the_audit_entry_goes_with_the_commit,
    versions_are_told_without_the_rows,
    a_hub_port_is_one_tenants_and_programs_of_before_are_kept_out_from_then_on,
    so_many_tenants_have_a_hub_port_whoever_gives_them_out,
}

async fn facts_since(store: &Store, n: u8, generation: u64) -> Option<(Version, Vec<Fact>)> {
    match store.refresh(tenant_id(n), Since::Generation(Generation(generation))).await.expect("refreshes") {
        Refresh::Facts { version, facts, .. } => Some((version, facts)),
        Refresh::Whole(_) => None,
    }
}

async fn the_change_log_tells_what_was_missed(fresh: Fresh) {
    let (writer, reader) = (fresh.open().await, fresh.open().await);
    let one = make_tenant(&writer, 1).await;
    let other = make_tenant(&writer, 2).await;
    let swapped = |mut device: control::Device, name: &str| {
        device.name = label(name);
        Fact::Device(device)
    };
    let first = vec![Fact::Device(device(1)), Fact::Device(device(2))];
    let second =
        vec![swapped(device(1), "between"), swapped(device(2), "device1"), swapped(device(1), "device2")];
    let two = put(&writer, tenant_id(1), one, first.clone()).await.expect("commits");
    put(&writer, tenant_id(2), other, vec![Fact::Device(device(3))]).await.expect("commits");
    let three = put(&writer, tenant_id(1), two, second.clone()).await.expect("commits");

    assert_eq!(facts_since(&reader, 1, 3).await, Some((three, vec![])));
    assert_eq!(facts_since(&reader, 1, 2).await, Some((three, second.clone())));
    assert_eq!(facts_since(&reader, 1, 1).await, Some((three, [first, second].concat())));
    assert_eq!(facts_since(&reader, 1, 4).await, None, "ahead of the database");
    let absent = reader.refresh(TenantId::from_bytes([77; 16]), Since::Nothing).await;
    assert!(matches!(absent, Err(ReadError::TenantAbsent(id)) if id == TenantId::from_bytes([77; 16])));
    let whole = reader.refresh(tenant_id(2), Since::Nothing).await.expect("refreshes");
    assert!(matches!(whole, Refresh::Whole(rows) if rows.devices == vec![device(3)]));
}

async fn a_hub_port_is_one_tenants_and_programs_of_before_are_kept_out_from_then_on(fresh: Fresh) {
    let store = fresh.open().await;
    let (one, two) = (make_tenant(&store, 1).await, make_tenant(&store, 2).await);
    let with = |n, hub_port| vec![Fact::Tenant(Tenant { hub_port, ..tenant(n) })];
    let mut raw = fresh.raw().await;
    let needs = "SELECT MAX(needs) FROM migrations";
    assert!(raw.count(needs).await < 15);
    let one = put(&store, tenant_id(1), one, with(1, Some(51_821))).await.expect("commits");
    assert_eq!(raw.count(needs).await, 15);
    assert_eq!(rows_of(&store, 1).await.tenant.hub_port, Some(51_821));
    let taken = put(&store, tenant_id(2), two, with(2, Some(51_821))).await;
    assert!(matches!(taken, Err(CommitError::Conflict)), "{taken:?}");
    put(&store, tenant_id(1), one, with(1, None)).await.expect("commits");
    put(&store, tenant_id(2), two, with(2, Some(51_821))).await.expect("commits");
    assert_eq!(rows_of(&store, 2).await.tenant.hub_port, Some(51_821));
}

async fn so_many_tenants_have_a_hub_port_whoever_gives_them_out(fresh: Fresh) {
    let stores = [fresh.open().await, fresh.open().await];
    let with = |n: u8, port| vec![Fact::Tenant(Tenant { hub_port: port, ..tenant(n) })];
    let most = u8::try_from(OWN_INTERFACES_MAX).expect("few");
    let mut versions = Vec::new();
    for n in 1..=most + 1 {
        let version = make_tenant(&stores[0], n).await;
        let port = (n < most).then_some(40_000 + u16::from(n));
        let version = put(&stores[0], tenant_id(n), version, with(n, port)).await.expect("commits");
        versions.push(version);
    }
    let version = |n: u8| versions[usize::from(n) - 1];
    // One is left. Two take it at once, by ports that are not each other's.
    let last = |n: u8| {
        put(&stores[usize::from(n % 2)], tenant_id(n), version(n), with(n, Some(50_000 + u16::from(n))))
    };
    let results = tokio::join!(last(most), last(most + 1));
    let refused = |result: &Result<Version, CommitError>| *result == Err(CommitError::Conflict);
    assert!(refused(&results.0) != refused(&results.1), "{results:?}");
    assert!(results.0.is_ok() || results.1.is_ok(), "{results:?}");
    // Who has one may have another.
    put(&stores[0], tenant_id(1), version(1), with(1, Some(60_000))).await.expect("commits");
    let count = "SELECT COUNT(*) FROM tenants WHERE hub_port IS NOT NULL";
    assert_eq!(fresh.raw().await.count(count).await, i64::from(most));
}

async fn a_change_log_that_does_not_reach_back_gives_the_whole(fresh: Fresh) {
    let store = fresh.open().await;
    let mut version = make_tenant(&store, 1).await;
    version = put(&store, tenant_id(1), version, vec![Fact::Device(device(1))]).await.expect("commits");
    // As if a thousand edits had been made since.
    version.generation = Generation(version.generation.0 + GENERATIONS_KEPT - 1);
    let mut raw = fresh.raw().await;
    raw.run(&format!("UPDATE directories SET generation = {}", version.generation.0)).await;
    assert_eq!(raw.count("SELECT COUNT(*) FROM changes").await, 2);
    version = put(&store, tenant_id(1), version, vec![Fact::Device(device(2))]).await.expect("commits");
    assert_eq!(raw.count("SELECT COUNT(*) FROM changes").await, 1, "the log is bounded");
    assert_eq!(
        facts_since(&store, 1, version.generation.0 - 1).await,
        Some((version, vec![Fact::Device(device(2))]))
    );
    assert_eq!(facts_since(&store, 1, 2).await, None, "a gap is never taken for nothing");
}

async fn the_counter_is_what_the_commit_said(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let mut commit = commit(tenant_id(1), version, vec![Fact::Device(device(1)), Fact::Device(device(2))]);
    commit.devices_count = 2;
    store.commit(&commit, &Sealed::default()).await.expect("commits");
    assert_eq!(rows_of(&store, 1).await.devices_count, 2);
    // Rows that vanish do not take the counter with them.
    fresh.raw().await.run("DELETE FROM devices").await;
    let rows = rows_of(&store, 1).await;
    assert_eq!((rows.devices.len(), rows.devices_count), (0, 2));
    let refresh =
        store.refresh(tenant_id(1), Since::Generation(version.generation)).await.expect("refreshes");
    assert!(matches!(refresh, Refresh::Facts { devices_count: 2, .. }));
}

async fn the_audit_entry_goes_with_the_commit(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let done = commit(tenant_id(1), version, vec![Fact::Device(device(1))]);
    store.commit(&done, &Sealed::default()).await.expect("commits");
    store.commit(&done, &Sealed::default()).await.expect_err("the version is another now");
    assert_eq!(audit_count(&store).await, 2);
    // Without its audit entry nothing is committed.
    fresh.raw().await.run("DROP TABLE audit").await;
    put(&store, tenant_id(1), done.result(), vec![Fact::Device(device(2))]).await.expect_err("no audit");
    let rows = rows_of(&store, 1).await;
    assert_eq!((rows.devices, rows.version), (vec![device(1)], done.result()));
}

async fn versions_are_told_without_the_rows(fresh: Fresh) {
    let store = fresh.open().await;
    assert_eq!(store.standings().await.expect("reads").versions, vec![]);
    let one = make_tenant(&store, 1).await;
    let two = make_tenant(&store, 2).await;
    let two = put(&store, tenant_id(2), two, vec![Fact::Device(device(1))]).await.expect("commits");
    let versions = store.standings().await.expect("reads").versions;
    assert_eq!(versions, vec![(tenant_id(1), one), (tenant_id(2), two)]);
    assert_eq!(two.generation, Generation(2));
}

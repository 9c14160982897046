//! Every row comes back as it went in, and what does not read is named.

use std::time::Duration;

use control::{Closing, Fact, Refresh, Since, Stay};
use model::{PublicKey, Standing};
use store::{Corrupt, ReadError};

use crate::support::{
    Fresh, SEALED, at, device, hub, label, make_tenant, name, on_both_engines, put, record, rows_of, tenant,
    tenant_id, token,
};

on_both_engines! {
    every_row_survives_the_round_trip,
    rows_change_and_records_go,
    a_row_that_does_not_read_is_named,
}

pub(crate) async fn every_row_survives_the_round_trip(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let mut pending = device(1);
    (pending.standing, pending.approved_at, pending.tags) = (Standing::Pending, None, [].into());
    let mut revoked = device(2);
    (revoked.standing, revoked.revoked_at) = (Standing::Revoked, Some(at(-1)));
    let mut plain = token(2, 100_000);
    (plain.needs_approval, plain.revoked_at, plain.created_by) = (false, Some(at(5)), control::Actor::Server);
    plain.stay =
        Stay { expires_after: Some(Duration::from_secs(60)), idle_max: Some(Duration::from_secs(10)) };
    let mut rotating = hub();
    rotating.next = Some(PublicKey::from_bytes([201; 32]));
    rotating.serial = u64::from(u32::MAX) + 1;
    let mut no_agent = device(4);
    (no_agent.kind, no_agent.os) = (control::Kind::Plain, model::wire::Remark::default());
    let mut expired = device(5);
    (expired.standing, expired.expires_at) = (Standing::Expired, Some(at(12)));
    let mut fleeting = device(6);
    (fleeting.idle_max, fleeting.labels) = (Some(Duration::from_secs(600)), [].into());
    let devices = vec![pending, revoked, device(3), no_agent, expired, fleeting];
    let tokens = vec![token(1, 1), plain];
    let records = vec![
        record("*.apps.tenant1.internal", "CNAME", "www.tenant1.internal"),
        record("a.tenant1.internal", "A", "192.0.2.1"),
        record("a.tenant1.internal", "AAAA", "2001:db8::1"),
        record("a.tenant1.internal", "SRV", "10 5 8080 www.tenant1.internal"),
        record("a.tenant1.internal", "TXT", "it's \"quoted\"; \u{1f407}\n$1 {} \\"),
    ];
    let facts: Vec<Fact> = devices
        .iter()
        .cloned()
        .map(Fact::Device)
        .chain(tokens.iter().cloned().map(Fact::Token))
        .chain(records.iter().cloned().map(Fact::Record))
        .chain([Fact::Hub(rotating.clone())])
        .collect();
    let version_after = put(&store, tenant_id(1), version, facts.clone()).await.expect("commits");

    let rows = rows_of(&fresh.open().await, 1).await;
    assert_eq!(rows.tenant, tenant(1));
    assert_eq!((rows.version, rows.sealed_anchor.as_slice()), (version_after, SEALED));
    assert_eq!(rows.devices, devices);
    assert_eq!(rows.tokens, tokens);
    assert_eq!(rows.records, records);
    assert_eq!(rows.hub, Some(rotating));
    let refresh =
        store.refresh(tenant_id(1), Since::Generation(version.generation)).await.expect("refreshes");
    let Refresh::Facts { facts: replayed, .. } = refresh else { panic!("the log has them") };
    assert_eq!(replayed, facts);
}

async fn rows_change_and_records_go(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let text = record("a.tenant1.internal", "TXT", "x");
    let other = record("a.tenant1.internal", "TXT", "y");
    let facts = vec![
        Fact::Device(device(1)),
        Fact::Hub(hub()),
        Fact::Token(token(1, 3)),
        Fact::Record(text.clone()),
        Fact::Record(other.clone()),
    ];
    let version = put(&store, tenant_id(1), version, facts).await.expect("commits");

    let mut renamed = device(1);
    (renamed.name, renamed.approved_at, renamed.os) =
        (label("renamed"), None, model::wire::Remark::default());
    let mut moved = hub();
    moved.endpoint = "[2001:db8::1]:1".parse().expect("an endpoint");
    let mut revoked = token(1, 3);
    (revoked.revoked_at, revoked.uses) = (Some(at(3)), 2);
    let mut longer = other;
    longer.ttl = 3_600;
    let mut deleted = tenant(1);
    deleted.deleted_at = Some(at(4));
    deleted.hub_port = Some(51_821);
    (deleted.quota, deleted.closing) = (Some(7), Some(Closing { since: at(2), erase_at: at(3) }));
    let facts = vec![
        Fact::Device(renamed.clone()),
        Fact::Hub(moved.clone()),
        Fact::Token(revoked.clone()),
        Fact::RecordGone { name: text.name, data: text.data },
        Fact::Record(longer.clone()),
        Fact::Tenant(deleted.clone()),
    ];
    put(&store, tenant_id(1), version, facts).await.expect("commits");

    let rows = rows_of(&store, 1).await;
    assert_eq!((rows.tenant, rows.devices, rows.hub), (deleted, vec![renamed], Some(moved)));
    assert_eq!(rows.records, vec![longer]);
    revoked.uses = 0;
    assert_eq!(rows.tokens, vec![revoked], "only a redemption raises the uses");
}

async fn a_row_that_does_not_read_is_named(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let facts = vec![
        Fact::Device(device(1)),
        Fact::Token(token(1, 1)),
        Fact::Hub(hub()),
        Fact::Record(record("a.tenant1.internal", "A", "192.0.2.1")),
    ];
    put(&store, tenant_id(1), version, facts).await.expect("commits");
    let mut raw = fresh.raw().await;
    let (tenant, device, token) =
        (tenant_id(1).to_string(), device(1).id.to_string(), token(1, 1).id.to_string());
    let record = name("a.tenant1.internal").to_string();
    let cases = [
        ("devices", "wireguard", "'short'", &device),
        ("devices", "number", "-1", &device),
        ("devices", "tags", "'[\"-\"]'", &device),
        ("tokens", "created_by", "'nobody'", &token),
        ("hubs", "serial", "-1", &tenant),
        ("tenants", "block_v4", "'100.64.0.1/16'", &tenant),
        ("records", "ttl", "4294967296", &record),
    ];
    for (table, column, bad, id) in cases {
        raw.run(&format!("CREATE TABLE kept AS SELECT * FROM {table}")).await;
        raw.run(&format!("UPDATE {table} SET {column} = {bad}")).await;
        match store.load().await {
            Err(ReadError::Corrupt(Corrupt { table: t, id: i, column: c, .. })) => {
                assert_eq!((t, i, c), (table, id.clone(), column));
            }
            other => panic!("{table}.{column}: {other:?}"),
        }
        raw.run(&format!("UPDATE {table} SET {column} = (SELECT {column} FROM kept)")).await;
        raw.run("DROP TABLE kept").await;
    }
    store.load().await.expect("whole again");
}

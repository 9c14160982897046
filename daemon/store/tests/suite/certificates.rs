//! Certificates are recorded with their audit entry or not at all, and what is revoked counts no longer.

use std::collections::{BTreeMap, BTreeSet};

use ca::KeyGeneration;
use control::{Authority, Fact, Revocation, SshFact};
use model::id::UserId;
use model::{CaKind, Epoch, SshSerial, Standing, Timestamp, Version};
use store::{After, CertificateRow, CertificatesOf, RecordError, Role, Store, User};

use crate::authorities::{authority, key};
use crate::support::{
    Fresh, at, audit_count, device, device_id, entry, label, make_tenant, on_both_engines, put, tenant_id,
};

on_both_engines! {
    serials_are_never_given_twice,
    a_certificate_comes_with_its_audit_entry,
    nothing_is_recorded_for_whom_is_gone,
    what_is_revoked_counts_no_longer,
    a_serial_is_recorded_once,
}

pub fn user() -> User {
    let id = UserId::from_bytes([4; 16]);
    let (name, role) = (label("ada"), Role::TenantAdmin);
    User { id, name, role, tenant: None, password_hash: None, created_at: at(0), disabled_at: None }
}

pub fn certificate(counter: u64, id: &str, until: i64) -> CertificateRow {
    let person = id.starts_with("u:");
    CertificateRow {
        tenant: tenant_id(1),
        kind: if person { CaKind::User } else { CaKind::Host },
        serial: SshSerial::new(Epoch(1), counter).expect("fits"),
        generation: KeyGeneration(1),
        id: id.parse().expect("an id"),
        fingerprint: "SHA256:x".into(),
        principals: vec!["u:ada".into(), "100.65.0.3".into()],
        user: person.then_some(user().id),
        device: device_id(1),
        issued_at: at(20),
        valid_from: at(10),
        valid_until: at(until),
        revoked_at: None,
    }
}

pub async fn ground(store: &Store) -> Version {
    let version = make_tenant(store, 1).await;
    store.create_user(&user(), &entry("user.create", None)).await.expect("created");
    let facts = CaKind::ALL.into_iter().flat_map(|kind| {
        [Fact::Ssh(SshFact::Key(key(kind, 1))), Fact::Ssh(SshFact::Authority(authority(kind)))]
    });
    let facts = facts.chain([Fact::Device(device(1)), Fact::Device(device(2))]).collect();
    put(store, tenant_id(1), version, facts).await.expect("commits")
}

async fn living(store: &Store, of: CertificatesOf, now: Timestamp) -> Vec<CertificateRow> {
    store.living_certificates(tenant_id(1), of, now).await.expect("reads")
}

pub(crate) async fn serials_are_never_given_twice(fresh: Fresh) {
    let stores = [fresh.open().await, fresh.open().await];
    let take = |n: usize, count| {
        let store = stores[n].clone();
        tokio::spawn(async move { store.reserve_serials(count).await.expect("reserved") })
    };
    let taking: Vec<_> = (0..20).map(|n| take(n % 2, 1 + u32::try_from(n).expect("small"))).collect();
    let mut seen = BTreeSet::new();
    for taken in taking {
        let (epoch, range) = taken.await.expect("no panic");
        assert_eq!(epoch, Epoch(1));
        range.for_each(|counter| assert!(seen.insert(counter), "{counter} was given twice"));
    }
    assert_eq!((seen.len(), seen.first()), (210, Some(&1)));
    let restored =
        stores[0].raise_epoch(&After::default(), &entry("server.restored", None)).await.expect("raised");
    let (epoch, _) = stores[1].reserve_serials(1).await.expect("reserved");
    assert_eq!((epoch, restored), (Epoch(2), Epoch(2)));
}

async fn a_certificate_comes_with_its_audit_entry(fresh: Fresh) {
    let store = fresh.open().await;
    ground(&store).await;
    let before = audit_count(&store).await;
    let (person, host) = (certificate(1, "u:ada@tenant1", 100), certificate(2, &host_id(1), 200));
    for row in [&person, &host] {
        store.record_certificate(row, &entry("certificate.issue", Some(row.tenant))).await.expect("recorded");
    }
    assert_eq!(audit_count(&store).await, before + 2);
    let (both, persons) = (vec![host.clone(), person.clone()], vec![person]);
    assert_eq!(living(&store, CertificatesOf::Device(device_id(1)), at(30)).await, both);
    assert_eq!(living(&store, CertificatesOf::Device(device_id(2)), at(30)).await, []);
    assert_eq!(living(&store, CertificatesOf::User(user().id), at(30)).await, persons);
    assert_eq!(living(&store, CertificatesOf::Kind(CaKind::User), at(30)).await, persons);
    assert_eq!(living(&store, CertificatesOf::Kind(CaKind::User), at(100)).await, []);
    assert_eq!(living(&store, CertificatesOf::Kind(CaKind::Host), at(100)).await, [host]);
}

fn host_id(n: u8) -> String {
    format!("h:{}@tenant1", device_id(n))
}

async fn nothing_is_recorded_for_whom_is_gone(fresh: Fresh) {
    let store = fresh.open().await;
    let version = ground(&store).await;
    let mut revoked = device(1);
    (revoked.standing, revoked.revoked_at) = (Standing::Revoked, Some(at(3)));
    let mut rotation = authority(CaKind::User).rotation;
    rotation.rotate(KeyGeneration(2), at(4)).expect("begins");
    rotation.phase = ca::Phase::UpdateClients;
    let rotated = Fact::Ssh(SshFact::Authority(Authority { rotation, keys_made: 2 }));
    put(&store, tenant_id(1), version, vec![Fact::Device(revoked), rotated]).await.expect("commits");

    let on_other = |mut row: CertificateRow| {
        row.device = device_id(2);
        row
    };
    let by_next = |mut row: CertificateRow| {
        row.generation = KeyGeneration(2);
        row
    };
    let before = audit_count(&store).await;
    let of_nobody = |mut row: CertificateRow| {
        row.user = Some(UserId::from_bytes([5; 16]));
        row
    };
    let elsewhere = |mut row: CertificateRow| {
        row.tenant = tenant_id(9);
        row
    };
    for (what, row) in [
        ("a revoked device", by_next(certificate(1, "u:ada@tenant1", 100))),
        ("a revoked host", certificate(2, &host_id(1), 100)),
        ("the former key", on_other(certificate(3, "u:ada@tenant1", 100))),
        ("no such person", of_nobody(by_next(on_other(certificate(4, "u:ada@tenant1", 100))))),
        ("no such tenant", elsewhere(by_next(on_other(certificate(5, "u:ada@tenant1", 100))))),
    ] {
        let refused = store.record_certificate(&row, &entry("certificate.issue", None)).await;
        assert!(matches!(refused, Err(RecordError::Withdrawn)), "{what}: {refused:?}");
    }
    assert_eq!(audit_count(&store).await, before);
    let good = by_next(on_other(certificate(6, "u:ada@tenant1", 100)));
    store.record_certificate(&good, &entry("certificate.issue", None)).await.expect("recorded");
    fresh.raw().await.run("UPDATE users SET disabled_at = 1").await;
    let late = by_next(on_other(certificate(7, "u:ada@tenant1", 100)));
    let refused = store.record_certificate(&late, &entry("certificate.issue", None)).await;
    assert!(matches!(refused, Err(RecordError::Withdrawn)), "{refused:?}");
}

async fn what_is_revoked_counts_no_longer(fresh: Fresh) {
    let store = fresh.open().await;
    let mut version = ground(&store).await;
    for row in [
        certificate(1, "u:ada@tenant1", 100),
        certificate(2, "u:ada@tenant1", 300),
        certificate(3, "u:ada@tenant1", 200),
        certificate(4, &host_id(1), 400),
    ] {
        store.record_certificate(&row, &entry("certificate.issue", None)).await.expect("recorded");
    }
    let until = |kind, now| {
        let store = store.clone();
        async move {
            let except = BTreeSet::new();
            let until = store.certificates_until(tenant_id(1), kind, now, &except).await.expect("reads");
            until.get(&KeyGeneration(1)).copied()
        }
    };
    assert_eq!(until(CaKind::User, at(30)).await, Some(at(300)));
    assert_eq!(until(CaKind::Host, at(30)).await, Some(at(400)));
    assert_eq!(until(CaKind::User, at(300)).await, None);
    let except = [certificate(4, &host_id(1), 400).device].into();
    let of_others = store.certificates_until(tenant_id(1), CaKind::Host, at(30), &except).await;
    assert_eq!(of_others.expect("reads"), BTreeMap::new(), "a host that nobody waits for");
    let serial = certificate(2, "u:ada@tenant1", 0).serial;
    for (what, expect) in [(format!("serial:{serial}"), Some(at(200))), ("id:u:ada@tenant1".into(), None)] {
        let what = what.parse().expect("something to revoke");
        let row = Revocation { kind: CaKind::User, what, revoked_at: at(40), until: at(500), by: None };
        let facts = vec![Fact::Ssh(SshFact::Revocation(row))];
        version = put(&store, tenant_id(1), version, facts).await.expect("commits");
        assert_eq!(until(CaKind::User, at(30)).await, expect);
    }
    assert_eq!(until(CaKind::Host, at(30)).await, Some(at(400)), "another authority's");
    assert_eq!(living(&store, CertificatesOf::User(user().id), at(30)).await, []);
    let ada = "u:ada@tenant1".parse().expect("an id");
    // The first has ended when they are given back.
    for (what, expect) in [("id:u:ada@tenant1".into(), 1), (format!("serial:{serial}"), 2)] {
        let what = what.parse().expect("something to give back");
        let facts = vec![Fact::Ssh(SshFact::RevocationGone { kind: CaKind::User, what })];
        version = put(&store, tenant_id(1), version, facts).await.expect("commits");
        let count = store.living_of(tenant_id(1), CaKind::User, &ada, at(30)).await.expect("reads");
        assert_eq!(count, expect, "what another row names stays taken back");
    }
}

async fn a_serial_is_recorded_once(fresh: Fresh) {
    let store = fresh.open().await;
    ground(&store).await;
    let row = certificate(1, "u:ada@tenant1", 100);
    store.record_certificate(&row, &entry("certificate.issue", None)).await.expect("recorded");
    let again = store.record_certificate(&row, &entry("certificate.issue", None)).await;
    assert!(matches!(again, Err(RecordError::Database(_))), "{again:?}");
}

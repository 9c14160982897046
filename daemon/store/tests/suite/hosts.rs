//! What devices installed for SSH, and the certificates of who is gone.

use control::{Device, Fact, InstalledRow, SshFact, SshRole};
use model::{CaKey, Standing};
use store::User;

use crate::certificates::{certificate, ground, user};
use crate::support::{Fresh, at, device, device_id, entry, make_tenant, on_both_engines, put, tenant_id};

on_both_engines! {
    the_last_word_of_a_device_counts,
    certificates_of_who_is_gone_are_found,
    roles_and_hosts_are_read_as_they_were_written,
}

fn said(n: u8, at_second: i64) -> InstalledRow {
    InstalledRow {
        tenant: tenant_id(1),
        device: device_id(1),
        people: (n > 0).then(|| vec![CaKey::from_bytes([n; 32])]),
        hosts: vec![CaKey::from_bytes([9; 32])],
        presents: (n > 1).then(|| CaKey::from_bytes([n; 32])),
        said_at: at(at_second),
    }
}

async fn the_last_word_of_a_device_counts(fresh: Fresh) {
    let store = fresh.open().await;
    ground(&store).await;
    for (n, second) in [(0, 10), (2, 12), (1, 11)] {
        store.save_installed(&[said(n, second)]).await.expect("saved");
    }
    assert_eq!(store.installed(tenant_id(1)).await.expect("reads"), [said(2, 12)]);
    let foreign = InstalledRow { tenant: tenant_id(2), ..said(1, 20) };
    store.save_installed(&[foreign]).await.expect("passed over");
    assert_eq!(store.installed(tenant_id(1)).await.expect("reads"), [said(2, 12)]);
}

async fn certificates_of_who_is_gone_are_found(fresh: Fresh) {
    let store = fresh.open().await;
    let version = ground(&store).await;
    let issued = entry("certificate.issue", None);
    let person = certificate(1, "u:ada@home", 100);
    let host = certificate(2, "h:01010101-0101-0101-0101-010101010101@home", 100);
    for row in [&person, &host] {
        store.record_certificate(row, &issued).await.expect("recorded");
    }
    let orphans = async || store.orphaned_certificates(at(50)).await.expect("reads");
    assert_eq!(orphans().await, []);
    make_tenant(&store, 2).await;
    let is = async |changed: User| {
        store.update_user(&changed, false, &entry("user.change", None)).await.expect("changed");
    };
    is(User { tenant: Some(tenant_id(1)), ..user() }).await;
    assert_eq!(orphans().await, [], "of the one tenant that it sees");
    is(User { tenant: Some(tenant_id(2)), ..user() }).await;
    assert_eq!(orphans().await, std::slice::from_ref(&person), "of a tenant that it sees no more");
    is(user()).await;
    assert_eq!(orphans().await, []);
    is(User { disabled_at: Some(at(55)), ..user() }).await;
    assert_eq!(orphans().await, std::slice::from_ref(&person));
    let revoked = Device { standing: Standing::Revoked, revoked_at: Some(at(60)), ..device(1) };
    put(&store, tenant_id(1), version, vec![Fact::Device(revoked)]).await.expect("commits");
    assert_eq!(orphans().await, [host, person]);
    assert_eq!(store.orphaned_certificates(at(100)).await.expect("reads"), [], "they ended");
}

async fn roles_and_hosts_are_read_as_they_were_written(fresh: Fresh) {
    let store = fresh.open().await;
    let version = ground(&store).await;
    let role = SshRole {
        identities: ["u:bob".parse().expect("an identity")].into(),
        permits: [ca::Permit::PortForwarding].into(),
        labels: [("env".parse().expect("a label"), "prod".parse().expect("a label"))].into(),
        ..SshRole::default_role()
    };
    let key = CaKey::from_bytes([5; 32]).to_string().parse().expect("a key");
    let facts = vec![
        SshFact::Role(role.clone()),
        SshFact::Administrators(["ada".parse().expect("a label")].into()),
        SshFact::HostKey { device: device_id(1), key },
    ];
    let version =
        put(&store, tenant_id(1), version, facts.clone().into_iter().map(Fact::Ssh).collect()).await;
    let rows = store.load().await.expect("reads").tenants.remove(0).ssh;
    let read: Vec<SshFact> = rows.into_facts().collect();
    assert!(facts.iter().all(|fact| read.contains(fact)), "{read:?}");
    let gone = Fact::Ssh(SshFact::RoleGone { name: role.name });
    put(&store, tenant_id(1), version.expect("committed"), vec![gone]).await.expect("commits");
    assert!(store.load().await.expect("reads").tenants.remove(0).ssh.roles.is_empty());
}

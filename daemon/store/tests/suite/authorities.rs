//! SSH authorities: their rows, their sealed keys, what is revoked.

use ca::{CaSecret, KeyGeneration, Phase, Rotation};
use control::{Authority, AuthorityKey, Fact, NewKey, Refresh, Revocation, Since, SshFact, SshRows};
use model::CaKind;
use store::Sealed;

use crate::support::{Fresh, at, commit, device_id, make_tenant, on_both_engines, put, rows_of, tenant_id};

on_both_engines! {
    authorities_survive_the_round_trip,
    a_key_is_kept_sealed_until_it_is_erased,
    a_trusted_key_is_never_another,
}

pub(crate) fn authority(kind: CaKind) -> Authority {
    Authority { rotation: Rotation::first(kind, at(3)), keys_made: 1 }
}

pub(crate) fn key(kind: CaKind, generation: u32) -> AuthorityKey {
    let public = CaSecret::from_seed([generation as u8; 32]).public();
    let generation = KeyGeneration(generation);
    AuthorityKey { kind, generation, public, created_at: at(2), erased_at: None }
}

fn revocation(what: &str) -> Revocation {
    let what = what.parse().expect("something to revoke");
    let by = "user:alice".parse().ok();
    Revocation { kind: CaKind::User, what, revoked_at: at(5), until: at(50), by }
}

async fn authorities_survive_the_round_trip(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    make_tenant(&store, 2).await;
    let mut rotating = authority(CaKind::User);
    rotating.rotation.rotate(KeyGeneration(2), at(9)).expect("begins");
    rotating.rotation.phase = Phase::UpdateClients;
    rotating.rotation.exempt = [device_id(1), device_id(2)].into();
    rotating.keys_made = 2;
    let rows = SshRows {
        authorities: vec![authority(CaKind::Host), rotating],
        keys: vec![key(CaKind::Host, 1), key(CaKind::User, 1), key(CaKind::User, 2)],
        revocations: vec![revocation("id:u:ada@tenant1"), revocation("serial:140737488355333")],
        ..SshRows::default()
    };
    let facts: Vec<Fact> = rows.clone().into_facts().map(Fact::Ssh).collect();
    let next = put(&store, tenant_id(1), version, facts.clone()).await.expect("commits");
    assert_eq!(rows_of(&fresh.open().await, 1).await.ssh, rows);
    assert_eq!(rows_of(&store, 2).await.ssh, SshRows::default());
    let refresh = store.refresh(tenant_id(1), Since::Generation(version.generation)).await.expect("reads");
    let Refresh::Facts { facts: replayed, .. } = refresh else { panic!("the log has them") };
    assert_eq!(replayed, facts);

    let gone = revocation("id:u:ada@tenant1");
    let gone = Fact::Ssh(SshFact::RevocationGone { kind: gone.kind, what: gone.what });
    put(&store, tenant_id(1), next, vec![gone.clone()]).await.expect("commits");
    assert_eq!(rows_of(&store, 1).await.ssh.revocations, rows.revocations[1..]);
    let refresh = store.refresh(tenant_id(1), Since::Generation(next.generation)).await.expect("reads");
    assert!(matches!(refresh, Refresh::Facts { facts, .. } if facts == [gone]));
}

async fn a_key_is_kept_sealed_until_it_is_erased(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let user = key(CaKind::User, 1);
    let mut founding = commit(tenant_id(1), version, vec![Fact::Ssh(SshFact::Key(user.clone()))]);
    let secret = CaSecret::from_seed([1; 32]);
    founding.new_keys = vec![NewKey { kind: CaKind::User, generation: KeyGeneration(1), secret }];
    let sealed = Sealed { anchor: None, keys: vec![b"sealed \0 key".to_vec()] };
    store.commit(&founding, &sealed).await.expect("commits");
    let kept = |kind, generation| {
        let store = store.clone();
        async move { store.sealed_key(tenant_id(1), kind, KeyGeneration(generation)).await.expect("reads") }
    };
    assert_eq!(kept(CaKind::User, 1).await.as_deref(), Some(&b"sealed \0 key"[..]));
    assert_eq!((kept(CaKind::Host, 1).await, kept(CaKind::User, 2).await), (None, None));

    let erased = AuthorityKey { erased_at: Some(at(9)), ..user };
    let fact = Fact::Ssh(SshFact::Key(erased.clone()));
    put(&store, tenant_id(1), founding.result(), vec![fact]).await.expect("commits");
    assert_eq!(kept(CaKind::User, 1).await, None);
    assert_eq!(rows_of(&store, 1).await.ssh.keys, [erased], "its number is never used again");
    let secrets = fresh.raw().await.count("SELECT COUNT(*) FROM authority_secrets").await;
    assert_eq!(secrets, 0);
}

async fn a_trusted_key_is_never_another(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let first = key(CaKind::User, 1);
    let next = put(&store, tenant_id(1), version, vec![Fact::Ssh(SshFact::Key(first.clone()))]).await;
    let forged = AuthorityKey { public: key(CaKind::User, 7).public, ..first.clone() };
    let forged = vec![Fact::Ssh(SshFact::Key(forged))];
    put(&store, tenant_id(1), next.expect("commits"), forged).await.expect("commits");
    assert_eq!(rows_of(&store, 1).await.ssh.keys, [first]);
}

//! What is revoked of SSH certificates: how long it is listed, what follows by itself however much it is, what is given back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control::limits::{REVOCATIONS_MAX, REVOKED_IDS_MAX, SERIALS_OF_ONE_MAX};
use control::{Actor, Answer, Edit, Withdrawn};
use model::{CaKind, CertificateId, Code, Refusal, Revoked, SshSerial, TenantId, Timestamp};

use crate::world::World;

const FOR_EVER: Timestamp = Timestamp::from_unix_micros(i64::MAX / 2);

fn count(answer: Result<Answer, Refusal>) -> usize {
    match answer {
        Ok(
            Answer::CertificatesRevoked(count)
            | Answer::CertificatesGivenBack(count)
            | Answer::RevocationsPruned(count),
        ) => count,
        other => panic!("{other:?}"),
    }
}

fn serials(numbers: std::ops::Range<u64>) -> BTreeSet<SshSerial> {
    numbers.filter_map(SshSerial::from_number).collect()
}

fn id(text: &str) -> CertificateId {
    text.parse().expect("an id")
}

fn revoke(what: BTreeSet<Revoked>) -> Edit {
    Edit::RevokeCertificates { kind: CaKind::User, what, until: FOR_EVER }
}

fn withdraw(of: &str, numbers: std::ops::Range<u64>, holder_gone: bool) -> Edit {
    let withdrawn = Withdrawn { serials: serials(numbers), holder_gone };
    let of = BTreeMap::from([(id(of), withdrawn)]);
    Edit::WithdrawCertificates { kind: CaKind::User, of, until: FOR_EVER }
}

/// What is listed: how many serials, and of whom all.
fn listed(world: &World, tenant: TenantId) -> (usize, Vec<String>) {
    let rows = world.directory(tenant).revocations();
    let (ids, serials): (Vec<_>, Vec<_>) =
        rows.map(|row| row.what.clone()).partition(|what| matches!(what, Revoked::Id(_)));
    (serials.len(), ids.iter().map(ToString::to_string).collect())
}

#[test]
fn revocations_are_listed_until_a_day_after_they_matter() {
    let (mut world, tenant) = World::with_tenant();
    let what: BTreeSet<_> =
        ["serial:140737488355333", "id:u:ada@home"].map(|w| w.parse().expect("reads")).into();
    let until = world.now.wall + Duration::from_secs(3600);
    let revoke = Edit::RevokeCertificates { kind: CaKind::User, what, until };
    let version = |world: &World| world.directory(tenant).version();
    assert_eq!(count(world.edit(Some(tenant), revoke.clone())), 2);
    let before = version(&world);
    assert_eq!(count(world.edit(Some(tenant), revoke)), 0, "they are revoked already");
    assert_eq!(count(world.edit(Some(tenant), Edit::PruneRevocations)), 0);
    assert_eq!(version(&world), before, "nothing was written");
    world.advance(Duration::from_secs(24 * 3600));
    assert_eq!(count(world.edit(Some(tenant), Edit::PruneRevocations)), 0);
    world.advance(Duration::from_secs(2 * 3600));
    assert_eq!(count(world.edit(Some(tenant), Edit::PruneRevocations)), 2);
    assert_eq!(world.directory(tenant).revocations().count(), 0);
}

#[test]
fn whoever_is_gone_with_many_certificates_takes_one_line() {
    let (mut world, tenant) = World::with_tenant();
    let most = SERIALS_OF_ONE_MAX as u64;
    assert_eq!(
        count(world.edit(Some(tenant), withdraw("u:ada@home", 1..most + 1, true))),
        SERIALS_OF_ONE_MAX
    );
    let many = 10_000..10_001 + most;
    assert_eq!(
        count(world.edit(Some(tenant), withdraw("u:bob@home", many.clone(), false))),
        SERIALS_OF_ONE_MAX + 1
    );
    assert_eq!(listed(&world, tenant), (2 * SERIALS_OF_ONE_MAX + 1, vec![]), "bob is there and goes on");
    assert_eq!(count(world.edit(Some(tenant), withdraw("u:eve@home", many, true))), 1);
    assert_eq!(listed(&world, tenant).1, ["id:u:eve@home"]);
    let revoked = world.directory(tenant).revocation_of(CaKind::User, &id("u:eve@home")).expect("listed");
    assert_eq!(revoked.by, Some(Actor::Server));
    assert!(world.directory(tenant).revocation_of(CaKind::Host, &id("u:eve@home")).is_none());
}

#[test]
fn a_full_list_refuses_administrators_single_certificates_and_nothing_else() {
    let (mut world, tenant) = World::with_tenant();
    let all = serials(1..REVOCATIONS_MAX as u64 + 1).into_iter().map(Revoked::Serial).collect();
    assert_eq!(count(world.edit(Some(tenant), revoke(all))), REVOCATIONS_MAX);
    let one = BTreeSet::from([Revoked::Serial(SshSerial::from_number(1 << 40).expect("a serial"))]);
    let refused = world.edit(Some(tenant), revoke(one)).expect_err("no room");
    assert_eq!(refused.code, Code::QuotaReached);
    assert!(refused.detail.contains("id:u:NAME@TENANT"), "{refused}");
    assert_eq!(count(world.edit(Some(tenant), revoke([Revoked::Id(id("u:ada@home"))].into()))), 1);
    assert_eq!(count(world.edit(Some(tenant), withdraw("u:bob@home", 1 << 41..(1 << 41) + 3, false))), 1);
    assert_eq!(
        listed(&world, tenant),
        (REVOCATIONS_MAX, vec!["id:u:ada@home".into(), "id:u:bob@home".into()])
    );
    let list = world.directory(tenant).revocation_list(CaKind::User);
    assert!(list.to_bytes(world.now.wall).len() < ca::krl::KRL_BYTES_MAX);

    let ids = (0..REVOKED_IDS_MAX).map(|n| Revoked::Id(id(&format!("u:p{n}@home")))).collect();
    let refused = world.edit(Some(tenant), revoke(ids)).expect_err("so many people");
    assert_eq!(refused.code, Code::QuotaReached);
}

#[test]
fn what_an_administrator_took_back_is_given_back_and_nothing_that_follows_by_itself() {
    let (mut world, tenant) = World::with_tenant();
    let read = |text: &str| text.parse::<Revoked>().expect("reads");
    let by_hand = BTreeSet::from([read("id:u:ada@home"), read("serial:7")]);
    world.edit(Some(tenant), revoke(by_hand.clone())).expect("revoked");
    world.edit(Some(tenant), withdraw("u:bob@home", 8..9, false)).expect("revoked");
    let give_back = |world: &mut World, what: &str| world.edit(Some(tenant), back([read(what)].into()));
    let code = |answer: Result<Answer, Refusal>| answer.map_err(|refusal| refusal.code).err();
    assert_eq!(code(give_back(&mut world, "serial:9")), Some(Code::RevocationNotFound));
    assert_eq!(code(give_back(&mut world, "serial:8")), Some(Code::RevocationKept));
    let both = BTreeSet::from([read("serial:7"), read("serial:8")]);
    assert_eq!(code(world.edit(Some(tenant), back(both))), Some(Code::RevocationKept));
    assert_eq!(listed(&world, tenant).0, 2, "all or nothing");
    assert_eq!(count(world.edit(Some(tenant), back(by_hand))), 2);
    assert_eq!(listed(&world, tenant), (1, vec![]));
    let audit = world.store.audit.last().expect("audited");
    assert_eq!(
        (audit.action.as_str(), audit.target.as_str()),
        ("certificate.give-back", "serial:7 and 1 more")
    );
}

fn back(what: BTreeSet<Revoked>) -> Edit {
    Edit::GiveBackCertificates { what, there: BTreeSet::new() }
}

#[test]
fn what_went_with_a_device_stays_the_servers_whoever_wants_it_listed_for_longer() {
    let (mut world, tenant) = World::with_tenant();
    let seven = || BTreeSet::from(["serial:7".parse::<Revoked>().expect("reads")]);
    let of = BTreeMap::from([(id("u:ada@home"), Withdrawn { serials: serials(7..8), holder_gone: false })]);
    let until = world.now.wall + Duration::from_secs(60);
    let withdrawn = Edit::WithdrawCertificates { kind: CaKind::User, of, until };
    world.edit(Some(tenant), withdrawn).expect("revoked");
    assert_eq!(count(world.edit(Some(tenant), revoke(seven()))), 1, "until later");
    let refused = world.edit(Some(tenant), back(seven())).expect_err("it went with a device");
    assert_eq!(refused.code, Code::RevocationKept);

    // The other way round: it becomes the server's, and is listed no shorter.
    let eight = || BTreeSet::from(["serial:8".parse::<Revoked>().expect("reads")]);
    world.edit(Some(tenant), revoke(eight())).expect("revoked");
    assert_eq!(count(world.edit(Some(tenant), withdraw("u:ada@home", 8..9, false))), 1);
    assert_eq!(world.edit(Some(tenant), back(eight())).expect_err("kept").code, Code::RevocationKept);
    assert_eq!(count(world.edit(Some(tenant), withdraw("u:ada@home", 8..9, false))), 0, "it is so already");
}

#[test]
fn a_person_whom_the_server_revoked_by_id_is_given_back_when_she_is_there() {
    let (mut world, tenant) = World::with_tenant();
    let many = 1..SERIALS_OF_ONE_MAX as u64 + 2;
    assert_eq!(count(world.edit(Some(tenant), withdraw("u:ada@home", many, true))), 1);
    let what = || BTreeSet::from([Revoked::Id(id("u:ada@home"))]);
    assert_eq!(world.edit(Some(tenant), back(what())).expect_err("gone").code, Code::RevocationKept);
    let there = BTreeSet::from([id("u:ada@home")]);
    let edit = Edit::GiveBackCertificates { what: what(), there };
    assert_eq!(count(world.edit(Some(tenant), edit)), 1);
    assert_eq!(listed(&world, tenant), (0, vec![]));
}

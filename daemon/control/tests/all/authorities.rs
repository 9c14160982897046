//! SSH authorities: founded with their tenant or after it, rotated by steps that lock nobody out, revocations.

use std::collections::BTreeSet;
use std::time::Duration;

use ca::{Ground, KeyGeneration, Phase, Verifier};
use control::{Answer, Edit, Fact, SshFact, SshRows};
use model::{CaKind, Code, DeviceId, Refusal, TenantId};

use crate::store::Store;
use crate::world::World;

fn phase_of(answer: Result<Answer, Refusal>) -> Result<Phase, Refusal> {
    match answer? {
        Answer::Authority(authority) => Ok(authority.rotation.phase),
        other => panic!("{other:?}"),
    }
}

fn advance(
    world: &mut World,
    tenant: TenantId,
    ground: &Ground,
    except: &[DeviceId],
) -> Result<Phase, Refusal> {
    let (ground, except) = (ground.clone(), except.iter().copied().collect());
    let kind = CaKind::User;
    let judged = world.directory(tenant).authority(kind).expect("founded").rotation.step();
    phase_of(world.edit(Some(tenant), Edit::AdvanceAuthority { kind, except, judged, ground }))
}

fn key_facts(world: &World, tenant: TenantId) -> Vec<control::AuthorityKey> {
    world.store.tenants[&tenant].rows.ssh.keys.clone()
}

#[test]
fn a_tenant_begins_with_both_authorities() {
    let (world, tenant) = World::with_tenant();
    let directory = world.directory(tenant);
    for kind in CaKind::ALL {
        let authority = directory.authority(kind).expect("founded");
        assert_eq!((authority.rotation.phase, authority.keys_made), (Phase::Standby, 1));
        let signing = directory.signing_key(kind).expect("it has a key");
        assert_eq!(directory.trusted_keys(kind).collect::<Vec<_>>(), [signing]);
    }
    let keys: BTreeSet<_> = CaKind::ALL.map(|k| directory.signing_key(k).map(|key| key.public)).into();
    assert_eq!(keys.len(), 2, "each has its own");
}

#[test]
fn a_tenant_from_before_gets_its_authorities_at_the_start() {
    let (mut world, tenant) = World::with_tenant();
    let mut store: Store = std::mem::take(&mut world.store);
    store.tenants.get_mut(&tenant).expect("stored").rows.ssh = SshRows::default();
    let version = world.directory(tenant).version();
    let world = World::over(store, false, 9);
    let founded = world.store.tenants[&tenant].rows.ssh.clone();
    assert_eq!((founded.authorities.len(), founded.keys.len()), (2, 2));
    assert_eq!(world.directory(tenant).version().generation.0, version.generation.0 + 1, "once");
    let audit = world.store.audit.last().expect("audited");
    assert_eq!((audit.action.as_str(), audit.actor.to_string().as_str()), ("ca.found", "server"));
    let again = World::over(world.store, false, 10);
    assert_eq!(again.store.tenants[&tenant].rows.ssh, founded);
}

#[test]
fn a_rotation_goes_step_by_step_and_erases_the_former_key() {
    let (mut world, tenant) = World::with_tenant();
    let idle = advance(&mut world, tenant, &Ground::default(), &[]).expect_err("nothing to advance");
    assert_eq!(idle.code, Code::RotationIdle);
    let kind = CaKind::User;
    assert_eq!(phase_of(world.edit(Some(tenant), Edit::RotateAuthority(kind))), Ok(Phase::Init));
    let twice = world.edit(Some(tenant), Edit::RotateAuthority(kind)).expect_err("one at a time");
    assert_eq!(twice.code, Code::RotationUnderWay);
    let directory = world.directory(tenant);
    assert_eq!(directory.trusted_keys(kind).count(), 2);
    assert_eq!(directory.signing_key(kind).map(|key| key.generation), Some(KeyGeneration(1)));

    let token = world.token(tenant, 1);
    let link = world.enrol(1, &token);
    let device = world.device(link);
    let said_at = Some(world.now.wall);
    let lagging = Verifier { trusts: Some([KeyGeneration(1)].into()), said_at, ..Verifier::default() };
    let ground = Ground { devices: [(device, lagging)].into(), ..Ground::default() };
    let blocked = advance(&mut world, tenant, &ground, &[]).expect_err("a host would lock its people out");
    let name = world.directory(tenant).device(device).expect("enrolled").name.clone();
    assert_eq!(blocked.code, Code::RotationBlocked);
    assert_eq!(
        blocked.detail,
        format!("{name} does not trust the next key yet, as it said at {}", world.now.wall)
    );
    assert_eq!(advance(&mut world, tenant, &ground, &[device]), Ok(Phase::UpdateClients));
    assert_eq!(world.directory(tenant).signing_key(kind).map(|key| key.generation), Some(KeyGeneration(2)));
    assert_eq!(advance(&mut world, tenant, &ground, &[]), Ok(Phase::UpdateServers));
    assert!(key_facts(&world, tenant).iter().all(|key| key.erased_at.is_none()));
    assert_eq!(advance(&mut world, tenant, &ground, &[]), Ok(Phase::Standby));
    let erased = key_facts(&world, tenant).into_iter().filter(|key| key.erased_at.is_some());
    assert_eq!(erased.map(|key| (key.kind, key.generation)).collect::<Vec<_>>(), [(kind, KeyGeneration(1))]);
    assert_eq!(world.directory(tenant).trusted_keys(kind).count(), 1);
}

#[test]
fn a_step_is_not_taken_on_the_ground_of_another() {
    let (mut world, tenant) = World::with_tenant();
    let kind = CaKind::User;
    world.edit(Some(tenant), Edit::RotateAuthority(kind)).expect("begins");
    let judged = world.directory(tenant).authority(kind).expect("founded").rotation.step();
    let stale = Edit::AdvanceAuthority { kind, except: BTreeSet::new(), judged, ground: Ground::default() };
    assert_eq!(phase_of(world.edit(Some(tenant), stale.clone())), Ok(Phase::UpdateClients));
    let refused = world.edit(Some(tenant), stale.clone()).expect_err("it was looked at for init");
    assert_eq!(refused.code, Code::Conflict, "{refused}");
    world.edit(Some(tenant), Edit::RollBackAuthority(kind)).expect("back");
    advance(&mut world, tenant, &Ground::default(), &[]).expect("ends");
    world.advance(Duration::from_secs(1));
    world.edit(Some(tenant), Edit::RotateAuthority(kind)).expect("begins anew");
    let refused = world.edit(Some(tenant), stale).expect_err("this is another rotation's init");
    assert_eq!(refused.code, Code::Conflict, "{refused}");
    let phase = world.directory(tenant).authority(kind).expect("founded").rotation.phase;
    assert_eq!(phase, Phase::Init, "nothing was done");
}

#[test]
fn a_rollback_erases_the_next_key_and_its_number_is_not_used_again() {
    let (mut world, tenant) = World::with_tenant();
    let kind = CaKind::User;
    world.edit(Some(tenant), Edit::RotateAuthority(kind)).expect("begins");
    assert_eq!(phase_of(world.edit(Some(tenant), Edit::RollBackAuthority(kind))), Ok(Phase::Rollback));
    let twice = world.edit(Some(tenant), Edit::RollBackAuthority(kind)).expect_err("it is");
    assert_eq!(twice.code, Code::RotationUnderWay);
    assert!(twice.detail.contains("`warren ca advance --type user` ends it"), "{}", twice.detail);
    assert_eq!(advance(&mut world, tenant, &Ground::default(), &[]), Ok(Phase::Standby));
    world.edit(Some(tenant), Edit::RotateAuthority(kind)).expect("begins anew");
    let directory = world.directory(tenant);
    let trusted: Vec<u32> = directory.trusted_keys(kind).map(|key| key.generation.0).collect();
    assert_eq!(trusted, [1, 3]);
    let host = directory.authority(CaKind::Host).expect("founded");
    assert_eq!(host.rotation.phase, Phase::Standby, "the other is left alone");
}

#[test]
fn a_stolen_key_is_replaced_whoever_is_away() {
    let (mut world, tenant) = World::with_tenant();
    let kind = CaKind::User;
    world.edit(Some(tenant), Edit::RotateAuthority(kind)).expect("begins");
    assert_eq!(phase_of(world.edit(Some(tenant), Edit::ReplaceAuthority(kind))), Ok(Phase::Standby));
    let directory = world.directory(tenant);
    let trusted: Vec<u32> = directory.trusted_keys(kind).map(|key| key.generation.0).collect();
    assert_eq!(trusted, [3]);
    assert_eq!(directory.signing_key(kind).map(|key| key.generation), Some(KeyGeneration(3)));
    let erased = key_facts(&world, tenant).into_iter().filter(|key| key.erased_at.is_some());
    assert_eq!(erased.map(|key| (key.kind, key.generation.0)).collect::<Vec<_>>(), [(kind, 1), (kind, 2)]);
}

#[test]
fn every_new_key_comes_with_the_half_that_is_sealed() {
    let (world, tenant) = World::with_tenant();
    let directory = world.directory(tenant);
    let mut dice = control::Dice::new([3; 32]);
    let actor = crate::world::admin();
    let now = crate::world::now_at(1).wall;
    let mut grounds =
        control::directory::Grounds { now, actor: &actor, dice: &mut dice, ports: Default::default() };
    let decision = directory.decide(&Edit::RotateAuthority(CaKind::Host), &mut grounds).expect("begins");
    let [secret] = &decision.new_keys[..] else { panic!("one key: {decision:?}") };
    let key = |fact: &Fact| match fact {
        Fact::Ssh(SshFact::Key(key)) => Some((key.kind, key.generation, key.public)),
        _ => None,
    };
    let facts: Vec<_> = decision.facts.iter().filter_map(key).collect();
    assert_eq!(facts, [(secret.kind, secret.generation, secret.secret.public())]);
    assert!(format!("{secret:?}").contains("CaSecret(..)"), "no secret is printed");
}

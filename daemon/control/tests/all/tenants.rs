//! Tenants begin and end: blocks, names, anchors, and what the hub is told.

use std::time::Duration;

use control::{Answer, Edit, Fact, HubInterface};
use model::{Code, NodeId, PublicKey, Standing};

use crate::node::Node;
use crate::world::{World, label};

fn create(world: &mut World, name: &str, block: Option<&str>) -> Result<String, Code> {
    let block = block.map(|net| net.parse().expect("a network"));
    match world.edit(None, Edit::CreateTenant { name: label(name), block, interface: HubInterface::Shared }) {
        Ok(Answer::TenantCreated(tenant)) => Ok(tenant.block.v4().to_string()),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.code),
    }
}

#[test]
fn blocks_and_names_exclude_each_other() {
    let mut world = World::empty();
    let world = &mut world;
    assert_eq!(create(world, "a", None), Ok("100.64.0.0/16".into()));
    assert_eq!(create(world, "b", None), Ok("100.65.0.0/16".into()));
    assert_eq!(create(world, "a", None), Err(Code::NameTaken));
    assert_eq!(create(world, "c", Some("100.65.3.0/24")), Err(Code::BlockOverlap));
    assert_eq!(create(world, "c", Some("10.0.0.0/7")), Err(Code::BlockInvalid));
    assert_eq!(create(world, "c", Some("10.0.0.1/24")), Err(Code::BlockInvalid));
    assert_eq!(create(world, "c", Some("100.66.0.0/15")), Ok("100.66.0.0/15".into()));
    assert_eq!(create(world, "d", None), Ok("100.68.0.0/16".into()));
    for n in 5..63 {
        assert!(create(world, &format!("t{n}"), None).is_ok(), "{n}");
    }
    assert_eq!(create(world, "last", None), Ok("100.127.0.0/16".into()));
    assert_eq!(create(world, "none", None), Err(Code::BlockExhausted));
}

#[test]
fn a_tenant_with_devices_stays() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 1);
    let link = world.enrol(1, &token);
    let device = world.device(link);
    let refusal = world.edit(Some(tenant), Edit::DeleteTenant).expect_err("it has a device");
    assert_eq!(refusal.code, Code::TenantNotEmpty);
    world.edit(Some(tenant), Edit::RevokeDevice(device)).expect("revoked");
    world.edit(Some(tenant), Edit::DeleteTenant).expect("deleted");
    let refusal = world.edit(Some(tenant), Edit::DeleteTenant).expect_err("it is gone");
    assert_eq!(refusal.code, Code::TenantNotFound);
    assert_eq!(create(&mut world, "home", None), Ok("100.64.0.0/16".into()), "name and block are free");
}

#[test]
fn a_hub_learns_of_tenants_that_come_and_go() {
    let (mut world, first) = World::with_tenant();
    let hub = world.connect(Node::hub(900, 9, 51820));
    assert_eq!(world.node(hub).snapshots.keys().collect::<Vec<_>>(), [&first]);
    let second = world.found("work");
    assert!(world.directory(second).hub().is_some_and(|h| h.key == world.node(hub).wireguard.public()));
    assert_eq!(world.node(hub).snapshots.len(), 2);
    assert_eq!(world.node(hub).snapshots[&second].1.own.standing, Standing::Active);

    world.edit(Some(second), Edit::DeleteTenant).expect("deleted");
    let last = &world.node(hub).snapshots[&second].1;
    assert_eq!(last.own.standing, Standing::Revoked);
    assert!(last.own.addresses.is_none() && last.peers.is_empty() && last.zone.names.is_empty());
    world.assert_all_hold_their_plans();
}

#[test]
fn a_hub_that_was_away_still_learns_that_a_tenant_is_gone() {
    let (mut world, _) = World::with_tenant();
    let second = world.found("work");
    let hub = world.connect(Node::hub(900, 9, 51820));
    let mut away = world.disconnect(hub);
    world.edit(Some(second), Edit::DeleteTenant).expect("deleted");
    away.again(901);
    let hub = world.connect(away);
    assert_eq!(world.node(hub).snapshots[&second].1.own.standing, Standing::Revoked);
    let fresh = world.connect(Node::hub(902, 9, 51820));
    assert!(!world.node(fresh).pins.contains_key(&second), "a new hub is not told of it");
    assert!(!world.node(fresh).snapshots.contains_key(&second));
}

#[test]
fn a_new_tenant_stores_its_anchor_once() {
    let (world, tenant) = World::with_tenant();
    let stored = &world.store.tenants[&tenant];
    assert_eq!(stored.anchor.public(), stored.rows.tenant.anchor);
    assert!(
        matches!(&stored.log[0].1[..], [Fact::Tenant(_), rest @ ..] if rest.iter().all(|f| matches!(f, Fact::Ssh(_)))),
        "no hub is known yet"
    );
    assert_eq!(world.store.audit[0].action, "tenant.create");
}

#[test]
fn no_more_devices_than_the_quota_come() {
    let (mut world, tenant) = World::with_tenant();
    world.connect(Node::hub(900, 9, 51820));
    let token = world.token(tenant, 10);
    let first = world.enrol(1, &token);
    world.edit(Some(tenant), Edit::SetQuota(Some(2))).expect("set");
    world.enrol(2, &token);
    let third = world.enrol(3, &token);
    assert_eq!(world.node(third).refused.as_ref().map(|r| r.code), Some(Code::DeviceQuotaReached));
    let plain =
        Edit::AddPlain { name: label("cam"), wireguard: PublicKey::from_bytes([7; 32]), tags: [].into() };
    let refusal = world.edit(Some(tenant), plain.clone()).expect_err("no room");
    assert_eq!(refusal.code, Code::DeviceQuotaReached);
    let uses = world.directory(tenant).tokens().next().expect("a token").uses;
    assert_eq!(uses, 2, "who is refused uses nothing up");
    world.edit(Some(tenant), Edit::RevokeDevice(world.device(first))).expect("revoked");
    world.edit(Some(tenant), plain).expect("there is room");
    world.edit(Some(tenant), Edit::SetQuota(Some(1))).expect("those that it has stay");
    assert_eq!(world.directory(tenant).live_count(), 2);
    world.edit(Some(tenant), Edit::SetQuota(None)).expect("set");
    let fourth = world.enrol(4, &token);
    world.device(fourth);
}

#[test]
fn a_closed_tenant_is_nothing_to_anybody_until_it_is_restored_as_it_was() {
    let (mut world, tenant) = World::with_tenant();
    let hub = world.connect(Node::hub(900, 9, 51820));
    let token = world.token(tenant, 3);
    let (a, b) = (world.enrol(1, &token), world.enrol(2, &token));
    let (id, key) = (world.device(a), world.node(a).wireguard.public());
    let data = model::RecordData::parse("A", "10.0.0.1").expect("a record");
    let add = Edit::AddRecord { name: "git".parse().expect("a name"), data, ttl: None };
    world.edit(Some(tenant), add.clone()).expect("added");
    let before =
        [world.directory(tenant).plan(NodeId::Hub), world.directory(tenant).plan(NodeId::Device(id))];

    let close = Edit::CloseTenant { grace: Duration::from_secs(60) };
    world.edit(Some(tenant), close).expect("closed");
    let at_hub = &world.node(hub).snapshots[&tenant].1;
    assert!(at_hub.peers.is_empty() && at_hub.zone.names.is_empty());
    assert_eq!(at_hub.own.standing, Standing::Active, "the hub is one: it is other tenants' too");
    for link in [a, b] {
        let held = world.node(link).snapshot();
        assert_eq!((held.own.standing, held.peers.len(), held.zone.names.len()), (Standing::Closed, 0, 0));
    }
    assert!(world.admitted.is_empty(), "no packet of theirs is relayed");
    let late = world.enrol(3, &token);
    assert_eq!(world.node(late).refused.as_ref().map(|r| r.code), Some(Code::TenantClosed));
    for refused in [add, Edit::RevokeDevice(id), Edit::EraseTenant] {
        let result = world.edit(Some(tenant), refused.clone()).map_err(|refusal| refusal.code);
        match refused {
            Edit::AddRecord { .. } => assert_eq!(result.err(), Some(Code::TenantClosed)),
            Edit::EraseTenant => assert_eq!(result.err(), Some(Code::Conflict), "its grace is not over"),
            _ => assert!(result.is_ok(), "what takes away may be done"),
        }
    }
    assert_eq!(create(&mut world, "home", None), Err(Code::NameTaken), "it holds its name");
    world.assert_all_hold_their_plans();

    world.edit(Some(tenant), Edit::RestoreTenant).expect("restored");
    let after = world.directory(tenant).plan(NodeId::Hub).expect("a plan");
    let mut expect = before[0].clone().expect("a plan");
    expect.peers.make(key, None);
    expect.zone.names.make("host1.home.internal".parse().expect("a name"), None);
    assert_eq!(after, expect, "all but the device that was revoked meanwhile");
    assert_eq!(world.node(b).snapshot().own.standing, Standing::Active);
    world.assert_all_hold_their_plans();
}

#[test]
fn after_the_grace_nothing_of_a_tenant_is_left_in_use() {
    let (mut world, tenant) = World::with_tenant();
    let hub = world.connect(Node::hub(900, 9, 51820));
    let token = world.token(tenant, 3);
    let link = world.enrol(1, &token);
    let data = model::RecordData::parse("A", "10.0.0.1").expect("a record");
    let add = Edit::AddRecord { name: "git".parse().expect("a name"), data, ttl: None };
    world.edit(Some(tenant), add).expect("added");
    let grace = Duration::from_secs(60);
    let refusal = world.edit(Some(tenant), Edit::EraseTenant).expect_err("it is open");
    assert_eq!(refusal.code, Code::Conflict);
    world.edit(Some(tenant), Edit::CloseTenant { grace }).expect("closed");
    world.advance(grace);
    world.edit(Some(tenant), Edit::EraseTenant).expect("erased");

    let rows = &world.store.tenants[&tenant].rows;
    assert!(rows.tenant.deleted_at.is_some() && rows.records.is_empty() && rows.devices_count == 0);
    assert!(rows.devices.iter().all(|device| !device.is_live()));
    assert!(rows.tokens.iter().all(|token| token.revoked_at.is_some()));
    assert!(rows.ssh.keys.iter().all(|key| key.erased_at.is_some()), "no authority signs any more");
    assert_eq!(world.node(link).snapshot().own.standing, Standing::Revoked);
    assert_eq!(world.node(hub).snapshots[&tenant].1.own.standing, Standing::Revoked);
    let refusal = world.edit(Some(tenant), Edit::RestoreTenant).expect_err("it is gone");
    assert_eq!(refusal.code, Code::TenantNotFound);
    assert_eq!(create(&mut world, "home", None), Ok("100.64.0.0/16".into()), "name and block are free");
}

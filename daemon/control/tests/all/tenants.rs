//! Tenants begin and end: blocks, names, anchors, and what the hub is told.

use control::{Answer, Edit, Fact};
use model::{Code, Standing};

use crate::node::Node;
use crate::world::{World, label};

fn create(world: &mut World, name: &str, block: Option<&str>) -> Result<String, Code> {
    let block = block.map(|net| net.parse().expect("a network"));
    match world.edit(None, Edit::CreateTenant { name: label(name), block }) {
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

//! A tenant with an interface of its own on the hub: what the hub and its devices are told, and what is refused.

use control::limits::HUB_FIRST_TIME_MAX;
use control::{Answer, Edit, HubInterface};
use model::limits::OWN_INTERFACES_MAX;
use model::wire::Holding;
use model::{Code, NodeId, TenantId};

use crate::node::Node;
use crate::world::{World, label};

const SHARED: u16 = 51_820;

fn set(world: &mut World, tenant: TenantId, wish: HubInterface) -> Result<Option<u16>, Code> {
    match world.edit(Some(tenant), Edit::SetInterface(wish)) {
        Ok(Answer::Tenant(tenant)) => Ok(tenant.hub_port),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.code),
    }
}

/// Where a device finds the hub by what it holds.
fn found_at(world: &World, link: control::LinkId) -> u16 {
    let snapshot = world.node(link).snapshot();
    let hub = snapshot.peers.values().find(|peer| peer.node == NodeId::Hub).expect("a hub");
    hub.endpoint.as_ref().expect("an endpoint").port
}

#[test]
fn hub_and_devices_are_told_of_the_port_and_other_tenants_of_nothing() {
    let (mut world, home) = World::with_tenant();
    let hub = world.connect(Node::hub(900, 9, SHARED));
    let work = world.found("work");
    let links = [home, work].map(|tenant| {
        let token = world.token(tenant, 1);
        world.enrol(if tenant == home { 1 } else { 2 }, &token)
    });
    let frames = world.node(links[0]).frames;
    assert_eq!(set(&mut world, work, HubInterface::Own(None)), Ok(Some(SHARED + 1)));
    let own = |world: &World, tenant| world.node(hub).snapshots[&tenant].1.own.hub_port;
    assert_eq!((own(&world, home), own(&world, work)), (None, Some(SHARED + 1)));
    assert_eq!(found_at(&world, links[1]), SHARED + 1);
    assert_eq!((found_at(&world, links[0]), world.node(links[0]).frames), (SHARED, frames));
    let plain = world.directory(work).hub_peer().expect("a hub").1.endpoint.expect("an endpoint");
    assert_eq!(plain.port, SHARED + 1);
    world.assert_all_hold_their_plans();

    // Who comes later, and a server that starts anew, see the same.
    world.restart(|_| {});
    assert_eq!(world.directory(work).plan(NodeId::Hub).expect("a plan").own.hub_port, Some(SHARED + 1));
    assert_eq!(world.directory(work).tenant().hub_port, Some(SHARED + 1));
    assert_eq!(set(&mut world, work, HubInterface::Shared), Ok(None));
    assert_eq!(world.store.audit.last().expect("an entry").action, "tenant.interface");
}

#[test]
fn devices_change_over_when_the_hub_is_ready_for_them() {
    let (mut world, home) = World::with_tenant();
    let hub = world.connect(Node::hub(900, 9, SHARED));
    let token = world.token(home, 1);
    let device = world.enrol(1, &token);
    world.nodes.get_mut(&hub).expect("the hub").settled = false;
    assert_eq!(set(&mut world, home, HubInterface::Own(None)), Ok(Some(SHARED + 1)));
    assert_eq!(found_at(&world, device), SHARED, "nobody listens there yet");
    world.nodes.get_mut(&hub).expect("the hub").settled = true;
    let held = world.node(hub).snapshots[&home].0;
    world.say(hub, Holding { tenant: home, held, settled: true }.into());
    assert_eq!(found_at(&world, device), SHARED + 1);
    // A hub that does not settle keeps nobody for long.
    world.nodes.get_mut(&hub).expect("the hub").settled = false;
    assert_eq!(set(&mut world, home, HubInterface::Shared), Ok(None));
    assert_eq!(found_at(&world, device), SHARED + 1);
    world.advance(HUB_FIRST_TIME_MAX);
    assert_eq!(found_at(&world, device), SHARED);
}

#[test]
fn a_tenant_that_is_closed_has_none_and_has_its_own_again_when_it_is_restored() {
    let (mut world, home) = World::with_tenant();
    let hub = world.connect(Node::hub(900, 9, SHARED));
    let work = world.found("work");
    assert_eq!(set(&mut world, home, HubInterface::Own(Some(40_000))), Ok(Some(40_000)));
    let port = |world: &World| world.node(hub).snapshots[&home].1.own.hub_port;
    let close = Edit::CloseTenant { grace: std::time::Duration::from_secs(60) };
    world.edit(Some(home), close.clone()).expect("closed");
    assert_eq!(port(&world), None);
    let taken = set(&mut world, work, HubInterface::Own(Some(40_000)));
    assert_eq!(taken, Err(Code::HubPortTaken), "it may come back");
    world.edit(Some(home), Edit::RestoreTenant).expect("restored");
    assert_eq!(port(&world), Some(40_000));
    world.edit(Some(home), close).expect("closed");
    world.advance(std::time::Duration::from_secs(61));
    world.edit(Some(home), Edit::EraseTenant).expect("erased");
    assert_eq!(set(&mut world, work, HubInterface::Own(Some(40_000))), Ok(Some(40_000)));
    world.assert_all_hold_their_plans();
}

#[test]
fn ports_that_are_taken_or_too_many_are_refused() {
    let (mut world, home) = World::with_tenant();
    world.connect(Node::hub(900, 9, 40_000));
    let create = |world: &mut World, name: &str, port| {
        let interface = HubInterface::Own(port);
        let edit = Edit::CreateTenant { name: label(name), block: None, interface };
        match world.edit(None, edit) {
            Ok(Answer::TenantCreated(tenant)) => Ok(tenant.hub_port),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.code),
        }
    };
    assert_eq!(create(&mut world, "a", Some(40_000)), Err(Code::HubPortTaken), "the hub's own");
    assert_eq!(create(&mut world, "a", Some(1023)), Err(Code::HubPortInvalid));
    assert_eq!(create(&mut world, "a", Some(40_001)), Ok(Some(40_001)));
    assert_eq!(set(&mut world, home, HubInterface::Own(Some(40_001))), Err(Code::HubPortTaken));
    for n in 1..OWN_INTERFACES_MAX {
        assert!(create(&mut world, &format!("t{n}"), None).is_ok(), "{n}");
    }
    assert_eq!(set(&mut world, home, HubInterface::Own(None)), Err(Code::QuotaReached));
    assert_eq!(set(&mut world, home, HubInterface::Shared), Ok(None));
    world.assert_all_hold_their_plans();
}

#[test]
fn a_hub_of_before_gets_no_tenant_that_it_cannot_place() {
    let (mut world, home) = World::with_tenant();
    let of_before = |link| {
        let mut node = Node::hub(link, 9, SHARED);
        node.own_interfaces = false;
        node
    };
    let old = world.connect(of_before(900));
    assert_eq!(set(&mut world, home, HubInterface::Own(None)), Err(Code::HubTooOld));
    assert_eq!(set(&mut world, home, HubInterface::Shared), Ok(None));
    world.disconnect(old);
    world.connect(Node::hub(901, 9, SHARED));
    assert!(set(&mut world, home, HubInterface::Own(None)).is_ok());
    let old = world.connect(of_before(902));
    assert_eq!(world.node(old).refused.as_ref().map(|refusal| refusal.code), Some(Code::HubTooOld));
}

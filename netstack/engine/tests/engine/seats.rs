//! A hub with an interface of a tenant's own beside the one that tenants share.

use std::collections::BTreeSet;

use engine::{Change, Firewall, Input};
use model::NodeId;
use model::wire::Attached;

use crate::host::stranger;
use crate::hub::hub;
use crate::server::{Tenant, hub_key};
use crate::session::device_of;
use crate::world::World;

const PORT: u16 = 51_821;

fn onto(world: &mut World, tenant: usize, port: Option<u16>) {
    let frame = world.server.tenants[tenant].edit(|t| t.snapshot.own.hub_port = port);
    world.push([frame]);
    world.seconds(2);
    assert!(world.node.status().settled, "{:?}", world.node.status().problems);
}

/// A hub with two tenants, the second on an interface of its own; settled.
fn apart() -> World {
    let mut world = hub(2);
    onto(&mut world, 1, Some(PORT));
    world.changes.clear();
    world.events.clear();
    world
}

fn own_is_as_it_should(world: &World, tenant: usize, port: u16) {
    let (tenant, host) = (&world.server.tenants[tenant], &world.beside[&port]);
    let interface = host.interface();
    let keys: BTreeSet<_> = [tenant.key_of(0), tenant.key_of(1)].into();
    assert!(interface.up);
    assert_eq!(interface.listen_port, port);
    assert_eq!(interface.peers.keys().copied().collect::<BTreeSet<_>>(), keys);
    assert_eq!(interface.routes, tenant.block.nets().into());
    assert_eq!(interface.addresses, tenant.block.hub().host_nets().into());
    assert_eq!(host.state.firewall, Some(Firewall { blocks: [tenant.block.nets()].into() }));
    assert!(host.state.forwarding);
    assert_eq!(interface.public_key, Some(host.key), "the hub has one key");
}

/// The shared interface has these tenants and nothing else.
fn shared_has(world: &World, tenants: &[usize]) {
    let all = || tenants.iter().map(|tenant| &world.server.tenants[*tenant]);
    let interface = world.host.interface();
    let keys: BTreeSet<_> = all().flat_map(|t| [t.key_of(0), t.key_of(1)]).collect();
    assert_eq!(interface.peers.keys().copied().collect::<BTreeSet<_>>(), keys);
    assert_eq!(interface.routes, all().flat_map(|t| t.block.nets()).collect());
    assert_eq!(interface.listen_port, 51_820);
    let blocks = all().map(|t| t.block.nets()).collect();
    assert_eq!(world.host.state.firewall, Some(Firewall { blocks }));
}

#[test]
fn a_tenant_with_its_own_interface_is_there_and_nowhere_else() {
    let world = apart();
    shared_has(&world, &[0]);
    own_is_as_it_should(&world, 1, PORT);
    let seats: Vec<_> = world.node.status().tenants.iter().map(|tenant| tenant.seat).collect();
    assert_eq!(seats, [engine::Seat::Shared, engine::Seat::Own(PORT)]);
}

#[test]
fn a_tenant_moves_without_a_change_that_fails_and_its_interface_goes_when_it_leaves() {
    let mut world = hub(2);
    onto(&mut world, 1, Some(PORT));
    onto(&mut world, 1, Some(PORT + 1));
    own_is_as_it_should(&world, 1, PORT + 1);
    let gone = |world: &World, port| {
        let state = &world.beside[&port].state;
        assert!(state.interface.is_none() && state.firewall.is_none());
    };
    gone(&world, PORT);
    onto(&mut world, 1, None);
    gone(&world, PORT + 1);
    shared_has(&world, &[0, 1]);
    assert_eq!(world.count("change failed") + world.count("drift"), 0, "{:?}", world.events);
    // Nobody looks at what is gone.
    let before = world.observes;
    world.seconds(60);
    assert!(world.observes - before <= 3, "{}", world.observes - before);
}

#[test]
fn a_tenant_that_ends_takes_its_interface_with_it() {
    let mut world = apart();
    let end = |t: &mut Tenant| {
        (t.snapshot.own.standing, t.snapshot.own.addresses) = (model::Standing::Revoked, None);
        t.snapshot.own.hub_port = None;
        t.remove_device(0);
        t.remove_device(1);
    };
    let frame = world.server.tenants[1].edit(end);
    world.push([frame]);
    world.seconds(2);
    assert!(world.beside[&PORT].state.interface.is_none() && world.beside[&PORT].state.firewall.is_none());
    shared_has(&world, &[0]);
    assert!(world.node.status().settled);
}

#[test]
fn an_interface_that_a_tenant_left_goes_though_another_tenants_snapshot_is_awaited() {
    let mut world = apart();
    // The server lists a third, and nothing that keeps the rules ever comes of it.
    let awaited = Tenant::new(9, NodeId::Hub);
    let listed = world.server.tenants.iter().chain([&awaited]);
    let tenants = listed.map(|tenant| (tenant.id, tenant.anchor.public())).collect();
    world.push([Attached { heartbeat_seconds: 20, tenants, key: None }.into()]);
    let frame = world.server.tenants[1].edit(|t| t.snapshot.own.hub_port = None);
    world.push([frame]);
    world.seconds(2);
    let state = &world.beside[&PORT].state;
    assert!(state.interface.is_none() && state.firewall.is_none(), "{state:?}");
    shared_has(&world, &[0, 1]);
}

#[test]
fn a_table_stays_as_long_as_the_interface_that_it_guards() {
    let mut world = apart();
    world.refuses = |change| matches!(change, Change::RemoveInterface);
    let frame = world.server.tenants[1].edit(|t| t.snapshot.own.hub_port = None);
    world.push([frame]);
    world.seconds(600);
    let state = &world.beside[&PORT].state;
    assert!(state.interface.is_some() && state.firewall.is_some(), "{state:?}");
    assert!(!world.changes.contains(&Change::RemoveFirewall));
    world.refuses = |_| false;
    world.seconds(120);
    let state = &world.beside[&PORT].state;
    assert!(state.interface.is_none() && state.firewall.is_none(), "{state:?}");
    assert!(world.node.status().settled);
}

#[test]
fn devices_come_and_go_where_their_tenant_is() {
    let mut world = apart();
    let (frame, key) = {
        let tenant = &mut world.server.tenants[1];
        (tenant.edit(|t| t.add_device(7)), tenant.key_of(7))
    };
    world.push([frame]);
    world.seconds(1);
    assert!(world.beside[&PORT].interface().peers.contains_key(&key));
    assert!(!world.host.interface().peers.contains_key(&key));
    let frame = world.server.tenants[1].edit(|t| t.remove_device(7));
    world.push([frame]);
    world.seconds(1);
    own_is_as_it_should(&world, 1, PORT);
    assert_eq!(world.changes.len(), 2, "{:?}", world.changes);
}

#[test]
fn drift_of_either_is_mended_and_trouble_of_one_keeps_the_other_not_waiting() {
    let mut world = apart();
    world.beside.get_mut(&PORT).expect("a host").state = engine::Observed::default();
    world.host.interface_mut().peers.insert(world.server.tenants[1].key_of(0), stranger("100.65.9.9/32"));
    world.handle(Input::HostChanged);
    world.seconds(3);
    shared_has(&world, &[0]);
    own_is_as_it_should(&world, 1, PORT);
    assert_eq!(world.count("drift"), 2);
    // The port of the own one is taken: the other tenant gets its device all the same.
    world.refuses = |change| matches!(change, Change::SetDevice { listen_port: Some(PORT) });
    world.beside.get_mut(&PORT).expect("a host").state = engine::Observed::default();
    world.handle(Input::HostChanged);
    world.seconds(3);
    let frame = world.server.tenants[0].edit(|t| t.add_device(9));
    world.push([frame]);
    world.seconds(1);
    let key = world.server.tenants[0].key_of(9);
    assert!(world.host.interface().peers.contains_key(&key));
    assert!(!world.node.status().settled && world.node.status().failing.len() == 1);
    world.refuses = |_| false;
    world.seconds(120);
    own_is_as_it_should(&world, 1, PORT);
    assert!(world.node.status().settled);
}

#[test]
fn what_a_former_life_left_is_adopted_or_goes() {
    let mut world = apart();
    let before = (world.host.state.clone(), world.beside[&PORT].state.clone());
    world.changes.clear();
    world.restart();
    world.handle(Input::Found([PORT].into()));
    world.seconds(2);
    assert_eq!(world.changes, [], "a restart changes nothing");
    assert_eq!((world.host.state.clone(), world.beside[&PORT].state.clone()), before);
    // It was killed while the tenant went elsewhere: a table may be left without its interface.
    world.beside.insert(40_000, world.beside[&PORT].clone());
    world.beside.get_mut(&40_000).expect("a host").state.interface.as_mut().expect("one").routes.clear();
    world.beside.insert(40_001, crate::host::Host::new(world.host.key));
    world.beside.get_mut(&40_001).expect("a host").state.firewall = Some(Firewall::default());
    world.restart();
    world.handle(Input::Found([PORT, 40_000, 40_001].into()));
    world.seconds(2);
    assert!(world.beside[&40_000].state == engine::Observed { forwarding: true, ..Default::default() });
    assert_eq!(world.beside[&40_001].state, engine::Observed::default());
    own_is_as_it_should(&world, 1, PORT);
}

#[test]
fn what_another_engine_left_goes_when_nobody_wants_it_and_so_does_a_spoiled_table() {
    let mut world = apart();
    let of_another_engine = |port: u16, world: &mut World| {
        let mut host = world.beside[&PORT].clone();
        host.state.left = host.state.interface.take().map(Box::new);
        world.beside.insert(port, host);
    };
    of_another_engine(40_000, &mut world);
    of_another_engine(PORT, &mut world);
    let left = world.beside.get_mut(&40_000).and_then(|host| host.state.left.as_mut()).expect("one");
    left.routes.clear();
    world.beside.insert(40_001, crate::host::Host::new(world.host.key));
    world.beside.get_mut(&40_001).expect("a host").state.spoiled = true;
    world.restart();
    world.handle(Input::Found([PORT, 40_000, 40_001].into()));
    world.seconds(2);
    own_is_as_it_should(&world, 1, PORT);
    assert_eq!(world.beside[&PORT].state.left, None);
    assert!(world.beside[&40_000].state == engine::Observed { forwarding: true, ..Default::default() });
    assert_eq!(world.beside[&40_001].state, engine::Observed::default());
    assert!(world.node.status().settled);
    let before = world.observes;
    world.seconds(60);
    assert!(world.observes - before <= 6, "nobody looks at what is gone: {}", world.observes - before);
}

#[test]
fn what_another_engine_left_stays_until_snapshots_speak_of_it() {
    let mut world = apart();
    let state = &mut world.beside.get_mut(&PORT).expect("a host").state;
    state.left = state.interface.take().map(Box::new);
    let before = state.clone();
    world.disk.clear();
    world.unreachable = true;
    world.restart();
    world.handle(Input::Found([PORT].into()));
    world.seconds(600);
    assert_eq!(world.beside[&PORT].state, before);
}

#[test]
fn nothing_is_added_before_it_is_known_who_has_it() {
    let mut world = hub(2);
    let before = world.disk.clone();
    onto(&mut world, 1, Some(PORT));
    // A disk of before: the tenant is to be on the shared interface, and is on its own.
    (world.disk, world.unreachable) = (before, true);
    world.restart();
    world.events.clear();
    world.handle(Input::Found([PORT].into()));
    world.seconds(5);
    shared_has(&world, &[0, 1]);
    assert_eq!(world.count("change failed"), 0, "{:?}", world.events);
    assert_eq!(world.beside[&PORT].state.interface, None);
}

#[test]
fn an_interface_that_cannot_be_looked_at_keeps_no_other_waiting() {
    let mut world = hub(2);
    world.unseen = |seat| seat == engine::Seat::Own(PORT);
    let own = world.host.state.clone();
    world.host.state = engine::Observed::default();
    world.restart();
    world.handle(Input::Found([PORT].into()));
    world.seconds(5);
    assert_eq!(world.host.state, own);
}

#[test]
fn a_hub_that_lost_its_ledger_leaves_own_interfaces_until_it_holds_snapshots() {
    let mut world = apart();
    let before = world.beside[&PORT].state.clone();
    world.disk.clear();
    world.unreachable = true;
    world.restart();
    world.handle(Input::Found([PORT].into()));
    world.seconds(600);
    assert_eq!(world.beside[&PORT].state, before);
    world.unreachable = false;
    world.seconds(60);
    own_is_as_it_should(&world, 1, PORT);
    shared_has(&world, &[0]);
    assert!(world.node.status().settled);
}

#[test]
fn a_hub_that_is_told_to_go_down_takes_all_of_them_down() {
    let mut world = apart();
    world.handle(Input::Down);
    world.seconds(2);
    for state in [&world.host.state, &world.beside[&PORT].state] {
        assert!(state.interface.is_none() && state.firewall.is_none());
    }
    world.handle(Input::Up);
    world.seconds(2);
    own_is_as_it_should(&world, 1, PORT);
    shared_has(&world, &[0]);
}

#[test]
fn the_hubs_own_port_is_the_shared_interface_and_low_ports_are_refused() {
    let mut world = hub(2);
    onto(&mut world, 1, Some(51_820));
    shared_has(&world, &[0, 1]);
    let frame = world.server.tenants[1].edit(|t| t.snapshot.own.hub_port = Some(53));
    world.push([frame]);
    world.seconds(1);
    assert!(world.count("snapshot rejected") > 0);
    shared_has(&world, &[0, 1]);
}

#[test]
fn a_device_follows_its_hub_to_another_port_though_nobody_says_where_its_name_is() {
    let mut world = device_of("vpn.example.org:51820");
    world.resolves_to = None;
    let frame = world.server.tenants[0].edit(|t| {
        let mut hub = t.snapshot.peers.get(&hub_key()).cloned().expect("a hub");
        hub.endpoint = Some("vpn.example.org:51821".parse().expect("an endpoint"));
        t.snapshot.peers.insert(hub_key(), hub);
    });
    world.push([frame]);
    world.seconds(1);
    let pointed = world.host.interface().peers[&hub_key()].endpoint;
    assert_eq!(pointed, "192.0.2.7:51821".parse().ok());
}

//! A hub among several: it acts while its server says that it holds the lease, by its own clock, and else holds nothing.

use std::time::Duration;

use engine::{Event, NamesUpdate};
use model::wire::{Heard, HubLease};

use crate::hub::hub;
use crate::server::Server;
use crate::world::{World, hub_config};

const LASTS: Option<HubLease> = Some(HubLease { term: 3, lasts_millis: 6000 });

/// A hub whose server holds the lease.
fn leader() -> World {
    let mut world = hub(2);
    world.server.lease = LASTS;
    world.cut();
    world.seconds(5);
    assert!(acts(&world));
    world.events.clear();
    world
}

fn acts(world: &World) -> bool {
    let interface = world.host.state.interface.is_some();
    assert_eq!(interface, world.host.state.firewall.is_some());
    let names_gone = matches!(world.names.last(), Some(NamesUpdate::Gone { .. }));
    assert_eq!(interface, !names_gone, "names are served by whoever acts");
    interface
}

#[test]
fn it_acts_for_as_long_as_its_server_says_so() {
    let mut world = leader();
    world.seconds(60);
    assert!(acts(&world) && world.events.is_empty(), "{:?}", world.events);
    // Another is the hub.
    world.server.lease = Some(HubLease { term: 4, lasts_millis: 0 });
    world.seconds(3);
    assert!(!acts(&world) && world.node.status().settled);
    assert!(world.events.contains(&Event::StandsBy { term: 4 }));
    // An edit meanwhile is there when its turn comes.
    let frame = world.server.tenants[0].edit(|tenant| tenant.add_device(9));
    world.push([frame]);
    assert!(!acts(&world));
    world.server.lease = Some(HubLease { term: 5, ..LASTS.expect("a lease") });
    world.seconds(3);
    assert!(acts(&world));
    assert_eq!(world.host.interface().peers.len(), 5);
}

#[test]
fn a_silent_server_is_no_leader() {
    let mut world = leader();
    world.server.mute = true;
    world.run(Duration::from_millis(3500));
    assert!(acts(&world), "five claims may fail");
    world.seconds(3);
    assert!(!acts(&world));
}

#[test]
fn a_lease_is_counted_from_when_the_hub_asked() {
    let mut world = leader();
    world.server.mute = true;
    world.seconds(5);
    // The answer to the last heartbeat that was heard of, and one to none: both come late.
    let late = |sequence| Heard { sequence, lease: LASTS }.into();
    world.push([late(1), late(0), late(u64::MAX)]);
    world.seconds(2);
    assert!(!acts(&world));
}

#[test]
fn a_former_term_is_not_believed() {
    let mut world = leader();
    world.server.lease = Some(HubLease { term: 2, lasts_millis: 6000 });
    world.seconds(8);
    assert!(!acts(&world));
}

#[test]
fn it_starts_standing_by_and_waits_for_its_server() {
    let mut world = leader();
    world.unreachable = true;
    world.restart();
    world.seconds(2);
    assert!(world.host.state.interface.is_none(), "what a former life left is taken down");
    world.unreachable = false;
    world.seconds(60);
    assert!(world.host.state.interface.is_some());
}

#[test]
fn the_only_hub_needs_no_lease() {
    let mut world = leader();
    world.server.lease = None;
    world.seconds(3);
    world.unreachable = true;
    world.cut();
    world.restart();
    world.seconds(30);
    assert!(world.host.state.interface.is_some(), "it is the only one again");
    let mut fresh = World::new(hub_config(), Server::new(Vec::new()));
    fresh.unreachable = true;
    fresh.seconds(1);
    assert!(fresh.host.state.interface.is_some());
}

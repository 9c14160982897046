//! A device to which no UDP comes: the hub is reached over the link to the server, as long as that is so.

use std::net::SocketAddr;
use std::time::Duration;

use engine::paths::{ConnectedRelay, PathInput, PathOutput, RelayId, Way};
use engine::{Change, Input};
use model::relay::HUB;
use model::wire::{Frame, Services};
use model::{PublicKey, Signed};

use crate::server::hub_key;
use crate::session;
use crate::world::World;

fn services(leads_to_hub: bool) -> Input {
    Input::Received(Frame::from(Services { stun: Vec::new(), pass: None, leads_to_hub }))
}

/// The server is reached, over UDP if it is so far; else STUN is silent.
fn server_at(world: &mut World, round_trip: Option<Duration>) {
    let stun = "203.0.113.1:3478".parse().expect("an address");
    world.handle(Input::Path(PathInput::StunServers(vec![stun])));
    let server = ConnectedRelay { id: RelayId::SERVER, round_trip };
    world.handle(Input::Path(PathInput::Relays(vec![server])));
}

/// A device whose hub answers there, and which is led to it over the link.
fn led(endpoint: &str) -> World {
    let mut world = session::device_of(endpoint);
    world.handle(services(true));
    server_at(&mut world, None);
    world.seconds(2);
    assert_eq!(world.devices.get(&hub_key()), Some(&HUB));
    world
}

fn endpoint(world: &World, key: &PublicKey) -> Option<SocketAddr> {
    world.host.interface().peers[key].endpoint
}

/// Keepalives that the host was told for the hub, since that was asked last.
fn keepalives(world: &mut World) -> Vec<u16> {
    let of_hub = |change: Change| match change {
        Change::SetPeer(peer) if peer.key == hub_key() => Some(peer.keepalive_seconds),
        _ => None,
    };
    std::mem::take(&mut world.changes).into_iter().filter_map(of_hub).collect()
}

#[test]
fn the_hub_is_reached_over_the_link_until_udp_comes_through() {
    let mut world = session::device();
    let before = endpoint(&world, &hub_key());
    world.handle(services(true));
    server_at(&mut world, None);
    world.seconds(1);
    assert_eq!(world.devices.get(&hub_key()), None, "it is being asked");
    keepalives(&mut world);
    world.seconds(1);
    assert_eq!(world.devices.get(&hub_key()), Some(&HUB));
    let steer = PathOutput::Steer { peer: hub_key(), way: Way::Relayed(RelayId::SERVER) };
    assert!(world.paths.contains(&steer), "{:?}", world.paths);
    assert_eq!(keepalives(&mut world), [0, 25], "one that is switched on goes at once");
    // The shell points it to itself, and nobody points it back.
    let itself = "127.64.0.1:40000".parse().ok();
    world.host.interface_mut().peers.get_mut(&hub_key()).expect("the hub").endpoint = itself;
    world.handle(Input::HostChanged);
    world.seconds(200);
    assert_eq!(endpoint(&world, &hub_key()), itself);
    assert!(world.node.status().settled);
    server_at(&mut world, Some(Duration::from_millis(9)));
    world.seconds(1);
    assert_eq!((world.devices.get(&hub_key()), endpoint(&world, &hub_key())), (None, before));
    assert_eq!(keepalives(&mut world), [0, 25], "the hub hears at once where we are now");
}

#[test]
fn a_hub_that_is_led_to_and_fro_before_the_host_is_told_keeps_its_keepalive() {
    let mut world = led("198.51.100.1:51820");
    for turns in 1..6 {
        for turn in 0..turns {
            let round_trip = (turn % 2 == 0).then_some(Duration::from_millis(9));
            let server = ConnectedRelay { id: RelayId::SERVER, round_trip };
            // What it wants done waits.
            world.node.handle(Input::Path(PathInput::Relays(vec![server])), world.now);
        }
        world.seconds(3);
        assert_eq!(world.host.interface().peers[&hub_key()].keepalive_seconds, 25, "{turns} turns");
    }
    server_at(&mut world, None);
    world.seconds(3);
    // What fails beside it is its own affair.
    world.refuses = |change| matches!(change, Change::SetMtu(_));
    world.host.interface_mut().mtu = 9000;
    world.handle(Input::HostChanged);
    world.seconds(3);
    // It was switched off, and cannot be switched on when it is led back: to be switched off is no change then.
    world.refuses = |change| match change {
        Change::SetPeer(peer) => peer.keepalive_seconds == 25,
        other => matches!(other, Change::SetMtu(_)),
    };
    server_at(&mut world, Some(Duration::from_millis(9)));
    world.seconds(3);
    server_at(&mut world, None);
    world.seconds(3);
    assert_eq!(world.host.interface().peers[&hub_key()].keepalive_seconds, 0);
    world.refuses = |change| matches!(change, Change::SetMtu(_));
    world.seconds(120);
    assert!(!world.node.status().settled);
    assert_eq!(world.host.interface().peers[&hub_key()].keepalive_seconds, 25);
}

#[test]
fn a_link_that_is_down_leads_nowhere_nor_does_one_to_a_server_of_before() {
    let mut world = led("198.51.100.1:51820");
    world.handle(Input::Path(PathInput::Relays(Vec::new())));
    world.seconds(1);
    assert_eq!(world.devices.get(&hub_key()), None);
    server_at(&mut world, None);
    world.seconds(2);
    assert_eq!(world.devices.get(&hub_key()), Some(&HUB));
    world.handle(Input::Down);
    world.seconds(1);
    assert_eq!(world.devices.get(&hub_key()), None);
    world.handle(Input::Up);
    world.seconds(2);
    assert_eq!(world.devices.get(&hub_key()), Some(&HUB));
    for (can, cannot) in [(services(true), services(false)), (Input::Steers(true), Input::Steers(false))] {
        world.handle(cannot);
        world.seconds(1);
        assert_eq!(world.devices.get(&hub_key()), None);
        world.handle(can);
        world.seconds(1);
        assert_eq!(world.devices.get(&hub_key()), Some(&HUB));
    }
}

#[test]
fn each_link_without_udp_is_asked_for_it_at_once() {
    let mut world = led("198.51.100.1:51820");
    world.seconds(5);
    world.paths.clear();
    let server = ConnectedRelay { id: RelayId::SERVER, round_trip: None };
    for relays in [Vec::new(), vec![server]] {
        world.handle(Input::Path(PathInput::Relays(relays)));
    }
    let asks = |output: &PathOutput| matches!(output, PathOutput::Probe { bytes, .. } if bytes.len() == 20);
    assert!(world.paths.iter().any(asks), "{:?}", world.paths);
}

#[test]
fn another_hub_is_led_to_and_a_name_that_is_found_meanwhile_is_for_later() {
    let mut world = led("vpn.example.org:51820");
    world.resolves_to = "192.0.2.8:51820".parse().ok();
    world.host.interface_mut().peers.get_mut(&hub_key()).expect("the hub").stale = true;
    world.handle(Input::HostChanged);
    let asked = world.resolves;
    world.seconds(61);
    assert!(world.resolves > asked);
    assert_ne!(endpoint(&world, &hub_key()), world.resolves_to, "nobody points it there");
    let other = PublicKey::from_bytes([77; 32]);
    let frame = world.server.tenant().edit(|t| {
        let hub = t.snapshot.peers.remove(&hub_key()).expect("a hub");
        t.snapshot.peers.insert(other, hub);
        let keys = t.hub_keys(2, other);
        t.snapshot.own.hub_keys = Some(Signed::new(&keys, &t.anchor));
    });
    world.push([frame]);
    world.seconds(1);
    assert_eq!((world.devices.get(&hub_key()), world.devices.get(&other)), (None, Some(&HUB)));
    server_at(&mut world, Some(Duration::from_millis(9)));
    world.seconds(1);
    assert_eq!((world.devices.get(&other), endpoint(&world, &other)), (None, world.resolves_to));
}

//! The host is kept as the snapshot says: repaired when somebody changes it, tried again when it refuses.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{Change, Event, Input, Subject};
use model::PublicKey;
use model::wire::Frame;
use proptest::prelude::*;

use crate::host::{Host, stranger};
use crate::session::{device, device_of};
use crate::world::World;

fn drift(world: &World) -> u64 {
    world.node.status().drift_total
}

/// What somebody may do to a host.
fn damage(host: &mut Host, kind: u8) {
    if host.state.interface.is_none() {
        return;
    }
    let first = host.interface().peers.keys().next().copied();
    match kind {
        0 => host.state.interface = None,
        1 => host.set_down(),
        2 => host.interface_mut().addresses.clear(),
        3 => host.interface_mut().routes.clear(),
        4 => host.interface_mut().mtu = 9000,
        5 => host.interface_mut().public_key = None,
        6 => host.interface_mut().peers.clear(),
        7 => {
            host.interface_mut().peers.insert(PublicKey::from_bytes([250; 32]), stranger("100.65.0.99/32"));
        }
        8 => {
            if let Some(peer) = first.and_then(|key| host.interface_mut().peers.get_mut(&key)) {
                peer.allowed = ["0.0.0.0/0".parse().expect("a net")].into();
            }
        }
        9 => {
            host.interface_mut().addresses.insert("10.0.0.1/32".parse().expect("a net"));
        }
        10 if host.interface().up => {
            host.interface_mut().routes.insert("10.0.0.0/8".parse().expect("a net"));
        }
        _ => host.state.resolver = None,
    }
}

#[test]
fn each_kind_of_drift_is_repaired_at_once_and_counted() {
    let mut world = device();
    for kind in 0..12 {
        let (before, counted) = (world.host.state.clone(), drift(&world));
        damage(&mut world.host, kind);
        assert_ne!(world.host.state, before, "kind {kind}");
        world.handle(Input::HostChanged);
        world.run(Duration::from_secs(1));
        assert_eq!(world.host.state, before, "kind {kind}");
        assert!(drift(&world) > counted && world.node.status().settled, "kind {kind}");
    }
}

#[test]
fn drift_of_one_peer_touches_no_other() {
    let mut world = device();
    damage(&mut world.host, 8);
    world.seconds(31);
    let subjects: Vec<_> = world.changes.iter().map(Change::subject).collect();
    let first = *world.host.interface().peers.keys().next().expect("a peer");
    assert_eq!(subjects, [Subject::Peer(first)], "found without a notice");
    assert_eq!(drift(&world), 1);
}

#[test]
fn a_burst_of_notices_is_one_look() {
    let mut world = device();
    world.seconds(1);
    let observes = world.observes;
    for _ in 0..1000 {
        world.handle(Input::HostChanged);
        world.run(Duration::from_millis(1));
    }
    assert!((2..=4).contains(&(world.observes - observes)), "{} looks", world.observes - observes);
}

#[test]
fn a_peer_that_roams_is_left_alone() {
    let mut world = device();
    let hub = crate::server::hub_key();
    let peer = world.host.interface_mut().peers.get_mut(&hub).expect("the hub");
    peer.endpoint = "203.0.113.9:7".parse().ok();
    world.seconds(60);
    assert_eq!(world.changes, []);
    // It does not answer there any more.
    world.host.interface_mut().peers.get_mut(&hub).expect("the hub").stale = true;
    world.seconds(60);
    assert_eq!(world.changes.len(), 1);
    assert_eq!(world.host.interface().peers[&hub].endpoint, "192.0.2.1:51820".parse().ok());
    assert_eq!(drift(&world), 0, "nobody did that");
}

/// The host is asked what it is like, and what follows comes before its answer.
fn asks_for_a_look(world: &mut World) {
    world.handle(Input::HostChanged);
    world.now.mono = world.now.mono + Duration::from_secs(1);
    world.node.handle_timeout(world.now);
    assert!(matches!(world.node.poll_output(), Some(engine::Output::Observe(engine::Seat::Shared))));
}

/// The server says that the hub is elsewhere.
fn hub_at(world: &mut World, endpoint: &str) -> Frame {
    let hub = crate::server::hub_key();
    world.server.tenant().edit(|t| {
        let mut peer = t.snapshot.peers.get(&hub).cloned().expect("the hub");
        peer.endpoint = endpoint.parse().ok();
        t.snapshot.peers.insert(hub, peer);
    })
}

#[test]
fn an_edited_endpoint_is_taken_though_the_peer_answers() {
    let mut world = device();
    let frame = hub_at(&mut world, "198.51.100.1:51820");
    world.push([frame]);
    let hub = crate::server::hub_key();
    assert_eq!(world.host.interface().peers[&hub].endpoint, "198.51.100.1:51820".parse().ok());
    assert_eq!(world.changes.len(), 1);
}

#[test]
fn an_edited_endpoint_is_taken_though_a_look_says_where_the_peer_was() {
    let mut world = device();
    let before = world.host.state.clone();
    asks_for_a_look(&mut world);
    let frame = hub_at(&mut world, "198.51.100.1:51820");
    world.push([frame]);
    assert_eq!(world.changes, []);
    world.handle(Input::Observed(engine::Seat::Shared, Ok(before)));
    let hub = crate::server::hub_key();
    assert_eq!(world.host.interface().peers[&hub].endpoint, "198.51.100.1:51820".parse().ok());
    // It roams from there, and is left alone.
    world.host.interface_mut().peers.get_mut(&hub).expect("the hub").endpoint = "203.0.113.9:7".parse().ok();
    world.seconds(60);
    assert_eq!((world.changes.len(), drift(&world)), (1, 0));
}

#[test]
fn an_endpoint_that_is_edited_while_the_one_before_is_set_is_taken_too() {
    let mut world = device();
    let frame = hub_at(&mut world, "198.51.100.1:51820");
    world.node.handle(Input::Received(frame), world.now);
    let mut setting = None;
    while setting.is_none() {
        match world.node.poll_output().expect("the peer is set") {
            engine::Output::Apply(seat, change) => setting = Some((seat, change)),
            engine::Output::Persist(_) => world.node.handle(Input::Persisted(Ok(())), world.now),
            _ => {}
        }
    }
    let frame = hub_at(&mut world, "198.51.100.2:51820");
    world.push([frame]);
    let (seat, change) = setting.expect("a change");
    world.host.apply(&change).expect("done");
    world.handle(Input::Applied { seat, change, result: Ok(()) });
    let hub = crate::server::hub_key();
    assert_eq!(world.host.interface().peers[&hub].endpoint, "198.51.100.2:51820".parse().ok());
}

#[test]
fn a_named_endpoint_is_resolved_remembered_and_resolved_again_when_stale() {
    let mut world = device_of("vpn.example.org:51820");
    let hub = crate::server::hub_key();
    assert_eq!(world.host.interface().peers[&hub].endpoint, "192.0.2.7:51820".parse().ok());
    assert_eq!(world.resolves, 1);
    world.seconds(3600);
    assert_eq!((world.resolves, world.changes.len()), (1, 0));
    // The machine boots without a resolver.
    world.resolves_to = None;
    world.unreachable = true;
    world.host = Host::new(world.host.key);
    world.restart();
    world.seconds(10);
    assert_eq!(world.host.interface().peers[&hub].endpoint, "192.0.2.7:51820".parse().ok());
    assert!(world.node.status().settled);
    assert!(world.node.status().problems.iter().any(|p| p.contains("vpn.example.org")));
    // The hub moved.
    world.resolves_to = "192.0.2.8:51820".parse().ok();
    world.seconds(61);
    world.host.interface_mut().peers.get_mut(&hub).expect("the hub").stale = true;
    world.seconds(61);
    assert_eq!(world.host.interface().peers[&hub].endpoint, "192.0.2.8:51820".parse().ok());
    assert_eq!(drift(&world), 0);
}

#[test]
fn an_endpoint_that_was_never_found_is_not_settled() {
    let tenant = crate::server::Tenant::of_device(crate::server::enrolled_id(), "vpn.example.org:1", 3);
    let server = crate::server::Server::new(vec![tenant]);
    let mut world = World::new(crate::world::device_config(), server);
    world.resolves_to = None;
    world.join();
    world.seconds(600);
    assert!(!world.node.status().settled);
    assert!((8..40).contains(&world.resolves), "{} questions", world.resolves);
    assert_eq!(world.host.interface().peers.len(), 4, "the others do not wait for it");
    world.resolves_to = "192.0.2.7:1".parse().ok();
    world.seconds(61);
    assert!(world.node.status().settled);
}

#[test]
fn a_failing_change_is_tried_again_shown_and_blocks_nobody() {
    let mut world = device();
    world.refuses = |change| matches!(change, Change::AddAddress(net) if net.addr().is_ipv4());
    world.host = Host::new(world.host.key);
    world.handle(Input::HostChanged);
    world.seconds(10);
    let interface = world.host.interface();
    assert!(interface.up && interface.peers.len() == 4 && interface.routes.len() == 2);
    assert_eq!(interface.addresses.len(), 1);
    let status = world.node.status();
    assert!(!status.settled);
    assert_eq!(status.failing.len(), 1);
    assert_eq!(status.failing[0].reason, "refused");
    assert!(status.problems.iter().any(|p| p.contains("add address") && p.contains("refused")));
    world.seconds(3600);
    let tries = world.changes.iter().filter(|c| matches!(c, Change::AddAddress(_))).count();
    assert!((60..200).contains(&tries), "{tries} tries in an hour");
    world.refuses = |_| false;
    world.seconds(61);
    assert!(world.node.status().settled && world.node.status().failing.is_empty());
    assert_eq!(drift(&world), world.events.iter().map(drift_of).sum::<u64>());
}

fn drift_of(event: &Event) -> u64 {
    match event {
        Event::Drift { changes, .. } => *changes,
        _ => 0,
    }
}

#[test]
fn nothing_is_tried_on_an_interface_that_cannot_be_made() {
    let mut world = device();
    world.refuses = |change| matches!(change, Change::CreateInterface);
    world.host = Host::new(world.host.key);
    world.handle(Input::HostChanged);
    world.changes.clear();
    world.seconds(120);
    let kinds: std::collections::BTreeSet<_> = world.changes.iter().map(Change::subject).collect();
    assert_eq!(kinds, [Subject::Interface].into());
    assert_eq!(world.node.status().failing.len(), 1);
    world.refuses = |_| false;
    world.seconds(61);
    assert!(world.node.status().settled);
}

#[test]
fn forwarding_and_the_interface_of_a_hub_wait_for_the_firewall() {
    let mut world = crate::hub::hub(2);
    world.refuses = |change| matches!(change, Change::SetFirewall(_));
    world.host = Host::new(world.host.key);
    world.handle(Input::HostChanged);
    world.seconds(60);
    assert!(!world.host.state.forwarding && !world.host.interface().up);
    assert_eq!(world.host.interface().peers.len(), 4, "the others do not wait");
    world.refuses = |_| false;
    world.seconds(61);
    assert!(world.host.state.forwarding && world.host.interface().up && world.node.status().settled);
}

#[test]
fn a_host_that_cannot_be_read_is_left_alone_and_asked_again() {
    let mut world = device();
    let before = world.host.state.clone();
    asks_for_a_look(&mut world);
    world.handle(Input::Observed(engine::Seat::Shared, Err("out of memory".into())));
    assert!(!world.node.status().settled);
    assert!(world.node.status().problems.iter().any(|p| p.contains("out of memory")));
    world.seconds(2);
    assert!(world.node.status().settled);
    assert_eq!((world.host.state.clone(), world.changes.len()), (before, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_drift_among_random_failures_is_repaired(
        script in prop::collection::vec((0u8..14, 0u64..3000), 1..20), refuse in 0usize..4
    ) {
        let refusals: [fn(&Change) -> bool; 4] = [
            |_| false,
            |c| matches!(c, Change::AddRoute(_) | Change::SetUp),
            |c| matches!(c, Change::SetPeer(_)),
            |c| matches!(c, Change::CreateInterface),
        ];
        let mut world = device();
        let before = world.host.state.clone();
        world.refuses = refusals[refuse];
        for (kind, millis) in script {
            match kind {
                12 => world.handle(Input::HostChanged),
                13 => world.restart(),
                kind => damage(&mut world.host, kind),
            }
            world.run(Duration::from_millis(millis));
        }
        world.refuses = |_| false;
        world.seconds(120);
        prop_assert!(world.node.status().settled, "{:?}", world.node.status());
        prop_assert_eq!(&world.host.state, &before);
        let changes = world.changes.len();
        world.seconds(600);
        prop_assert_eq!(world.changes.len(), changes, "quiet again");
    }
}

#[test]
fn a_storm_of_edits_leaves_the_newest() {
    let mut world = device();
    let mut expect: BTreeMap<PublicKey, ()> = world.host.interface().peers.keys().map(|k| (*k, ())).collect();
    for n in 20..120 {
        let frame = world.server.tenant().edit(|t| t.add_device(n));
        expect.insert(world.server.tenant().key_of(n), ());
        world.push([frame]);
    }
    world.seconds(1);
    assert!(world.host.interface().peers.keys().eq(expect.keys()));
    assert_eq!(world.changes.len(), 100);
}

//! A node and the paths to its peers: hints go over the link, ways to the host, and the hub takes what nobody else can.

use std::collections::{BTreeMap, BTreeSet};

use engine::Input;
use engine::paths::{ConnectedRelay, PathInput, PathOutput, RelayId, Way};
use model::PublicKey;
use model::relay::{RelayPass, RelayPlace};
use model::wire::{Frame, Services};

use crate::server::{device, hub_key};
use crate::session;
use crate::world::World;

/// A key that is one, which those of the server's neighbours need not be.
fn neighbour(world: &mut World) -> PublicKey {
    world.server.tenant().key_of(1)
}

fn wanted(world: &mut World, key: PublicKey) {
    world.handle(Input::Path(PathInput::Wanted(key)));
}

fn hints(world: &World) -> usize {
    let to = device(1);
    world.server.received.iter().filter(|frame| matches!(frame, Frame::Hint(hint) if hint.to == to)).count()
}

fn steered(world: &World, key: PublicKey) -> Vec<Way> {
    let of_key = |output: &PathOutput| match output {
        PathOutput::Steer { peer, way } if *peer == key => Some(*way),
        _ => None,
    };
    world.paths.iter().filter_map(of_key).collect()
}

#[test]
fn a_hint_goes_over_the_link_and_over_relays_without_one() {
    let mut world = session::device();
    let key = neighbour(&mut world);
    wanted(&mut world, key);
    assert_eq!(hints(&world), 1);
    assert!(!world.paths.iter().any(|output| matches!(output, PathOutput::Hint { .. })));
    world.unreachable = true;
    world.cut();
    world.seconds(1);
    assert!(world.paths.iter().any(|output| matches!(output, PathOutput::Hint { .. })));
}

#[test]
fn a_hint_that_nobody_answers_goes_over_relays_too_since_the_link_may_be_dead() {
    let mut world = session::device();
    let key = neighbour(&mut world);
    wanted(&mut world, key);
    world.seconds(1);
    let race = PathOutput::Race { peer: key, on: true };
    assert_eq!(world.paths.iter().filter(|output| **output == race).count(), 1);
    let over_relays = |output: &&PathOutput| matches!(output, PathOutput::Hint { over_relays: true, .. });
    let raced = world.paths.iter().filter(over_relays).count();
    let early = hints(&world) - raced;
    assert!(raced > 0 && early > 0, "{raced} over relays, {early} over the link alone");
}

#[test]
fn the_hub_and_strangers_are_not_looked_for() {
    let mut world = session::device();
    for key in [hub_key(), PublicKey::from_bytes([9; 32]), world.config.wireguard.public()] {
        wanted(&mut world, key);
        world.seconds(10);
        assert_eq!(world.paths, [], "{key}");
    }
}

#[test]
fn a_peer_that_nothing_reaches_is_left_to_the_hub_and_taken_back() {
    let mut world = session::device();
    let key = neighbour(&mut world);
    let allowed = |world: &World| {
        let interface = world.host.state.interface.as_ref().expect("an interface");
        interface.peers[&key].allowed.clone()
    };
    let before = allowed(&world);
    assert!(!before.is_empty());
    for _ in 0..10 {
        wanted(&mut world, key);
        world.seconds(1);
    }
    assert_eq!(steered(&world, key), [Way::ViaHub]);
    assert_eq!(allowed(&world), BTreeSet::new());
    assert!(world.node.status().settled);
    // A relay brings nothing while the peer says nothing: it is asked, and less often with time.
    let asked = hints(&world);
    world.handle(Input::Path(PathInput::Relays(vec![ConnectedRelay {
        id: RelayId::SERVER,
        round_trip: None,
    }])));
    world.seconds(3000);
    assert_eq!(steered(&world, key), [Way::ViaHub]);
    let asked = hints(&world) - asked;
    // Four searches while it may be talked to, and then at twice the age each time.
    assert!((5..35).contains(&asked), "{asked} hints");
    world.seconds(900);
    assert_eq!(steered(&world, key), [Way::ViaHub, Way::Relayed(RelayId::SERVER)], "forgotten");
    assert_eq!(allowed(&world), before);
}

#[test]
fn the_shell_hears_where_stun_is_answered_from_the_server_that_proved_itself() {
    let mut world = session::device();
    let stun = vec!["vpn.example.org:3478".parse().expect("an endpoint")];
    let services = || Frame::from(Services { stun: stun.clone(), pass: None, leads_to_hub: false });
    world.handle(Input::Received(services()));
    assert_eq!(world.paths, [PathOutput::StunAt(stun.clone())]);
    world.unreachable = true;
    world.cut();
    world.paths.clear();
    world.handle(Input::Received(services()));
    assert_eq!(world.paths, []);
}

#[test]
fn where_packets_cannot_be_steered_the_hub_carries_what_is_for_devices() {
    let mut world = session::device();
    let key = neighbour(&mut world);
    let allowed = |world: &World, key: &PublicKey| {
        let interface = world.host.state.interface.as_ref().expect("an interface");
        interface.peers.get(key).expect("a peer").allowed.clone()
    };
    let (before, of_hub) = (allowed(&world, &key), allowed(&world, &hub_key()));
    world.handle(Input::Steers(false));
    world.seconds(1);
    assert_eq!((allowed(&world, &key), allowed(&world, &hub_key())), (BTreeSet::new(), of_hub));
    assert!(world.node.status().settled && world.devices.is_empty());
    wanted(&mut world, key);
    world.seconds(10);
    assert_eq!((hints(&world), allowed(&world, &key)), (0, BTreeSet::new()), "nobody looks for it");
    world.handle(Input::Steers(true));
    world.seconds(1);
    assert_eq!(allowed(&world, &key), before);
    assert_eq!(world.devices.get(&key), Some(&device(1)));
}

#[test]
fn who_is_a_peer_no_longer_is_not_looked_for() {
    let mut world = session::device();
    let key = neighbour(&mut world);
    assert_eq!(world.devices.get(&key), Some(&device(1)));
    wanted(&mut world, key);
    world.handle(Input::Down);
    assert_eq!(world.devices, BTreeMap::new());
    assert!(world.paths.contains(&PathOutput::Watch { peer: key, on: false }));
    world.paths.clear();
    wanted(&mut world, key);
    assert_eq!(world.paths, []);
    world.handle(Input::Up);
    wanted(&mut world, key);
    assert_eq!(world.paths.first(), Some(&PathOutput::Watch { peer: key, on: true }));
}

#[test]
fn relays_are_told_when_they_are_news() {
    let mut world = session::device();
    let told = |world: &World| {
        let numbers = |output: &PathOutput| match output {
            PathOutput::Places(places) => Some(places.iter().map(|place| place.id).collect()),
            _ => None,
        };
        world.paths.iter().filter_map(numbers).collect::<Vec<Vec<u32>>>()
    };
    let place = RelayPlace {
        id: 7,
        name: "fra1".parse().expect("a label"),
        endpoint: "relay.example.org:8443".parse().expect("an endpoint"),
        certificate: model::Fingerprint::from_bytes([1; 32]),
    };
    let frame = world.server.tenant().edit(|t| t.snapshot.own.relays = Some(vec![place]));
    world.push([frame]);
    assert_eq!(told(&world), [vec![7]]);
    let frame = world.server.tenant().edit(|t| t.snapshot.own.mtu = 1400);
    world.push([frame]);
    assert_eq!(told(&world), [vec![7]], "no news");
    world.handle(Input::Down);
    world.handle(Input::Up);
    assert_eq!(told(&world), [vec![7], vec![], vec![7]]);
}

#[test]
fn a_pass_is_handed_on_and_outlives_the_program() {
    let mut world = session::device();
    let tenant = world.server.tenant();
    let pass = RelayPass {
        tenant: tenant.id,
        device: device(0),
        identity: model::IdentitySecret::from_seed([1; 32]).public(),
        expires_at: model::Timestamp::default(),
    };
    let pass = model::Signed::new(&pass, &tenant.anchor);
    let anchor = tenant.anchor.public();
    world.push([Services { stun: Vec::new(), pass: Some(pass.clone()), leads_to_hub: false }.into()]);
    let shown = |world: &World| {
        let expect = PathOutput::Pass { pass: pass.clone(), anchor };
        world.paths.iter().filter(|output| **output == expect).count()
    };
    assert_eq!(shown(&world), 1);
    world.push([Services { stun: Vec::new(), pass: Some(pass.clone()), leads_to_hub: false }.into()]);
    assert_eq!(shown(&world), 1, "no news");
    world.unreachable = true;
    world.restart();
    world.seconds(1);
    assert_eq!(shown(&world), 2, "it serves without a server");
}

//! What passes between devices: hints reach who they are for and nobody else, and the relay hears who is admitted.

use std::time::Duration;

use control::limits::{
    HINTS_PASSED_PER_SECOND_OF_TENANT, HINTS_PASSED_PER_SECOND_TO_DEVICE, HINTS_PER_SECOND,
};
use control::{Edit, LinkId};
use model::limits::{HEARTBEAT_INTERVAL, HINT_BYTES_MAX, RELAY_PASS_LIFE};
use model::relay::RelayPlace;
use model::token::OnboardingToken;
use model::wire::{Frame, Hint};
use model::{Code, DeviceId, NodeId, TenantId};

use crate::node::Node;
use crate::store::Store;
use crate::world::{World, label};

fn hint(to: DeviceId, length: usize) -> Frame {
    Hint { to, sealed: vec![7; length] }.into()
}

fn pair() -> (World, TenantId, [LinkId; 2]) {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 10);
    let links = [world.enrol(1, &token), world.enrol(2, &token)];
    (world, tenant, links)
}

#[test]
fn devices_have_each_other_and_the_hub_as_peers() {
    let (mut world, tenant, links) = pair();
    let hub = world.connect(Node::hub(900, 9, 51820));
    let check = |world: &World, expect: &[&str]| {
        for link in links {
            let names: Vec<String> =
                world.node(link).snapshot().peers.iter().map(|(_, peer)| peer.name.to_string()).collect();
            let names: std::collections::BTreeSet<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(names, expect.iter().copied().collect());
        }
    };
    check(&world, &["hub", "host1", "host2"]);
    let peers = &world.node(links[0]).snapshot().peers;
    let other = NodeId::Device(world.device(links[1]));
    let (_, other) = peers.iter().find(|(_, peer)| peer.node == other).expect("a peer");
    assert_eq!((other.endpoint.clone(), other.keepalive_seconds, other.allowed.len()), (None, 0, 2));
    assert!(other.allowed.iter().all(|net| net.prefix_len() == net.max_prefix_len()), "its own addresses");
    let pending = world.token_with(tenant, 1, true);
    let third = world.enrol(3, &pending);
    assert_eq!(world.node(third).snapshot().peers.iter().count(), 0, "not approved");
    check(&world, &["hub", "host1", "host2"]);
    let device = world.device(third);
    world.edit(Some(tenant), Edit::ApproveDevice(device)).expect("granted");
    check(&world, &["hub", "host1", "host2", "host3"]);
    world.edit(Some(tenant), Edit::RevokeDevice(device)).expect("granted");
    check(&world, &["hub", "host1", "host2"]);
    world.disconnect(hub);
    world.assert_all_hold_their_plans();
}

#[test]
fn a_hint_reaches_its_receiver_with_the_name_of_its_sender() {
    let (mut world, _, [a, b]) = pair();
    world.say(a, hint(world.device(b), HINT_BYTES_MAX));
    assert_eq!(world.node(b).hints, [(world.device(a), vec![7; HINT_BYTES_MAX])]);
    assert_eq!(world.node(a).hints, []);
    let counters = world.control.counters();
    assert_eq!((counters.hints_forwarded, counters.hints_lost), (1, 0));
}

#[test]
fn a_hint_for_nobody_here_is_lost_and_one_that_is_too_long_ends_the_link() {
    let (mut world, tenant, [a, b]) = pair();
    let elsewhere = world.found("work");
    let token = world.token(elsewhere, 1);
    let stranger = world.enrol(5, &token);
    let pending = world.token_with(tenant, 1, true);
    let waiting = world.enrol(6, &pending);
    let unknown = DeviceId::from_bytes([9; 16]);
    for to in [world.device(stranger), world.device(waiting), unknown] {
        world.say(a, hint(to, 10));
    }
    world.say(waiting, hint(world.device(b), 10));
    for link in [a, b, stranger, waiting] {
        assert_eq!(world.node(link).hints, []);
        assert!(!world.node(link).closed);
    }
    assert_eq!(world.control.counters().hints_lost, 4);
    world.say(a, hint(world.device(b), HINT_BYTES_MAX + 1));
    assert_eq!(world.node(a).refused.as_ref().map(|r| r.code), Some(Code::FrameInvalid));
    assert_eq!(world.node(b).hints, []);
}

#[test]
fn hints_come_as_often_as_allowed_and_never_before_frames_that_wait() {
    let (mut world, _, [a, b]) = pair();
    let to = world.device(b);
    for _ in 0..3 * HINTS_PER_SECOND {
        world.say(a, hint(to, 10));
    }
    assert_eq!(world.node(b).hints.len(), HINTS_PER_SECOND as usize);
    world.advance(Duration::from_secs(1));
    world.say(a, hint(to, 10));
    assert_eq!(world.node(b).hints.len(), HINTS_PER_SECOND as usize + 1);
    world.stuck.insert(b);
    for second in 0..10 {
        world.advance(Duration::from_secs(second));
        for _ in 0..HINTS_PER_SECOND {
            world.say(a, hint(to, 10));
        }
    }
    assert!(world.queues[&b].len() <= 64, "{}", world.queues[&b].len());
    assert!(!world.node(b).closed, "others' hints do not cost a device its link");
}

/// Active devices that are attached nowhere.
fn away(world: &mut World, numbers: std::ops::Range<u8>, token: &OnboardingToken) -> Vec<DeviceId> {
    let away = |n| {
        let link = world.enrol(n, token);
        let device = world.device(link);
        world.disconnect(link);
        device
    };
    numbers.map(away).collect()
}

#[test]
fn one_tenants_hints_for_devices_elsewhere_leave_room_for_anothers() {
    let mut world = World::over(Store::default(), true, 1);
    let tokens = ["home", "work"].map(|name| {
        let tenant = world.found(name);
        world.token(tenant, 50)
    });
    let loud: Vec<LinkId> = (1..=10).map(|n| world.enrol(n, &tokens[0])).collect();
    let quiet = world.enrol(20, &tokens[1]);
    let loud_away = away(&mut world, 30..40, &tokens[0]);
    let quiet_away = away(&mut world, 50..51, &tokens[1]);
    let all_tell = |world: &mut World, to: &[DeviceId]| {
        for link in &loud {
            for n in 0..HINTS_PER_SECOND as usize {
                world.say(*link, hint(to[n % to.len()], 10));
            }
        }
        std::mem::take(&mut world.passed).len()
    };
    let passed = all_tell(&mut world, &loud_away[..1]);
    assert_eq!(passed, HINTS_PASSED_PER_SECOND_TO_DEVICE as usize, "one device has so many");
    world.advance(Duration::from_secs(1));
    let passed = all_tell(&mut world, &loud_away);
    assert_eq!(passed, HINTS_PASSED_PER_SECOND_OF_TENANT as usize, "one tenant has so many");
    world.say(quiet, hint(quiet_away[0], 10));
    let passed = std::mem::take(&mut world.passed);
    assert!(passed.len() == 1 && passed[0].to == quiet_away[0], "another's goes: {}", passed.len());
    world.advance(Duration::from_secs(1));
    assert_eq!(all_tell(&mut world, &loud_away), HINTS_PASSED_PER_SECOND_OF_TENANT as usize);
}

#[test]
fn where_no_server_hears_another_hints_for_devices_elsewhere_are_lost_and_counted_so() {
    for passes in [true, false] {
        let mut world = World::over(Store::default(), true, 1);
        world.restart(|config| (config.shared, config.passes_hints) = (true, passes));
        let tenant = world.found("home");
        let token = world.token(tenant, 5);
        let here = world.enrol(1, &token);
        let away = away(&mut world, 2..3, &token);
        world.say(here, hint(away[0], 10));
        let counters = world.control.counters();
        let counted = (counters.hints_passed, counters.hints_lost);
        assert_eq!(counted, if passes { (1, 0) } else { (0, 1) });
        assert_eq!(world.passed.len(), usize::from(passes));
    }
}

#[test]
fn the_relay_hears_who_is_admitted() {
    let (mut world, tenant, [a, b]) = pair();
    let realm = world.anchor(tenant);
    let seat = |world: &World, link| (realm, world.device(link));
    let pending = world.token_with(tenant, 1, true);
    let c = world.enrol(3, &pending);
    assert_eq!(world.admitted.get(&a), Some(&seat(&world, a)));
    assert_eq!(world.admitted.get(&b), Some(&seat(&world, b)));
    assert_eq!(world.admitted.get(&c), None);
    let device = world.device(c);
    world.edit(Some(tenant), Edit::ApproveDevice(device)).expect("granted");
    assert_eq!(world.admitted.get(&c), Some(&seat(&world, c)));
    world.edit(Some(tenant), Edit::RevokeDevice(device)).expect("granted");
    assert_eq!(world.admitted.get(&c), None);
    let mut node = world.disconnect(a);
    assert_eq!(world.admitted.get(&a), None);
    node.again(20);
    let again = world.connect(node);
    assert_eq!(world.admitted.get(&again), Some(&seat(&world, again)));
    world.connect(Node::hub(900, 9, 51820));
    assert_eq!(world.admitted.len(), 2, "a hub relays nothing");
}

#[test]
fn passes_are_given_where_there_are_relays_and_renewed_in_time() {
    let (mut world, _, [a, _]) = pair();
    world.say(a, world.node(a).heartbeat(1));
    assert!(world.node(a).passes.is_empty(), "nobody asks for one");

    let mut world = World::over(Store::default(), false, 1);
    world.restart(|config| {
        config.relays = vec![RelayPlace {
            id: 1,
            name: label("fra1"),
            endpoint: "relay.example.org:8443".parse().expect("an endpoint"),
            certificate: model::Fingerprint::from_bytes([3; 32]),
        }];
    });
    let tenant = world.found("home");
    let token = world.token(tenant, 10);
    let link = world.enrol(1, &token);
    let began = world.now;
    let check = |world: &World, count: usize, since: model::Now| {
        let node = world.node(link);
        assert_eq!(node.passes.len(), count);
        let pass = node.passes.last().expect("a pass");
        let pass =
            pass.verify(&world.directory(tenant).tenant().anchor).expect("the anchor's word").into_inner();
        assert_eq!((pass.tenant, Some(pass.device)), (tenant, node.device));
        assert_eq!(pass.identity, node.identity.public());
        assert_eq!(pass.expires_at, since.wall + RELAY_PASS_LIFE);
    };
    check(&world, 1, began);
    let mut sequence = 0;
    let mut beats_for = |world: &mut World, time: Duration| {
        for _ in 0..time.as_secs() / HEARTBEAT_INTERVAL.as_secs() {
            world.advance(HEARTBEAT_INTERVAL);
            sequence += 1;
            world.say(link, world.node(link).heartbeat(sequence));
        }
    };
    beats_for(&mut world, RELAY_PASS_LIFE / 2 - HEARTBEAT_INTERVAL);
    check(&world, 1, began);
    beats_for(&mut world, HEARTBEAT_INTERVAL);
    check(&world, 2, world.now);
}

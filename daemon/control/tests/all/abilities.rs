//! Agents of several ages in one mesh: each is sent what it can read, and told of no peer that could not answer.

use std::time::Duration;

use control::limits::ABILITIES_INTERVAL;
use control::{Edit, LinkId};
use model::limits::HEARTBEAT_INTERVAL;
use model::{Abilities, NodeId, TenantId};

use crate::node::{Node, Wish};
use crate::world::{World, label};

/// A hub, and devices with these abilities, all attached.
fn mesh(abilities: &[Abilities]) -> (World, TenantId, Vec<LinkId>) {
    let (mut world, tenant) = World::with_tenant();
    world.connect(Node::hub(900, 9, 51820));
    let token = world.token(tenant, 1000);
    let mut enrol = |(n, abilities): (u8, &Abilities)| {
        let wish = Wish::Enrol { token: Box::new(token.clone()), hostname: format!("host{n}") };
        let mut node = Node::device(n.into(), n, wish, token.anchor);
        node.abilities = *abilities;
        world.connect(node)
    };
    let links = (1..).zip(abilities).map(&mut enrol).collect();
    (world, tenant, links)
}

/// The devices that a device has for peers, by the order of enrolment.
fn peers(world: &World, of: LinkId, links: &[LinkId]) -> Vec<usize> {
    let snapshot = world.node(of).snapshot();
    let hub = snapshot.peers.values().any(|peer| peer.node == NodeId::Hub);
    assert!(hub, "everybody has the hub");
    let has = |link: &LinkId| {
        let id = NodeId::Device(world.device(*link));
        snapshot.peers.values().any(|peer| peer.node == id)
    };
    (0..links.len()).filter(|n| has(&links[*n])).collect()
}

#[test]
fn each_is_sent_what_it_can_read() {
    let (world, _, links) = mesh(&[Abilities::KNOWN, Abilities::NONE, Abilities::KNOWN, Abilities::NONE]);
    let all: Vec<_> = links.iter().map(|link| peers(&world, *link, &links)).collect();
    assert_eq!(all, [vec![0, 2], vec![], vec![0, 2], vec![]], "the others are reached through the hub");
    assert_eq!(world.control.counters().resyncs, 0, "nobody was sent what it refused");
    let names = |link: &LinkId| world.node(*link).snapshot().zone.names.len();
    assert!(links.iter().all(|link| names(link) == 5), "all have all names");
    world.assert_all_hold_their_plans();
}

#[test]
fn an_upgraded_agent_joins_the_mesh_and_one_that_goes_back_leaves_it() {
    let (mut world, _, mut links) = mesh(&[Abilities::KNOWN, Abilities::NONE]);
    for (abilities, expected) in [(Abilities::KNOWN, vec![0, 1]), (Abilities::NONE, vec![0])] {
        let mut node = world.disconnect(links[1]);
        node.again(links[1].0 + 50);
        node.abilities = abilities;
        links[1] = world.connect(node);
        world.advance(Duration::from_secs(10));
        assert_eq!(peers(&world, links[0], &links), expected);
        let own = if abilities == Abilities::NONE { vec![] } else { expected };
        assert_eq!(peers(&world, links[1], &links), own);
        world.assert_all_hold_their_plans();
    }
}

#[test]
fn abilities_that_came_later_are_not_kept() {
    let later = Abilities::from_bits(u32::MAX);
    let (mut world, tenant, links) = mesh(&[later]);
    let device = world.device(links[0]);
    let kept = |world: &World| world.directory(tenant).device(device).expect("it enrolled").abilities;
    assert_eq!(kept(&world), Abilities::KNOWN, "the server that knows them is told of them again");
    let mut node = world.disconnect(links[0]);
    node.again(50);
    let version = world.directory(tenant).version();
    world.connect(node);
    assert_eq!(
        (kept(&world), world.directory(tenant).version()),
        (Abilities::KNOWN, version),
        "nothing is new"
    );
}

#[test]
fn a_database_that_is_away_is_told_later() {
    let (mut world, tenant, links) = mesh(&[Abilities::NONE]);
    let device = world.device(links[0]);
    let mut node = world.disconnect(links[0]);
    node.again(50);
    node.abilities = Abilities::KNOWN;
    world.store.down = true;
    let link = world.connect(node);
    assert!(
        world.node(link).refused.is_none() && !world.node(link).closed,
        "the device is attached all the same"
    );
    world.store.down = false;
    for sequence in 0..=ABILITIES_INTERVAL.as_secs() / HEARTBEAT_INTERVAL.as_secs() {
        world.advance(HEARTBEAT_INTERVAL);
        let frame = world.node(link).heartbeat(sequence);
        world.say(link, frame);
    }
    assert_eq!(world.directory(tenant).device(device).map(|d| d.abilities), Some(Abilities::KNOWN));
    assert_eq!(peers(&world, link, &[link]), [0]);
}

#[test]
fn who_knows_no_paths_hears_nothing_of_other_devices_keys() {
    let (mut world, tenant, links) = mesh(&[Abilities::NONE, Abilities::KNOWN]);
    let frames = world.node(links[0]).frames;
    let mut node = world.disconnect(links[1]);
    node.again(50);
    node.abilities = Abilities::NONE;
    let link = world.connect(node);
    world.advance(Duration::from_secs(10));
    assert_eq!(world.node(links[0]).frames, frames, "what others know is nothing to it");
    let device = world.device(link);
    world.edit(Some(tenant), Edit::RenameDevice { device, name: label("other") }).expect("renamed");
    assert!(world.node(links[0]).frames > frames, "and a name is");
}

//! Device commands: each is done once, however often it comes, and answered each time.

use engine::{Event, Input};
use model::id::CommandId;
use model::wire::{Command, CommandDone, Frame, Remark};
use model::{Peer, PrivateKey};

use crate::world::World;
use crate::{enrolment, session};

fn id(n: u8) -> CommandId {
    CommandId::from_bytes([n; 16])
}

fn command(world: &mut World, n: u8, kind: &str) {
    world.push([Command { id: id(n), kind: Remark::new(kind) }.into()]);
}

fn answers(world: &World) -> Vec<CommandDone> {
    let said = |frame: &Frame| match frame {
        Frame::CommandDone(done) => Some(done.clone()),
        _ => None,
    };
    world.server.received.iter().filter_map(said).collect()
}

fn done(n: u8) -> CommandDone {
    CommandDone { id: id(n), failed: None }
}

#[test]
fn a_report_is_a_heartbeat_at_once_and_only_once() {
    let mut world = session::device();
    let beats = world.server.count("Heartbeat");
    command(&mut world, 1, "report");
    world.seconds(1);
    assert_eq!(world.server.count("Heartbeat"), beats + 1);
    command(&mut world, 1, "report");
    world.seconds(1);
    assert_eq!(world.server.count("Heartbeat"), beats + 1, "it was done");
    assert_eq!(answers(&world), [done(1), done(1)], "and is answered again");
}

#[test]
fn a_resync_asks_for_the_whole_and_says_what_is_held_though_it_was_said() {
    let mut world = session::device();
    let (asked, looks, said) = (world.server.count("Resync"), world.observes, world.server.holdings().len());
    command(&mut world, 1, "resync");
    world.seconds(1);
    assert_eq!(world.server.count("Resync"), asked + 1);
    assert!(world.observes > looks, "the host is compared");
    assert!(world.server.holdings().len() > said, "the server does not wait for it");
    assert_eq!(answers(&world), [done(1)]);
}

#[test]
fn a_restart_is_answered_by_the_program_that_begins() {
    let mut world = session::device();
    command(&mut world, 1, "restart");
    assert!(world.events.contains(&Event::RestartAsked { command: id(1) }));
    assert_eq!(answers(&world), []);
    world.restart();
    world.handle(Input::Restarted { command: id(1) });
    world.seconds(10);
    let asked = world.count("a restart is asked for");
    command(&mut world, 1, "restart");
    assert_eq!((answers(&world), world.count("a restart is asked for")), (vec![done(1)], asked));
}

fn key(n: u8) -> PrivateKey {
    PrivateKey::from_bytes([n; 32])
}

#[test]
fn another_key_is_offered_until_the_server_has_it_and_the_node_that_begins_answers() {
    let mut world = session::device();
    let first = world.config.wireguard.public();
    command(&mut world, 1, "rekey");
    assert!(world.events.contains(&Event::RekeyAsked { command: id(1) }));
    command(&mut world, 1, "rekey");
    assert_eq!(world.count("another key is asked for"), 1, "it is being made");
    // The server is slow to take it.
    world.server.takes_keys = false;
    world.handle(Input::NextKey { key: key(60), command: Some(id(1)) });
    world.seconds(5);
    assert_eq!(world.server.keys.last(), Some(&key(60).public()), "it dialled at once");
    assert_eq!((world.count("the server has the other key"), answers(&world)), (0, vec![]));
    world.server.takes_keys = true;
    world.seconds(10);
    command(&mut world, 1, "rekey");
    world.seconds(5);
    assert_eq!(world.events.iter().filter(|e| **e == Event::Rekeyed { command: Some(id(1)) }).count(), 1);
    (world.config.wireguard, world.host.key) = (key(60), key(60).public());
    world.restart();
    world.handle(Input::Restarted { command: id(1) });
    world.seconds(5);
    command(&mut world, 1, "rekey");
    assert_eq!(answers(&world), [done(1)]);
    assert_eq!(world.server.keys.last(), Some(&key(60).public()));
    assert_ne!(first, key(60).public());
}

#[test]
fn a_node_that_died_with_two_keys_offers_the_second_and_takes_itself_for_no_peer() {
    let mut world = session::device();
    // The server took it, and the program died before it heard of that.
    world.server.directory_key = Some(key(60).public());
    let addresses = world.server.tenants[0].snapshot.own.addresses.expect("it is active");
    let itself = Peer {
        node: world.server.tenants[0].snapshot.own.node,
        name: "laptop".parse().expect("a label"),
        allowed: addresses.host_nets().into(),
        endpoint: None,
        keepalive_seconds: 0,
    };
    world.server.tenants[0].snapshot.peers.insert(key(60).public(), itself);
    world.server.tenants[0].version.generation.0 += 1;
    world.restart();
    world.handle(Input::NextKey { key: key(60), command: None });
    world.seconds(5);
    assert!(world.events.contains(&Event::Rekeyed { command: None }));
    let interface = world.host.state.interface.as_ref().expect("an interface");
    assert!(!interface.peers.contains_key(&key(60).public()), "it is the node's own");
}

#[test]
fn a_key_of_a_life_whose_ledger_is_gone_is_offered_once_the_node_has_joined_anew() {
    let mut world = enrolment::newcomer();
    world.handle(Input::NextKey { key: key(60), command: None });
    world.seconds(5);
    assert_eq!(world.server.keys, [], "nobody is there to take it");
    world.join();
    world.seconds(5);
    assert_eq!(world.server.enrols, 1);
    assert_eq!(world.server.keys.last(), Some(&key(60).public()));
    assert!(world.events.contains(&Event::Rekeyed { command: None }));
}

#[test]
fn a_key_that_cannot_be_made_is_said() {
    let mut world = session::device();
    command(&mut world, 1, "rekey");
    world.handle(Input::CommandFailed { command: id(1), why: "no space left on device".into() });
    let [CommandDone { failed: Some(why), .. }] = &answers(&world)[..] else { panic!("an answer") };
    assert!(why.as_str().contains("no space"), "{why}");
}

#[test]
fn what_it_does_not_know_it_says() {
    let mut world = session::device();
    command(&mut world, 1, "dance");
    let [CommandDone { failed: Some(why), .. }] = &answers(&world)[..] else { panic!("an answer") };
    assert!(why.as_str().contains("resync"), "{why}");
}

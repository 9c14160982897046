//! Device commands on their way: who is sent one, and whose answer counts.

use control::Input;
use control::limits::RESYNCS_MAX;
use model::id::CommandId;
use model::wire::{Command, CommandDone, Frame, Remark};
use model::{Abilities, Code, DeviceId, PrivateKey, PublicKey, TenantId};

use crate::node::{Node, Wish};
use crate::world::World;

const ID: CommandId = CommandId::from_bytes([1; 16]);

fn deliver(world: &mut World, device: DeviceId) {
    deliver_kind(world, device, "report");
}

fn deliver_kind(world: &mut World, device: DeviceId, kind: &str) {
    let command = Command { id: ID, kind: Remark::new(kind) };
    world.input(Input::Deliver { device, command });
}

#[test]
fn a_device_that_knows_commands_is_sent_them_and_its_answer_counts_once() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 2);
    let (link, other) = (world.enrol(1, &token), world.enrol(2, &token));
    let device = world.device(link);
    let done = || Frame::CommandDone(CommandDone { id: ID, failed: None });
    world.say(link, done());
    assert!(world.done.is_empty(), "nobody asked it");
    deliver(&mut world, device);
    assert_eq!(world.node(link).commands, [ID]);
    world.say(other, done());
    assert!(world.done.is_empty(), "nobody asked that one");
    world.say(link, done());
    world.say(link, done());
    assert_eq!(world.done, [(device, ID)]);
    assert!(!world.node(other).closed, "an answer of before is no offence");
}

#[test]
fn who_would_not_understand_or_is_away_is_sent_nothing() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 2);
    let wish = Wish::Enrol { token: Box::new(token.clone()), hostname: "old".into() };
    let mut node = Node::device(50, 50, wish, token.anchor);
    node.abilities = Abilities::PATHS;
    let old = world.connect(node);
    let device = world.device(old);
    deliver(&mut world, device);
    assert_eq!(world.node(old).commands, []);
    let link = world.enrol(1, &token);
    let device = world.device(link);
    let away = world.disconnect(link);
    deliver(&mut world, device);
    assert_eq!(away.commands, []);
}

#[test]
fn a_device_that_is_told_to_ask_anew_is_excused_once() {
    for kind in ["resync", "report"] {
        let (mut world, tenant) = World::with_tenant();
        let token = world.token(tenant, 1);
        let link = world.enrol(1, &token);
        let device = world.device(link);
        let ask = |world: &mut World| {
            let resync = world.node(link).resync(tenant);
            world.say(link, resync);
        };
        let excused = usize::from(kind == "resync");
        for _ in 0..RESYNCS_MAX as usize + excused {
            // Never answered, so it is sent again and again.
            deliver_kind(&mut world, device, kind);
            ask(&mut world);
            assert!(!world.node(link).closed, "{kind}");
        }
        ask(&mut world);
        assert!(world.node(link).closed, "{kind}");
    }
}

/// The device's key in the directory.
fn key_of(world: &World, tenant: TenantId, device: DeviceId) -> PublicKey {
    world.directory(tenant).device(device).expect("a device").wireguard
}

#[test]
fn a_device_that_proves_another_key_has_it_from_then_on_and_its_peers_hear_of_it() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 2);
    let (link, other) = (world.enrol(1, &token), world.enrol(2, &token));
    let device = world.device(link);
    let before = key_of(&world, tenant, device);
    let next = PrivateKey::from_bytes([77; 32]);
    let mut node = world.disconnect(link);
    (node.wireguard, node.claims_key) = (next.clone(), true);
    node.again(90);
    let link = world.connect(node);
    assert_eq!(key_of(&world, tenant, device), next.public());
    assert_eq!(world.node(link).told_keys, [before, next.public()], "as it was, and when it was taken");
    let peers = &world.node(other).snapshots[&tenant].1.peers;
    assert!(peers.contains_key(&next.public()) && !peers.contains_key(&before));
    // Once more it is no edit.
    let version = world.directory(tenant).version();
    let mut node = world.disconnect(link);
    node.again(91);
    let link = world.connect(node);
    assert_eq!(world.node(link).told_keys.last(), Some(&next.public()));
    assert_eq!(world.directory(tenant).version(), version);
}

#[test]
fn nobody_has_a_key_that_it_does_not_prove_or_that_is_anothers() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 2);
    let (link, other) = (world.enrol(1, &token), world.enrol(2, &token));
    let (device, taken) = (world.device(link), world.node(other).wireguard.clone());
    let before = key_of(&world, tenant, device);
    let mut node = world.disconnect(link);
    (node.wireguard, node.claims_key) = (taken, true);
    node.again(90);
    let link = world.connect(node);
    assert_eq!(world.node(link).told_keys, [before], "it goes on with the one that it had");
    assert!(!world.node(link).closed);
    let mut node = world.disconnect(link);
    (node.wireguard, node.proves_key) =
        (PrivateKey::from_bytes([77; 32]), Some(PrivateKey::from_bytes([78; 32])));
    node.again(91);
    let link = world.connect(node);
    let refused = world.node(link).refused.as_ref().map(|refusal| refusal.code);
    assert_eq!(refused, Some(Code::ProofInvalid));
    assert_eq!(key_of(&world, tenant, device), before);
}

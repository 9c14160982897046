//! Device commands on their way: who is sent one, and whose answer counts.

use control::Input;
use control::limits::RESYNCS_MAX;
use model::id::CommandId;
use model::wire::{Command, CommandDone, Frame, Remark};
use model::{Abilities, DeviceId};

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

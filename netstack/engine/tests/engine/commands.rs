//! Device commands: each is done once, however often it comes, and answered each time.

use engine::{Event, Input};
use model::id::CommandId;
use model::wire::{Command, CommandDone, Frame, Remark};

use crate::session;
use crate::world::World;

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

#[test]
fn what_it_does_not_know_it_says() {
    let mut world = session::device();
    command(&mut world, 1, "dance");
    let [CommandDone { failed: Some(why), .. }] = &answers(&world)[..] else { panic!("an answer") };
    assert!(why.as_str().contains("resync"), "{why}");
}

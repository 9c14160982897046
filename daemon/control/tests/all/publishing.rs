//! Who is sent what: work and bytes by those affected, slow and stubborn nodes, and nothing to those that miss nothing.

use std::time::Duration;

use control::limits::HUB_FIRST_TIME_MAX;
use control::{Edit, Event, LinkId};
use model::limits::PART_BYTES_MAX;
use model::token::OnboardingToken;
use model::wire::Frame;
use model::wire::frame::Holding;
use model::{Generation, RecordData, TenantId, Version};

use crate::node::Node;
use crate::world::{World, label};

fn mesh(count: u8) -> (World, TenantId, OnboardingToken, Vec<LinkId>) {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 1000);
    let links = (1..=count).map(|n| world.enrol(n, &token)).collect();
    (world, tenant, token, links)
}

fn record(n: usize) -> Edit {
    let data = RecordData::parse("TXT", &format!("{n:0>250}")).expect("a record");
    Edit::AddRecord { name: format!("r{n}").parse().expect("a name"), data, ttl: None }
}

/// Frames, signatures, plans and entries that an edit cost.
fn cost(world: &mut World, tenant: TenantId, edit: Edit) -> [u64; 4] {
    let before = world.control.counters();
    world.edit(Some(tenant), edit).expect("granted");
    let after = world.control.counters();
    [
        after.frames_sent - before.frames_sent,
        after.signatures - before.signatures,
        after.nodes_planned - before.nodes_planned,
        after.entries_touched - before.entries_touched,
    ]
}

#[test]
fn an_edit_costs_those_affected() {
    let costs = |count: u8| {
        let (mut world, tenant, _, _) = mesh(count);
        let pending = world.token_with(tenant, 1, true);
        let waiting = world.enrol(200, &pending);
        let device = world.device(waiting);
        let tags = [label("t")].into();
        let hub = world.connect(Node::hub(900, 9, 51820));
        world.disconnect(hub);
        [
            cost(&mut world, tenant, Edit::TagDevice { device, tags }),
            cost(&mut world, tenant, Edit::RenameDevice { device, name: label("z") }),
            cost(&mut world, tenant, Edit::RevokeDevice(device)),
        ]
    };
    let few = costs(2);
    assert_eq!(few[0], [0, 0, 0, 0], "a tag is in no plan");
    assert_eq!(few[1], [1, 1, 1, 1], "its own name");
    assert_eq!(few[2][1], 1, "it alone hears that it is gone");
    assert_eq!(few, costs(60), "whatever the number of the others");
}

#[test]
fn an_edit_for_all_costs_a_frame_each_and_one_entry() {
    let (mut world, tenant, _, links) = mesh(40);
    let [frames, signatures, _, entries] = cost(&mut world, tenant, record(1));
    assert_eq!((frames, signatures, entries), (40, 40, 1));
    assert!(links.iter().all(|link| world.node(*link).wholes == 1), "everything else was a patch");
    world.assert_all_hold_their_plans();
}

#[test]
fn who_misses_nothing_is_sent_nothing() {
    let (mut world, tenant, _, links) = mesh(3);
    let hub = world.connect(Node::hub(900, 9, 51820));
    world.run();
    let device = world.device(links[0]);
    let tags = [label("t")].into();
    let (mut node, mut hub) = (world.disconnect(links[0]), world.disconnect(hub));
    world.edit(Some(tenant), Edit::TagDevice { device, tags }).expect("tagged");
    let sent = (node.wholes, node.patched, hub.wholes, hub.patched);
    node.again(50);
    hub.again(901);
    let (link, hub) = (world.connect(node), world.connect(hub));
    let (node, hub) = (world.node(link), world.node(hub));
    assert_eq!((node.wholes, node.patched, hub.wholes, hub.patched), sent);
}

#[test]
fn who_missed_some_gets_a_patch_and_who_missed_too_much_the_whole() {
    let (mut world, tenant, _, links) = mesh(2);
    let mut node = world.disconnect(links[0]);
    world.edit(Some(tenant), record(1)).expect("added");
    world.edit(Some(tenant), record(2)).expect("added");
    node.again(50);
    let link = world.connect(node);
    assert_eq!((world.node(link).wholes, world.node(link).patched > 0), (1, true));
    world.assert_all_hold_their_plans();

    let mut node = world.disconnect(link);
    let device = world.device(links[1]);
    for n in 0..=control::limits::JOURNAL_GENERATIONS_MAX {
        let name = label(&format!("x{n}"));
        world.edit(Some(tenant), Edit::RenameDevice { device, name }).expect("renamed");
    }
    node.again(51);
    let link = world.connect(node);
    assert_eq!(world.node(link).wholes, 2, "the journal is too short");
    world.assert_all_hold_their_plans();
}

#[test]
fn a_patch_that_fits_no_frame_is_sent_as_the_whole() {
    let (mut world, tenant, _, links) = mesh(1);
    let mut node = world.disconnect(links[0]);
    for n in 0..1000 {
        world.edit(Some(tenant), record(n)).expect("added");
    }
    node.again(50);
    let link = world.connect(node);
    let node = world.node(link);
    assert_eq!((node.wholes, node.snapshot().zone.names.len()), (2, 1002));
    assert!(node.largest_whole > PART_BYTES_MAX, "{} bytes, in parts", node.largest_whole);
    world.assert_all_hold_their_plans();
}

#[test]
fn a_slow_link_holds_little_and_gets_the_newest() {
    let (mut world, tenant, token, _) = mesh(1);
    for n in 0..1200 {
        world.edit(Some(tenant), record(n)).expect("added");
    }
    let slow = LinkId(2);
    world.stuck.insert(slow);
    world.enrol(2, &token);
    assert!(world.node(slow).device.is_none());
    world.stuck.remove(&slow);
    let welcome = world.queues.get_mut(&slow).expect("a queue").pop_front().expect("a welcome");
    world.stuck.insert(slow);
    let enrol = world.nodes.get_mut(&slow).expect("it").receive(welcome).pop().expect("an enrol");
    world.say(slow, enrol);
    for n in 1200..1300 {
        world.edit(Some(tenant), record(n)).expect("added");
    }
    let snapshots = |queue: &std::collections::VecDeque<Frame>| {
        queue.iter().filter(|f| matches!(f, Frame::Whole(_) | Frame::Part(_) | Frame::Patched(_))).count()
    };
    assert_eq!(snapshots(&world.queues[&slow]), 2, "half a megabyte, whatever happens");
    world.stuck.remove(&slow);
    world.run();
    let node = world.node(slow);
    assert_eq!((node.wholes, node.patched), (1, 1), "a hundred edits are one patch");
    world.assert_all_hold_their_plans();
}

#[test]
fn a_node_that_does_not_acknowledge_is_sent_one_and_then_reminded() {
    let (mut world, tenant, _, links) = mesh(1);
    let link = links[0];
    world.nodes.get_mut(&link).expect("it").acknowledges = false;
    for n in 0..10 {
        world.edit(Some(tenant), record(n)).expect("added");
    }
    assert_eq!(world.node(link).patched, 1, "one is under way, the others wait");
    let stale = world.node(link).snapshots.clone();
    for sequence in 0..4 {
        world.advance(Duration::from_secs(20));
        let node = world.nodes.get_mut(&link).expect("it");
        let newest = std::mem::replace(&mut node.snapshots, stale.clone());
        for (held, _) in node.snapshots.values_mut() {
            held.version.generation = Generation(1);
        }
        let heartbeat = node.heartbeat(sequence);
        node.snapshots = newest;
        node.acknowledges = true;
        world.say(link, heartbeat);
    }
    assert!(world.events.iter().any(|e| matches!(e, Event::HoldingOverdue { .. })));
    assert_eq!(world.node(link).wholes, 2);
    world.assert_all_hold_their_plans();
}

#[test]
fn a_node_that_refuses_gets_wholes_and_not_too_fast() {
    let (mut world, tenant, _, links) = mesh(1);
    let link = links[0];
    world.nodes.get_mut(&link).expect("it").patches = false;
    world.edit(Some(tenant), record(1)).expect("added");
    assert_eq!(world.node(link).wholes, 2, "the patch was refused, the whole is there at once or soon");
    for n in 2..6 {
        world.edit(Some(tenant), record(n)).expect("added");
    }
    let at_once = world.node(link).wholes;
    assert!(at_once <= 3, "{at_once} wholes in no time");
    world.advance(Duration::from_secs(30));
    assert!(world.node(link).wholes > 2);
    assert!(world.events.iter().any(|e| matches!(e, Event::ResyncAsked { .. })));
    world.assert_all_hold_their_plans();
}

#[test]
fn a_node_that_refuses_for_ever_is_closed() {
    let (mut world, tenant, _, links) = mesh(1);
    for _ in 0..=control::limits::RESYNCS_MAX {
        let resync = world.node(links[0]).resync(tenant);
        world.say(links[0], resync);
    }
    assert!(world.node(links[0]).closed);
}

#[test]
fn a_node_that_is_ahead_is_left_alone() {
    let (mut world, tenant, _, links) = mesh(2);
    let mut node = world.disconnect(links[0]);
    for (held, _) in node.snapshots.values_mut() {
        held.version = Version { generation: Generation(1_000_000), ..held.version };
    }
    let frames = (node.wholes, node.patched);
    node.again(50);
    let link = world.connect(node);
    world.edit(Some(tenant), record(1)).expect("added");
    assert_eq!((world.node(link).wholes, world.node(link).patched), frames);
    assert!(world.events.iter().any(|e| matches!(e, Event::NodeAhead { .. })));
}

#[test]
fn another_plan_at_the_same_version_makes_a_new_generation_once() {
    let (mut world, tenant, _, links) = mesh(2);
    let lie = |world: &mut World, link: LinkId, next: u64| {
        let mut node = world.disconnect(link);
        let version = world.directory(tenant).version();
        for (held, _) in node.snapshots.values_mut() {
            held.version = version;
            held.digest = model::Digest::of("another program", &[]);
        }
        node.patches = false;
        node.again(next);
        world.connect(node)
    };
    let before = world.directory(tenant).version().generation.0;
    let link = lie(&mut world, links[0], 50);
    assert_eq!(world.directory(tenant).version().generation.0, before + 1);
    world.advance(Duration::from_secs(10));
    assert!(world.node(link).wholes >= 2, "it got the new one");
    world.assert_all_hold_their_plans();
    lie(&mut world, link, 51);
    assert_eq!(world.directory(tenant).version().generation.0, before + 1, "a liar costs no more");
}

#[test]
fn presence_is_heard_and_saved_in_batches() {
    let (mut world, _, _, links) = mesh(3);
    let device = world.device(links[0]);
    let heartbeat = world.node(links[0]).heartbeat(7);
    world.say(links[0], heartbeat);
    let presence = world.control.presence(device).expect("heard");
    assert_eq!((presence.drift_total, presence.problems.len(), presence.row.settled), (3, 1, true));
    assert!(world.saved.is_empty());
    world.advance(control::limits::PRESENCE_SAVE_INTERVAL);
    assert_eq!(world.saved.len(), 3);
    world.advance(control::limits::PRESENCE_SAVE_INTERVAL);
    assert_eq!(world.saved.len(), 3, "nothing new, nothing saved");
}

#[test]
fn a_link_that_flaps_leaves_nothing_behind() {
    let (mut world, _, _, links) = mesh(1);
    let mut link = links[0];
    let wholes = world.node(link).wholes;
    for n in 0..100 {
        let mut node = world.disconnect(link);
        node.again(1000 + n);
        link = world.connect(node);
        world.advance(Duration::from_millis(600));
    }
    assert_eq!((world.control.links(), world.node(link).wholes), (1, wholes));
    assert!(world.saved.len() <= 3, "{} rows saved in a minute", world.saved.len());
}

#[test]
fn a_reader_that_only_asks_is_closed() {
    let (mut world, _, _, links) = mesh(1);
    world.stuck.insert(links[0]);
    for sequence in 0..=u64::from(control::limits::FRAMES_UNWRITTEN_MAX) {
        let heartbeat = world.node(links[0]).heartbeat(sequence);
        world.say(links[0], heartbeat);
    }
    assert_eq!(world.control.links(), 0);
}

#[test]
fn a_device_is_told_when_the_hub_is_ready_for_its_handshake() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 2);
    let mut hub = Node::hub(900, 9, 51820);
    hub.settled = false;
    let hub = world.connect(hub);
    let link = world.enrol(1, &token);
    assert!(world.node(link).device.is_some(), "it is enrolled at once");
    assert!(world.node(link).snapshots.is_empty(), "the hub is not ready");
    let held = world.node(hub).snapshots[&tenant].0;
    world.say(hub, Holding { tenant, held, settled: true }.into());
    assert_eq!(world.node(link).snapshot().peers.len(), 2, "the hub is ready, and the device knows");

    let late = world.enrol(2, &token);
    assert!(world.node(late).snapshots.is_empty());
    world.advance(HUB_FIRST_TIME_MAX);
    assert_eq!(world.node(late).snapshot().peers.len(), 3, "a hub that cannot settle keeps nobody out");
    world.assert_all_hold_their_plans();
}

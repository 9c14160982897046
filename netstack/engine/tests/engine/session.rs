//! A device's link over its life: refusals, silence, going away and coming back. What is held stays.

use std::time::Duration;

use engine::paths::PathInput;
use engine::status::LinkState;
use engine::{Event, Input, NamesUpdate};
use model::id::CommandId;
use model::limits::{LINK_ANSWER_MAX, LINK_SILENCE_MAX};
use model::wire::{Command, Frame, Heard, Remark, Retry};
use model::{Code, Refusal, Standing};

use crate::server::{Server, Tenant, enrolled_id};
use crate::world::{World, device_config};

/// A device that is enrolled, attached and settled.
pub(crate) fn device() -> World {
    device_of("192.0.2.1:51820")
}

pub(crate) fn device_of(endpoint: &str) -> World {
    let tenant = Tenant::of_device(enrolled_id(), endpoint, 3);
    let mut world = World::new(device_config(), Server::new(vec![tenant]));
    world.join();
    world.seconds(1);
    assert!(world.node.status().settled);
    world.changes.clear();
    world.events.clear();
    world
}

#[test]
fn a_device_boots_from_its_disk_while_the_server_is_down() {
    let mut world = device();
    world.unreachable = true;
    world.host = crate::host::Host::new(world.host.key);
    world.names.clear();
    world.restart();
    world.seconds(1);
    let status = world.node.status();
    assert!(status.settled && status.link != LinkState::Attached);
    assert_eq!(status.link_error.as_deref(), Some("unreachable"));
    assert_eq!(world.host.interface().peers.len(), 4);
    assert!(matches!(world.names[..], [NamesUpdate::Whole { .. }]));
}

#[test]
fn reattaching_with_what_is_held_sends_and_changes_nothing() {
    let mut world = device();
    world.server.received.clear();
    world.cut();
    world.seconds(30);
    assert_eq!(world.node.status().link, LinkState::Attached);
    assert_eq!(world.changes, []);
    assert_eq!(world.server.count("Resync"), 0);
    let beat = world.server.received.iter().find_map(|frame| match frame {
        Frame::Heartbeat(beat) => Some(beat.clone()),
        _ => None,
    });
    let holding = beat.expect("a heartbeat at once").holding;
    assert_eq!(holding.len(), 1);
    assert!(holding[0].settled && holding[0].held == world.server.tenant().held());
}

#[test]
fn an_hour_without_edits_is_an_hour_without_a_change() {
    let mut world = device();
    let (persists, dials) = (world.persists, world.dials);
    world.server.received.clear();
    world.seconds(3600);
    assert_eq!(world.changes, []);
    assert_eq!((world.persists, world.dials), (persists, dials));
    assert_eq!(world.names.len(), 1);
    let beats = world.server.count("Heartbeat");
    assert!((160..=180).contains(&beats), "{beats} heartbeats");
    assert_eq!(world.server.received.len(), beats);
    assert_eq!(world.observes, 121, "two a minute, and one at the start");
}

#[test]
fn a_refused_device_keeps_what_it_holds_and_asks_seldom() {
    for code in [Code::DeviceUnknown, Code::AnchorUnknown, Code::VersionUnsupported] {
        let mut world = device();
        world.server.refusal = Some(Refusal::from(code));
        world.dials = 0;
        world.cut();
        world.seconds(3600);
        assert!((3..20).contains(&world.dials), "{code}: {} dials", world.dials);
        assert_eq!(world.changes, [], "{code}");
        let status = world.node.status();
        assert_eq!(status.last_refusal.map(|r| r.code), Some(code));
        assert!(status.problems.iter().any(|p| p.starts_with(code.as_str())), "{:?}", status.problems);
        assert_eq!(status.tenants.len(), 1);
        world.server.refusal = None;
        world.seconds(601);
        assert_eq!(world.node.status().link, LinkState::Attached);
        assert_eq!(world.node.status().last_refusal, None);
    }
}

#[test]
fn a_server_that_is_gone_after_it_refused_is_told_of_again() {
    let mut world = device();
    let unreachable = |world: &World| {
        world.events.iter().filter(|event| matches!(event, Event::Unreachable { .. })).count()
    };
    world.unreachable = true;
    world.cut();
    world.seconds(120);
    assert_eq!(unreachable(&world), 1);
    (world.unreachable, world.server.refusal) = (false, Some(Refusal::from(Code::DeviceUnknown)));
    world.seconds(600);
    assert_eq!(world.node.status().last_refusal.map(|r| r.code), Some(Code::DeviceUnknown));
    world.unreachable = true;
    world.seconds(1200);
    assert_eq!(unreachable(&world), 2);
}

#[test]
fn a_silent_server_is_dialled_again() {
    let mut world = device();
    world.server.mute = true;
    world.dials = 0;
    world.run(LINK_SILENCE_MAX - Duration::from_secs(2));
    assert_eq!(world.dials, 0);
    world.seconds(10);
    assert!(world.dials >= 1);
    // Now it does not even say welcome.
    world.seconds(3600);
    assert!(world.dials < 400, "{} dials", world.dials);
    world.server.mute = false;
    world.seconds(60);
    assert_eq!(world.node.status().link, LinkState::Attached);
    assert_eq!(world.changes, []);
}

#[test]
fn a_server_that_says_later_is_left_alone_until_then() {
    let mut world = device();
    world.dials = 0;
    world.push([Retry { after_millis: 45_000 }.into()]);
    world.seconds(44);
    assert_eq!(world.dials, 0);
    world.seconds(2);
    assert_eq!(world.dials, 1);
}

#[test]
fn a_server_that_says_at_once_is_not_dialled_at_once() {
    let mut world = device();
    world.server.retry = Some(0);
    world.dials = 0;
    world.cut();
    world.seconds(3600);
    assert!((120..1200).contains(&world.dials), "{} dials", world.dials);
    assert_eq!(world.changes, []);
    world.server.retry = None;
    world.seconds(61);
    assert_eq!(world.node.status().link, LinkState::Attached);
}

#[test]
fn one_who_proved_nothing_sends_nobody_away_for_long() {
    let mut world = device();
    world.server.retry = Some(u32::MAX);
    world.dials = 0;
    world.cut();
    world.seconds(3600);
    assert!(world.dials >= 110, "{} dials", world.dials);
    world.server.retry = None;
    world.seconds(31);
    assert_eq!(world.node.status().link, LinkState::Attached);
    // The server itself may.
    world.dials = 0;
    world.push([Retry { after_millis: u32::MAX }.into()]);
    world.seconds(599);
    assert_eq!(world.dials, 0);
}

#[test]
fn an_unreachable_server_is_dialled_ever_more_slowly_but_found_soon() {
    let mut world = device();
    world.unreachable = true;
    world.dials = 0;
    world.cut();
    world.seconds(3600);
    assert!((120..600).contains(&world.dials), "{} dials", world.dials);
    let said = world.events.iter().filter(|event| matches!(event, Event::Unreachable { .. }));
    assert_eq!(said.count(), 1);
    world.unreachable = false;
    world.seconds(30);
    assert_eq!(world.node.status().link, LinkState::Attached);
}

#[test]
fn down_leaves_the_machine_as_it_was_and_up_comes_back() {
    let mut world = device();
    assert!(world.host.state.resolver.is_some());
    world.handle(Input::Down);
    world.seconds(1);
    assert_eq!(world.host.state, engine::Observed::default());
    assert!(matches!(world.names.last(), Some(NamesUpdate::Gone { .. })));
    let changes = world.changes.len();
    assert_eq!(changes, 2, "{:?}", world.changes);
    let frame = world.server.tenant().edit(|t| t.add_device(9));
    world.push([frame]);
    world.seconds(60);
    assert_eq!(world.changes.len(), changes, "edits do not bring it back");
    world.restart();
    world.seconds(60);
    assert!(!world.node.status().up, "nor does a restart");
    assert_eq!(world.host.state, engine::Observed::default());
    world.handle(Input::Up);
    world.seconds(1);
    assert_eq!(world.host.interface().peers.len(), 5);
    assert!(matches!(world.names.last(), Some(NamesUpdate::Whole { .. })));
    assert!(world.node.status().settled);
}

#[test]
fn a_revoked_device_takes_everything_down_says_so_and_leaves() {
    let mut world = device();
    world.dials = 0;
    let frame = world.server.tenant().edit(|t| {
        t.snapshot.own.standing = Standing::Revoked;
        t.snapshot.own.addresses = None;
        t.snapshot.peers = model::Buckets::new();
        t.snapshot.zone.names = model::Buckets::new();
    });
    world.push([frame]);
    world.seconds(1);
    assert_eq!(world.host.state, engine::Observed::default());
    assert!(matches!(world.names.last(), Some(NamesUpdate::Gone { .. })));
    let last = world.server.holdings().last().cloned();
    let held = world.server.tenant().held();
    assert!(last.is_some_and(|h| h.settled && h.held == held));
    world.seconds(6 * 3600);
    assert!((4..=7).contains(&world.dials), "{} dials", world.dials);
    let status = world.node.status();
    assert_eq!(status.tenants[0].standing, Standing::Revoked);
    assert!(status.problems[0].starts_with("device-revoked"), "{:?}", status.problems);
    world.restart();
    world.seconds(60);
    assert_eq!(world.host.state, engine::Observed::default(), "the ledger keeps the fact");
    world.unreachable = true;
    world.dials = 0;
    world.cut();
    world.seconds(4 * 3600);
    assert!(world.dials <= 5, "{} dials", world.dials);
}

#[test]
fn a_device_whose_snapshot_is_damaged_keeps_its_network() {
    let mut world = device();
    let before = world.host.state.clone();
    let place = world.disk.len() - 40;
    world.disk[place] ^= 0x40;
    world.unreachable = true;
    world.restart();
    world.seconds(600);
    assert_eq!(world.node.status().tenants.len(), 0);
    assert_eq!((&world.host.state, world.changes.len()), (&before, 0));
    world.unreachable = false;
    world.seconds(60);
    assert_eq!((&world.host.state, world.changes.len()), (&before, 0));
    assert_eq!(world.node.status().tenants.len(), 1);
}

#[test]
fn a_device_whose_snapshot_is_damaged_can_be_switched_off() {
    let mut world = device();
    let place = world.disk.len() - 40;
    world.disk[place] ^= 0x40;
    world.unreachable = true;
    world.restart();
    world.seconds(1);
    world.handle(Input::Down);
    world.seconds(1);
    assert_eq!(world.host.state, engine::Observed::default());
}

#[test]
fn a_pending_device_has_no_interface_until_it_is_approved() {
    let mut tenant = Tenant::of_device(enrolled_id(), "192.0.2.1:51820", 0);
    let (active, peers) = (tenant.snapshot.own.clone(), tenant.snapshot.peers.clone());
    tenant.snapshot.own.standing = Standing::Pending;
    tenant.snapshot.own.addresses = None;
    tenant.snapshot.peers = model::Buckets::new();
    let mut world = World::new(device_config(), Server::new(vec![tenant]));
    world.join();
    world.seconds(60);
    assert_eq!(world.changes, []);
    assert!(world.node.status().settled);
    assert!(world.node.status().problems[0].starts_with("device-pending"));
    let frame = world.server.tenant().edit(|t| {
        t.snapshot.own = active;
        t.snapshot.peers = peers;
    });
    world.push([frame]);
    world.run(Duration::from_millis(10));
    assert_eq!(world.host.interface().peers.len(), 1);
    assert!(matches!(world.names.last(), Some(NamesUpdate::Whole { .. })));
}

#[test]
fn an_edit_is_told_again_when_it_is_settled() {
    let mut world = device();
    world.server.received.clear();
    world.refuses = |change| matches!(change, engine::Change::SetPeer(_));
    let frame = world.server.tenant().edit(|t| t.add_device(9));
    world.push([frame]);
    world.seconds(5);
    let held = world.server.tenant().held();
    let told: Vec<_> = world.server.holdings().iter().map(|h| (h.held, h.settled)).collect();
    assert_eq!(told, [(held, false)]);
    world.refuses = |_| false;
    world.seconds(60);
    let told: Vec<_> = world.server.holdings().iter().map(|h| (h.held, h.settled)).collect();
    assert_eq!(told, [(held, false), (held, true)]);
}

#[test]
fn nothing_is_acknowledged_that_is_not_on_disk() {
    let mut world = device();
    world.server.received.clear();
    world.disk_full = true;
    let frame = world.server.tenant().edit(|t| t.add_device(9));
    world.push([frame]);
    world.seconds(30);
    assert_eq!(world.host.interface().peers.len(), 5, "it is in force all the same");
    assert_eq!(world.server.holdings(), []);
    world.disk_full = false;
    world.seconds(61);
    let held = world.server.tenant().held();
    assert_eq!(world.server.holdings().iter().map(|h| h.held).collect::<Vec<_>>(), [held]);
}

#[test]
fn a_crash_at_any_step_of_an_edit_loses_nothing() {
    for step in 1.. {
        let mut world = device();
        world.outputs_left = Some(step);
        let frame = world.server.tenant().edit(|t| t.add_device(9));
        world.push([frame]);
        world.seconds(1);
        let crashed = world.is_dead();
        if crashed {
            world.restart();
        }
        world.outputs_left = None;
        world.seconds(60);
        assert_eq!(world.host.interface().peers.len(), 5, "step {step}");
        assert!(world.node.status().settled, "step {step}");
        let ledger = engine::Ledger::load(&world.disk).expect("sound");
        let tenant = world.server.tenant();
        assert_eq!(ledger.held(tenant.id), Some(tenant.held()), "step {step}");
        if !crashed {
            assert!(step > 4, "only {step} steps");
            return;
        }
    }
}

#[test]
fn a_flapping_link_costs_bounded_work() {
    let mut world = device();
    let persists = world.persists;
    world.dials = 0;
    for _ in 0..100 {
        world.cut();
        world.run(Duration::from_millis(600));
    }
    assert!(world.dials <= 101, "{} dials", world.dials);
    assert_eq!((world.changes.len(), world.persists), (0, persists));
}

/// The machine is on another network.
fn move_to_another_network(world: &mut World) {
    world.handle(Input::Path(PathInput::Moved));
}

#[test]
fn a_server_that_answers_keeps_its_link_wherever_the_machine_goes() {
    let mut world = device();
    world.seconds(10);
    let (dials, beats) = (world.dials, world.server.count("Heartbeat"));
    move_to_another_network(&mut world);
    assert_eq!(world.server.count("Heartbeat"), beats + 1, "it is asked at once");
    world.seconds(30);
    assert_eq!((world.dials, world.node.status().link), (dials, LinkState::Attached));
    let beats = world.server.count("Heartbeat");
    for _ in 0..100 {
        move_to_another_network(&mut world);
        world.run(Duration::from_millis(100));
    }
    let asked = world.server.count("Heartbeat") - beats;
    assert!((9..=11).contains(&asked) && world.dials == dials, "{asked} heartbeats in ten seconds");
}

fn ask_for_report(world: &mut World, number: u8) {
    let (id, kind) = (CommandId::from_bytes([number; 16]), Remark::new("report"));
    world.push([Command { id, kind }.into()]);
}

#[test]
fn a_report_that_the_server_wishes_for_is_a_question_to_it_as_well() {
    let mut world = device();
    world.seconds(10);
    world.dials = 0;
    let asked = world.server.count("Heartbeat");
    for _ in 0..2 {
        move_to_another_network(&mut world);
        world.run(Duration::from_millis(300));
    }
    assert_eq!(world.server.count("Heartbeat"), asked + 1, "the second question waits");
    ask_for_report(&mut world, 1);
    assert_eq!(world.server.count("Heartbeat"), asked + 2);
    world.seconds(15);
    assert_eq!(world.dials, 0, "it was answered");
    // And one that is not answered is none.
    for _ in 0..2 {
        move_to_another_network(&mut world);
        world.run(Duration::from_millis(300));
    }
    world.server.mute = true;
    ask_for_report(&mut world, 2);
    world.run(LINK_ANSWER_MAX);
    world.server.mute = false;
    world.run(LINK_ANSWER_MAX);
    assert_eq!(world.dials, 1);
}

#[test]
fn a_link_that_leads_nowhere_from_here_is_made_anew_at_once() {
    let mut world = device();
    world.seconds(10);
    world.server.mute = true;
    world.dials = 0;
    move_to_another_network(&mut world);
    world.run(LINK_ANSWER_MAX - Duration::from_millis(1));
    assert_eq!(world.dials, 0, "it may be slow");
    world.server.mute = false;
    world.run(Duration::from_millis(2));
    assert_eq!((world.dials, world.node.status().link), (1, LinkState::Attached));
}

#[test]
fn what_comes_late_of_before_is_no_answer_and_a_snapshot_under_way_is_waited_for() {
    let mut world = device();
    world.seconds(10);
    world.server.mute = true;
    world.dials = 0;
    move_to_another_network(&mut world);
    for _ in 0..10 {
        world.run(LINK_ANSWER_MAX / 2);
        world.push([Heard { sequence: 1, lease: None }.into()]);
    }
    assert_eq!(world.dials, 0, "something comes");
    world.server.mute = false;
    world.run(LINK_ANSWER_MAX);
    assert_eq!(world.dials, 1, "and was no answer");
}

#[test]
fn another_network_is_tried_at_once_and_one_that_comes_and_goes_twice_a_second() {
    let mut world = device();
    world.unreachable = true;
    world.cut();
    world.seconds(600);
    world.dials = 0;
    move_to_another_network(&mut world);
    assert_eq!(world.dials, 1);
    for _ in 0..100 {
        world.run(Duration::from_millis(100));
        move_to_another_network(&mut world);
    }
    assert!((18..=24).contains(&world.dials), "{} dials in ten seconds", world.dials);
    world.unreachable = false;
    world.run(Duration::from_millis(500));
    move_to_another_network(&mut world);
    world.run(Duration::from_millis(500));
    assert_eq!(world.node.status().link, LinkState::Attached);
}

#[test]
fn a_server_that_refuses_is_left_alone_whatever_the_network() {
    let mut world = device();
    world.server.refusal = Some(Refusal::from(Code::DeviceUnknown));
    world.cut();
    world.seconds(3600);
    world.dials = 0;
    for _ in 0..50 {
        move_to_another_network(&mut world);
    }
    assert_eq!(world.dials, 0);
}

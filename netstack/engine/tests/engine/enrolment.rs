//! A machine becomes a device, once, whatever breaks on the way.

use engine::Event;
use engine::status::LinkState;
use model::{AnchorSecret, Code, Refusal, Standing};

use crate::server::{Server, Tenant, enrolled_id};
use crate::world::{World, device_config};

pub(crate) fn newcomer() -> World {
    let tenant = Tenant::of_device(enrolled_id(), "192.0.2.1:51820", 3);
    let mut world = World::new(device_config(), Server::new(vec![tenant]));
    world.run(std::time::Duration::ZERO);
    world
}

fn assert_enrolled_once(world: &World) {
    let status = world.node.status();
    assert_eq!(status.device, Some(enrolled_id()));
    assert!(!status.joining && status.settled, "{status:?}");
    assert_eq!((world.server.devices.len(), world.server.token_uses), (1, 1));
    assert_eq!(world.host.interface().peers.len(), 4);
}

#[test]
fn a_newcomer_joins_and_takes_its_place() {
    let mut world = newcomer();
    assert_eq!(world.node.status().link, LinkState::Idle);
    world.join();
    world.seconds(1);
    assert_enrolled_once(&world);
    assert_eq!(world.server.enrols, 1);
    let settled: Vec<_> = world.server.holdings().iter().map(|h| h.settled).collect();
    assert_eq!(settled.last(), Some(&true), "the server knows that it is settled: {settled:?}");
    assert!(world.events.contains(&Event::Joined { device: enrolled_id(), standing: Standing::Active }));
}

#[test]
fn a_crash_at_any_step_ends_enrolled_once() {
    let mut crashes = 0;
    for step in 1.. {
        let mut world = newcomer();
        world.outputs_left = Some(step);
        world.join();
        world.seconds(5);
        let crashed = world.is_dead();
        if crashed {
            crashes += 1;
            let join_is_on_disk = !world.disk.is_empty();
            world.restart();
            if !join_is_on_disk {
                // The person saw it fail, and asks again.
                world.join();
            }
        }
        world.seconds(60);
        assert_enrolled_once(&world);
        if !crashed {
            break;
        }
    }
    assert!(crashes > 10, "only {crashes} steps");
}

#[test]
fn a_link_that_breaks_at_any_frame_is_made_again() {
    for frames in 0..6 {
        let mut world = newcomer();
        world.server.mute = true;
        world.join();
        world.seconds(frames);
        world.cut();
        world.server.mute = false;
        world.seconds(60);
        assert_enrolled_once(&world);
    }
}

#[test]
fn the_wish_is_on_disk_before_the_server_hears_of_it() {
    let mut world = newcomer();
    world.disk_full = true;
    world.join();
    world.seconds(30);
    assert_eq!(world.server.enrols, 0);
    assert!(world.node.status().problems.iter().any(|p| p.contains("no space left")));
    world.disk_full = false;
    world.seconds(120);
    assert_enrolled_once(&world);
}

#[test]
fn the_token_is_forgotten_with_the_answer() {
    let mut world = newcomer();
    let token = world.server.tenant().token.clone();
    world.outputs_left = Some(2);
    world.join();
    let secret = token.expose();
    let keeps = |disk: &[u8]| disk.windows(secret.len()).any(|w| w == secret.as_bytes());
    assert!(keeps(&world.disk), "needed after a crash");
    world.restart();
    world.seconds(30);
    assert_enrolled_once(&world);
    assert!(!keeps(&world.disk));
}

#[test]
fn a_no_for_good_ends_the_wish() {
    for code in [
        Code::TokenUnknown,
        Code::TokenExpired,
        Code::TokenUsed,
        Code::TokenRevoked,
        Code::ProofInvalid,
        Code::KeyTaken,
        Code::DeviceRevoked,
    ] {
        let mut world = newcomer();
        world.server.refusal = Some(Refusal::from(code));
        world.join();
        world.seconds(600);
        let status = world.node.status();
        assert_eq!((status.joining, status.link), (false, LinkState::Idle), "{code}");
        assert_eq!(status.last_refusal.map(|r| r.code), Some(code));
        assert_eq!(world.count("join refused"), 1, "{code}");
        assert_eq!(world.dials, 1, "{code}");
        world.server.refusal = None;
        world.join();
        world.seconds(1);
        assert_enrolled_once(&world);
    }
}

#[test]
fn a_no_for_now_is_asked_again_ever_more_slowly() {
    for (code, dials) in [(Code::BlockExhausted, 5..30), (Code::StoreUnavailable, 30..2000)] {
        let mut world = newcomer();
        world.server.refusal = Some(Refusal::from(code));
        world.join();
        world.seconds(3600);
        assert!(dials.contains(&world.dials), "{code}: {} dials", world.dials);
        world.server.refusal = None;
        world.seconds(601);
        assert_enrolled_once(&world);
    }
}

#[test]
fn a_server_with_another_anchor_never_hears_the_claim() {
    let mut world = newcomer();
    world.server.impostor = Some(AnchorSecret::from_seed([66; 32]));
    world.join();
    world.seconds(120);
    assert_eq!(world.server.enrols, 0);
    assert!(world.count("server is not to be trusted") >= 1);
    assert!(world.dials < 15, "{} dials", world.dials);
    world.server.impostor = None;
    world.seconds(600);
    assert_enrolled_once(&world);
}

#[test]
fn a_no_of_somebody_without_the_anchor_ends_no_wish() {
    let mut world = newcomer();
    world.server.impostor = Some(AnchorSecret::from_seed([66; 32]));
    world.server.refusal = Some(Refusal::from(Code::TokenRevoked));
    world.join();
    world.seconds(60);
    assert!(world.node.status().joining);
    assert_eq!(world.count("join refused"), 0);
    (world.server.impostor, world.server.refusal) = (None, None);
    world.seconds(600);
    assert_enrolled_once(&world);
}

#[test]
fn a_device_does_not_join_twice() {
    let mut world = newcomer();
    world.join();
    world.seconds(1);
    world.join();
    world.seconds(1);
    assert!(matches!(
        world.events.last(),
        Some(Event::JoinRefused(Refusal { code: Code::AlreadyEnrolled, .. }))
    ));
    assert_enrolled_once(&world);
}

//! The shell of a device's paths, without a device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::paths::ConnectedRelay;
use futures_util::FutureExt as _;
use model::{AnchorSecret, DeviceId, Fingerprint, TenantId, Timestamp};

use super::*;

fn shell() -> Shell {
    let interface = "paths0".parse().expect("a name");
    let credentials = Credentials {
        identity: IdentitySecret::from_seed([1; 32]),
        instance: Nonce::from_bytes([2; 32]),
        software: Remark::new("test"),
        mark: None,
    };
    let mut shell = Shell::start(&interface, credentials, false, false);
    // What happens to the machine's networks meanwhile is not told.
    shell.watching.iter().for_each(JoinHandle::abort);
    // Nor is what it begins with.
    shell.next.clear();
    shell
}

#[tokio::test]
async fn whoever_was_suspended_is_as_one_on_another_network_and_is_told_so_once() {
    let asleep = Arc::new(AtomicU64::new(7));
    let clock = Arc::clone(&asleep);
    let mut shell = shell();
    shell.suspension = Suspension::by(move || Duration::from_secs(clock.load(Ordering::Relaxed)));
    let next = |shell: &mut Shell| shell.next().now_or_never();
    assert_eq!(next(&mut shell), None, "it is awake");
    asleep.store(3607, Ordering::Relaxed);
    assert_eq!(next(&mut shell), Some(PathInput::Moved));
    // What the router had opened may be closed by now.
    assert_eq!(next(&mut shell), Some(PathInput::Mapped(None)));
    assert_eq!(next(&mut shell), None);
    asleep.store(3608, Ordering::Relaxed);
    assert_eq!(next(&mut shell), None, "a second ends no mapping");
}

/// Relays that nobody reaches.
fn named(ids: &[u32]) -> PathOutput {
    let place = |id: &u32| RelayPlace {
        id: *id,
        name: format!("relay-{id}").parse().expect("a label"),
        endpoint: "192.0.2.1:1".parse().expect("an endpoint"),
        certificate: Fingerprint::from_bytes([0; 32]),
    };
    PathOutput::Places(ids.iter().map(place).collect())
}

fn pass() -> PathOutput {
    let anchor = AnchorSecret::from_seed([2; 32]);
    let pass = RelayPass {
        tenant: TenantId::from_bytes([4; 16]),
        device: DeviceId::from_bytes([5; 16]),
        identity: IdentitySecret::from_seed([1; 32]).public(),
        expires_at: Timestamp::from_unix_micros(1),
    };
    PathOutput::Pass { pass: Signed::new(&pass, &anchor), anchor: anchor.public() }
}

#[tokio::test]
async fn relays_that_are_needed_before_there_is_a_pass_are_needed_with_it() {
    let mut shell = shell();
    shell.carry_out(named(&[1, 2]));
    shell.carry_out(PathOutput::Need(vec![RelayId(1)]));
    shell.carry_out(PathOutput::Need(vec![RelayId(2)]));
    shell.carry_out(pass());
    assert_eq!(shell.places.as_ref().map(Places::needed), Some(vec![RelayId(2)]));
    shell.carry_out(PathOutput::Need(Vec::new()));
    shell.carry_out(pass());
    assert_eq!(shell.places.as_ref().map(Places::needed), Some(Vec::new()));
}

#[tokio::test]
async fn the_home_that_people_are_told_of_is_the_relay_that_the_engine_was_told_first() {
    let mut shell = shell();
    shell.carry_out(named(&[1, 2]));
    shell.carry_out(pass());
    let homes = |shell: &Shell| {
        let homes = shell.report().relays.into_iter().filter(|relay| relay.is_home);
        homes.map(|relay| relay.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(homes(&shell), Vec::<String>::new(), "none is connected");
    for (order, expect) in [([2, 0, 1], &["relay-2"][..]), ([1, 2, 0], &["relay-1"]), ([0, 1, 2], &[])] {
        let relay = |id| ConnectedRelay { id: RelayId(id), round_trip: None };
        shell.connected(order.map(relay).to_vec());
        assert_eq!(homes(&shell), expect, "{order:?}");
    }
}

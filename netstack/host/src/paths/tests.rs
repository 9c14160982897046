//! The shell of a device's paths, without a device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;

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

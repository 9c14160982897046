//! A hub that lost its interface, or its process, finds its devices again though only they know where it is.
//!
//! ```text
//!   this namespace: the hub               far: a device
//!   wg0 100.64.0.1                        wg1 100.64.0.2
//!   out 192.0.2.1 ─────────────────────── eth0 192.0.2.2
//! ```

use std::fs::{self, File};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use engine::{Change, PeerSetting};
use host::wireguard::Backend;
use host::{Host, HostConfig};
use model::{PrivateKey, PublicKey};
use nix::sched::{CloneFlags, setns};

use crate::alone::{alone, run, succeeds, wait_for};
use crate::changes::{backend, config, net};

/// What the scenarios promise.
const RESUMED: Duration = Duration::from_secs(2);

fn node(own: u8, other: PublicKey, peer: u8, endpoint: Option<&str>) -> Vec<Change> {
    let address = |number: u8| net(&format!("100.64.0.{number}/32"));
    vec![
        Change::CreateInterface,
        Change::SetDevice { listen_port: Some(51820) },
        Change::AddAddress(address(own)),
        Change::SetUp,
        Change::SetPeer(PeerSetting {
            key: other,
            allowed: [address(peer)].into(),
            endpoint: endpoint.map(|text| text.parse().unwrap()),
            keepalive_seconds: if endpoint.is_some() { 25 } else { 0 },
        }),
        Change::AddRoute(net("100.64.0.0/16")),
    ]
}

fn apply(host: &mut Host, changes: &[Change]) {
    for change in changes {
        host.apply(change).unwrap_or_else(|e| panic!("{change}: {}", host::chain(&e)));
    }
}

fn has_session(host: &mut Host, with: &PublicKey) -> bool {
    host.peers().unwrap().get(with).is_some_and(|peer| peer.last_handshake.is_some())
}

#[test]
fn a_hub_that_lost_its_sessions_makes_them_anew_in_two_seconds() {
    if !alone("endpoints::a_hub_that_lost_its_sessions_makes_them_anew_in_two_seconds") {
        return;
    }
    run("ip netns add far; ip link add out type veth peer name eth0 netns far");
    run("ip addr add 192.0.2.1/30 dev out; ip link set out up");
    run("ip -n far addr add 192.0.2.2/30 dev eth0; ip -n far link set eth0 up; ip -n far link set lo up");
    let directory = tempfile::tempdir().unwrap();
    let hub = config(directory.path());
    let far_directory = tempfile::tempdir().unwrap();
    let device = HostConfig {
        interface: "wg1".parse().unwrap(),
        key: PrivateKey::from_bytes([2; 32]),
        forwards: false,
        ..config(far_directory.path())
    };
    let key = device.key.public();
    let hub_changes = node(1, key, 2, None);
    let device_changes = node(2, hub.key.public(), 1, Some("192.0.2.1:51820"));

    let mut host = Host::open(hub.clone()).unwrap();
    apply(&mut host, &hub_changes);
    let (ready, wait) = mpsc::channel();
    let (stop, until) = mpsc::channel::<()>();
    let far = thread::spawn(move || {
        setns(File::open("/run/netns/far").unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let mut host = Host::open(device).unwrap();
        apply(&mut host, &device_changes);
        ready.send(()).unwrap();
        let _ = until.recv();
        host.glance();
    });
    wait.recv().unwrap();
    let pings = || succeeds("ip netns exec far ping -c1 -W0.2 100.64.0.1");
    wait_for("the first session", Duration::from_secs(10), || has_session(&mut host, &key) && pings());

    run("ip link del wg0");
    let deleted = |host: &mut Host| host.observe().unwrap().interface.is_none();
    wait_for("it is noticed", RESUMED, || deleted(&mut host));
    apply(&mut host, &hub_changes);
    wait_for("a handshake after the deletion, with nothing sent", RESUMED, || has_session(&mut host, &key));
    wait_for("the device arrives", RESUMED, pings);

    // Removed by hand and set again.
    run("wg set wg0 peer $(wg show wg0 peers) remove");
    host.glance();
    apply(&mut host, &hub_changes);
    wait_for("a handshake after the removal", RESUMED, || has_session(&mut host, &key));
    wait_for("the device arrives", RESUMED, pings);

    // As if killed: it was not told to leave.
    host.glance();
    drop(host);
    let file = directory.path().join("endpoints");
    let noted = fs::read_to_string(&file).unwrap();
    assert!(noted.contains(&format!("{key} 192.0.2.2:51820 ")), "{noted}");
    let mut host = Host::open(hub.clone()).unwrap();
    host.observe().unwrap();
    apply(&mut host, &hub_changes);
    wait_for("a handshake after the restart", RESUMED, || has_session(&mut host, &key));
    wait_for("the device arrives", RESUMED, pings);

    // Damage is passed over; a peer that is none any more is forgotten.
    drop(host);
    fs::write(&file, format!("{noted}{noted}")).unwrap();
    let mut host = Host::open(hub).unwrap();
    apply(&mut host, &hub_changes);
    let knows = |host: &mut Host| host.peers().unwrap()[&key].endpoint.is_some();
    assert_eq!(
        knows(&mut host),
        backend() == Backend::Kernel,
        "only the kernel's engine outlived its process"
    );
    host.apply(&Change::RemovePeer(key)).unwrap();
    host.leave().unwrap();
    apply(&mut host, &hub_changes);
    assert!(!knows(&mut host));
    drop(stop);
    far.join().unwrap();
    assert!(!far_directory.path().join("endpoints").exists(), "a device is told where its peers are");
}

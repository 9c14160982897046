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
use host::wireguard::PeerState;
use host::{Host, HostConfig};
use model::{PrivateKey, PublicKey};
use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

use crate::alone::{alone, run, succeeds, wait_for};
use crate::changes::{config, net};

/// What the scenarios promise.
const RESUMED: Duration = Duration::from_secs(2);
/// A responder refuses an initiation sooner after the one before (`INITIATIONS_PER_SECOND` of the kernel), and the
/// initiator asks again only after five seconds.
const BETWEEN_INITIATIONS: Duration = Duration::from_millis(20);

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

/// A hub, and a device that it has a session with.
struct Mesh {
    directory: TempDir,
    hub: Option<Host>,
    changes: Vec<Change>,
    /// Held by the device as long as it should live.
    _stop: mpsc::Sender<()>,
}

impl Mesh {
    fn new() -> Self {
        run("ip netns add far; ip link add out type veth peer name eth0 netns far");
        run("ip addr add 192.0.2.1/30 dev out; ip link set out up");
        run("ip -n far addr add 192.0.2.2/30 dev eth0; ip -n far link set eth0 up; ip -n far link set lo up");
        let directory = tempfile::tempdir().unwrap();
        let (stop, until) = mpsc::channel();
        let hub = config(directory.path()).key.public();
        let changes = node(1, device_key().public(), 2, None);
        let mut mesh = Self { directory, hub: None, changes, _stop: stop };
        mesh.start();
        mesh.set();
        start_device(hub, until);
        wait_for("the first session", Duration::from_secs(10), || mesh.has_session() && pings());
        mesh
    }

    fn start(&mut self) {
        self.hub = Some(Host::open(config(self.directory.path())).unwrap());
    }

    /// As if killed: it is not told to leave.
    fn kill(&mut self) {
        self.hub = None;
    }

    fn hub(&mut self) -> &mut Host {
        self.hub.as_mut().unwrap()
    }

    fn set(&mut self) {
        apply(self.hub.as_mut().unwrap(), &self.changes);
    }

    fn peer(&mut self) -> PeerState {
        self.hub().peers().unwrap().remove(&device_key().public()).unwrap_or_default()
    }

    fn has_session(&mut self) -> bool {
        self.peer().last_handshake.is_some()
    }

    fn resumes(&mut self) {
        wait_for("a handshake with nothing sent", RESUMED, || self.has_session());
        wait_for("the device arrives", RESUMED, pings);
    }

    /// The device answers another initiation.
    fn rests(&mut self) {
        let handshake = self.peer().last_handshake.unwrap();
        wait_for("time passes", RESUMED, || handshake.elapsed().is_ok_and(|age| age > BETWEEN_INITIATIONS));
    }
}

/// A device in the other namespace, until the channel is closed.
fn start_device(hub: PublicKey, until: mpsc::Receiver<()>) {
    let (ready, wait) = mpsc::channel();
    thread::spawn(move || {
        setns(File::open("/run/netns/far").unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let device = HostConfig {
            interface: "wg1".parse().unwrap(),
            key: device_key(),
            forwards: false,
            ..config(directory.path())
        };
        let mut host = Host::open(device).unwrap();
        apply(&mut host, &node(2, hub, 1, Some("192.0.2.1:51820")));
        ready.send(()).unwrap();
        let _ = until.recv();
    });
    wait.recv().unwrap();
}

fn device_key() -> PrivateKey {
    PrivateKey::from_bytes([2; 32])
}

fn apply(host: &mut Host, changes: &[Change]) {
    for change in changes {
        host.apply(change).unwrap_or_else(|e| panic!("{change}: {}", host::chain(&e)));
    }
}

fn pings() -> bool {
    succeeds("ip netns exec far ping -c1 -W0.2 100.64.0.1")
}

#[test]
fn a_hub_whose_interface_or_peers_are_deleted_resumes_in_two_seconds() {
    if !alone("endpoints::a_hub_whose_interface_or_peers_are_deleted_resumes_in_two_seconds") {
        return;
    }
    let mut mesh = Mesh::new();
    run("ip link del wg0");
    wait_for("it is noticed", RESUMED, || mesh.hub().observe().unwrap().interface.is_none());
    mesh.set();
    mesh.resumes();

    mesh.rests();
    run("wg set wg0 peer $(wg show wg0 peers) remove");
    mesh.hub().glance();
    mesh.set();
    mesh.resumes();
}

#[test]
fn a_hub_that_was_killed_resumes_in_two_seconds() {
    if !alone("endpoints::a_hub_that_was_killed_resumes_in_two_seconds") {
        return;
    }
    let mut mesh = Mesh::new();
    mesh.hub().glance();
    let noted = fs::read_to_string(mesh.directory.path().join("endpoints")).unwrap();
    assert!(noted.contains(&format!("{} 192.0.2.2:51820 ", device_key().public())), "{noted}");
    mesh.kill();
    mesh.start();
    mesh.hub().observe().unwrap();
    mesh.set();
    mesh.resumes();
}

#[test]
fn a_removed_peer_is_forgotten_and_a_damaged_file_is_passed_over() {
    if !alone("endpoints::a_removed_peer_is_forgotten_and_a_damaged_file_is_passed_over") {
        return;
    }
    let (mut mesh, device) = (Mesh::new(), device_key().public());
    let file = mesh.directory.path().join("endpoints");
    let read = || fs::read_to_string(&file).unwrap();
    mesh.hub().glance();
    let noted = read();
    assert!(noted.contains(&device.to_string()), "{noted}");
    mesh.hub().apply(&Change::RemovePeer(device)).unwrap();
    mesh.hub().leave().unwrap();
    assert!(!read().contains(&device.to_string()));
    mesh.set();
    assert_eq!(mesh.peer().endpoint, None);

    mesh.kill();
    fs::write(&file, format!("{noted}nonsense\n")).unwrap();
    mesh.start();
    mesh.set();
    assert_eq!(mesh.peer().endpoint, None);
}

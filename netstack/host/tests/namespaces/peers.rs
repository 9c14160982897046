//! Peers come, change and go one at a time, and nobody else notices; two hosts reach each other through the tunnel.
//!
//! ```text
//!   this namespace                        far
//!   wg0 100.64.0.1                        wg1 100.64.0.2
//!   out 192.0.2.1 ─────────────────────── eth0 192.0.2.2
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use engine::{Change, ObservedPeer, PeerSetting};
use host::wireguard::Backend;
use host::{Host, HostConfig};
use model::{PrivateKey, PublicKey};
use nix::sched::{CloneFlags, setns};

use crate::alone::{alone, run};
use crate::changes::{backend, config, net, peer};

fn apply(host: &mut Host, changes: &[Change]) {
    for change in changes {
        host.apply(change).unwrap_or_else(|e| panic!("{change}: {}", host::chain(&e)));
    }
}

fn peers(host: &mut Host) -> BTreeMap<PublicKey, ObservedPeer> {
    host.observe().unwrap().interface.unwrap().peers
}

fn expected(settings: &[&PeerSetting]) -> BTreeMap<PublicKey, ObservedPeer> {
    let one = |peer: &PeerSetting| ObservedPeer {
        allowed: peer.allowed.clone(),
        endpoint: peer.endpoint,
        keepalive_seconds: peer.keepalive_seconds,
        stale: false,
    };
    settings.iter().map(|peer| (peer.key, one(peer))).collect()
}

#[test]
fn one_peer_at_a_time_and_no_other_is_touched() {
    if !alone("peers::one_peer_at_a_time_and_no_other_is_touched") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    apply(
        &mut host,
        &[Change::CreateInterface, Change::SetDevice { listen_port: Some(51820) }, Change::SetUp],
    );
    let (first, second) = (peer(2, &["100.64.0.2/32", "fd00::2/128"]), peer(3, &["100.64.0.3/32"]));
    let mut third = peer(4, &["100.64.0.4/32"]);
    let set = |peer: &PeerSetting| Change::SetPeer(peer.clone());
    for (change, expect) in [
        (set(&first), expected(&[&first])),
        (set(&second), expected(&[&first, &second])),
        (set(&third), expected(&[&first, &second, &third])),
    ] {
        apply(&mut host, &[change]);
        assert_eq!(peers(&mut host), expect);
    }

    // An endpoint that is not given stays, keepalive can be switched off, and networks are replaced.
    third.allowed = [net("100.64.0.5/32"), net("fd00::4/128")].into();
    third.keepalive_seconds = 0;
    apply(&mut host, &[Change::SetPeer(PeerSetting { endpoint: None, ..third.clone() })]);
    assert_eq!(peers(&mut host), expected(&[&first, &second, &third]));
    third.endpoint = Some("[2001:db8::7]:4500".parse().unwrap());
    apply(&mut host, &[set(&third)]);
    assert_eq!(peers(&mut host), expected(&[&first, &second, &third]));

    // A port of its own, and the same key again, cost no peer; nor does a peer that leaves.
    apply(&mut host, &[Change::SetDevice { listen_port: Some(51821) }, Change::RemovePeer(second.key)]);
    assert_eq!(peers(&mut host), expected(&[&first, &third]));
    assert_eq!(run("wg show wg0 listen-port").trim(), "51821");

    // Somebody else's peer is seen, with what it took away.
    run("wg set wg0 peer $(wg genkey | wg pubkey) allowed-ips 100.64.0.2/32");
    let seen = peers(&mut host);
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[&first.key].allowed, [net("fd00::2/128")].into());

    // The kernel's engine is taken over as it is by the next process; our own ended with the last.
    drop(host);
    let mut host = Host::open(config(directory.path())).unwrap();
    let found = host.observe().unwrap().interface;
    match backend() {
        Backend::Userspace | Backend::Netstack => assert_eq!(found, None),
        Backend::Kernel => {
            let without_stale = |mut peer: ObservedPeer| {
                peer.stale = false;
                peer
            };
            let found = found.unwrap();
            assert_eq!((found.up, found.listen_port), (true, 51821));
            assert_eq!(found.public_key, Some(config(directory.path()).key.public()));
            let found: BTreeMap<_, _> = found.peers.into_iter().map(|(k, p)| (k, without_stale(p))).collect();
            assert_eq!(found, seen);
            apply(&mut host, &[Change::CreateInterface]);
            assert_eq!(peers(&mut host).len(), 3, "made already");
        }
    }
}

#[test]
fn changes_of_a_missing_interface_say_so() {
    if !alone("peers::changes_of_a_missing_interface_say_so") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    let setting = peer(2, &["100.64.0.2/32"]);
    for change in [
        Change::SetDevice { listen_port: None },
        Change::SetPeer(setting.clone()),
        Change::RemovePeer(setting.key),
    ] {
        let said = host::chain(&host.apply(&change).unwrap_err());
        assert_eq!(said, "wg0: there is no interface", "{change}");
    }
}

#[test]
fn two_hosts_reach_each_other_through_the_tunnel() {
    if !alone("peers::two_hosts_reach_each_other_through_the_tunnel") {
        return;
    }
    run("ip netns add far; ip link add out type veth peer name eth0 netns far");
    run("ip addr add 192.0.2.1/30 dev out; ip link set out up");
    run("ip -n far addr add 192.0.2.2/30 dev eth0; ip -n far link set eth0 up; ip -n far link set lo up");
    let directory = tempfile::tempdir().unwrap();
    let near = end(directory.path(), "wg0", 1);
    let far = end(directory.path(), "wg1", 2);
    let (near_key, far_key) = (near.key.public(), far.key.public());
    let far_setting = tunnel(2, near_key, 1, None);
    let (ready, wait) = mpsc::channel();
    let (stop, until) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        setns(File::open("/run/netns/far").unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let mut host = Host::open(far).unwrap();
        apply(&mut host, &far_setting);
        ready.send(()).unwrap();
        let _ = until.recv();
        host.peers().unwrap()
    });
    wait.recv().unwrap();
    let mut host = Host::open(near).unwrap();
    apply(&mut host, &tunnel(1, far_key, 2, Some("192.0.2.2:51820")));
    run("ping -c 3 -i 0.2 -W 5 100.64.0.2");
    let near_sees = host.peers().unwrap();
    drop(stop);
    let far_sees = other.join().unwrap();
    for (peers, key) in [(near_sees, far_key), (far_sees, near_key)] {
        let peer = &peers[&key];
        assert!(
            peer.last_handshake.is_some() && peer.received_bytes > 3 * 64 && peer.sent_bytes > 3 * 64,
            "{peer:?}"
        );
        assert!(peer.endpoint.is_some(), "learnt from its packets");
    }
    assert!(host.observe().unwrap().interface.unwrap().peers.values().all(|peer| !peer.stale));
}

fn end(directory: &Path, interface: &str, number: u8) -> HostConfig {
    let own = directory.join(interface);
    fs::create_dir(&own).unwrap();
    HostConfig {
        interface: interface.parse().unwrap(),
        key: PrivateKey::from_bytes([number; 32]),
        forwards: false,
        ..config(&own)
    }
}

fn tunnel(own: u8, peer: PublicKey, other: u8, endpoint: Option<&str>) -> Vec<Change> {
    let address = |number: u8| net(&format!("100.64.0.{number}/32"));
    vec![
        Change::CreateInterface,
        Change::SetDevice { listen_port: Some(51820) },
        Change::AddAddress(address(own)),
        Change::SetUp,
        Change::SetPeer(PeerSetting {
            key: peer,
            allowed: [address(other)].into(),
            endpoint: endpoint.map(|text| text.parse().unwrap()),
            keepalive_seconds: 25,
        }),
        Change::AddRoute(net("100.64.0.0/16")),
    ]
}

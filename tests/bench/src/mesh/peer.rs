//! One peer more at a hub that has ten thousand: what the engine makes of the patch, and what our own WireGuard device
//! makes of the change. Counts processor time of the one thread that works.

use std::collections::BTreeSet;
use std::thread;

use engine::{Change, Input, ObservedPeer, PeerSetting, Seat, Subject};
use host::resolver::ResolverConfig;
use host::wireguard::{Mode, Tuning};
use host::{Host, HostConfig};
use model::wire::Decoder;
use model::{PrivateKey, PublicKey};
use nix::sched::{CloneFlags, unshare};

use super::hub::Hub;
use crate::series::{Bound, Series, Unit};
use crate::usage::{milliseconds, thread_cpu};

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    peers: u32,
    rounds: u32,
    looks: u32,
}

/// More rounds than patches that a ledger keeps before it folds them: the fold is among them.
pub const FULL: Scale = Scale { peers: 10_000, rounds: 600, looks: 20 };
/// To see that it works.
pub const CHECK: Scale = Scale { peers: 200, rounds: 5, looks: 2 };

const RECONCILER: Bound = Bound::P99Below(5.0);

/// Adds peers one by one, first at a model host, then at our own device.
pub fn measure(scale: &'static Scale) -> Vec<Series> {
    let mut hub = Hub::with_peers(scale.peers);
    let mut changes = Series::new("changes for one added peer", Unit::Count).must(Bound::AllAre(1.0));
    let mut to_apply = time("processor time, patch frame to change").must(RECONCILER);
    let mut to_end = time("… and until the node wants nothing more").must(RECONCILER);
    let mut looked = time("processor time, all peers observed and compared");
    let mut settings = Vec::new();
    for _ in 0..scale.rounds {
        let bytes = hub.enrol_elsewhere();
        let start = thread_cpu();
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        let frame = decoder.next_frame().expect("well-formed").expect("whole");
        let wanted = hub.tell(Input::Received(frame));
        to_apply.push(milliseconds(thread_cpu() - start));
        changes.push(f64::from(u32::try_from(wanted.changes.len()).expect("few")));
        settings.extend(wanted.changes.iter().cloned());
        hub.satisfy(wanted);
        to_end.push(milliseconds(thread_cpu() - start));
    }
    assert_eq!(hub.peers(), (scale.peers + scale.rounds) as usize, "every peer was added");
    for _ in 0..scale.looks {
        hub.begin_look();
        let observed = hub.observed();
        let start = thread_cpu();
        let wanted = hub.tell(Input::Observed(Seat::Shared, Ok(observed)));
        looked.push(milliseconds(thread_cpu() - start));
        assert_eq!(wanted.changes, [], "nobody changed the host");
        hub.satisfy(wanted);
    }
    let mut series = vec![changes, to_apply, to_end, looked];
    series.extend(measure_device(scale, &hub, settings));
    series
}

/// The same peers at our own WireGuard device, in a network namespace of its own.
fn measure_device(scale: &'static Scale, hub: &Hub, added: Vec<Change>) -> Vec<Series> {
    let interface = hub.observed().interface.expect("a hub has an interface");
    let mut basis =
        vec![Change::CreateInterface, Change::SetDevice { listen_port: Some(interface.listen_port) }];
    basis.extend(interface.addresses.iter().copied().map(Change::AddAddress));
    basis.push(Change::SetUp);
    basis.extend(interface.routes.iter().copied().map(Change::AddRoute));
    let new: BTreeSet<Subject> = added.iter().map(Change::subject).collect();
    let all = interface.peers.into_iter().map(|(key, peer)| setting(key, peer));
    let before: Vec<Change> = all.filter(|change| !new.contains(&change.subject())).collect();
    assert_eq!(before.len(), scale.peers as usize);
    let alone = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        let mut host = Host::open(host_config()).expect("the kernel answers");
        for change in basis.iter().chain(&before) {
            host.apply(change).unwrap_or_else(|e| panic!("{change}: {e}"));
        }
        let mut applied = time("processor time, change to our own WireGuard device").must(RECONCILER);
        for change in &added {
            let start = thread_cpu();
            host.apply(change).unwrap_or_else(|e| panic!("{change}: {e}"));
            applied.push(milliseconds(thread_cpu() - start));
        }
        let mut read = time("processor time, host read with all peers");
        for _ in 0..scale.looks {
            let start = thread_cpu();
            let observed = host.observe().expect("the kernel answers");
            read.push(milliseconds(thread_cpu() - start));
            let peers = observed.interface.expect("it was made").peers.len();
            assert_eq!(peers, before.len() + added.len());
        }
        vec![applied, read]
    });
    alone.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn setting(key: PublicKey, peer: ObservedPeer) -> Change {
    let ObservedPeer { allowed, endpoint, keepalive_seconds, .. } = peer;
    Change::SetPeer(PeerSetting { key, allowed, endpoint, keepalive_seconds })
}

fn host_config() -> HostConfig {
    HostConfig {
        interface: "wgbench".parse().expect("a name"),
        key: PrivateKey::from_bytes([77; 32]),
        mode: Mode::Userspace,
        forwards: false,
        resolver: ResolverConfig::off(),
        state: std::env::temp_dir(),
        uapi_directory: None,
        stack: None,
        tuning: Tuning::default(),
    }
}

fn time(what: &str) -> Series {
    Series::new(what, Unit::Milliseconds)
}

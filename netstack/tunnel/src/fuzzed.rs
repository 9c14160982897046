//! The engine's way of a packet, step by step and without a thread, for `tests/fuzzed`. Not for anybody else.

use std::io::IoSlice;
use std::iter;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chacha::{Cipher, Job, TAG_BYTES};
use ipnet::IpNet;
use model::PrivateKey;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
use wireguard::cookie::stamp;
use wireguard::noise::{Keys, Local, Remote, initiate};
use wireguard::{Tai64n, Time};

use crate::inbound::Inbound;
use crate::io::tun::Tun;
use crate::io::udp::{Offload, Sockets};
use crate::ip;
use crate::offload::{Cut, Joiner, Joins, VNET_HEADER_BYTES, VnetHeader};
use crate::path::{Carrier, Path};
use crate::shared::{Parts, Shared};
use crate::task::{TASKS_MAX, Task};
use crate::update::{PeerUpdate, Update};
use crate::work::Worker;

/// The longest IP packet.
const PACKET_BYTES_MAX: usize = 65_535;

/// A device with one peer and a session of it, in one thread.
pub struct Engine {
    inbound: Inbound,
    worker: Worker,
    tasks: Receiver<Task>,
    shared: Arc<Shared>,
    packets: OwnedFd,
    wire: Arc<Wire>,
    path: Path,
    keys: Keys,
    counter: u64,
}

/// Keeps what the device sends.
#[derive(Default)]
struct Wire(Mutex<Vec<Vec<u8>>>);

impl Carrier for Wire {
    fn send(&self, messages: &mut dyn Iterator<Item = &[u8]>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(messages.map(<[u8]>::to_vec));
    }

    fn name(&self) -> &str {
        "wire"
    }
}

impl Engine {
    /// The peer's packets may come from these networks.
    ///
    /// # Panics
    /// If the machine has no socket left.
    pub fn new(allowed: &[IpNet]) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (inner, packets) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a pair of sockets");
        let (tasks, to_do) = sync_channel(TASKS_MAX);
        let parts = Parts {
            name: "fuzzed".into(),
            tun: Tun::over(inner, 1420).expect("a packet descriptor"),
            sockets: Sockets::bind(0, 0, Offload { gso: false, gro: false }).expect("a free port"),
            fwmark: 0,
            joins: Joins { tcp: true, udp: true },
            udp_offload: Offload { gso: false, gro: false },
            cipher: Cipher::Reference,
            probe: None,
            tasks,
        };
        let shared = Arc::new(Shared::new(parts).expect("event descriptors"));
        let [ours, theirs] = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
        let mut peer = PeerUpdate::new(theirs.public());
        peer.allowed_ips = allowed.to_vec();
        let update = Update { private_key: Some(Some(ours.clone())), peers: vec![peer], ..Update::default() };
        shared.apply(update).expect("a key and a peer");
        let wire = Arc::new(Wire::default());
        let carrier: Arc<dyn Carrier> = Arc::clone(&wire) as _;
        let (us, them) = (Local::new(&theirs), ours.public());
        let remote = Remote::new(&us, &them).expect("a made key is not of low order");
        let time = Tai64n::from_wall(Duration::from_secs(1_700_000_000));
        let (begun, mut message) = initiate(&us, &remote, 7, time, &[3; 32]);
        stamp(&mut message, &remote, None);
        let mut engine = Self {
            inbound: Inbound::new(Arc::clone(&shared)),
            worker: Worker::new(Arc::clone(&shared)),
            tasks: to_do,
            shared,
            packets,
            wire,
            path: Path::Carrier(carrier),
            keys: Keys {
                send: chacha::Key::new(&[0; 32]),
                receive: chacha::Key::new(&[0; 32]),
                remote_index: 0,
            },
            counter: 0,
        };
        let (_, sent) = engine.receive(&mut message, ip::NOT_ECT);
        let response = sent.first().and_then(|message| message.as_slice().try_into().ok());
        let response: [u8; 92] = response.expect("a response to the initiation");
        engine.keys = begun.finish(&us, &[0; 32], &response).expect("it is for us");
        engine
    }

    /// What the device writes to its interface and what it sends, because of a datagram.
    pub fn receive(&mut self, datagram: &mut [u8], ecn: u8) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        self.inbound.take(datagram, &self.path, ecn);
        while let Ok(task) = self.tasks.try_recv() {
            self.worker.take(task);
        }
        let sent = std::mem::take(&mut *self.wire.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut packet = vec![0; PACKET_BYTES_MAX];
        let next = iter::from_fn(|| {
            let length = recv(self.packets.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT).ok()?;
            Some(packet[..length].to_vec())
        });
        (next.collect(), sent)
    }

    /// The text as the next data message of the peer.
    pub fn seal(&mut self, text: &[u8]) -> Vec<u8> {
        let mut message = [&[4, 0, 0, 0], &self.keys.remote_index.to_le_bytes()[..]].concat();
        message.extend(self.counter.to_le_bytes());
        let header = message.len();
        message.extend(text);
        message.resize(message.len() + TAG_BYTES, 0);
        let job = Job { key: &self.keys.send, counter: self.counter, bytes: &mut message[header..] };
        Cipher::Reference.seal([job]);
        self.counter += 1;
        message
    }

    /// How long the session has lived, in seconds: after three minutes it takes no data.
    pub fn age_seconds(&self) -> u64 {
        self.shared.clock.now().since(Time::from_nanos(0)).as_secs()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.let_go();
    }
}

/// The packets of the wire that a packet of the interface stands for; `None` if its headers contradict each other.
pub fn cut(header: &[u8; VNET_HEADER_BYTES], packet: &[u8]) -> Option<Vec<Vec<u8>>> {
    let cut = Cut::new(&VnetHeader::read(header), packet).ok()?;
    let write = |i| {
        let mut out = vec![0; cut.bytes(i)];
        cut.write(i, &mut out);
        out
    };
    Some((0..cut.count()).map(write).collect())
}

/// What is written to the interface for a batch of packets: header and packet.
pub fn join(packets: &[&[u8]]) -> Vec<([u8; VNET_HEADER_BYTES], Vec<u8>)> {
    let mut arena = packets.concat();
    let mut joiner = Joiner::new(Joins { tcp: true, udp: true });
    let mut start = 0;
    for packet in packets {
        if let Some(length) = ip::length(packet) {
            joiner.add(&arena, start..start + length);
        }
        start += packet.len();
    }
    let mut written = Vec::new();
    joiner.flush(&mut arena, |parts: &[IoSlice<'_>]| {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let (header, packet) = bytes.split_first_chunk().expect("a header comes first");
        written.push((*header, packet.to_vec()));
    });
    written
}

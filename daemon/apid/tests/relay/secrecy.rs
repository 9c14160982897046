//! What a relay learns: WireGuard's messages pass through its memory, and what is in them never is there.
//!
//! ```text
//! packets ─▶ engine a ─▶ carrier ─▶ relay (its memory is searched) ─▶ carrier ─▶ engine b ─▶ packets
//! ```

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};

use engine::paths::RelayId;
use host::paths::places::Places;
use host::paths::relay::Relays;
use model::relay::RelayPlace;
use model::{AnchorSecret, PrivateKey};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tunnel::{Carrier, Config, Device, PeerUpdate, Update};

use crate::apid::Apid;
use crate::places::{DEVICES, bearer, pass, place};
use crate::soon;

/// A full packet of the tunnel's MTU.
const PACKET_BYTES: usize = 1420;

/// A device, and what carries its packets to the other.
type Onward = (Arc<Device>, Arc<dyn Carrier>);

/// A device's engine on a relay, and the descriptor that stands for its interface.
struct End {
    device: Arc<Device>,
    packets: OwnedFd,
    key: PrivateKey,
    address: Ipv4Addr,
    relays: Relays,
    way: Arc<OnceLock<Onward>>,
    places: JoinHandle<()>,
}

impl End {
    fn new(who: usize, anchor: &AnchorSecret, named: &[RelayPlace]) -> Self {
        let number = u8::try_from(who).expect("one of two") + 1;
        let (inner, packets) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .expect("a pair");
        let device = Device::over(&format!("end{number}"), inner, Config::default()).expect("a device");
        let key = PrivateKey::from_bytes([number; 32]);
        let update = Update { private_key: Some(Some(key.clone())), ..Update::default() };
        device.apply(update).expect("a key");
        let way: Arc<OnceLock<Onward>> = Arc::default();
        let arrived = Arc::clone(&way);
        let (news, mut told) = mpsc::channel(64);
        tokio::spawn(async move { while told.recv().await.is_some() {} });
        let relays = Relays::new(news, move |_, message| {
            if let Some((device, carrier)) = arrived.get() {
                device.receive(carrier, message);
            }
        });
        let mut places = Places::new(relays.clone(), bearer(who, anchor));
        places.set(named);
        places.set_pass(pass(who, anchor));
        let places = tokio::spawn(async move {
            loop {
                places.run().await;
            }
        });
        let address = Ipv4Addr::new(100, 64, 0, number);
        Self { device: Arc::new(device), packets, key, address, relays, way, places }
    }

    fn knows(&self, other: &Self, device: usize) {
        let mut peer = PeerUpdate::new(other.key.public());
        peer.allowed_ips = vec![format!("{}/32", other.address).parse().expect("a network")];
        self.device.apply(Update::peer(peer)).expect("a peer");
        let carrier = self.relays.carrier(other.key.public(), DEVICES[device]);
        carrier.set_relay(RelayId(1), true);
        let carrier: Arc<dyn Carrier> = carrier;
        assert!(self.device.set_carrier(&other.key.public(), &carrier));
        assert!(self.way.set((Arc::clone(&self.device), carrier)).is_ok(), "it knows one");
    }

    fn send(&self, to: &Self, payload: &[u8]) {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 253, 0, 0];
        let length = u16::try_from(payload.len() + 20).expect("a packet");
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet.extend(self.address.octets());
        packet.extend(to.address.octets());
        packet.extend(payload);
        send(self.packets.as_raw_fd(), &packet, MsgFlags::empty()).expect("there is room");
    }

    /// The payload of the next packet that comes out.
    async fn next(&self) -> Vec<u8> {
        let packets = self.packets.try_clone().expect("a descriptor");
        let read = tokio::task::spawn_blocking(move || {
            let mut packet = [0; 2048];
            let length = recv(packets.as_raw_fd(), &mut packet, MsgFlags::empty()).expect("a packet");
            packet[20..length].to_vec()
        });
        soon(read).await.expect("read")
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.places.abort();
    }
}

/// Whether the bytes are anywhere in the memory that a process can write to (proc_pid_mem(5)).
fn holds(pid: u32, bytes: &[u8]) -> bool {
    let maps = std::fs::File::open(format!("/proc/{pid}/maps")).expect("it runs");
    let mut memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("it is ours");
    BufReader::new(maps).lines().map(|line| line.expect("text")).any(|line| {
        let mut words = line.split(' ');
        let (range, rights) = (words.next().expect("a range"), words.next().expect("rights"));
        let (from, until) = range.split_once('-').expect("two addresses");
        let [from, until] = [from, until].map(|text| u64::from_str_radix(text, 16).expect("an address"));
        if !rights.starts_with("rw") || memory.seek(SeekFrom::Start(from)).is_err() {
            return false;
        }
        let mut area = Vec::new();
        // Areas of devices cannot be read.
        let _ = (&mut memory).take(until - from).read_to_end(&mut area);
        area.windows(bytes.len()).any(|window| window == bytes)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_devices_say_to_each_other_is_nowhere_in_a_relays_memory() {
    let anchor = AnchorSecret::from_seed([1; 32]);
    let fingerprint = anchor.public().fingerprint().to_string();
    let relay = Apid::with(&["--role", "relay", "--serve-anchor", &fingerprint]);
    let named = [place(1, &relay, relay.fingerprint())];
    let (a, b) = (End::new(0, &anchor, &named), End::new(1, &anchor, &named));
    a.knows(&b, 1);
    b.knows(&a, 0);
    relay.wait_for("warren_relay_sessions", 2).await;
    // Made at run time, so that it is in no program.
    let pattern: Vec<u8> = (0..24_u8).map(|n| n.wrapping_mul(37) ^ 0x5a).collect();
    let payload: Vec<u8> = pattern.iter().copied().cycle().take(PACKET_BYTES - 20).collect();
    for _ in 0..100 {
        a.send(&b, &payload);
        assert_eq!(b.next().await, payload);
        b.send(&a, &payload);
        assert_eq!(a.next().await, payload);
    }
    assert!(relay.metric("warren_relay_bytes_total").await > 200 * PACKET_BYTES as u64, "it carried them");
    assert!(holds(std::process::id(), &pattern), "the devices' own memory is searched as well");
    assert!(holds(relay.id(), fingerprint.as_bytes()), "and so is the relay's");
    assert!(!holds(relay.id(), &pattern), "the relay has seen what is in the packets");
}

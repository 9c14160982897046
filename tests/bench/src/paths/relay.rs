//! What a relay alone carries, costs and holds: a real one on this machine's loopback, and devices that speak its protocol. A plain
//! forwarder does the same in each round.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lab::{SOON, until};
use link::{Datagrams, PreferCarrier, Trust};
use model::relay::datagram::cut;
use model::relay::{Joiner, PieceIds, RelayPass, Relayed};
use model::wire::{AttachClaim, AttachRelay, Frame, Hello, Remark, Transcript, VERSION};
use model::{AnchorSecret, DeviceId, IdentitySecret, Mono, Nonce, Signed, TenantId, Timestamp};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::member::member;
use super::pass;
use crate::series::{Bound, Series, Unit};
use crate::server::{alone_with, program};
use crate::usage::{memory, milliseconds, process_cpu};

const RELAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9443);
const METRICS: &str = "127.0.0.1:9080";
const FORWARDER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9444);
/// A full packet of a tunnel with WireGuard's usual MTU of 1420 and what WireGuard adds to it.
const PACKET: [u8; 1452] = [4; 1452];
/// What is counted, after what is not: queues fill.
const COUNTED: Duration = Duration::from_secs(3);
const BEFORE: Duration = Duration::from_millis(500);
/// Sent before others get their turn.
const BURST: usize = 16;
/// Handshakes at once: half of what one address may have.
const ATTACHING: u32 = 25;
const SESSIONS: Bound = Bound::AllBelow(50.0);

/// A program that ends with its owner.
struct Running {
    child: Child,
    _folder: TempDir,
}

impl Running {
    fn start(command: &mut Command, folder: TempDir) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().expect("our programs can be started"), _folder: folder }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A relay, and the anchor whose devices it serves.
struct Relay {
    running: Running,
    anchor: AnchorSecret,
}

impl Relay {
    fn start() -> Self {
        let anchor = AnchorSecret::from_seed([1; 32]);
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut command = Command::new(program("warren-apid"));
        command.args(["--role", "relay", "--allow-root", "--metrics-listen", METRICS]);
        command.args(["--listen", &RELAY.to_string(), "--public-url", &format!("https://{RELAY}")]);
        command.arg("--state-dir").arg(folder.path());
        command.args(["--serve-anchor", &anchor.public().fingerprint().to_string()]);
        Self { running: Running::start(&mut command, folder), anchor }
    }

    /// A device that it admits.
    async fn attach(&self, number: u32, prefer: PreferCarrier) -> Option<Device> {
        let seed = |kind: u8| {
            let mut seed = [kind; 32];
            seed[..4].copy_from_slice(&number.to_be_bytes());
            seed
        };
        let identity = IdentitySecret::from_seed(seed(2));
        let connection = link::dial(&RELAY.into(), &Trust::Anchor, prefer).await.ok()?;
        let (channel, datagrams) = (connection.channel(), connection.datagrams()?);
        let (sender, mut receiver) = connection.split();
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            nonce: Nonce::from_bytes(seed(3)),
            anchor: Some(self.anchor.public().fingerprint()),
            software: Remark::new("bench"),
        };
        sender.send(&hello.clone().into()).await.ok()?;
        let Frame::Welcome(welcome) = receiver.recv().await.ok()? else { return None };
        let transcript = Transcript::new(&hello, &welcome, &channel);
        let claim =
            AttachClaim { identity: identity.public(), held: None, instance: Nonce::from_bytes(seed(4)) };
        let mut id = [0; 16];
        id[12..].copy_from_slice(&number.to_be_bytes());
        let id = DeviceId::from_bytes(id);
        let pass = RelayPass {
            tenant: TenantId::from_bytes([9; 16]),
            device: id,
            identity: identity.public(),
            expires_at: Timestamp::from_unix_micros(i64::MAX),
        };
        let signature = transcript.sign_attach(&claim, &identity);
        let pass = Signed::new(&pass, &self.anchor);
        let attach = AttachRelay { claim, signature, pass, anchor: self.anchor.public() };
        sender.send(&attach.into()).await.ok()?;
        let Frame::Attached(_) = receiver.recv().await.ok()? else { return None };
        tokio::spawn(async move { while receiver.recv().await.is_ok() {} });
        Some(Device::new(id, datagrams, sender))
    }
}

/// A device as the relay sees it.
pub(super) struct Device {
    id: DeviceId,
    datagrams: Datagrams,
    ids: PieceIds,
    /// Keeps the link.
    _sender: link::Sender,
}

impl Device {
    pub(super) fn new(id: DeviceId, datagrams: Datagrams, sender: link::Sender) -> Self {
        Self { id, datagrams, ids: PieceIds::of_sender(), _sender: sender }
    }

    fn send(&mut self, to: DeviceId, payload: &[u8]) {
        for piece in cut(to, payload, self.datagrams.bytes_max(), &mut self.ids) {
            // What there is no room for is lost.
            let _ = self.datagrams.send(piece.write().into());
        }
    }
}

/// Memory of a relay with so many devices, each of which another one has just written to: half come by QUIC, half by WebSocket.
pub fn sessions(count: u32) -> Vec<Series> {
    let mut resident = Series::new(format!("{count} sessions, resident"), Unit::Megabytes).must(SESSIONS);
    let mut empty = Series::new("no session, resident", Unit::Megabytes);
    let relay = Relay::start();
    let runtime = Runtime::new().expect("tokio starts");
    runtime.block_on(async {
        let mut devices = vec![first(&relay, PreferCarrier::OnlyQuic).await];
        empty.push(memory(relay.running.child.id()).resident);
        for batch in (1..count).step_by(ATTACHING as usize) {
            let numbers = batch..count.min(batch + ATTACHING);
            let attaching = numbers.map(|number| {
                let prefer = match number % 2 {
                    0 => PreferCarrier::OnlyQuic,
                    _ => PreferCarrier::OnlyWebSocket,
                };
                relay.attach(number, prefer)
            });
            for device in join_all(attaching).await {
                devices.push(device.expect("a relay admits all that have a pass"));
            }
        }
        // One after the other: a burst of all is more than the relay's socket holds.
        for at in 0..devices.len() {
            let next = (at + 1) % devices.len();
            let to = devices[next].id;
            devices[at].send(to, &PACKET);
            let came = tokio::time::timeout(SOON, devices[next].datagrams.recv()).await;
            assert!(came.is_ok_and(|datagram| datagram.is_some()), "each is written to");
        }
        resident.push(memory(relay.running.child.id()).resident);
    });
    vec![resident, empty]
}

/// Waits until the relay serves.
async fn first(relay: &Relay, prefer: PreferCarrier) -> Device {
    let until = Instant::now() + SOON;
    loop {
        match relay.attach(0, prefer).await {
            Some(device) => return device,
            None => assert!(Instant::now() < until, "the relay does not serve"),
        }
    }
}

/// What one way carried.
struct Carried {
    megabits: f64,
    /// Milliseconds of processor for each GB (10⁹ bytes).
    cost: f64,
}

/// Bytes a second and processor time for each GB: over a relay alone and over the one in the server by either carrier, and over a
/// plain forwarder.
pub fn transfers(rounds: u32) -> Vec<Series> {
    let ways = [
        "relay alone, QUIC",
        "relay alone, WebSocket",
        "in the server, QUIC",
        "in the server, WebSocket",
        "plain forwarder",
    ];
    let rate = |way: &str| Series::new(format!("{way}: carried"), Unit::MegabitsPerSecond);
    let cost = |way: &str| Series::new(format!("{way}: processor for a GB"), Unit::Milliseconds);
    let mut series: Vec<_> = ways.iter().map(|way| (rate(way), cost(way))).collect();
    for _ in 0..rounds {
        let carried = [
            over_relay(PreferCarrier::OnlyQuic),
            over_relay(PreferCarrier::OnlyWebSocket),
            over_server(PreferCarrier::OnlyQuic),
            over_server(PreferCarrier::OnlyWebSocket),
            forwarded(),
        ];
        for ((rate, cost), carried) in series.iter_mut().zip(carried) {
            rate.push(carried.megabits);
            cost.push(carried.cost);
        }
    }
    series.into_iter().flat_map(|(rate, cost)| [rate, cost]).collect()
}

/// Counts what arrives while it is sent as fast as it goes.
fn count(process: u32, arrived: &AtomicU64) -> Carried {
    pass(BEFORE);
    let (bytes, cpu, start) = (arrived.load(Relaxed), process_cpu(process), Instant::now());
    pass(COUNTED);
    let bytes = (arrived.load(Relaxed) - bytes) as f64;
    let cpu = milliseconds(process_cpu(process) - cpu);
    Carried { megabits: bytes * 8.0 / start.elapsed().as_secs_f64() / 1e6, cost: cpu / (bytes / 1e9) }
}

fn over_relay(prefer: PreferCarrier) -> Carried {
    let relay = Relay::start();
    let runtime = Runtime::new().expect("tokio starts");
    let devices = runtime.block_on(async {
        let sender = first(&relay, prefer).await;
        [sender, relay.attach(1, prefer).await.expect("a relay admits all that have a pass")]
    });
    carry(&runtime, relay.running.child.id(), devices)
}

/// The same over the relay that every server has.
fn over_server(prefer: PreferCarrier) -> Carried {
    alone_with(&[], move |runtime, apid| {
        let devices = runtime.block_on(async {
            let token = apid.token(2).await.parse().expect("a token");
            [member(&token, 0, prefer).await, member(&token, 1, prefer).await]
        });
        carry(runtime, apid.id(), devices)
    })
}

/// One device sends the other as fast as it goes.
fn carry(runtime: &Runtime, process: u32, [mut sender, receiver]: [Device; 2]) -> Carried {
    let arrived = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        let (to, arrived) = (receiver.id, arrived.clone());
        tokio::spawn(async move {
            // All of it: the link ends with its other half.
            let receiver = receiver;
            let mut joiner = Joiner::default();
            while let Some(datagram) = receiver.datagrams.recv().await {
                let relayed = Relayed::parse(&datagram).expect("a relay sends datagrams");
                if let Some(payload) = joiner.take(&relayed, Mono::from_micros(0)) {
                    arrived.fetch_add(payload.len() as u64, Relaxed);
                }
            }
        });
        tokio::spawn(async move {
            loop {
                for _ in 0..BURST {
                    sender.send(to, &PACKET);
                }
                tokio::task::yield_now().await;
            }
        });
    });
    count(process, &arrived)
}

fn forwarded() -> Carried {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let own = std::env::current_exe().expect("Linux says who we are");
    let mut command = Command::new(own);
    let running = Running::start(command.args(["paths-forwarder", &FORWARDER.to_string()]), folder);
    let connected = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.connect(FORWARDER).expect("an address");
        socket
    };
    let (sender, receiver) = (connected(), connected());
    receiver.set_read_timeout(Some(BEFORE)).expect("a time");
    sender.set_read_timeout(Some(Duration::from_millis(1))).expect("a time");
    let mut buffer = [0; PACKET.len()];
    // Both are known to it once one has heard of the other.
    let known = until(SOON, || {
        let _ = sender.send(&PACKET);
        let _ = receiver.send(&PACKET);
        sender.recv(&mut buffer).ok()
    });
    assert!(known.is_some(), "the forwarder does not forward");
    let (over, arrived) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                // What there is no room for is lost.
                let _ = sender.send(&PACKET);
            }
        });
        scope.spawn(|| {
            let mut buffer = [0; PACKET.len()];
            while !over.load(Relaxed) {
                let length = receiver.recv(&mut buffer).unwrap_or(0);
                arrived.fetch_add(length as u64, Relaxed);
            }
        });
        let carried = count(running.child.id(), &arrived);
        over.store(true, Relaxed);
        carried
    })
}

//! The device as its owner holds it: made of interface, sockets and threads, and ended with them. Knows no packet
//! formats; what an update does is told in `shared`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

use chacha::Cipher;
use model::PublicKey;
use model::limits::MTU_DEFAULT;

use crate::inbound::Inbound;
use crate::io::tun::Tun;
use crate::io::udp::{Offload, Sockets};
use crate::offload::Joins;
use crate::outbound::Outbound;
use crate::path::{Carrier, Path, Probe, Way, is_probe};
use crate::priority;
use crate::shared::{Parts, Shared};
use crate::state::{DeviceState, PeerState};
use crate::task::TASKS_MAX;
use crate::uapi::server::Server;
use crate::update::{ApplyError, Update};
use crate::work::Worker;

/// Stack of each thread; packets are on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// How a device is made; MTU, port and mark can be changed afterwards.
#[derive(Debug, Clone)]
pub struct Config {
    /// MTU of the interface in bytes, 68 to 65535.
    pub mtu: u16,
    /// UDP port; 0 chooses a free one.
    pub listen_port: u16,
    /// `SO_MARK` of what is sent; 0 is none.
    pub fwmark: u32,
    /// Where `wg` finds the device's socket, see [`crate::UAPI_DIRECTORY`]. `None`: nowhere.
    pub uapi_directory: Option<PathBuf>,
    /// Whether that socket is made again when somebody removes it.
    pub uapi_returns: bool,
    /// What seals and opens packets.
    pub cipher: Cipher,
    /// Whether the kernel cuts and joins packets for us, as far as it can.
    pub offload: bool,
    /// Takes datagrams at the device's port that are not WireGuard's, such as probes of a path.
    pub probe: Option<Probe>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mtu: MTU_DEFAULT,
            listen_port: 0,
            fwmark: 0,
            uapi_directory: None,
            uapi_returns: false,
            cipher: Cipher::fastest(),
            offload: true,
            probe: None,
        }
    }
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The interface: its name is unusable or taken, or `CAP_NET_ADMIN` or `/dev/net/tun` is missing.
    #[error("interface {name} cannot be made")]
    Interface {
        /// As asked for.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The UDP sockets.
    #[error("udp port {port} cannot be bound")]
    Port {
        /// As asked for.
        port: u16,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket for `wg`.
    #[error("socket {path} cannot be made")]
    Uapi {
        /// The socket's path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The machine has no thread or event descriptor left.
    #[error("threads cannot be started")]
    Threads(#[source] io::Error),
}

/// A running device. Dropping it ends its threads and removes the interface, the sockets and all sessions.
pub struct Device {
    shared: Arc<Shared>,
    server: Option<Server>,
    threads: Vec<JoinHandle<()>>,
}

impl Device {
    /// Makes the interface and the sockets in the network namespace of the calling thread. The interface is down
    /// and has no address: that is the caller's to do.
    pub fn create(name: &str, config: Config) -> Result<Self, DeviceError> {
        let tun = Tun::create(name, config.mtu, config.offload)
            .map_err(|source| DeviceError::Interface { name: name.to_owned(), source })?;
        Self::run(name, tun, config)
    }

    /// A device whose packets come from and go to a descriptor instead of an interface: one end of a socket pair that
    /// keeps message borders (`SOCK_SEQPACKET`, unix(7)), each message a bare IP packet. The name is for people and
    /// for the socket of `wg`. Needs no privilege.
    pub fn over(name: &str, packets: OwnedFd, config: Config) -> Result<Self, DeviceError> {
        let tun = Tun::over(packets, config.mtu)
            .map_err(|source| DeviceError::Interface { name: name.to_owned(), source })?;
        Self::run(name, tun, config)
    }

    fn run(name: &str, tun: Tun, config: Config) -> Result<Self, DeviceError> {
        let udp_offload = Offload { gso: config.offload, gro: config.offload };
        let sockets = Sockets::bind(config.listen_port, config.fwmark, udp_offload)
            .map_err(|source| DeviceError::Port { port: config.listen_port, source })?;
        let (tasks, to_do) = sync_channel(TASKS_MAX);
        let socket = config.uapi_directory.map(|directory| directory.join(format!("{name}.sock")));
        let given = tun
            .set_offload(config.offload)
            .map_err(|source| DeviceError::Interface { name: name.to_owned(), source })?;
        let joins = Joins { tcp: given.tcp, udp: given.udp };
        let (fwmark, cipher) = (config.fwmark, config.cipher);
        let name = name.to_owned();
        let parts =
            Parts { name, tun, sockets, fwmark, joins, udp_offload, cipher, probe: config.probe, tasks };
        let shared = Arc::new(Shared::new(parts).map_err(DeviceError::Threads)?);
        let mut device = Self { shared: Arc::clone(&shared), server: None, threads: Vec::new() };
        let mut outbound = Outbound::new(Arc::clone(&shared));
        device.start("wg-out", move || {
            before_programs();
            outbound.run();
        })?;
        let mut inbound = Inbound::new(Arc::clone(&shared));
        device.start("wg-in", move || {
            before_programs();
            inbound.run();
        })?;
        let mut worker = Worker::new(shared);
        device.start("wg-work", move || worker.run(&to_do))?;
        if let Some(path) = socket {
            let server = Server::start(&path, config.uapi_returns, Arc::clone(&device.shared));
            device.server = Some(server.map_err(|source| DeviceError::Uapi { path, source })?);
        }
        Ok(device)
    }

    fn start(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), DeviceError> {
        let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let end = End(Arc::clone(&self.shared));
        let run = move || {
            let _end = end;
            run();
        };
        self.threads.push(builder.spawn(run).map_err(DeviceError::Threads)?);
        Ok(())
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Changes what the update says. A change of one peer costs the same with ten peers and with ten thousand.
    ///
    /// # Errors
    /// The update is applied whole or not at all. A new port is bound in the caller's network namespace.
    pub fn apply(&self, update: Update) -> Result<(), ApplyError> {
        self.shared.apply(update)
    }

    /// Begins a handshake with a peer although there is no packet for it. `false` if there is nothing to begin: no
    /// such peer, no endpoint, or a session that lives. The handshake is repeated as every other (WireGuard paper,
    /// section 6.4), and those of many peers are begun about 330 a second.
    pub fn begin_handshake(&self, key: &PublicKey) -> bool {
        self.shared.begin_handshake(key)
    }

    /// Everything, with all peers.
    pub fn snapshot(&self) -> DeviceState {
        self.shared.snapshot()
    }

    /// One peer, without a walk over the others.
    pub fn peer(&self, key: &PublicKey) -> Option<PeerState> {
        self.shared.peer_state(key)
    }

    /// The device's public key, if it was told a private one.
    pub fn public_key(&self) -> Option<PublicKey> {
        self.shared.local().map(|local| *local.public())
    }

    /// UDP port that the device listens on.
    pub fn listen_port(&self) -> u16 {
        self.shared.sockets.load().port()
    }

    /// Lets a peer's packets go this way from now on, wherever its own come from; `None` lets them go to where its next
    /// authentic packet comes from, as they do to a peer that was never steered. So does an update with an endpoint for
    /// it. A keepalive that was switched on while there was no way at all goes with the first. `false` if there is no such peer.
    pub fn steer(&self, key: &PublicKey, way: Option<Way>) -> bool {
        let Some(peer) = self.shared.find(key) else { return false };
        let waited = peer.waits_for_way();
        peer.steer(way);
        if waited {
            self.shared.begin_handshake(key);
        }
        true
    }

    /// Lets a peer's packets go to a carrier until it is heard elsewhere. `false` if there is no such peer.
    pub fn set_carrier(&self, key: &PublicKey, carrier: &Arc<dyn Carrier>) -> bool {
        let peer = self.shared.find(key);
        peer.inspect(|peer| peer.set_path(Path::Carrier(Arc::clone(carrier)))).is_some()
    }

    /// Sends a datagram that is not WireGuard's from the device's port. It must begin with a byte above 4, by which
    /// the other end tells it from a message, or be STUN's (RFC 8489): see [`Config::probe`].
    ///
    /// # Errors
    /// What sendto(2) says; `Unsupported` for a family that the machine does not have, `InvalidInput` for what
    /// could be taken for a message.
    pub fn send_probe(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        if !is_probe(datagram) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.send_sealed(datagram, to)
    }

    /// Sends a message that the device gave to a [`Carrier`] to an address as well, from the device's port and without waiting.
    ///
    /// # Errors
    /// As [`Self::send_probe`].
    pub fn send_sealed(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let sockets = self.shared.sockets.load();
        let socket = sockets.towards(&to).ok_or(io::ErrorKind::Unsupported)?;
        socket.send_to(datagram, &to.into()).map(|_| ())
    }

    /// Takes a WireGuard message that a carrier brought. It is lost if too many wait, or if it is longer than 65535
    /// bytes. Once it proves to be authentic,
    /// the peer's packets go to that carrier.
    pub fn receive(&self, carrier: &Arc<dyn Carrier>, message: &[u8]) {
        self.shared.carry(carrier, message);
    }

    /// Whether somebody deleted the interface, or a thread failed. The device does nothing any more; drop it and make
    /// another.
    pub fn is_gone(&self) -> bool {
        self.shared.is_gone()
    }

    /// For poll(2): readable once the device's threads have seen that it [is gone](Self::is_gone).
    pub fn gone(&self) -> BorrowedFd<'_> {
        self.shared.halted.as_fd()
    }
}

/// Ends the other threads with the one that holds it: a device that only sends or only receives is worse than none.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.halt();
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.shared.halt();
        self.server = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(interface = self.shared.name, "a thread of the device panicked");
            }
        }
        self.shared.let_go();
    }
}

/// Where that is not allowed, packets are carried like everything else.
fn before_programs() {
    if let Err(error) = priority::raise() {
        tracing::debug!(%error, "packets have no priority over programs");
    }
}

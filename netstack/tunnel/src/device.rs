//! The device as its owner holds it: made of interface, sockets and threads, and ended with them. Knows no packet
//! formats; what an update does is told in `shared`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use model::PublicKey;
use model::limits::MTU_DEFAULT;

use crate::inbound::Inbound;
use crate::outbound::{self, Outbound};
use crate::shared::Shared;
use crate::sockets::Sockets;
use crate::state::{DeviceState, PeerState};
use crate::tun::Tun;
use crate::uapi::server::Server;
use crate::update::{ApplyError, Update};

/// Stack of each thread; packets are on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// How a device is made; all of it but the directory can be changed afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// MTU of the interface in bytes, 68 to 65535.
    pub mtu: u16,
    /// UDP port; 0 chooses a free one.
    pub listen_port: u16,
    /// `SO_MARK` of what is sent; 0 is none.
    pub fwmark: u32,
    /// Where `wg` finds the device's socket, see [`crate::UAPI_DIRECTORY`]. `None`: nowhere.
    pub uapi_directory: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { mtu: MTU_DEFAULT, listen_port: 0, fwmark: 0, uapi_directory: None }
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
        let tun = Tun::create(name, config.mtu)
            .map_err(|source| DeviceError::Interface { name: name.to_owned(), source })?;
        let sockets = Sockets::bind(config.listen_port, config.fwmark)
            .map_err(|source| DeviceError::Port { port: config.listen_port, source })?;
        let shared = Arc::new(Shared::new(tun, sockets, config.fwmark).map_err(DeviceError::Threads)?);
        let mut device = Self { shared: Arc::clone(&shared), server: None, threads: Vec::new() };
        let mut outbound = Outbound::new(Arc::clone(&shared));
        device.start("wg-out", move || outbound.run())?;
        let mut inbound = Inbound::new(Arc::clone(&shared));
        device.start("wg-in", move || inbound.run())?;
        device.start("wg-time", move || outbound::keep_time(&shared))?;
        if let Some(directory) = config.uapi_directory {
            let path = directory.join(format!("{name}.sock"));
            let server = Server::start(&path, Arc::clone(&device.shared));
            device.server = Some(server.map_err(|source| DeviceError::Uapi { path, source })?);
        }
        Ok(device)
    }

    fn start(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), DeviceError> {
        let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        self.threads.push(builder.spawn(run).map_err(DeviceError::Threads)?);
        Ok(())
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        self.shared.tun.name()
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
        self.shared.peers().state(key)
    }

    /// The device's public key, if it was told a private one.
    pub fn public_key(&self) -> Option<PublicKey> {
        self.shared.identity().map(|identity| identity.key)
    }

    /// UDP port that the device listens on.
    pub fn listen_port(&self) -> u16 {
        self.shared.sockets.load().port()
    }

    /// Whether somebody deleted the interface. The device does nothing any more; drop it and make another.
    pub fn is_gone(&self) -> bool {
        self.shared.is_halted()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.shared.halt();
        self.server = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(interface = self.shared.tun.name(), "a thread of the device panicked");
            }
        }
        self.shared.let_go();
    }
}

//! What a WireGuard engine can do for a node, and which engines there are. Knows no address, route or tenant.

pub(crate) mod kernel;
pub(crate) mod userspace;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::SystemTime;

use engine::PeerSetting;
use ipnet::IpNet;
use model::{PrivateKey, PublicKey};

pub use tunnel::Crypto;

use crate::netlink::NetlinkError;

/// Which engine carries the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The kernel's, or none.
    Kernel,
    /// Our own, in this process.
    Userspace,
    /// The kernel's if it has one, else our own.
    #[default]
    Auto,
}

/// Not a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a WireGuard mode is auto, kernel or userspace")]
pub struct BadMode;

impl FromStr for Mode {
    type Err = BadMode;
    fn from_str(text: &str) -> Result<Self, BadMode> {
        match text {
            "kernel" => Ok(Self::Kernel),
            "userspace" => Ok(Self::Userspace),
            "auto" => Ok(Self::Auto),
            _ => Err(BadMode),
        }
    }
}

/// The engine in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The kernel's: outlives this process.
    Kernel,
    /// Our own: ends with this process.
    Userspace,
    /// Our own, over a stack of our own instead of an interface.
    Netstack,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
            Self::Netstack => "netstack",
        })
    }
}

/// How our own engine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// What seals packets.
    pub crypto: Crypto,
    /// Whether the kernel cuts and joins packets for it, as far as it can.
    pub offload: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { crypto: Crypto::default(), offload: true }
    }
}

impl Tuning {
    /// What of it is set and means nothing in a mode, as it is of our own engine.
    pub fn idle(&self, mode: Mode) -> Option<&'static str> {
        let default = Self::default();
        match mode {
            Mode::Kernel if self.crypto != default.crypto => Some("crypto"),
            Mode::Kernel if self.offload != default.offload => Some("offload"),
            _ => None,
        }
    }
}

/// A WireGuard device as its engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceState {
    /// The public half of its key, if it has one.
    pub public_key: Option<PublicKey>,
    /// UDP; 0 while it does not listen.
    pub listen_port: u16,
    /// Carried by what it sends (`SO_MARK`, socket(7)); 0 is none.
    pub mark: u32,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, PeerState>,
}

/// A peer as the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerState {
    /// What it may send from, and what is sent to it.
    pub allowed: BTreeSet<IpNet>,
    /// Where packets go now.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives; 0 is none.
    pub keepalive_seconds: u16,
    /// Wall time of the last handshake.
    pub last_handshake: Option<SystemTime>,
    /// Bytes received over the tunnel, with WireGuard's own.
    pub received_bytes: u64,
    /// Bytes sent over the tunnel, with WireGuard's own.
    pub sent_bytes: u64,
}

/// Why an engine did not do it.
#[derive(Debug, thiserror::Error)]
pub enum WireguardError {
    /// The running kernel has no WireGuard.
    #[error("the kernel has no WireGuard: modprobe wireguard, or mode auto or userspace")]
    NoKernelSupport,
    /// The kernel refused something of the interface.
    #[error("kernel WireGuard")]
    Netlink(#[from] NetlinkError),
    /// The kernel refused something of its peers.
    #[error("kernel WireGuard")]
    Peers(#[from] defguard_wireguard_rs::error::WireguardInterfaceError),
    /// The process has no descriptor left for the packets.
    #[error("a wire inside this process")]
    Descriptors(#[source] std::io::Error),
    /// Another program listens there.
    #[error(
        "udp port {port} is taken: `ss -lunp sport = :{port}` says by whom; end that, or set another --listen-port"
    )]
    PortTaken {
        /// As asked for.
        port: u16,
    },
    /// There is no interface to work on.
    #[error("there is no interface")]
    NoInterface,
    /// Our own engine did not start.
    #[error("userspace WireGuard")]
    Device(#[from] tunnel::DeviceError),
    /// Our own engine refused.
    #[error("userspace WireGuard")]
    Apply(#[from] tunnel::ApplyError),
}

/// An engine that holds one interface. Every call is one step, and doing it twice is as doing it once.
pub trait Wireguard: Send {
    /// Makes the interface.
    fn create(&mut self) -> Result<(), WireguardError>;
    /// Removes the interface and all that is on it.
    fn remove(&mut self) -> Result<(), WireguardError>;
    /// Sets the private key, the mark of what it sends to the underlay, and the port if one is given.
    fn set_device(&mut self, key: &PrivateKey, listen_port: Option<u16>) -> Result<(), WireguardError>;
    /// Makes or replaces one peer, in one operation. Its session goes on.
    fn set_peer(&mut self, peer: &PeerSetting) -> Result<(), WireguardError>;
    /// As [`Self::set_peer`] for a peer that the engine lost: a handshake begins at once, with no packet to send.
    ///
    /// A keepalive that is switched on goes at once, and without a session that is a handshake.
    fn resume_peer(&mut self, peer: &PeerSetting) -> Result<(), WireguardError> {
        if peer.keepalive_seconds == 0 {
            self.set_peer(&PeerSetting { keepalive_seconds: u16::MAX, ..peer.clone() })?;
        }
        self.set_peer(peer)
    }
    /// As [`Self::set_peer`] for a peer that may know no session any more: what there was is forgotten, and a handshake begins at
    /// once.
    fn renew_peer(&mut self, peer: &PeerSetting) -> Result<(), WireguardError> {
        self.remove_peer(&peer.key)?;
        self.resume_peer(peer)
    }
    /// Removes one peer; there being none is fine.
    fn remove_peer(&mut self, key: &PublicKey) -> Result<(), WireguardError>;
    /// Reads all of it; `None` if there is no interface of this engine.
    fn read(&mut self) -> Result<Option<DeviceState>, WireguardError>;
    /// Which engine it is.
    fn backend(&self) -> Backend;
}

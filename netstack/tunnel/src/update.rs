//! What to change on a device, and why that may be refused. Says nothing about how it is carried out.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use ipnet::IpNet;
use model::{PrivateKey, PublicKey};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A change of a device: the fields that are `None` stay as they are. Applied in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// `Some(None)` takes the key away. Another key ends all sessions; the same key ends none.
    pub private_key: Option<Option<PrivateKey>>,
    /// UDP port; 0 chooses a free one. The port that is in use already changes nothing.
    pub listen_port: Option<u16>,
    /// `SO_MARK` of what is sent (socket(7)); 0 is none.
    pub fwmark: Option<u32>,
    /// Whether all peers go before `peers` come.
    pub replace_peers: bool,
    /// Changes of peers, one after the other.
    pub peers: Vec<PeerUpdate>,
}

impl Update {
    /// Changes one peer and nothing else.
    pub fn peer(peer: PeerUpdate) -> Self {
        Self { peers: vec![peer], ..Self::default() }
    }
}

/// Why an update was refused. Nothing of it was applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The UDP port is taken, or may not be used.
    #[error("udp port {port} cannot be bound")]
    Port {
        /// As asked for.
        port: u16,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// `SO_MARK` needs `CAP_NET_ADMIN`.
    #[error("mark {mark} cannot be set")]
    Mark {
        /// As asked for.
        mark: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody deleted the interface.
    #[error("the interface is gone")]
    Gone,
}

impl ApplyError {
    /// The error number that answers `wg` (errno(3)).
    pub fn errno(&self) -> i32 {
        match self {
            Self::Port { source, .. } | Self::Mark { source, .. } => {
                source.raw_os_error().unwrap_or(nix::libc::EIO)
            }
            Self::Gone => nix::libc::ENODEV,
        }
    }
}

/// A change of one peer: the fields that are `None` stay as they are. Only its removal ends its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerUpdate {
    /// Which peer. The device's own key is passed over, as the kernel does.
    pub key: PublicKey,
    /// Takes the peer away; the other fields mean nothing then.
    pub remove: bool,
    /// Passes over a peer that is not there instead of adding it.
    pub update_only: bool,
    /// `Some(None)` takes the key away. The next handshake uses it.
    pub preshared_key: Option<Option<PresharedKey>>,
    /// Where to send; authenticated packets from elsewhere change it again.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives, 1 to 65535; 0 sends none.
    pub keepalive_seconds: Option<u16>,
    /// Whether all allowed IPs go before `allowed_ips` come.
    pub replace_allowed_ips: bool,
    /// Networks that become the peer's, also when another peer has them now. Host bits are ignored.
    pub allowed_ips: Vec<IpNet>,
    /// Networks that are the peer's no longer, if they were.
    pub disallowed_ips: Vec<IpNet>,
}

impl PeerUpdate {
    /// Adds the peer if it is not there, and changes nothing.
    pub const fn new(key: PublicKey) -> Self {
        Self {
            key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            keepalive_seconds: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
            disallowed_ips: Vec::new(),
        }
    }

    /// Takes the peer away.
    pub const fn removal(key: PublicKey) -> Self {
        let mut update = Self::new(key);
        update.remove = true;
        update
    }
}

/// A symmetric key mixed into the handshake (WireGuard paper, section 5.2). Never all zero.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; 32]);

impl PresharedKey {
    /// Takes the bytes as a key; all zero is no key.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Option<Self> {
        let key = (!bool::from(bytes.ct_eq(&[0; 32]))).then(|| Self(bytes));
        bytes.zeroize();
        key
    }

    /// The 32 bytes, for whoever must hold them too.
    pub fn expose(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0)
    }
}

impl PartialEq for PresharedKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for PresharedKey {}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

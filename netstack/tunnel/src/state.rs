//! What a device is now, as plain data. A picture of one moment; nothing in it changes the device.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::SystemTime;

use ipnet::IpNet;
use model::{PrivateKey, PublicKey};

use crate::update::PresharedKey;

/// A device and its peers, ordered by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// The interface.
    pub name: String,
    /// The device's key, if it was told one.
    pub private_key: Option<PrivateKey>,
    /// UDP port that it listens on.
    pub listen_port: u16,
    /// `SO_MARK` of what it sends; 0 is none.
    pub fwmark: u32,
    /// All peers.
    pub peers: Vec<PeerState>,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// Its public key.
    pub key: PublicKey,
    /// The key mixed into handshakes, if one is.
    pub preshared_key: Option<PresharedKey>,
    /// Where packets go: as configured, or where the last authenticated packet came from.
    pub endpoint: Option<SocketAddr>,
    /// Wall time of the last handshake that both sides completed.
    pub last_handshake: Option<SystemTime>,
    /// Bytes of authenticated UDP payload received, as the kernel counts them: without packets from addresses that are
    /// not the peer's.
    pub received_bytes: u64,
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Seconds between keepalives; 0 is none.
    pub keepalive_seconds: u16,
    /// What it may send from, and what is sent to it.
    pub allowed_ips: BTreeSet<IpNet>,
}

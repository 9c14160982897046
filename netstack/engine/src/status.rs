//! What a node can say of itself, as plain data for people, metrics and health checks.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use model::{
    AnchorKey, DeviceId, Endpoint, Held, HostKey, Label, MeshAddresses, Name, NodeId, PublicKey, Refusal,
    Standing, TenantId, TrustedKey,
};

use crate::change::Change;
use crate::paths::{Candidate, Mapping, PathStatus};
use crate::seat::Seat;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its link.
    pub link: LinkState,
    /// Whether it is to take part: not [`crate::Input::Down`].
    pub up: bool,
    /// A wish to join is pending.
    pub joining: bool,
    /// Its device id, once enrolled. `None` for a hub.
    pub device: Option<DeviceId>,
    /// No change left to make.
    pub settled: bool,
    /// What it holds, by tenant; one at most for a device.
    pub tenants: Vec<TenantStatus>,
    /// Changes that could not be made, in the order of work.
    pub failing: Vec<FailingChange>,
    /// Changes made because somebody else changed the host, since the program started.
    pub drift_total: u64,
    /// Why the server refused the link last, until it is attached again.
    pub last_refusal: Option<Refusal>,
    /// Why there is no link, until the node is attached again.
    pub link_error: Option<String>,
    /// What is wrong now, one line each. Empty when all is well.
    pub problems: Vec<String>,
    /// Where a device may be reached, as its peers are told.
    pub candidates: Vec<Candidate>,
    /// How the NAT before a device maps. `None`: nobody asked yet, or a hub.
    pub mapping: Option<Mapping>,
    /// Seconds between keepalives that keep a device in reach, as was learnt where it is; 0: none are needed. `None`: nobody knows, and
    /// they are the server's; or a hub.
    pub keepalive_seconds: Option<u16>,
}

/// How the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Not wanted: neither enrolled nor joining.
    Idle,
    /// Dialled again after so long.
    Waiting(Duration),
    /// Being made.
    Dialing,
    /// Made; both sides introduce themselves.
    Greeting,
    /// In use.
    Attached,
    /// Being dropped.
    Closing,
}

/// What is held of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantStatus {
    /// Whose directory.
    pub tenant: TenantId,
    /// The tenant's name.
    pub tenant_name: Label,
    /// The pinned anchor.
    pub anchor: AnchorKey,
    /// Which snapshot.
    pub held: Held,
    /// Whether the node may take part.
    pub standing: Standing,
    /// The node's name.
    pub name: Label,
    /// The zone of the tenant.
    pub zone: Name,
    /// The node's mesh addresses, while active.
    pub addresses: Option<MeshAddresses>,
    /// On which of the node's interfaces it is.
    pub seat: Seat,
    /// The keys of SSH authorities that are trusted, while the server says any.
    pub ssh_keys: Vec<TrustedKey>,
    /// Its peers, in a fixed order.
    pub peers: Vec<PeerStatus>,
    /// Why the newest snapshot was refused, until one is accepted.
    pub rejection: Option<String>,
}

/// A peer, as the snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its WireGuard key.
    pub key: PublicKey,
    /// Who it is.
    pub node: NodeId,
    /// Its name.
    pub name: Label,
    /// Its addresses and whatever else lies behind it.
    pub allowed: Vec<IpNet>,
    /// Where it answers, if that is fixed.
    pub endpoint: Option<Endpoint>,
    /// The endpoint's address as resolved last.
    pub endpoint_address: Option<SocketAddr>,
    /// Its plain SSH host key, if it told it.
    pub host_key: Option<HostKey>,
    /// How packets reach it, if it is talked to and has no fixed place.
    pub path: Option<PathStatus>,
}

/// A change that could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingChange {
    /// Which.
    pub change: Change,
    /// What the host said last.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again, counted from the last input.
    pub retry_after: Duration,
}

//! Everything that one node should be, at one generation. Holds nothing volatile: no candidate, no counter.

use std::time::Duration;

use ipnet::IpNet;
use minicbor::{Decode, Encode};

use crate::ability::Abilities;
use crate::address::{Block, Endpoint, MeshAddresses};
use crate::buckets::Buckets;
use crate::hub::HubKeys;
use crate::id::{NodeId, TenantId};
use crate::key::{AnchorSecret, Digest, PublicKey};
use crate::name::Label;
use crate::relay::RelayPlace;
use crate::signed::{Signed, Statement};
use crate::time::Timestamp;
use crate::trust::{OwnSsh, SshTrust};
use crate::version::{Held, Version};
use crate::zone::Zone;

/// The state of a node that its interface, peers, routes and names follow.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Snapshot {
    /// What the node itself is.
    #[n(0)]
    pub own: Own,
    /// Its WireGuard peers by their key.
    #[n(1)]
    pub peers: Buckets<PublicKey, Peer>,
    /// The names that it serves.
    #[n(2)]
    pub zone: Zone,
    /// What it trusts of SSH. `None` for a hub, and for devices that take no part or did not say that they understand it.
    #[n(3)]
    pub ssh: Option<SshTrust>,
}

/// What a node itself is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Own {
    /// Which node.
    #[n(0)]
    pub node: NodeId,
    /// Of which tenant.
    #[n(1)]
    pub tenant: TenantId,
    /// The tenant's name.
    #[n(2)]
    pub tenant_name: Label,
    /// Whether it may take part.
    #[n(3)]
    pub standing: Standing,
    /// Its name in the zone; `hub` for the hub.
    #[n(4)]
    pub name: Label,
    /// Its mesh addresses. `None` unless active.
    #[n(5)]
    pub addresses: Option<MeshAddresses>,
    /// The tenant's addresses: what a device routes into the tunnel, and all that a hub forwards.
    #[n(6)]
    pub block: Block,
    /// Of the interface, in bytes.
    #[n(7)]
    pub mtu: u16,
    /// The hub's keys, for devices. `None` while there is no hub yet.
    #[n(8)]
    pub hub_keys: Option<Signed<HubKeys>>,
    /// Relays on other machines, for devices; at most [`crate::limits::RELAYS_MAX`]. `None` if there is none: then the
    /// bytes, and so the digest, are those of a version that knew no relays.
    #[n(9)]
    pub relays: Option<Vec<RelayPlace>>,
    /// Who may be whom on the device by an SSH certificate. There where [`Snapshot::ssh`] is.
    #[n(10)]
    pub ssh: Option<OwnSsh>,
    /// Of a hub: the UDP port of the interface that the tenant has for itself. `None`: it is on the one that tenants share, and the
    /// bytes are those of a version that knew no other.
    #[n(11)]
    pub hub_port: Option<u16>,
}

/// Whether a node may take part in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Standing {
    /// Enrolled, but an administrator has not approved it: no peer, no name, no address.
    #[n(0)]
    Pending,
    /// Takes part.
    #[n(1)]
    Active,
    /// Removed for good: takes everything down and does not come back.
    #[n(2)]
    Revoked,
    /// Its time is over, until an administrator gives it more. Told to who knows [`crate::Abilities::STANDINGS`].
    #[n(3)]
    Expired,
    /// Its tenant is closed, until it is restored. Told to the same.
    #[n(4)]
    Closed,
}

impl Standing {
    /// Every standing there is.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Active, Self::Revoked, Self::Expired, Self::Closed];

    /// As it is told to a program that may not know them all: whoever does not waits, as for an approval.
    #[must_use]
    pub const fn told_to(self, abilities: Abilities) -> Self {
        match self {
            Self::Expired | Self::Closed if !abilities.has(Abilities::STANDINGS) => Self::Pending,
            known => known,
        }
    }

    /// As people and the API see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Closed => "closed",
        }
    }
}

/// One WireGuard peer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Peer {
    /// Who it is.
    #[n(0)]
    pub node: NodeId,
    /// Its name in the zone.
    #[n(1)]
    pub name: Label,
    /// What it may send from and what is sent to it, sorted.
    #[cbor(n(2), with = "crate::address::cbor::nets")]
    pub allowed: Vec<IpNet>,
    /// Where it answers, for a peer that is reachable at a fixed place.
    #[n(3)]
    pub endpoint: Option<Endpoint>,
    /// Seconds between keepalives; 0 is none.
    #[n(4)]
    pub keepalive_seconds: u16,
}

impl Peer {
    /// The keepalive as a duration, if there is one.
    pub const fn keepalive(&self) -> Option<Duration> {
        match self.keepalive_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds as u64)),
        }
    }
}

impl Snapshot {
    /// A snapshot without peers or names.
    pub fn empty(own: Own, zone: Zone) -> Self {
        Self { own, peers: Buckets::new(), zone, ssh: None }
    }

    /// The digest that the stamp carries. Costs what changed since it was computed last.
    pub fn digest(&mut self) -> Digest {
        let ssh = self.ssh.as_mut().map(SshTrust::digest);
        digest_of_parts(&self.own, self.peers.digest(), self.zone.digest(), ssh)
    }
}

/// The first bytes of a snapshot's CBOR: what only this node has. [`tail_bytes`] follow, with or without SSH as here.
pub fn head_bytes(own: &Own, with_ssh: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut e = minicbor::Encoder::new(&mut bytes);
    let parts = if with_ssh { 4 } else { 3 };
    e.map(parts).and_then(|e| e.u32(0)).and_then(|e| e.encode(own)).expect("writing to memory cannot fail");
    bytes
}

/// The last bytes of a snapshot's CBOR: what a server shares among all devices of a tenant.
pub fn tail_bytes(peers: &Buckets<PublicKey, Peer>, zone: &Zone, ssh: Option<&SshTrust>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut e = minicbor::Encoder::new(&mut bytes);
    e.u32(1)
        .and_then(|e| e.encode(peers))
        .and_then(|e| e.u32(2))
        .and_then(|e| e.encode(zone))
        .expect("writing to memory cannot fail");
    if let Some(ssh) = ssh {
        e.u32(3).and_then(|e| e.encode(ssh)).expect("writing to memory cannot fail");
    }
    bytes
}

/// The digest of a snapshot from its parts, for a server that shares one zone among all nodes of a tenant. Without SSH it
/// is what a version that knew none computes.
pub fn digest_of_parts(own: &Own, peers: Digest, zone: Digest, ssh: Option<Digest>) -> Digest {
    let own = minicbor::to_vec(own).expect("writing to memory cannot fail");
    let own = Digest::of("warren own 1", &[&own]);
    let parts = [Some(own), Some(peers), Some(zone), ssh];
    let parts: Vec<&[u8]> = parts.iter().flatten().map(|part| &part.as_bytes()[..]).collect();
    Digest::of("warren snapshot 1", &parts)
}

/// What the anchor signs of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Stamp {
    /// Whose directory.
    #[n(0)]
    pub tenant: TenantId,
    /// For which node.
    #[n(1)]
    pub node: NodeId,
    /// Epoch and generation.
    #[n(2)]
    pub version: Version,
    /// Of the snapshot.
    #[n(3)]
    pub digest: Digest,
    /// The server counted its peers against an independent figure and means it, even if most are gone.
    #[n(4)]
    pub confirms_removals: bool,
    /// When it was signed, for people.
    #[n(5)]
    pub issued_at: Timestamp,
}

impl Stamp {
    /// What a node holds once it accepted this.
    pub const fn held(&self) -> Held {
        Held { version: self.version, digest: self.digest }
    }

    /// Signs the stamp.
    pub fn sign(&self, anchor: &AnchorSecret) -> Signed<Self> {
        Signed::new(self, anchor)
    }
}

impl Statement for Stamp {
    const DOMAIN: &'static str = "warren stamp 1";
}

//! What the host says now, as far as it concerns one interface of the node. Reads nothing itself: the shell does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ipnet::IpNet;
use model::PublicKey;

use crate::change::{Change, Firewall, PeerSetting, ResolverSetting};

/// What the host says now. The shell reports all of it or an error, never a part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The WireGuard interface, if it exists.
    pub interface: Option<ObservedInterface>,
    /// What has its place and is ours, but of another engine than the one in use: making the interface replaces it.
    pub left: Option<Box<ObservedInterface>>,
    /// The firewall table of ours, if it is there and as we write it. One that was tampered with is `None`, and spoiled.
    pub firewall: Option<Firewall>,
    /// There is a table of ours that is not as we write it.
    pub spoiled: bool,
    /// Whether packets are forwarded, in both families.
    pub forwarding: bool,
    /// What the machine's resolver was told for this interface. `None` also where the node has no resolver to tell.
    pub resolver: Option<ResolverSetting>,
}

/// The interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedInterface {
    /// Administratively up.
    pub up: bool,
    /// In bytes.
    pub mtu: u16,
    /// The public half of its key, once it has one.
    pub public_key: Option<PublicKey>,
    /// UDP; 0 while there is none.
    pub listen_port: u16,
    /// Its addresses with their prefix, without link-local ones (RFC 4291, section 2.5.6).
    pub addresses: BTreeSet<IpNet>,
    /// The routes through it in the table where ours go, without those that the kernel makes itself. One that packets of
    /// the mesh are not led to counts for none.
    pub routes: BTreeSet<IpNet>,
    /// The routes through it where the underlay's own packets find their way, too.
    pub strays: BTreeSet<IpNet>,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, ObservedPeer>,
}

/// A peer of the interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedPeer {
    /// What it may send from.
    pub allowed: BTreeSet<IpNet>,
    /// Where it was heard last, or where it was set to be. Roams, and so is compared only if `stale`.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives; 0 is none.
    pub keepalive_seconds: u16,
    /// No handshake for [`crate::STALE_AFTER`] though one was due: a peer with an endpoint that has not answered. One that never did, and
    /// is elsewhere than it was set to be, is it sooner.
    pub stale: bool,
}

impl Observed {
    /// Whether nothing of an interface is there.
    pub fn is_bare(&self) -> bool {
        self.there().is_none() && self.firewall.is_none() && !self.spoiled
    }

    /// The interface, of whichever engine.
    pub(crate) fn there(&self) -> Option<&ObservedInterface> {
        self.interface.as_ref().or(self.left.as_deref())
    }

    /// As if a peer were nowhere.
    pub(crate) fn lose_endpoint(&mut self, key: &PublicKey) {
        if let Some(peer) = self.interface.as_mut().and_then(|interface| interface.peers.get_mut(key)) {
            peer.endpoint = None;
        }
    }

    /// Whether the interface has a peer.
    pub(crate) fn has_peer(&self, key: &PublicKey) -> bool {
        self.interface.as_ref().is_some_and(|interface| interface.peers.contains_key(key))
    }

    /// What the host will say once `change` was done to it; `own` is the public half of the node's key.
    pub fn apply(&mut self, change: &Change, own: &PublicKey) {
        match change {
            Change::CreateInterface => {
                self.left = None;
                self.interface.get_or_insert_default();
            }
            Change::RemoveInterface => (self.interface, self.left) = (None, None),
            Change::SetFirewall(firewall) => {
                (self.firewall, self.spoiled) = (Some(firewall.clone()), false);
            }
            Change::RemoveFirewall => (self.firewall, self.spoiled) = (None, false),
            Change::SetForwarding(on) => self.forwarding = *on,
            Change::SetResolver(setting) => self.resolver = Some(setting.clone()),
            Change::ClearResolver => self.resolver = None,
            _ => {
                if let Some(interface) = &mut self.interface {
                    interface.apply(change, own);
                }
            }
        }
    }
}

impl ObservedInterface {
    fn apply(&mut self, change: &Change, own: &PublicKey) {
        match change {
            Change::SetDevice { listen_port } => {
                self.public_key = Some(*own);
                self.listen_port = listen_port.unwrap_or(self.listen_port);
            }
            Change::SetMtu(mtu) => self.mtu = *mtu,
            Change::SetUp => self.up = true,
            Change::AddAddress(net) => {
                self.addresses.insert(*net);
            }
            Change::RemoveAddress(net) => {
                self.addresses.remove(net);
            }
            Change::AddRoute(net) => {
                self.routes.insert(*net);
            }
            Change::RemoveRoute(net) => {
                self.routes.remove(net);
            }
            Change::RemoveStray(net) => {
                self.strays.remove(net);
            }
            Change::SetPeer(setting) => self.peers.entry(setting.key).or_default().take(setting),
            Change::RemovePeer(key) => {
                self.peers.remove(key);
            }
            Change::CreateInterface
            | Change::RemoveInterface
            | Change::SetFirewall(_)
            | Change::RemoveFirewall
            | Change::SetForwarding(_)
            | Change::SetResolver(_)
            | Change::ClearResolver => {}
        }
    }
}

impl ObservedPeer {
    fn take(&mut self, setting: &PeerSetting) {
        self.allowed.clone_from(&setting.allowed);
        self.endpoint = setting.endpoint.or(self.endpoint);
        self.keepalive_seconds = setting.keepalive_seconds;
    }
}

//! The kernel's WireGuard: peers through defguard's interface to it, one peer in one message whatever the number of
//! peers. The interface stays when this process ends.

use std::collections::BTreeSet;
use std::time::SystemTime;

use defguard_wireguard_rs::error::WireguardInterfaceError;
use defguard_wireguard_rs::host::Host;
use defguard_wireguard_rs::key::Key;
use defguard_wireguard_rs::net::IpAddrMask;
use defguard_wireguard_rs::peer::Peer;
use defguard_wireguard_rs::{Kernel as KernelApi, WGApi, WireguardInterfaceApi as _};
use engine::PeerSetting;
use ipnet::IpNet;
use model::{PrivateKey, PublicKey};
use netlink_packet_generic::GenlMessage;
use netlink_packet_wireguard::{WireguardAttribute, WireguardCmd, WireguardMessage};
use nix::errno::Errno;

use crate::interface::InterfaceName;
use crate::links::{Kind, Links, MARK};
use crate::netlink::{Netlink, NetlinkError};
use crate::paths::{Road, Seen};
use crate::pointer;
use crate::wireguard::{Backend, DeviceState, PeerState, Wireguard, WireguardError};

/// The kernel's engine.
///
/// Three things of defguard's interface would do more than they should, and are done here: `create_interface` brings
/// the interface up before it has a key and loses the kernel's reason; `remove_interface` also edits routing rules and
/// the resolver; `configure_interface`, the only way to a key and a port, takes all addresses and peers away.
pub(crate) struct Kernel {
    interface: InterfaceName,
    links: Links,
    peers: WGApi<KernelApi>,
    /// Where its peers are steered.
    road: Road,
    /// How many peers were read last.
    peers_read: usize,
}

impl Kernel {
    pub(crate) fn open(interface: &InterfaceName, road: Road) -> Result<Self, WireguardError> {
        let peers = WGApi::new(interface.as_str())?;
        Ok(Self { interface: interface.clone(), links: Links::open()?, peers, road, peers_read: 0 })
    }

    /// Whether the running kernel has WireGuard; loads its module where that is all that is missing.
    pub(crate) fn probe() -> Result<(), WireguardError> {
        let netlink = Netlink::open(netlink_sys::protocols::NETLINK_GENERIC);
        family(&mut netlink.map_err(NetlinkError::Socket)?).map(drop)
    }

    /// Whether there is a WireGuard interface of the name.
    fn is_there(&self) -> Result<bool, NetlinkError> {
        Ok(self.links.find(&self.interface)?.is_some_and(|link| link.kind == Kind::Wireguard))
    }

    /// defguard's errors are texts: whether the interface is missing has to be looked up.
    fn done(&self, result: Result<(), WireguardInterfaceError>) -> Result<(), WireguardError> {
        match result {
            Err(_) if !self.is_there()? => Err(WireguardError::NoInterface),
            other => Ok(other?),
        }
    }
}

impl Wireguard for Kernel {
    fn create(&mut self) -> Result<(), WireguardError> {
        match self.links.create_wireguard(&self.interface) {
            Err(error) if error.errno() == Some(Errno::EOPNOTSUPP as i32) => {
                Err(WireguardError::NoKernelSupport)
            }
            other => Ok(other?),
        }
    }

    fn remove(&mut self) -> Result<(), WireguardError> {
        match self.links.find(&self.interface)? {
            Some(link) if link.kind == Kind::Wireguard => Ok(self.links.remove(link.index)?),
            _ => Ok(()),
        }
    }

    fn set_device(&mut self, key: &PrivateKey, listen_port: Option<u16>) -> Result<(), WireguardError> {
        let mut attributes = vec![
            WireguardAttribute::IfName(self.interface.to_string()),
            WireguardAttribute::PrivateKey(*key.expose()),
            WireguardAttribute::Fwmark(MARK),
        ];
        attributes.extend(listen_port.map(WireguardAttribute::ListenPort));
        let mut netlink =
            Netlink::open(netlink_sys::protocols::NETLINK_GENERIC).map_err(NetlinkError::Socket)?;
        let mut message =
            GenlMessage::from_payload(WireguardMessage { cmd: WireguardCmd::SetDevice, attributes });
        message.set_resolved_family_id(family(&mut netlink)?);
        match netlink.request(message) {
            Err(error) if error.errno() == Some(Errno::ENODEV as i32) => Err(WireguardError::NoInterface),
            Err(error) if error.errno() == Some(Errno::EADDRINUSE as i32) => {
                Err(listen_port
                    .map_or(WireguardError::Netlink(error), |port| WireguardError::PortTaken { port }))
            }
            other => Ok(other.map(|_| ())?),
        }
    }

    fn set_peer(&mut self, peer: &PeerSetting) -> Result<(), WireguardError> {
        // One message that replaces the networks, and the endpoint only where one is given.
        let mut wanted = Peer::new(Key::new(*peer.key.as_bytes()));
        wanted.allowed_ips =
            peer.allowed.iter().map(|n| IpAddrMask::new(n.network(), n.prefix_len())).collect();
        // One that is steered is heard at once, and not when its handshake is repeated.
        wanted.endpoint = peer.endpoint.or_else(|| self.road.place_of(&peer.key));
        wanted.persistent_keepalive_interval = Some(peer.keepalive_seconds);
        self.done(self.peers.configure_peer(&wanted))?;
        self.road.turn_again(&peer.key);
        Ok(())
    }

    fn remove_peer(&mut self, key: &PublicKey) -> Result<(), WireguardError> {
        self.done(self.peers.remove_peer(&Key::new(*key.as_bytes())))
    }

    fn read(&mut self) -> Result<Option<DeviceState>, WireguardError> {
        let state = self.look()?;
        let seen = |(key, peer): (&PublicKey, &PeerState)| {
            let PeerState { endpoint, sent_bytes, received_bytes, .. } = *peer;
            (*key, Seen { endpoint, sent_bytes, received_bytes })
        };
        let seen = state.as_ref().map(|state| (state.listen_port, state.peers.iter().map(seen).collect()));
        self.road.seen(&self.interface, seen);
        Ok(state)
    }

    fn backend(&self) -> Backend {
        Backend::Kernel
    }
}

impl Kernel {
    fn look(&mut self) -> Result<Option<DeviceState>, WireguardError> {
        if !self.is_there()? {
            return Ok(None);
        }
        let mut host = self.peers.read_interface_data();
        // When somebody removes a peer while the kernel tells of it, it tells of no further ones; it says so in a
        // flag that defguard does not look at. Fewer peers than before are therefore looked at twice.
        if host.as_ref().is_ok_and(|host| host.peers.len() < self.peers_read) {
            host = self.peers.read_interface_data();
        }
        match host {
            Ok(host) => {
                self.peers_read = host.peers.len();
                Ok(Some(state(host)))
            }
            Err(_) if !self.is_there()? => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The number of the `wireguard` family, if the kernel has it.
fn family(netlink: &mut Netlink) -> Result<u16, WireguardError> {
    pointer::family(netlink)?.ok_or(WireguardError::NoKernelSupport)
}

fn state(host: Host) -> DeviceState {
    let public = |key: Key| PrivateKey::from_bytes(key.as_array()).public();
    DeviceState {
        public_key: host.private_key.map(public),
        listen_port: host.listen_port,
        mark: host.fwmark.unwrap_or_default(),
        peers: host
            .peers
            .into_iter()
            .map(|(key, peer)| (PublicKey::from_bytes(key.as_array()), peer_state(&peer)))
            .collect(),
    }
}

fn peer_state(peer: &Peer) -> PeerState {
    let net = |mask: &IpAddrMask| IpNet::new(mask.address, mask.cidr).ok();
    PeerState {
        allowed: peer.allowed_ips.iter().filter_map(net).collect::<BTreeSet<_>>(),
        endpoint: peer.endpoint,
        keepalive_seconds: peer.persistent_keepalive_interval.unwrap_or_default(),
        // The kernel says 0 where there was none.
        last_handshake: peer.last_handshake.filter(|at| *at > SystemTime::UNIX_EPOCH),
        received_bytes: peer.rx_bytes,
        sent_bytes: peer.tx_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_not_is_none_and_the_private_key_stays_behind() {
        let mut host = Host::default();
        assert_eq!(state(host.clone()), DeviceState::default());
        let own = PrivateKey::from_bytes([1; 32]);
        host.private_key = Some(Key::new(*own.expose()));
        let mut silent = Peer::new(Key::new([7; 32]));
        silent.last_handshake = Some(SystemTime::UNIX_EPOCH);
        silent.allowed_ips = vec![IpAddrMask::new("100.64.0.2".parse().unwrap(), 32)];
        host.peers.insert(silent.public_key.clone(), silent);
        let read = state(host);
        assert_eq!(read.public_key, Some(own.public()));
        let peer = &read.peers[&PublicKey::from_bytes([7; 32])];
        assert_eq!((peer.last_handshake, peer.keepalive_seconds, peer.endpoint), (None, 0, None));
        assert_eq!(peer.allowed, ["100.64.0.2/32".parse().unwrap()].into());
    }
}

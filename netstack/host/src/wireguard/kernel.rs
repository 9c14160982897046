//! The kernel's WireGuard over generic netlink (`linux/wireguard.h`). One peer is one message, whatever the
//! number of peers; the interface stays when this process ends.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use engine::PeerSetting;
use ipnet::IpNet;
use model::{PrivateKey, PublicKey};
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd,
    WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags,
};
use nix::errno::Errno;

use crate::interface::InterfaceName;
use crate::links::{Kind, Links};
use crate::netlink::{Netlink, NetlinkError};
use crate::wireguard::{Backend, DeviceState, PeerState, Wireguard, WireguardError};

/// The kernel's engine.
pub(crate) struct Kernel {
    interface: InterfaceName,
    links: Links,
    netlink: Netlink,
    /// The number of the `wireguard` family, once it was asked for: it changes only when the module is reloaded.
    family: Option<u16>,
}

impl Kernel {
    pub(crate) fn open(interface: &InterfaceName) -> Result<Self, NetlinkError> {
        let netlink = Netlink::open(netlink_sys::protocols::NETLINK_GENERIC)?;
        Ok(Self { interface: interface.clone(), links: Links::open()?, netlink, family: None })
    }

    fn family(&mut self) -> Result<u16, WireguardError> {
        if let Some(family) = self.family {
            return Ok(family);
        }
        let name = GenlCtrlAttrs::FamilyName("wireguard".into());
        let ask = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![name] };
        let answers = match self.netlink.request(GenlMessage::from_payload(ask), 0) {
            Err(error) if error.errno() == Some(Errno::ENOENT as i32) => {
                return Err(WireguardError::NoKernelSupport);
            }
            other => other?,
        };
        let number =
            answers.iter().flat_map(|answer| &answer.payload.nlas).find_map(|attribute| match attribute {
                GenlCtrlAttrs::FamilyId(id) => Some(*id),
                _ => None,
            });
        self.family = number;
        number.ok_or(WireguardError::NoKernelSupport)
    }

    fn request(
        &mut self,
        cmd: WireguardCmd,
        attributes: Vec<WireguardAttribute>,
        flags: u16,
    ) -> Result<Vec<WireguardMessage>, WireguardError> {
        let family = self.family()?;
        let mut all = vec![WireguardAttribute::IfName(self.interface.to_string())];
        all.extend(attributes);
        let mut message = GenlMessage::from_payload(WireguardMessage { cmd, attributes: all });
        message.set_resolved_family_id(family);
        match self.netlink.request(message, flags) {
            Err(error) if error.errno() == Some(Errno::ENODEV as i32) => Err(WireguardError::NoInterface),
            answers => Ok(answers?.into_iter().map(|answer| answer.payload).collect()),
        }
    }

    fn set(&mut self, attributes: Vec<WireguardAttribute>) -> Result<(), WireguardError> {
        self.request(WireguardCmd::SetDevice, attributes, 0).map(|_| ())
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
        let mut attributes = vec![WireguardAttribute::PrivateKey(*key.expose())];
        attributes.extend(listen_port.map(WireguardAttribute::ListenPort));
        self.set(attributes)
    }

    fn set_peer(&mut self, peer: &PeerSetting) -> Result<(), WireguardError> {
        self.set(vec![WireguardAttribute::Peers(vec![peer_message(peer)])])
    }

    fn remove_peer(&mut self, key: &PublicKey) -> Result<(), WireguardError> {
        let peer = WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey(*key.as_bytes()),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe | WireguardPeerFlags::UpdateOnly),
        ]);
        self.set(vec![WireguardAttribute::Peers(vec![peer])])
    }

    fn read(&mut self) -> Result<Option<DeviceState>, WireguardError> {
        match self.request(WireguardCmd::GetDevice, Vec::new(), NLM_F_DUMP) {
            Ok(parts) => Ok(Some(merge(parts))),
            Err(WireguardError::NoInterface) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn backend(&self) -> Backend {
        Backend::Kernel
    }
}

fn peer_message(peer: &PeerSetting) -> WireguardPeer {
    let mut attributes = vec![
        WireguardPeerAttribute::PublicKey(*peer.key.as_bytes()),
        WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps),
        WireguardPeerAttribute::PersistentKeepalive(peer.keepalive_seconds),
    ];
    attributes.extend(peer.endpoint.map(WireguardPeerAttribute::Endpoint));
    attributes.push(WireguardPeerAttribute::AllowedIps(peer.allowed.iter().map(allowed_message).collect()));
    WireguardPeer(attributes)
}

fn allowed_message(net: &IpNet) -> WireguardAllowedIp {
    let family =
        if net.addr().is_ipv4() { WireguardAddressFamily::Ipv4 } else { WireguardAddressFamily::Ipv6 };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(net.network()),
        WireguardAllowedIpAttr::Cidr(net.prefix_len()),
    ])
}

/// A dump comes in parts; a peer with many networks may stand in two of them.
fn merge(parts: Vec<WireguardMessage>) -> DeviceState {
    let mut state = DeviceState::default();
    for attribute in parts.into_iter().flat_map(|part| part.attributes) {
        match attribute {
            WireguardAttribute::PublicKey(bytes) if bytes != [0; 32] => {
                state.public_key = Some(PublicKey::from_bytes(bytes));
            }
            WireguardAttribute::ListenPort(port) => state.listen_port = port,
            WireguardAttribute::Peers(peers) => {
                peers.into_iter().for_each(|peer| merge_peer(&mut state, peer));
            }
            _ => {}
        }
    }
    state
}

fn merge_peer(state: &mut DeviceState, WireguardPeer(attributes): WireguardPeer) {
    let key = attributes.iter().find_map(|attribute| match attribute {
        WireguardPeerAttribute::PublicKey(bytes) => Some(PublicKey::from_bytes(*bytes)),
        _ => None,
    });
    let Some(key) = key else { return };
    let peer: &mut PeerState = state.peers.entry(key).or_default();
    for attribute in attributes {
        match attribute {
            WireguardPeerAttribute::Endpoint(endpoint) => peer.endpoint = Some(endpoint),
            WireguardPeerAttribute::PersistentKeepalive(seconds) => peer.keepalive_seconds = seconds,
            WireguardPeerAttribute::LastHandshake(at) => {
                peer.last_handshake = since_epoch(at.seconds, at.nano_seconds);
            }
            WireguardPeerAttribute::RxBytes(bytes) => peer.received_bytes = bytes,
            WireguardPeerAttribute::TxBytes(bytes) => peer.sent_bytes = bytes,
            WireguardPeerAttribute::AllowedIps(nets) => peer.allowed.extend(read_allowed(&nets)),
            _ => {}
        }
    }
}

fn since_epoch(seconds: i64, nanoseconds: i64) -> Option<SystemTime> {
    let (seconds, nanoseconds) = (u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
    (seconds > 0).then(|| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds))
}

fn read_allowed(nets: &[WireguardAllowedIp]) -> BTreeSet<IpNet> {
    let net = |WireguardAllowedIp(attributes): &WireguardAllowedIp| {
        let (mut address, mut prefix) = (None::<IpAddr>, None);
        for attribute in attributes {
            match attribute {
                WireguardAllowedIpAttr::IpAddr(a) => address = Some(*a),
                WireguardAllowedIpAttr::Cidr(p) => prefix = Some(*p),
                _ => {}
            }
        }
        IpNet::new(address?, prefix?).ok()
    };
    nets.iter().filter_map(net).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{Emitable as _, NlaBuffer, Parseable as _};

    fn setting() -> PeerSetting {
        PeerSetting {
            key: PublicKey::from_bytes([7; 32]),
            allowed: ["100.64.0.0/16", "fd00::/48", "100.65.0.2/32"].map(|n| n.parse().unwrap()).into(),
            endpoint: "[2001:db8::1]:51820".parse().ok(),
            keepalive_seconds: 25,
        }
    }

    /// Through the bytes that the kernel would see.
    fn over_the_wire(message: &[WireguardAttribute]) -> WireguardMessage {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let attributes = netlink_packet_core::NlasIterator::new(&bytes[..])
            .map(|nla| WireguardAttribute::parse(&NlaBuffer::new(nla.unwrap().into_inner())).unwrap())
            .collect();
        WireguardMessage { cmd: WireguardCmd::GetDevice, attributes }
    }

    #[test]
    fn a_peer_set_is_one_message_and_reads_back_as_it_was() {
        let message = over_the_wire(&[WireguardAttribute::Peers(vec![peer_message(&setting())])]);
        let state = merge(vec![message]);
        let peer = &state.peers[&setting().key];
        assert_eq!(state.peers.len(), 1);
        assert_eq!(peer.allowed, setting().allowed);
        assert_eq!(peer.endpoint, setting().endpoint);
        assert_eq!(peer.keepalive_seconds, 25);
        assert_eq!(peer.last_handshake, None);
    }

    #[test]
    fn a_peer_without_endpoint_leaves_the_endpoint_alone() {
        let WireguardPeer(attributes) = peer_message(&PeerSetting { endpoint: None, ..setting() });
        assert!(!attributes.iter().any(|a| matches!(a, WireguardPeerAttribute::Endpoint(_))));
        assert!(attributes.contains(&WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps)));
    }

    #[test]
    fn a_peer_in_two_parts_of_a_dump_is_one() {
        let part = |net: &str| {
            let peer = PeerSetting { allowed: [net.parse().unwrap()].into(), ..setting() };
            over_the_wire(&[WireguardAttribute::Peers(vec![peer_message(&peer)])])
        };
        let state = merge(vec![part("100.64.0.2/32"), part("100.64.0.3/32")]);
        assert_eq!(state.peers[&setting().key].allowed.len(), 2);
    }
}

//! Where the kernel's WireGuard sends a peer's packets, one peer at a time. Knows no path, and nothing else of a peer.

use std::io;
use std::net::SocketAddr;

use model::PublicKey;
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{
    WireguardAttribute, WireguardCmd, WireguardMessage, WireguardPeer, WireguardPeerAttribute,
    WireguardPeerFlags,
};
use nix::errno::Errno;

use crate::interface::InterfaceName;
use crate::netlink::{Netlink, NetlinkError};

/// Points peers of an interface of the kernel's somewhere, and changes nothing else of them.
pub(crate) struct Pointer {
    interface: InterfaceName,
    /// With the family's number; `None` until it is needed, and after a failure.
    open: Option<(Netlink, u16)>,
}

impl Pointer {
    pub(crate) fn new(interface: &InterfaceName) -> Self {
        Self { interface: interface.clone(), open: None }
    }

    /// A peer that is not there stays away.
    pub(crate) fn point(&mut self, peer: &PublicKey, to: SocketAddr) -> Result<(), NetlinkError> {
        let (mut netlink, family) = match self.open.take() {
            Some(open) => open,
            None => {
                let mut netlink = Netlink::open(netlink_sys::protocols::NETLINK_GENERIC)?;
                let family = family(&mut netlink)?.ok_or_else(|| io::Error::from(Errno::EOPNOTSUPP))?;
                (netlink, family)
            }
        };
        let pointed = WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey(*peer.as_bytes()),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::UpdateOnly),
            WireguardPeerAttribute::Endpoint(to),
        ]);
        let attributes = vec![
            WireguardAttribute::IfName(self.interface.to_string()),
            WireguardAttribute::Peers(vec![pointed]),
        ];
        let mut message =
            GenlMessage::from_payload(WireguardMessage { cmd: WireguardCmd::SetDevice, attributes });
        message.set_resolved_family_id(family);
        netlink.request(message)?;
        self.open = Some((netlink, family));
        Ok(())
    }
}

/// The number of the `wireguard` family, if the kernel has it: it changes when the module is loaded again.
pub(crate) fn family(netlink: &mut Netlink) -> Result<Option<u16>, NetlinkError> {
    let name = GenlCtrlAttrs::FamilyName("wireguard".into());
    let ask = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![name] };
    let answers = match netlink.request(GenlMessage::from_payload(ask)) {
        Err(error) if error.errno() == Some(Errno::ENOENT as i32) => {
            return Ok(None);
        }
        other => other?,
    };
    let number =
        answers.iter().flat_map(|answer| &answer.payload.nlas).find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(id) => Some(*id),
            _ => None,
        });
    Ok(number)
}

//! Where a peer's packets go: to a UDP address, or to whatever else carries them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::io::udp::outbox::Outbox;
use crate::io::udp::{Endpoint, Sockets};

/// Takes WireGuard messages somewhere that is not our UDP socket, such as a relay. What it brings back is given to
/// [`crate::Device::receive`].
pub trait Carrier: Send + Sync {
    /// Sends messages, in order, without waiting: what there is no room for is lost, as in any network.
    fn send(&self, messages: &mut dyn Iterator<Item = &[u8]>);
    /// For people: `relay fra1`.
    fn name(&self) -> &str;
}

/// The one way of a peer's packets, until it is steered again.
#[derive(Clone)]
pub enum Way {
    /// Over UDP to this address.
    To(SocketAddr),
    /// By a carrier.
    By(Arc<dyn Carrier>),
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(remote) => f.debug_tuple("To").field(remote).finish(),
            Self::By(carrier) => f.debug_tuple("By").field(&carrier.name()).finish(),
        }
    }
}

/// Takes datagrams that are not WireGuard's: their first byte is above 4, or they are STUN's (RFC 8489). It is called by
/// the thread that reads the sockets, which waits for it.
#[derive(Clone)]
pub struct Probe(Arc<Take>);

type Take = dyn Fn(&[u8], SocketAddr) + Send + Sync;

impl Probe {
    /// The function is told the datagram and who sent it.
    pub fn new(take: impl Fn(&[u8], SocketAddr) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    pub(crate) fn take(&self, datagram: &[u8], from: SocketAddr) {
        (self.0)(datagram, from);
    }
}

/// Whether a datagram is told from WireGuard's messages, whose reserved bytes are zero (WireGuard paper, section 5.4): by its
/// first byte, or as STUN's, whose types have a second byte.
pub(crate) fn is_probe(datagram: &[u8]) -> bool {
    match datagram {
        [first, ..] if *first > 4 => true,
        [0, ..] | [1..=3, 1..=255, ..] => stun::is_stun(datagram),
        _ => false,
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe(..)")
    }
}

/// What a carrier brought.
pub(crate) struct Carried {
    pub(crate) by: Arc<dyn Carrier>,
    pub(crate) datagram: Box<[u8]>,
}

/// The path of one peer.
#[derive(Clone)]
pub(crate) enum Path {
    Udp(Endpoint),
    Carrier(Arc<dyn Carrier>),
}

impl Path {
    /// Whether both lead to one place, from whatever address of ours.
    pub(crate) fn leads_as(&self, other: &Self) -> bool {
        match (self.udp(), other.udp()) {
            (Some(this), Some(other)) => this.remote == other.remote,
            _ => self == other,
        }
    }

    pub(crate) fn udp(&self) -> Option<Endpoint> {
        match self {
            Self::Udp(endpoint) => Some(*endpoint),
            Self::Carrier(_) => None,
        }
    }
}

impl Path {
    /// Sends one message of a traffic class (RFC 2474). Says whether our address of the path has become unusable; it went out from another then.
    pub(crate) fn send(
        &self,
        message: &[u8],
        class: u8,
        sockets: &Sockets,
        outbox: &mut Outbox,
        now: Instant,
    ) -> bool {
        let endpoint = match self {
            Self::Udp(endpoint) => *endpoint,
            Self::Carrier(carrier) => {
                carrier.send(&mut std::iter::once(message));
                return false;
            }
        };
        outbox.push(0..message.len(), message.len(), endpoint, class);
        let report = outbox.send(sockets, message, now);
        // Lost like any datagram that there is no room for.
        outbox.clear();
        for lost in &report.lost {
            tracing::debug!(to = %endpoint.remote, error = %lost.error, "datagram not sent");
        }
        !report.stale.is_empty()
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Udp(a), Self::Udp(b)) => a == b,
            (Self::Carrier(a), Self::Carrier(b)) => Arc::ptr_eq(a, b),
            (Self::Udp(_), Self::Carrier(_)) | (Self::Carrier(_), Self::Udp(_)) => false,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(endpoint) => endpoint.remote.fmt(f),
            Self::Carrier(carrier) => f.write_str(carrier.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_told_from_messages() {
        let stun = |kind: [u8; 2], bytes: usize| {
            let mut message = vec![0; bytes];
            message[..2].copy_from_slice(&kind);
            message[4..8].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
            message
        };
        let check = |datagram: &[u8], expect| assert_eq!(is_probe(datagram), expect, "{datagram:?}");
        check(&[], false);
        check(&[5], true);
        check(&[0xD7, 0, 0, 0], true);
        check(&stun([0, 1], 20), true);
        check(&stun([1, 1], 32), true);
        check(&stun([1, 0x11], 20), true);
        check(&stun([0, 1], 19), false);
        // As a message of WireGuard could be.
        for kind in 1..=4 {
            check(&stun([kind, 0], 148), false);
        }
        check(&[0; 20], false);
    }
}

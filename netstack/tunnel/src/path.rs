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

/// Takes datagrams that are not WireGuard's: their first byte is above 4. It is called by the thread that reads the
/// sockets, which waits for it.
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

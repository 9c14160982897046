//! Datagrams from the network: handshakes answered, data opened, checked and written to the interface.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use boringtun::noise::TunnResult;
use model::{Digest, PublicKey};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use crate::identity::Identity;
use crate::initiation::{Claimed, INITIATION_BYTES};
use crate::load::Load;
use crate::outbound::transmit;
use crate::peer::{ControlBuffer, Peer};
use crate::shared::Shared;
use crate::sockets::{Endpoint, Sockets, receive};

/// The largest datagram that UDP has.
const DATAGRAM_BYTES: usize = 65_535;
/// Datagrams taken from one socket before the other has its turn.
const TURN: usize = 64;

/// The thread that reads the sockets.
pub(crate) struct Inbound {
    shared: Arc<Shared>,
    load: Load,
    datagram: Box<[u8]>,
    opened: Box<[u8]>,
    control: ControlBuffer,
}

impl Inbound {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            load: Load::new(Instant::now()),
            datagram: vec![0; DATAGRAM_BYTES].into(),
            opened: vec![0; DATAGRAM_BYTES].into(),
            control: [0; 160],
        }
    }

    /// Until the device is halted.
    pub(crate) fn run(&mut self) {
        let mut sockets = self.shared.sockets.load_full();
        while !self.shared.is_halted() {
            self.wait(&sockets);
            if self.shared.rebound.read().is_ok() {
                sockets = self.shared.sockets.load_full();
            }
            for socket in sockets.each() {
                self.take_turn(socket);
            }
        }
    }

    fn wait(&self, sockets: &Sockets) {
        let mut each = sockets.each().map(AsFd::as_fd);
        let first = each.next().expect("sockets have one family at least");
        let second = each.next().unwrap_or(first);
        let events = [self.shared.halted.as_fd(), self.shared.rebound.as_fd()];
        let mut fds = [events[0], events[1], first, second].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        if let Err(error) = poll(&mut fds, PollTimeout::NONE)
            && error != Errno::EINTR
        {
            tracing::error!(%error, "the sockets cannot be waited for");
            self.shared.halt();
        }
    }

    fn take_turn(&mut self, socket: &Socket) {
        for _ in 0..TURN {
            match receive(socket, &mut self.datagram) {
                Ok((length, from)) => self.handle(length, from),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => tracing::debug!(%error, "no datagram"),
            }
        }
    }

    /// Message types and lengths of the WireGuard paper, section 5.4; the reserved bytes are zero.
    fn handle(&mut self, length: usize, from: Endpoint) {
        match (&self.datagram[..length], length) {
            ([4, 0, 0, 0, ..], 32..) => self.data(length, from),
            ([1, 0, 0, 0, ..], INITIATION_BYTES) => self.initiation(from),
            ([2, 0, 0, 0, ..], 92) => self.response(length, from),
            ([3, 0, 0, 0, ..], 64) => self.cookie(length),
            _ => tracing::trace!(from = %from.remote, "not a message of WireGuard"),
        }
    }

    fn data(&mut self, length: usize, from: Endpoint) {
        let Some((index, peer)) = self.find(4) else { return };
        let now = Instant::now();
        let mut session = peer.lock();
        let urgent = if session.is_behind(now) { session.tick(now, &mut self.control) } else { 0 };
        let opened = session.open(index, &self.datagram[..length], from, now, &mut self.opened);
        let endpoint = session.endpoint;
        self.shared.schedule(&peer, &mut session, now);
        drop(session);
        transmit(&self.shared, &peer, endpoint, &self.control[..urgent]);
        let Some(opened) = opened else {
            tracing::trace!(peer = %peer.key, from = %from.remote, "data not authentic, or not new");
            return;
        };
        if opened.bytes > 0 {
            self.deliver(&peer, opened.bytes);
        }
        if opened.confirms {
            self.release(&peer, now);
        }
    }

    /// A packet is written only if its source is the peer's.
    fn deliver(&self, peer: &Arc<Peer>, length: usize) {
        let packet = &self.opened[..length];
        let allowed = source(packet).is_some_and(|source| {
            self.shared.peers().routes.lookup(source).is_some_and(|p| Arc::ptr_eq(p, peer))
        });
        if !allowed {
            tracing::debug!(peer = %peer.key, "packet from an address that is not the peer's");
        } else if let Err(error) = self.shared.tun.write(packet) {
            tracing::debug!(%error, "packet refused by the interface");
        }
    }

    /// Sends what waited for the session.
    fn release(&mut self, peer: &Peer, now: Instant) {
        loop {
            let mut session = peer.lock();
            let bytes = session.seal_waiting(now, &mut self.opened);
            let endpoint = session.endpoint;
            drop(session);
            if bytes == 0 {
                return;
            }
            transmit(&self.shared, peer, endpoint, &self.opened[..bytes]);
        }
    }

    fn initiation(&mut self, from: Endpoint) {
        let Some(identity) = self.admit(INITIATION_BYTES, &from) else { return };
        let message: &[u8; INITIATION_BYTES] =
            self.datagram[..INITIATION_BYTES].try_into().expect("as long as it is");
        let Some(claimed) = Claimed::open(message, &identity.secret, &identity.public) else { return };
        let Some(peer) = self.shared.peers().find(&PublicKey::from_bytes(claimed.key)) else {
            tracing::debug!(from = %from.remote, "handshake from a key that is no peer's");
            return;
        };
        let now = Instant::now();
        let mut session = peer.lock();
        // Under the lock, so that what follows from the key is not kept beyond a change of it.
        let is_current = self.shared.identity().is_some_and(|current| Arc::ptr_eq(&current, &identity));
        if !is_current || !session.accept(&peer, &identity, &claimed, now) {
            tracing::debug!(peer = %peer.key, from = %from.remote, "handshake forged, replayed or too soon");
            return;
        }
        if session.is_behind(now) {
            // What time asks for is not sent: the answer below does the same and more.
            session.tick(now, &mut self.control);
        }
        if !session.wake(&peer, Some(&identity), &self.shared.indices, now) {
            return;
        }
        let bytes = session.respond(message, from, now, &mut self.control);
        let endpoint = session.endpoint;
        self.shared.schedule(&peer, &mut session, now);
        drop(session);
        transmit(&self.shared, &peer, endpoint, &self.control[..bytes]);
    }

    fn response(&mut self, length: usize, from: Endpoint) {
        if self.admit(length, &from).is_none() {
            return;
        }
        let Some((index, peer)) = self.find(8) else { return };
        let now = Instant::now();
        let mut session = peer.lock();
        let bytes = session.finish(index, &self.datagram[..length], from, now, &mut self.control);
        let endpoint = session.endpoint;
        self.shared.schedule(&peer, &mut session, now);
        drop(session);
        if bytes > 0 {
            transmit(&self.shared, &peer, endpoint, &self.control[..bytes]);
            self.release(&peer, now);
        }
    }

    fn cookie(&mut self, length: usize) {
        if let Some((index, peer)) = self.find(4) {
            peer.lock().take_cookie(index, &self.datagram[..length], &mut self.control);
        }
    }

    /// The peer whose index is at this place of the datagram.
    fn find(&self, at: usize) -> Option<(u32, Arc<Peer>)> {
        let receiver = self.datagram[at..at + 4].try_into().expect("four bytes");
        self.shared.indices.find(receiver)
    }

    /// Whether a handshake message is worth the work. Under load its sender must show a cookie first.
    fn admit(&mut self, length: usize, from: &Endpoint) -> Option<Arc<Identity>> {
        let identity = self.shared.identity()?;
        let message = &self.datagram[..length];
        identity.unlimited.verify_packet(None, message, &mut []).ok()?;
        let now = Instant::now();
        if !self.load.challenges(now) {
            return Some(identity);
        }
        match identity.challenging.verify_packet(Some(cookie_source(from.remote)), message, &mut self.control)
        {
            Ok(_) => self.load.admits(from.remote.ip(), now).then_some(identity),
            Err(TunnResult::WriteToNetwork(cookie)) => {
                if let Err(error) = self.shared.sockets.load().send(cookie, from) {
                    tracing::debug!(to = %from.remote, %error, "cookie not sent");
                }
                None
            }
            Err(_) => None,
        }
    }
}

/// The cookie is for an address and a port (WireGuard paper, section 5.4.7), but boringtun makes it of an address:
/// this one stands for both.
fn cookie_source(from: SocketAddr) -> IpAddr {
    let ip = match from.ip() {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    };
    let digest = Digest::of("warren cookie source 1", &[&ip.octets(), &from.port().to_be_bytes()]);
    let (half, _) = digest.as_bytes().split_at(16);
    Ipv6Addr::from(<[u8; 16]>::try_from(half).expect("half of 32")).into()
}

/// The source of an IP packet whose length boringtun checked.
fn source(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?)),
        6 => Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_for_one_port_of_one_address() {
        let of = |from: &str| cookie_source(from.parse().expect("an address"));
        assert_eq!(of("192.0.2.1:1"), of("192.0.2.1:1"));
        assert_ne!(of("192.0.2.1:1"), of("192.0.2.1:2"));
        assert_ne!(of("192.0.2.1:1"), of("192.0.2.2:1"));
    }

    #[test]
    fn the_source_is_read_from_both_families() {
        let mut v4 = [0; 20];
        v4[0] = 0x45;
        v4[12..16].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(source(&v4), "192.0.2.1".parse().ok());
        let mut v6 = [0; 40];
        v6[0] = 0x60;
        v6[23] = 1;
        assert_eq!(source(&v6), "::1".parse().ok());
        assert_eq!((source(&[]), source(&[0x45; 8]), source(&[0x15; 40])), (None, None, None));
    }
}

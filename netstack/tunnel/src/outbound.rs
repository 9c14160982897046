//! Packets from the interface to the peers, and what peers send when time asks for it.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::Tunn;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::peer::{ControlBuffer, Peer};
use crate::shared::Shared;
use crate::sockets::Endpoint;

/// The largest packet that IP has, and its padding.
const PACKET_BYTES: usize = 65_535 + PADDING;
/// Plaintext is padded to a multiple of this (WireGuard paper, section 5.4.6).
const PADDING: usize = 16;
/// Header and tag of a data message (WireGuard paper, section 5.4.6).
const OVERHEAD: usize = 32;
/// How long a changed MTU may go unnoticed: until then padding may reach 15 bytes beyond it.
const MTU_AGE_MAX: Duration = Duration::from_secs(1);

/// The thread that reads the interface.
pub(crate) struct Outbound {
    shared: Arc<Shared>,
    packet: Box<[u8]>,
    sealed: Box<[u8]>,
    control: ControlBuffer,
    mtu: usize,
    mtu_seen: Option<Instant>,
}

impl Outbound {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            packet: vec![0; PACKET_BYTES].into(),
            sealed: vec![0; PACKET_BYTES + OVERHEAD].into(),
            control: [0; 160],
            mtu: 0,
            mtu_seen: None,
        }
    }

    /// Until the device is halted or the interface is gone.
    pub(crate) fn run(&mut self) {
        while !self.shared.is_halted() {
            match self.shared.tun.read(&mut self.packet[..PACKET_BYTES - PADDING]) {
                Ok(length) => self.send(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(),
                Err(error) => {
                    tracing::info!(interface = self.shared.tun.name(), %error, "interface is gone");
                    self.shared.halt();
                }
            }
        }
    }

    fn wait(&self) {
        let mut fds = [
            PollFd::new(self.shared.tun.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shared.halted.as_fd(), PollFlags::POLLIN),
        ];
        if let Err(error) = poll(&mut fds, PollTimeout::NONE)
            && error != Errno::EINTR
        {
            tracing::error!(%error, "the interface cannot be waited for");
            self.shared.halt();
        }
    }

    fn send(&mut self, length: usize) {
        let Some(peer) = self.receiver(length) else {
            tracing::trace!("no peer has the destination");
            return;
        };
        let now = Instant::now();
        let padded = self.pad(length, now);
        let mut session = peer.lock();
        if session.endpoint.is_none() {
            return;
        }
        let urgent = if session.is_behind(now) { session.tick(now, &mut self.control) } else { 0 };
        let identity = self.shared.identity();
        if !session.wake(&peer, identity.as_deref(), &self.shared.indices, now) {
            return;
        }
        let bytes = session.seal(&self.packet[..padded], now, &mut self.sealed);
        let endpoint = session.endpoint;
        self.shared.schedule(&peer, &mut session, now);
        drop(session);
        transmit(&self.shared, &peer, endpoint, &self.control[..urgent]);
        transmit(&self.shared, &peer, endpoint, &self.sealed[..bytes]);
    }

    fn receiver(&self, length: usize) -> Option<Arc<Peer>> {
        let destination = Tunn::dst_address(&self.packet[..length])?;
        self.shared.peers().routes.lookup(destination).map(Arc::clone)
    }

    /// Zeroes up to the next multiple of 16, but not beyond the MTU, as the kernel does.
    fn pad(&mut self, length: usize, now: Instant) -> usize {
        let padded = length.next_multiple_of(PADDING);
        if padded == length {
            return length;
        }
        if self.mtu_seen.is_none_or(|at| now.saturating_duration_since(at) >= MTU_AGE_MAX) {
            self.mtu_seen = Some(now);
            self.mtu = self.shared.tun.mtu().unwrap_or(self.mtu);
        }
        let padded = padded.min(self.mtu.max(length));
        self.packet[length..padded].fill(0);
        padded
    }
}

/// Sends one message, none if it is empty. The peer's lock is not held.
pub(crate) fn transmit(shared: &Shared, peer: &Peer, endpoint: Option<Endpoint>, message: &[u8]) {
    let Some(endpoint) = endpoint else { return };
    if message.is_empty() {
        return;
    }
    match shared.sockets.load().send(message, &endpoint) {
        Ok(false) => {}
        Ok(true) => peer.lock().forget_local(&endpoint),
        Err(error) => tracing::debug!(peer = %peer.key, to = %endpoint.remote, %error, "datagram not sent"),
    }
}

/// The thread that waits for the peers' deadlines, until the device is halted.
pub(crate) fn keep_time(shared: &Shared) {
    let mut control: ControlBuffer = [0; 160];
    while let Some((at, peer)) = shared.timers.next() {
        let now = Instant::now();
        let mut session = peer.lock();
        if session.due != Some(at) {
            continue;
        }
        session.due = None;
        if session.wants_machine(now) {
            let identity = shared.identity();
            session.wake(&peer, identity.as_deref(), &shared.indices, now);
        }
        let bytes = session.tick(now, &mut control);
        let endpoint = session.endpoint;
        shared.schedule(&peer, &mut session, now);
        drop(session);
        transmit(shared, &peer, endpoint, &control[..bytes]);
    }
}

//! The thread that does whatever is not a data packet: handshakes, timers, and packets that waited for a session.
//!
//! One thread, so that a flood of handshakes costs one core's share and no transfer; its queue is bounded, and what
//! does not fit is lost as on a network.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use chacha::{Job, TAG_BYTES};
use wireguard::limits::{DATA_HEADER_BYTES, DATA_OVERHEAD_BYTES, padded};
use wireguard::noise::Claimed;
use wireguard::{Finished, KeyPair, Time};
use zeroize::Zeroizing;

use crate::clock;
use crate::io::udp::kernel::Tails;
use crate::io::udp::outbox::Outbox;
use crate::ip::{self, HANDSHAKE_CLASS};
use crate::path::Path;
use crate::peer::{Lease, Peer};
use crate::random;
use crate::shared::Shared;
use crate::task::{Handshake, Task};

/// Nothing is ever due later than a wipe, nine minutes; a wait is cut there.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// The thread.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    outbox: Outbox,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, outbox: Outbox::new(Tails::of_this_kernel()) }
    }

    /// Until the device is halted.
    pub(crate) fn run(&mut self, tasks: &Receiver<Task>) {
        while !self.shared.is_halted() && self.step(tasks) {}
    }

    /// Looks at one peer whose time has come and does one task, or waits for either: of thousands that are due together
    /// each makes an initiation, and their answers must not wait for the last. False if there will be no more tasks.
    fn step(&mut self, tasks: &Receiver<Task>) -> bool {
        let now = self.shared.clock.now();
        if let Some(peer) = self.shared.wheel.take(now) {
            self.tick(&peer, now);
        }
        let wait =
            self.shared.wheel.first().map_or(WAIT_MAX, |at| at.since(self.shared.clock.now()).min(WAIT_MAX));
        match tasks.recv_timeout(wait) {
            Ok(task) => self.take(task),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// Does one task.
    pub(crate) fn take(&mut self, task: Task) {
        match task {
            Task::Handshake(handshake) => self.take_handshake(&handshake),
            Task::Peer(peer) => {
                peer.answer();
                self.look_at(&peer);
            }
            Task::Look => {}
        }
    }

    fn take_handshake(&mut self, handshake: &Handshake) {
        let message = &handshake.bytes[..handshake.length];
        match message[0] {
            1 => self.initiation(&handshake.bytes, &handshake.from),
            2 => self.response(message.try_into().expect("sorted by length"), &handshake.from),
            3 => self.cookie(message.try_into().expect("sorted by length")),
            other => unreachable!("message type {other} is no handshake"),
        }
    }

    fn initiation(&mut self, message: &[u8; 148], from: &Path) {
        let Some(local) = self.shared.local() else { return };
        let Some(claimed) = Claimed::open(&local, message) else { return };
        let Some(peer) = self.shared.find(claimed.key()) else {
            tracing::debug!(%from, "handshake from a key that is no peer's");
            return;
        };
        let now = self.shared.clock.now();
        let mut machine = peer.lock();
        // Under the lock, so that what follows from the key is not kept beyond a change of it.
        if !self.shared.local().is_some_and(|current| Arc::ptr_eq(&current, &local)) {
            return;
        }
        let Some(accepted) = machine.accept(&local, &peer.key, claimed, now) else {
            tracing::debug!(peer = %peer.key, %from, "handshake forged, replayed or too soon");
            return;
        };
        let mut ephemeral = Zeroizing::new([0; 32]);
        let Some(lease) = means(&self.shared, &peer, &mut ephemeral) else { return };
        let Some(response) = machine.respond(accepted, lease, &ephemeral, now) else { return };
        machine.handshake_came(now);
        machine.handshake_went(now);
        drop(machine);
        peer.count_received(message.len());
        // It is answered the way it came, and moves nobody who has a way: what the peer sends over the session does. It may have come from what
        // is about to end, or over somebody who held it back.
        if !peer.has_path() {
            peer.heard(from);
        }
        self.send_by(from, &peer, &response, HANDSHAKE_CLASS);
        // A way that is steered may be the better one. Or closed, and whoever steers it does not know yet: a peer that was restarted is behind
        // another hole of its NAT.
        if peer.is_steered() && !peer.path().is_some_and(|path| path.leads_as(from)) {
            self.send_to(&peer, &response, HANDSHAKE_CLASS);
        }
        self.shared.arm(&peer);
    }

    fn response(&mut self, message: &[u8; 92], from: &Path) {
        let index = u32::from_le_bytes(message[8..12].try_into().expect("four bytes"));
        let Some(peer) = self.shared.sessions.get(index).map(|session| Arc::clone(&session.peer)) else {
            return;
        };
        let now = self.shared.clock.now();
        let mut machine = peer.lock();
        let Some(local) = self.shared.local() else { return };
        let Some(finished) = machine.finish(&local, index, message, now, clock::wall()) else { return };
        machine.handshake_came(now);
        drop(machine);
        peer.count_received(message.len());
        peer.heard(from);
        self.send_waiting(&peer, finished);
    }

    fn cookie(&mut self, message: &[u8; 64]) {
        let index = u32::from_le_bytes(message[4..8].try_into().expect("four bytes"));
        if let Some(session) = self.shared.sessions.get(index)
            && !session.peer.lock().take_cookie(index, message, self.shared.clock.now())
        {
            tracing::debug!(peer = %session.peer.key, "a cookie does not fit");
        }
    }

    /// Somebody wants a session for the peer: sends what waits if there is one, and begins a handshake unless one is
    /// under way.
    fn look_at(&mut self, peer: &Arc<Peer>) {
        let now = self.shared.clock.now();
        let mut machine = peer.lock();
        let finished = machine.take_waiting(now);
        let initiates = machine.wants_session(now) && machine.wants_initiation(now);
        drop(machine);
        if let Some(finished) = finished {
            self.send_waiting(peer, finished);
        }
        if initiates {
            self.initiate(peer, now);
        }
    }

    fn tick(&mut self, peer: &Arc<Peer>, now: Time) {
        let mut machine = peer.lock();
        let tick = machine.tick(now);
        let has_waiting = machine.has_waiting();
        drop(machine);
        if tick.forget_local {
            peer.forget_local();
        }
        if tick.initiate {
            self.initiate(peer, now);
        }
        if tick.keepalive
            && let Some(pair) = peer.machine().current().as_ref()
        {
            self.send_waiting(peer, Finished::keepalive(Arc::clone(pair)));
        }
        if has_waiting {
            self.look_at(peer);
        }
        self.shared.arm(peer);
    }

    fn initiate(&mut self, peer: &Arc<Peer>, now: Time) {
        if !peer.has_path() {
            return;
        }
        let mut ephemeral = Zeroizing::new([0; 32]);
        let Some(lease) = means(&self.shared, peer, &mut ephemeral) else { return };
        let mut machine = peer.lock();
        let Some(local) = self.shared.local() else { return };
        let message = machine.initiate(&local, &peer.key, lease, &ephemeral, now, clock::wall());
        drop(machine);
        if let Some(message) = message {
            tracing::debug!(peer = %peer.key, "handshake begun");
            self.send_to(peer, &message, HANDSHAKE_CLASS);
            self.shared.arm(peer);
        }
    }

    /// Sends what waited for the session, or a keepalive if nothing did, and what came to wait meanwhile.
    fn send_waiting(&mut self, peer: &Arc<Peer>, finished: Finished) {
        let mut next = Some(finished);
        while let Some(finished) = next {
            self.send_finished(peer, finished);
            next = peer.lock().take_waiting(self.shared.clock.now());
        }
    }

    fn send_finished(&mut self, peer: &Arc<Peer>, finished: Finished) {
        let now = self.shared.clock.now();
        let has_data = !finished.waiting.is_empty();
        let mtu = self.shared.tun.mtu().unwrap_or_default();
        let keepalive = (!has_data).then(Box::default);
        for packet in finished.waiting.into_iter().chain(keepalive) {
            let Some(message) = seal(&self.shared, &finished.pair, &packet, mtu, now) else { return };
            self.send_to(peer, &message, ip::encapsulated_ecn(&packet));
        }
        let wants = peer.machine().sent(&finished.pair, has_data, now);
        self.shared.follow(peer, wants);
    }

    fn send_to(&mut self, peer: &Peer, message: &[u8], class: u8) {
        if let Some(path) = peer.path() {
            self.send_by(&path, peer, message, class);
        }
    }

    fn send_by(&mut self, path: &Path, peer: &Peer, message: &[u8], class: u8) {
        peer.count_sent(message.len());
        let now = self.shared.clock.instant(self.shared.clock.now());
        if path.send(message, class, &self.shared.sockets.load(), &mut self.outbox, now) {
            peer.forget_local();
        }
    }
}

/// What a handshake needs: an index, and randomness. That is written to where the caller wipes it.
fn means(shared: &Shared, peer: &Arc<Peer>, ephemeral: &mut [u8; 32]) -> Option<Lease> {
    random::try_fill(ephemeral)?;
    Lease::new(&shared.sessions, peer, u32::from_le_bytes(random::try_bytes()?))
}

/// A data message with one packet, or a keepalive of an empty one. `None` if the session seals no more.
fn seal(shared: &Shared, pair: &KeyPair, packet: &[u8], mtu: usize, now: Time) -> Option<Vec<u8>> {
    let counter = pair.claim(1, now)?;
    let mut message = Vec::with_capacity(packet.len() + DATA_OVERHEAD_BYTES + 16);
    message.extend([4, 0, 0, 0]);
    message.extend(pair.remote_index().to_le_bytes());
    message.extend(counter.to_le_bytes());
    message.extend(packet);
    message.resize(DATA_HEADER_BYTES + padded(packet.len(), mtu) + TAG_BYTES, 0);
    let bytes = &mut message[DATA_HEADER_BYTES..];
    shared.cipher.seal([Job { key: pair.sealing(), counter, bytes }]);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_waits_for_one_of_the_peers_that_are_due_and_not_for_all() {
        let (shared, to_do) = Shared::alone();
        let peer = |number| Peer::new(model::PublicKey::from_bytes([1; 32]), number, number);
        let due = shared.clock.now();
        for number in 0..3 {
            shared.wheel.arm(&peer(number), due);
        }
        let asking = peer(3);
        shared.ask_handshake(&asking);
        assert!(!asking.ask());
        assert!(Worker::new(Arc::clone(&shared)).step(&to_do));
        assert!(asking.ask(), "it was looked at");
        assert_eq!(std::iter::from_fn(|| shared.wheel.take(due)).count(), 2);
    }
}

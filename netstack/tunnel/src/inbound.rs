//! Datagrams from the network: data opened in place, checked, joined and written to the interface; handshakes
//! admitted and handed on.
//!
//! ```text
//!   sockets ─▶ inbox: │ header, text, tag │ … ──open──▶ window ─▶ allowed source ─▶ joiner ──writev──▶ interface
//!                 └─ handshakes ─▶ gate ─▶ control thread          └─ probes ─▶ the owner's hook
//! ```
//!
//! No lock is taken for data but for the first packet of a session, and nothing is allocated in the steady state.

use std::mem;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use chacha::Job;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wireguard::limits::{DATA_HEADER_BYTES, DATA_OVERHEAD_BYTES};
use wireguard::{KeyPair, Time};

use crate::clock;
use crate::codel::Codel;
use crate::deliver::deliver;
use crate::gate::{Admission, Gate};
use crate::io::fallback::Fallback;
use crate::io::udp::Sockets;
use crate::io::udp::inbox::Inbox;
use crate::io::udp::kernel::Tails;
use crate::io::udp::outbox::Outbox;
use crate::ip;
use crate::offload::{Joiner, Joins};
use crate::path::{Carried, Path, is_probe};
use crate::peer::{Peer, Session};
use crate::random;
use crate::shared::Shared;
use crate::slab::Found;
use crate::task::{HANDSHAKE_BYTES_MAX, Handshake, Task};

/// Receives from one socket before the other has its turn.
const TURN: usize = 4;
/// Messages opened at once at most; an inbox with more is opened in parts.
const BATCH_MESSAGES: usize = 512;

/// Shorter packets fill no queue: they are answers, questions and voices.
const BULK_BYTES_MIN: usize = 512;

/// The thread that reads the sockets.
pub(crate) struct Inbound {
    shared: Arc<Shared>,
    inbox: Inbox,
    work: Work,
    /// Of the sockets, in their order.
    queues: [Codel; 2],
}

/// What is done with datagrams, wherever they came from.
struct Work {
    gate: Gate,
    runs: Vec<Run>,
    packets: Vec<Packet>,
    joiner: Joiner,
    /// The interface took packets, but not joined.
    apart: Fallback,
    outbox: Outbox,
    /// Something came that is no session's.
    has_others: bool,
    /// A queue stands: the next packet that is not short tells its sender.
    queue_stands: bool,
}

/// Neighbouring messages of one session from one sender.
struct Run {
    index: u32,
    peer: Arc<Peer>,
    pair: Arc<KeyPair>,
    from: Path,
    ecn: u8,
    /// Whether one was authentic, and new.
    is_heard: bool,
    /// Bytes of those that were taken: as in the kernel, a packet whose source is not the peer's does not count.
    bytes: usize,
    has_data: bool,
}

/// One data message: where its ciphertext and tag are.
struct Packet {
    start: usize,
    bytes: usize,
    counter: u64,
    run: usize,
    is_authentic: bool,
}

/// What there is something to read from.
#[derive(Default)]
struct Ready {
    rebound: bool,
    carried: bool,
    sockets: [bool; 2],
}

impl Inbound {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let work = Work::new(&shared);
        Self { shared, inbox: Inbox::new(), work, queues: Default::default() }
    }

    /// Until the device is halted.
    pub(crate) fn run(&mut self) {
        let mut sockets = self.shared.sockets.load_full();
        while !self.shared.is_halted() {
            let ready = self.wait(&sockets);
            for (i, socket) in sockets.each().enumerate().filter(|(i, _)| ready.sockets[*i]) {
                for _ in 0..TURN {
                    match self.inbox.receive(socket) {
                        Ok(0) => break,
                        Ok(_) => self.handle_received(i),
                        Err(error) => {
                            tracing::debug!(%error, "no datagram");
                            break;
                        }
                    }
                    if !self.inbox.is_full() {
                        break;
                    }
                }
            }
            if ready.rebound && self.shared.rebound.read().is_ok() {
                sockets = self.shared.sockets.load_full();
            }
            if ready.carried {
                self.take_carried();
            }
        }
    }

    fn wait(&self, sockets: &Sockets) -> Ready {
        let mut each = sockets.each().map(AsFd::as_fd);
        let first = each.next().expect("sockets have one family at least");
        let second = each.next().unwrap_or(first);
        let events = [self.shared.halted.as_fd(), self.shared.rebound.as_fd(), self.shared.carried.as_fd()];
        let fds = [events[0], events[1], events[2], first, second];
        let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {
                let [_, rebound, carried, first, second] = fds.map(|fd| fd.any().unwrap_or(true));
                Ready { rebound, carried, sockets: [first, second] }
            }
            Err(Errno::EINTR) => Ready::default(),
            Err(error) => {
                tracing::error!(%error, "the sockets cannot be waited for");
                self.shared.halt();
                Ready::default()
            }
        }
    }

    /// What the socket of this number gave.
    fn handle_received(&mut self, socket: usize) {
        let now = self.shared.clock.now();
        let waited = self.inbox.queued().and_then(|since| clock::wall().checked_sub(since));
        let (arena, datagrams) = self.inbox.contents();
        for datagram in datagrams {
            let from = Path::Udp(datagram.from);
            let mut start = datagram.range.start;
            while start < datagram.range.end {
                let end = datagram.range.end.min(start + datagram.stride);
                self.work.sort(&self.shared, arena, start..end, &from, datagram.ecn, now);
                start = end;
            }
        }
        // Who floods us does not listen, and is not to slow down those who do.
        let has_others = mem::take(&mut self.work.has_others);
        let waited = waited.filter(|_| !has_others);
        self.work.queue_stands = self.queues[socket].tells(waited, now);
        self.work.finish(&self.shared, arena, now);
    }

    /// What carriers brought.
    fn take_carried(&mut self) {
        while let Some(Carried { by, mut datagram }) = self.shared.take_carried() {
            self.take(&mut datagram, &Path::Carrier(by), ip::NOT_ECT);
        }
    }

    /// A datagram by itself.
    pub(crate) fn take(&mut self, datagram: &mut [u8], from: &Path, ecn: u8) {
        let now = self.shared.clock.now();
        self.work.sort(&self.shared, datagram, 0..datagram.len(), from, ecn, now);
        // What a carrier brings says nothing of the sockets.
        self.work.has_others = false;
        self.work.finish(&self.shared, datagram, now);
    }
}

impl Work {
    fn new(shared: &Shared) -> Self {
        Self {
            gate: Gate::new(random::bytes(), shared.clock.now()),
            runs: Vec::new(),
            packets: Vec::with_capacity(BATCH_MESSAGES),
            joiner: Joiner::new(shared.joins),
            apart: Fallback::default(),
            outbox: Outbox::new(Tails::of_this_kernel()),
            has_others: false,
            queue_stands: false,
        }
    }

    /// Message types and lengths of the WireGuard paper, section 5.4; the reserved bytes are zero.
    fn sort(&mut self, shared: &Shared, arena: &[u8], range: Range<usize>, from: &Path, ecn: u8, now: Time) {
        let message = &arena[range.clone()];
        match message {
            [4, 0, 0, 0, ..] if message.len() >= DATA_OVERHEAD_BYTES => {
                self.sort_data(shared, message, range.start, from, ecn, now);
                return;
            }
            [1 | 2, 0, 0, 0, ..] if matches!((message[0], message.len()), (1, 148) | (2, 92)) => {
                self.admit(shared, message, from, now);
            }
            [3, 0, 0, 0, ..] if message.len() == 64 => {
                if ours(shared, &message[4..8]).is_some() {
                    hand_on(shared, message, from);
                }
            }
            _ if is_probe(message) => shared.probe(message, from),
            _ => tracing::trace!(%from, "not a message of WireGuard"),
        }
        self.has_others = true;
    }

    fn sort_data(&mut self, shared: &Shared, message: &[u8], at: usize, from: &Path, ecn: u8, now: Time) {
        let index = u32::from_le_bytes(message[4..8].try_into().expect("four bytes"));
        let counter = u64::from_le_bytes(message[8..16].try_into().expect("eight bytes"));
        let same =
            self.runs.last().is_some_and(|run| run.index == index && run.ecn == ecn && run.from == *from);
        if !same {
            let Some(session) = shared.sessions.get(index) else {
                self.has_others = true;
                return;
            };
            let Some(pair) = session.pair.get().map(Arc::clone) else { return };
            let peer = Arc::clone(&session.peer);
            let from = from.clone();
            self.runs.push(Run { index, peer, pair, from, ecn, is_heard: false, bytes: 0, has_data: false });
        }
        let run = self.runs.len() - 1;
        if !self.runs[run].pair.may_open(counter, now) {
            return;
        }
        self.packets.push(Packet {
            start: at + DATA_HEADER_BYTES,
            bytes: message.len() - DATA_HEADER_BYTES,
            counter,
            run,
            is_authentic: false,
        });
    }

    #[cold]
    fn admit(&mut self, shared: &Shared, message: &[u8], from: &Path, now: Time) {
        // An answer to nothing, or to what is answered, costs no hash, and is not counted as load.
        if message[0] == 2 && ours(shared, &message[8..12]).is_none_or(|session| session.pair.get().is_some())
        {
            return;
        }
        let Some(local) = shared.local() else { return };
        // What a carrier brings is bounded together: who may use the carrier is known to it.
        let address = from.udp().map_or(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), |udp| udp.remote);
        match self.gate.admit(&local, message, address, now, random::try_bytes) {
            Admission::Take => hand_on(shared, message, from),
            Admission::Challenge(reply) => {
                let (sockets, now) = (shared.sockets.load(), shared.clock.instant(now));
                from.send(&reply, ip::NOT_ECT, &sockets, &mut self.outbox, now);
            }
            Admission::Drop => tracing::debug!(%from, "handshake forged, or one of too many"),
        }
    }

    /// Opens what was sorted, and delivers it.
    fn finish(&mut self, shared: &Shared, arena: &mut [u8], now: Time) {
        if self.packets.is_empty() {
            self.runs.clear();
            return;
        }
        self.open(shared, arena);
        let is_apart = self.apart.is_on(shared.clock.instant(now));
        self.joiner.set_joins(if is_apart { Joins { tcp: false, udp: false } } else { shared.joins });
        let routes = shared.routes.load();
        for packet in &self.packets {
            let run = &mut self.runs[packet.run];
            if !packet.is_authentic || !run.pair.is_new(packet.counter) {
                tracing::trace!(peer = %run.peer.key, from = %run.from, "data not authentic, or not new");
                continue;
            }
            run.is_heard = true;
            let bytes = packet.bytes + DATA_HEADER_BYTES;
            let text = packet.start..packet.start + packet.bytes - chacha::TAG_BYTES;
            if text.is_empty() {
                run.bytes += bytes;
                continue;
            }
            run.has_data = true;
            let Some(length) = ip::length(&arena[text.clone()]) else {
                tracing::debug!(peer = %run.peer.key, "no IP packet");
                continue;
            };
            let range = text.start..text.start + length;
            let source = ip::source(&arena[range.clone()]);
            let is_allowed = source
                .and_then(|source| routes.lookup(source))
                .is_some_and(|peer| Arc::ptr_eq(peer, &run.peer));
            if !is_allowed {
                tracing::debug!(peer = %run.peer.key, ?source, "packet from an address that is not the peer's");
            } else {
                run.bytes += bytes;
                ip::decapsulate_ecn(run.ecn, &mut arena[range.clone()]);
                if passes(&mut self.queue_stands, &mut arena[range.clone()]) {
                    self.joiner.add(arena, range);
                }
            }
        }
        drop(routes);
        // Before anybody can answer: the answer goes where the peer is now, and by the session that it has now.
        for run in self.runs.drain(..) {
            run.note(shared, now);
        }
        let mut refused = false;
        self.joiner.flush(arena, |parts| refused |= deliver(&shared.tun, parts));
        if refused {
            tracing::info!(
                interface = shared.name,
                "the interface takes no joined packets, and gets them one by one"
            );
            self.apart.enter(shared.clock.instant(now));
        }
        self.packets.clear();
    }

    fn open(&mut self, shared: &Shared, arena: &mut [u8]) {
        let (mut rest, mut at) = (arena, 0);
        let runs = &self.runs;
        let mut authentic = [false; BATCH_MESSAGES];
        // Packets lie in the arena in the order in which they were sorted.
        for packets in self.packets.chunks_mut(BATCH_MESSAGES) {
            let jobs = packets.iter().map(|packet| {
                let (_, behind) = mem::take(&mut rest).split_at_mut(packet.start - at);
                let (this, behind) = behind.split_at_mut(packet.bytes);
                (rest, at) = (behind, packet.start + packet.bytes);
                Job { key: runs[packet.run].pair.opening(), counter: packet.counter, bytes: this }
            });
            shared.cipher.open(jobs, |i, is_authentic| authentic[i] = is_authentic);
            for (packet, is_authentic) in packets.iter_mut().zip(authentic) {
                packet.is_authentic = is_authentic;
            }
        }
    }
}

impl Run {
    /// What the messages mean for their peer.
    fn note(&self, shared: &Shared, now: Time) {
        if !self.is_heard {
            return;
        }
        let peer = &self.peer;
        peer.count_received(self.bytes);
        peer.heard(&self.from);
        if self.pair.is_unconfirmed() {
            shared.confirm(peer, &self.pair);
        }
        let wants = peer.machine().received(&self.pair, self.has_data, now);
        shared.follow(peer, wants);
    }
}

/// Whether a packet goes on although a queue stands: one that is not short says to its sender that it does, and is
/// dropped where that is the only way to say it.
fn passes(queue_stands: &mut bool, packet: &mut [u8]) -> bool {
    if !*queue_stands || packet.len() < BULK_BYTES_MIN {
        return true;
    }
    *queue_stands = false;
    ip::mark_congestion(packet)
}

/// The session of ours that has the index, without keys while its handshake is not done: nobody can fill the queue of tasks with
/// answers and cookies for others.
#[cold]
fn ours(shared: &Shared, index: &[u8]) -> Option<Found<Session>> {
    shared.sessions.get(u32::from_le_bytes(index.try_into().expect("four bytes")))
}

#[cold]
fn hand_on(shared: &Shared, message: &[u8], from: &Path) {
    let mut bytes = [0; HANDSHAKE_BYTES_MAX];
    bytes[..message.len()].copy_from_slice(message);
    shared.work(Task::Handshake(Box::new(Handshake { bytes, length: message.len(), from: from.clone() })));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::udp::Endpoint;
    use crate::peer::Lease;

    #[test]
    fn a_queue_that_stands_is_told_by_one_packet_that_is_not_short() {
        let (ect_0, ce) = (2, 3);
        let mut stands = true;
        let packet = |class: u8, bytes| {
            let mut packet = vec![0; bytes];
            packet[..2].copy_from_slice(&[0x60, class << 4]);
            packet
        };
        assert!(passes(&mut stands, &mut packet(ip::NOT_ECT, 100)) && stands, "a voice is not touched");
        assert!(!passes(&mut stands, &mut packet(ip::NOT_ECT, 1400)) && !stands, "dropped");
        assert!(passes(&mut stands, &mut packet(ip::NOT_ECT, 1400)), "only one");
        stands = true;
        let mut capable = packet(ect_0, 1400);
        assert!(passes(&mut stands, &mut capable) && !stands);
        assert_eq!(capable[1] >> 4, ce, "marked");
    }

    #[test]
    fn only_cookies_for_handshakes_of_ours_are_handed_on() {
        let (shared, to_do) = Shared::alone();
        let mut work = Work::new(&shared);
        let peer = Peer::new(model::PublicKey::from_bytes([1; 32]), 1, 1);
        let lease = Lease::new(&shared.sessions, &peer, 0xabcd_0000).expect("there is room");
        let remote = SocketAddr::from(([192, 0, 2, 1], 51820));
        let from = Path::Udp(Endpoint { remote, local: None });
        let mut arrives = |index: u32| {
            let mut message = [0; 64];
            message[0] = 3;
            message[4..8].copy_from_slice(&index.to_le_bytes());
            work.sort(&shared, &message, 0..64, &from, ip::NOT_ECT, shared.clock.now());
            to_do.try_iter().count()
        };
        let index = wireguard::Lease::index(&lease);
        assert_eq!((arrives(index), arrives(index ^ 0x10_0000), arrives(index + 1)), (1, 0, 0));
    }
}

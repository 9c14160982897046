//! Packets from the interface to the peers: cut, sealed in place, sent in as few system calls as there can be.
//!
//! ```text
//!   read ─▶ packet ──cut──▶ arena: │ header, text, tag │ header, text, tag │ … ──seal──▶ outbox ──▶ sockets
//! ```
//!
//! One super-packet at a time, or small packets until there are no more or the arena is full. No lock is taken while
//! a session lives, and nothing is allocated in the steady state.

use std::io;
use std::mem;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use chacha::Job;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wireguard::limits::{DATA_HEADER_BYTES, DATA_OVERHEAD_BYTES, padded};
use wireguard::{KeyPair, Time};

use crate::io::tun::READ_BYTES;
use crate::io::udp::kernel::Tails;
use crate::io::udp::outbox::Outbox;
use crate::io::udp::{Endpoint, Sockets};
use crate::ip;
use crate::offload::{Cut, VNET_HEADER_BYTES, VnetHeader};
use crate::path::Path;
use crate::peer::Peer;
use crate::shared::Shared;

/// The largest packet that IP has.
const PACKET_BYTES: usize = 65_535;
/// A batch is sent when it holds so much: a super-packet, which stays in the cache meanwhile.
const BATCH_BYTES: usize = 60 * 1024;
/// A batch is sent when it holds so many messages.
const BATCH_MESSAGES: usize = 128;
/// Room for a super-packet behind a batch that is not full. Segments may be as small as a byte of payload, so this
/// bounds how many of them fit; what does not is sent in two batches.
const ARENA_BYTES: usize = BATCH_BYTES + PACKET_BYTES + 64 * 1024;
/// How long a changed MTU may go unnoticed: until then padding may reach 15 bytes beyond it.
const MTU_AGE_MAX: Duration = Duration::from_secs(1);

/// The thread that reads the interface.
pub(crate) struct Outbound {
    shared: Arc<Shared>,
    packet: Box<[u8]>,
    batch: Batch,
    mtu: usize,
    mtu_seen: Option<Time>,
}

/// Messages in the making.
struct Batch {
    arena: Box<[u8]>,
    filled: usize,
    messages: Vec<Message>,
    runs: Vec<Run>,
    outbox: Outbox,
}

/// One data message in the arena; they follow each other without a gap.
struct Message {
    bytes: usize,
    counter: u64,
    run: usize,
}

/// Neighbouring messages of one session and one length, but the last that may be shorter.
struct Run {
    peer: Arc<Peer>,
    pair: Arc<KeyPair>,
    path: Arc<Path>,
    ecn: u8,
    start: usize,
    bytes: usize,
    stride: usize,
    is_closed: bool,
}

impl Outbound {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            packet: vec![0; READ_BYTES].into(),
            batch: Batch {
                arena: vec![0; ARENA_BYTES].into(),
                filled: 0,
                messages: Vec::with_capacity(BATCH_MESSAGES),
                runs: Vec::with_capacity(BATCH_MESSAGES),
                outbox: Outbox::new(Tails::of_this_kernel()),
            },
            mtu: 0,
            mtu_seen: None,
        }
    }

    /// Until the device is halted or the interface is gone.
    pub(crate) fn run(&mut self) {
        while !self.shared.is_halted() {
            match self.read() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(),
                Err(error) => {
                    tracing::info!(interface = self.shared.name, %error, "interface is gone");
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

    /// Reads until there is nothing more or the batch is full, and sends.
    fn read(&mut self) -> io::Result<()> {
        let now = self.shared.clock.now();
        self.look_at_mtu(now);
        loop {
            match self.shared.tun.read(&mut self.packet) {
                Ok(length) => self.take(length, now),
                Err(error) => {
                    self.batch.send(&self.shared, now);
                    return Err(error);
                }
            }
            if self.batch.is_full() {
                self.batch.send(&self.shared, now);
                return Ok(());
            }
        }
    }

    fn look_at_mtu(&mut self, now: Time) {
        if self.mtu_seen.is_none_or(|at| now.since(at) >= MTU_AGE_MAX) {
            self.mtu_seen = Some(now);
            self.mtu = self.shared.tun.mtu().unwrap_or(self.mtu);
        }
    }

    /// Puts what was read into the batch, or lets it wait for a session.
    fn take(&mut self, length: usize, now: Time) {
        let Some((header, packet)) = self.packet[..length].split_first_chunk::<VNET_HEADER_BYTES>() else {
            return;
        };
        let header = VnetHeader::read(header);
        let Some(destination) = ip::destination(packet) else { return };
        let routes = self.shared.routes.load();
        let Some(peer) = routes.lookup(destination) else {
            tracing::trace!(%destination, "no peer has the destination");
            return;
        };
        let path = peer.path_now();
        let Some(path) = path.as_ref() else { return };
        let ecn = ip::encapsulated_ecn(packet);
        let cut = match Cut::new(&header, packet) {
            Ok(cut) => cut,
            Err(error) => {
                tracing::debug!(%error, "the interface gave a packet that cannot be cut");
                return;
            }
        };
        let count = cut.count();
        let current = peer.machine().current();
        let claimed = current.as_ref().and_then(|pair| Some((pair, pair.claim(count as u64, now)?)));
        let Some((pair, first)) = claimed else {
            drop(current);
            keep(&self.shared, peer, &cut);
            return;
        };
        for i in 0..count {
            let bytes = cut.bytes(i);
            let padded = padded(bytes, self.mtu);
            if self.batch.arena.len() - self.batch.filled < padded + DATA_OVERHEAD_BYTES {
                self.batch.send(&self.shared, now);
            }
            let message = Origin { peer, pair, path, ecn, counter: first + i as u64 };
            let text = self.batch.add(&message, padded);
            cut.write(i, &mut text[..bytes]);
            text[bytes..].fill(0);
        }
    }
}

/// There is no session that can seal: what was cut waits for one.
#[cold]
fn keep(shared: &Shared, peer: &Arc<Peer>, cut: &Cut<'_>) {
    let mut machine = peer.lock();
    for i in 0..cut.count() {
        let mut packet = vec![0; cut.bytes(i)].into_boxed_slice();
        cut.write(i, &mut packet);
        machine.wait(packet);
    }
    drop(machine);
    shared.ask_handshake(peer);
}

/// Whose a message is.
struct Origin<'a> {
    peer: &'a Arc<Peer>,
    pair: &'a Arc<KeyPair>,
    path: &'a Arc<Path>,
    ecn: u8,
    counter: u64,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.filled >= BATCH_BYTES || self.messages.len() >= BATCH_MESSAGES
    }

    /// Makes room for a message, writes its header, and gives the place of its text.
    fn add(&mut self, of: &Origin<'_>, text_bytes: usize) -> &mut [u8] {
        let bytes = text_bytes + DATA_OVERHEAD_BYTES;
        let start = self.filled;
        self.filled += bytes;
        let fits = self.runs.last().is_some_and(|run| {
            !run.is_closed
                && bytes <= run.stride
                && run.ecn == of.ecn
                && Arc::ptr_eq(&run.pair, of.pair)
                && Arc::ptr_eq(&run.path, of.path)
        });
        if !fits {
            self.runs.push(Run {
                peer: Arc::clone(of.peer),
                pair: Arc::clone(of.pair),
                path: Arc::clone(of.path),
                ecn: of.ecn,
                start,
                bytes: 0,
                stride: bytes,
                is_closed: false,
            });
        }
        let run = self.runs.last_mut().expect("one was pushed if there was none");
        run.bytes += bytes;
        run.is_closed = bytes < run.stride;
        self.messages.push(Message { bytes, counter: of.counter, run: self.runs.len() - 1 });
        let message = &mut self.arena[start..self.filled];
        message[..4].copy_from_slice(&[4, 0, 0, 0]);
        message[4..8].copy_from_slice(&of.pair.remote_index().to_le_bytes());
        message[8..16].copy_from_slice(&of.counter.to_le_bytes());
        &mut message[DATA_HEADER_BYTES..DATA_HEADER_BYTES + text_bytes]
    }

    fn send(&mut self, shared: &Shared, now: Time) {
        if self.messages.is_empty() {
            return;
        }
        let mut rest = &mut self.arena[..self.filled];
        let runs = &self.runs;
        shared.cipher.seal(self.messages.iter().map(|message| {
            let (this, behind) = mem::take(&mut rest).split_at_mut(message.bytes);
            rest = behind;
            let key = runs[message.run].pair.sealing();
            Job { key, counter: message.counter, bytes: &mut this[DATA_HEADER_BYTES..] }
        }));
        for run in &self.runs {
            let range = run.start..run.start + run.bytes;
            match &*run.path {
                Path::Udp(endpoint) => self.outbox.push(range, run.stride, *endpoint, run.ecn),
                Path::Carrier(carrier) => carrier.send(&mut self.arena[range].chunks(run.stride)),
            }
        }
        let stale = self.flush(shared, now);
        for run in self.runs.drain(..) {
            run.peer.count_sent(run.bytes);
            let wants = run.peer.machine().sent(&run.pair, true, now);
            shared.follow(&run.peer, wants);
            if run.path.udp().is_some_and(|endpoint| stale.contains(&endpoint)) {
                run.peer.forget_local();
            }
        }
        self.messages.clear();
        self.filled = 0;
    }

    /// Sends what is in the outbox, and waits while the sockets are full: so the interface's queue fills, and those
    /// who send slow down. Answers from which endpoints our address has become unusable.
    fn flush(&mut self, shared: &Shared, now: Time) -> Vec<Endpoint> {
        let sockets = shared.sockets.load();
        let mut stale = Vec::new();
        while !self.outbox.is_empty() {
            let report = self.outbox.send(&sockets, &self.arena[..self.filled], shared.clock.instant(now));
            for lost in &report.lost {
                let (to, error) = (lost.to.remote, &lost.error);
                tracing::debug!(%to, count = lost.datagrams, %error, "datagrams not sent");
            }
            stale.extend(report.stale);
            if report.blocked && !wait_to_send(shared, &sockets, &self.outbox) {
                self.outbox.clear();
            }
        }
        stale
    }
}

/// False if the device is halted, or there is nothing to wait for.
#[cold]
fn wait_to_send(shared: &Shared, sockets: &Sockets, outbox: &Outbox) -> bool {
    let Some(socket) = outbox.waits_for(sockets) else { return false };
    let mut fds = [
        PollFd::new(socket.as_fd(), PollFlags::POLLOUT),
        PollFd::new(shared.halted.as_fd(), PollFlags::POLLIN),
    ];
    matches!(poll(&mut fds, PollTimeout::NONE), Ok(_) | Err(Errno::EINTR)) && !shared.is_halted()
}

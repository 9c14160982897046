//! Datagrams that came with one call, and the answers written over them.

use std::io;
use std::net::SocketAddr;

use nix::libc;
use socket2::Socket;

use crate::system::{self, BATCH_MAX, Came, Going};

/// Slots are this much longer than asked for, so that they do not all begin in the same sets of a processor's cache.
const STAGGER_BYTES: usize = 64;

/// Whether to wait while nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until one datagram is there, or [`crate::wake`]; then takes what is there.
    ForOne,
    /// Not at all: nothing there is [`io::ErrorKind::WouldBlock`].
    No,
}

/// A datagram where it lies.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub source: SocketAddr,
    /// Its bytes in the slot; with `whole` false, those that fitted.
    pub length: usize,
    /// Nothing was cut off.
    pub whole: bool,
    /// All of the slot. Behind `length` stands what was there before.
    pub slot: &'a mut [u8],
}

/// Slots for [`BATCH_MAX`] datagrams, and which of them are to go back.
#[derive(Debug)]
pub struct Batch {
    slot_bytes: usize,
    arena: Vec<u8>,
    came: [Came; BATCH_MAX],
    count: usize,
    replies: Vec<Reply>,
    sent: usize,
}

#[derive(Debug, Clone, Copy)]
struct Reply {
    slot: usize,
    length: usize,
}

impl Batch {
    /// An empty one. A datagram longer than `slot_bytes` is cut. The slots take memory as far as they are written to.
    pub fn new(slot_bytes: usize) -> Self {
        let slot_bytes = slot_bytes.next_multiple_of(STAGGER_BYTES) + STAGGER_BYTES;
        Self {
            slot_bytes,
            arena: vec![0; slot_bytes * BATCH_MAX],
            came: [Came::NOTHING; BATCH_MAX],
            count: 0,
            replies: Vec::with_capacity(BATCH_MAX),
            sent: 0,
        }
    }

    /// Replaces what is here by what the socket has, and answers how many slots are in use.
    ///
    /// # Errors
    /// Nothing is there and it does not wait; a signal came; what an earlier datagram met on its way, told once; or
    /// the socket is of no use.
    pub fn receive(&mut self, socket: &Socket, wait: Wait) -> io::Result<usize> {
        self.clear();
        let flags = match wait {
            Wait::ForOne => libc::MSG_WAITFORONE,
            Wait::No => libc::MSG_DONTWAIT,
        };
        let slots = self.arena.chunks_exact_mut(self.slot_bytes);
        self.count = system::receive(socket, slots, &mut self.came, flags)?;
        Ok(self.count)
    }

    /// Whether there may be more at once: every slot is in use.
    pub const fn is_full(&self) -> bool {
        self.count == BATCH_MAX
    }

    /// The datagram in a slot in use. `None` for what is none: the socket was woken.
    pub fn datagram(&mut self, slot: usize) -> Option<Datagram<'_>> {
        let came = self.came[..self.count].get(slot)?;
        let source = came.source.read()?;
        let bytes = self.arena.chunks_exact_mut(self.slot_bytes).nth(slot)?;
        Some(Datagram { source, length: came.length, whole: came.whole, slot: bytes })
    }

    /// Who sent what, as far as it fitted, in order.
    pub fn came(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.arena.chunks_exact(self.slot_bytes).zip(&self.came[..self.count]);
        slots.filter_map(|(slot, came)| Some((came.source.read()?, &slot[..came.length])))
    }

    /// The first `length` bytes of a slot in use go to whom it came from, after those said before.
    ///
    /// # Panics
    /// If the slot is not in use, or not so long.
    pub fn reply(&mut self, slot: usize, length: usize) {
        assert!(slot < self.count && length <= self.slot_bytes, "the caller wrote the answer there");
        assert!(self.replies.len() < BATCH_MAX, "a datagram has one answer");
        self.replies.push(Reply { slot, length });
    }

    /// Replies that have not gone yet.
    pub fn unsent(&self) -> usize {
        self.replies.len() - self.sent
    }

    /// Sends replies with one call and answers how many went.
    ///
    /// # Errors
    /// The first one's: the send buffer is full ([`io::ErrorKind::WouldBlock`]), a signal came, or it does not go:
    /// [`Self::give_up_first`].
    pub fn send(&mut self, socket: &Socket) -> io::Result<usize> {
        let going = self.replies[self.sent..].iter().map(|reply| {
            let start = reply.slot * self.slot_bytes;
            Going { to: &self.came[reply.slot].source, bytes: &self.arena[start..start + reply.length] }
        });
        let went = system::send(socket, going)?;
        self.sent += went;
        Ok(went)
    }

    /// Forgets the first reply that has not gone.
    pub fn give_up_first(&mut self) {
        self.sent = self.replies.len().min(self.sent + 1);
    }

    /// Forgets all replies that have not gone.
    pub fn give_up_all(&mut self) {
        self.sent = self.replies.len();
    }

    fn clear(&mut self) {
        self.count = 0;
        self.replies.clear();
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests;

//! Datagrams that came in: many with one call, several of one sender joined. Knows not what is in them.

use std::io;
use std::ops::Range;
use std::time::Duration;

use nix::libc;
use socket2::Socket;

use super::Endpoint;
use super::system::{self, Incoming, RECEIVE_MAX, SLOT_BYTES};

/// Errors that one call passes over. They are of datagrams sent earlier, and each is told once.
const ERRORS_MAX: u32 = 16;

/// Less than that, and what is there came while we were away for a moment.
const QUEUE_BYTES_MIN: usize = SLOT_BYTES;

/// One datagram, or several of equal length (but the last, which may be shorter) from one sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// Where in the arena. Never empty.
    pub(crate) range: Range<usize>,
    /// The length of each but the last; at most that of the range.
    pub(crate) stride: usize,
    /// Who sent it, and at which of our addresses.
    pub(crate) from: Endpoint,
    /// Bits for congestion of the outer header (RFC 3168, section 5), 0 to 3.
    pub(crate) ecn: u8,
    /// When the kernel had it, in wall time since 1970, if it says so.
    pub(crate) came: Option<Duration>,
}

/// One arena and what lies in it.
pub(crate) struct Inbox {
    arena: Vec<u8>,
    incoming: [Incoming; RECEIVE_MAX],
    datagrams: Vec<Datagram>,
    /// Whether there is recvmmsg(2). A call that is not there does not appear while the process runs.
    many: bool,
}

impl Inbox {
    /// An empty one. The arena takes memory as far as it is written to.
    pub(crate) fn new() -> Self {
        Self {
            arena: vec![0; RECEIVE_MAX * SLOT_BYTES],
            incoming: [Incoming::ROOM; RECEIVE_MAX],
            datagrams: Vec::with_capacity(RECEIVE_MAX),
            many: true,
        }
    }

    /// Replaces what is here by what the socket has, and answers of how many [`Datagram`]s: 0 if there is nothing now.
    /// What earlier datagrams met on their way (`ECONNREFUSED` and the like) is passed over.
    ///
    /// # Errors
    /// Only those after which the socket is of no use, or the kernel has no memory.
    pub(crate) fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        self.datagrams.clear();
        for _ in 0..ERRORS_MAX {
            let count = match self.fill(socket) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if self.many && error.raw_os_error() == Some(libc::ENOSYS) => {
                    self.many = false;
                    continue;
                }
                Err(error) if is_of_the_past(&error) => continue,
                Err(error) => return Err(error),
            };
            let came = self.incoming[..count].iter().enumerate();
            self.datagrams.extend(came.filter_map(|(slot, incoming)| datagram(slot * SLOT_BYTES, incoming)));
            if !self.datagrams.is_empty() {
                break;
            }
        }
        Ok(self.datagrams.len())
    }

    /// Whether there may be more at once: every slot was used.
    pub(crate) fn is_full(&self) -> bool {
        self.datagrams.len() == RECEIVE_MAX
    }

    /// If the socket had so many that they may be called a queue: when the kernel had the last of them, in wall time
    /// since 1970, as far as it says so.
    pub(crate) fn queued(&self) -> Option<Duration> {
        let bytes: usize = self.datagrams.iter().map(|datagram| datagram.range.len()).sum();
        let last = self.datagrams.last().filter(|_| self.is_full() || bytes >= QUEUE_BYTES_MIN)?;
        last.came
    }

    /// The arena, to work in, and what lies in it.
    pub(crate) fn contents(&mut self) -> (&mut [u8], &[Datagram]) {
        (&mut self.arena, &self.datagrams)
    }

    fn fill(&mut self, socket: &Socket) -> io::Result<usize> {
        if self.many {
            return system::receive_many(socket, &mut self.arena, &mut self.incoming);
        }
        let slots = self.arena.chunks_exact_mut(SLOT_BYTES).zip(&mut self.incoming);
        for (count, (slot, incoming)) in slots.enumerate() {
            match system::receive_one(socket, slot, incoming) {
                Ok(()) => {}
                Err(error) if count == 0 => return Err(error),
                Err(_) => return Ok(count),
            }
        }
        Ok(RECEIVE_MAX)
    }
}

/// `None` if it is empty, not whole, or from nowhere.
fn datagram(start: usize, incoming: &Incoming) -> Option<Datagram> {
    let remote = incoming.address.read()?;
    if !incoming.whole || incoming.length == 0 {
        return None;
    }
    let told = incoming.control.read();
    let stride =
        told.stride.filter(|stride| (1..incoming.length).contains(stride)).unwrap_or(incoming.length);
    let from = Endpoint { remote, local: told.local };
    Some(Datagram { range: start..start + incoming.length, stride, from, ecn: told.ecn, came: told.came })
}

/// Whether an error is what a datagram sent earlier met, or a signal.
fn is_of_the_past(error: &io::Error) -> bool {
    const PAST: [i32; 10] = [
        libc::EINTR,
        libc::ECONNREFUSED,
        libc::ECONNRESET,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::ENETDOWN,
        libc::EACCES,
        libc::EMSGSIZE,
        libc::EPROTO,
    ];
    error.raw_os_error().is_some_and(|number| PAST.contains(&number))
}

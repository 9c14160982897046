//! Datagrams to send: neighbours of one destination in super-packets, many with one call, and one by one where the
//! kernel, a driver or a path does not take them so. Knows not what is in them, and is told the time.
//!
//! ```text
//! a message that is refused:  whole -> cut -> whole, from any address -> cut, from any address -> lost
//! ```
//! A step that changes nothing is passed over. Which step helped tells what was wrong: being cut, that the kernel,
//! or the destination for that length, is to be spared super-packets for a while; the address, that it is not ours
//! any more.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Instant;

use datagrams::Address;
use nix::libc;
use socket2::Socket;

use super::kernel::Tails;
use super::message::Control;
use super::system::{self, Outgoing, SEND_MAX};
use super::{Endpoint, Sockets};
use crate::io::fallback::{Fallback, RETRY};

/// Segments of a super-packet: what all kernels since 4.18 take (`UDP_MAX_SEGMENTS`), and one left for a tail.
const SEGMENTS_MAX: usize = 63;
/// Bytes of a super-packet: UDP's most in IPv4, and one left for a tail.
const BYTES_MAX: usize = 65_507 - 1;
/// Where tails have to be shorter, fewer segments of one length than this go one by one: one datagram more on the
/// wire would be too much for what it saves.
const TAILED_MIN: usize = 4;
/// The shorter tail: a datagram too short for any protocol on the port, so that whoever gets it drops it.
const TAIL: &[u8] = &[0];
/// Destinations that are remembered not to take super-packets. Forgetting one costs one refused call a message.
const NARROW_MAX: usize = 256;

/// Bytes of the arena for one destination.
struct Message {
    range: Range<usize>,
    stride: usize,
    to: Endpoint,
    class: u8,
    /// The error for which it goes datagram by datagram.
    cut: Option<i32>,
    /// It was refused from its address, and leaves from any.
    freed: bool,
}

/// Messages that did not go.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) to: Endpoint,
    pub(crate) datagrams: usize,
    pub(crate) error: io::Error,
}

/// What became of the messages.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Report {
    /// Datagrams that the kernel took.
    pub(crate) sent: usize,
    /// Destinations, as they were pushed, whose local address is unusable. What was to leave from there left from
    /// another.
    pub(crate) stale: Vec<Endpoint>,
    /// One entry for each message that was refused in every shape.
    pub(crate) lost: Vec<Lost>,
    /// The socket is full; the other messages are still here: see [`Outbox::waits_for`].
    pub(crate) blocked: bool,
}

/// Messages for one arena, in order, and what is known of who takes super-packets.
pub(crate) struct Outbox {
    messages: Vec<Message>,
    /// The first message that has not gone entirely; its range begins with what has not gone.
    next: usize,
    tails: Tails,
    /// No super-packets at all: some driver does not do checksums (`EIO`).
    whole: Fallback,
    /// Destinations that do not take super-packets of segments this long or longer, and until when.
    narrow: BTreeMap<IpAddr, (usize, Instant)>,
    /// Whether there is sendmmsg(2). A call that is not there does not appear while the process runs.
    many: bool,
}

impl Outbox {
    /// An empty one, for the kernel's tails: see [`Tails::of_this_kernel`].
    pub(crate) fn new(tails: Tails) -> Self {
        let (messages, narrow) = (Vec::new(), BTreeMap::new());
        Self { messages, next: 0, tails, whole: Fallback::default(), narrow, many: true }
    }

    /// Adds the bytes at `range` of the arena, as datagrams of `stride` bytes of which the last may be shorter, with
    /// this type of service or traffic class. Bytes right behind those of the message before, for the same destination
    /// and of the same class, become part of it if its datagrams all have that length, at least the new ones'.
    /// A `stride` of 0, or beyond the range, is the range's length. Nothing is added for an empty range.
    pub(crate) fn push(&mut self, mut range: Range<usize>, stride: usize, to: Endpoint, class: u8) {
        let length = range.len();
        let stride = if stride == 0 { length } else { stride.min(length) };
        if let Some(last) = self.messages[self.next..].last_mut() {
            let fits = last.range.len() + length <= most(last.stride);
            let continues = last.range.end == range.start && last.range.len().is_multiple_of(last.stride);
            let like = last.stride == stride || (length == stride && length <= last.stride);
            if fits && continues && like && last.cut.is_none() && last.to == to && last.class == class {
                last.range.end = range.end;
                return;
            }
        }
        while !range.is_empty() {
            let end = range.end.min(range.start + most(stride));
            let part = range.start..end;
            self.messages.push(Message { range: part, stride, to, class, cut: None, freed: false });
            range.start = end;
        }
    }

    /// Whether nothing is left to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Forgets what has not gone.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.next = 0;
    }

    /// The socket that has to be writable before more can go.
    pub(crate) fn waits_for<'a>(&self, sockets: &'a Sockets) -> Option<&'a Socket> {
        self.messages.get(self.next).and_then(|message| sockets.towards(&message.to.remote))
    }

    /// Sends all messages, whose bytes are in `arena`, or as many as the sockets take now. Until [`Self::is_empty`],
    /// the arena has to stay as it is.
    pub(crate) fn send(&mut self, sockets: &Sockets, arena: &[u8], now: Instant) -> Report {
        let mut report = Report::default();
        self.narrow.retain(|_, (_, until)| *until > now);
        while let Some(message) = self.messages.get(self.next) {
            let Some(socket) = sockets.towards(&message.to.remote) else {
                self.lose(io::ErrorKind::Unsupported.into(), &mut report);
                continue;
            };
            let v4 = message.to.remote.is_ipv4();
            let mut batch = Batch::new();
            let segments = sockets.segments() && !self.whole.is_on(now);
            self.gather(&mut batch, v4, segments, arena, &report.stale);
            let sent = if self.many {
                system::send_many(socket, &batch.outgoing[..batch.count])
            } else {
                system::send_one(socket, &batch.outgoing[0]).map(|()| 1)
            };
            match sent {
                Ok(count) => {
                    for i in 0..count {
                        self.advance(batch.bytes[i], now, &mut report);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    report.blocked = true;
                    return report;
                }
                Err(error) if self.many && error.raw_os_error() == Some(libc::ENOSYS) => self.many = false,
                Err(error) => self.refused(error, batch.outgoing[0].segmented, &mut report),
            }
        }
        self.clear();
        report
    }

    /// The next datagrams of one family, whole or cut.
    fn gather<'a>(
        &self,
        batch: &mut Batch<'a>,
        v4: bool,
        segments: bool,
        arena: &'a [u8],
        stale: &[Endpoint],
    ) {
        for message in &self.messages[self.next..] {
            if message.to.remote.is_ipv4() != v4 || batch.count == SEND_MAX {
                return;
            }
            let address = Address::new(&message.to.remote);
            let mut control = Control::EMPTY;
            if let Some(local) = message.to.local.filter(|_| !message.freed && !stale.contains(&message.to)) {
                control.leave_from(local);
            }
            if message.class != 0 {
                control.class(message.class, v4);
            }
            let bytes = &arena[message.range.clone()];
            let shape = if segments { self.shape(message) } else { Shape::Cut };
            if shape == Shape::Cut {
                for datagram in bytes.chunks(message.stride) {
                    batch.push(Outgoing { address, control, parts: [datagram, &[]], segmented: false });
                }
            } else {
                control.segments(u16::try_from(message.stride).expect("two or more are at most BYTES_MAX"));
                let tail = if shape == Shape::Tailed { TAIL } else { &[] };
                batch.push(Outgoing { address, control, parts: [bytes, tail], segmented: true });
            }
        }
    }

    fn shape(&self, message: &Message) -> Shape {
        let too_long =
            || self.narrow.get(&message.to.remote.ip()).is_some_and(|(least, _)| message.stride >= *least);
        let count = message.datagrams();
        if count == 1 || message.cut.is_some() || too_long() {
            return Shape::Cut;
        }
        match self.tails {
            Tails::Shorter if message.range.len().is_multiple_of(message.stride) => {
                // A tail of one byte would be no shorter than another.
                if count >= TAILED_MIN && message.stride > TAIL.len() { Shape::Tailed } else { Shape::Cut }
            }
            _ => Shape::Whole,
        }
    }

    /// The first message's next `bytes` went.
    fn advance(&mut self, bytes: usize, now: Instant, report: &mut Report) {
        let message = &mut self.messages[self.next];
        report.sent += bytes.div_ceil(message.stride);
        message.range.start += bytes;
        if message.freed && !report.stale.contains(&message.to) {
            report.stale.push(message.to);
        }
        match message.cut {
            Some(libc::EIO) => self.whole.enter(now),
            Some(_) => {
                let (to, stride) = (message.to.remote.ip(), message.stride);
                self.spare(to, stride, now);
            }
            None => {}
        }
        if self.messages[self.next].range.is_empty() {
            self.next += 1;
        }
    }

    /// Remembers that super-packets of that stride do not reach the destination.
    fn spare(&mut self, to: IpAddr, stride: usize, now: Instant) {
        if self.narrow.len() >= NARROW_MAX && !self.narrow.contains_key(&to) {
            let first = self.narrow.iter().min_by_key(|(_, (_, until))| *until).map(|(to, _)| *to);
            first.and_then(|first| self.narrow.remove(&first));
        }
        let least = self.narrow.get(&to).map_or(stride, |(least, _)| stride.min(*least));
        self.narrow.insert(to, (least, now + RETRY));
    }

    /// Changes the first message's shape after an error, or gives it up.
    fn refused(&mut self, error: io::Error, segmented: bool, report: &mut Report) {
        let message = &mut self.messages[self.next];
        let number = error.raw_os_error();
        if segmented && let Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE) = number {
            message.cut = number;
        } else if message.to.local.is_some() && !message.freed && !report.stale.contains(&message.to) {
            message.freed = true;
            message.cut = None;
        } else {
            self.lose(error, report);
        }
    }

    /// Gives the first message up.
    fn lose(&mut self, error: io::Error, report: &mut Report) {
        let message = &self.messages[self.next];
        report.lost.push(Lost { to: message.to, datagrams: message.datagrams(), error });
        self.next += 1;
    }
}

impl Message {
    fn datagrams(&self) -> usize {
        self.range.len().div_ceil(self.stride)
    }
}

/// How a message is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Cut,
    Whole,
    /// With a datagram more that is shorter than the others.
    Tailed,
}

/// What one call sends, and how many bytes of the arena each is.
struct Batch<'a> {
    outgoing: [Outgoing<'a>; SEND_MAX],
    bytes: [usize; SEND_MAX],
    count: usize,
}

impl<'a> Batch<'a> {
    fn new() -> Self {
        let none =
            Outgoing { address: Address::ROOM, control: Control::EMPTY, parts: [&[], &[]], segmented: false };
        Self { outgoing: [none; SEND_MAX], bytes: [0; SEND_MAX], count: 0 }
    }

    /// What there is no room for goes with the next call.
    fn push(&mut self, outgoing: Outgoing<'a>) {
        if self.count < SEND_MAX {
            self.bytes[self.count] = outgoing.parts[0].len();
            self.outgoing[self.count] = outgoing;
            self.count += 1;
        }
    }
}

/// Bytes that one message may have.
fn most(stride: usize) -> usize {
    (stride * SEGMENTS_MAX.min(BYTES_MAX / stride)).max(stride)
}

#[cfg(test)]
impl Outbox {
    /// How many destinations are spared.
    pub(super) fn narrow_paths(&self) -> usize {
        self.narrow.len()
    }
}

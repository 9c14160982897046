//! Load over UDP from one thread: as much as is answered, or so much a second. Counts only what is right.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, recvmmsg, sendmsg};

use super::dataset::{Questions, Right, id};

/// Questions that wait for an answer: enough that no server waits for us, few enough for every server's socket.
pub(crate) const WINDOW: u64 = 128;
/// Answers of one call, and questions.
const BATCH: usize = 64;
const ANSWER_BYTES: usize = 1_280;
/// What has not come after this is lost.
const PATIENCE: Duration = Duration::from_millis(100);
/// What is taken in between two questions of a steady rate.
const LATE_MAX: usize = 16;

/// What came of a load.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) right: u64,
    pub(crate) wrong: u64,
    pub(crate) lost: u64,
    pub(crate) took: Duration,
    /// Of each right answer at a steady rate, from when its question was due.
    pub(crate) trips: Vec<Duration>,
}

impl Outcome {
    /// Right answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.right as f64 / self.took.as_secs_f64()
    }

    /// What came of another one too, trips apart.
    pub(crate) fn add(&mut self, other: &Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.took += other.took;
    }

    /// Microseconds that so many of a hundred trips do not exceed; 0 if none came back.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.trips.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(rank).map_or(0.0, |trip| trip.as_secs_f64() * 1e6)
    }
}

/// Which of the last 65 536 questions wait.
struct Waiting {
    bits: Vec<u64>,
    count: u64,
    next: u64,
}

impl Waiting {
    fn new() -> Self {
        Self { bits: vec![0; 1024], count: 0, next: 0 }
    }

    fn asked(&mut self) {
        let id = usize::from(id(self.next));
        self.bits[id / 64] |= 1 << (id % 64);
        self.count += 1;
        self.next += 1;
    }

    /// The number of the question with this id, if it waits; then it does no longer.
    fn answered(&mut self, id: u16) -> Option<u64> {
        let (word, bit) = (usize::from(id) / 64, 1 << (id % 64));
        if self.bits[word] & bit == 0 {
            return None;
        }
        self.bits[word] &= !bit;
        self.count -= 1;
        let ago = u64::from(super::dataset::id(self.next - 1).wrapping_sub(id));
        Some(self.next - 1 - ago)
    }

    fn given_up(&mut self) -> u64 {
        self.bits.fill(0);
        std::mem::take(&mut self.count)
    }
}

/// One asker and the server that it asks.
pub(crate) struct Load<'q> {
    socket: UdpSocket,
    questions: &'q mut Questions,
    echo: bool,
    headers: MultiHeaders<()>,
    arena: Vec<u8>,
    waiting: Waiting,
}

impl<'q> Load<'q> {
    /// Asks `server` from an address of its own. An echo's answers are the questions.
    pub(crate) fn new(
        from: Ipv4Addr,
        server: SocketAddrV4,
        questions: &'q mut Questions,
        echo: bool,
    ) -> Self {
        let socket = UdpSocket::bind((from, 0)).expect("the address is here");
        socket.connect(server).expect("loopback has a route");
        let headers = MultiHeaders::preallocate(BATCH, None);
        Self {
            socket,
            questions,
            echo,
            headers,
            arena: vec![0; BATCH * ANSWER_BYTES],
            waiting: Waiting::new(),
        }
    }

    /// Keeps [`WINDOW`] questions waiting for so long.
    pub(crate) fn closed(mut self, time: Duration) -> Outcome {
        self.until(|outcome| outcome.took >= time)
    }

    /// Asks until so many were answered rightly.
    pub(crate) fn all(mut self, count: u64, patience: Duration) -> Outcome {
        self.until(|outcome| outcome.right >= count || outcome.took >= patience)
    }

    fn until(&mut self, done: impl Fn(&Outcome) -> bool) -> Outcome {
        self.socket.set_read_timeout(Some(PATIENCE)).expect("above zero");
        let (mut outcome, began) = (Outcome::default(), Instant::now());
        while !done(&outcome) {
            while self.waiting.count < WINDOW {
                self.ask((WINDOW - self.waiting.count).min(BATCH as u64));
            }
            if !self.receive(MsgFlags::MSG_WAITFORONE, &mut outcome, |_| {}) {
                outcome.lost += self.waiting.given_up();
            }
            outcome.took = began.elapsed();
        }
        outcome
    }

    /// So many questions a second for so long, each when it is due, whatever became of those before.
    pub(crate) fn paced(mut self, per_second: f64, time: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        let every = Duration::from_secs_f64(1.0 / per_second);
        let began = Instant::now();
        let mut trips = Vec::with_capacity((time.as_secs_f64() * per_second) as usize);
        loop {
            let now = began.elapsed();
            let due = every.mul_f64(self.waiting.next as f64);
            if due >= time {
                break;
            }
            if now >= due {
                self.ask(1);
            }
            let note = |number: u64| trips.push(began.elapsed().saturating_sub(every.mul_f64(number as f64)));
            self.receive(MsgFlags::MSG_DONTWAIT, &mut outcome, note);
        }
        outcome.took = began.elapsed();
        // The last ones are still under way.
        while self.waiting.count > 0 && began.elapsed() < time + PATIENCE {
            let note = |number: u64| trips.push(began.elapsed().saturating_sub(every.mul_f64(number as f64)));
            self.receive(MsgFlags::MSG_DONTWAIT, &mut outcome, note);
        }
        outcome.lost += self.waiting.given_up();
        outcome.trips = trips;
        outcome
    }

    /// Sends the next questions with one call, which the kernel cuts into datagrams (udp(7), `UDP_SEGMENT`): asking must
    /// not cost more than answering, or it is we who are measured.
    fn ask(&mut self, count: u64) {
        let first = self.waiting.next;
        for number in first..first + count {
            self.questions.ask(number);
            self.waiting.asked();
        }
        let parts: Vec<IoSlice<'_>> =
            (first..first + count).map(|number| IoSlice::new(self.questions.bytes(number))).collect();
        let length = u16::try_from(self.questions.length()).expect("short");
        let control = [ControlMessage::UdpGsoSegments(&length)];
        let control = if count > 1 { &control[..] } else { &[] };
        match sendmsg::<()>(self.socket.as_raw_fd(), &parts, control, MsgFlags::empty(), None) {
            // Refused: an ICMP message of a server that is not there yet; what was asked is lost.
            Ok(_) | Err(Errno::ECONNREFUSED | Errno::ENOBUFS | Errno::EINTR) => {}
            Err(error) => panic!("questions cannot be sent: {error}"),
        }
    }

    /// Takes what is there. `false` if that was nothing.
    fn receive(&mut self, flags: MsgFlags, outcome: &mut Outcome, mut note: impl FnMut(u64)) -> bool {
        let count = if flags.contains(MsgFlags::MSG_DONTWAIT) { LATE_MAX } else { BATCH };
        let slots = self.arena.chunks_exact_mut(ANSWER_BYTES).take(count);
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = slots.map(|slot| [IoSliceMut::new(slot)]).collect();
        let lengths: Vec<usize> =
            match recvmmsg(self.socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None) {
                Ok(messages) => messages.map(|message| message.bytes).collect(),
                Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EINTR) => return false,
                Err(error) => panic!("answers cannot be received: {error}"),
            };
        for (slot, length) in self.arena.chunks_exact(ANSWER_BYTES).zip(lengths) {
            let message = &slot[..length];
            let number = message.first_chunk().and_then(|id| self.waiting.answered(u16::from_be_bytes(*id)));
            let right = |number| if self.echo { Right::Echo } else { self.questions.right(number) };
            match number {
                Some(number) if right(number).is(message) => {
                    outcome.right += 1;
                    note(number);
                }
                _ => outcome.wrong += 1,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_belongs_to_one_question() {
        let mut waiting = Waiting::new();
        waiting.next = 0x1_fffe;
        (0..4).for_each(|_| waiting.asked());
        assert_eq!(waiting.answered(0xffff), Some(0x1_ffff));
        assert_eq!(waiting.answered(0xffff), None, "it came twice");
        assert_eq!(waiting.answered(1), Some(0x2_0001));
        assert_eq!(waiting.answered(7), None, "nobody asked");
        assert_eq!(waiting.given_up(), 2);
        assert_eq!(waiting.answered(0), None);
    }

    #[test]
    fn percentiles_are_trips() {
        let trips = (1..=100).rev().map(Duration::from_micros).collect();
        let outcome = Outcome { trips, ..Outcome::default() };
        assert_eq!([50, 99].map(|percent| outcome.percentile(percent).round()), [50.0, 99.0]);
        assert_eq!(Outcome::default().percentile(99), 0.0);
    }
}

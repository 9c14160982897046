//! What was answered, for metrics. Decides nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;

use crate::answer::Transport;
use crate::rcode::Rcode;

/// Upper ends of the buckets of [`Histogram`], in microseconds: a batch takes some, a forwarded question thousands.
pub const BUCKETS_MICROS: [u64; 13] =
    [10, 25, 50, 100, 250, 500, 1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000, 5_000_000];

/// Codes that are told apart: ours, and all others that a forwarder may bring.
const CODES: usize = Rcode::ALL.len() + 1;
/// What metrics call the others.
const OTHER: &str = "other";

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// Written over the question by the table.
    Hot,
    /// By the message library.
    Slow,
    /// By a forwarder.
    Forwarded,
}

impl Path {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hot, Self::Slow, Self::Forwarded];

    /// In lower case, as a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Slow => "slow",
            Self::Forwarded => "forwarded",
        }
    }
}

/// Where an answer is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// How the question came.
    pub transport: Transport,
    /// How its answer came about.
    pub path: Path,
}

impl Way {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let transports = [Transport::Udp, Transport::Tcp].into_iter();
        transports.flat_map(|transport| Path::ALL.map(|path| Self { transport, path }))
    }

    /// `udp` or `tcp`, as a metric's label.
    pub const fn transport_str(self) -> &'static str {
        match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }

    const fn index(self) -> usize {
        let transport = match self.transport {
            Transport::Udp => 0,
            Transport::Tcp => 1,
        };
        transport * Path::ALL.len() + self.path as usize
    }
}

/// A response code as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(Option<Rcode>);

impl From<Rcode> for Code {
    fn from(code: Rcode) -> Self {
        Self(Some(code))
    }
}

impl Code {
    /// What a forwarded message says, without what EDNS adds to it.
    pub(super) fn of_message(message: &[u8]) -> Self {
        let number = u16::from(message.get(3).map_or(0, |byte| byte & 0xf));
        let same = |code: &Rcode| u16::from(Into::<ResponseCode>::into(*code)) == number;
        Self(Rcode::ALL.into_iter().find(same))
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self.0 {
            Some(code) => code.as_str(),
            None => OTHER,
        }
    }

    pub(super) fn index(self) -> usize {
        self.0.map_or(Rcode::ALL.len(), |code| code as usize)
    }
}

/// Counts since the start. They only grow, but for [`Self::connections`].
#[derive(Debug, Default)]
pub struct Counters {
    ways: [OfWay; 2 * Path::ALL.len()],
    dropped: AtomicU64,
    malformed: AtomicU64,
    limited: AtomicU64,
    slipped: AtomicU64,
    crowded: AtomicU64,
    unsent: AtomicU64,
    overflowed: AtomicU64,
    turned_away: AtomicU64,
    cut_off: AtomicU64,
    connections: AtomicU64,
}

#[derive(Debug, Default)]
struct OfWay {
    answered: [AtomicU64; CODES],
    took: Histogram,
}

/// How long answers took.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One more than there are ends.
    counts: [AtomicU64; BUCKETS_MICROS.len() + 1],
    nanos: AtomicU64,
}

/// What one batch of datagrams came to, to be counted at once.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By the table.
    pub(super) hot: [u64; CODES],
    /// For which there was no room on the slow path.
    pub(super) crowded: [u64; CODES],
    /// From a forwarder's memory.
    pub(super) cached: [u64; CODES],
    pub(super) dropped: u64,
    pub(super) malformed: u64,
    pub(super) limited: u64,
    pub(super) slipped: u64,
}

impl Counters {
    /// Answers with this code, by whatever way.
    pub fn answered(&self, code: Rcode) -> u64 {
        self.ways.iter().map(|way| way.answered[code as usize].load(Ordering::Relaxed)).sum()
    }

    /// Answers by one way, by code in lower case; codes that are none of ours together as `other`.
    pub fn answered_by(&self, way: Way) -> impl Iterator<Item = (&'static str, u64)> {
        let codes = Rcode::ALL.into_iter().map(Rcode::as_str).chain([OTHER]);
        codes.zip(&self.ways[way.index()].answered).map(|(code, count)| (code, count.load(Ordering::Relaxed)))
    }

    /// How long answers by one way took: over UDP on the hot path from the batch's arrival until it was sent, else
    /// from the question's until its answer was ready.
    pub fn took(&self, way: Way) -> &Histogram {
        &self.ways[way.index()].took
    }

    /// Messages that got no answer, because they were none or were themselves responses.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Datagrams that were cut, empty, or came from port 0.
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    /// Queries over the limit of their source that got no answer.
    pub fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }

    /// Queries over the limit of their source that were told to come by TCP.
    pub fn slipped(&self) -> u64 {
        self.slipped.load(Ordering::Relaxed)
    }

    /// Queries that got SERVFAIL, because too many were under way, of their source or together.
    pub fn crowded(&self) -> u64 {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Answers that the kernel did not take.
    pub fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Datagrams that the kernel dropped before we saw them, mostly because we were too slow.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// TCP connections closed at once because there were too many.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// TCP connections closed because the asker was too slow, or sent what is no query.
    pub fn cut_off(&self) -> u64 {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// TCP connections that are open now.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn count_answer(&self, way: Way, code: Code, took: Duration) {
        let counts = &self.ways[way.index()];
        counts.answered[code.index()].fetch_add(1, Ordering::Relaxed);
        counts.took.add(took, 1);
    }

    pub(super) fn count_batch(&self, tally: &Tally) {
        for (path, answered) in tally.by_path() {
            let counts = &self.ways[Way { transport: Transport::Udp, path }.index()];
            for (count, more) in counts.answered.iter().zip(answered) {
                add(count, *more);
            }
        }
        add(&self.crowded, tally.crowded.iter().sum());
        add(&self.dropped, tally.dropped);
        add(&self.malformed, tally.malformed);
        add(&self.limited, tally.limited);
        add(&self.slipped, tally.slipped);
    }

    /// All answers of the batch took as long.
    pub(super) fn batch_took(&self, tally: &Tally, took: Duration) {
        for (path, answered) in tally.by_path() {
            let way = Way { transport: Transport::Udp, path };
            self.ways[way.index()].took.add(took, answered.iter().sum());
        }
    }

    pub(super) fn count_dropped(&self) {
        add(&self.dropped, 1);
    }

    pub(super) fn count_crowded(&self) {
        add(&self.crowded, 1);
    }

    pub(super) fn count_unsent(&self, answers: usize) {
        add(&self.unsent, answers as u64);
    }

    pub(super) fn count_overflowed(&self, datagrams: u32) {
        add(&self.overflowed, datagrams.into());
    }

    pub(super) fn count_turned_away(&self) {
        add(&self.turned_away, 1);
    }

    pub(super) fn count_cut_off(&self) {
        add(&self.cut_off, 1);
    }

    pub(super) fn count_opened(&self) {
        add(&self.connections, 1);
    }

    pub(super) fn count_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tally {
    const fn by_path(&self) -> [(Path, &[u64; CODES]); 3] {
        [(Path::Hot, &self.hot), (Path::Slow, &self.crowded), (Path::Forwarded, &self.cached)]
    }
}

impl Histogram {
    /// How many took at most so many microseconds, for each of [`BUCKETS_MICROS`], and how many took longer. Not
    /// cumulative.
    pub fn counts(&self) -> [u64; BUCKETS_MICROS.len() + 1] {
        self.counts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    fn add(&self, took: Duration, times: u64) {
        if times > 0 {
            let bucket = BUCKETS_MICROS.partition_point(|end| Duration::from_micros(*end) < took);
            add(&self.counts[bucket], times);
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            add(&self.nanos, nanos.saturating_mul(times));
        }
    }
}

fn add(count: &AtomicU64, more: u64) {
    if more > 0 {
        count.fetch_add(more, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_way_and_code() {
        let counters = Counters::default();
        let hot = Way { transport: Transport::Udp, path: Path::Hot };
        let forwarded = Way { transport: Transport::Tcp, path: Path::Forwarded };
        let mut tally = Tally { dropped: 2, ..Tally::default() };
        tally.hot[Code::from(Rcode::NxDomain).index()] = 3;
        tally.crowded[Code::from(Rcode::ServFail).index()] = 1;
        counters.count_batch(&tally);
        counters.batch_took(&tally, Duration::from_micros(25));
        // YXDOMAIN is no code of ours.
        for message in [[0, 0, 0x80, 0x83], [0, 0, 0x80, 0x86]] {
            counters.count_answer(forwarded, Code::of_message(&message), Duration::from_secs(9));
        }
        assert_eq!((counters.answered(Rcode::NxDomain), counters.dropped()), (4, 2));
        let of = |way| counters.answered_by(way).filter(|(_, count)| *count > 0).collect::<Vec<_>>();
        assert_eq!(of(hot), [("nxdomain", 3)]);
        assert_eq!(of(forwarded), [("nxdomain", 1), ("other", 1)]);
        assert_eq!(Way::all().map(|way| of(way).len()).sum::<usize>(), 4);
        assert_eq!((counters.answered(Rcode::ServFail), counters.crowded()), (1, 1));
        assert_eq!(counters.took(hot).counts()[..4], [0, 3, 0, 0]);
        assert_eq!(counters.took(hot).sum(), Duration::from_micros(75));
        assert_eq!(counters.took(forwarded).counts()[BUCKETS_MICROS.len()], 2);
    }

    #[test]
    fn the_codes_of_messages_are_those_that_we_give() {
        for code in Rcode::ALL.into_iter().filter(|code| *code != Rcode::BadVers) {
            let number = u16::from(Into::<ResponseCode>::into(code));
            let message = [0, 0, 0, 0x10 | u8::try_from(number).expect("four bits")];
            assert_eq!(Code::of_message(&message), code.into());
        }
        assert_eq!(Code::of_message(&[]).as_str(), "noerror");
    }
}

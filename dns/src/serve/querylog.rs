//! One line for some of the questions, when asked for. Off unless set.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::counters::{Code, Way};
use super::question::Question;

/// Which questions are logged: one of so many, at random, so that who always asks in pairs is seen whole in time.
#[derive(Debug)]
pub(super) struct QueryLog {
    one_in: u64,
    drawn: AtomicU64,
}

impl QueryLog {
    /// 0 logs none, 1 all.
    pub(super) fn new(one_in: u32) -> Self {
        Self { one_in: one_in.into(), drawn: AtomicU64::new(0) }
    }

    /// Whether the next question is logged.
    pub(super) fn draws(&self) -> bool {
        self.one_in != 0 && mixed(self.drawn.fetch_add(1, Ordering::Relaxed)).is_multiple_of(self.one_in)
    }
}

/// The finalizer of SplitMix64: successive numbers come out as if drawn.
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Writes the line. `message` is the query or its answer: the question is in both.
pub(super) fn write(asker: SocketAddr, message: &[u8], code: Code, way: Way, took: Duration) {
    let question = Question::read(message).map(|question| question.to_string()).unwrap_or_default();
    let (name, kind) = question.rsplit_once(' ').unwrap_or(("unreadable", "none"));
    tracing::info!(
        asker = %asker.ip(),
        name,
        kind,
        rcode = code.as_str(),
        transport = way.transport_str(),
        path = way.path.as_str(),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "a name was asked for"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_logged_as_was_asked_for() {
        let drawn = |one_in, of: u32| {
            let log = QueryLog::new(one_in);
            (0..of).filter(|_| log.draws()).count()
        };
        assert_eq!((drawn(0, 1000), drawn(1, 1000)), (0, 1000));
        assert!((80..120).contains(&drawn(100, 10_000)));
        // Of those who always ask twice, the second question is drawn as often as the first.
        let log = QueryLog::new(2);
        let seconds = (0..2000).filter(|n| log.draws() && n % 2 == 1).count();
        assert!((400..600).contains(&seconds), "{seconds}");
    }
}

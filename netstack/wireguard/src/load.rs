//! How many handshakes are answered. Decides when cookies are asked for and how much one source may cost.
//!
//! Who passed the cookie is known by its address; the bucket below bounds it too (WireGuard paper, section 5.3).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::Time;

/// Handshakes a second without cookies: about a tenth of a core.
pub const UNCHALLENGED_PER_SECOND_MAX: u32 = 500;
/// Handshakes a second of one source under load, as in the kernel.
const PER_SOURCE_PER_SECOND: u32 = 20;
/// Handshakes that one source may send at once under load, as in the kernel.
const PER_SOURCE_BURST: u32 = 5;
/// Sources remembered under load: at 48 bytes each, less than a megabyte.
const SOURCES_MAX: usize = 8192;
/// How long a spent bucket takes to be full again; then its source can be forgotten.
const REFILL: Duration = Duration::from_millis(1000 * PER_SOURCE_BURST as u64 / PER_SOURCE_PER_SECOND as u64);

/// Counts handshake messages in windows of a second, and under load by source.
pub struct Load {
    window: Time,
    count: u32,
    sources: BTreeMap<Source, Time>,
}

/// An IPv4 address or an IPv6 /64, which one person owns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source(u64);

impl Load {
    /// One that has counted nothing yet.
    pub const fn new(now: Time) -> Self {
        Self { window: now, count: 0, sources: BTreeMap::new() }
    }

    /// Counts a handshake message and says whether it must prove its address.
    pub fn challenges(&mut self, now: Time) -> bool {
        if now.since(self.window) >= Duration::from_secs(1) {
            self.window = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count > UNCHALLENGED_PER_SECOND_MAX
    }

    /// Whether a source that proved its address may have one more handshake. Kept as the time at which the
    /// bucket is full: each handshake moves it on by a twentieth of a second.
    pub fn admits(&mut self, source: IpAddr, now: Time) -> bool {
        let source = Source::of(source);
        if !self.sources.contains_key(&source) && self.sources.len() >= SOURCES_MAX {
            self.sources.retain(|_, full| *full > now);
            if self.sources.len() >= SOURCES_MAX {
                return false;
            }
        }
        let full = self.sources.entry(source).or_insert(now);
        let next = (*full).max(now) + Duration::from_secs(1) / PER_SOURCE_PER_SECOND;
        let admitted = next <= now + REFILL;
        if admitted {
            *full = next;
        }
        admitted
    }
}

impl Source {
    fn of(address: IpAddr) -> Self {
        // An IPv4 address is below every IPv6 network in use (RFC 4291, section 2.4: ::/8 is reserved).
        Self(match address {
            IpAddr::V4(a) => u32::from(a).into(),
            IpAddr::V6(a) => Self::network(a),
        })
    }

    fn network(address: Ipv6Addr) -> u64 {
        u64::try_from(u128::from(address) >> 64).expect("64 bits are left")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_asked_for_above_the_limit_and_not_in_the_next_second() {
        let now = Time::from_nanos(0);
        let mut load = Load::new(now);
        assert!((0..UNCHALLENGED_PER_SECOND_MAX).all(|_| !load.challenges(now)));
        assert!(load.challenges(now));
        assert!(!load.challenges(now + Duration::from_secs(1)));
    }

    #[test]
    fn one_source_is_bounded_and_its_neighbour_is_not() {
        let now = Time::from_nanos(0);
        let mut load = Load::new(now);
        let (a, b) = ("2001:db8::1".parse().expect("v6"), "2001:db8:0:1::1".parse().expect("v6"));
        assert!((0..PER_SOURCE_BURST).all(|_| load.admits(a, now)));
        assert!(!load.admits(a, now) && !load.admits("2001:db8::2".parse().expect("v6"), now));
        assert!(load.admits(b, now));
        assert!(load.admits(a, now + Duration::from_millis(51)));
    }

    #[test]
    fn sources_are_bounded_and_forgotten_when_they_rest() {
        let now = Time::from_nanos(0);
        let mut load = Load::new(now);
        let source = |n: usize| IpAddr::from(u32::try_from(n).expect("small").to_be_bytes());
        assert!((0..SOURCES_MAX).all(|n| load.admits(source(n), now)));
        assert!(!load.admits(source(SOURCES_MAX), now));
        assert!(load.admits(source(SOURCES_MAX), now + REFILL));
    }
}

//! The timestamp of an initiation: TAI64N (<https://cr.yp.to/libtai/tai64.html>), coarse on purpose.

use std::time::Duration;

/// Whole seconds of 1970 on the scale, as in the kernel and wireguard-go: both leave out the leap seconds since.
const EPOCH: u64 = 0x4000_0000_0000_000a;
/// Steps of 2^24 ns, about 17 ms: no clock finer than the rate of initiations leaks (the kernel's 50 a second).
const STEP_NANOS: u32 = 1 << 24;

/// A point in time as a peer claims it; orders as time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tai64n([u8; 12]);

impl Tai64n {
    /// The time so long after 1970, rounded down to 2^24 ns: two in one step are equal, and a peer takes only the
    /// first of them.
    pub fn from_wall(since_1970: Duration) -> Self {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&EPOCH.saturating_add(since_1970.as_secs()).to_be_bytes());
        let nanos = since_1970.subsec_nanos();
        bytes[8..].copy_from_slice(&(nanos - nanos % STEP_NANOS).to_be_bytes());
        Self(bytes)
    }

    /// Takes the bytes as a time; every twelve bytes are one, since peers only compare them.
    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// The 12 bytes.
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_known_time_reads_as_in_the_kernel() {
        let bytes = *Tai64n::from_wall(Duration::new(1_763_776_290, 999_999_999)).as_bytes();
        assert_eq!(bytes[..8], (0x4000_0000_0000_0000_u64 + 10 + 1_763_776_290).to_be_bytes());
        assert_eq!(bytes[8..], (59 * (1_u32 << 24)).to_be_bytes());
    }

    proptest! {
        #[test]
        fn order_is_that_of_time_in_steps(a in 0..u64::MAX / 2, b in 0..u64::MAX / 2) {
            let step = |nanos: u64| (nanos / 1_000_000_000, nanos % 1_000_000_000 / u64::from(STEP_NANOS));
            let stamp = |nanos| Tai64n::from_wall(Duration::from_nanos(nanos));
            prop_assert_eq!(stamp(a).cmp(&stamp(b)), step(a).cmp(&step(b)));
            prop_assert_eq!(Tai64n::from_bytes(*stamp(a).as_bytes()), stamp(a));
        }

        #[test]
        fn nothing_finer_than_a_step_is_told(seconds: u32, nanos in 0..1_000_000_000_u32) {
            let bytes = *Tai64n::from_wall(Duration::new(seconds.into(), nanos)).as_bytes();
            prop_assert_eq!(&bytes[9..], &[0; 3]);
        }
    }
}

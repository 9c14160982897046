//! How a peer is made to hear from us at once, by any WireGuard: a keepalive that is switched on goes at once. Knows no peer.

/// What the keepalive is set to meanwhile. Seconds; 0 is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Off, so that it can be switched on.
    Off,
    /// On, though it is wished off: to the longest interval.
    On,
}

impl Greeting {
    /// The first step where the keepalive is set so. `None`: it is only to be set as it is wished.
    pub(crate) const fn begin(set: u16, wished: u16) -> Option<Self> {
        match (set, wished) {
            (0, 0) => Some(Self::On),
            // That alone switches it on.
            (0, _) => None,
            _ => Some(Self::Off),
        }
    }

    /// The step after this one. `None`: it is to be set as it is wished.
    pub(crate) const fn next(self, wished: u16) -> Option<Self> {
        match (self, wished) {
            (Self::Off, 0) => Some(Self::On),
            _ => None,
        }
    }

    /// What the host is to set.
    pub(crate) const fn keepalive(self) -> u16 {
        match self {
            Self::Off => 0,
            Self::On => u16::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keepalive_is_switched_on_once_and_ends_as_it_is_wished() {
        for (set, wished, expect) in [
            (25, 25, &[0, 25][..]),
            (60, 25, &[0, 25]),
            (0, 25, &[25]),
            (25, 0, &[0, u16::MAX, 0]),
            (0, 0, &[u16::MAX, 0]),
        ] {
            let steps = std::iter::successors(Greeting::begin(set, wished), |step| step.next(wished));
            let sets: Vec<u16> = steps.map(Greeting::keepalive).chain([wished]).collect();
            assert_eq!(sets, expect, "{set} {wished}");
            let all = [&[set], &sets[..]].concat();
            let switched_on = all.windows(2).filter(|pair| pair[0] == 0 && pair[1] > 0).count();
            assert_eq!(switched_on, 1, "{set} {wished}");
        }
    }
}

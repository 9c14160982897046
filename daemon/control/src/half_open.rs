//! Links that have not attached yet, counted in all and by address. Closes none.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::limits::{LINKS_HALF_OPEN_MAX, LINKS_HALF_OPEN_PER_ADDRESS_MAX};
use crate::link::Origin;

/// How many links have not attached yet.
#[derive(Debug, Default)]
pub(crate) struct HalfOpen {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

impl HalfOpen {
    /// One more. False if there is no room for it; it counts until its end all the same.
    pub(crate) fn begin(&mut self, from: Origin) -> bool {
        self.all += 1;
        let Origin::Network(address) = from else { return true };
        let here = self.by_address.entry(address).or_default();
        *here += 1;
        self.all <= LINKS_HALF_OPEN_MAX && *here <= LINKS_HALF_OPEN_PER_ADDRESS_MAX
    }

    /// One attached or ended.
    pub(crate) fn end(&mut self, from: Origin) {
        self.all = self.all.saturating_sub(1);
        let Origin::Network(address) = from else { return };
        if let Some(here) = self.by_address.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_keeps_nobody_else_out() {
        let mut half_open = HalfOpen::default();
        let from = |n: u8| Origin::Network([192, 0, 2, n].into());
        for _ in 0..LINKS_HALF_OPEN_PER_ADDRESS_MAX {
            assert!(half_open.begin(from(1)));
        }
        assert!(!half_open.begin(from(1)));
        assert!(half_open.begin(from(2)) && half_open.begin(Origin::Hub));
        half_open.end(from(1));
        half_open.end(from(1));
        assert!(half_open.begin(from(1)));
    }
}

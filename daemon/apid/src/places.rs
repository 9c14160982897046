//! How many connections each may have: an address over HTTPS, a user of the machine at the socket. Knows nothing of what is said on
//! them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use link::listening::network_of;
use prometheus_client::metrics::counter::Counter;

use crate::proxies::Proxies;

/// HTTPS connections at once, links over WebSocket among them. More wait in the kernel's queue.
pub const HTTPS_CONNECTIONS_MAX: u16 = 16_384;
/// Those of one address at once, an office's, where the settings say nothing else: sixteen addresses are needed for all that there are.
pub const HTTPS_CONNECTIONS_EACH: u16 = HTTPS_CONNECTIONS_MAX / 16;
/// Those of a proxy that is trusted, behind which everybody may be; never all that there are, unless the settings say so.
const HTTPS_CONNECTIONS_OF_PROXY: u16 = HTTPS_CONNECTIONS_MAX / 2;
/// That an address wants more is said so often at most.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The HTTPS connections of each address.
pub struct Addresses {
    places: Places<IpAddr>,
    proxies: Proxies,
    each: u16,
    turned_away: Counter,
    warned_at: Option<Instant>,
}

impl Addresses {
    /// So many for each address, and for each proxy half of all if that is more; those that find no place are counted.
    pub fn new(proxies: Proxies, each: u16, turned_away: Counter) -> Self {
        Self { places: Places::default(), proxies, each, turned_away, warned_at: None }
    }

    /// `None`: it has as many as it may.
    pub fn enter(&mut self, address: IpAddr) -> Option<Place<IpAddr>> {
        let most = self.most(address);
        let place = self.places.enter(network_of(address), most.into());
        if place.is_none() {
            self.turned_away.inc();
            if self.is_worth_saying(Instant::now()) {
                tracing::warn!(%address, most, "an address has as many connections as it may: if many come by it, raise --connections-per-address");
            }
        }
        place
    }

    fn most(&self, address: IpAddr) -> u16 {
        if self.proxies.believes(address) { self.each.max(HTTPS_CONNECTIONS_OF_PROXY) } else { self.each }
    }

    /// Whether nothing was said of late: whoever floods the server fills no log.
    fn is_worth_saying(&mut self, now: Instant) -> bool {
        if self.warned_at.is_some_and(|at| now.duration_since(at) < WARNING_INTERVAL) {
            return false;
        }
        self.warned_at = Some(now);
        true
    }
}

/// How many connections each has: an address, or a user of the machine.
pub struct Places<Who> {
    counts: Arc<Mutex<BTreeMap<Who, usize>>>,
}

impl<Who> Default for Places<Who> {
    fn default() -> Self {
        Self { counts: Arc::default() }
    }
}

/// One connection of somebody, for as long as it lives.
pub struct Place<Who: Ord>(Arc<Mutex<BTreeMap<Who, usize>>>, Who);

impl<Who: Ord + Copy> Places<Who> {
    /// `None`: it has as many as it may.
    pub fn enter(&self, who: Who, most: usize) -> Option<Place<Who>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(who).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place(Arc::clone(&self.counts), who))
    }
}

impl<Who: Ord> Drop for Place<Who> {
    fn drop(&mut self) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(each: u16) -> Addresses {
        let proxies = Proxies::new(vec!["192.0.2.0/24".parse().expect("a network")]);
        Addresses::new(proxies, each, Counter::default())
    }

    #[test]
    fn one_never_has_every_place() {
        let (places, one, most) = (Places::default(), 1, 5);
        let mut held: Vec<_> = (0..most).filter_map(|_| places.enter(one, most)).collect();
        assert_eq!((held.len(), places.enter(one, most).is_none()), (most, true));
        assert!(places.enter(2, most).is_some());
        held.pop();
        assert!(places.enter(one, most).is_some(), "one ended");
        held.clear();
        assert!(places.counts.lock().expect("nobody panicked").is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn an_address_has_what_the_settings_say_and_a_proxy_half_at_least() {
        let most = |each, text: &str| addresses(each).most(text.parse().expect("an address"));
        assert_eq!(most(HTTPS_CONNECTIONS_EACH, "203.0.113.9") * 16, HTTPS_CONNECTIONS_MAX, "a sixteenth");
        assert_eq!(most(7, "203.0.113.9"), 7);
        assert_eq!(most(7, "192.0.2.9") * 2, HTTPS_CONNECTIONS_MAX, "a proxy");
        assert_eq!(most(HTTPS_CONNECTIONS_MAX, "192.0.2.9"), HTTPS_CONNECTIONS_MAX);
    }

    #[test]
    fn who_finds_no_place_is_counted_and_told_of_once_in_a_minute() {
        let mut addresses = addresses(1);
        let one = "203.0.113.9".parse().expect("an address");
        let held = addresses.enter(one);
        assert!(held.is_some() && addresses.enter(one).is_none() && addresses.enter(one).is_none());
        assert_eq!(addresses.turned_away.get(), 2);
        let warned_at = addresses.warned_at.expect("it is said");
        let after = |seconds| warned_at + Duration::from_secs(seconds);
        assert_eq!(
            [59, 60, 61, 120].map(|s| addresses.is_worth_saying(after(s))),
            [false, true, false, true]
        );
    }
}

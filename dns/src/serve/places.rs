//! A bounded number of places, and of them a bounded number for each source. Knows not what they are for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places that are taken and given back.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    per_source: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// No source without a place is here.
    by_source: BTreeMap<IpAddr, usize>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    source: IpAddr,
}

impl Places {
    pub(super) fn new(all: usize, per_source: usize) -> Arc<Self> {
        Arc::new(Self { all, per_source, taken: Mutex::default() })
    }

    /// `None` if all are taken, or as many as the source may have.
    pub(super) fn take(self: &Arc<Self>, source: IpAddr) -> Option<Place> {
        let mut taken = self.taken();
        if taken.all >= self.all {
            return None;
        }
        let of_source = taken.by_source.entry(source).or_default();
        if *of_source >= self.per_source {
            return None;
        }
        *of_source += 1;
        taken.all += 1;
        Some(Place { places: Arc::clone(self), source })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(of_source) = taken.by_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_source_takes_anothers_place() {
        let places = Places::new(3, 2);
        let [a, b, c] = [1, 2, 3].map(|n| IpAddr::from([192, 0, 2, n]));
        let held = [places.take(a), places.take(a), places.take(b)].map(|place| place.expect("free"));
        assert!(places.take(c).is_none(), "all are taken");
        drop(held);
        let first = places.take(a).expect("free again");
        let _second = places.take(a).expect("free again");
        assert!(places.take(a).is_none(), "as many as one may have");
        let _other = places.take(b).expect("there is one left");
        drop(first);
        assert!(places.take(a).is_some());
        assert_eq!(places.taken().by_source.len(), 2);
    }
}

//! Receiver indices in use (WireGuard paper, section 5.4.2): found by message, free again when dropped. Knows not
//! what holds one.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, PoisonError, RwLock};

/// Attempts to find a free index among 2^24 that are at most half used.
const INDEX_ATTEMPTS: u32 = 64;

/// Whose a receiver index is: its upper 24 bits; the lower eight count the sessions of whoever has it.
pub(crate) struct Indices<H>(RwLock<HashMap<u32, H>>);

impl<H: Clone> Indices<H> {
    pub(crate) fn new() -> Self {
        Self(RwLock::default())
    }

    /// An index that nobody else has, random so that it tells nothing. `None` if there is none to be found.
    pub(crate) fn lease(self: &Arc<Self>, holder: &H) -> Option<Lease<H>> {
        let mut indices = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..INDEX_ATTEMPTS {
            let index = getrandom::u32().ok()? >> 8;
            if let Slot::Vacant(free) = indices.entry(index) {
                free.insert(holder.clone());
                return Some(Lease { index, indices: Arc::clone(self) });
            }
        }
        None
    }

    /// Whose a message's receiver index is, and the index.
    pub(crate) fn find(&self, receiver: [u8; 4]) -> Option<(u32, H)> {
        let index = u32::from_le_bytes(receiver) >> 8;
        let indices = self.0.read().unwrap_or_else(PoisonError::into_inner);
        indices.get(&index).map(|holder| (index, holder.clone()))
    }
}

/// An index in use; free again when dropped.
pub(crate) struct Lease<H> {
    index: u32,
    indices: Arc<Indices<H>>,
}

impl<H> Lease<H> {
    pub(crate) const fn index(&self) -> u32 {
        self.index
    }
}

impl<H> Drop for Lease<H> {
    fn drop(&mut self) {
        self.indices.0.write().unwrap_or_else(PoisonError::into_inner).remove(&self.index);
    }
}

//! Private keys that must never be seen in a frame, and a quick look for them.

use std::collections::BTreeSet;

const BYTES: usize = 32;

/// Every private key of a run.
pub(super) struct Secrets {
    /// Whether any key begins with these two bytes.
    begins: Vec<bool>,
    keys: BTreeSet<[u8; BYTES]>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self { begins: vec![false; 1 << 16], keys: BTreeSet::new() }
    }
}

impl Secrets {
    pub(super) fn add(&mut self, key: [u8; BYTES]) {
        self.begins[begin(&key)] = true;
        self.keys.insert(key);
    }

    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        let mut windows = bytes.windows(BYTES).filter_map(|window| window.first_chunk::<BYTES>());
        windows.any(|window| self.begins[begin(window)] && self.keys.contains(window))
    }
}

fn begin(bytes: &[u8; BYTES]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_wherever_it_is() {
        let mut secrets = Secrets::default();
        secrets.add([7; BYTES]);
        let mut bytes = vec![7; 31];
        assert!(!secrets.is_in(&bytes));
        bytes.splice(0..0, [1, 2, 3]);
        bytes.push(7);
        assert!(secrets.is_in(&bytes));
    }
}

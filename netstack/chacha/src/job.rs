//! One packet to seal or to open, and the key for it.

use std::fmt;

use zeroize::Zeroize;

/// How much longer a sealed text is: its Poly1305 tag.
pub const TAG_BYTES: usize = 16;

/// A key of 256 bits. Wiped on drop, never printed.
pub struct Key {
    words: [u32; 8],
}

impl Key {
    /// A key of its bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self { words }
    }

    /// The key as ChaCha20's little endian words.
    pub(crate) fn words(&self) -> &[u32; 8] {
        &self.words
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.words.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// One packet, to be sealed or opened in place.
#[derive(Debug)]
pub struct Job<'a> {
    /// The key. Jobs of one call may have different ones.
    pub key: &'a Key,
    /// The nonce: four zero bytes, then this in little endian.
    pub counter: u64,
    /// The text (0 to 65519 bytes), then [`TAG_BYTES`] of tag.
    pub bytes: &'a mut [u8],
}

impl Job<'_> {
    /// The nonce of RFC 8439.
    pub(crate) fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_le_bytes());
        nonce
    }

    /// How long the text is, if there is room for a tag behind it.
    pub(crate) fn text_bytes(&self) -> Option<usize> {
        self.bytes.len().checked_sub(TAG_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", Key::new(&[7; 32])), "Key(..)");
    }

    #[test]
    fn a_counter_is_the_end_of_the_nonce() {
        let job = Job { key: &Key::new(&[0; 32]), counter: 0x0102, bytes: &mut [] };
        assert_eq!(job.nonce(), [0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    }
}

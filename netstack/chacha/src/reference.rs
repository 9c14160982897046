//! One packet after the other by ring: what every other cipher must agree with.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use crate::job::{Job, Key, TAG_BYTES};

/// Writes the ciphertext and the tag of each job.
pub(crate) fn seal(job: &mut Job<'_>) {
    let nonce = Nonce::assume_unique_for_key(job.nonce());
    let text_bytes = job.text_bytes().expect("a job to seal has room for its tag");
    let (text, tag) = job.bytes.split_at_mut(text_bytes);
    let sealed = keyed(job.key).seal_in_place_separate_tag(nonce, Aad::empty(), text);
    tag.copy_from_slice(sealed.expect("a packet is shorter than 256 GiB").as_ref());
}

/// Puts the text into its place and says whether the tag was right; if not, every byte is zero.
pub(crate) fn open(job: &mut Job<'_>) -> bool {
    let nonce = Nonce::assume_unique_for_key(job.nonce());
    let right = job.bytes.len() >= TAG_BYTES
        && keyed(job.key).open_in_place(nonce, Aad::empty(), &mut *job.bytes).is_ok();
    if !right {
        job.bytes.fill(0);
    }
    right
}

fn keyed(key: &Key) -> LessSafeKey {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(key.words()) {
        *bytes = word.to_le_bytes();
    }
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, &bytes).expect("a key has 32 bytes");
    bytes.zeroize();
    LessSafeKey::new(unbound)
}

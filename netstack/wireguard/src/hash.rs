//! BLAKE2s as the paper uses it (section 5.4): Hash, Mac, Hmac and Kdf. What it returns as [`Secret`] is wiped.

use blake2::digest::consts::{U16, U32};
use blake2::{Blake2s256, Blake2sMac, Digest as _};
use hmac::{Mac as _, SimpleHmac};
use zeroize::Zeroizing;

/// 32 bytes that are wiped when dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// The paper's Hash over the parts, one after the other.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Blake2s256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

/// The paper's Mac: keyed BLAKE2s of 16 bytes. `key` has at most 32.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mac = Blake2sMac::<U16>::new_from_slice(key).expect("keys have 16 or 32 bytes");
    parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().into()
}

/// Keyed BLAKE2s of 32 bytes: a secret of its own for each input.
pub(crate) fn subkey(key: &Secret, input: &[u8]) -> Secret {
    let mac = Blake2sMac::<U32>::new_from_slice(&**key).expect("32 bytes are a key");
    Zeroizing::new(mac.chain_update(input).finalize().into_bytes().into())
}

/// The paper's Kdf with `N` outputs, each the key of the next step.
pub(crate) fn derive<const N: usize>(chaining: &[u8; 32], input: &[u8]) -> [Secret; N] {
    let extracted = hmac(chaining, &[input]);
    let mut number = 0;
    let mut last: Option<Secret> = None;
    std::array::from_fn(|_| {
        number += 1;
        let next = match &last {
            Some(last) => hmac(&extracted, &[&**last, &[number]]),
            None => hmac(&extracted, &[&[number]]),
        };
        last = Some(next.clone());
        next
    })
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Secret {
    let mac = SimpleHmac::<Blake2s256>::new_from_slice(key).expect("HMAC takes keys of any length");
    let mac = parts.iter().fold(mac, |mac, part| mac.chain_update(part));
    Zeroizing::new(mac.finalize().into_bytes().into())
}

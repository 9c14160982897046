//! What seals packets, as people write it: `auto`, or a cipher by its name. Knows no packets.

use std::fmt;
use std::str::FromStr;

use chacha::Cipher;

/// A cipher that this machine can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crypto(Cipher);

impl Crypto {
    /// The cipher.
    pub const fn cipher(self) -> Cipher {
        self.0
    }
}

impl Default for Crypto {
    /// `auto`: the fastest one.
    fn default() -> Self {
        Self(Cipher::fastest())
    }
}

impl fmt::Display for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Not a cipher, or not one of this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCrypto {
    /// There is none of that name.
    #[error("a cipher is auto, reference, avx2 or avx512")]
    Unknown,
    /// The processor lacks what it needs.
    #[error("this processor cannot run {0}: choose auto, or one of {1}")]
    NotHere(Cipher, String),
}

impl FromStr for Crypto {
    type Err = BadCrypto;

    fn from_str(text: &str) -> Result<Self, BadCrypto> {
        if text == "auto" {
            return Ok(Self::default());
        }
        let cipher = text.parse().map_err(|_| BadCrypto::Unknown)?;
        let available = Cipher::available();
        if available.contains(&cipher) {
            return Ok(Self(cipher));
        }
        let names: Vec<String> = available.iter().map(ToString::to_string).collect();
        Err(BadCrypto::NotHere(cipher, names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_has_is_chosen_and_nothing_else() {
        assert_eq!("auto".parse(), Ok(Crypto(Cipher::fastest())));
        assert_eq!("reference".parse(), Ok(Crypto(Cipher::Reference)));
        assert_eq!("rot13".parse::<Crypto>(), Err(BadCrypto::Unknown));
        for cipher in [Cipher::Reference, Cipher::Avx2, Cipher::Avx512] {
            let chosen = cipher.to_string().parse::<Crypto>();
            assert_eq!(chosen.is_ok(), Cipher::available().contains(&cipher), "{chosen:?}");
        }
    }
}

//! A public key that may be certified: parsed once, of a kind that is allowed by name. Knows not whose it is.

use std::fmt;
use std::str::FromStr;

use model::{Code, Refusal};
use ssh_key::PublicKey;
use ssh_key::public::KeyData;

use crate::limits::{RSA_BITS_MIN, SUBJECT_BYTES_MAX};

/// A kind of key that can be certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyType {
    /// RFC 8709.
    Ed25519,
    /// Ed25519 in a security key (PROTOCOL.u2f).
    SkEd25519,
    /// ECDSA over P-256 in a security key (PROTOCOL.u2f).
    SkEcdsa256,
    /// RFC 5656.
    Ecdsa256,
    /// RFC 5656.
    Ecdsa384,
    /// RFC 5656.
    Ecdsa521,
    /// RFC 4253; only where it is allowed, and long.
    Rsa,
}

impl KeyType {
    const ALL: [Self; 7] = [
        Self::Ed25519,
        Self::SkEd25519,
        Self::SkEcdsa256,
        Self::Ecdsa256,
        Self::Ecdsa384,
        Self::Ecdsa521,
        Self::Rsa,
    ];

    /// As OpenSSH writes it before the key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            Self::SkEcdsa256 => "sk-ecdsa-sha2-nistp256@openssh.com",
            Self::Ecdsa256 => "ecdsa-sha2-nistp256",
            Self::Ecdsa384 => "ecdsa-sha2-nistp384",
            Self::Ecdsa521 => "ecdsa-sha2-nistp521",
            Self::Rsa => "ssh-rsa",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A public key that may be certified. Its comment is left behind: nobody vouches for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Subject {
    kind: KeyType,
    key: PublicKey,
}

impl Subject {
    /// Its kind.
    pub const fn kind(&self) -> KeyType {
        self.kind
    }

    /// As `ssh-keygen -l` shows it: `SHA256:` and base64.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(ssh_key::HashAlg::Sha256).to_string()
    }

    /// The key as OpenSSH signs and compares it.
    pub fn wire(&self) -> Vec<u8> {
        self.key.to_bytes().expect("a key that was read can be written")
    }

    pub(crate) fn key_data(&self) -> &KeyData {
        self.key.key_data()
    }

    /// Bits of an RSA key.
    pub(crate) fn rsa_bits(&self) -> Option<usize> {
        let modulus = self.key.key_data().rsa()?.n.as_positive_bytes()?;
        let leading = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        Some(modulus.len() * 8 - leading)
    }
}

impl FromStr for Subject {
    type Err = Refusal;
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        if text.len() > SUBJECT_BYTES_MAX || text.contains(['\n', '\r', '\0']) {
            return Err(Refusal::new(Code::BadRequest, "a public key is one line of at most 4096 bytes"));
        }
        let name = text.split(' ').next().unwrap_or_default();
        let Some(kind) = KeyType::ALL.into_iter().find(|kind| kind.as_str() == name) else {
            // RSA is for hosts that have nothing else.
            let known = KeyType::ALL.into_iter().filter(|kind| *kind != KeyType::Rsa).map(KeyType::as_str);
            let known = known.collect::<Vec<_>>().join(", ");
            let name: String = name.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
            return Err(Refusal::new(Code::KeyTypeRefused, format!("{name:?} is none of {known}")));
        };
        let unreadable = |e: ssh_key::Error| Refusal::new(Code::BadRequest, format!("the {kind} key: {e}"));
        let read = PublicKey::from_openssh(text).map_err(unreadable)?;
        let subject = Self { kind, key: PublicKey::new(read.key_data().clone(), "") };
        match subject.rsa_bits() {
            Some(bits) if bits < RSA_BITS_MIN => Err(Refusal::new(
                Code::KeyTypeRefused,
                format!("an ssh-rsa key of {bits} bits is shorter than {RSA_BITS_MIN}"),
            )),
            _ => Ok(subject),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key.to_openssh().expect("a key that was read can be written"))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({} {})", self.kind, self.fingerprint())
    }
}

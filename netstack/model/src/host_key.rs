//! The public key of a host, as OpenSSH writes it in a line. Hostile until parsed; knows no certificate.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::text::{cbor_as_text, serde_as_text};

/// Kinds of keys that hosts have (RFC 8709, RFC 5656, RFC 4253).
const ALGORITHMS: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];
/// RSA of 16 384 bits takes 2 800 characters.
const BYTES_MAX: usize = 4096;

/// The public key of a host: its kind and base64, without a comment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostKey(Box<str>);

/// The text is no public key of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a host's key is one of ssh-ed25519, ecdsa-sha2-nistp* and ssh-rsa, and base64")]
pub struct BadHostKey;

impl HostKey {
    /// The line, without a comment.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its wire form (RFC 4253, section 6.6).
    pub fn wire(&self) -> Vec<u8> {
        let base64 = self.0.split_once(' ').map_or("", |(_, base64)| base64);
        STANDARD.decode(base64).expect("it was read when it was made")
    }
}

impl FromStr for HostKey {
    type Err = BadHostKey;

    /// Takes a line of a `.pub` file; what follows the key is left behind.
    fn from_str(line: &str) -> Result<Self, BadHostKey> {
        if line.len() > BYTES_MAX || line.chars().any(char::is_control) {
            return Err(BadHostKey);
        }
        let mut words = line.split(' ');
        let (kind, base64) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let wire = STANDARD.decode(base64).map_err(|_| BadHostKey)?;
        let (length, rest) = wire.split_first_chunk::<4>().ok_or(BadHostKey)?;
        let inside = rest.get(..u32::from_be_bytes(*length) as usize);
        if ALGORITHMS.contains(&kind) && inside == Some(kind.as_bytes()) {
            Ok(Self(format!("{kind} {base64}").into()))
        } else {
            Err(BadHostKey)
        }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

cbor_as_text!(HostKey);
serde_as_text!(HostKey);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::CaKey;

    #[test]
    fn a_key_is_its_kind_and_base64() {
        let line = CaKey::from_bytes([7; 32]).to_string();
        let key: HostKey = format!("{line} root@host").parse().expect("a key");
        assert_eq!(key.as_str(), line);
        assert_eq!(key.wire(), CaKey::from_bytes([7; 32]).wire());
        assert_eq!(key.to_string().parse(), Ok(key));
        let other = line.replace("ssh-ed25519 ", "ssh-rsa ");
        let two = format!("{line}\n{line}");
        for bad in ["", "ssh-ed25519", "ssh-dss AAAA", "ssh-ed25519 AAAA", &other, &two, &line[..30]] {
            assert_eq!(bad.parse::<HostKey>(), Err(BadHostKey), "{bad:?}");
        }
    }
}

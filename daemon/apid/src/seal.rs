//! Keys at rest: sealed under a master key that is not in the database. There is no plaintext mode.
//!
//! A passphrase (Argon2id, 64 MiB, 3 passes) or a random key file of mode 0600 gives the master key; HKDF-SHA256 (RFC
//! 5869) derives a key for each purpose; XChaCha20-Poly1305 seals with the purpose as associated data.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 24;
const KEY_FILE: &str = "seal.key";
const SALT_FILE: &str = "seal.salt";

/// Why keys cannot be sealed or unsealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key or salt file.
    #[error("{path} cannot be used")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The key or salt file has the wrong length.
    #[error("{0} is damaged: restore it from a backup")]
    Damaged(String),
    /// No randomness or no memory.
    #[error("the key cannot be derived: {0}")]
    Derive(String),
    /// Another passphrase or key file sealed it, or it was changed.
    #[error("{0} does not unseal: wrong passphrase or wrong {KEY_FILE}")]
    Wrong(String),
}

/// Seals and unseals.
pub struct Sealer {
    master: Zeroizing<[u8; 32]>,
}

impl Sealer {
    /// From a passphrase and the salt in the state directory, which is made if it is not there.
    pub fn from_passphrase(passphrase: &str, state_dir: &Path) -> Result<Self, SealError> {
        Self::of_passphrase(passphrase, &*file_of_random(&state_dir.join(SALT_FILE))?)
    }

    /// From a passphrase and a salt.
    pub fn of_passphrase(passphrase: &str, salt: &[u8]) -> Result<Self, SealError> {
        let parameters =
            argon2::Params::new(64 * 1024, 3, 1, Some(32)).map_err(|e| SealError::Derive(e.to_string()))?;
        let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, parameters);
        let mut master = Zeroizing::new([0; 32]);
        argon2
            .hash_password_into(passphrase.as_bytes(), salt, &mut *master)
            .map_err(|e| SealError::Derive(e.to_string()))?;
        Ok(Self { master })
    }

    /// From the key file in the state directory, which is made if it is not there.
    pub fn from_key_file(state_dir: &Path) -> Result<Self, SealError> {
        Ok(Self { master: file_of_random(&state_dir.join(KEY_FILE))? })
    }

    /// From the bytes of a key file.
    pub fn of_key(bytes: &[u8]) -> Result<Self, SealError> {
        let master = bytes.try_into().map_err(|_| SealError::Damaged(KEY_FILE.into()))?;
        Ok(Self { master: Zeroizing::new(master) })
    }

    /// Seals a secret for a purpose, such as `anchor <tenant id>`.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|e| SealError::Derive(e.to_string()))?;
        let payload = Payload { msg: secret, aad: purpose.as_bytes() };
        let sealed = self
            .cipher(purpose)
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|e| SealError::Derive(e.to_string()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Unseals what was sealed for the same purpose.
    pub fn unseal(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let wrong = || SealError::Wrong(purpose.into());
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(wrong)?;
        let payload = Payload { msg: ciphertext, aad: purpose.as_bytes() };
        let plain = self.cipher(purpose).decrypt(XNonce::from_slice(nonce), payload).map_err(|_| wrong())?;
        Ok(Zeroizing::new(plain))
    }

    fn cipher(&self, purpose: &str) -> XChaCha20Poly1305 {
        let mut key = Zeroizing::new([0; 32]);
        hkdf::Hkdf::<sha2::Sha256>::new(Some(b"warren seal 1"), &*self.master)
            .expand(purpose.as_bytes(), &mut *key)
            .expect("32 bytes are a valid length for SHA-256");
        XChaCha20Poly1305::new((&*key).into())
    }
}

/// Written beside, synced, then linked: link(2) refuses a name that is taken, and a crash leaves no half of a key.
fn make(path: &Path, key: &[u8]) -> std::io::Result<()> {
    let mut half = path.as_os_str().to_owned();
    half.push(format!(".{}", std::process::id()));
    let half = std::path::PathBuf::from(half);
    let open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half);
    open.and_then(|mut file| file.write_all(key).and_then(|()| file.sync_all()))?;
    let linked = std::fs::hard_link(&half, path);
    std::fs::remove_file(&half)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// 32 random bytes in a file of mode 0600 that is made, once, if it is not there.
fn file_of_random(path: &Path) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let failed = |source| SealError::File { path: path.display().to_string(), source };
    match std::fs::read(path) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            let key =
                bytes.as_slice().try_into().map_err(|_| SealError::Damaged(path.display().to_string()))?;
            Ok(Zeroizing::new(key))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut key = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *key).map_err(|e| SealError::Derive(e.to_string()))?;
            make(path, &*key).map_err(failed)?;
            // Somebody else may have been quicker: what the file says is the key.
            let bytes = std::fs::read(path).map(Zeroizing::new).map_err(failed)?;
            let there = bytes.as_slice().try_into();
            there.map(Zeroizing::new).map_err(|_| SealError::Damaged(path.display().to_string()))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_purpose_unseal() {
        let dir = tempfile::tempdir().expect("a directory");
        let sealer = Sealer::from_key_file(dir.path()).expect("a key");
        let sealed = sealer.seal("anchor a", b"secret").expect("sealed");
        let again = Sealer::from_key_file(dir.path()).expect("the same key");
        assert_eq!(again.unseal("anchor a", &sealed).expect("unsealed").as_slice(), b"secret");
        assert!(matches!(again.unseal("anchor b", &sealed), Err(SealError::Wrong(_))));
        let other = tempfile::tempdir().expect("a directory");
        assert!(Sealer::from_key_file(other.path()).expect("a key").unseal("anchor a", &sealed).is_err());
        assert!(sealer.unseal("anchor a", &sealed[..10]).is_err());
    }

    #[test]
    fn a_passphrase_unseals_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let sealer = |phrase| Sealer::from_passphrase(phrase, dir.path()).expect("a key");
        let sealed = sealer("correct horse").seal("anchor a", b"secret").expect("sealed");
        assert!(sealer("correct horse").unseal("anchor a", &sealed).is_ok());
        assert!(sealer("battery staple").unseal("anchor a", &sealed).is_err());
    }

    #[test]
    fn a_damaged_key_file_is_refused_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(KEY_FILE), b"short").expect("written");
        assert!(matches!(Sealer::from_key_file(dir.path()), Err(SealError::Damaged(_))));
    }
}

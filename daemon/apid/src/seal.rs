//! Keys at rest: sealed under a master key that is not in the database. There is no plaintext mode.
//!
//! HKDF-SHA256 (RFC 5869) derives a key for each purpose from the master key; XChaCha20-Poly1305 seals with the purpose as
//! associated data. A passphrase's own key is Argon2id's, 64 MiB, 3 passes. Where the master key is, `master_key.rs` says.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 24;
/// The master key in the state directory, where no passphrase opens it.
pub const KEY_FILE: &str = "seal.key";
/// Servers of before made the master key of a passphrase and this.
pub const SALT_FILE: &str = "seal.salt";

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
    /// Nothing opens the master key.
    #[error("{0}")]
    Closed(String),
    /// Another passphrase or key file sealed it, or it was changed.
    #[error("{0} does not unseal: wrong passphrase or wrong {KEY_FILE}")]
    Wrong(String),
}

/// Seals and unseals.
pub struct Sealer {
    /// Or why nothing opens it.
    master: Result<Zeroizing<[u8; 32]>, String>,
}

impl Sealer {
    /// From a passphrase and a salt.
    pub fn of_passphrase(passphrase: &str, salt: &[u8]) -> Result<Self, SealError> {
        let parameters =
            argon2::Params::new(64 * 1024, 3, 1, Some(32)).map_err(|e| SealError::Derive(e.to_string()))?;
        let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, parameters);
        let mut master = Zeroizing::new([0; 32]);
        argon2
            .hash_password_into(passphrase.as_bytes(), salt, &mut *master)
            .map_err(|e| SealError::Derive(e.to_string()))?;
        Ok(Self { master: Ok(master) })
    }

    /// From the key file in the state directory, which is made if it is not there.
    pub fn from_key_file(state_dir: &Path) -> Result<Self, SealError> {
        Ok(Self { master: Ok(file_of_random(state_dir, KEY_FILE)?) })
    }

    /// From the bytes of a key file.
    pub fn of_key(bytes: &[u8]) -> Result<Self, SealError> {
        let master = bytes.try_into().map_err(|_| SealError::Damaged(KEY_FILE.into()))?;
        Ok(Self { master: Ok(Zeroizing::new(master)) })
    }

    /// One that neither seals nor unseals, and says why.
    pub const fn closed(why: String) -> Self {
        Self { master: Err(why) }
    }

    /// The master key itself.
    pub fn expose_master(&self) -> Result<&[u8; 32], SealError> {
        self.master.as_deref().map_err(|why| SealError::Closed(why.clone()))
    }

    /// Writes the master key into the state directory, in the place of what is there.
    pub fn write_key_file(&self, state_dir: &Path) -> Result<(), SealError> {
        let (key, path) = (self.expose_master()?, state_dir.join(KEY_FILE));
        let written = write_half(&path, key).and_then(|half| {
            std::fs::rename(&half, &path)?;
            sync_directory(&path)
        });
        written.map_err(|source| SealError::File { path: path.display().to_string(), source })
    }

    /// Seals a secret for a purpose, such as `anchor <tenant id>`.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|e| SealError::Derive(e.to_string()))?;
        let payload = Payload { msg: secret, aad: purpose.as_bytes() };
        let sealed = self
            .cipher(purpose)?
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|e| SealError::Derive(e.to_string()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Unseals what was sealed for the same purpose.
    pub fn unseal(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let wrong = || SealError::Wrong(purpose.into());
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(wrong)?;
        let payload = Payload { msg: ciphertext, aad: purpose.as_bytes() };
        let plain = self.cipher(purpose)?.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| wrong())?;
        Ok(Zeroizing::new(plain))
    }

    fn cipher(&self, purpose: &str) -> Result<XChaCha20Poly1305, SealError> {
        Ok(XChaCha20Poly1305::new((&*self.derive(purpose)?).into()))
    }

    /// The key of a purpose, for whatever else needs one of its own.
    pub fn derive(&self, purpose: &str) -> Result<Zeroizing<[u8; 32]>, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        hkdf::Hkdf::<sha2::Sha256>::new(Some(b"warren seal 1"), self.expose_master()?)
            .expand(purpose.as_bytes(), &mut *key)
            .expect("32 bytes are a valid length for SHA-256");
        Ok(key)
    }
}

/// Beside its place, and on the disk: a crash leaves no half of a key there.
fn write_half(path: &Path, key: &[u8]) -> std::io::Result<PathBuf> {
    let mut half = path.as_os_str().to_owned();
    half.push(format!(".{}", std::process::id()));
    let half = PathBuf::from(half);
    let open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half);
    open.and_then(|mut file| file.write_all(key).and_then(|()| file.sync_all()))?;
    Ok(half)
}

/// Linked into its place: link(2) refuses a name that is taken.
fn make(path: &Path, key: &[u8]) -> std::io::Result<()> {
    let half = write_half(path, key)?;
    let linked = std::fs::hard_link(&half, path);
    std::fs::remove_file(&half)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_directory(path)
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// The 32 bytes of a file of the state directory, if it is there.
pub fn read(state_dir: &Path, name: &str) -> Result<Option<Zeroizing<[u8; 32]>>, SealError> {
    let path = state_dir.join(name);
    match std::fs::read(&path).map(Zeroizing::new) {
        Ok(bytes) => {
            let key = bytes.as_slice().try_into().map(Zeroizing::new);
            key.map(Some).map_err(|_| SealError::Damaged(path.display().to_string()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SealError::File { path: path.display().to_string(), source }),
    }
}

/// Removes files of the state directory, if they are there.
pub fn forget(state_dir: &Path, names: &[&str]) -> Result<(), SealError> {
    for path in names.iter().map(|name| state_dir.join(name)) {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(SealError::File { path: path.display().to_string(), source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// 32 random bytes in a file of mode 0600 that is made, once, if it is not there.
fn file_of_random(state_dir: &Path, name: &str) -> Result<Zeroizing<[u8; 32]>, SealError> {
    if let Some(key) = read(state_dir, name)? {
        return Ok(key);
    }
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(|e| SealError::Derive(e.to_string()))?;
    let path = state_dir.join(name);
    make(&path, &*key).map_err(|source| SealError::File { path: path.display().to_string(), source })?;
    // Somebody else may have been quicker: what the file says is the key.
    read(state_dir, name)?.ok_or_else(|| SealError::Damaged(path.display().to_string()))
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
    fn a_passphrase_and_its_salt_are_one_key() {
        let sealer = |phrase, salt: &[u8]| Sealer::of_passphrase(phrase, salt).expect("a key");
        let sealed =
            sealer("correct horse", b"0123456789abcdef").seal("anchor a", b"secret").expect("sealed");
        assert!(sealer("correct horse", b"0123456789abcdef").unseal("anchor a", &sealed).is_ok());
        assert!(sealer("correct horse", b"another salt 012").unseal("anchor a", &sealed).is_err());
        assert!(sealer("battery staple", b"0123456789abcdef").unseal("anchor a", &sealed).is_err());
    }

    #[test]
    fn a_closed_one_says_why() {
        let closed = Sealer::closed("no passphrase".into());
        assert_eq!(closed.seal("anchor a", b"secret").expect_err("closed").to_string(), "no passphrase");
        assert_eq!(closed.unseal("anchor a", &[0; 64]).expect_err("closed").to_string(), "no passphrase");
    }

    #[test]
    fn a_key_file_can_be_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Sealer::from_key_file(dir.path()).expect("a key");
        let other = Sealer::of_key(&[7; 32]).expect("a key");
        other.write_key_file(dir.path()).expect("written");
        let read = Sealer::from_key_file(dir.path()).expect("a key");
        assert_eq!(read.expose_master().expect("open"), &[7; 32]);
        assert_ne!(read.expose_master().expect("open"), first.expose_master().expect("open"));
        forget(dir.path(), &[KEY_FILE, SALT_FILE]).expect("what is not there is gone");
        assert!(read_key(dir.path()).is_none());
    }

    fn read_key(dir: &Path) -> Option<Zeroizing<[u8; 32]>> {
        read(dir, KEY_FILE).expect("reads")
    }

    #[test]
    fn a_damaged_key_file_is_refused_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(KEY_FILE), b"short").expect("written");
        assert!(matches!(Sealer::from_key_file(dir.path()), Err(SealError::Damaged(_))));
    }
}

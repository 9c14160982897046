//! A secret key in a file of its own: made once, read ever after, never replaced. Knows not what it is a key of.
//!
//! The file holds 32 bytes in base64 and a newline, as `wg genkey` writes them, and is readable by its owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::files::SECRET;

/// More than a key needs, so that a longer file is seen to be none.
const FILE_BYTES_MAX: u64 = 1024;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file could not be read or made.
    #[error("{doing} {}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file holds something else, such as the first half of a key.
    #[error(
        "{} holds no key ({bytes} bytes): put the key back from a backup, or remove the file for a new key",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How long it is.
        bytes: usize,
    },
    /// Others may read the file.
    #[error("{} may be read by others (mode {mode:o}): chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The kernel gives no random bytes.
    #[error("the kernel has no random bytes")]
    Random(#[source] getrandom::Error),
}

/// Reads the key, or makes one if there is no file. A file that is there is never written.
pub fn load_or_create(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    if let Some(key) = load(path)? {
        return Ok(key);
    }
    create(path)?;
    // Somebody else may have been quicker; the file says whose key it is.
    let vanished = || error("reading", path)(io::ErrorKind::NotFound.into());
    load(path)?.ok_or_else(vanished)
}

/// Reads the key; `None` if there is no file.
pub fn load(path: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, KeyFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error("opening", path)(e)),
    };
    let mode = file.metadata().map_err(error("reading", path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.into(), mode });
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(error("reading", path))?;
    let mut key = Zeroizing::new([0; 32]);
    let damaged = || KeyFileError::Damaged { path: path.into(), bytes: text.len() };
    // 32 bytes fill 44 characters; whatever follows may only be white space.
    let decoded = STANDARD.decode(text.trim_ascii_end()).map(Zeroizing::new).map_err(|_| damaged())?;
    if decoded.len() != key.len() {
        return Err(damaged());
    }
    key.copy_from_slice(&decoded);
    Ok(Some(key))
}

/// What the file of a key says.
pub fn to_file(key: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(STANDARD.encode(key));
    text.push('\n');
    text
}

/// Written beside, synced, then linked: link(2) refuses a name that is taken, and a crash leaves no half of a key.
fn create(path: &Path) -> Result<(), KeyFileError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(KeyFileError::Random)?;
    let text = to_file(&key);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(error("removing", &beside)(e)),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(SECRET).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(error("writing", &beside))?;
    match fs::hard_link(&beside, path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(error("making", path)(e)),
        _ => {}
    }
    fs::remove_file(&beside).map_err(error("removing", &beside))?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|d| d.sync_all()).map_err(error("syncing", directory))
}

fn error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyFileError + use<> {
    let path = path.to_owned();
    move |source| KeyFileError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wg.key");
        assert!(load(&path).unwrap().is_none());
        let key = load_or_create(&path).unwrap();
        assert_eq!(load_or_create(&path).unwrap(), key);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, SECRET);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        let other = load_or_create(&directory.path().join("other.key")).unwrap();
        assert_ne!(other, key);
    }

    #[test]
    fn what_a_crash_left_beside_is_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wg.key");
        fs::write(directory.path().join("wg.key.new"), "half").unwrap();
        load_or_create(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_or_exposed_file_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wg.key");
        load_or_create(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..20], b"", b"\n", &[&whole[..], b"more"].concat(), &[0; 45]] {
            fs::write(&path, damaged).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("backup"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
        fs::write(&path, &whole).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

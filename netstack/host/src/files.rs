//! Files that survive a crash: written whole, synced with their directory, secrets readable by nobody else,
//! and a state directory that one process owns. Knows nothing of what is in them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// No file of ours is larger than a ledger full of snapshots.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Readable and writable by the owner alone.
pub const SECRET: u32 = 0o600;
/// Readable by all.
pub const PUBLIC: u32 = 0o644;

/// Why a file could not be read, written or owned.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
pub struct FileError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    fn new(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { doing, path, source }
    }

    /// What the system said.
    pub fn io(&self) -> &io::Error {
        &self.source
    }
}

/// Replaces a file: temporary file beside it, fsync, rename, fsync of the directory. After a crash there is
/// the old content or the new one. `mode` as in `chmod(2)`.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let at = |doing| FileError::new(doing, path);
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| at("name of")(io::Error::from(io::ErrorKind::InvalidInput)))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = directory.join(temporary);
    let written = write_new(&temporary, content, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(at("writing")(error));
    }
    sync_directory(directory).map_err(at("syncing the directory of"))
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode).custom_flags(nix::libc::O_NOFOLLOW);
    let mut file = options.open(path)?;
    // The mode above is cut by the umask and ignored for a file that a crash left here.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Writes into an existing file without replacing it: for a file that is a mount point of its own. Not
/// atomic; after a crash in between the content may be cut.
pub fn overwrite(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(FileError::new("writing", path))
}

/// Reads a file; `None` if there is none.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    read_up_to(path, FILE_BYTES_MAX)
}

/// As [`read`], and no more than so many bytes of it.
pub fn read_up_to(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FileError::new("opening", path)(e)),
    };
    let mut content = Vec::new();
    file.take(bytes_max).read_to_end(&mut content).map_err(FileError::new("reading", path))?;
    Ok(Some(content))
}

/// Removes a file and syncs its directory; there being none is fine.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(FileError::new("removing", path)(e)),
    }
    sync_directory(path.parent().unwrap_or(Path::new("/")))
        .map_err(FileError::new("syncing the directory of", path))
}

/// A directory that this process owns until the value is dropped or the process dies.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Why a state directory was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum StateDirectoryError {
    /// Another process works with it.
    #[error("{} is in use by process {owner}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What the owner wrote into the lock, `unknown` if it has not yet.
        owner: String,
    },
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

impl StateDirectory {
    /// Creates the directory (0700) if need be and locks it.
    pub fn open(path: &Path) -> Result<Self, StateDirectoryError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(FileError::new("creating", path))?;
        let lock_path = path.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(SECRET);
        let file = options.open(&lock_path).map_err(FileError::new("opening", &lock_path))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                let owner = if owner.is_empty() { "unknown".into() } else { owner };
                return Err(StateDirectoryError::InUse { path: path.into(), owner });
            }
            Err((_, errno)) => return Err(FileError::new("locking", &lock_path)(errno.into()).into()),
        };
        let pid = std::process::id().to_string();
        let named = lock.set_len(0).and_then(|()| lock.write_all(pid.as_bytes()));
        named.map_err(FileError::new("writing", &lock_path))?;
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        assert!(read(&path).unwrap().is_none());
        for content in [&b"one"[..], b"", b"two and more"] {
            replace(&path, content, SECRET).unwrap();
            assert_eq!(read(&path).unwrap().unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SECRET);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(read(&path).unwrap().is_none());
    }

    #[test]
    fn errors_name_the_file() {
        let error = replace(Path::new("/nowhere/at/all"), b"x", PUBLIC).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
        assert_eq!(error.io().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_state_directory_has_one_owner() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = StateDirectory::open(&path).unwrap();
        let second = StateDirectory::open(&path).unwrap_err();
        assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
        drop(first);
        StateDirectory::open(&path).unwrap();
    }
}

//! Whether a path is in the right hands: what limits the server must not be the server's to write.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Writable by group or others.
const OTHERS_WRITE: u32 = 0o022;

/// A path is in the wrong hands.
#[derive(Debug, thiserror::Error)]
pub enum Unowned {
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, who could change what warren-netd may do: chown root {}", path.display(), path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others may write it.
    #[error("{} may be written by others (mode {mode:o}): chmod go-w {}", path.display(), path.display())]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It cannot be looked at.
    #[error("{} cannot be looked at: {source}", path.display())]
    Unseen {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Passes if only root, or the user of this process, may write the path or replace it in its directory. One that is
/// not there passes if nobody else could make it.
pub fn check(path: &Path) -> Result<(), Unowned> {
    check_for(path, nix::unistd::Uid::effective().as_raw())
}

fn check_for(path: &Path, user: u32) -> Result<(), Unowned> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    // Whoever may write a directory may replace what is in it, all the way up. /tmp and its like are sticky: there only
    // the owner of a file may.
    for (depth, place) in real.ancestors().filter(|p| !p.as_os_str().is_empty()).enumerate() {
        let metadata = match fs::metadata(place) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Unowned::Unseen { path: place.into(), source }),
        };
        let sticky = depth > 0 && metadata.mode() & 0o1000 != 0;
        if metadata.mode() & OTHERS_WRITE != 0 && !sticky {
            return Err(Unowned::Mode { path: place.into(), mode: metadata.mode() & 0o7777 });
        }
        if metadata.uid() != 0 && metadata.uid() != user {
            return Err(Unowned::Owner { path: place.into(), owner: metadata.uid() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_may_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("netd.toml");
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        check(&path).expect("what is not there may be made by nobody else");
        fs::write(&path, "").unwrap();
        for (mode, good) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            set(&path, mode);
            assert_eq!(check(&path).is_ok(), good, "{mode:o}");
        }
        set(&path, 0o644);
        set(directory.path(), 0o777);
        let error = check(&path).unwrap_err().to_string();
        assert!(error.contains("chmod go-w"), "{error}");
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("netd.toml");
        fs::write(&path, "").unwrap();
        let mine = fs::metadata(&path).unwrap().uid();
        check_for(&path, mine).unwrap();
        if mine == 0 {
            std::os::unix::fs::chown(&path, Some(64_101), None).unwrap();
            assert!(matches!(check_for(&path, 64_102), Err(Unowned::Owner { owner: 64_101, .. })));
            check_for(&path, 64_101).unwrap();
        } else {
            assert!(matches!(check_for(&path, mine + 1), Err(Unowned::Owner { .. })));
        }
    }
}

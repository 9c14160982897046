//! The file at which `wg` finds a device: made for its owner alone, gone with the device, and back when somebody removed
//! it. Knows no request.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{fs, mem};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// A listener whose file goes with it.
pub(super) struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    file: (u64, u64),
    /// Tells of files that go from its directory, if it is to come back.
    gone: Option<Inotify>,
    /// The file is not there, and could not be made again.
    is_lost: bool,
}

impl SocketFile {
    /// Listens on the path; what a dead process left there is replaced. One that `returns` is made again by
    /// [`Self::look`] when somebody removed it; without that, its removal is for others to see.
    pub(super) fn listen(path: &Path, returns: bool) -> io::Result<Self> {
        let listener = bind(path)?;
        let mut socket =
            Self { listener, path: path.to_owned(), file: identity(path)?, gone: None, is_lost: false };
        if returns {
            socket.gone = Some(watch(path)?);
        }
        Ok(socket)
    }

    pub(super) const fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Readable when something went from the directory.
    pub(super) fn gone(&self) -> Option<BorrowedFd<'_>> {
        self.gone.as_ref().map(Inotify::as_fd)
    }

    /// Whether the file could not be made again, so that nothing tells when to try once more.
    pub(super) const fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Makes the file again if it is gone and is to return.
    pub(super) fn look(&mut self) {
        let Some(gone) = &self.gone else { return };
        // Which file it was does not matter; that there is nothing to read does not, either.
        let _ = gone.read_events();
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            return;
        }
        let made = self.make_again();
        let path = self.path.display();
        match made {
            Ok(()) => {
                tracing::warn!(code = "uapi-socket-removed", %path, "the socket of wg was removed, and is back");
            }
            Err(error) if !mem::replace(&mut self.is_lost, true) => {
                tracing::warn!(code = "uapi-socket-lost", %path, %error, "the socket of wg was removed; wg finds nobody");
            }
            Err(_) => {}
        }
    }

    fn make_again(&mut self) -> io::Result<()> {
        let listener = bind(&self.path)?;
        self.file = identity(&self.path)?;
        self.listener = listener;
        // The directory may be another one now.
        self.gone = Some(watch(&self.path)?);
        self.is_lost = false;
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file != self.file) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "socket was removed by somebody else");
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) => return Err(error),
        }
    }
    let listener = UnixListener::bind(path)?;
    let made = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
    made.and_then(|()| listener.set_nonblocking(true)).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })?;
    Ok(listener)
}

fn watch(path: &Path) -> io::Result<Inotify> {
    let gone = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let went = AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF;
    gone.add_watch(path.parent().unwrap_or(Path::new("/")), went)?;
    Ok(gone)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_was_removed_comes_back_if_it_is_to() {
        let directory = tempfile::tempdir().expect("a directory");
        for returns in [false, true] {
            let folder = directory.path().join("wireguard");
            let path = folder.join("wg0.sock");
            let mut socket = SocketFile::listen(&path, returns).expect("listens");
            let connects = |socket: &SocketFile| {
                UnixStream::connect(&path).is_ok() && socket.listener().accept().is_ok()
            };
            assert!(connects(&socket));
            fs::remove_file(&path).expect("is there");
            socket.look();
            assert_eq!(connects(&socket), returns);
            fs::remove_dir_all(&folder).expect("is there");
            socket.look();
            assert_eq!(connects(&socket), returns);
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[test]
    fn somebody_elses_socket_in_its_place_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("wg0.sock");
        let mut socket = SocketFile::listen(&path, true).expect("listens");
        fs::remove_file(&path).expect("is there");
        let other = UnixListener::bind(&path).expect("binds");
        socket.look();
        assert!(socket.is_lost());
        drop(other);
        socket.look();
        assert!(!socket.is_lost(), "what a dead process left is replaced");
        fs::remove_file(&path).expect("is there");
        let _other = UnixListener::bind(&path).expect("binds");
        drop(socket);
        assert!(path.exists());
    }
}

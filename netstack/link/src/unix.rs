//! A link over a unix socket, whose peer the kernel names. Judges no credentials: that is the caller's.
//!
//! One socket may serve links and HTTP: a frame begins with the zero byte of a length under 16 MiB, a request with a
//! letter.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use model::limits::HANDSHAKE_TIME_MAX;
use model::wire::Channel;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::connection::{Carrier, Connection};
use crate::credentials::Credentials;
use crate::half::{ReadHalf, WriteHalf};

/// Listens on a path, with these permission bits of the socket file (connecting needs write, see unix(7)). A socket
/// that a dead process left is replaced; one that somebody still listens on is not. The directory must let nobody else
/// in: between bind(2) and chmod(2) the umask decides.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] if somebody listens there or the path is no socket; else what the kernel says.
pub async fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        let dead = metadata.file_type().is_socket()
            && UnixStream::connect(path).await.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if !dead {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Dials the server on a unix socket. [`Connection::credentials`] says who listens.
///
/// # Errors
/// What connect(2) says.
pub async fn dial(path: &Path) -> io::Result<Connection> {
    let stream = UnixStream::connect(path).await?;
    let credentials = Credentials::of(&stream)?;
    Ok(connection(stream, credentials))
}

/// What somebody who connected to the socket wants.
#[derive(Debug)]
pub enum Visitor {
    /// A link; [`Connection::credentials`] says whose.
    Link(Connection),
    /// HTTP; nothing was read yet.
    Http(UnixStream, Credentials),
}

/// Waits for the first byte of an accepted stream and says what it is. One that says nothing is given up after
/// [`HANDSHAKE_TIME_MAX`], so the caller must bound how many wait at once.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`], [`io::ErrorKind::UnexpectedEof`], or what the kernel says.
pub async fn sort(stream: UnixStream) -> io::Result<Visitor> {
    let credentials = Credentials::of(&stream)?;
    let mut first = [0];
    let peek = stream.async_io(Interest::READABLE, || {
        recv(stream.as_raw_fd(), &mut first, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)
            .map_err(io::Error::from)
    });
    match timeout(HANDSHAKE_TIME_MAX, peek).await?? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if first == [0] => Ok(Visitor::Link(connection(stream, credentials))),
        _ => Ok(Visitor::Http(stream, credentials)),
    }
}

fn connection(stream: UnixStream, credentials: Credentials) -> Connection {
    let (read, write) = stream.into_split();
    Connection::new(Carrier::Unix, Channel::Local, ReadHalf::unix(read), WriteHalf::Unix(write))
        .with_credentials(credentials)
}

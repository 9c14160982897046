//! Who is at the other end of a unix socket, as the kernel says. Judges nobody.

use std::io;

use tokio::net::UnixStream;

/// Who is at the other end, as of connect(2) or listen(2) (SO_PEERCRED in unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id, for logs only: it may have been given to another process since.
    pub pid: Option<i32>,
}

impl Credentials {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The socket is not connected.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        Ok(Self { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() })
    }
}

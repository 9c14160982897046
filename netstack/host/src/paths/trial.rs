//! Two sockets by which it is learnt how long NATs remember one that says nothing. They are opened with the first question, in the
//! network of their time; what cannot be sent is as if it had been lost.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use engine::paths::PathInput;
use tokio::net::UdpSocket;

/// An answer of STUN is much shorter.
const ANSWER_BYTES_MAX: usize = 512;

pub(super) struct Sockets {
    mark: Option<u32>,
    /// The one that is tried, and the other.
    open: Option<[UdpSocket; 2]>,
}

impl Sockets {
    pub(super) const fn new(mark: Option<u32>) -> Self {
        Self { mark, open: None }
    }

    /// Another network has other mappings.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Sends from the socket that is tried, or from the other.
    pub(super) fn send(&mut self, quiet: bool, to: SocketAddr, bytes: &[u8]) {
        if let Err(error) = self.try_send(quiet, to, bytes) {
            tracing::debug!(%to, %error, "what NATs remember is not asked");
            self.open = None;
        }
    }

    fn try_send(&mut self, quiet: bool, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let fits =
            |sockets: &[UdpSocket; 2]| sockets[0].local_addr().is_ok_and(|own| own.is_ipv4() == to.is_ipv4());
        if !self.open.as_ref().is_some_and(fits) {
            self.open = Some([bind(to, self.mark)?, bind(to, self.mark)?]);
        }
        let sockets = self.open.iter().flatten();
        let socket = if quiet { sockets.take(1).next() } else { sockets.last() };
        // A new one can always be written to; what the runtime has not looked at yet is asked again.
        match socket.map(|socket| socket.try_send_to(bytes, to)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// What comes to the one that is tried. Cancel-safe.
    pub(super) async fn hear(&self) -> PathInput {
        let Some([quiet, _]) = &self.open else { return std::future::pending().await };
        let mut answer = [0; ANSWER_BYTES_MAX];
        loop {
            // An error that somebody sent back is read by it, and says nothing.
            if let Ok((bytes, from)) = quiet.recv_from(&mut answer).await {
                return PathInput::Tried { from, bytes: answer[..bytes].to_vec() };
            }
        }
    }
}

fn bind(to: SocketAddr, mark: Option<u32>) -> io::Result<UdpSocket> {
    let any: SocketAddr = match to.is_ipv4() {
        true => (Ipv4Addr::UNSPECIFIED, 0).into(),
        false => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    if let Some(mark) = mark {
        socket2::SockRef::from(&socket).set_mark(mark)?;
    }
    UdpSocket::from_std(socket)
}

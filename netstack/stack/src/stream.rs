//! A TCP connection, read from and written to as every other. Its buffers are the stack's own.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, State};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::core::Shared;

/// A connection with a peer. Shutting its writing side down sends what is left and then a FIN; the peer may go on.
/// Dropped, it ends in order if everything was read, else with a reset.
pub struct TcpStream {
    shared: Arc<Shared>,
    handle: SocketHandle,
    peer: SocketAddr,
}

impl TcpStream {
    pub(crate) const fn new(shared: Arc<Shared>, handle: SocketHandle, peer: SocketAddr) -> Self {
        Self { shared, handle, peer }
    }

    /// Who is at the other end.
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Waits until both sides have said that there is a connection.
    pub(crate) async fn established(&self) -> io::Result<()> {
        poll_fn(|context| {
            let mut core = self.shared.lock();
            let socket = core.tcp(self.handle);
            match socket.state() {
                State::SynSent | State::SynReceived => {
                    socket.register_send_waker(context.waker());
                    Poll::Pending
                }
                State::Closed => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
                _ => Poll::Ready(Ok(())),
            }
        })
        .await
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut core = self.shared.lock();
        let socket = core.tcp(self.handle);
        match socket.recv_slice(buffer.initialize_unfilled()) {
            Ok(0) if buffer.remaining() > 0 => {
                socket.register_recv_waker(context.waker());
                Poll::Pending
            }
            Ok(bytes) => {
                drop(core);
                buffer.advance(bytes);
                // The window may have opened.
                self.shared.stirred.notify_one();
                Poll::Ready(Ok(()))
            }
            Err(RecvError::Finished) => Poll::Ready(Ok(())),
            Err(RecvError::InvalidState) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut core = self.shared.lock();
        let socket = core.tcp(self.handle);
        match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(context.waker());
                Poll::Pending
            }
            Ok(sent) => {
                drop(core);
                self.shared.stirred.notify_one();
                Poll::Ready(Ok(sent))
            }
            Err(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().tcp(self.handle).close();
        self.shared.stirred.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.shared.lock().orphan(self.handle);
        self.shared.stirred.notify_one();
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpStream({})", self.peer)
    }
}

//! Datagrams to and from one peer: enough to ask a name server.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{self, PacketBuffer, PacketMetadata, SendError};
use smoltcp::wire::{IpEndpoint, IpListenEndpoint};

use crate::core::Shared;
use crate::limits::{DATAGRAM_BYTES_MAX, DATAGRAMS_MAX};

/// A socket for one peer. What others send to it is dropped.
pub struct UdpSocket {
    shared: Arc<Shared>,
    handle: SocketHandle,
    port: u16,
    peer: IpEndpoint,
}

impl UdpSocket {
    pub(crate) fn open(shared: Arc<Shared>, port: Option<u16>, to: SocketAddr) -> io::Result<Self> {
        let mut core = shared.lock();
        let from = core.source_for(to.ip())?;
        let buffer =
            || PacketBuffer::new(vec![PacketMetadata::EMPTY; DATAGRAMS_MAX], vec![0; DATAGRAM_BYTES_MAX]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        let port = port.unwrap_or_else(|| core.port());
        let local = IpListenEndpoint { addr: Some(from.into()), port };
        socket.bind(local).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let handle = core.add_udp(socket)?;
        drop(core);
        Ok(Self { shared, handle, port, peer: to.into() })
    }

    /// Our own port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Sends one datagram, as soon as there is room for it.
    ///
    /// # Errors
    /// It is longer than 16 KiB, or the peer has port 0.
    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a datagram has at most 16 KiB"));
        }
        let sent = poll_fn(|context| {
            let mut core = self.shared.lock();
            let socket = core.udp(self.handle);
            match socket.send_slice(datagram, self.peer) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(SendError::BufferFull) => {
                    socket.register_send_waker(context.waker());
                    Poll::Pending
                }
                Err(error) => {
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, error.to_string())))
                }
            }
        });
        sent.await?;
        self.shared.stirred.notify_one();
        Ok(())
    }

    /// The next datagram; bytes that do not fit are lost. Cancel-safe.
    pub async fn receive(&self, buffer: &mut [u8]) -> usize {
        poll_fn(|context| {
            let mut core = self.shared.lock();
            let socket = core.udp(self.handle);
            loop {
                match socket.recv() {
                    Ok((datagram, from)) if from.endpoint == self.peer => {
                        let bytes = datagram.len().min(buffer.len());
                        buffer[..bytes].copy_from_slice(&datagram[..bytes]);
                        return Poll::Ready(bytes);
                    }
                    Ok(_) => {}
                    Err(_) => {
                        socket.register_recv_waker(context.waker());
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.shared.lock().remove_question(self.handle);
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UdpSocket({})", self.peer)
    }
}

//! The UDP socket of an endpoint: many packets with one system call, either way. Knows no connection.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::limits::SEGMENTS_MAX;

pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { io: UdpSocket::from_std(socket)?, state })
    }

    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    pub(super) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// Packets that may go with one system call.
    pub(super) fn segments_max(&self) -> usize {
        self.state.max_gso_segments().clamp(1, SEGMENTS_MAX)
    }

    /// Room for all that comes with one system call, given the longest packet. Of its three megabytes those are touched that
    /// are written.
    pub(super) fn buffer(&self, packet_bytes_max: usize) -> Vec<u8> {
        vec![0; packet_bytes_max * self.state.gro_segments() * BATCH_SIZE]
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Takes what is there, without waiting; each element may be several packets of one sender.
    pub(super) fn receive(
        &self,
        buffer: &mut [u8],
        mut take: impl FnMut(&RecvMeta, &[u8]),
    ) -> io::Result<()> {
        let each = buffer.len() / BATCH_SIZE;
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let count = {
            let mut chunks = buffer.chunks_mut(each).map(IoSliceMut::new);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| chunks.next().expect("as many chunks as slices"));
            self.io
                .try_io(Interest::READABLE, || self.state.recv((&self.io).into(), &mut slices, &mut metas))?
        };
        for (meta, bytes) in metas.iter().zip(buffer.chunks(each)).take(count) {
            take(meta, &bytes[..meta.len]);
        }
        Ok(())
    }

    /// Sends once the socket takes it. What cannot be sent for another reason is lost, as packets are.
    pub(super) async fn send(&self, transmit: &Transmit, bytes: &[u8]) {
        while let Err(error) = self.try_send(transmit, bytes) {
            if error.kind() != io::ErrorKind::WouldBlock || self.io.writable().await.is_err() {
                return tracing::debug!(%error, to = %transmit.destination, "quic packet not sent");
            }
        }
    }

    /// Sends if the socket takes it now.
    pub(super) fn try_send(&self, transmit: &Transmit, bytes: &[u8]) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: &bytes[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        self.io.try_io(Interest::WRITABLE, || self.state.send((&self.io).into(), &transmit))
    }
}

/// How congested the way of a packet was (RFC 3168).
pub(super) fn congestion(meta: &RecvMeta) -> Option<EcnCodepoint> {
    EcnCodepoint::from_bits(meta.ecn? as u8)
}

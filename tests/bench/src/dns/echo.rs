//! The floor: a server that sends every datagram back as it came, many with one call. A process of its own.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt};

/// As many as our name server takes with one call.
const BATCH: usize = 32;
/// As our name server's socket.
const RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;
const SLOT_BYTES: usize = 2_048 + 64;

/// Echoes until it is killed.
pub(crate) fn serve(at: SocketAddrV4) {
    let socket = UdpSocket::bind(at).expect("the address is free");
    setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES).expect("a size");
    let fd = socket.as_raw_fd();
    let (mut come, mut go) =
        (MultiHeaders::<SockaddrIn>::preallocate(BATCH, None), MultiHeaders::preallocate(BATCH, None));
    let mut arena = vec![0; BATCH * SLOT_BYTES];
    loop {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            arena.chunks_exact_mut(SLOT_BYTES).map(|slot| [IoSliceMut::new(slot)]).collect();
        let came: Vec<(Option<SockaddrIn>, usize)> =
            match recvmmsg(fd, &mut come, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
                Ok(messages) => messages.map(|message| (message.address, message.bytes)).collect(),
                Err(Errno::EINTR) => continue,
                Err(error) => panic!("cannot receive: {error}"),
            };
        let bytes = arena.chunks_exact(SLOT_BYTES).zip(&came);
        let slices: Vec<[IoSlice<'_>; 1]> =
            bytes.map(|(slot, (_, length))| [IoSlice::new(&slot[..*length])]).collect();
        let to: Vec<Option<SockaddrIn>> = came.iter().map(|(from, _)| *from).collect();
        // What has no room is lost, as it is for every server.
        let _ = sendmmsg(fd, &mut go, &slices, &to, [], MsgFlags::MSG_DONTWAIT);
    }
}

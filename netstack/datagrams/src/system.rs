//! The system calls: recvmmsg(2), sendmmsg(2), membarrier(2), and what a socket lost (socket(7)). Each with its reason
//! to be sound.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::libc;
use socket2::Socket;

use crate::address::{ADDRESS_BYTES, Address};

/// Datagrams of one call: enough that the call itself is a small part of the work, few enough that the first does not
/// wait for the last.
pub const BATCH_MAX: usize = 32;
/// Index of the dropped datagrams in what `SO_MEMINFO` tells, and how many figures that are (sock_diag(7)).
const MEMINFO_DROPS: usize = 8;
const MEMINFO_FIGURES: usize = 9;

/// A datagram that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Came {
    pub(crate) source: Address,
    pub(crate) length: usize,
    /// Nothing was cut off.
    pub(crate) whole: bool,
}

impl Came {
    pub(crate) const NOTHING: Self = Self { source: Address::NONE, length: 0, whole: true };
}

/// A datagram that goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Going<'a> {
    pub(crate) to: &'a Address,
    pub(crate) bytes: &'a [u8],
}

/// Receives what is there, each datagram into its slot, and answers how many. `flags` say whether it waits.
pub(crate) fn receive(
    socket: &Socket,
    slots: std::slice::ChunksExactMut<'_, u8>,
    came: &mut [Came],
    flags: libc::c_int,
) -> io::Result<usize> {
    let mut parts = [EMPTY_PART; BATCH_MAX];
    let mut headers = [empty_header(); BATCH_MAX];
    let mut count = 0;
    for ((slot, came), (part, header)) in slots.zip(came.iter_mut()).zip(parts.iter_mut().zip(&mut headers)) {
        *part = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        header.msg_hdr.msg_name = came.source.bytes.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = length(ADDRESS_BYTES);
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    let fd = socket.as_raw_fd();
    // SAFETY: the first `count` headers point to slots and addresses of the caller and to locals above, each to its
    // own and with its length; all outlive the call. No timeout is given.
    #[allow(unsafe_code)]
    let received = unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), count, flags, std::ptr::null_mut()) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    for (came, header) in came.iter_mut().zip(&headers[..received]) {
        came.length = usize::try_from(header.msg_len).map_err(io::Error::other)?;
        came.source.length = usize::try_from(header.msg_hdr.msg_namelen).map_err(io::Error::other)?;
        came.whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
    }
    Ok(received)
}

/// Sends datagrams in order, at most [`BATCH_MAX`], and answers how many went. An error is the first one's. Never
/// waits.
pub(crate) fn send<'a>(socket: &Socket, going: impl Iterator<Item = Going<'a>>) -> io::Result<usize> {
    let mut parts = [EMPTY_PART; BATCH_MAX];
    let mut headers = [empty_header(); BATCH_MAX];
    let mut count = 0;
    for (going, (part, header)) in going.zip(parts.iter_mut().zip(&mut headers)) {
        *part = libc::iovec { iov_base: going.bytes.as_ptr().cast_mut().cast(), iov_len: going.bytes.len() };
        header.msg_hdr.msg_name = going.to.bytes.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = length(going.to.length);
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the first `count` headers point to bytes and addresses of the caller, which sendmmsg only reads, and to
    // locals above, with their lengths; all outlive the call.
    #[allow(unsafe_code)]
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Datagrams for this socket that the kernel dropped, mostly because its queue was full; counts round at 2³².
///
/// # Errors
/// A kernel before 4.12, or one that is not Linux.
pub fn overflowed(socket: &Socket) -> io::Result<u32> {
    let mut figures = [0_u32; MEMINFO_FIGURES];
    let mut bytes = length(size_of_val(&figures));
    // SAFETY: the kernel writes at most `bytes` bytes to `figures`, which has as many, and says in `bytes` how many.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            figures.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(figures[MEMINFO_DROPS]) }
}

/// Waits until every processor has ended what it does for the network now (`MEMBARRIER_CMD_GLOBAL`). `false` if the
/// kernel does not.
pub(crate) fn wait_for_processors() -> bool {
    // SAFETY: it takes three integers and no pointer.
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    result == 0
}

const EMPTY_PART: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

const fn empty_header() -> libc::mmsghdr {
    // SAFETY: mmsghdr is made of integers and pointers; all of them may be zero.
    #[allow(unsafe_code)]
    unsafe {
        std::mem::zeroed()
    }
}

fn length(bytes: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(bytes).expect("addresses are small")
}

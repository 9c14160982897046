//! The system calls for many datagrams at once and for one: sendmmsg(2), recvmmsg(2), sendmsg(2), recvmsg(2). None
//! of them blocks. Knows no offload and no fallback.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};

use datagrams::Address;
use nix::libc;
use socket2::Socket;

use super::message::Control;

/// Messages of one sendmmsg: enough that the call itself is a small part of the work, few enough for the stack.
pub(super) const SEND_MAX: usize = 32;
/// Messages of one recvmmsg, each up to 64 KiB of joined datagrams: 1 MiB, as much as stays near the processor.
pub(super) const RECEIVE_MAX: usize = 16;
/// Room for the largest datagram, and for as many as the kernel joins.
pub(super) const SLOT_BYTES: usize = 64 * 1024;

/// A message to send: its bytes in up to two parts.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) address: Address,
    pub(super) control: Control,
    pub(super) parts: [&'a [u8]; 2],
    /// Whether the kernel is to cut it.
    pub(super) segmented: bool,
}

/// A message that came in.
#[derive(Clone, Copy)]
pub(super) struct Incoming {
    pub(super) address: Address,
    pub(super) control: Control,
    pub(super) length: usize,
    /// Neither bytes nor control messages were cut off.
    pub(super) whole: bool,
}

impl Incoming {
    /// Room for one.
    pub(super) const ROOM: Self =
        Self { address: Address::ROOM, control: Control::ROOM, length: 0, whole: false };
}

/// Sends up to [`SEND_MAX`] messages in order and answers how many went. An error is the first one's.
pub(super) fn send_many(socket: &Socket, messages: &[Outgoing<'_>]) -> io::Result<usize> {
    let messages = &messages[..messages.len().min(SEND_MAX)];
    #[cfg(test)]
    let messages = faults::before_refused(messages)?;
    let mut parts = [[EMPTY_PART; 2]; SEND_MAX];
    let mut headers = [empty_header(); SEND_MAX];
    for ((message, parts), header) in messages.iter().zip(&mut parts).zip(&mut headers) {
        *parts = message.parts.map(part);
        header.msg_hdr = outgoing(message, parts);
    }
    let count = libc::c_uint::try_from(messages.len()).expect("at most SEND_MAX");
    // SAFETY: the first `count` headers point to the caller's bytes, which sendmmsg only reads, and to locals above,
    // with their lengths; all outlive the call.
    #[allow(unsafe_code)]
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, SEND_FLAGS) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Sends one message.
pub(super) fn send_one(socket: &Socket, message: &Outgoing<'_>) -> io::Result<()> {
    #[cfg(test)]
    faults::refused(message)?;
    let mut parts = message.parts.map(part);
    let header = outgoing(message, &mut parts);
    // SAFETY: the header points to the caller's bytes, which sendmsg only reads, and to locals above, with their
    // lengths; all outlive the call.
    #[allow(unsafe_code)]
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, SEND_FLAGS) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives what is there, up to as many messages as there is room for, each in its own [`SLOT_BYTES`] of the arena,
/// and answers how many.
pub(super) fn receive_many(
    socket: &Socket,
    arena: &mut [u8],
    incoming: &mut [Incoming],
) -> io::Result<usize> {
    #[cfg(test)]
    faults::take_receiving(true)?;
    let mut parts = [EMPTY_PART; RECEIVE_MAX];
    let mut headers = [empty_header(); RECEIVE_MAX];
    let mut count = 0;
    let slots = arena.chunks_exact_mut(SLOT_BYTES).zip(incoming.iter_mut());
    for ((slot, incoming), (part, header)) in slots.zip(parts.iter_mut().zip(&mut headers)) {
        *incoming = Incoming::ROOM;
        header.msg_hdr = expecting(incoming, slot, part);
        count += 1;
    }
    let flags = libc::MSG_DONTWAIT;
    let fd = socket.as_raw_fd();
    // SAFETY: the first `count` headers point to slots of the caller's arena, to the caller's `incoming` and to locals
    // above, each to its own and with its length; all outlive the call. No timeout is given.
    #[allow(unsafe_code)]
    let received = unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), count, flags, std::ptr::null_mut()) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    for (incoming, header) in incoming.iter_mut().zip(&headers[..received]) {
        came(incoming, &header.msg_hdr, usize::try_from(header.msg_len).map_err(io::Error::other)?);
    }
    Ok(received)
}

/// Receives one message into the slot.
pub(super) fn receive_one(socket: &Socket, slot: &mut [u8], incoming: &mut Incoming) -> io::Result<()> {
    #[cfg(test)]
    faults::take_receiving(false)?;
    *incoming = Incoming::ROOM;
    let mut part = EMPTY_PART;
    let mut header = expecting(incoming, slot, &mut part);
    // SAFETY: the header points to the caller's slot and `incoming` and to a local above, with their lengths; all
    // outlive the call.
    #[allow(unsafe_code)]
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    came(incoming, &header, length);
    Ok(())
}

/// Sets an option that takes an int.
pub(super) fn set_integer(
    socket: &Socket,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    #[cfg(test)]
    faults::option(option)?;
    let fd: RawFd = socket.as_raw_fd();
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("an int is small");
    // SAFETY: the options that callers name take an int, and the pointer and length are those of one.
    #[allow(unsafe_code)]
    let result = unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(&value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
const EMPTY_PART: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// The header of a message that the kernel reads. Valid as long as the message and its parts are.
fn outgoing(message: &Outgoing<'_>, parts: &mut [libc::iovec; 2]) -> libc::msghdr {
    let mut header = empty_header().msg_hdr;
    header.msg_name = message.address.bytes.as_ptr().cast_mut().cast();
    header.msg_namelen = length(message.address.length);
    header.msg_iov = parts.as_mut_ptr();
    header.msg_iovlen = if message.parts[1].is_empty() { 1 } else { 2 };
    if message.control.length > 0 {
        header.msg_control = message.control.bytes.as_ptr().cast_mut().cast();
        header.msg_controllen = message.control.length;
    }
    header
}

/// The header of a message that the kernel writes. Valid as long as what it is made of is.
fn expecting(incoming: &mut Incoming, slot: &mut [u8], part: &mut libc::iovec) -> libc::msghdr {
    *part = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
    let mut header = empty_header().msg_hdr;
    header.msg_name = incoming.address.bytes.as_mut_ptr().cast();
    header.msg_namelen = length(incoming.address.bytes.len());
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header.msg_control = incoming.control.bytes.as_mut_ptr().cast();
    header.msg_controllen = incoming.control.bytes.len();
    header
}

/// Notes what the kernel said in the header.
fn came(incoming: &mut Incoming, header: &libc::msghdr, bytes: usize) {
    incoming.length = bytes;
    incoming.address.length = usize::try_from(header.msg_namelen).unwrap_or(0);
    incoming.control.length = header.msg_controllen;
    incoming.whole = header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
}

fn length(bytes: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(bytes).expect("addresses are small")
}

const fn empty_header() -> libc::mmsghdr {
    // SAFETY: mmsghdr is made of integers and pointers; all of them may be zero.
    #[allow(unsafe_code)]
    unsafe {
        std::mem::zeroed()
    }
}

/// Errors that tests have the calls of their own thread answer.
#[cfg(test)]
pub(super) mod faults {
    use super::{Outgoing, io, libc};
    use std::cell::RefCell;

    #[derive(Default)]
    pub(in super::super) struct Faults {
        /// Of sendmmsg itself.
        pub(in super::super) send_many: Option<i32>,
        /// Of a message that the kernel would have to cut.
        pub(in super::super) segmented: Option<i32>,
        /// Of the message after that many, once.
        pub(in super::super) after: Option<(usize, i32)>,
        /// Of recvmmsg itself.
        pub(in super::super) receive_many: Option<i32>,
        /// Of the next calls that receive, the last first.
        pub(in super::super) receiving: Vec<i32>,
        /// Of setting `UDP_GRO`.
        pub(in super::super) gro: Option<i32>,
        /// Calls and messages that went through, and those of the messages that the kernel had to cut.
        pub(in super::super) calls: usize,
        pub(in super::super) messages: usize,
        pub(in super::super) super_packets: usize,
    }

    thread_local! {
        static FAULTS: RefCell<Faults> = RefCell::default();
    }

    pub(in super::super) fn edit<R>(edit: impl FnOnce(&mut Faults) -> R) -> R {
        FAULTS.with_borrow_mut(edit)
    }

    fn answer(error: Option<i32>) -> io::Result<()> {
        error.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }

    fn one(faults: &mut Faults, message: &Outgoing<'_>) -> io::Result<()> {
        if let Some((left, error)) = faults.after {
            faults.after = left.checked_sub(1).map(|left| (left, error));
            answer(if left == 0 { Some(error) } else { None })?;
        }
        answer(faults.segmented.filter(|_| message.segmented))?;
        faults.messages += 1;
        faults.super_packets += usize::from(message.segmented);
        Ok(())
    }

    pub(super) fn refused(message: &Outgoing<'_>) -> io::Result<()> {
        edit(|faults| {
            faults.calls += 1;
            one(faults, message)
        })
    }

    /// As sendmmsg: those before the first that is refused go, and its error is told if it is the first of all.
    pub(super) fn before_refused<'a, 'b>(messages: &'a [Outgoing<'b>]) -> io::Result<&'a [Outgoing<'b>]> {
        edit(|faults| {
            answer(faults.send_many)?;
            faults.calls += 1;
            for (i, message) in messages.iter().enumerate() {
                let after = faults.after;
                match one(faults, message) {
                    Err(error) if i == 0 => return Err(error),
                    Err(_) => {
                        // It comes again at the next call.
                        faults.after = after;
                        return Ok(&messages[..i]);
                    }
                    Ok(()) => {}
                }
            }
            Ok(messages)
        })
    }

    pub(super) fn take_receiving(many: bool) -> io::Result<()> {
        edit(|faults| {
            answer(faults.receive_many.filter(|_| many))?;
            answer(faults.receiving.pop())
        })
    }

    pub(super) fn option(option: libc::c_int) -> io::Result<()> {
        edit(|faults| answer(faults.gro.filter(|_| option == libc::UDP_GRO)))
    }
}

//! How a UDP socket ends: nothing new comes in, what came stays, and whoever waits wakes.
//!
//! What the kernel promises, by its code: once connected, a socket is no candidate for datagrams of anybody else
//! (`udp4_lib_lookup2`, `udp6_lib_lookup2`; among sockets of one port since 5.3), and they go to a successor on the
//! same address, or are refused by ICMP. Its receive queue is left as it is. A processor that chose the socket before
//! still delivers to it a little later, and is waited for by [`settle`]. What waits for a processor before a socket is
//! chosen belongs to nobody yet.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use nix::libc;
use socket2::Socket;

use crate::system;

/// A delivery takes microseconds, unless the machine under a virtual processor has something else to do.
const SETTLE_PAUSE: Duration = Duration::from_millis(10);

/// From now on no datagram comes in; those that did can be received, and answers sent.
///
/// # Errors
/// The socket's address is not this machine's now, so that no datagram finds it anyway.
pub fn turn_away(socket: &Socket) -> io::Result<()> {
    // To itself: nobody else can send from there.
    socket.connect(&socket.local_addr()?)
}

/// Whoever waits for a datagram does so no longer, now and later: see [`crate::Wait::ForOne`].
pub fn wake(socket: &Socket) {
    match socket.shutdown(Shutdown::Read) {
        // An unconnected socket's waiters wake although the call fails (`inet_shutdown`).
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {}
        Err(error) => debug_assert!(false, "a socket can be shut down: {error}"),
        Ok(()) => {}
    }
}

/// Waits until every processor has delivered what it was delivering: some ten milliseconds.
///
/// membarrier(2) does, because it waits for the readers of RCU, of which each delivery is one (`ip_local_deliver_finish`,
/// `ip6_input_finish`). Where it is forbidden or not compatible with the kernel's settings, [`SETTLE_PAUSE`] is slept.
pub fn settle() {
    if !system::wait_for_processors() {
        std::thread::sleep(SETTLE_PAUSE);
    }
}

#[cfg(test)]
mod tests;

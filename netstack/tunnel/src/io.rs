//! Packets in and out of the process: the TUN interface and the UDP sockets, many packets to a system call. Knows
//! addresses and lengths, no peers and no WireGuard.

pub(crate) mod fallback;
pub(crate) mod tun;
pub(crate) mod udp;

//! Bounds of a stack, each with its reason.

use std::time::Duration;

/// TCP connections at once, both ways together. With full buffers they need 128 MiB; a device of one person has tens.
pub const FLOWS_MAX: usize = 256;
/// A buffer of one direction of a connection: 20 Mbit/s over 100 ms, more over less.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;
/// Connections that peers ask for and that nobody has answered yet. Who comes later asks again after a second.
pub(crate) const KNOCKS_MAX: usize = 64;
/// Sockets for questions over UDP, and for echoes, at once.
pub(crate) const QUESTIONS_MAX: usize = 64;
/// Datagrams that wait in one such socket.
pub(crate) const DATAGRAMS_MAX: usize = 16;
/// Their bytes together.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 16 * 1024;
/// Packets read before others get their turn.
pub(crate) const BATCH_MAX: usize = 64;
/// Packets that wait for the descriptor; connections send no more meanwhile.
pub(crate) const UNSENT_MAX: usize = 64;
/// Resets and replies to echoes that wait besides.
pub(crate) const ANSWERS_MAX: usize = 64;
/// The largest IP packet.
pub(crate) const PACKET_BYTES_MAX: usize = 65_535;
/// A peer that acknowledges nothing for so long is gone. Linux gives up after about fifteen minutes, a proxy's user
/// does much earlier.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(120);
/// An idle connection is probed so often, that one whose peer is gone does not stay.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(45);
/// Nobody holds a connection any more, but its last bytes may still be on their way.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(60);
/// As Linux by default: six SYNs.
pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_secs(60);
/// The peer has sent a SYN and waits.
pub(crate) const ACCEPT_PATIENCE: Duration = Duration::from_secs(10);
/// Ports of our own, IANA's dynamic range (RFC 6335).
pub(crate) const PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

//! The bounds of the shell, each with its reason.

use std::time::Duration;

/// Largest datagram that we read: more than the 1232 bytes that we announce. A longer one is cut and so refused.
pub(super) const UDP_QUERY_BYTES_MAX: usize = 2048;
/// How long an answer waits for room in the send buffer. Longer, and everybody's questions would wait for it.
pub(super) const UDP_SEND_WAIT_MAX: Duration = Duration::from_millis(100);
/// Pause after a socket failed to receive or accept: out of memory or descriptors, which trying at once worsens.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Open connections of one address: some for each device that asks over TCP at the same time.
pub(super) const TCP_CONNECTIONS_MAX: usize = 256;
/// Of them, from one source, so that no device takes the others' share.
pub(super) const TCP_CONNECTIONS_PER_SOURCE_MAX: usize = 16;
/// From one whole query to the next (RFC 7766, section 6.2.3: a few seconds). It bounds slow senders and readers too.
pub(super) const TCP_IDLE_MAX: Duration = Duration::from_secs(10);
/// Connections that the kernel holds until we accept them (listen(2)).
pub(super) const TCP_BACKLOG: i32 = 128;

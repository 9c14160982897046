//! The bounds of the shell, each with its reason.

use std::time::Duration;

/// Largest datagram that we read: more than the 1232 bytes that we announce. A longer one is dropped.
pub(super) const UDP_QUERY_BYTES_MAX: usize = 2048;
/// How long an answer waits for room in the send buffer. Longer, and everybody's questions would wait for it.
pub(super) const UDP_SEND_WAIT_MAX: Duration = Duration::from_millis(100);
/// The receive buffer that is asked for: some 1 300 queries, which a thread answers in 5 ms.
pub(super) const UDP_RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;
/// Threads that answer on one address. Beyond, the kernel's own work on the datagrams is what costs.
pub const UDP_THREADS_MAX: usize = 16;
/// After this many full batches in a row it is looked whether the kernel dropped something.
pub(super) const UDP_FULL_BATCHES: u32 = 64;
/// Fewer queries than this at once wait for memory one after the other: what they need is not looked for before.
pub(super) const UDP_AHEAD_MIN: usize = 3;
/// Pause after a socket failed to receive or accept: out of memory or descriptors, which trying at once worsens.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Questions of one address that wait for the slow path, or for a forwarder: 2 KiB each at most.
pub(super) const SLOW_MAX: usize = 1024;
/// Of them, from one source, so that no device takes the others' share.
pub(super) const SLOW_PER_SOURCE_MAX: usize = 256;
/// Questions that a turn of the slow path takes at once.
pub(super) const SLOW_BATCH: usize = 32;
/// Questions that are forwarded at the same time, of all addresses: each may hold a socket.
pub(super) const FORWARDED_MAX: usize = 1024;
/// Of them, from one source. On a device all programs are one source, and a browser asks for some sixty names at once.
pub(crate) const FORWARDED_PER_SOURCE_MAX: usize = 64;
/// Nobody waits longer for a forwarded answer: the resolver of the C library gives up then.
pub(super) const FORWARD_TIME_MAX: Duration = Duration::from_secs(5);

/// Open connections of one address: one for each device of a large mesh that asks over TCP at the same time.
pub(super) const TCP_CONNECTIONS_MAX: usize = 1280;
/// Of them, from one source, so that no device takes the others' share.
pub(super) const TCP_CONNECTIONS_PER_SOURCE_MAX: usize = 64;
/// From one whole query, or the last answer, to the next query (RFC 7766, section 6.2.3: a few seconds). It bounds
/// slow senders too.
pub(super) const TCP_IDLE_MAX: Duration = Duration::from_secs(10);
/// How long a reader may take for [`TCP_ANSWERS_BYTES`].
pub(super) const TCP_SEND_MAX: Duration = Duration::from_secs(10);
/// Longest query over TCP, and the room for a pipeline of short ones. None that we answer is longer than some hundred
/// bytes, padding included (RFC 8467).
pub(super) const TCP_QUERY_BYTES_MAX: usize = 4096;
/// While so much waits to be read by the asker, no query of theirs is taken. One answer may exceed it.
pub(super) const TCP_ANSWERS_BYTES: usize = 16 * 1024;
/// Connections that the kernel holds until we accept them (listen(2)): a mesh that comes back at once.
pub(super) const TCP_BACKLOG: i32 = 1024;

/// How long closing an address waits for answers that are under way, and for readers of the last ones.
pub(super) const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// Answers to one source in a second, when nobody says otherwise: 3 % of what a thread gives. A device with a cache
/// of its own asks less than 100, a mail relay or a node of containers without one some thousand.
pub const LIMIT_PER_SECOND_DEFAULT: u32 = 10_000;
/// Sources in debt that a thread remembers: all askers of a large mesh that ask too much at once.
pub(super) const LIMITED_SOURCES: usize = 1024;

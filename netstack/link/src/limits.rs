//! Every bound of this crate, each with its reason. Bounds that other crates share are in [`model::limits`].

use std::time::Duration;

use model::limits::{FRAME_BYTES_MAX, LINK_SILENCE_MAX};

/// A frame as it travels: its length of 4 bytes, then what the length counts.
pub const FRAME_WIRE_BYTES_MAX: usize = FRAME_BYTES_MAX + 4;
/// Frames that wait to be written on one link. A snapshot in parts needs a few; small frames come one by one.
pub const QUEUE_FRAMES_MAX: usize = 64;
/// Bytes that wait to be written on one link: four of the largest frames, so that a slow peer costs no more.
pub const QUEUE_BYTES_MAX: usize = 4 * FRAME_WIRE_BYTES_MAX;
/// Bytes taken from a carrier at a time. A control link is mostly idle: a small buffer is enough.
pub const READ_BYTES_MAX: usize = 16 * 1024;
/// One frame is written in this time, or the peer does not read: half as long as a link may be silent.
pub const WRITE_TIME_MAX: Duration = Duration::from_secs(LINK_SILENCE_MAX.as_secs() / 2);
/// The peer has this long to read what was sent before a close: a few round trips on a bad path.
pub const CLOSE_TIME_MAX: Duration = Duration::from_secs(3);

/// From the call of `dial` to a connection over any carrier: resolving, and two lost packets of each handshake.
pub const DIAL_TIME_MAX: Duration = Duration::from_secs(10);
/// Head start of QUIC over WebSocket: a handshake takes one round trip, and 300 ms goes round the world. Short enough
/// that a network that drops UDP costs nobody a second.
pub const QUIC_HEAD_START: Duration = Duration::from_millis(300);
/// One address has this long for a QUIC handshake: its first packet may be lost once (RFC 9002, section 6.2.2: sent
/// again after 1 s, then after 2 s), and a server that is gone is told apart from one that is slow.
pub const QUIC_TIME_MAX: Duration = Duration::from_secs(4);
/// Between two addresses of one host name (RFC 8305, section 5).
pub const ADDRESS_DELAY: Duration = Duration::from_millis(250);
/// Addresses tried of one host name: more would not be reached within [`DIAL_TIME_MAX`] anyway.
pub const ADDRESSES_MAX: usize = 8;

/// QUIC sends a ping after so long without a packet. A server that was killed and came back is noticed in this time by
/// its stateless reset (RFC 9000, section 10.3), so that all are back within ten seconds. Between two heartbeats, a minute
/// apart, these are six exchanges of about 120 bytes, a megabyte a day.
pub const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(9);
/// And on a link to a relay, which nobody misses as a server: who has packets for it asks it every five seconds, and a dead one is
/// passed over. As long as any NAT is believed to remember it; twice between two heartbeats, as with half a minute.
pub const QUIC_RELAY_KEEP_ALIVE: Duration = Duration::from_secs(20);
/// A server gives up after so long without a packet: three lost keep-alives. A laptop that slept redials at once.
pub const QUIC_IDLE_MAX: Duration = Duration::from_secs(30);
/// A device gives a link up after so long without a packet from its server: a keep-alive, and four seconds in which it is
/// repeated. A server that is gone for good is told from its successors before its hub is missed for twenty seconds.
pub const QUIC_SILENCE_MAX: Duration = Duration::from_secs(13);
/// The same of its link to a relay.
pub const QUIC_RELAY_SILENCE_MAX: Duration = Duration::from_secs(24);
/// A TCP connection on which so long nothing was acknowledged that was sent is over (RFC 5482). Longer than for QUIC: a packet that is
/// repeated waits twice as long each time, and may be repeated five times.
///
/// Beside it the kernel counts no questions: it ends a quiet connection with the first that is not answered so long after the peer was
/// heard last. See [`outlasts_questions`].
pub const TCP_SILENCE_MAX: Duration = Duration::from_secs(29);
/// The peer of a quiet TCP connection is asked whether it is there after so long: twice or thrice between two heartbeats, which from both
/// ends are 0.7 MB a day, a little less than QUIC's.
pub const TCP_QUIET_MAX: Duration = Duration::from_secs(20);
/// And again so often. Close together, so that four fit in before the connection is given up, and what was sent between them is given
/// up within the minute all the same.
pub const TCP_ASK_INTERVAL: Duration = Duration::from_secs(2);
/// A server that is gone over TCP is noticed in this time, whatever is sent meanwhile.
pub const TCP_NOTICED_MAX: Duration = Duration::from_secs(60);

/// Whether a TCP connection that is [prepared](crate::websocket::prepare) outlives three questions in a row that are lost, or their
/// answers, if nothing may stay unacknowledged for so long.
pub const fn outlasts_questions(unacknowledged_max: Duration) -> bool {
    unacknowledged_max.as_secs() > TCP_QUIET_MAX.as_secs() + 3 * TCP_ASK_INTERVAL.as_secs()
}

const _: () = assert!(outlasts_questions(TCP_SILENCE_MAX), "one lost packet must not end a link");
const _: () = assert!(
    // A heartbeat may be sent just before the last question.
    TCP_QUIET_MAX.as_secs() + 5 * TCP_ASK_INTERVAL.as_secs() + TCP_SILENCE_MAX.as_secs()
        <= TCP_NOTICED_MAX.as_secs(),
    "a dead link is noticed late"
);
/// How often a device looks whether something came.
pub const QUIC_LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// Between two stateless resets: the former links of a restarted server are told within seconds. A reset is shorter
/// than what it answers, so it amplifies nothing.
pub const QUIC_RESET_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes in flight of one QUIC link and direction: a frame and what follows it.
pub const QUIC_WINDOW_BYTES: u32 = 512 * 1024;
/// First packets that wait to be looked at, over all peers; those beyond are refused, and come again later. A core finishes
/// some hundreds of handshakes in a second: who waits behind these is served before it gives up
/// ([`QUIC_TIME_MAX`]), and with more waiting a server that thousands come back to would work
/// for clients alone that have left.
pub const QUIC_INCOMING_MAX: usize = 128;
/// Bytes that one unlooked-at peer may make the server hold: a client hello with a large key share is under 4 kB.
pub const QUIC_INCOMING_BYTES_MAX: u64 = 8 * 1024;

/// The longest datagram beside frames, as the relay's form of it allows.
pub const DATAGRAM_BYTES_MAX: usize = model::relay::DATAGRAM_BYTES_MAX;
/// Datagrams that wait on one link and in one direction, in bytes: four bursts of 64 kB as interfaces hand them out. At
/// 100 Mbit/s they wait 20 ms; then the oldest are lost, and who sends too fast hears of it.
pub const DATAGRAM_QUEUE_BYTES_MAX: usize = 256 * 1024;
/// Datagrams written to a WebSocket at a time: a frame waits for no more than these.
pub const DATAGRAM_BATCH_BYTES: usize = 16 * 1024;
/// What datagrams leave of a QUIC packet for frames: QUIC puts datagrams first, and a flood of them would keep a frame
/// back for as long as it lasts. A stream's header has 25 bytes at most.
pub const QUIC_FRAME_SHARE_BYTES: usize = 64;
/// Bytes of a WebSocket that the kernel takes before it has sent what was there (TCP_NOTSENT_LOWAT in tcp(7)): what it
/// holds cannot be overtaken by a frame, and waits without a bound of ours.
pub const TCP_UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// QUIC connections at once, unless configured: each costs 17 kB when idle, and its device 13 kB more.
pub const CONNECTIONS_MAX_DEFAULT: usize = 20_000;
/// QUIC connections that have not opened their stream yet. More wait unlooked-at, see [`QUIC_INCOMING_MAX`].
pub const HALF_OPEN_MAX_DEFAULT: usize = 256;
/// From so many half-open connections on, a peer must first prove its address (RFC 9000, section 8.1.2).
pub const RETRY_ABOVE_DEFAULT: usize = 64;

/// An HTTPS request with its answer, unless the caller says otherwise.
pub const REQUEST_TIME_DEFAULT: Duration = Duration::from_secs(30);
/// Body of an HTTPS answer, unless the caller says otherwise: a list of 10 000 devices is about 5 MB.
pub const RESPONSE_BYTES_DEFAULT: usize = 32 * 1024 * 1024;
/// A file of certificates or a key: the public authorities together are 300 kB.
pub const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

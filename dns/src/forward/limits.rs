//! The bounds of the forwarder, each with its reason.

use std::time::Duration;

use crate::serve::FORWARDED_PER_SOURCE_MAX;

/// Memory of the cache where nothing else is said: some twenty thousand answers, less than the program itself.
pub const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Parts of the cache with a lock each: a few threads that answer rarely meet in one of them.
pub(super) const CACHE_SHARDS: usize = 16;
/// Bytes that an answer takes on average, with its key: names of content networks lead through three or four others.
/// It divides the cache between its table and the answers.
pub(super) const ANSWER_BYTES_USUAL: usize = 256;
/// The largest answer that is kept. Larger ones are signatures and texts, which are asked for rarely.
pub(super) const ANSWER_BYTES_KEPT_MAX: usize = 4096;

/// Longest that an answer is kept: a day, as the server of a wrong one may have been mended since.
pub(super) const TTL_SECONDS_MAX: u32 = 86_400;
/// Longest that a "no" is kept (RFC 2308, section 5: one to three hours work well).
pub(super) const NEGATIVE_SECONDS_MAX: u32 = 3_600;
/// How long the failure of a server that answers is kept (RFC 9520, section 3.2: 1 s to 5 minutes).
pub(super) const FAILED_SECONDS: u32 = 5;
/// How long it is kept that no server answers: networks come back, and people wait for them.
pub(super) const UNREACHED_SECONDS: u32 = 1;
/// TTL of what is answered here about names that nobody may be asked about.
pub(super) const LOCAL_SECONDS: u32 = 3_600;

/// How long after its end an answer still serves when no server can be had (RFC 8767, section 5: one to three days).
pub(super) const STALE_MAX: Duration = Duration::from_secs(86_400);
/// TTL of such an answer (RFC 8767, section 4).
pub(super) const STALE_TTL_SECONDS: u32 = 30;
/// How long an asker waits for a better one (RFC 8767, section 5: 1.8 s, as some give up after 2 s).
pub(super) const STALE_WAIT: Duration = Duration::from_millis(1_800);
/// How long a failing server is not asked again while there is one (RFC 8767, section 5).
pub(super) const STALE_RECHECK: Duration = Duration::from_secs(30);

/// An answer that is wanted is fetched anew when one part in so many of its time is left, as unbound does.
pub(super) const PREFETCH_SHARE: u32 = 10;
/// It is wanted if it was given so often since it came.
pub(super) const PREFETCH_HITS_MIN: u8 = 2;
/// Wishes for fresh answers that wait; one that is lost is uttered again when the answer has ended.
pub(super) const PREFETCH_QUEUE: usize = 64;

/// When a question is put to the next server, or to the only one again, if no answer has come.
pub(super) const ATTEMPTS_AT: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(400), Duration::from_millis(1_000), Duration::from_millis(1_800)];
/// When an asker is told that nobody answers: before the usual resolver gives up on us (5 s; 3 s in some browsers).
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_millis(2_800);
/// Servers asked about one question.
pub(super) const ATTEMPTS_MAX: usize = 8;
/// Questions under way. Each holds a socket for each attempt, four as a rule; the daemons raise their open files to the
/// hard limit, which service managers set to half a million.
pub(super) const FLIGHTS_MAX: usize = 512;
// Who asks for nothing but names that nobody answers leaves the forwarder to everybody else.
const _: () = assert!(FORWARDED_PER_SOURCE_MAX * 8 <= FLIGHTS_MAX);

/// Largest datagram that is read. We announce less; some servers do not care.
pub(super) const DATAGRAM_BYTES_MAX: usize = 4096;
/// Datagrams on the socket of a question that do not answer it. More is somebody who guesses: TCP is harder to guess.
pub(super) const STRANGE_DATAGRAMS_MAX: usize = 8;
/// Encrypted questions are padded to a multiple of this (RFC 8467, section 4.1).
pub(super) const PADDING_BYTES: usize = 128;
/// Questions at once on one encrypted connection.
pub(super) const STREAM_QUESTIONS_MAX: usize = 128;
/// How long a connection may take to be made, and an answer on it to come: as long as an asker waits.
pub(super) const STREAM_TIME_MAX: Duration = ANSWER_TIME_MAX;

/// Questions that a server leaves unanswered in a row until it counts as dead and is left to the probes.
pub(super) const FAILURES_MAX: u32 = 3;
/// While it is no longer since a dead server answered, it is asked nevertheless if there is no other: names that nobody
/// answers look like a server that does not. As long as three of them take that are asked for in turn, and some more.
pub(super) const ALIVE_RECENTLY: Duration = Duration::from_secs(30);
/// A dead server is tried again so soon, by a question of ours ...
pub(super) const PROBE_DELAY_MIN: Duration = Duration::from_secs(1);
/// ... and then in doubling steps up to this: often enough to notice by itself that a network is back.
pub(super) const PROBE_DELAY_MAX: Duration = Duration::from_secs(60);
/// What a server is thought to take before it was asked: near, but not nearer than one that was.
pub(super) const ROUND_TRIP_UNKNOWN: Duration = Duration::from_millis(30);
/// Servers in the settings. Each is probed and has a place in reports.
pub const UPSTREAMS_MAX: usize = 64;

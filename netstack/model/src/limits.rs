//! Every bound that crosses a crate, each with its reason. Bounds of one crate stay in that crate.

use std::time::Duration;

/// RFC 1035, section 2.3.4.
pub const LABEL_BYTES_MAX: usize = 63;
/// RFC 1035, section 2.3.4, in the text form without the final dot.
pub const NAME_BYTES_MAX: usize = 253;
/// One character string of a TXT record (RFC 1035, section 3.3.14).
pub const TXT_BYTES_MAX: usize = 255;
/// Records of one name: more would not fit a UDP answer of 1232 bytes.
pub const RECORDS_PER_NAME_MAX: usize = 32;
/// Custom names of one tenant.
pub const CUSTOM_NAMES_MAX: usize = 100_000;

/// A frame with its kind. A patch of a thousand names fits; a slow reader cannot make us hold much more.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// The bytes of a snapshot that one `Part` frame carries: a frame less its own fields.
pub const PART_BYTES_MAX: usize = FRAME_BYTES_MAX - 1024;
/// A whole snapshot: 100 000 devices take about 20 MB.
pub const SNAPSHOT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Text that a peer sends us for people to read: a host name, a version, a reason.
pub const REMARK_BYTES_MAX: usize = 256;
/// Tenants that one hub carries: 100.64.0.0/10 has 64 blocks of /16; smaller blocks allow more.
pub const TENANTS_MAX: usize = 1024;
/// Tenants of one hub with an interface of their own: each costs the hub a look a second, and the firewall before it a port.
pub const OWN_INTERFACES_MAX: usize = 16;
/// The lowest UDP port of a tenant's own interface: those below belong to services of the machine.
pub const HUB_PORT_MIN: u16 = 1024;

/// An agent says this often that it lives, plus up to a tenth of jitter. With its answer that is a fifth of the 2 MB a day that
/// an idle agent may cost.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(60);
/// A link without a word for so long is dead: three heartbeats and some. One over QUIC is noticed earlier, by its own keep-alives.
pub const LINK_SILENCE_MAX: Duration = Duration::from_secs(200);
/// A server that is asked whether it is still there answers in this time, or the link is made anew: one that was made elsewhere, before
/// the machine moved or slept, may be dead without a word. Longer than a lost packet and its repetition take on a bad path.
pub const LINK_ANSWER_MAX: Duration = Duration::from_secs(2);
/// Hello to Attached or Enrolled, on both sides: a slow client holds a half-open link no longer.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Uses of one onboarding token.
pub const TOKEN_USES_MAX: u32 = 100_000;
/// Life of an onboarding token when nobody says otherwise.
pub const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Longest life of an onboarding token.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// An address rests for a day before another device gets it, so that no old connection finds a stranger.
pub const ADDRESS_REST: Duration = Duration::from_secs(24 * 3600);

/// What one device tells another about where it may be reached: sixteen addresses and what goes with them, sealed. Fits
/// a datagram of the smallest MTU of IPv6 (RFC 8200, section 5).
pub const HINT_BYTES_MAX: usize = 1024;

/// Life of a pass to relays: they serve this long while the server is gone. Renewed at each attach and at half of it.
pub const RELAY_PASS_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Relays that a snapshot names: a device measures each.
pub const RELAYS_MAX: usize = 32;

/// Tunnel MTU: 1500 less 80 bytes for IPv6, UDP and WireGuard (WireGuard paper, section 5.4.6).
pub const MTU_DEFAULT: u16 = 1420;
/// TTL of a mesh name in seconds: a renamed or revoked device is forgotten in half a minute.
pub const NAME_TTL_SECONDS: u32 = 30;
/// TTL of a negative answer in seconds: a new device must not be hidden for long.
pub const NEGATIVE_TTL_SECONDS: u32 = 10;
/// Logins that a device says at once.
pub const SSH_LOGINS_MAX: usize = 16;
/// Aliases in one host certificate: OpenSSH reads 256 names, and hosts with more than some have them for other things.
pub const SSH_ALIASES_MAX: usize = 32;

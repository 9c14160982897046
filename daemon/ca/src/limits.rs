//! Every bound of the authorities, with its reason.

use std::time::Duration;

/// A certificate begins so much earlier than now: clocks of hosts are behind by ten minutes where nobody keeps them.
pub const BACKDATED: Duration = Duration::from_secs(15 * 60);
/// Life of a user certificate when nobody says otherwise: a working day.
pub const USER_LIFE_DEFAULT: Duration = Duration::from_secs(8 * 3600);
/// What a role allows when it does not say: a long working day.
pub const ROLE_LIFE_DEFAULT: Duration = Duration::from_secs(12 * 3600);
/// No role and nobody gets more: what is stolen is of no use tomorrow.
pub const USER_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Shorter ones end before a slow person has typed the command.
pub const USER_LIFE_MIN: Duration = Duration::from_secs(60);
/// Life of a host certificate: it is renewed at half of it, so that a server may be away for three days.
pub const HOST_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Before a key is due to be replaced people are told three times: to plan it, to do it, and that it is late.
pub const KEY_NOTICES: [Duration; 3] = [
    Duration::from_secs(90 * 24 * 3600),
    Duration::from_secs(30 * 24 * 3600),
    Duration::from_secs(7 * 24 * 3600),
];
/// Names of one host certificate: its own two, and aliases. OpenSSH reads 256 (`SSHKEY_CERT_MAX_PRINCIPALS`).
pub const NAMES_MAX: usize = 64;
/// Bits of an RSA key, where a tenant allows any: NIST SP 800-57 for use beyond 2030.
pub const RSA_BITS_MIN: usize = 3072;
/// A line with a public key: RSA of 16 384 bits and its comment fit.
pub const SUBJECT_BYTES_MAX: usize = 4096;
/// Signatures that may be asked for at once: ten thousand hosts renew within a minute after a new key.
pub const PACE_BURST: u32 = 2_000;
/// Signatures a second in the long run.
pub const PACE_PER_SECOND: u32 = 200;
/// Certificates that one person or host may ask for at once: every script of a fleet logs in after an outage.
pub const HOLDER_BURST: u32 = 30;
/// Certificates of one person or host a second in the long run.
pub const HOLDER_PER_SECOND: u32 = 1;
/// Certificates of one person or host that live at once: each is a serial in every host's list once it is taken back.
pub const LIVING_PER_HOLDER_MAX: u64 = 1_000;
/// Persons and hosts whose pace is remembered: a bucket takes less than a hundred bytes.
pub const HOLDERS_KEPT_MAX: usize = 20_000;

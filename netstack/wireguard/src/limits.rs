//! The constants of the protocol (WireGuard paper, section 6.1; `messages.h` of the kernel's implementation).

use std::time::Duration;

pub use crate::replay::REJECT_AFTER_MESSAGES;

/// A session that sealed so many packets asks for another.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// A session of this age asks for another, if we initiated it and send.
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// A session of this age is used no more.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// A handshake is tried again after this, and not begun more often.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// A third of a second at most is added to a handshake's deadline, so that two peers do not go on at once.
pub const REKEY_TIMEOUT_JITTER: Duration = Duration::from_millis(333);
/// Who received and sent nothing for this long sends a keepalive.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A handshake is given up after being tried for 90 s.
pub const HANDSHAKES_MAX: u32 = 90 / 5;
/// Initiations of one peer are answered at most so often (`INITIATIONS_PER_SECOND`, 50).
pub const INITIATION_INTERVAL: Duration = Duration::from_millis(20);
/// All keys of a peer are wiped so long after its newest session was made.
pub const WIPE_AFTER: Duration = Duration::from_secs(3 * 180);
/// A session of this age, received with, asks for another: later silence would not be noticed in time.
pub(crate) const REKEY_BEFORE_SILENCE: Duration = Duration::from_secs(180 - 10 - 5);
/// Packets that wait for a session of one peer (`MAX_STAGED_PACKETS`).
pub const WAITING_MAX: usize = 128;
/// How often in a row what waits is taken before what comes need not wait too: whoever sends faster than that leaves
/// would wait for ever.
pub(crate) const WAITING_TURNS_MAX: u32 = 8;
/// Plaintext is padded to a multiple of this.
const PADDING_MULTIPLE: usize = 16;
/// Header of a data message: type, receiver, counter.
pub const DATA_HEADER_BYTES: usize = 16;
/// Header and tag of a data message.
pub const DATA_OVERHEAD_BYTES: usize = 32;

/// How long a packet of so many bytes is when it is sealed: up to the next multiple of 16, but not beyond the MTU, as in
/// the kernel (WireGuard paper, section 5.4.6).
pub fn padded(bytes: usize, mtu: usize) -> usize {
    bytes.next_multiple_of(PADDING_MULTIPLE).min(mtu.max(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_hides_lengths_and_keeps_within_the_mtu() {
        for (bytes, mtu, length) in
            [(0, 1420, 0), (1, 1420, 16), (16, 1420, 16), (1410, 1420, 1420), (1500, 1420, 1500)]
        {
            assert_eq!(padded(bytes, mtu), length, "{bytes} bytes, MTU {mtu}");
        }
    }
}

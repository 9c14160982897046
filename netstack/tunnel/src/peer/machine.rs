//! Boringtun's state machine, made to keep time and to stop where the paper says.
//!
//! It knows its own handshakes and data; which machine is used for what, the session decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use model::PublicKey;

use super::{ControlBuffer, Peer};
use crate::identity::Identity;
use crate::indices::Lease;
use crate::update::PresharedKey;

/// How often a machine with traffic looks at the clock by itself: its shortest timer is the 10 s of a keepalive.
const ACTIVE_INTERVAL: Duration = Duration::from_secs(1);
/// After so long without traffic only the timers of minutes are left (KEEPALIVE + REKEY_TIMEOUT are 15 s).
const ACTIVE_TIME: Duration = Duration::from_secs(20);
/// How often a machine without traffic looks: its timers are 120, 165, 180 and 540 s.
const QUIET_INTERVAL: Duration = Duration::from_secs(5);
/// WireGuard paper, section 6.1; boringtun has the same.
pub(super) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// WireGuard paper, section 6.1: retries spread over a third of a second.
pub(super) const REKEY_JITTER_MS_MAX: u32 = 333;
/// WireGuard paper, section 6.1.
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// WireGuard paper, section 6.1. Boringtun has no limit of its own.
pub(super) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
pub(super) const INITIATION: u8 = 1;
const DATA: u8 = 4;

/// Boringtun's machine and what it does not tell.
pub(super) struct Machine {
    pub(super) tunn: Tunn,
    pub(super) lease: Lease<Arc<Peer>>,
    pub(super) looked: Instant,
    pub(super) active: Instant,
    /// When to repeat the initiation that is not answered yet.
    pub(super) retry: Option<Instant>,
    /// The index of a session that we answered and nothing came through yet.
    pub(super) unconfirmed: Option<u32>,
    pub(super) established: bool,
    pub(super) rekey: bool,
}

impl Machine {
    /// A machine without a session.
    pub(super) fn new(
        key: &PublicKey,
        preshared: Option<&PresharedKey>,
        identity: &Identity,
        lease: Lease<Arc<Peer>>,
        now: Instant,
    ) -> Self {
        let tunn = Tunn::new(
            identity.secret.clone(),
            x25519::PublicKey::from(*key.as_bytes()),
            preshared.map(|key| *key.expose()),
            None,
            lease.index(),
            Some(Arc::clone(&identity.unlimited)),
        );
        Self {
            tunn,
            lease,
            looked: now,
            active: now,
            retry: None,
            unconfirmed: None,
            established: false,
            rekey: false,
        }
    }

    pub(super) fn deadline(&self, now: Instant) -> Instant {
        match self.retry {
            Some(retry) if !self.established => retry,
            _ if now.saturating_duration_since(self.active) < ACTIVE_TIME => self.looked + ACTIVE_INTERVAL,
            _ => self.looked + QUIET_INTERVAL,
        }
    }

    pub(super) fn has_session(&self) -> bool {
        self.established && self.tunn.time_since_last_handshake().is_some()
    }

    pub(super) fn look(&mut self, now: Instant, out: &mut ControlBuffer) -> Look {
        self.looked = now;
        let bytes = match self.tunn.update_timers(out) {
            TunnResult::WriteToNetwork(message) => message.len(),
            TunnResult::Err(_) => return Look::Expired,
            _ if self.rekey => return Look::Send(self.initiate(now, out)),
            _ => return Look::Quiet,
        };
        self.note(bytes, now, out);
        Look::Send(bytes)
    }

    /// A retired machine keeps its session alive and makes no other.
    pub(super) fn look_retired(&mut self, now: Instant, out: &mut ControlBuffer, may_send: bool) -> Look {
        self.looked = now;
        let mut unsent: ControlBuffer = [0; 160];
        let bytes = match self.tunn.update_timers(if may_send { out } else { &mut unsent }) {
            TunnResult::WriteToNetwork(message) if message[0] == DATA => message.len(),
            TunnResult::WriteToNetwork(_) => INITIATION_INSTEAD,
            TunnResult::Err(_) => return Look::Expired,
            _ if !self.has_session() => return Look::Expired,
            _ => return Look::Quiet,
        };
        if may_send { Look::Send(bytes) } else { Look::Quiet }
    }

    pub(super) fn initiate(&mut self, now: Instant, out: &mut ControlBuffer) -> usize {
        let bytes = match self.tunn.format_handshake_initiation(out, false) {
            TunnResult::WriteToNetwork(message) => message.len(),
            _ => 0,
        };
        self.note(bytes, now, out);
        bytes
    }

    pub(super) fn seal(&mut self, packet: &[u8], now: Instant, out: &mut [u8]) -> usize {
        let bytes = match self.tunn.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(message) => message.len(),
            _ => 0,
        };
        self.note(bytes, now, out);
        if bytes > 0 && out[0] == DATA {
            let counter = u64::from_le_bytes(out[8..16].try_into().expect("eight bytes"));
            self.rekey |= counter >= REKEY_AFTER_MESSAGES;
            if counter >= REJECT_AFTER_MESSAGES {
                return 0;
            }
        }
        bytes
    }

    /// Takes note of a message that goes out.
    pub(super) fn note(&mut self, bytes: usize, now: Instant, out: &[u8]) {
        if bytes > 0 {
            self.active = now;
        }
        if bytes > 0 && out[0] == INITIATION {
            let jitter = getrandom::u32().unwrap_or(0) % (REKEY_JITTER_MS_MAX + 1);
            self.retry = Some(now + REKEY_TIMEOUT + Duration::from_millis(jitter.into()));
        }
    }
}

/// What a machine did at a look at the clock.
pub(super) enum Look {
    Quiet,
    Send(usize),
    Expired,
}

/// A retired machine wanted a handshake, which the live one must make: no message is so long.
pub(super) const INITIATION_INSTEAD: usize = usize::MAX;

//! One peer: its settings, and its session while it has one. Knows no socket, no thread and no other peer.
//!
//! ```text
//!            first packet, keepalive or handshake            keys expired, key changed
//!   asleep ─────────────────────────────────────▶ live ─────────────────────────────────▶ asleep
//!                                                  │  preshared key changed
//!                                                  └──▶ live (new key, handshakes) + retired (old session, data)
//! ```
//!
//! Boringtun's `Tunn` keeps its time coarsely: what it does happens at the time of its last look at the clock. So
//! it is made to look before every packet that comes [`LOOK_INTERVAL`] or more after the last look.

mod machine;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use boringtun::noise::TunnResult;
use boringtun::x25519;
use model::PublicKey;
use zeroize::Zeroizing;

use crate::identity::Identity;
use crate::indices::Indices;
use crate::initiation::{Claimed, Tai64n};
use crate::peer::machine::{INITIATION, INITIATION_INSTEAD, Look, Machine, REJECT_AFTER_MESSAGES};
use crate::sockets::Endpoint;
use crate::update::PresharedKey;

/// Room for whatever is not data: the longest is a handshake initiation of 148 bytes.
pub(crate) type ControlBuffer = [u8; 160];

/// How far a machine's time may lag behind when a packet is handled.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Initiations of one peer are answered at most so often, as in the kernel (50 a second).
const INITIATION_INTERVAL: Duration = Duration::from_millis(20);

/// A peer by its key. Its number orders deadlines that fall together.
pub(crate) struct Peer {
    pub(crate) key: PublicKey,
    pub(crate) number: u64,
    session: Mutex<Session>,
}

impl Peer {
    pub(crate) fn new(key: PublicKey, number: u64) -> Arc<Self> {
        Arc::new(Self { key, number, session: Mutex::new(Session::default()) })
    }

    /// A panic under the lock cannot leave a session that is worse than an expired one, so poison is passed over.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What changes of a peer.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) preshared_key: Option<PresharedKey>,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) keepalive_seconds: u16,
    pub(crate) last_handshake: Option<SystemTime>,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    /// The deadline in the queue, if there is one.
    pub(crate) due: Option<Instant>,
    /// No longer in the table: whoever still holds it must not wake it.
    removed: bool,
    /// The secret of both static keys, from the first need on.
    shared_secret: Option<Zeroizing<[u8; 32]>>,
    /// Of the newest initiation; outlives the machine, so that none is played twice.
    newest_initiation: Tai64n,
    initiation_at: Option<Instant>,
    /// When an authenticated packet last went or came.
    traffic: Option<Instant>,
    /// When to begin a handshake without a packet.
    begin: Option<Instant>,
    live: Option<Box<Machine>>,
    retired: Option<Box<Machine>>,
}

/// A data packet that was opened.
pub(crate) struct Opened {
    /// Length of the inner packet; 0 is a keepalive.
    pub(crate) bytes: usize,
    /// Whether it is the first of its session, so that packets that waited may go.
    pub(crate) confirms: bool,
}

impl Session {
    /// Makes sure that there is a machine. `false` if there cannot be one.
    pub(crate) fn wake(
        &mut self,
        peer: &Arc<Peer>,
        identity: Option<&Identity>,
        indices: &Arc<Indices<Arc<Peer>>>,
        now: Instant,
    ) -> bool {
        if self.live.is_some() {
            return true;
        }
        let Some(identity) = identity else { return false };
        if self.removed || self.shared_secret(peer, identity).is_none() {
            return false;
        }
        let Some(lease) = indices.lease(peer) else { return false };
        let machine = Machine::new(&peer.key, self.preshared_key.as_ref(), identity, lease, now);
        self.live = Some(Box::new(machine));
        true
    }

    /// `None` for a peer whose key is a point of low order: nothing can be said to it in secret.
    fn shared_secret(&mut self, peer: &Peer, identity: &Identity) -> Option<&[u8; 32]> {
        if self.shared_secret.is_none() {
            let shared = identity.secret.diffie_hellman(&x25519::PublicKey::from(*peer.key.as_bytes()));
            if !shared.was_contributory() {
                return None;
            }
            self.shared_secret = Some(Zeroizing::new(shared.to_bytes()));
        }
        self.shared_secret.as_deref()
    }

    /// Ends the session: the device's key is another.
    pub(crate) fn forget_keys(&mut self) {
        self.live = None;
        self.retired = None;
        self.shared_secret = None;
    }

    /// Ends the session for good.
    pub(crate) fn remove(&mut self) {
        self.removed = true;
        self.forget_keys();
    }

    /// Handshakes use the key from now on; the session goes on until one is made.
    pub(crate) fn set_preshared_key(&mut self, key: Option<PresharedKey>) {
        if self.preshared_key == key {
            return;
        }
        self.preshared_key = key;
        if let Some(machine) = self.live.take()
            && machine.established
        {
            self.retired = Some(machine);
        }
    }

    /// Packets go there from now on.
    pub(crate) fn set_remote(&mut self, remote: SocketAddr) {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        if self.endpoint.is_none_or(|endpoint| endpoint.remote != remote) {
            self.endpoint = Some(Endpoint { remote, local: None });
        }
    }

    /// The first keepalive goes at once.
    pub(crate) fn set_keepalive(&mut self, seconds: u16) {
        if self.keepalive_seconds == 0 {
            self.traffic = None;
        }
        self.keepalive_seconds = seconds;
    }

    /// Makes a handshake begin at that time, where one is possible and needed. `false` if not.
    pub(crate) fn begin(&mut self, at: Instant) -> bool {
        let wanted = self.endpoint.is_some() && !self.removed && !self.has_session();
        if wanted {
            self.begin = Some(at);
        }
        wanted
    }

    fn has_session(&self) -> bool {
        self.live.iter().chain(&self.retired).any(|machine| machine.has_session())
    }

    /// The kernel chooses the local address anew, if it is still the one that did not work.
    pub(crate) fn forget_local(&mut self, used: &Endpoint) {
        if self.endpoint.as_ref() == Some(used) {
            self.endpoint = Some(Endpoint { local: None, ..*used });
        }
    }

    /// When to call [`Self::tick`] next; `None` if there is nothing to wait for.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let machines = self.live.iter().chain(&self.retired).map(|machine| machine.deadline(now)).min();
        machines.into_iter().chain(self.keepalive_at(now)).min()
    }

    /// A keepalive without a session is a handshake.
    fn keepalive_at(&self, now: Instant) -> Option<Instant> {
        if self.endpoint.is_none() || self.removed {
            return None;
        }
        let regular = (self.keepalive_seconds > 0).then(|| {
            let interval = Duration::from_secs(self.keepalive_seconds.into());
            self.traffic.map_or(now, |at| at + interval)
        });
        regular.into_iter().chain(self.begin).min()
    }

    /// Whether a packet at this time must be preceded by [`Self::tick`].
    pub(crate) fn is_behind(&self, now: Instant) -> bool {
        self.live
            .iter()
            .chain(&self.retired)
            .any(|m| now.saturating_duration_since(m.looked) >= LOOK_INTERVAL)
    }

    fn wants_keepalive(&self, now: Instant) -> bool {
        self.keepalive_at(now).is_some_and(|at| at <= now)
    }

    /// Whether [`Self::tick`] may have to make a handshake: for a keepalive, or in place of a retired machine.
    pub(crate) fn wants_machine(&self, now: Instant) -> bool {
        self.wants_keepalive(now) || self.retired.is_some()
    }

    /// Does what time asks for. Answers the length of a message to send, 0 for none.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut ControlBuffer) -> usize {
        let mut bytes = match self.live.as_mut().map(|machine| machine.look(now, out)) {
            Some(Look::Send(bytes)) => bytes,
            Some(Look::Expired) => {
                self.live = None;
                0
            }
            Some(Look::Quiet) | None => 0,
        };
        let retired = self.retired.as_mut().map(|machine| machine.look_retired(now, out, bytes == 0));
        match retired {
            Some(Look::Send(INITIATION_INSTEAD)) => {
                bytes = self.live.as_mut().map_or(0, |machine| machine.initiate(now, out));
            }
            Some(Look::Send(sent)) => bytes = sent,
            Some(Look::Expired) => self.retired = None,
            Some(Look::Quiet) | None => {}
        }
        if bytes > 0 && out[0] == INITIATION {
            // In case the address is why nobody answers, as the kernel does.
            self.endpoint = self.endpoint.map(|endpoint| Endpoint { local: None, ..endpoint });
        }
        if self.wants_keepalive(now) {
            self.begin = None;
            self.traffic = Some(now);
            if bytes == 0 {
                return self.keepalive(now, out);
            }
        }
        self.sent(bytes, now)
    }

    fn keepalive(&mut self, now: Instant, out: &mut ControlBuffer) -> usize {
        if self.has_session() {
            return self.seal(&[], now, out);
        }
        let bytes = self.live.as_mut().map_or(0, |machine| machine.initiate(now, out));
        self.sent(bytes, now)
    }

    fn sent(&mut self, bytes: usize, now: Instant) -> usize {
        if bytes > 0 {
            self.sent_bytes += bytes as u64;
            self.traffic = Some(now);
        }
        bytes
    }

    /// Seals a packet; without a session it waits and a handshake begins. Answers the length of the message to
    /// send, 0 for none.
    pub(crate) fn seal(&mut self, packet: &[u8], now: Instant, out: &mut [u8]) -> usize {
        let use_retired = self.retired.as_ref().is_some_and(|machine| machine.has_session())
            && !self.live.as_ref().is_some_and(|machine| machine.has_session());
        let machine = if use_retired { &mut self.retired } else { &mut self.live };
        let Some(machine) = machine else { return 0 };
        let bytes = machine.seal(packet, now, out);
        self.sent(bytes, now)
    }

    /// Seals a packet that waited for the session.
    pub(crate) fn seal_waiting(&mut self, now: Instant, out: &mut [u8]) -> usize {
        let Some(machine) = &mut self.live else { return 0 };
        let bytes = match machine.tunn.decapsulate(None, &[], out) {
            TunnResult::WriteToNetwork(message) => message.len(),
            _ => 0,
        };
        machine.note(bytes, now, out);
        self.sent(bytes, now)
    }

    /// Opens a data message that came in under an index; the inner packet is in `out`. `None` if it is not
    /// authentic, was there before, or holds no IP packet.
    pub(crate) fn open(
        &mut self,
        index: u32,
        message: &[u8],
        from: Endpoint,
        now: Instant,
        out: &mut [u8],
    ) -> Option<Opened> {
        let counter = u64::from_le_bytes(message.get(8..16)?.try_into().ok()?);
        if counter >= REJECT_AFTER_MESSAGES {
            return None;
        }
        let machine = self.live.iter_mut().chain(&mut self.retired).find(|m| m.lease.index() == index)?;
        let bytes = match machine.tunn.decapsulate(None, message, out) {
            TunnResult::Done => 0,
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => packet.len(),
            TunnResult::WriteToNetwork(_) | TunnResult::Err(_) => return None,
        };
        machine.active = now;
        let confirms = machine.unconfirmed.is_some_and(|i| i.to_le_bytes() == message[4..8]);
        if confirms {
            machine.unconfirmed = None;
            machine.established = true;
            machine.rekey = false;
            self.last_handshake = Some(SystemTime::now());
        }
        self.heard(message.len(), from, now);
        Some(Opened { bytes, confirms })
    }

    /// Whether an initiation is authentic, newer than all before, and not one of too many. Remembers it if so.
    pub(crate) fn accept(
        &mut self,
        peer: &Peer,
        identity: &Identity,
        claimed: &Claimed<'_>,
        now: Instant,
    ) -> bool {
        let Some(time) = self.shared_secret(peer, identity).and_then(|shared| claimed.timestamp(shared))
        else {
            return false;
        };
        let flood =
            self.initiation_at.is_some_and(|at| now.saturating_duration_since(at) < INITIATION_INTERVAL);
        if time <= self.newest_initiation || flood || self.removed {
            return false;
        }
        self.newest_initiation = time;
        self.initiation_at = Some(now);
        true
    }

    /// Answers an accepted initiation.
    pub(crate) fn respond(
        &mut self,
        initiation: &[u8],
        from: Endpoint,
        now: Instant,
        out: &mut ControlBuffer,
    ) -> usize {
        let Some(machine) = &mut self.live else { return 0 };
        let TunnResult::WriteToNetwork(response) = machine.tunn.decapsulate(None, initiation, out) else {
            return 0;
        };
        let bytes = response.len();
        machine.unconfirmed = Some(u32::from_le_bytes([response[4], response[5], response[6], response[7]]));
        machine.retry = None;
        machine.active = now;
        self.heard(initiation.len(), from, now);
        self.sent(bytes, now)
    }

    /// Takes the answer to our initiation; a keepalive confirms the session. 0 if it is no answer to it.
    pub(crate) fn finish(
        &mut self,
        index: u32,
        response: &[u8],
        from: Endpoint,
        now: Instant,
        out: &mut ControlBuffer,
    ) -> usize {
        let Some(machine) = self.live.as_mut().filter(|machine| machine.lease.index() == index) else {
            return 0;
        };
        let TunnResult::WriteToNetwork(keepalive) = machine.tunn.decapsulate(None, response, out) else {
            return 0;
        };
        let bytes = keepalive.len();
        machine.retry = None;
        machine.established = true;
        machine.rekey = false;
        machine.active = now;
        self.last_handshake = Some(SystemTime::now());
        self.heard(response.len(), from, now);
        self.sent(bytes, now)
    }

    /// Takes a cookie; the next initiation carries it. Nothing about the sender is learnt from it.
    pub(crate) fn take_cookie(&mut self, index: u32, reply: &[u8], out: &mut ControlBuffer) {
        if let Some(machine) = self.live.as_mut().filter(|machine| machine.lease.index() == index)
            && let TunnResult::Err(error) = machine.tunn.decapsulate(None, reply, out)
        {
            tracing::debug!(?error, "a cookie does not fit");
        }
    }

    /// An authenticated message: the peer is where it came from.
    fn heard(&mut self, bytes: usize, from: Endpoint, now: Instant) {
        self.received_bytes += bytes as u64;
        self.traffic = Some(now);
        self.endpoint = Some(from);
    }
}

/// Ten thousand peers that are asleep take a few megabytes.
const _: () = assert!(size_of::<Peer>() <= 384);

#[cfg(test)]
mod tests;

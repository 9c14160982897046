//! Handshakes and sessions of one peer, under its lock.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use model::PublicKey;
use zeroize::Zeroizing;

use crate::cookie::{self, COOKIE_LIFE};
use crate::limits::{
    HANDSHAKES_MAX, INITIATION_INTERVAL, REKEY_TIMEOUT, REKEY_TIMEOUT_JITTER, WAITING_MAX, WAITING_TURNS_MAX,
    WIPE_AFTER,
};
use crate::noise::{self, Claimed, Initiator, Keys, Local, Remote, Verified};
use crate::pair::KeyPair;
use crate::peer::{Lease, Locked};
use crate::tai64n::Tai64n;
use crate::time::Time;

/// What the lock protects.
pub(super) struct Control<L> {
    preshared_key: Zeroizing<[u8; 32]>,
    /// What follows from our key and the peer's; made when it is needed, forgotten with our key.
    remote: Option<Box<Remote>>,
    pending: Option<Box<Pending<L>>>,
    cookie: Option<([u8; 16], Time)>,
    /// Of the newest initiation; outlives all sessions, so that none is played twice.
    newest: Option<Tai64n>,
    /// Index and first MAC of the last message that we sent: what a cookie is bound to. A cookie is taken once.
    stamped: Option<(u32, [u8; 16])>,
    accepted: Option<Time>,
    attempts: u32,
    current: Option<Held<L>>,
    previous: Option<Held<L>>,
    pub(super) next: Option<Held<L>>,
    waiting: VecDeque<Box<[u8]>>,
    /// How often what waited was taken since nothing did.
    turns: u32,
    pub(super) last_handshake: Option<Duration>,
    /// No longer in the table: whoever still holds it must not wake it.
    removed: bool,
    /// Spreads timers; it protects nothing.
    jitter: u64,
}

/// An initiation that was sent.
struct Pending<L> {
    initiator: Initiator,
    lease: L,
}

pub(super) struct Held<L> {
    pub(super) pair: Arc<KeyPair>,
    /// Keeps the index in use for as long as the pair may open.
    _lease: L,
}

/// An initiation that was accepted; it is to be answered.
pub struct Accepted(Verified);

/// What a finished handshake leaves to be done: these packets were waiting, in order, and are sent before others are
/// taken with [`Locked::take_waiting`]. If there are none, a keepalive tells the peer that we have the keys.
pub struct Finished {
    /// The session.
    pub pair: Arc<KeyPair>,
    /// Plaintext, not padded; an empty one is a keepalive.
    pub waiting: VecDeque<Box<[u8]>>,
}

/// What time asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Tick {
    /// Send an empty packet; without a session it waits for one.
    pub keepalive: bool,
    /// Call [`Locked::initiate`].
    pub initiate: bool,
    /// The peer does not answer: our own address of its path may be why.
    pub forget_local: bool,
}

impl Finished {
    /// Nothing waited.
    pub const fn keepalive(pair: Arc<KeyPair>) -> Self {
        Self { pair, waiting: VecDeque::new() }
    }
}

impl<L> Control<L> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            preshared_key: Zeroizing::new([0; 32]),
            remote: None,
            pending: None,
            cookie: None,
            newest: None,
            stamped: None,
            accepted: None,
            attempts: 0,
            current: None,
            previous: None,
            next: None,
            waiting: VecDeque::new(),
            turns: 0,
            last_handshake: None,
            removed: false,
            jitter: seed,
        }
    }

    /// Below [`REKEY_TIMEOUT_JITTER`] (SplitMix64, Steele, Lea and Flood 2014).
    fn jitter(&mut self) -> Duration {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.jitter;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let micros = u64::try_from(REKEY_TIMEOUT_JITTER.as_micros()).expect("less than a second");
        Duration::from_micros((z ^ (z >> 31)) % micros)
    }

    /// `None` for a peer whose key is a point of low order: nothing can be said to it in secret.
    fn remote(&mut self, local: &Local, key: &PublicKey) -> Option<&Remote> {
        if self.remote.is_none() {
            self.remote = Remote::new(local, key).map(Box::new);
        }
        self.remote.as_deref()
    }
}

impl<L: Lease> Locked<'_, L> {
    /// Keeps a packet until there is a session. The oldest is lost if too many wait. Look for a session afterwards,
    /// with [`Self::take_waiting`]: one may have come up meanwhile. What comes later waits behind it.
    pub fn wait(&mut self, packet: Box<[u8]>) {
        if self.control.removed {
            return;
        }
        if self.peer.current.load().is_some() {
            self.peer.current.store(None);
        }
        if self.control.waiting.len() >= WAITING_MAX {
            self.control.waiting.pop_front();
        }
        self.control.waiting.push_back(packet);
    }

    /// Whether packets wait for a session.
    pub fn has_waiting(&self) -> bool {
        !self.control.waiting.is_empty()
    }

    /// Whether there is no session that may seal, or it is time for another.
    pub fn wants_session(&self, now: Time) -> bool {
        let current = self.control.current.as_ref().map(|held| &held.pair);
        current.is_none_or(|pair| !pair.is_alive(now) || pair.wants_successor(now) || pair.ends_soon(now))
    }

    /// Takes what waits, if there is a session to send it with. To be asked again once that is sent, until there is
    /// nothing: only then does [`crate::Peer::current`] give the session to others.
    pub fn take_waiting(&mut self, now: Time) -> Option<Finished> {
        let pair = Arc::clone(&self.control.current.as_ref()?.pair);
        let finished = pair.is_alive(now).then(|| self.hand_over(pair))?;
        Some(finished).filter(|finished| !finished.waiting.is_empty())
    }

    fn hand_over(&mut self, pair: Arc<KeyPair>) -> Finished {
        let control = &mut *self.control;
        let waiting = mem::take(&mut control.waiting);
        control.turns = if waiting.is_empty() { 0 } else { control.turns + 1 };
        if waiting.is_empty() || control.turns >= WAITING_TURNS_MAX {
            self.peer.current.store(Some(Arc::clone(&pair)));
        }
        Finished { pair, waiting }
    }

    /// Whether a handshake that is not a repetition may begin: none was begun or answered in the last five seconds.
    pub fn wants_initiation(&mut self, now: Time) -> bool {
        let may = !self.control.removed && self.peer.traffic.may_initiate(now);
        if may {
            self.control.attempts = 0;
        }
        may
    }

    /// Makes an initiation and sets the timer of its repetition. `None` if there can be none: the peer was removed,
    /// or its key is of low order.
    pub fn initiate(
        &mut self,
        local: &Local,
        key: &PublicKey,
        lease: L,
        ephemeral: &[u8; 32],
        now: Time,
        wall: Duration,
    ) -> Option<[u8; 148]> {
        if self.control.removed {
            return None;
        }
        let cookie =
            self.control.cookie.filter(|(_, at)| now.since(*at) < COOKIE_LIFE).map(|(cookie, _)| cookie);
        let remote = self.control.remote(local, key)?;
        let (initiator, mut message) =
            noise::initiate(local, remote, lease.index(), Tai64n::from_wall(wall), ephemeral);
        let mac1 = cookie::stamp(&mut message, remote, cookie.as_ref());
        self.control.stamped = Some((lease.index(), mac1));
        self.control.pending = Some(Box::new(Pending { initiator, lease }));
        let traffic = &self.peer.traffic;
        traffic.spoke.set(now);
        traffic.begin.clear();
        traffic.keepalive.clear();
        let jitter = self.control.jitter();
        traffic.jitter.store(u64::try_from(jitter.as_nanos()).expect("less than a second"), Relaxed);
        traffic.retry.set(now + REKEY_TIMEOUT + jitter);
        Some(message)
    }

    /// Checks an initiation: authentic, newer than all before, and not one of too many. Remembers it if so.
    pub fn accept(
        &mut self,
        local: &Local,
        key: &PublicKey,
        claimed: Claimed,
        now: Time,
    ) -> Option<Accepted> {
        let control = &mut *self.control;
        if control.removed {
            return None;
        }
        let verified = claimed.verify(control.remote(local, key)?)?;
        let is_flood = control.accepted.is_some_and(|at| now.since(at) < INITIATION_INTERVAL);
        if is_flood || control.newest.is_some_and(|newest| verified.timestamp <= newest) {
            return None;
        }
        control.newest = Some(verified.timestamp);
        control.accepted = Some(now);
        Some(Accepted(verified))
    }

    /// Answers an accepted initiation. The new session is used once the peer has shown that it has it.
    pub fn respond(
        &mut self,
        accepted: Accepted,
        lease: L,
        ephemeral: &[u8; 32],
        now: Time,
    ) -> Option<[u8; 92]> {
        let control = &mut *self.control;
        let cookie = control.cookie.filter(|(_, at)| now.since(*at) < COOKIE_LIFE).map(|(cookie, _)| cookie);
        let remote = control.remote.as_ref()?;
        let (mut message, keys) =
            accepted.0.respond(remote, &control.preshared_key, lease.index(), ephemeral);
        let mac1 = cookie::stamp(&mut message, remote, cookie.as_ref());
        control.stamped = Some((lease.index(), mac1));
        let held = hold(keys, lease, now, false);
        control.next = Some(held);
        control.previous = None;
        // A session is on its way: as in the kernel, we do not begin another meanwhile.
        self.peer.traffic.spoke.set(now);
        self.derived(now);
        Some(message)
    }

    /// Takes the answer to our initiation. `None` if it is no answer to it.
    pub fn finish(
        &mut self,
        local: &Local,
        index: u32,
        response: &[u8; 92],
        now: Time,
        wall: Duration,
    ) -> Option<Finished> {
        let control = &mut *self.control;
        let pending = control.pending.as_ref().filter(|pending| pending.lease.index() == index)?;
        let keys = pending.initiator.finish(local, &control.preshared_key, response)?;
        let lease = control.pending.take()?.lease;
        let held = hold(keys, lease, now, true);
        let pair = Arc::clone(&held.pair);
        // The peer may have begun a session too, and seals with it until it opens something of this one.
        control.previous = control.next.take().or_else(|| control.current.take());
        control.current = Some(held);
        self.derived(now);
        self.completed(wall);
        Some(self.hand_over(pair))
    }

    /// The peer sealed something with the session that we answered: it is ours too from now on. Says whether packets
    /// have waited for it: see [`Self::take_waiting`], which must be called then.
    pub fn confirm(&mut self, pair: &Arc<KeyPair>, wall: Duration) -> bool {
        let control = &mut *self.control;
        pair.confirm();
        let Some(next) = control.next.take_if(|next| Arc::ptr_eq(&next.pair, pair)) else { return false };
        control.previous = control.current.replace(next);
        control.pending = None;
        // Who took what waited may be sending it still.
        let have_waited = control.turns > 0 || !control.waiting.is_empty();
        if !have_waited {
            self.peer.current.store(Some(Arc::clone(pair)));
        }
        self.completed(wall);
        have_waited
    }

    fn derived(&mut self, now: Time) {
        self.peer.traffic.wipe.set(now + WIPE_AFTER);
        self.peer.traffic.asked_last_minute.store(false, Relaxed);
    }

    fn completed(&mut self, wall: Duration) {
        self.peer.traffic.retry.clear();
        self.peer.traffic.begin.clear();
        self.control.attempts = 0;
        self.control.last_handshake = Some(wall);
    }

    /// Takes a cookie for the last message that we sent, an initiation or the answer to one; the next carries it. Says
    /// whether it fits. Nothing about the sender is learnt from it.
    pub fn take_cookie(&mut self, index: u32, reply: &[u8; 64], now: Time) -> bool {
        let control = &mut *self.control;
        let (Some((of, mac1)), Some(remote)) = (&control.stamped, &control.remote) else { return false };
        if *of != index {
            return false;
        }
        let Some(cookie) = cookie::open_reply(remote, reply, mac1) else { return false };
        control.cookie = Some((cookie, now));
        control.stamped = None;
        true
    }

    /// An authentic message of a handshake came.
    pub fn handshake_came(&self, now: Time) {
        self.peer.traffic.received(false, now);
    }

    /// A message of a handshake went: no keepalive is due, as after [`crate::Peer::sent`].
    pub fn handshake_went(&self, now: Time) {
        self.peer.traffic.went(now);
    }

    /// Does what time asks for, as far as that needs no message.
    pub fn tick(&mut self, now: Time) -> Tick {
        let traffic = &self.peer.traffic;
        let mut tick = Tick::default();
        if self.control.removed {
            // A thread that held a session until now may have set deadlines since.
            traffic.clear();
            return tick;
        }
        if traffic.retry.take(now) {
            self.retry(now, &mut tick);
        }
        tick.keepalive = traffic.keepalive.take(now);
        if traffic.silence.take(now) {
            tick.forget_local = true;
            tick.initiate |= self.wants_initiation(now);
        }
        if traffic.persistent.take(now) && traffic.keepalive_seconds() > 0 {
            traffic.persistent.set(now + Duration::from_secs(traffic.keepalive_seconds().into()));
            tick.keepalive = true;
        }
        if traffic.begin.take(now) && !self.has_session(now) {
            tick.initiate |= self.wants_initiation(now);
        }
        if traffic.wipe.take(now) {
            self.end_sessions();
        }
        if tick.keepalive && !self.has_session(now) {
            tick.keepalive = false;
            tick.initiate |= self.wants_initiation(now);
        }
        tick
    }

    fn retry(&mut self, now: Time, tick: &mut Tick) {
        let traffic = &self.peer.traffic;
        if self.control.attempts > HANDSHAKES_MAX {
            traffic.keepalive.clear();
            self.control.waiting.clear();
            self.control.pending = None;
            if !traffic.wipe.is_set() {
                traffic.wipe.set(now + WIPE_AFTER);
            }
        } else {
            self.control.attempts += 1;
            tick.forget_local = true;
            tick.initiate = true;
        }
    }

    /// Whether packets can be sealed now.
    pub fn has_session(&self, now: Time) -> bool {
        self.control.current.as_ref().is_some_and(|held| held.pair.is_alive(now))
    }

    /// Makes a handshake begin at that time, if there is no session then, and says when it begins: earlier, if that was
    /// asked for before. `None` if there is a session, or the peer was removed.
    pub fn begin(&mut self, at: Time) -> Option<Time> {
        if self.control.removed || self.has_session(at) {
            return None;
        }
        let begin = &self.peer.traffic.begin;
        let at = begin.get().map_or(at, |earlier| earlier.min(at));
        begin.set(at);
        Some(at)
    }

    /// Handshakes use the key from now on; a session that there is goes on.
    pub fn set_preshared_key(&mut self, key: Option<&[u8; 32]>) {
        self.control.preshared_key = Zeroizing::new(key.copied().unwrap_or_default());
    }

    /// Seconds between keepalives; 0 is none. The first goes at once when they are switched on.
    pub fn set_keepalive_seconds(&mut self, seconds: u16, now: Time) {
        self.peer.traffic.set_keepalive_seconds(seconds, now);
    }

    /// The key mixed into handshakes, if one is.
    pub fn preshared_key(&self) -> Option<&[u8; 32]> {
        Some(&*self.control.preshared_key).filter(|key| **key != [0; 32])
    }

    /// Forgets what follows from our key: it is another.
    pub fn forget_keys(&mut self) {
        self.end_sessions();
        self.control.remote = None;
        self.control.cookie = None;
        self.control.stamped = None;
        self.control.waiting.clear();
        self.peer.traffic.retry.clear();
        self.peer.traffic.silence.clear();
        self.peer.traffic.spoke.clear();
    }

    /// Ends everything for good.
    pub fn remove(&mut self) {
        self.control.removed = true;
        self.forget_keys();
        self.peer.traffic.clear();
    }

    fn end_sessions(&mut self) {
        self.peer.current.store(None);
        let control = &mut *self.control;
        (control.current, control.previous, control.next, control.pending) = (None, None, None, None);
        control.turns = 0;
    }
}

fn hold<L: Lease>(keys: Keys, lease: L, now: Time, is_initiator: bool) -> Held<L> {
    let pair = Arc::new(KeyPair::new(keys, now, is_initiator));
    lease.publish(&pair);
    Held { pair, _lease: lease }
}

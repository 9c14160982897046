//! The probe session with one peer: how two lives find each other by hints, and seal probes then. Knows no address.
//!
//! ```text
//! A ── hint { epoch a } ───────────▶ B      A names its life
//! A ◀── hint { epoch b, echo a } ─── B      B's is fresh: it knows A's, so A takes it
//! A ── hint { epoch a, echo b } ───▶ B      and B takes A's
//! ```
//! A hint that does not echo the receiver's present life may be years old: it is answered, and not believed. Within one
//! pair of lives its number must grow. So nothing that was recorded can be played again, whoever carries it.

use std::collections::VecDeque;

use model::{PrivateKey, PublicKey};

use super::pace::Told;
use super::packet::{
    HintBody, HintPacket, LONG_PROBE_PADDING_BYTES, Probe, ProbePacket, Tag, hint_header, probe_header,
};
use super::seal::{Epoch, HINT_NONCE_BYTES, Keys, Pair};

/// Former lives of a peer that are remembered during one of ours: a peer that restarts more often than that while it is
/// talked to has other worries, and the oldest hint could be played by its relay only.
const RETIRED_MAX: usize = 32;

/// Our side and the peer's.
#[derive(Debug)]
pub(super) struct Session {
    pair: Pair,
    tag: Tag,
    epoch: Epoch,
    hints_sent: u64,
    /// What our last hint echoed.
    echoed: Option<Epoch>,
    /// The peer's life as its last hint claimed, believed or not.
    claimed: Option<Epoch>,
    peer: Option<Life>,
    /// What our probes say of us, and what the peer's last one said.
    told: [Told; 2],
    retired: VecDeque<Epoch>,
}

/// The peer's life that is believed.
#[derive(Debug)]
struct Life {
    epoch: Epoch,
    tag: Tag,
    /// Of its last hint.
    number: u64,
    keys: Keys,
    sent: u64,
    window: Window,
}

/// What a hint was worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// From the life that is believed, and newer than what was known.
    News,
    /// It may be old: not believed, but to be answered.
    Unproven,
    /// Known, or of a life that is over.
    Nothing,
}

impl Session {
    /// `None` if the peer's key is of low order. `tag` and `epoch` are fresh random bytes.
    pub(super) fn new(
        private: &PrivateKey,
        own: PublicKey,
        peer: PublicKey,
        tag: Tag,
        epoch: [u8; 16],
    ) -> Option<Self> {
        Some(Self {
            pair: Pair::new(private, own, peer)?,
            tag,
            epoch: Epoch(epoch),
            hints_sent: 0,
            echoed: None,
            claimed: None,
            peer: None,
            told: <[Told; 2]>::default(),
            retired: VecDeque::new(),
        })
    }

    pub(super) const fn tag(&self) -> Tag {
        self.tag
    }

    /// Whether probes can be sealed.
    pub(super) const fn is_ready(&self) -> bool {
        self.peer.is_some()
    }

    /// What probes say of us from now on.
    pub(super) const fn tell(&mut self, told: Told) {
        self.told[0] = told;
    }

    /// What the peer's last probe said of it.
    pub(super) const fn told(&self) -> Told {
        self.told[1]
    }

    /// Whether the peer cannot know yet that we know its life.
    pub(super) fn owes_hint(&self) -> bool {
        self.claimed.is_some() && self.echoed != self.claimed
    }

    /// A hint with the session's own fields filled in, sealed. `nonce` is fresh random bytes.
    pub(super) fn seal_hint(&mut self, mut body: HintBody, nonce: [u8; HINT_NONCE_BYTES]) -> Vec<u8> {
        self.hints_sent += 1;
        self.echoed = self.claimed;
        body.tag = self.tag;
        body.epoch = self.epoch.0;
        body.echo = self.claimed.map(|epoch| epoch.0);
        body.number = self.hints_sent;
        let header = hint_header(&nonce);
        let mut datagram = header.to_vec();
        datagram.extend(self.pair.seal_hint(nonce, &body.to_bytes(), &header));
        datagram
    }

    /// Opens a hint and says what it is worth. `None`: it is not the peer's.
    pub(super) fn open_hint(&mut self, packet: &HintPacket<'_>) -> Option<(Worth, HintBody)> {
        let plain = self.pair.open_hint(packet.nonce, packet.sealed, packet.header)?;
        let body = HintBody::from_bytes(&plain)?;
        let epoch = Epoch(body.epoch);
        if self.retired.contains(&epoch) {
            return Some((Worth::Nothing, body));
        }
        let is_fresh = body.echo == Some(self.epoch.0);
        match &mut self.peer {
            Some(life) if life.epoch == epoch => {
                let is_news = body.number > life.number;
                if is_news {
                    (life.number, life.tag) = (body.number, body.tag);
                }
                let worth = match (is_fresh, is_news) {
                    (true, true) => Worth::News,
                    // It lost us, or never heard of us.
                    (false, true) => Worth::Unproven,
                    (_, false) => Worth::Nothing,
                };
                Some((worth, body))
            }
            peer => {
                self.claimed = Some(epoch);
                if !is_fresh {
                    return Some((Worth::Unproven, body));
                }
                let keys = self.pair.keys(&self.epoch, &epoch);
                let life = Life {
                    epoch,
                    tag: body.tag,
                    number: body.number,
                    keys,
                    sent: 0,
                    window: Window::default(),
                };
                // What the former life said of its pace is over.
                self.told[1] = Told::default();
                if let Some(former) = peer.replace(life) {
                    if self.retired.len() == RETIRED_MAX {
                        self.retired.pop_front();
                    }
                    self.retired.push_back(former.epoch);
                }
                Some((Worth::News, body))
            }
        }
    }

    /// Seals a probe. `None` before the peer's life is known.
    pub(super) fn seal(&mut self, probe: Probe) -> Option<Vec<u8>> {
        self.seal_padded(probe, 0)
    }

    /// Seals a probe as long as a packet of full size.
    pub(super) fn seal_long(&mut self, probe: Probe) -> Option<Vec<u8>> {
        self.seal_padded(probe, LONG_PROBE_PADDING_BYTES)
    }

    fn seal_padded(&mut self, probe: Probe, zeros: usize) -> Option<Vec<u8>> {
        let life = self.peer.as_mut()?;
        let counter = life.sent;
        life.sent += 1;
        let header = probe_header(&life.tag, counter);
        let mut datagram = header.to_vec();
        let mut plain = probe.to_bytes(self.told[0]).to_vec();
        plain.resize(plain.len() + zeros, 0);
        datagram.extend(life.keys.seal(counter, &plain, &header));
        Some(datagram)
    }

    /// Opens a probe of the peer. `None`: it is not the peer's, or it came before.
    pub(super) fn open(&mut self, packet: &ProbePacket<'_>) -> Option<Probe> {
        let life = self.peer.as_mut()?;
        let plain = life.keys.open(packet.counter, packet.sealed, packet.header)?;
        let (probe, told) = life.window.accept(packet.counter).then(|| Probe::from_bytes(&plain))??;
        self.told[1] = told;
        Some(probe)
    }
}

/// Which probes came already: the newest number and the 128 before it (RFC 6479 without the ring).
#[derive(Debug, Default)]
struct Window {
    /// One more than the newest.
    next: u64,
    /// Bit n: `next - 1 - n` came.
    taken: u128,
}

impl Window {
    fn accept(&mut self, counter: u64) -> bool {
        if counter == u64::MAX {
            return false;
        }
        if counter >= self.next {
            let ahead = counter + 1 - self.next;
            self.taken = u32::try_from(ahead).ok().and_then(|n| self.taken.checked_shl(n)).unwrap_or(0) | 1;
            self.next = counter + 1;
            return true;
        }
        let behind = self.next - 1 - counter;
        if behind >= u64::from(u128::BITS) {
            return false;
        }
        let bit = 1 << behind;
        let is_new = self.taken & bit == 0;
        self.taken |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::packet::{Packet, parse};
    use super::*;

    fn session(own: u8, peer: u8, life: u8) -> Session {
        let (own, peer) = (PrivateKey::from_bytes([own; 32]), PrivateKey::from_bytes([peer; 32]));
        Session::new(&own, own.public(), peer.public(), [life; 8], [life; 16]).expect("a key")
    }

    fn body() -> HintBody {
        let (tag, epoch, candidates) = ([0; 8], [0; 16], Vec::new());
        let (relay, mapping, probe_bytes_max) = (None, None, None);
        let (guesses_max, sides) = (None, None);
        HintBody {
            tag,
            epoch,
            echo: None,
            number: 0,
            candidates,
            relay,
            mapping,
            probe_bytes_max,
            guesses_max,
            sides,
        }
    }

    fn hint(from: &mut Session, nonce: u8) -> Vec<u8> {
        from.seal_hint(body(), [nonce; HINT_NONCE_BYTES])
    }

    fn take(by: &mut Session, datagram: &[u8]) -> Option<Worth> {
        match parse(datagram) {
            Some(Packet::Hint(packet)) => by.open_hint(&packet).map(|(worth, _)| worth),
            other => panic!("{other:?}"),
        }
    }

    fn open(by: &mut Session, datagram: &[u8]) -> Option<Probe> {
        match parse(datagram) {
            Some(Packet::Probe(packet)) => by.open(&packet),
            other => panic!("{other:?}"),
        }
    }

    /// Three hints.
    fn meet(a: &mut Session, b: &mut Session) {
        let first = hint(a, 1);
        assert_eq!(take(b, &first), Some(Worth::Unproven));
        let second = hint(b, 2);
        assert_eq!(take(a, &second), Some(Worth::News));
        let third = hint(a, 3);
        assert_eq!(take(b, &third), Some(Worth::News));
        assert!(a.is_ready() && b.is_ready());
    }

    #[test]
    fn three_hints_make_a_session_in_which_a_probe_is_read_once() {
        let (mut a, mut b) = (session(1, 2, 10), session(2, 1, 20));
        assert_eq!(a.seal(Probe::Ping { number: 1 }), None);
        meet(&mut a, &mut b);
        let ping = a.seal(Probe::Ping { number: 1 }).expect("ready");
        assert_eq!(open(&mut b, &ping), Some(Probe::Ping { number: 1 }));
        assert_eq!(open(&mut b, &ping), None, "again");
        let long = a.seal_long(Probe::Ping { number: 3 }).expect("ready");
        assert_eq!((long.len(), open(&mut b, &long)), (1452, Some(Probe::Ping { number: 3 })));
        let mut bent = b.seal(Probe::Ping { number: 2 }).expect("ready");
        bent[30] ^= 1;
        assert_eq!(open(&mut a, &bent), None);
    }

    #[test]
    fn a_recorded_hint_is_never_believed_again() {
        let (mut a, mut b) = (session(1, 2, 10), session(2, 1, 20));
        meet(&mut a, &mut b);
        let recorded = hint(&mut b, 4);
        assert_eq!(take(&mut a, &recorded), Some(Worth::News));
        assert_eq!(take(&mut a, &recorded), Some(Worth::Nothing));
        // B begins another life. What the former said is not believed after it.
        let mut reborn = session(2, 1, 21);
        meet(&mut reborn, &mut a);
        assert_eq!(take(&mut a, &recorded), Some(Worth::Nothing));
        let ping = reborn.seal(Probe::Ping { number: 1 }).expect("ready");
        assert_eq!(open(&mut a, &ping), Some(Probe::Ping { number: 1 }));
        // A begins another life: all that was recorded names the former.
        let mut new_a = session(1, 2, 11);
        assert_eq!(take(&mut new_a, &recorded), Some(Worth::Unproven));
        assert!(!new_a.is_ready());
    }

    #[test]
    fn the_life_before_is_remembered_however_many_there_were() {
        let mut a = session(1, 2, 10);
        let mut recorded: Option<Vec<u8>> = None;
        for life in 20..20 + u8::try_from(RETIRED_MAX).expect("a few") + 2 {
            let mut b = session(2, 1, life);
            meet(&mut b, &mut a);
            if let Some(recorded) = &recorded {
                assert_eq!(take(&mut a, recorded), Some(Worth::Nothing), "life {life}");
            }
            recorded = Some(hint(&mut b, life));
        }
    }

    #[test]
    fn a_peer_that_forgot_us_is_answered_and_meets_us_again() {
        let (mut a, mut b) = (session(1, 2, 10), session(2, 1, 20));
        meet(&mut a, &mut b);
        let mut reborn = session(2, 1, 21);
        let first = hint(&mut reborn, 5);
        assert_eq!(take(&mut a, &first), Some(Worth::Unproven));
        assert!(a.owes_hint());
        let answer = hint(&mut a, 6);
        assert!(!a.owes_hint());
        assert_eq!(take(&mut reborn, &answer), Some(Worth::News));
        let third = hint(&mut reborn, 7);
        assert_eq!(take(&mut a, &third), Some(Worth::News));
        let ping = a.seal(Probe::Ping { number: 9 }).expect("ready");
        assert_eq!(open(&mut reborn, &ping), Some(Probe::Ping { number: 9 }));
    }

    proptest! {
        /// The same as keeping every number.
        #[test]
        fn the_window_takes_each_number_once(steps in prop::collection::vec((0u64..300, any::<bool>()), 1..200)) {
            let (mut window, mut all, mut newest) = (Window::default(), BTreeSet::<u64>::new(), 0u64);
            for (step, back) in steps {
                let counter = if back { newest.saturating_sub(step) } else { newest + step };
                newest = newest.max(counter);
                let old = all.last().is_some_and(|last| counter + u64::from(u128::BITS) <= *last);
                prop_assert_eq!(window.accept(counter), !old && all.insert(counter));
            }
        }
    }
}

//! Two peers and a network without one, in virtual time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use chacha::{Cipher, Job};
use model::{PrivateKey, PublicKey};

use super::*;
use crate::cookie::Baker;
use crate::limits::*;
use crate::noise::{Claimed, Local};

/// An index that counts up, and the pair that was published under it.
struct Counted(u32);

static NEXT: AtomicU32 = AtomicU32::new(1);

impl Lease for Counted {
    fn index(&self) -> u32 {
        self.0
    }
    fn publish(&self, _: &Arc<KeyPair>) {}
}

fn lease() -> Counted {
    Counted(NEXT.fetch_add(1, Relaxed))
}

/// One end: a key, and the other end as a peer.
struct End {
    local: Local,
    other: PublicKey,
    peer: Peer<Counted>,
    /// Every pair that came up, by our index: the table of receiver indices.
    pairs: Vec<(u32, Arc<KeyPair>)>,
}

/// What is on its way.
#[derive(Debug, Clone)]
enum Wire {
    Initiation([u8; 148]),
    Response([u8; 92]),
    Data { index: u32, counter: u64, sealed: Vec<u8> },
}

impl End {
    fn new(own: u8, other: u8) -> Self {
        let key = |byte| PrivateKey::from_bytes([byte; 32]);
        let local = Local::new(&key(own));
        Self { local, other: key(other).public(), peer: Peer::new(own.into()), pairs: Vec::new() }
    }
}

fn seal(pair: &KeyPair, counter: u64, text: &[u8]) -> Wire {
    let mut sealed = text.to_vec();
    sealed.resize(text.len() + chacha::TAG_BYTES, 0);
    Cipher::Reference.seal([Job { key: pair.sealing(), counter, bytes: &mut sealed }]);
    Wire::Data { index: pair.remote_index(), counter, sealed }
}

/// A mesh of two, its time, and what was said.
struct World {
    ends: [End; 2],
    now: Time,
    wire: VecDeque<(usize, Wire)>,
    said: Vec<(usize, &'static str, Time)>,
    cut: bool,
    entropy: u8,
}

const START: Duration = Duration::from_secs(1000);

impl World {
    fn new() -> Self {
        Self {
            ends: [End::new(1, 2), End::new(2, 1)],
            now: Time::from_nanos(0) + START,
            wire: VecDeque::new(),
            said: Vec::new(),
            cut: false,
            entropy: 1,
        }
    }

    fn wall(&self) -> Duration {
        Duration::from_secs(1_700_000_000) + self.now.since(Time::from_nanos(0))
    }

    fn entropy(&mut self) -> [u8; 32] {
        self.entropy = self.entropy.wrapping_add(1).max(1);
        let mut bytes = [self.entropy; 32];
        bytes[1..9].copy_from_slice(&self.now.nanos().to_le_bytes());
        bytes
    }

    fn say(&mut self, end: usize, what: &'static str, wire: Wire) {
        self.said.push((end, what, self.now));
        self.wire.push_back((end, wire));
    }

    fn initiate(&mut self, end: usize) {
        let (entropy, now, wall) = (self.entropy(), self.now, self.wall());
        let End { local, other, peer, .. } = &self.ends[end];
        let message = peer.lock().initiate(local, other, lease(), &entropy, now, wall);
        if let Some(message) = message {
            self.say(end, "initiation", Wire::Initiation(message));
        }
    }

    /// A packet from the end's interface.
    fn send(&mut self, end: usize) {
        let now = self.now;
        let peer = &self.ends[end].peer;
        let current = peer.current().as_ref().map(Arc::clone);
        let claimed = current.and_then(|pair| pair.claim(1, now).map(|counter| (pair, counter)));
        let wants = match claimed {
            Some((pair, counter)) => {
                let wants = peer.sent(&pair, true, now).handshake && peer.lock().wants_initiation(now);
                self.say(end, "data", seal(&pair, counter, &[1]));
                wants
            }
            None => {
                let mut machine = peer.lock();
                machine.wait(Box::new([1]));
                machine.wants_initiation(now)
            }
        };
        if wants {
            self.initiate(end);
        }
        self.settle();
    }

    fn finish(&mut self, end: usize, finished: &Finished) {
        let now = self.now;
        let packets = finished.waiting.len().max(1);
        let is_keepalive = finished.waiting.is_empty();
        for _ in 0..packets {
            let Some(counter) = finished.pair.claim(1, now) else { return };
            let (what, text): (_, &[u8]) = if is_keepalive { ("keepalive", &[]) } else { ("data", &[1]) };
            self.say(end, what, seal(&finished.pair, counter, text));
        }
        let _ = self.ends[end].peer.sent(&finished.pair, !is_keepalive, now);
        let next = self.ends[end].peer.lock().take_waiting(now);
        next.iter().for_each(|next| self.finish(end, next));
    }

    /// Delivers what is on its way, and what that leads to.
    fn settle(&mut self) {
        while let Some((from, wire)) = self.wire.pop_front() {
            if !self.cut {
                self.deliver(1 - from, wire);
            }
        }
    }

    fn deliver(&mut self, end: usize, wire: Wire) {
        let (now, wall, entropy) = (self.now, self.wall(), self.entropy());
        match wire {
            Wire::Initiation(message) => {
                let End { local, other, peer, .. } = &self.ends[end];
                let claimed = Claimed::open(local, &message).expect("for us");
                assert_eq!(claimed.key(), other);
                let mut machine = peer.lock();
                let Some(accepted) = machine.accept(local, other, claimed, now) else { return };
                let response = machine.respond(accepted, lease(), &entropy, now).expect("it was accepted");
                machine.handshake_came(now);
                let next = machine.control.next.as_ref().expect("it was answered");
                let own =
                    (u32::from_le_bytes(response[4..8].try_into().expect("four")), Arc::clone(&next.pair));
                drop(machine);
                self.ends[end].pairs.push(own);
                self.say(end, "response", Wire::Response(response));
            }
            Wire::Response(message) => {
                let index = u32::from_le_bytes(message[8..12].try_into().expect("four"));
                let End { local, peer, .. } = &self.ends[end];
                let finished = peer.lock().finish(local, index, &message, now, wall);
                if let Some(finished) = finished {
                    self.ends[end].pairs.push((index, Arc::clone(&finished.pair)));
                    self.finish(end, &finished);
                }
            }
            Wire::Data { index, counter, mut sealed } => {
                let found = self.ends[end].pairs.iter().find(|(own, _)| *own == index);
                let pair = Arc::clone(&found.expect("an index that we gave out").1);
                if !pair.may_open(counter, now) {
                    return;
                }
                let is_keepalive = sealed.len() == chacha::TAG_BYTES;
                let job = Job { key: pair.opening(), counter, bytes: &mut sealed };
                Cipher::Reference.open([job], |_, is_authentic| assert!(is_authentic));
                assert!(pair.is_new(counter));
                let peer = &self.ends[end].peer;
                let waited = pair.is_unconfirmed() && peer.lock().confirm(&pair, wall);
                let waiting = waited.then(|| peer.lock().take_waiting(now)).flatten();
                let wants = self.ends[end].peer.received(&pair, !is_keepalive, now);
                if let Some(finished) = waiting {
                    self.finish(end, &finished);
                }
                if wants.handshake && self.ends[end].peer.lock().wants_initiation(now) {
                    self.initiate(end);
                }
            }
        }
    }

    /// Lets time pass, in steps to each deadline.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let next = self.ends.iter().filter_map(|end| end.peer.deadline()).min();
            self.now = next.unwrap_or(until).min(until).max(self.now);
            for end in 0..2 {
                self.tick(end);
            }
            self.settle();
            if self.now == until
                && !self.ends.iter().any(|end| end.peer.deadline().is_some_and(|at| at <= until))
            {
                return;
            }
        }
    }

    fn tick(&mut self, end: usize) {
        let tick = self.ends[end].peer.lock().tick(self.now);
        if tick.initiate {
            self.initiate(end);
        }
        if tick.keepalive {
            let pair = self.ends[end].peer.current().as_ref().map(Arc::clone).expect("a session");
            self.finish(end, &Finished::keepalive(pair));
        }
    }

    fn count(&self, end: usize, what: &str) -> usize {
        self.said.iter().filter(|(who, said, _)| (*who, *said) == (end, what)).count()
    }

    /// Seconds since the start at which it was said.
    fn times(&self, end: usize, what: &str) -> Vec<f64> {
        let said = self.said.iter().filter(|(who, said, _)| (*who, *said) == (end, what));
        said.map(|(_, _, at)| (at.since(Time::from_nanos(0)) - START).as_secs_f64()).collect()
    }
}

#[test]
fn the_first_packet_makes_a_session_and_arrives() {
    let mut world = World::new();
    world.send(0);
    assert_eq!((world.count(0, "initiation"), world.count(1, "response"), world.count(0, "data")), (1, 1, 1));
    assert!(world.ends.iter().all(|end| end.peer.lock().last_handshake().is_some()));
    world.send(1);
    assert_eq!(world.count(1, "data"), 1, "the responder has the session too");
    assert_eq!(world.count(1, "initiation"), 0);
}

/// What the end has just taken of what waited, and whether others have the session meanwhile.
fn taken(end: &End, finished: Option<Finished>) -> (Vec<u8>, bool) {
    let packets = finished.map_or(Vec::new(), |finished| finished.waiting.into_iter().flatten().collect());
    (packets, end.peer.current().is_some())
}

#[test]
fn what_comes_while_packets_that_waited_are_sent_does_not_overtake_them() {
    let mut world = World::new();
    let (now, wall) = (world.now, world.wall());
    world.ends.iter().for_each(|end| end.peer.lock().wait(Box::new([1])));
    world.initiate(0);
    let initiation = world.wire.pop_front().expect("an initiation").1;
    world.deliver(1, initiation);
    let Some((_, Wire::Response(response))) = world.wire.pop_front() else { panic!("a response") };
    let [calling, called] = &world.ends;
    let index = u32::from_le_bytes(response[8..12].try_into().expect("four bytes"));
    let finished = calling.peer.lock().finish(&calling.local, index, &response, now, wall);
    assert_eq!(taken(calling, finished), (vec![1], false));
    let confirmed = called.peer.lock().confirm(&called.pairs[0].1, wall);
    assert!(confirmed, "a packet waited");
    let finished = called.peer.lock().take_waiting(now);
    assert_eq!(taken(called, finished), (vec![1], false));
    for end in [calling, called] {
        let take = || end.peer.lock().take_waiting(now);
        assert!(!end.peer.lock().wants_session(now), "there is one");
        end.peer.lock().wait(Box::new([2]));
        assert_eq!(taken(end, take()), (vec![2], false));
        assert_eq!(taken(end, take()), (vec![], true));
        // Whoever saw no session before that, and waits now.
        end.peer.lock().wait(Box::new([3]));
        assert!(end.peer.current().is_none());
        assert_eq!(taken(end, take()), (vec![3], false));
        assert_eq!(taken(end, take()), (vec![], true));
    }
}

#[test]
fn who_sends_faster_than_packets_leave_waits_no_longer_after_a_while() {
    let mut world = World::new();
    world.send(0);
    let end = &world.ends[0];
    let turn = || {
        end.peer.lock().wait(Box::new([1]));
        let finished = end.peer.lock().take_waiting(world.now);
        taken(end, finished)
    };
    for _ in 1..WAITING_TURNS_MAX {
        assert_eq!(turn(), (vec![1], false));
    }
    assert_eq!([turn(), turn()], [(vec![1], true), (vec![1], true)]);
}

/// It is the inbound thread that confirms.
#[test]
fn a_session_confirmed_while_packets_leave_by_the_one_before_waits_for_them() {
    let mut world = World::new();
    world.send(0);
    let called = &world.ends[1].peer;
    called.lock().wait(Box::new([1]));
    let leaving = called.lock().take_waiting(world.now);
    world.now += REKEY_AFTER_TIME;
    world.initiate(0);
    let initiation = world.wire.pop_front().expect("an initiation").1;
    world.deliver(1, initiation);
    let called = &world.ends[1];
    let next = &called.pairs[1].1;
    assert!(called.peer.lock().confirm(next, world.wall()));
    assert_eq!(taken(called, leaving), (vec![1], false));
    assert!(called.peer.lock().take_waiting(world.now).is_none());
    assert!(called.peer.current().as_ref().is_some_and(|current| Arc::ptr_eq(current, next)));
}

#[test]
fn who_asks_twice_for_a_handshake_gets_it_as_early_as_was_said() {
    let world = World::new();
    let mut machine = world.ends[0].peer.lock();
    let at = |seconds| world.now + Duration::from_secs(seconds);
    assert_eq!(machine.begin(at(2)), Some(at(2)));
    assert_eq!(machine.begin(at(3)), Some(at(2)));
    assert_eq!(machine.begin(at(1)), Some(at(1)));
    drop(machine);
    assert_eq!(world.ends[0].peer.deadline(), Some(at(1)));
}

#[test]
fn who_has_nothing_to_send_confirms_with_a_keepalive() {
    let mut world = World::new();
    assert_eq!(world.ends[0].peer.lock().begin(world.now), Some(world.now));
    world.pass(Duration::ZERO);
    assert_eq!((world.count(0, "keepalive"), world.count(0, "data")), (1, 0));
    assert!(world.ends[1].peer.current().is_some());
}

#[test]
fn data_one_way_is_answered_by_a_keepalive_after_ten_seconds() {
    let mut world = World::new();
    world.send(0);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.times(1, "keepalive"), [10.0]);
    world.send(0);
    world.pass(Duration::from_secs(5));
    world.send(0);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.times(1, "keepalive"), [10.0, 70.0, 80.0], "more came while one was due");
}

#[test]
fn a_handshake_is_a_sign_of_life_and_no_keepalive_follows_it() {
    let mut world = World::new();
    world.send(0);
    world.send(0);
    let called = &world.ends[1].peer;
    assert_eq!(called.deadline(), Some(world.now + KEEPALIVE_TIMEOUT), "and another after it");
    called.lock().handshake_went(world.now);
    assert_eq!(called.deadline(), Some(world.now + WIPE_AFTER), "neither");
}

#[test]
fn only_who_initiated_makes_the_next_session_and_only_after_two_minutes() {
    let mut world = World::new();
    for _ in 0..130 {
        world.send(0);
        world.send(1);
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.times(0, "initiation"), [0.0, 120.0]);
    assert_eq!(world.count(1, "initiation"), 0);
}

#[test]
fn who_receives_only_asks_before_the_session_ends() {
    let mut world = World::new();
    world.send(0);
    for _ in 0..170 {
        world.pass(Duration::from_secs(1));
        world.send(1);
    }
    assert_eq!(world.times(0, "initiation"), [0.0, 165.0]);
}

#[test]
fn an_old_session_seals_and_opens_nothing() {
    let mut world = World::new();
    world.send(0);
    let pair = Arc::clone(&world.ends[0].pairs[0].1);
    let born = world.now;
    assert!(pair.claim(1, born + (REJECT_AFTER_TIME - Duration::from_nanos(1))).is_some());
    assert!(pair.claim(1, born + REJECT_AFTER_TIME).is_none());
    assert!(!pair.may_open(0, born + REJECT_AFTER_TIME));
    assert!(!pair.may_open(REJECT_AFTER_MESSAGES, born));
}

#[test]
fn counters_run_out_before_they_repeat() {
    let mut world = World::new();
    world.send(0);
    let pair = Arc::clone(&world.ends[0].pairs[0].1);
    assert!(!pair.wants_successor(world.now));
    pair.set_counter(REKEY_AFTER_MESSAGES + 1);
    assert!(pair.wants_successor(world.now));
    pair.set_counter(REJECT_AFTER_MESSAGES - 2);
    assert_eq!(pair.claim(2, world.now), Some(REJECT_AFTER_MESSAGES - 2));
    assert_eq!(
        (pair.claim(1, world.now), pair.claim(64, world.now), pair.claim(1, world.now)),
        (None, None, None)
    );
    pair.set_counter(REJECT_AFTER_MESSAGES - 2);
    assert_eq!(pair.claim(10_000, world.now), None, "more than there are before the number wraps");
    assert_eq!(pair.claim(3, world.now), None);
    assert_eq!(pair.claim(2, world.now), Some(REJECT_AFTER_MESSAGES - 2));
}

#[test]
fn an_unanswered_initiation_is_repeated_for_ninety_seconds_and_then_given_up() {
    let mut world = World::new();
    world.cut = true;
    world.send(0);
    world.pass(Duration::from_secs(300));
    let times = world.times(0, "initiation");
    assert_eq!(times.len(), 1 + HANDSHAKES_MAX as usize + 1);
    for pair in times.windows(2) {
        let between = pair[1] - pair[0];
        assert!((5.0..=5.334).contains(&between), "{between}");
    }
    world.cut = false;
    world.send(0);
    assert_eq!(world.count(0, "data"), 1, "what waited for so long was dropped, the new packet was not");
}

#[test]
fn silence_leads_to_a_handshake_after_fifteen_seconds() {
    let mut world = World::new();
    world.send(0);
    world.send(1);
    world.cut = true;
    world.pass(Duration::from_secs(1));
    world.send(0);
    world.pass(Duration::from_secs(20));
    let times = world.times(0, "initiation");
    assert!((16.0..16.34).contains(&times[1]), "{times:?}");
}

#[test]
fn keepalives_come_as_often_as_asked_and_keep_the_session_alive() {
    let mut world = World::new();
    world.ends[0].peer.lock().set_keepalive_seconds(25, world.now);
    world.pass(Duration::from_secs(100));
    let times = world.times(0, "keepalive");
    assert_eq!(times, [0.0, 25.0, 50.0, 75.0, 100.0]);
    world.ends[0].peer.lock().set_keepalive_seconds(0, world.now);
    world.pass(Duration::from_secs(100));
    assert_eq!(world.count(0, "keepalive"), 5);
}

#[test]
fn keys_are_wiped_nine_minutes_after_the_last_session() {
    let mut world = World::new();
    world.send(0);
    world.pass(WIPE_AFTER - Duration::from_secs(1));
    assert!(world.ends.iter().all(|end| end.peer.current().is_some()));
    world.pass(Duration::from_secs(2));
    assert!(world.ends.iter().all(|end| end.peer.current().is_none() && end.peer.deadline().is_none()));
}

#[test]
fn initiations_are_taken_once_and_not_too_often() {
    let mut world = World::new();
    world.initiate(0);
    let (_, Wire::Initiation(message)) = world.wire[0].clone() else { panic!("an initiation") };
    world.settle();
    assert_eq!(world.count(1, "response"), 1);
    world.now += Duration::from_secs(60);
    world.deliver(1, Wire::Initiation(message));
    assert_eq!(world.count(1, "response"), 1, "it was played again");
    world.initiate(0);
    world.settle();
    world.now += INITIATION_INTERVAL / 2;
    world.initiate(0);
    world.settle();
    assert_eq!(world.count(1, "response"), 2, "it came too soon");
}

#[test]
fn who_has_just_answered_does_not_initiate_too() {
    let mut world = World::new();
    world.initiate(0);
    let (_, initiation) = world.wire.pop_front().expect("an initiation");
    world.deliver(1, initiation);
    let response = world.wire.pop_front().expect("a response").1;
    world.send(1);
    assert_eq!(world.count(1, "initiation"), 0, "the session is on its way");
    world.deliver(0, response);
    world.settle();
    assert_eq!(world.count(1, "data"), 1, "and takes what waited");
    world.ends[1].peer.lock().forget_keys();
    world.now += REKEY_TIMEOUT;
    world.send(1);
    assert_eq!(world.count(1, "initiation"), 1);
}

#[test]
fn both_may_initiate_at_once() {
    let mut world = World::new();
    world.initiate(0);
    world.initiate(1);
    world.settle();
    world.send(0);
    world.send(1);
    world.send(0);
    assert_eq!((world.count(0, "data"), world.count(1, "data")), (2, 1));
    world.pass(Duration::from_secs(100));
    assert_eq!((world.count(0, "initiation"), world.count(1, "initiation")), (1, 1), "both are content");
}

#[test]
fn a_new_key_of_ours_ends_all_sessions_and_a_removed_peer_begins_none() {
    let mut world = World::new();
    world.send(0);
    world.ends[0].peer.lock().forget_keys();
    assert!(world.ends[0].peer.current().is_none());
    world.now += Duration::from_secs(1);
    world.send(0);
    assert_eq!(world.count(0, "data"), 2);
    world.ends[0].peer.lock().remove();
    world.pass(Duration::from_secs(10));
    world.send(0);
    assert_eq!((world.count(0, "data"), world.ends[0].peer.deadline()), (2, None));
}

/// The threads that seal and open may hold a session for as long as a batch takes.
#[test]
fn what_is_noted_of_a_peer_after_its_removal_does_not_keep_it_due() {
    let mut world = World::new();
    world.ends[0].peer.lock().set_keepalive_seconds(25, world.now);
    world.send(0);
    let pair = Arc::clone(&world.ends[0].pairs[0].1);
    let peer = &world.ends[0].peer;
    peer.lock().remove();
    let (sent, received) = (peer.sent(&pair, true, world.now), peer.received(&pair, true, world.now));
    let due = sent.look_at.min(received.look_at).expect("a timer was set");
    assert_eq!(peer.lock().tick(due), Tick::default());
    assert_eq!(peer.deadline(), None, "or it would be looked at again at once, for ever");
}

/// Whoever we answer may ask for the proof of our address, as whoever we call.
#[test]
fn a_cookie_for_an_answer_is_in_the_next_one() {
    let mut world = World::new();
    let baker = Baker::new([3; 32]);
    let from = "192.0.2.1:51820".parse().expect("an address");
    let answer = |world: &mut World, at: Time| {
        world.now = at;
        world.initiate(0);
        let (_, initiation) = world.wire.pop_front().expect("an initiation");
        world.deliver(1, initiation);
        let (_, Wire::Response(response)) = world.wire.pop_front().expect("an answer") else {
            panic!("an answer")
        };
        response
    };
    let start = Time::from_nanos(0) + START;
    let first = answer(&mut world, start);
    assert!(!baker.mac2_is_valid(&first, from, start));
    let second = answer(&mut world, start + REKEY_TIMEOUT);
    let index = u32::from_le_bytes(second[4..8].try_into().expect("four bytes"));
    let [caller, called] = &world.ends;
    let reply = |message| baker.reply(&caller.local, message, from, start, [9; 24]);
    let mut machine = called.peer.lock();
    assert!(!machine.take_cookie(index, &reply(&first), start), "for another answer");
    assert!(!machine.take_cookie(index + 1, &reply(&second), start), "for another index");
    assert!(machine.take_cookie(index, &reply(&second), start));
    assert!(!machine.take_cookie(index, &reply(&second), start), "once is enough");
    drop(machine);
    let third = answer(&mut world, start + 2 * REKEY_TIMEOUT);
    assert!(baker.mac2_is_valid(&third, from, start));
}

#[test]
fn a_preshared_key_must_be_the_same() {
    let mut world = World::new();
    world.ends[0].peer.lock().set_preshared_key(Some(&[7; 32]));
    world.send(0);
    assert_eq!(world.count(0, "data"), 0);
    world.ends[1].peer.lock().set_preshared_key(Some(&[7; 32]));
    world.pass(Duration::from_secs(6));
    assert_eq!(world.count(0, "data"), 1);
}

#[test]
fn a_thousand_sessions_follow_each_other_without_a_lost_packet() {
    let mut world = World::new();
    for round in 0..1000_usize {
        world.send(round % 2);
        world.now += REKEY_AFTER_TIME;
        for end in 0..2 {
            world.tick(end);
        }
        world.settle();
    }
    assert_eq!(world.count(0, "data") + world.count(1, "data"), 1000);
    let initiations = world.count(0, "initiation") + world.count(1, "initiation");
    assert!((900..=2100).contains(&initiations), "{initiations}");
}

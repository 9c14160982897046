//! Which handshake messages are worth the work. Knows no peer.
//!
//! Forged ones cost a hash. Under load a sender must show a cookie first, and who did is bounded by its address
//! (WireGuard paper, section 5.3).

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};

use wireguard::Time;
use wireguard::cookie::{self, Baker};
use wireguard::load::Load;
use wireguard::noise::Local;

/// Cookies sent in a second to the addresses of one [`Gate::bucket`]: of 64 together, enough for as many peers as come at
/// once, and below a tenth of a core. A flood from one address leaves the cookies of the others.
const COOKIES_PER_SECOND_MAX: u32 = 80;
const BUCKETS: usize = 64;

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Take,
    /// Sent back; it comes again with the cookie that is in it.
    Challenge([u8; 64]),
    Drop,
}

pub(crate) struct Gate {
    load: Load,
    baker: Baker,
    window: Time,
    cookies: [u32; BUCKETS],
    hasher: RandomState,
}

impl Gate {
    pub(crate) fn new(seed: [u8; 32], now: Time) -> Self {
        Self {
            load: Load::new(now),
            baker: Baker::new(seed),
            window: now,
            cookies: [0; BUCKETS],
            hasher: RandomState::new(),
        }
    }

    /// `nonce` is asked for a random one when a cookie is made.
    pub(crate) fn admit(
        &mut self,
        local: &Local,
        message: &[u8],
        from: SocketAddr,
        now: Time,
        nonce: impl FnOnce() -> Option<[u8; 24]>,
    ) -> Admission {
        if !cookie::mac1_is_valid(local, message) {
            return Admission::Drop;
        }
        if !self.load.challenges(now) {
            return Admission::Take;
        }
        if self.baker.mac2_is_valid(message, from, now) {
            return if self.load.admits(from.ip(), now) { Admission::Take } else { Admission::Drop };
        }
        if !self.may_challenge(from.ip(), now) {
            return Admission::Drop;
        }
        match nonce() {
            Some(nonce) => Admission::Challenge(self.baker.reply(local, message, from, now, nonce)),
            None => Admission::Drop,
        }
    }

    fn may_challenge(&mut self, from: IpAddr, now: Time) -> bool {
        if now.since(self.window).as_secs() >= 1 {
            self.window = now;
            self.cookies = [0; BUCKETS];
        }
        let bucket = self.bucket(from);
        self.cookies[bucket] += 1;
        self.cookies[bucket] <= COOKIES_PER_SECOND_MAX
    }

    /// Nobody outside knows which addresses share one.
    fn bucket(&self, from: IpAddr) -> usize {
        let hash = self.hasher.hash_one(from);
        usize::try_from(hash % BUCKETS as u64).expect("a small number")
    }
}

#[cfg(test)]
mod tests {
    use model::PrivateKey;
    use wireguard::Tai64n;
    use wireguard::load::UNCHALLENGED_PER_SECOND_MAX;
    use wireguard::noise::{Remote, initiate};

    use super::*;

    const FROM: &str = "192.0.2.1:51820";

    struct Scene {
        gate: Gate,
        local: Local,
        remote: Remote,
        message: [u8; 148],
        now: Time,
    }

    impl Scene {
        fn new() -> Self {
            let now = Time::from_nanos(1_000_000_000);
            let local = Local::new(&PrivateKey::from_bytes([1; 32]));
            let other = Local::new(&PrivateKey::from_bytes([2; 32]));
            let remote = Remote::new(&other, local.public()).expect("not of low order");
            let (_, mut message) =
                initiate(&other, &remote, 7, Tai64n::from_wall(Default::default()), &[3; 32]);
            cookie::stamp(&mut message, &remote, None);
            Self { gate: Gate::new([4; 32], now), local, remote, message, now }
        }

        fn admit(&mut self, from: &str) -> Admission {
            let from = from.parse().expect("an address");
            self.gate.admit(&self.local, &self.message, from, self.now, || Some([5; 24]))
        }

        fn load(&mut self) {
            while self.admit(FROM) == Admission::Take {}
        }
    }

    #[test]
    fn what_is_forged_is_dropped_whatever_the_load() {
        let mut scene = Scene::new();
        scene.message[116] ^= 1;
        assert_eq!(scene.admit(FROM), Admission::Drop);
    }

    #[test]
    fn under_load_who_brings_the_cookie_is_taken_and_its_neighbours_are_not() {
        let mut scene = Scene::new();
        let taken = (0..).take_while(|_| scene.admit(FROM) == Admission::Take).count();
        assert_eq!(taken, UNCHALLENGED_PER_SECOND_MAX as usize);
        let Admission::Challenge(reply) = scene.admit(FROM) else { panic!("a cookie") };
        let mac1 = scene.message[116..132].try_into().expect("sixteen bytes");
        let cookie = cookie::open_reply(&scene.remote, &reply, &mac1).expect("it is for this message");
        cookie::stamp(&mut scene.message, &scene.remote, Some(&cookie));
        assert_eq!(scene.admit(FROM), Admission::Take);
        for other in ["192.0.2.1:51821", "192.0.2.2:51820"] {
            assert!(matches!(scene.admit(other), Admission::Challenge(_)), "{other}");
        }
        let more = (0..100).filter(|_| scene.admit(FROM) == Admission::Take).count();
        assert!(more < 10, "one address is bounded, and {more} more were taken");
    }

    #[test]
    fn cookies_are_bounded_and_need_randomness() {
        let mut scene = Scene::new();
        scene.load();
        let from = FROM.parse().expect("an address");
        let without = scene.gate.admit(&scene.local, &scene.message, from, scene.now, || None);
        assert_eq!(without, Admission::Drop);
        let sent = (0..2 * COOKIES_PER_SECOND_MAX).filter(|_| scene.admit(FROM) != Admission::Drop).count();
        assert!((sent as u32) < COOKIES_PER_SECOND_MAX);
        let others = (0..=255).filter(|last| {
            matches!(scene.admit(&format!("198.51.100.{last}:51820")), Admission::Challenge(_))
        });
        assert!(others.count() > 200, "most others do not share the bucket");
        scene.now += std::time::Duration::from_secs(1);
        scene.load();
        assert!(matches!(scene.admit(FROM), Admission::Challenge(_)), "a second later");
    }
}

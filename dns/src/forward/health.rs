//! Which of some servers to ask: the fastest of those that answer. Told the time and what came of each attempt; asks
//! nobody.
//!
//! ```text
//! good ──a question fails──▶ doubtful ──three in a row──▶ dead ──probe answered──▶ good
//!   ▲                           │ after the good ones       │ asked by probes, in doubling steps, and if there is no
//!   │                           │                           │ other and it answered a moment ago
//!   └────────── answers ────────┴───────────────────────────┘
//! looping: like dead, as its answers would be our own questions
//! ```
//! A server that answered something else since an attempt began is not blamed for its silence: some names are nobody's,
//! and to find that out takes long.

use std::time::Duration;

use model::Mono;

use super::limits::{ALIVE_RECENTLY, FAILURES_MAX, PROBE_DELAY_MAX, PROBE_DELAY_MIN, ROUND_TRIP_UNKNOWN};

/// How some servers are, by number.
#[derive(Debug, Clone)]
pub(super) struct Health {
    servers: Box<[Server]>,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    round_trip: Duration,
    failures: u32,
    is_looping: bool,
    answered_at: Option<Mono>,
    /// When to probe it, if it is to be probed.
    probe_at: Option<Mono>,
    probe_delay: Duration,
    /// When it was last probed.
    probed_at: Option<Mono>,
}

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It answers, as far as we know.
    Good,
    /// It did not answer the last time.
    Doubtful,
    /// It is not asked until it answers a probe.
    Dead,
    /// What it is asked comes back to us.
    Looping,
}

impl Server {
    const fn condition(&self) -> Condition {
        match self.failures {
            _ if self.is_looping => Condition::Looping,
            0 => Condition::Good,
            1..FAILURES_MAX => Condition::Doubtful,
            _ => Condition::Dead,
        }
    }

    /// It counts as dead, and answered so lately that the names may be what is wrong.
    fn may_be_alive(&self, now: Mono) -> bool {
        let is_recent = |at: Mono| now.since(at) <= ALIVE_RECENTLY;
        self.condition() == Condition::Dead && self.answered_at.is_some_and(is_recent)
    }
}

impl Health {
    /// So many servers, of which nothing is known. Each is probed at once, which finds loops.
    pub(super) fn new(servers: usize, now: Mono) -> Self {
        let server = Server {
            round_trip: ROUND_TRIP_UNKNOWN,
            failures: 0,
            is_looping: false,
            answered_at: None,
            probe_at: Some(now),
            probe_delay: PROBE_DELAY_MIN,
            probed_at: None,
        };
        Self { servers: vec![server; servers].into() }
    }

    /// Whom to ask, best first. Empty: nobody is worth it. The others come nearer each time, so that a server that was
    /// slow once gets another chance.
    pub(super) fn order(&mut self, now: Mono) -> Vec<usize> {
        let all = 0..self.servers.len();
        let mut order: Vec<usize> =
            all.clone().filter(|&at| self.servers[at].condition() <= Condition::Doubtful).collect();
        if order.is_empty() {
            order.extend(all.filter(|&at| self.servers[at].may_be_alive(now)));
        }
        order.sort_by_key(|&at| (self.servers[at].condition(), self.servers[at].round_trip));
        for &at in order.iter().skip(1) {
            let server = &mut self.servers[at];
            server.round_trip -= server.round_trip / 64;
        }
        order
    }

    pub(super) fn condition(&self, at: usize) -> Condition {
        self.servers[at].condition()
    }

    /// What it takes, if it ever answered.
    pub(super) fn round_trip(&self, at: usize) -> Option<Duration> {
        let server = &self.servers[at];
        server.answered_at.map(|_| server.round_trip)
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&mut self, at: usize, took: Duration, now: Mono) {
        let server = &mut self.servers[at];
        let is_first = server.answered_at.replace(now).is_none();
        server.round_trip = if is_first || server.failures > 0 {
            took
        } else {
            // RFC 6298, section 2.3.
            server.round_trip - server.round_trip / 8 + took / 8
        };
        server.failures = 0;
        server.probe_delay = PROBE_DELAY_MIN;
        if !server.is_looping {
            server.probe_at = None;
        }
    }

    /// It did not answer a question that it was first asked then. To be told once of each question.
    pub(super) fn failed(&mut self, at: usize, began: Mono, now: Mono) {
        let server = &mut self.servers[at];
        if server.answered_at.is_some_and(|answered_at| answered_at > began) {
            return;
        }
        server.failures = server.failures.saturating_add(1);
        server.probe_at = server.probe_at.or(Some(now + server.probe_delay));
    }

    /// Its question came to us.
    pub(super) fn looped(&mut self, at: usize, now: Mono) {
        let server = &mut self.servers[at];
        server.is_looping = true;
        server.probe_at = Some(now + PROBE_DELAY_MAX);
    }

    /// A server that is to be probed now, if there is one. The next probe is set for the case that this one fails.
    pub(super) fn probe(&mut self, now: Mono) -> Option<usize> {
        let due = |server: &Server| server.probe_at.is_some_and(|at| at <= now);
        let at = self.servers.iter().position(due)?;
        let server = &mut self.servers[at];
        server.probed_at = Some(now);
        server.probe_at = Some(now + server.probe_delay);
        server.probe_delay = (server.probe_delay * 2).min(PROBE_DELAY_MAX);
        // Whether it still loops is seen by whether the probe comes back.
        server.is_looping = false;
        Some(at)
    }

    /// When [`Self::probe`] is next to be called.
    pub(super) fn probe_at(&self) -> Option<Mono> {
        self.servers.iter().filter_map(|server| server.probe_at).min()
    }

    /// Somebody waits for an answer that nobody can give: those that are dead are probed as soon as is decent.
    pub(super) fn hurry(&mut self, now: Mono) {
        for server in self.servers.iter_mut().filter(|server| server.condition() == Condition::Dead) {
            let decent = server.probed_at.map_or(now, |at| at + PROBE_DELAY_MIN);
            server.probe_at = server.probe_at.map(|at| at.min(decent.max(now)));
            server.probe_delay = PROBE_DELAY_MIN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_micros(millis * 1_000)
    }

    const FAST: Duration = Duration::from_millis(5);
    const SLOW: Duration = Duration::from_millis(80);

    /// Servers that have all been probed and answered.
    fn good(servers: usize) -> Health {
        let mut health = Health::new(servers, at(0));
        for number in 0..servers {
            assert_eq!(health.probe(at(0)), Some(number));
            health.answered(number, FAST, at(0));
        }
        assert_eq!((health.probe(at(0)), health.probe_at()), (None, None));
        health
    }

    #[test]
    fn the_fastest_is_first_and_the_others_are_not_forgotten() {
        let mut health = good(2);
        health.answered(0, SLOW, at(0));
        assert_eq!(health.order(at(0)), [1, 0]);
        let turns = (0..1_000).position(|_| health.order(at(0))[0] == 0).expect("it gets another chance");
        assert!(turns > 50, "but not at once: {turns}");
    }

    #[test]
    fn who_fails_comes_last_then_not_at_all_and_is_probed_in_doubling_steps() {
        let mut health = good(2);
        health.failed(0, at(0), at(0));
        assert_eq!((health.condition(0), health.order(at(0))), (Condition::Doubtful, vec![1, 0]));
        health.failed(0, at(0), at(0));
        health.failed(0, at(0), at(0));
        assert_eq!((health.condition(0), health.order(at(0))), (Condition::Dead, vec![1]));
        let mut probes = Vec::new();
        while probes.len() < 9 {
            let next = health.probe_at().expect("it is probed for ever");
            assert_eq!(health.probe(next), Some(0));
            health.failed(0, next, next);
            probes.push(next.as_micros() / 1_000_000);
        }
        assert_eq!(probes, [1, 2, 4, 8, 16, 32, 64, 124, 184]);
        health.answered(0, FAST, at(0));
        assert_eq!((health.order(at(0)).len(), health.probe_at()), (2, None));
    }

    #[test]
    fn what_nobody_measured_is_not_known() {
        let mut health = Health::new(2, at(0));
        health.order(at(0));
        assert_eq!((health.round_trip(0), health.round_trip(1)), (None, None));
        health.answered(1, FAST, at(0));
        assert_eq!((health.round_trip(0), health.round_trip(1)), (None, Some(FAST)));
    }

    #[test]
    fn who_answers_others_is_not_blamed_for_one_silence() {
        let mut health = good(1);
        health.answered(0, FAST, at(1_500));
        for began in [0, 400, 1_000] {
            health.failed(0, at(began), at(2_800));
        }
        assert_eq!(health.condition(0), Condition::Good);
        health.failed(0, at(1_800), at(2_800));
        assert_eq!(health.condition(0), Condition::Doubtful);
    }

    #[test]
    fn when_all_are_dead_somebody_who_waits_makes_it_quicker() {
        let mut health = good(1);
        for _ in 0..3 {
            health.failed(0, at(0), at(0));
        }
        assert_eq!(health.order(at(30_000)), [0], "it answered a moment ago");
        assert!(health.order(at(30_001)).is_empty());
        for second in [1, 2, 4, 8, 16] {
            assert_eq!(health.probe(at(second * 1_000)), Some(0));
        }
        assert_eq!(health.probe_at(), Some(at(32_000)));
        health.hurry(at(20_000));
        assert_eq!(health.probe(at(20_000)), Some(0));
        health.hurry(at(20_100));
        assert_eq!(health.probe_at(), Some(at(21_000)), "once in a second at most");
    }

    #[test]
    fn a_loop_is_not_asked_until_a_probe_stays_away() {
        let mut health = good(2);
        health.looped(1, at(0));
        assert_eq!((health.condition(1), health.order(at(0))), (Condition::Looping, vec![0]));
        health.answered(1, FAST, at(0));
        assert_eq!(health.condition(1), Condition::Looping, "our own answer proves nothing");
        assert_eq!(health.probe(at(59_999)), None);
        assert_eq!(health.probe(at(60_000)), Some(1));
        health.looped(1, at(60_001));
        assert_eq!(health.order(at(0)), [0]);
        assert_eq!(health.probe(at(120_001)), Some(1));
        health.answered(1, FAST, at(0));
        assert_eq!(health.order(at(0)).len(), 2);
    }
}

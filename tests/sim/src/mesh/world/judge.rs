//! The rules of a run with paths: who talks is heard, what must be direct is and soon, no way flaps. Changes nothing of the
//! world.

use std::time::Duration;

use engine::paths::Way;

use super::super::network::FULL_BYTES;
use super::{Pair, World};
use crate::judge::Violation;

/// Changes of one way in one phase: away from a dead path, to a first one, to a better one, and what chance adds.
const TURNS_MAX: u32 = 6;
/// What a direct path that ends may cost while packets flow and a relay carries them: the time between two of its pings.
const LOSS_MAX: Duration = Duration::from_millis(400);
/// The same where only what one of two sends is lost: the other notices, and tells it over the relay.
const LOSS_MAX_OURS: Duration = Duration::from_millis(500);

impl World {
    pub(super) fn fail(&mut self, invariant: &'static str, detail: String) {
        self.trace.tell(self.at, || format!("{invariant}: {detail}"));
        self.violation.get_or_insert(Violation { invariant, at: self.at, detail });
    }

    pub(super) fn must_be_direct(&self, a: usize, b: usize) -> bool {
        !self.is_left(a, b) && self.network.must_be_direct(a, b)
    }

    pub(super) fn is_hard(&self, a: usize, b: usize) -> bool {
        !self.is_left(a, b) && self.network.is_hard(a, b)
    }

    /// A way that was found is kept.
    pub(super) fn judge_turns(&mut self) {
        for node in 0..self.nodes.len() {
            let turns = std::mem::take(&mut self.nodes[node].turns);
            if let Some((peer, turns)) = turns.into_iter().find(|(_, turns)| *turns > TURNS_MAX) {
                self.fail("ways-do-not-flap", format!("node {node} changed its way to {peer} {turns} times"));
            }
        }
    }

    pub(super) fn judge_silence(&mut self) {
        let late = |pair: &&Pair| pair.heard.iter().any(|at| self.at.since(*at) > self.silence_max);
        let late_full =
            |pair: &&Pair| pair.heard_full.iter().any(|at| self.at.since(*at) > self.silence_full_max);
        let found = self.pairs.iter().find(late).map(|pair| (pair, "who-talks-is-heard"));
        let full = || self.pairs.iter().find(late_full).map(|pair| (pair, "long-packets-are-heard"));
        let Some((pair, rule)) = found.or_else(full) else { return };
        let [a, b] = pair.nodes;
        let detail = format!("{a} {}, {b} {}", self.way(a, b), self.way(b, a));
        self.fail(rule, detail);
    }

    /// A packet goes directly and no other way.
    pub(super) fn judge_loss(&mut self, from: usize, to: usize) {
        let loss_max = match self.blocked_from {
            Some(node) if node != from => return,
            Some(_) => LOSS_MAX_OURS,
            None => LOSS_MAX,
        };
        let since = self.blocked_alone.map(|at| self.at.since(at));
        self.lost_for = since.unwrap_or_default();
        if let Some(since) = since.filter(|since| *since > loss_max) {
            let detail = format!("{from} sends to {to} by a path that ended {since:?} ago");
            self.fail("a-path-that-ends-costs-a-probe-interval", detail);
        }
    }

    /// Every pair that must be direct is, and every other is relayed or, by luck, direct.
    pub(super) fn judge_ways(&mut self, invariant: &'static str) {
        self.judge_ways_of(invariant, true);
    }

    /// The same where no server can be asked.
    pub(super) fn judge_ways_unasked(&mut self, invariant: &'static str) {
        self.judge_ways_of(invariant, false);
    }

    fn judge_ways_of(&mut self, invariant: &'static str, asks: bool) {
        for pair in 0..self.pairs.len() {
            let [a, b] = self.pairs[pair].nodes;
            let ways = [self.way(a, b), self.way(b, a)];
            let direct = ways.iter().all(|way| matches!(way, Way::Direct(_)));
            if asks {
                self.pairs[pair].was_direct = direct;
            }
            let any_direct = ways.iter().any(|way| matches!(way, Way::Direct(_)));
            if self.network.carries(a, b) < FULL_BYTES && any_direct {
                return self.fail("narrow-paths-are-left", format!("{a} {}, {b} {}", ways[0], ways[1]));
            }
            if self.is_left(a, b) && ways != [Way::ViaHub; 2] {
                return self
                    .fail("who-is-mute-is-left-to-the-hub", format!("{a} {}, {b} {}", ways[0], ways[1]));
            }
            let must = self.must_be_direct(a, b) && (asks || self.network.must_be_direct_unasked(a, b));
            if must && !direct {
                let now = self.at;
                let key = self.nodes[b].key;
                let why = self.nodes[a].paths.status(&key, now).and_then(|status| status.why_not_direct);
                let detail = format!(
                    "{a} {}, {b} {}, {why:?}; {:?} {:?}",
                    ways[0], ways[1], self.network.hosts[a], self.network.hosts[b]
                );
                return self.fail(invariant, detail);
            }
        }
    }

    /// Paths were found soon.
    pub(super) fn judge_first(&mut self, within: Duration) {
        for pair in 0..self.pairs.len() {
            let [a, b] = self.pairs[pair].nodes;
            let age = |from: usize, to: usize| {
                let status = self.nodes[from].paths.status(&self.nodes[to].key, self.at);
                status.map_or(Duration::ZERO, |status| status.age)
            };
            let found_after = self.at.since(self.began).saturating_sub(age(a, b).min(age(b, a)));
            if self.must_be_direct(a, b) && found_after > within {
                return self.fail("a-path-is-found-soon", format!("{a} and {b} after {found_after:?}"));
            }
        }
    }

    /// Everybody has learnt how often it must be heard to be reached, and is not heard more often.
    pub(super) fn judge_keepalives(&mut self) {
        for node in (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_mute) {
            if self.network.hosts[node].blocked {
                continue;
            }
            let expected: &[Option<u16>] = match self.network.forgets(node).map(|after| after.as_secs()) {
                // Whoever had IPv6 once does not know what is in its way there.
                None => &[Some(0), Some(110)],
                Some(30) => &[Some(25)],
                Some(60) => &[Some(30)],
                Some(_) => &[Some(110)],
            };
            let learnt = self.nodes[node].paths.keepalive();
            if !expected.contains(&learnt) {
                let detail = format!("node {node} learnt {learnt:?}, not {expected:?}");
                return self.fail("what-nats-remember-is-learnt", detail);
            }
        }
    }

    /// Whether only the hub carries packets between two.
    fn is_left(&self, a: usize, b: usize) -> bool {
        [a, b].iter().any(|node| self.nodes[*node].is_mute)
    }

    pub(super) fn judge_relayed(&mut self) {
        for pair in 0..self.pairs.len() {
            let [a, b] = self.pairs[pair].nodes;
            for way in [self.way(a, b), self.way(b, a)] {
                let expected =
                    if self.is_left(a, b) { way == Way::ViaHub } else { matches!(way, Way::Relayed(_)) };
                if !expected {
                    return self.fail("a-dead-path-is-left", format!("{a} and {b}: {way}"));
                }
            }
        }
    }
}

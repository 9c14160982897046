//! Some servers that know the same names: asks the best, after a while the next, and takes the first answer. Knows
//! neither the cache nor who asks.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use model::Mono;
use tokio::time::{Instant, sleep_until, timeout};

use super::clock::Clock;
use super::health::{Condition, Health};
use super::kept::{EDE_NETWORK_ERROR, EDE_NO_REACHABLE_AUTHORITY, Kept};
use super::limits::{ANSWER_TIME_MAX, ATTEMPTS_AT, ATTEMPTS_MAX, FAILED_SECONDS, UNREACHED_SECONDS};
use super::question::Key;
use super::response::Read;
use super::upstream::{Ids, Manner, Trouble, Upstream};

/// What is wrong with a server of which nothing was heard.
const SILENT: &str = "no answer in time";

/// Servers for a suffix, or for the rest.
pub(super) struct Group {
    pub(super) upstreams: Vec<Upstream>,
    health: Mutex<Health>,
    clock: Clock,
    mixed_case: bool,
    /// Whether somebody said that these servers know these names, which may then lead anywhere.
    pub(super) is_for_suffix: bool,
    /// Whether all of them are the site's own, so that names of the site may be asked for.
    pub(super) is_of_site: bool,
}

/// What a group is made of.
pub(super) struct GroupParts {
    pub(super) upstreams: Vec<Upstream>,
    pub(super) mixed_case: bool,
    pub(super) is_for_suffix: bool,
    pub(super) is_of_site: bool,
}

/// Why nobody of a group gave an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    extended_error: u16,
    seconds: u32,
}

impl Failure {
    /// What is said and kept of it.
    pub(super) fn kept(self, key: &Key) -> Kept {
        Kept::failure(key.as_bytes(), self.extended_error, self.seconds)
    }
}

/// What became of the attempts at one question.
#[derive(Debug, Default)]
struct Tally {
    /// Servers that are not asked again about this: they said no, or cannot be reached.
    given_up: Vec<usize>,
    /// Servers that are blamed already: each is once, however often it was asked.
    blamed: Vec<usize>,
    refused: bool,
    extended_error: Option<u16>,
    network: bool,
    silent: bool,
}

/// One attempt.
struct Attempt {
    server: usize,
    began: Mono,
    result: Result<Read, Trouble>,
}

impl Group {
    pub(super) fn new(parts: GroupParts, clock: Clock) -> Self {
        let health = Health::new(parts.upstreams.len(), clock.now());
        Self {
            upstreams: parts.upstreams,
            health: Mutex::new(health),
            clock,
            mixed_case: parts.mixed_case,
            is_for_suffix: parts.is_for_suffix,
            is_of_site: parts.is_of_site,
        }
    }

    /// Asks until somebody answers, at most [`ANSWER_TIME_MAX`].
    pub(super) async fn resolve(
        &self,
        key: &Key,
        ids: &Ids,
        forbidden: &(dyn Fn(IpAddr) -> bool + Sync),
    ) -> Result<Read, Failure> {
        let began = Instant::now();
        let mut plan = Plan::new(self.health().order(self.clock.now()));
        let mut tally = Tally::default();
        let mut open: Vec<(usize, Mono)> = Vec::new();
        let mut attempts = FuturesUnordered::new();
        let mut next_at = began;
        loop {
            // A server that failed at once makes place for the next at once.
            if attempts.is_empty() || Instant::now() >= next_at {
                match plan.next(&tally.given_up) {
                    Some((server, times)) => {
                        let began = self.clock.now();
                        open.push((server, began));
                        attempts.push(self.attempt((server, began), times, key, ids, forbidden));
                    }
                    None if attempts.is_empty() => break,
                    None => {}
                }
                next_at = plan.next_at(began);
            }
            let deadline = began + ANSWER_TIME_MAX;
            tokio::select! {
                // An answer that is there comes before the time to ask elsewhere.
                biased;
                Some(attempt) = attempts.next() => {
                    open.retain(|(server, began)| (*server, *began) != (attempt.server, attempt.began));
                    if let Some(read) = self.judge(attempt, &mut tally) {
                        self.note_late(&open, &mut tally);
                        return Ok(read);
                    }
                }
                () = sleep_until(next_at.min(deadline)) => if Instant::now() >= deadline {
                    tally.silent = true;
                    open.iter().for_each(|&(server, _)| self.upstreams[server].note(Some(SILENT.into())));
                    open.iter().for_each(|&(server, began)| self.blame(server, began, &mut tally));
                    break;
                }
            }
        }
        Err(self.failure(&tally))
    }

    async fn attempt(
        &self,
        (server, began): (usize, Mono),
        times: usize,
        key: &Key,
        ids: &Ids,
        forbidden: &(dyn Fn(IpAddr) -> bool + Sync),
    ) -> Attempt {
        let manner = Manner { mixed_case: self.mixed_case, anew: times > 1, ids, forbidden };
        let result = self.upstreams[server].ask(key, &manner).await;
        Attempt { server, began, result }
    }

    /// Learns from an attempt that ended. Gives the answer back if it is one.
    fn judge(&self, attempt: Attempt, tally: &mut Tally) -> Option<Read> {
        let Attempt { server, began, result } = attempt;
        let trouble = match result {
            Ok(mut read) => {
                self.answered(server, began);
                read.kept_mut().server = self.upstreams[server].number;
                return Some(read);
            }
            Err(trouble) => trouble,
        };
        let target = self.upstreams[server].target();
        let why = chain(&trouble);
        tracing::debug!(upstream = %target, error = %why, "a server gave no answer");
        self.upstreams[server].note(Some(why));
        tally.given_up.push(server);
        match trouble {
            Trouble::Refused(why) => {
                tally.refused = true;
                tally.extended_error = tally.extended_error.or(why);
                self.answered(server, began);
            }
            Trouble::Strange => self.blame(server, began, tally),
            Trouble::Io(_) | Trouble::Stream(_) => {
                tally.network = true;
                self.blame(server, began, tally);
            }
        }
        None
    }

    /// Somebody else answered while these had the time to.
    fn note_late(&self, open: &[(usize, Mono)], tally: &mut Tally) {
        let now = self.clock.now();
        for &(server, began) in open.iter().filter(|(_, began)| now.since(*began) >= ATTEMPTS_AT[1]) {
            let waited = now.since(began);
            tracing::debug!(upstream = %self.upstreams[server].target(), ?waited, "a server is late");
            self.upstreams[server].note(Some(SILENT.into()));
            self.blame(server, began, tally);
        }
    }

    /// RFC 8914: 22 where nobody answers or all refuse, 23 where the network itself says so.
    fn failure(&self, tally: &Tally) -> Failure {
        if !tally.refused {
            self.health().hurry(self.clock.now());
        }
        let network = tally.network && !tally.silent && !tally.refused;
        let usual = if network { EDE_NETWORK_ERROR } else { EDE_NO_REACHABLE_AUTHORITY };
        Failure {
            extended_error: tally.extended_error.unwrap_or(usual),
            seconds: if tally.refused { FAILED_SECONDS } else { UNREACHED_SECONDS },
        }
    }

    /// The servers that are to be probed now.
    pub(super) fn due(&self) -> Vec<usize> {
        let (mut health, now) = (self.health(), self.clock.now());
        std::iter::from_fn(|| health.probe(now)).collect()
    }

    /// Probes servers, all at once.
    pub(super) async fn probe(&self, due: Vec<usize>, key_of: impl Fn(u32) -> Key) {
        let ids = Ids::default();
        let mut probes = FuturesUnordered::new();
        for server in due {
            let key = key_of(self.upstreams[server].number);
            let ids = &ids;
            probes.push(async move {
                let began = self.clock.now();
                let attempt = self.attempt((server, began), 2, &key, ids, &|_| false);
                (server, began, timeout(ANSWER_TIME_MAX, attempt).await)
            });
        }
        while let Some((server, began, asked)) = probes.next().await {
            match asked {
                Ok(Attempt { result: Ok(_) | Err(Trouble::Refused(_)), .. }) => {
                    self.answered(server, began);
                }
                Ok(Attempt { result: Err(trouble), .. }) => {
                    self.upstreams[server].note(Some(chain(&trouble)));
                    self.failed(server, began);
                }
                Err(_) => {
                    self.upstreams[server].note(Some(SILENT.into()));
                    self.failed(server, began);
                }
            }
        }
    }

    /// When the next server is due.
    pub(super) fn probe_at(&self) -> Option<Mono> {
        self.health().probe_at()
    }

    /// The server with this number sends us our own questions, if it is of this group.
    pub(super) fn looped(&self, number: u32) -> bool {
        let Some(server) = self.upstreams.iter().position(|upstream| upstream.number == number) else {
            return false;
        };
        self.health().looped(server, self.clock.now());
        true
    }

    /// How each server is, and what it takes.
    pub(super) fn conditions(&self) -> Vec<(Condition, Option<Duration>)> {
        let health = self.health();
        (0..self.upstreams.len())
            .map(|server| (health.condition(server), health.round_trip(server)))
            .collect()
    }

    fn answered(&self, server: usize, began: Mono) {
        let now = self.clock.now();
        self.upstreams[server].note(None);
        self.health().answered(server, now.since(began), now);
    }

    /// The server did not answer this question.
    fn blame(&self, server: usize, began: Mono, tally: &mut Tally) {
        if !tally.blamed.contains(&server) {
            tally.blamed.push(server);
            self.failed(server, began);
        }
    }

    fn failed(&self, server: usize, began: Mono) {
        let mut health = self.health();
        health.failed(server, began, self.clock.now());
        if health.condition(server) == Condition::Dead {
            self.upstreams[server].tell_of_end();
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Whom to ask in which order: each once, then the first ones again, as datagrams get lost.
#[derive(Debug)]
struct Plan {
    order: Vec<usize>,
    made: usize,
}

impl Plan {
    const fn new(order: Vec<usize>) -> Self {
        Self { order, made: 0 }
    }

    fn attempts(&self) -> usize {
        self.order.len().clamp(ATTEMPTS_AT.len(), ATTEMPTS_MAX)
    }

    /// The next server, and how often it was asked before.
    fn next(&mut self, given_up: &[usize]) -> Option<(usize, usize)> {
        if self.order.is_empty() {
            return None;
        }
        while self.made < self.attempts() {
            let (at, times) = (self.made % self.order.len(), self.made / self.order.len());
            self.made += 1;
            if !given_up.contains(&self.order[at]) {
                return Some((self.order[at], times));
            }
        }
        None
    }

    /// When to go on if nothing comes.
    fn next_at(&self, began: Instant) -> Instant {
        let step = ATTEMPTS_AT.get(self.made).copied().unwrap_or(ANSWER_TIME_MAX);
        began + step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_asked_before_one_is_asked_again() {
        let plan = |servers: &[usize], given_up: &[usize]| {
            let mut plan = Plan::new(servers.to_vec());
            std::iter::from_fn(|| plan.next(given_up)).collect::<Vec<_>>()
        };
        assert_eq!(plan(&[1, 0], &[]), [(1, 0), (0, 0), (1, 1), (0, 1)]);
        assert_eq!(plan(&[0], &[]), [(0, 0), (0, 1), (0, 2), (0, 3)]);
        assert_eq!(plan(&[1, 0], &[1]), [(0, 0), (0, 1)]);
        assert_eq!(plan(&[], &[]), []);
        assert_eq!(plan(&(0..20).collect::<Vec<_>>(), &[]).len(), ATTEMPTS_MAX);
    }

    #[test]
    fn the_steps_grow_and_end_with_the_time() {
        let began = Instant::now();
        let mut plan = Plan::new(vec![0]);
        let mut steps = Vec::new();
        while plan.next(&[]).is_some() {
            steps.push((plan.next_at(began) - began).as_millis());
        }
        assert_eq!(steps, [400, 1_000, 1_800, 2_800]);
    }
}

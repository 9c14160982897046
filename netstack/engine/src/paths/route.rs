//! One address of a peer, or the relay: what was asked there and what was answered, and which of two is better.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use model::Mono;

use super::address::CandidateKind;
use super::pace::Stretch;
use super::width::Width;

/// Pings without an answer that are remembered: a late answer is still an answer.
const OUTSTANDING_MAX: usize = 8;
/// The first answer is waited for so long at least: then it is asked again, and packets go another way as well...
const PATIENCE_FIRST_MIN: Duration = Duration::from_millis(100);
/// ... or for so many round trips, and for one and so many times what they differ by, where that is longer (RFC 6298, section 2)...
const PATIENCE_FIRST_ROUND_TRIPS: u32 = 2;
const PATIENCE_FIRST_DEVIATIONS: u32 = 4;
/// ... and for so long then: a machine that is busy answers late, and a late answer to the first counts, too.
const PATIENCE_MIN: Duration = Duration::from_millis(200);
const PATIENCE_ROUND_TRIPS: u32 = 3;
/// And so long at most, also before a round trip was measured: round the world and back is 300 ms...
const PATIENCE_MAX: Duration = Duration::from_secs(1);
/// ... or for two round trips where that is longer, up to this: what takes a second, such as a satellite's line that is full, would be doubted with each ping,
/// and what takes longer is no path that anybody wants.
const PATIENCE_FAR_MAX: Duration = Duration::from_secs(3);
/// However rarely a peer says that it can be asked: our packets go to an address that it left for no longer.
const PATIENCE_STRETCHED_MAX: Duration = Duration::from_secs(30);
/// So many pings in a row without an answer end the trust: one may be lost on any network.
const MISSES_MAX: u8 = 2;
/// And so many where packets of the peer come all the same: it may be that ours alone are lost, and then it has no other sign of
/// it. Four in a row are lost by chance where a third of all packets is once in fifteen times.
const MISSES_HEARD_MAX: u8 = 4;
/// Between two pings that answer pings.
const ECHO_INTERVAL: Duration = Duration::from_millis(200);
/// Measurements in a row by which another path must be better: one may be chance.
const WINS_MIN: u8 = 2;
/// Another path must be faster by so much, and by a fifth: less is noise, and each move costs reordering.
const GAIN_MIN: Duration = Duration::from_millis(3);

#[derive(Debug)]
struct Asked {
    number: u64,
    at: Mono,
    /// It was waited for in vain. It may still come.
    is_missed: bool,
}

/// One way to a peer.
#[derive(Debug)]
pub(super) struct Route {
    kind: CandidateKind,
    /// The newest last.
    asked: VecDeque<Asked>,
    asked_at: Option<Mono>,
    answered: bool,
    misses: u8,
    /// When the first of them was sent.
    missed_at: Option<Mono>,
    round_trip: Option<Duration>,
    /// By how much round trips differ from the mean.
    deviation: Duration,
    /// The last answer was not compared yet.
    is_news: bool,
    wins: u8,
    /// An answer is waited for as much longer as it is asked for more rarely.
    stretch: Stretch,
    /// Of a peer that answers long probes, and of the relays none: they cut what is long.
    width: Option<Width>,
}

impl Route {
    pub(super) const fn new(kind: CandidateKind) -> Self {
        Self {
            kind,
            asked: VecDeque::new(),
            asked_at: None,
            answered: false,
            misses: 0,
            missed_at: None,
            round_trip: None,
            deviation: Duration::ZERO,
            is_news: false,
            wins: 0,
            stretch: Stretch::NONE,
            width: None,
        }
    }

    /// The peer answers long probes, or does not: only then their silence says something.
    pub(super) fn set_answers_long(&mut self, answers: bool) {
        if answers != self.width.is_some() {
            self.width = answers.then(Width::default);
        }
    }

    pub(super) const fn kind(&self) -> CandidateKind {
        self.kind
    }

    /// As if nothing had been asked.
    pub(super) fn forget(&mut self) {
        let answers_long = self.width.is_some();
        *self = Self::new(self.kind);
        self.set_answers_long(answers_long);
    }

    pub(super) fn asked(&mut self, number: u64, now: Mono) {
        if self.asked.len() == OUTSTANDING_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back(Asked { number, at: now, is_missed: false });
        self.asked_at = Some(now);
    }

    /// Takes an answer, and says when it was asked for. One to a question that was never asked says nothing.
    pub(super) fn answered(&mut self, number: u64, now: Mono) -> Option<Mono> {
        if let Some(width) = &mut self.width {
            width.answered(number);
        }
        let at = self.asked.iter().position(|asked| asked.number == number)?;
        let asked = self.asked.drain(..=at).next_back()?;
        self.measure(now.since(asked.at));
        (self.answered, self.misses, self.missed_at, self.is_news) = (true, 0, None, true);
        Some(asked.at)
    }

    fn measure(&mut self, sample: Duration) {
        let (mean, deviation) = match self.round_trip {
            None => (sample, sample / 2),
            Some(before) => ((before * 3 + sample) / 4, (self.deviation * 3 + before.abs_diff(sample)) / 4),
        };
        (self.round_trip, self.deviation) = (Some(mean), deviation);
    }

    /// Counts what was not answered in time.
    pub(super) fn expire(&mut self, stretch: Stretch, now: Mono) {
        self.stretch = stretch;
        let patience = self.patience().max(PATIENCE_MIN);
        if let Some(width) = &mut self.width {
            width.expire(patience, now);
        }
        loop {
            let patience = self.patience();
            let waits = self.asked.iter_mut().find(|asked| !asked.is_missed);
            let Some(asked) = waits.filter(|asked| asked.at + patience <= now) else { return };
            asked.is_missed = true;
            let at = asked.at;
            self.missed_at.get_or_insert(at);
            self.misses = self.misses.saturating_add(1);
        }
    }

    /// How long the next missing answer is waited for.
    fn patience(&self) -> Duration {
        let Some(round_trip) = self.round_trip else {
            return self.stretch.of(PATIENCE_MAX).min(PATIENCE_STRETCHED_MAX);
        };
        let late = round_trip + self.deviation * PATIENCE_FIRST_DEVIATIONS;
        let first = late.max(round_trip * PATIENCE_FIRST_ROUND_TRIPS);
        let (wanted, least) = match self.misses {
            0 => (first, PATIENCE_FIRST_MIN),
            _ => (first.max(round_trip * PATIENCE_ROUND_TRIPS), PATIENCE_MIN),
        };
        let most = (round_trip * PATIENCE_FIRST_ROUND_TRIPS).clamp(PATIENCE_MAX, PATIENCE_FAR_MAX);
        self.stretch.of(wanted.clamp(least, most)).min(PATIENCE_STRETCHED_MAX)
    }

    /// The first answer that is waited for.
    fn waits(&self) -> Option<&Asked> {
        self.asked.iter().find(|asked| !asked.is_missed)
    }

    /// Whether it answered, and has not stopped to.
    pub(super) const fn is_alive(&self) -> bool {
        self.answered && self.misses < MISSES_MAX
    }

    /// Whether packets may go there: it is alive, and those of full size pass.
    pub(super) fn is_trusted(&self) -> bool {
        self.is_alive() && self.width.as_ref().is_none_or(Width::is_enough)
    }

    /// Whether it answers, and only packets of full size do not pass.
    pub(super) fn is_narrow(&self) -> bool {
        self.is_alive() && self.width.as_ref().is_some_and(Width::is_narrow)
    }

    /// A long probe was sent.
    pub(super) const fn asked_long(&mut self, number: u64, now: Mono) {
        if let Some(width) = &mut self.width {
            width.asked(number, now);
        }
    }

    /// When the next long probe is due.
    pub(super) fn next_long(&self, in_use: bool) -> Option<Mono> {
        self.width.as_ref().filter(|_| self.is_alive())?.next(in_use, self.stretch)
    }

    /// Whether packets over it are lost as well: pings in a row were not answered, and since the first of them no packet of the peer
    /// came.
    pub(super) fn is_lost(&self, heard_at: Option<Mono>) -> bool {
        let is_heard = self.missed_at.zip(heard_at).is_some_and(|(missed, heard)| heard > missed);
        self.misses >= if is_heard { MISSES_HEARD_MAX } else { MISSES_MAX }
    }

    /// Whether it answered, and is not lost.
    pub(super) fn holds(&self, heard_at: Option<Mono>) -> bool {
        self.answered && !self.is_lost(heard_at)
    }

    /// Whether it answered what it was asked last.
    pub(super) const fn is_sure(&self) -> bool {
        self.answered && self.misses == 0
    }

    /// Whether the answer that is missing must be asked for again at once.
    pub(super) fn wants_second(&self) -> bool {
        self.is_alive() && self.misses > 0 && self.waits().is_none()
    }

    /// Whether no answer is waited for.
    pub(super) fn is_idle(&self) -> bool {
        self.waits().is_none()
    }

    /// Whether it was asked just now.
    pub(super) fn is_asked(&self, now: Mono) -> bool {
        self.asked_at.is_some_and(|at| now.since(at) < ECHO_INTERVAL)
    }

    /// Whether one that asks us may be asked: our last question may have come too early to be understood.
    pub(super) fn may_be_asked_back(&self, now: Mono) -> bool {
        !self.is_asked(now)
            || (!self.answered && self.asked.iter().filter(|asked| !asked.is_missed).count() < 2)
    }

    /// When it is asked again.
    pub(super) fn next(&self, interval: Duration) -> Mono {
        self.asked_at.map_or(Mono::default(), |at| at + interval)
    }

    /// When a missing answer counts.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let long = self.width.as_ref().and_then(|width| width.deadline(self.patience().max(PATIENCE_MIN)));
        self.waits().map(|asked| asked.at + self.patience()).into_iter().chain(long).min()
    }

    pub(super) const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// How long a packet takes, with what speaks for a kind of address: at home nobody forgets us, over IPv6 no NAT does.
    fn score(&self, address: &SocketAddr) -> Duration {
        let handicap = match self.kind {
            CandidateKind::Local => Duration::ZERO,
            _ if address.is_ipv6() => Duration::from_millis(1),
            _ => Duration::from_millis(3),
        };
        self.round_trip.unwrap_or(PATIENCE_MAX) + handicap
    }
}

/// The address to use, given the one in use if it is still trusted. Compares each measurement once.
pub(super) fn better(
    routes: &mut BTreeMap<SocketAddr, Route>,
    current: Option<SocketAddr>,
) -> Option<SocketAddr> {
    let in_use = current.and_then(|address| routes.get(&address).map(|route| route.score(&address)));
    let trusted = routes.iter().filter(|(_, route)| route.is_trusted());
    let (score, best) = trusted.map(|(address, route)| (route.score(address), *address)).min()?;
    let Some(in_use) = in_use else {
        routes.values_mut().for_each(|route| route.wins = 0);
        return Some(best);
    };
    let is_better = score * 5 / 4 + GAIN_MIN < in_use;
    for (address, route) in routes.iter_mut() {
        if *address != best || !is_better {
            route.wins = 0;
        } else if std::mem::take(&mut route.is_news) {
            route.wins += 1;
        }
    }
    let wins = routes.get(&best).map_or(0, |route| route.wins);
    if wins >= WINS_MIN { Some(best) } else { current }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_micros(millis * 1000)
    }

    fn measure(route: &mut Route, number: u64, from: u64, millis: u64) {
        route.asked(number, at(from));
        route.answered(number, at(from + millis));
    }

    #[test]
    fn trust_ends_with_two_pings_that_nobody_answers() {
        let mut route = Route::new(CandidateKind::Reflexive);
        route.asked(1, at(0));
        assert!(!route.is_trusted());
        route.answered(2, at(10));
        assert!(!route.is_trusted(), "another number");
        route.answered(1, at(10));
        assert!(route.is_trusted());
        route.asked(3, at(1000));
        assert_eq!(route.deadline(), Some(at(1100)));
        route.expire(Stretch::NONE, at(1100));
        assert!(route.is_trusted() && route.wants_second());
        route.asked(4, at(1100));
        assert!(!route.wants_second());
        assert_eq!(route.deadline(), Some(at(1300)));
        route.expire(Stretch::NONE, at(1300));
        assert!(!route.is_trusted());
        route.asked(5, at(2000));
        route.answered(5, at(2020));
        assert!(route.is_trusted());
    }

    #[test]
    fn an_answer_that_comes_late_is_one() {
        let mut route = Route::new(CandidateKind::Reflexive);
        measure(&mut route, 1, 0, 10);
        route.asked(2, at(1000));
        route.expire(Stretch::NONE, at(1100));
        route.asked(3, at(1100));
        route.answered(2, at(1150));
        route.expire(Stretch::NONE, at(1300));
        assert!(route.is_trusted() && !route.is_sure(), "the second was not answered yet");
        route.answered(3, at(1350));
        assert!(route.is_sure());
    }

    #[test]
    fn who_is_far_is_waited_for_as_long_as_answers_take_and_differ() {
        let patience = |times: &[u64]| {
            let mut route = Route::new(CandidateKind::Reflexive);
            for (number, takes) in (1..).zip(times.iter().cycle().take(64)) {
                measure(&mut route, number, number * 1000, *takes);
            }
            route.asked(99, at(100_000));
            let first = route.deadline().expect("it is asked").since(at(100_000)).as_millis();
            route.expire(Stretch::NONE, route.deadline().expect("it is asked"));
            route.asked(100, at(200_000));
            (first, route.deadline().expect("it is asked").since(at(200_000)).as_millis())
        };
        assert_eq!(patience(&[1]), (100, 200));
        assert_eq!(patience(&[40]), (100, 200));
        assert_eq!(patience(&[300]), (600, 900));
        assert_eq!(patience(&[450]), (900, 1000));
        assert_eq!(patience(&[1200]), (2400, 2400));
        assert_eq!(patience(&[2500]), (3000, 3000));
        let (first, second) = patience(&[200, 400]);
        assert!((600..900).contains(&first) && second >= first, "{first} {second}");
    }

    #[test]
    fn another_path_must_be_clearly_faster_twice() {
        let (slow, fast): (SocketAddr, SocketAddr) =
            ("203.0.113.1:1".parse().expect("an address"), "203.0.113.2:1".parse().expect("an address"));
        let mut routes = BTreeMap::from([slow, fast].map(|a| (a, Route::new(CandidateKind::Reflexive))));
        let mut number = 0;
        let mut sample = |routes: &mut BTreeMap<SocketAddr, Route>, address: &SocketAddr, millis| {
            number += 1;
            measure(routes.get_mut(address).expect("a route"), number, number * 1000, millis);
        };
        sample(&mut routes, &slow, 20);
        assert_eq!(better(&mut routes, None), Some(slow));
        sample(&mut routes, &fast, 18);
        assert_eq!(better(&mut routes, Some(slow)), Some(slow), "hardly faster");
        for expect in [slow, slow, fast] {
            sample(&mut routes, &fast, 1);
            assert_eq!(better(&mut routes, Some(slow)), Some(expect));
        }
        let kept = better(&mut routes, Some(fast));
        assert_eq!(kept, Some(fast));
    }
}

//! What the server was told of this node, and when it hears next. Knows no link.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use model::limits::HEARTBEAT_INTERVAL;
use model::time::Deadline;
use model::wire::{Facts, Heartbeat, Holding, Remark};
use model::{Held, Mono, TenantId};

use crate::backoff::fraction;
use crate::turn::Turn;

/// News goes out at once, but not more often than this.
const NEWS_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// What a server may ask for: neither a flood nor silence.
const INTERVAL_SECONDS: std::ops::RangeInclusive<u16> = 2..=60;
/// What the machine is like is said this often: with each heartbeat it would be a sixth of what an idle device may cost.
const FACTS_INTERVAL: Duration = Duration::from_secs(300);
/// Heartbeats whose answer is waited for: a server that is so many behind counts as silent.
const UNHEARD_MAX: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Runs while attached.
    beating: Option<Beating>,
    sequence: u64,
    /// When the last heartbeats of this link were sent.
    sent: VecDeque<(u64, Mono)>,
    /// What the server was told on this link.
    announced: BTreeMap<TenantId, (Held, bool)>,
}

#[derive(Debug)]
struct Beating {
    interval: Duration,
    next_at: Mono,
    sent_at: Option<Mono>,
    /// When the server was told what the machine is like; not yet on this link if never.
    facts_at: Option<Mono>,
    news: News,
}

/// What sends a heartbeat early when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct News {
    pub(crate) drift_total: u64,
    pub(crate) problems: Vec<Remark>,
    pub(crate) engine: Option<Remark>,
}

impl Pulse {
    /// The link is attached: the first heartbeat is due.
    pub(crate) fn begin(&mut self, seconds: u16, now: Mono) {
        let interval = match seconds {
            0 => HEARTBEAT_INTERVAL,
            seconds => {
                Duration::from_secs(seconds.clamp(*INTERVAL_SECONDS.start(), *INTERVAL_SECONDS.end()).into())
            }
        };
        self.announced.clear();
        self.sent.clear();
        self.beating =
            Some(Beating { interval, next_at: now, sent_at: None, facts_at: None, news: News::default() });
    }

    pub(crate) fn end(&mut self) {
        self.beating = None;
    }

    /// Whether a heartbeat is due. If it is only news that waits, the deadline moves to when it may go.
    pub(crate) fn is_due(&mut self, news: &News, now: Mono) -> bool {
        let Some(beating) = &mut self.beating else { return false };
        if beating.news != *news
            && let Some(sent_at) = beating.sent_at
        {
            beating.next_at = beating.next_at.min((sent_at + NEWS_INTERVAL_MIN).max(now));
        }
        beating.next_at <= now
    }

    /// The heartbeat that is due.
    pub(crate) fn beat(
        &mut self,
        holding: Vec<Holding>,
        news: News,
        facts: Option<&Facts>,
        turn: &mut Turn<'_>,
    ) -> Heartbeat {
        let mut facts = facts.cloned();
        self.sequence += 1;
        self.sent.truncate(UNHEARD_MAX - 1);
        self.sent.push_front((self.sequence, turn.mono()));
        self.announced = holding.iter().map(|h| (h.tenant, (h.held, h.settled))).collect();
        if let Some(beating) = &mut self.beating {
            let jitter = fraction(beating.interval / 10, turn.rng);
            beating.next_at = turn.mono() + beating.interval + jitter;
            beating.sent_at = Some(turn.mono());
            facts.take_if(|_| beating.facts_at.is_some_and(|at| turn.mono().since(at) < FACTS_INTERVAL));
            if facts.is_some() {
                beating.facts_at = Some(turn.mono());
            }
            beating.news = news.clone();
        }
        Heartbeat {
            sequence: self.sequence,
            holding,
            drift_total: news.drift_total,
            problems: news.problems,
            wall: turn.now.wall,
            engine: news.engine,
            facts,
        }
    }

    /// A heartbeat is due now, or as soon as one may follow the last: the server's answer is waited for. Says when.
    pub(crate) fn ask(&mut self, now: Mono) -> Mono {
        let Some(beating) = &mut self.beating else { return now };
        let at = beating.sent_at.map_or(now, |sent_at| (sent_at + NEWS_INTERVAL_MIN).max(now));
        beating.next_at = beating.next_at.min(at);
        beating.next_at
    }

    /// A heartbeat with all that there is to say is due now.
    pub(crate) fn hurry(&mut self, now: Mono) {
        if let Some(beating) = &mut self.beating {
            beating.next_at = now;
            beating.facts_at = None;
        }
    }

    /// The server is to be told again what is held of a tenant, though it was.
    pub(crate) fn forget(&mut self, tenant: TenantId) {
        self.announced.remove(&tenant);
    }

    /// When a heartbeat of this link was sent, if it is one of the last.
    pub(crate) fn sent_at(&self, sequence: u64) -> Option<Mono> {
        self.sent.iter().find(|(sent, _)| *sent == sequence).map(|(_, at)| *at)
    }

    /// What the server was not told yet on this link, if it is so.
    pub(crate) fn announce(&mut self, holding: Holding) -> Option<Holding> {
        self.beating.as_ref()?;
        let word = (holding.held, holding.settled);
        (self.announced.insert(holding.tenant, word) != Some(word)).then_some(holding)
    }

    /// The tenants whose last word was that the host is not settled.
    pub(crate) fn unsettled(&self) -> Vec<TenantId> {
        let unsettled = self.announced.iter().filter(|(_, (_, settled))| !settled);
        unsettled.map(|(tenant, _)| *tenant).collect()
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.beating.as_ref().map(|b| Deadline { at: b.next_at, why: "heartbeat" })
    }
}

//! Where named endpoints are. Asks, asks again and remembers; resolves nothing itself and knows no peer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use model::time::Deadline;
use model::{Endpoint, Mono};

use crate::backoff::{Backoff, Schedule};
use crate::output::Output;
use crate::turn::Turn;

const RETRIES: Schedule =
    Schedule { first: Duration::from_secs(1), max: Duration::from_secs(60), full_jitter: false };
/// Between two questions for an endpoint that was found but does not answer.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Questions at once: a machine's resolver is not ours to flood.
const ASKING_MAX: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// Those that a snapshot names.
    lookups: BTreeMap<Endpoint, Lookup>,
    asking: BTreeSet<Endpoint>,
}

#[derive(Debug)]
struct Lookup {
    /// Found last, perhaps long ago.
    address: Option<SocketAddr>,
    /// When to ask next. `None`: not before somebody says that it does not answer.
    ask_at: Option<Mono>,
    answered_at: Option<Mono>,
    backoff: Backoff,
}

impl Endpoints {
    /// Takes the endpoints that are wanted now; `known` has where they were last.
    pub(crate) fn want(
        &mut self,
        wanted: &BTreeSet<Endpoint>,
        known: &BTreeMap<Endpoint, SocketAddr>,
        now: Mono,
    ) {
        self.lookups.retain(|endpoint, _| wanted.contains(endpoint));
        for endpoint in wanted {
            self.lookups.entry(endpoint.clone()).or_insert_with(|| Lookup {
                address: known.get(endpoint).copied(),
                ask_at: Some(now),
                answered_at: None,
                backoff: Backoff::new(RETRIES),
            });
        }
    }

    /// Where an endpoint is, if that is known.
    pub(crate) fn address(&self, endpoint: &Endpoint) -> Option<SocketAddr> {
        endpoint.socket_address().or_else(|| self.lookups.get(endpoint)?.address)
    }

    /// Whether a wanted endpoint was never found.
    pub(crate) fn any_missing(&self) -> bool {
        self.lookups.values().any(|lookup| lookup.address.is_none())
    }

    /// The wanted endpoints that were asked for in vain.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = &Endpoint> {
        self.lookups.iter().filter(|(_, lookup)| lookup.backoff.failures() > 0).map(|(endpoint, _)| endpoint)
    }

    /// Nobody answers there: it may have moved.
    pub(crate) fn doubt(&mut self, endpoint: &Endpoint, now: Mono) {
        if let Some(lookup) = self.lookups.get_mut(endpoint)
            && lookup.ask_at.is_none()
        {
            lookup.ask_at = Some(lookup.answered_at.map_or(now, |at| (at + ASK_AGAIN_AFTER).max(now)));
        }
    }

    /// Takes an answer, and says whether the endpoint is elsewhere now.
    pub(crate) fn take_resolved(
        &mut self,
        endpoint: &Endpoint,
        address: Option<SocketAddr>,
        turn: &mut Turn<'_>,
    ) -> bool {
        if !self.asking.remove(endpoint) {
            return false;
        }
        let Some(lookup) = self.lookups.get_mut(endpoint) else { return false };
        let Some(address) = address else {
            lookup.ask_at = Some(turn.mono() + lookup.backoff.fail(turn.rng));
            return false;
        };
        lookup.backoff.succeed();
        lookup.answered_at = Some(turn.mono());
        lookup.address.replace(address) != Some(address)
    }

    pub(crate) fn advance(&mut self, turn: &mut Turn<'_>) {
        let now = turn.mono();
        for (endpoint, lookup) in &mut self.lookups {
            if self.asking.len() >= ASKING_MAX {
                return;
            }
            if lookup.ask_at.is_some_and(|at| at <= now) && self.asking.insert(endpoint.clone()) {
                lookup.ask_at = None;
                turn.push(Output::Resolve(endpoint.clone()));
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        if self.asking.len() >= ASKING_MAX {
            return None;
        }
        let waiting = self.lookups.iter().filter(|(endpoint, _)| !self.asking.contains(*endpoint));
        let at = waiting.filter_map(|(_, lookup)| lookup.ask_at).min()?;
        Some(Deadline { at, why: "resolve an endpoint" })
    }
}

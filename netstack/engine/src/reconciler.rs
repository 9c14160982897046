//! When to look at one interface of the host and which change to make next. Knows neither snapshots nor links.
//!
//! ```text
//!            HostChanged, tick, failure            all needed changes
//!   settled ───────────────────────────▶ observing ──────────────────▶ working ─▶ settled
//!      ▲                                                                  │ ▲
//!      │                       an edit marks a subject ───────────────────┼─┘
//!      └───────────────────────── nothing left, nothing failing ──────────┘
//! ```
//!
//! After its own changes it knows what the host is like without looking. Nothing is changed while it looks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use model::time::Deadline;
use model::{Mono, PublicKey};

use crate::backoff::{Backoff, Schedule};
use crate::change::{Change, PeerSetting, Subject};
use crate::changes::{change_of, same_but_endpoint, subjects, subjects_but_peers};
use crate::desired::Desired;
use crate::event::Event;
use crate::observed::Observed;
use crate::output::Output;
use crate::seat::Seat;
use crate::status::FailingChange;
use crate::turn::Turn;

/// Changes under way at once: enough to batch, few enough to be held.
const IN_FLIGHT_MAX: usize = 256;
/// Notices of the kernel come in bursts.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Between two looks: a host that changes all the time costs two a second.
const OBSERVE_INTERVAL_MIN: Duration = Duration::from_millis(500);
/// A look without a notice, as WireGuard's peers send none.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(30);
/// Half of the first wait may be chance: 0.5 s to 1 s.
const CHANGE_RETRIES: Schedule =
    Schedule { first: Duration::from_secs(1), max: Duration::from_secs(60), full_jitter: false };
const OBSERVE_RETRIES: Schedule =
    Schedule { first: Duration::from_secs(1), max: Duration::from_secs(30), full_jitter: false };

#[derive(Debug)]
pub(crate) struct Reconciler {
    /// The public half of the node's key.
    own: PublicKey,
    /// Which interface.
    seat: Seat,
    /// What the host is like, as far as is known. `None` until it was looked at.
    observed: Option<Observed>,
    /// Peers that are to be pointed to where they are now, though the host says that they are somewhere: a look that began before says
    /// where they were.
    repointed: BTreeSet<PublicKey>,
    /// What may have to change. At most one entry for each thing that is desired or observed.
    todo: BTreeSet<Subject>,
    in_flight: BTreeMap<Subject, Change>,
    failing: BTreeMap<Subject, Failure>,
    /// When failing subjects are tried again.
    retries: BTreeSet<(Mono, Subject)>,
    observing: bool,
    observe_at: Mono,
    looked_at: Option<Mono>,
    look_failed: Option<String>,
    looks: Backoff,
    drift_total: u64,
}

/// A change that could not be made.
#[derive(Debug)]
struct Failure {
    change: Change,
    reason: String,
    backoff: Backoff,
    /// In the past while it is being tried.
    retry_at: Mono,
}

impl Reconciler {
    pub(crate) fn new(own: PublicKey, seat: Seat) -> Self {
        Self {
            own,
            seat,
            observed: None,
            repointed: BTreeSet::new(),
            todo: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            failing: BTreeMap::new(),
            retries: BTreeSet::new(),
            observing: false,
            observe_at: Mono::default(),
            looked_at: None,
            look_failed: None,
            looks: Backoff::new(OBSERVE_RETRIES),
            drift_total: 0,
        }
    }

    /// No change is left to make, as far as is known.
    pub(crate) fn settled(&self) -> bool {
        self.observed.is_some()
            && self.todo.is_empty()
            && self.in_flight.is_empty()
            && self.failing.is_empty()
            && self.look_failed.is_none()
    }

    /// No change is left to make of a peer, as far as is known.
    pub(crate) fn is_done_with(&self, key: &PublicKey) -> bool {
        let subject = Subject::Peer(*key);
        self.observed.is_some()
            && !self.todo.contains(&subject)
            && !self.in_flight.contains_key(&subject)
            && !self.failing.contains_key(&subject)
    }

    /// There is nothing of it and nothing under way.
    pub(crate) fn is_over(&self) -> bool {
        self.settled() && !self.observing && self.observed.as_ref().is_some_and(Observed::is_bare)
    }

    /// Whether the interface has the peer, or could not be told something of it.
    pub(crate) fn is_about(&self, key: &PublicKey) -> bool {
        self.failing.contains_key(&Subject::Peer(*key))
            || self.observed.as_ref().is_some_and(|observed| observed.has_peer(key))
    }

    /// Whether the interface may have the address or the route, or is about to. One that was not looked at yet may; one that
    /// cannot be looked at keeps nobody waiting.
    pub(crate) fn may_have_net(&self, net: &IpNet) -> bool {
        if self.observed.is_none() {
            return self.look_failed.is_none();
        }
        let interface = self.observed.as_ref().and_then(Observed::there);
        let comes = [Subject::Address(*net), Subject::Route(*net)];
        interface.is_some_and(|i| i.addresses.contains(net) || i.routes.contains(net))
            || comes.iter().any(|subject| self.in_flight.contains_key(subject))
    }

    pub(crate) const fn drift_total(&self) -> u64 {
        self.drift_total
    }

    /// Why the host cannot be read now.
    pub(crate) fn look_failed(&self) -> Option<&str> {
        self.look_failed.as_deref()
    }

    /// What the host is like, as far as is known.
    pub(crate) const fn observed(&self) -> Option<&Observed> {
        self.observed.as_ref()
    }

    /// Changes that could not be made, in the order of work.
    pub(crate) fn failing(&self, now: Mono) -> impl Iterator<Item = FailingChange> {
        self.failing.values().map(move |failure| FailingChange {
            change: failure.change.clone(),
            reason: failure.reason.clone(),
            attempts: failure.backoff.failures(),
            retry_after: failure.retry_at.since(now),
        })
    }

    /// Changes that could not be made, and why.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&Change, &str)> {
        self.failing.values().map(|failure| (&failure.change, failure.reason.as_str()))
    }

    /// The host may have changed: look soon.
    pub(crate) fn look_soon(&mut self, now: Mono) {
        self.look_at(now + DEBOUNCE);
    }

    /// What is desired about a subject changed.
    pub(crate) fn mark(&mut self, subject: Subject) {
        self.pardon(&subject);
        self.todo.insert(subject);
    }

    /// What is desired changed, perhaps about everything but peers.
    pub(crate) fn mark_all_but_peers(&mut self, desired: &Desired) {
        let Some(observed) = &self.observed else { return };
        let all = subjects_but_peers(desired, observed);
        let needed: Vec<_> = all.into_iter().filter(|s| change_of(desired, observed, s).is_some()).collect();
        needed.into_iter().for_each(|subject| self.mark(subject));
    }

    /// What is desired changed all over.
    pub(crate) fn mark_all(&mut self, desired: &Desired) {
        let Some(observed) = &self.observed else { return };
        let all = subjects(desired, observed);
        self.todo.extend(all.into_iter().filter(|s| change_of(desired, observed, s).is_some()));
        self.failing.clear();
        self.retries.clear();
    }

    /// A peer's endpoint was edited: point there, even if the peer answers from where it was.
    pub(crate) fn repoint(&mut self, key: &PublicKey) {
        self.repointed.insert(*key);
        if let Some(observed) = &mut self.observed {
            observed.lose_endpoint(key);
        }
    }

    /// A peer was told where it is: there, or where it was before.
    fn pointed(&mut self, desired: &Desired, told: &PeerSetting) {
        if !self.repointed.contains(&told.key) {
            return;
        }
        let wanted = desired.interface.as_ref().and_then(|interface| interface.peers.get(&told.key));
        if wanted.is_none_or(|wanted| wanted.endpoint == told.endpoint) {
            self.repointed.remove(&told.key);
        } else if let Some(observed) = &mut self.observed {
            observed.lose_endpoint(&told.key);
        }
    }

    /// Takes what the host says.
    pub(crate) fn take_observed(
        &mut self,
        desired: &Desired,
        result: Result<Observed, String>,
        turn: &mut Turn<'_>,
    ) {
        if !std::mem::take(&mut self.observing) {
            return;
        }
        let mut observed = match result {
            Ok(observed) => observed,
            Err(reason) => {
                self.observe_at = turn.mono() + self.looks.fail(turn.rng);
                self.look_failed = Some(reason.clone());
                return turn.event(Event::ObserveFailed { reason });
            }
        };
        self.looks.succeed();
        self.look_failed = None;
        let peers = desired.interface.as_ref().map(|interface| &interface.peers);
        self.repointed
            .retain(|key| peers.and_then(|peers| peers.get(key)).is_some_and(|p| p.endpoint.is_some()));
        self.repointed.iter().for_each(|key| observed.lose_endpoint(key));
        let needed: Vec<Change> = subjects(desired, &observed)
            .iter()
            .filter_map(|subject| change_of(desired, &observed, subject))
            .collect();
        self.count_drift(desired, &observed, &needed, turn);
        self.observed = Some(observed);
        let needed: BTreeSet<Subject> = needed.iter().map(Change::subject).collect();
        self.failing.retain(|subject, _| needed.contains(subject));
        self.retries.retain(|(_, subject)| needed.contains(subject));
        let now = turn.mono();
        let may_try = |subject: &Subject| self.failing.get(subject).is_none_or(|f| f.retry_at <= now);
        self.todo = needed.into_iter().filter(may_try).collect();
    }

    /// Takes the outcome of a change.
    pub(crate) fn take_applied(
        &mut self,
        desired: &Desired,
        change: &Change,
        result: Result<(), String>,
        turn: &mut Turn<'_>,
    ) {
        let subject = change.subject();
        if self.in_flight.get(&subject) != Some(change) {
            return;
        }
        self.in_flight.remove(&subject);
        if let (Ok(()), Some(observed)) = (&result, &mut self.observed) {
            observed.apply(change, &self.own);
            if let Change::SetPeer(told) = change {
                self.pointed(desired, told);
            }
        }
        match (result, &self.observed) {
            (Ok(()), Some(observed)) => {
                if change_of(desired, observed, &subject).is_some() {
                    self.todo.insert(subject);
                }
                self.pardon(&subject);
            }
            (Ok(()), None) => {}
            (Err(reason), _) => self.fail(change, reason, turn),
        }
    }

    /// Asks for what is due now.
    /// What is `elsewhere`, on another interface, waits until it is gone from there.
    pub(crate) fn advance(
        &mut self,
        desired: &Desired,
        elsewhere: impl Fn(&IpNet) -> bool,
        turn: &mut Turn<'_>,
    ) {
        let now = turn.mono();
        while let Some((at, subject)) = self.retries.first().copied().filter(|(at, _)| *at <= now) {
            self.retries.remove(&(at, subject));
            self.todo.insert(subject);
        }
        let look = self.observe_at <= now;
        if look && !self.observing && self.in_flight.is_empty() {
            self.observing = true;
            self.looked_at = Some(now);
            self.observe_at = now + OBSERVE_INTERVAL;
            turn.push(Output::Observe(self.seat));
        }
        if !look && !self.observing {
            self.dispatch(desired, elsewhere, turn);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let retry = self.retries.first().map(|(at, _)| Deadline { at: *at, why: "retry a change" });
        // While it looks or waits for changes to end, an input comes before any deadline.
        let look = (!self.observing && self.in_flight.is_empty())
            .then_some(Deadline { at: self.observe_at, why: "observe the host" });
        retry.into_iter().chain(look).min()
    }

    /// Hands out changes in the order of work, each when what it needs is there.
    fn dispatch(&mut self, desired: &Desired, elsewhere: impl Fn(&IpNet) -> bool, turn: &mut Turn<'_>) {
        let Some(observed) = &self.observed else { return };
        let mut done = Vec::new();
        for subject in &self.todo {
            if self.in_flight.len() >= IN_FLIGHT_MAX {
                break;
            }
            if self.in_flight.contains_key(subject) || !may_begin(subject, desired, observed) {
                continue;
            }
            let change = change_of(desired, observed, subject);
            if let Some(Change::AddAddress(net) | Change::AddRoute(net)) = &change
                && elsewhere(net)
            {
                continue;
            }
            done.push(*subject);
            if let Some(change) = change {
                self.in_flight.insert(*subject, change.clone());
                turn.push(Output::Apply(self.seat, change));
            }
        }
        for subject in done {
            self.todo.remove(&subject);
            if !self.in_flight.contains_key(&subject) {
                self.pardon(&subject);
            }
        }
    }

    fn fail(&mut self, change: &Change, reason: String, turn: &mut Turn<'_>) {
        let now = turn.mono();
        let subject = change.subject();
        let failure = self.failing.entry(subject).or_insert_with(|| Failure {
            change: change.clone(),
            reason: String::new(),
            backoff: Backoff::new(CHANGE_RETRIES),
            retry_at: now,
        });
        let retry_after = failure.backoff.fail(turn.rng);
        (failure.change, failure.reason, failure.retry_at) =
            (change.clone(), reason.clone(), now + retry_after);
        self.retries.insert((failure.retry_at, subject));
        self.look_at(now);
        turn.event(Event::ChangeFailed { change: change.clone(), reason, retry_after });
    }

    /// Forgets that a subject failed.
    fn pardon(&mut self, subject: &Subject) {
        if let Some(failure) = self.failing.remove(subject) {
            self.retries.remove(&(failure.retry_at, *subject));
        }
    }

    fn look_at(&mut self, at: Mono) {
        let earliest = self.looked_at.map_or(at, |looked| looked + OBSERVE_INTERVAL_MIN);
        self.observe_at = self.observe_at.min(at.max(earliest));
    }

    /// Counts what is needed now and was not before: nobody here asked for it.
    fn count_drift(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        needed: &[Change],
        turn: &mut Turn<'_>,
    ) {
        let Some(before) = &self.observed else { return };
        let is_drift = |change: &&Change| {
            let subject = change.subject();
            change_of(desired, before, &subject).is_none()
                && !self.failing.contains_key(&subject)
                && !only_repoints(change, observed)
        };
        let mut drift = needed.iter().filter(is_drift);
        let Some(first) = drift.next().cloned() else { return };
        let changes = 1 + drift.count() as u64;
        self.drift_total += changes;
        turn.event(Event::Drift { seat: self.seat, changes, first });
    }
}

/// Whether what a subject builds on is there. The others do not wait for it.
fn may_begin(subject: &Subject, desired: &Desired, observed: &Observed) -> bool {
    let interface = observed.interface.as_ref();
    match subject {
        Subject::Device | Subject::Mtu | Subject::Address(_) | Subject::Peer(_) => {
            interface.is_some() || desired.interface.is_none()
        }
        // An interface that is up without its table forwards what it must not.
        Subject::Up => {
            interface.is_some() && (desired.firewall.is_none() || observed.firewall == desired.firewall)
        }
        // A kernel refuses routes through an interface that is down.
        Subject::Route(_) => interface.is_some_and(|i| i.up) || desired.interface.is_none(),
        // Packets of one tenant must not reach another while the firewall is not there.
        Subject::Forwarding => observed.firewall == desired.firewall,
        Subject::Resolver => interface.is_some() || desired.resolver.is_none(),
        // Nor is one that could not be removed left without it.
        Subject::FirewallGone => observed.there().is_none() || desired.interface.is_some(),
        Subject::Firewall | Subject::Interface | Subject::Stray(_) | Subject::InterfaceGone => true,
    }
}

/// Whether a change only sends a peer that does not answer elsewhere: that is no drift.
fn only_repoints(change: &Change, observed: &Observed) -> bool {
    let Change::SetPeer(wanted) = change else { return false };
    let found = observed.interface.as_ref().and_then(|i| i.peers.get(&wanted.key));
    found.is_some_and(|found| found.endpoint.is_some() && same_but_endpoint(wanted, found))
}

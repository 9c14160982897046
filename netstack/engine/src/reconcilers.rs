//! A reconciler for each interface of the node, each with its own wish: what is wrong with one keeps no other waiting. Knows only
//! where they meet: an address or a route is on one of them at a time.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use model::time::Deadline;
use model::{Mono, PublicKey};

use crate::change::{Change, Subject};
use crate::merge::Merge;
use crate::observed::Observed;
use crate::reconciler::Reconciler;
use crate::seat::Seat;
use crate::status::FailingChange;
use crate::turn::Turn;

#[derive(Debug)]
pub(crate) struct Reconcilers {
    /// The public half of the node's key.
    own: PublicKey,
    /// The shared interface's is always among them.
    each: BTreeMap<Seat, Reconciler>,
    /// Of those that are gone.
    drift_before: u64,
}

impl Reconcilers {
    pub(crate) fn new(own: PublicKey) -> Self {
        let shared = Reconciler::new(own, Seat::Shared);
        Self { own, each: BTreeMap::from([(Seat::Shared, shared)]), drift_before: 0 }
    }

    /// No change is left to make on any, as far as is known.
    pub(crate) fn settled(&self) -> bool {
        self.each.values().all(Reconciler::settled)
    }

    pub(crate) fn drift_total(&self) -> u64 {
        self.drift_before + self.each.values().map(Reconciler::drift_total).sum::<u64>()
    }

    /// Why the host cannot be read now.
    pub(crate) fn looks_failed(&self) -> impl Iterator<Item = &str> {
        self.each.values().filter_map(Reconciler::look_failed)
    }

    /// What an interface and what belongs to it are like, as far as is known.
    pub(crate) fn observed(&self, seat: Seat) -> Option<&Observed> {
        self.each.get(&seat)?.observed()
    }

    /// Changes that could not be made, interface by interface, in the order of work.
    pub(crate) fn failing(&self, now: Mono) -> impl Iterator<Item = FailingChange> {
        self.each.values().flat_map(move |each| each.failing(now))
    }

    /// Changes that could not be made, and why.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&Change, &str)> {
        self.each.values().flat_map(Reconciler::failures)
    }

    /// The host has these interfaces of tenants' own, perhaps of a former life: what is not wanted of them goes.
    pub(crate) fn find(&mut self, ports: &BTreeSet<u16>) {
        for port in ports {
            self.begin(Seat::Own(*port));
        }
    }

    /// The host may have changed: look soon.
    pub(crate) fn look_soon(&mut self, now: Mono) {
        self.each.values_mut().for_each(|each| each.look_soon(now));
    }

    /// What is desired about a peer changed: where it is to be, and where it still is.
    pub(crate) fn mark_peer(&mut self, key: &PublicKey, seat: Seat) {
        for (each, reconciler) in &mut self.each {
            if *each == seat || reconciler.is_about(key) {
                reconciler.mark(Subject::Peer(*key));
            }
        }
    }

    /// What is desired changed, perhaps about everything but peers.
    pub(crate) fn mark_all_but_peers(&mut self, merge: &Merge) {
        self.each.iter_mut().for_each(|(seat, each)| each.mark_all_but_peers(merge.desired(*seat)));
    }

    /// What is desired changed all over.
    pub(crate) fn mark_all(&mut self, merge: &Merge) {
        self.each.iter_mut().for_each(|(seat, each)| each.mark_all(merge.desired(*seat)));
    }

    /// Whether a peer on this interface is as it should be, as far as is known.
    pub(crate) fn is_done_with(&self, key: &PublicKey, seat: Seat) -> bool {
        self.each.get(&seat).is_some_and(|each| each.is_done_with(key))
    }

    /// A peer's endpoint was edited: point there, even if the peer answers from where it was.
    pub(crate) fn repoint(&mut self, key: &PublicKey) {
        self.each.values_mut().for_each(|each| each.repoint(key));
    }

    /// Takes what the host says.
    pub(crate) fn take_observed(
        &mut self,
        merge: &Merge,
        seat: Seat,
        result: Result<Observed, String>,
        turn: &mut Turn<'_>,
    ) {
        if let Some(reconciler) = self.each.get_mut(&seat) {
            reconciler.take_observed(merge.desired(seat), result, turn);
        }
    }

    /// Takes the outcome of a change.
    pub(crate) fn take_applied(
        &mut self,
        merge: &Merge,
        seat: Seat,
        change: &Change,
        result: Result<(), String>,
        turn: &mut Turn<'_>,
    ) {
        if let Some(reconciler) = self.each.get_mut(&seat) {
            reconciler.take_applied(merge.desired(seat), change, result, turn);
        }
    }

    /// Asks for what is due now.
    pub(crate) fn advance(&mut self, merge: &Merge, turn: &mut Turn<'_>) {
        merge.seats().for_each(|seat| self.begin(seat));
        let seats: Vec<Seat> = self.each.keys().copied().collect();
        for seat in seats {
            let Some(mut reconciler) = self.each.remove(&seat) else { continue };
            if seat != Seat::Shared && !merge.seats().any(|wanted| wanted == seat) && reconciler.is_over() {
                self.drift_before += reconciler.drift_total();
                continue;
            }
            let elsewhere = |net: &IpNet| self.each.values().any(|other| other.may_have_net(net));
            reconciler.advance(merge.desired(seat), elsewhere, turn);
            self.each.insert(seat, reconciler);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.each.values().filter_map(Reconciler::deadline).min()
    }

    fn begin(&mut self, seat: Seat) {
        let own = self.own;
        self.each.entry(seat).or_insert_with(|| Reconciler::new(own, seat));
    }
}

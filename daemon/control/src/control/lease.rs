//! What holding the lease means here: this replica's hub is the hub of every tenant, and is told for how long.

use model::wire::{Heard, HubLease};
use model::{NodeId, Now};

use super::Control;
use crate::lease::{LeaseWord, Term};

impl Control {
    /// The term in which this replica may act as the hub's server. `Ok(None)`: there is no lease to hold.
    pub(super) fn leads(&self, now: Now) -> Result<Option<Term>, NotLeading> {
        if !self.config.leased {
            return Ok(None);
        }
        self.lease.held(now).map(Some).ok_or(NotLeading)
    }

    pub(super) fn on_lease(&mut self, word: LeaseWord, now: Now) {
        let before = std::mem::replace(&mut self.lease, word).held(now);
        let held = word.held(now);
        self.publisher.hub_is_elsewhere(held.is_none());
        self.point_hubs(now);
        match (before, held) {
            (None, Some(_)) => self.state_hub_keys(now),
            (Some(_), None) => self.dismiss_hub(now),
            (Some(_) | None, _) => {}
        }
    }

    /// What an answer to the hub's heartbeat says of the lease.
    pub(super) fn lease_for(&self, node: NodeId, now: Now) -> Option<HubLease> {
        if node != NodeId::Hub || !self.config.leased {
            return None;
        }
        let lasts = self.lease.held_until.map(|until| until.since(now.mono));
        let lasts_millis = u32::try_from(lasts.unwrap_or_default().as_millis()).unwrap_or(u32::MAX);
        Some(HubLease { term: self.lease.term.0, lasts_millis })
    }

    /// The hub stands by at once, though its lease may last for a while.
    fn dismiss_hub(&mut self, now: Now) {
        let Some(link) = self.hub.as_ref().map(|hub| hub.link) else { return };
        if let Some(lease) = self.lease_for(NodeId::Hub, now) {
            let lease = Some(HubLease { lasts_millis: 0, ..lease });
            self.send(link, Heard { sequence: 0, lease });
        }
    }
}

/// Another replica is the hub's server now, or nobody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotLeading;

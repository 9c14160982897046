//! Whether a hub acts, where it is one of several: for as long as its server says that it holds the lease. A hub that
//! was never told of a lease is the only one.
//!
//! The time is counted from when the hub asked, by its own clock: whichever of the two processes is stopped in between,
//! the hub stands by before another may begin. What it held stays in its ledger, and it goes on taking snapshots: when
//! its turn comes, all is there.

use std::time::Duration;

use model::wire::Heard;

use crate::config::Role;
use crate::event::Event;
use crate::turn::Turn;

use super::Machines;

impl Machines {
    /// The server answers a heartbeat.
    pub(super) fn heard(&mut self, heard: &Heard, turn: &mut Turn<'_>) {
        if let Some(sent_at) = self.pulse.sent_at(heard.sequence) {
            self.session.answered(sent_at);
        }
        if !matches!(self.config.role, Role::Hub { .. }) {
            return;
        }
        let term = heard.lease.map(|lease| lease.term);
        // Without a lease the server is the only one, whatever it was before.
        if term.is_some_and(|term| self.ledger.hub_term.is_some_and(|seen| term < seen)) {
            return;
        }
        if self.ledger.hub_term != term {
            self.ledger.hub_term = term;
            self.saver.touch();
        }
        if let Some(lease) = heard.lease {
            let lasts = Duration::from_millis(lease.lasts_millis.into());
            match self.pulse.sent_at(heard.sequence) {
                _ if lasts.is_zero() => self.leads_until = None,
                Some(asked_at) => self.leads_until = self.leads_until.max(Some(asked_at + lasts)),
                None => {}
            }
        }
        self.weigh_part(turn);
    }

    /// Begins or ends to take part, if it is time.
    pub(super) fn weigh_part(&mut self, turn: &mut Turn<'_>) {
        self.leads_until = self.leads_until.filter(|until| *until > turn.mono());
        let acts = self.ledger.hub_term.is_none() || self.leads_until.is_some();
        let up = self.ledger.up && acts;
        if up == self.merge.is_up() {
            return;
        }
        self.take_part(up, turn);
        if let Some(term) = self.ledger.hub_term {
            turn.event(if up { Event::Leads { term } } else { Event::StandsBy { term } });
        }
    }
}

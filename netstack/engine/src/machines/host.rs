//! The host's side of a node: what snapshots, observations and answers mean for interface, peers and names.

use std::net::SocketAddr;

use model::{Endpoint, TenantId};

use crate::config::Role;
use crate::event::Event;
use crate::ledger::{Accepted, Delta};
use crate::merge::Touched;
use crate::observed::Observed;
use crate::output::Output;
use crate::seat::Seat;
use crate::turn::Turn;

use super::Machines;

impl Machines {
    /// Puts an accepted snapshot in force.
    pub(super) fn adopt(&mut self, accepted: Accepted, turn: &mut Turn<'_>) {
        let (tenant, held) = (accepted.tenant(), accepted.held());
        match accepted.into_delta() {
            Delta::Nothing => return,
            Delta::Whole | Delta::Patch { own: true, .. } => self.take_tenant(tenant, turn),
            Delta::Patch { own: false, peers, zone, ssh } => {
                for key in &peers {
                    let touched = self.merge.take_peer(tenant, key, &self.ledger, &self.endpoints);
                    self.touched(&touched, turn);
                }
                self.want_endpoints(turn);
                let aliases = self.ssh.minds(&zone);
                let update = self.names.patch(tenant, held, zone);
                turn.out.extend(update.map(Output::Names));
                if ssh || aliases {
                    self.tell_ssh(tenant, turn);
                }
            }
        }
        let standing = self.ledger.snapshot(tenant).map(|snapshot| snapshot.own.standing);
        if let Some(standing) = standing {
            turn.event(Event::Accepted { tenant, version: held.version, standing });
        }
        self.session.set_revoked(self.is_revoked(), turn.mono());
    }

    /// Puts all of a tenant in force, or takes it down if nothing of it is held.
    pub(super) fn take_tenant(&mut self, tenant: TenantId, turn: &mut Turn<'_>) {
        for touched in self.merge.take_tenant(tenant, &self.ledger, &self.endpoints) {
            self.touched(&touched, turn);
        }
        self.want_endpoints(turn);
        self.reconcilers.mark_all_but_peers(&self.merge);
        self.weigh_removals();
        let update = match self.ledger.held(tenant).zip(self.ledger.snapshot(tenant)) {
            Some((held, snapshot)) if self.merge.is_up() => self.names.whole(tenant, held, snapshot),
            Some(_) | None => self.names.gone(tenant),
        };
        turn.out.extend(update.map(Output::Names));
        self.point_relays(turn);
        self.tell_ssh(tenant, turn);
    }

    /// What a device's own sshd and ssh are to be like. They stay as they are while the interface is down.
    fn tell_ssh(&mut self, tenant: TenantId, turn: &mut Turn<'_>) {
        if matches!(self.config.role, Role::Device { .. }) {
            let held = self.ledger.snapshot(tenant).zip(self.ledger.held(tenant));
            let output = self.ssh.take(held.map(|(snapshot, held)| (snapshot, held.version)));
            turn.push(Output::Ssh(output));
        }
    }

    pub(super) fn set_up(&mut self, up: bool, turn: &mut Turn<'_>) {
        if self.ledger.up != up {
            self.ledger.up = up;
            self.saver.touch();
            self.weigh_part(turn);
        }
    }

    /// Puts all in force that is held, or takes all of it down.
    pub(super) fn take_part(&mut self, up: bool, turn: &mut Turn<'_>) {
        self.merge.set_up(up);
        self.want_endpoints(turn);
        self.reconcilers.mark_all(&self.merge);
        self.point_all_paths(turn);
        self.point_relays(turn);
        if up {
            let holdings = self.ledger.holdings();
            let updates = holdings.filter_map(|(tenant, held, s)| self.names.whole(tenant, held, s));
            turn.out.extend(updates.map(Output::Names));
        } else {
            turn.out.extend(self.names.all_gone().map(Output::Names));
        }
    }

    pub(super) fn observed(&mut self, seat: Seat, result: Result<Observed, String>, turn: &mut Turn<'_>) {
        self.reconcilers.take_observed(&self.merge, seat, result, turn);
        let interface = self.reconcilers.observed(seat).and_then(|o| o.interface.as_ref());
        let stale = interface.into_iter().flat_map(|i| &i.peers).filter(|(_, peer)| peer.stale);
        for (key, _) in stale {
            if let Some(endpoint) = self.merge.endpoint_of(key) {
                self.endpoints.doubt(endpoint, turn.mono());
            }
        }
    }

    pub(super) fn resolved(&mut self, endpoint: &Endpoint, address: Option<SocketAddr>, turn: &mut Turn<'_>) {
        if !self.endpoints.take_resolved(endpoint, address, turn) {
            return;
        }
        let Some(address) = address else { return };
        self.ledger.addresses.insert(endpoint.clone(), address);
        self.saver.touch();
        for key in self.merge.peers_at(endpoint) {
            self.merge.point(&key, address, &self.ledger);
            self.reconcilers.mark_peer(&key, self.merge.seat_of(&key));
        }
    }

    /// Says anew what snapshots speak of: what they do not speak of is not removed.
    pub(super) fn weigh_removals(&mut self) {
        let spoken_for = self.ledger.spoken_for(matches!(self.config.role, Role::Hub { .. }));
        if self.merge.set_spoken_for(spoken_for) {
            self.reconcilers.mark_all(&self.merge);
        }
    }

    pub(super) fn touched(&mut self, touched: &Touched, turn: &mut Turn<'_>) {
        if touched.repoint {
            self.reconcilers.repoint(&touched.key);
        }
        self.reconcilers.mark_peer(&touched.key, self.merge.seat_of(&touched.key));
        self.point_paths(&touched.key, turn);
        if let Some(event) = &touched.event {
            turn.event(event.clone());
        }
    }

    /// Has the endpoints resolved that snapshots name, and forgets where others were.
    fn want_endpoints(&mut self, turn: &Turn<'_>) {
        let wanted = self.merge.named();
        self.endpoints.want(&wanted, &self.ledger.addresses, turn.mono());
        if self.merge.is_up() {
            self.ledger.addresses.retain(|endpoint, _| wanted.contains(endpoint));
        }
    }
}

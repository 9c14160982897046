//! The paths' side of a node: which peers there are, and what a way means for hints and for the host.

use model::limits::RELAYS_MAX;
use model::relay::{HUB, RelayPass};
use model::wire::{Hint, Hinted, Services};
use model::{NodeId, PublicKey, Signed, TenantId};

use crate::output::Output;
use crate::paths::{PathInput, PathOutput, Paths, RelayId, Way};
use crate::seat::Seat;
use crate::turn::Turn;

use super::Machines;

impl Machines {
    /// What the shell tells of paths.
    pub(super) fn take_path(&mut self, input: PathInput, turn: &mut Turn<'_>) {
        if input == PathInput::Moved {
            self.session.moved(turn);
            if self.session.is_attached() {
                self.session.ask(self.pulse.ask(turn.mono()));
            }
        }
        self.path(input, turn);
    }

    fn path(&mut self, input: PathInput, turn: &Turn<'_>) {
        if let Some(paths) = &mut self.paths {
            paths.handle(input, turn.mono());
        }
    }

    pub(super) fn hinted(&mut self, hinted: Hinted, turn: &Turn<'_>) {
        self.path(PathInput::Hinted { from: hinted.from, sealed: hinted.sealed }, turn);
    }

    /// Tells the paths what became of a peer.
    pub(super) fn point_paths(&mut self, key: &PublicKey, turn: &mut Turn<'_>) {
        let peer = self.merge.peer(key, &self.ledger).filter(|_| self.merge.is_up());
        let device = peer.and_then(|peer| match peer.node {
            // A peer with a fixed place needs no path.
            NodeId::Device(device) => peer.endpoint.is_none().then_some(device),
            NodeId::Hub => None,
        });
        let over_link = peer.is_some_and(|peer| self.merge.is_over_link(peer));
        // Elsewhere the paths say what is left to the hub.
        if !self.steers && self.paths.is_some() {
            self.leave_to_hub(key, device.is_some());
        }
        self.path(PathInput::Peer { key: *key, device: device.filter(|_| self.steers) }, turn);
        self.lead_over_link(key, over_link, turn);
    }

    /// Leads the packets of a peer, the hub, over the link to the server, or no longer. There is one such peer at most.
    fn lead_over_link(&mut self, key: &PublicKey, over_link: bool, turn: &mut Turn<'_>) {
        if (self.led_over_link == Some(*key)) == over_link {
            return;
        }
        let before = std::mem::replace(&mut self.led_over_link, over_link.then_some(*key));
        let end = before.map(|key| PathOutput::Peer { key, device: None });
        let begin = over_link.then_some([
            PathOutput::Peer { key: *key, device: Some(HUB) },
            PathOutput::Steer { peer: *key, way: Way::Relayed(RelayId::SERVER) },
        ]);
        end.into_iter().chain(begin.into_iter().flatten()).for_each(|output| turn.push(Output::Path(output)));
    }

    /// The host's WireGuard can be steered from now on, or cannot.
    pub(super) fn set_steers(&mut self, steers: bool, turn: &mut Turn<'_>) {
        if self.paths.is_none() || std::mem::replace(&mut self.steers, steers) == steers {
            return;
        }
        for key in self.merge.keys() {
            self.leave_to_hub(&key, false);
            self.point_paths(&key, turn);
        }
    }

    fn leave_to_hub(&mut self, key: &PublicKey, leave: bool) {
        if self.merge.leave_to_hub(key, leave, &self.ledger) {
            self.reconcilers.mark_peer(key, Seat::Shared);
        }
    }

    /// Tells the paths of all peers: the node takes part again, or no longer.
    pub(super) fn point_all_paths(&mut self, turn: &mut Turn<'_>) {
        for key in self.merge.keys() {
            self.point_paths(&key, turn);
        }
    }

    /// What the server does for paths.
    pub(super) fn take_services(&mut self, services: Services, turn: &mut Turn<'_>) {
        turn.push(Output::Path(PathOutput::StunAt(services.stun)));
        self.server_leads_to_hub = services.leads_to_hub;
        self.take_pass(services.pass, turn);
    }

    /// Keeps a pass, and hands it on.
    fn take_pass(&mut self, pass: Option<Signed<RelayPass>>, turn: &mut Turn<'_>) {
        if self.paths.is_some() && pass.is_some() && pass != self.ledger.pass {
            self.ledger.pass = pass;
            self.saver.touch();
            self.show_pass(turn);
        }
    }

    /// Hands the pass on that is kept.
    pub(super) fn show_pass(&self, turn: &mut Turn<'_>) {
        if let (Some(pass), Some(enrolment)) = (self.ledger.pass.clone(), self.ledger.enrolment) {
            turn.push(Output::Path(PathOutput::Pass { pass, anchor: enrolment.anchor }));
        }
    }

    /// Tells which relays there are on other machines, if that is news.
    pub(super) fn point_relays(&mut self, turn: &mut Turn<'_>) {
        if self.paths.is_none() {
            return;
        }
        let mut named = self.ledger.holdings().filter(|_| self.merge.is_up());
        let mut places = named.find_map(|(_, _, snapshot)| snapshot.own.relays.clone()).unwrap_or_default();
        places.truncate(RELAYS_MAX);
        if places != self.places {
            self.places.clone_from(&places);
            turn.push(Output::Path(PathOutput::Places(places)));
        }
    }

    /// Takes the next step of a greeting once the host is as this one wants it. Says whether there was one.
    pub(super) fn go_on_greeting(&mut self, turn: &mut Turn<'_>) -> bool {
        if !self.merge.greeted().is_some_and(|hub| self.reconcilers.is_done_with(&hub, Seat::Shared)) {
            return false;
        }
        let next = self.merge.go_on_greeting(&self.ledger);
        next.inspect(|(tenant, hub)| self.take_anew(*tenant, hub, turn)).is_some()
    }

    fn take_anew(&mut self, tenant: TenantId, key: &PublicKey, turn: &mut Turn<'_>) {
        let touched = self.merge.take_peer(tenant, key, &self.ledger, &self.endpoints);
        self.touched(&touched, turn);
    }

    /// Does what is due, and gives out what the paths want.
    pub(super) fn advance_paths(&mut self, turn: &mut Turn<'_>) {
        let Some(paths) = &mut self.paths else { return };
        if paths.poll_timeout().is_some_and(|deadline| deadline.at <= turn.now.mono) {
            paths.handle_timeout(turn.now.mono);
        }
        while let Some(output) = self.paths.as_mut().and_then(|paths| paths.poll_output()) {
            match output {
                PathOutput::Hint { to, ref sealed, over_relays } if self.session.is_attached() => {
                    turn.push(Output::Send(Hint { to, sealed: sealed.clone() }.into()));
                    if over_relays || self.session.is_asking() {
                        turn.push(Output::Path(output));
                    }
                }
                PathOutput::Steer { peer, way } => {
                    self.leave_to_hub(&peer, way == Way::ViaHub);
                    turn.push(Output::Path(output));
                }
                _ => turn.push(Output::Path(output)),
            }
        }
        let blocked = self.paths.as_ref().is_some_and(|paths| paths.hub_over_link(turn.mono()).is_some());
        let over_link = self.steers && self.server_leads_to_hub && blocked;
        for (tenant, key) in self.merge.set_hub_over_link(over_link, &self.ledger) {
            self.merge.greet(&key, &self.ledger);
            self.take_anew(tenant, &key, turn);
        }
        let learnt = self.paths.as_ref().and_then(Paths::keepalive);
        for key in self.merge.set_keepalive(learnt, &self.ledger) {
            self.reconcilers.mark_peer(&key, Seat::Shared);
        }
    }
}

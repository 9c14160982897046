//! Hints to and from one peer: where each may be reached, and by what the other understands its pings. Pings nobody.

use std::net::SocketAddr;

use model::Mono;
use rand_core::Rng as _;

use super::{Around, HINT_INTERVAL, Peer, ROUTES_MAX, Search, Wish};
use crate::paths::address::{CandidateKind, Mapping, canonical, may_be_reached};
use crate::paths::guess::guesses;
use crate::paths::packet::{HintBody, HintPacket, OWN_PROBE_BYTES_MAX};
use crate::paths::route::Route;
use crate::paths::seal::HINT_NONCE_BYTES;
use crate::paths::session::Worth;
use crate::paths::{RelayId, Way};

impl Peer {
    /// Takes a hint, and says what it was worth. `None`: it is not the peer's.
    pub(in crate::paths) fn take_hint(
        &mut self,
        packet: &HintPacket<'_>,
        by_relay: bool,
        now: Mono,
    ) -> Option<Worth> {
        let (worth, body) = self.session.open_hint(packet)?;
        // A copy of one that was raced says nothing of the link.
        if worth != Worth::Nothing {
            self.hint_by_relay = by_relay;
        }
        match worth {
            Worth::Nothing => {}
            Worth::Unproven => self.hint_due = true,
            Worth::News => {
                self.hint_taken = true;
                self.hint_due |= self.session.owes_hint();
                self.relay = body.relay.map(RelayId);
                self.mapping = body.mapping;
                self.answers_long = body.probe_bytes_max.is_some_and(|max| max >= OWN_PROBE_BYTES_MAX);
                self.take_candidates(&body);
                if self.way == Way::ViaHub {
                    // It may be talked to: what the hub carries is not counted.
                    self.traffic_at = now;
                }
                let seen = body.candidates.iter().filter(|c| c.kind == CandidateKind::Reflexive);
                let seen: Vec<SocketAddr> = seen.map(|c| canonical(c.address)).collect();
                let counts = self.mapping == Some(Mapping::PortDependent);
                self.guesses = if counts { guesses(&seen) } else { Vec::new() };
                self.birthday.hinted(&body, &seen);
                if self.search.is_none() && !matches!(self.way, Way::Direct(_)) {
                    // It looks for us: our packets must open our NAT for its.
                    self.search = Some(Search { since: now, step: 0 });
                } else if let Some(search) = &mut self.search {
                    (search.since, search.step) = (now, 0);
                }
            }
        }
        Some(worth)
    }

    fn take_candidates(&mut self, body: &HintBody) {
        let listed = |address: &SocketAddr| body.candidates.iter().any(|c| canonical(c.address) == *address);
        let keeps = |address: &SocketAddr, route: &Route| route.is_trusted() || self.birthday.keeps(*address);
        self.routes.retain(|address, route| listed(address) || keeps(address, route));
        for advert in &body.candidates {
            let address = canonical(advert.address);
            if may_be_reached(address) && self.routes.len() < ROUTES_MAX {
                self.routes.entry(address).or_insert_with(|| Route::new(advert.kind));
            }
        }
        self.routes.values_mut().for_each(|route| route.set_answers_long(self.answers_long));
    }

    /// When the next hint may go. One that the peer needs to understand our pings is not made to wait.
    pub(super) fn hint_at(&self, now: Mono) -> Mono {
        let hurries = self.session.owes_hint() && !self.hint_hurried;
        let sent = self.hint_sent.filter(|_| !hurries);
        sent.map_or(now, |(at, _)| at + HINT_INTERVAL)
    }

    pub(super) fn send_hint(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        let now = around.now;
        let is_searching = self.search.is_some();
        let is_old = self.hint_sent.is_some_and(|(_, version)| version != around.hint_version);
        let asks_again = self.left_ask_interval(now).filter(|_| !is_searching);
        let is_due = |interval| self.hint_sent.is_none_or(|(at, _)| now.since(at) >= interval);
        self.hint_due |= (is_searching && is_old) || asks_again.is_some_and(is_due);
        if self.hint_due && self.hint_at(now) <= now {
            self.hint_due = false;
            self.hint_hurried = self.hint_sent.is_some_and(|(at, _)| now.since(at) < HINT_INTERVAL);
            self.hint_sent = Some((now, around.hint_version));
            let mut nonce = [0; HINT_NONCE_BYTES];
            around.rng.fill_bytes(&mut nonce);
            let over_relays = self.races || self.hint_by_relay || self.way == Way::ViaHub;
            let hint = HintBody { sides: self.birthday.round(), ..around.hint.clone() };
            let sealed = self.session.seal_hint(hint, nonce);
            wishes.push(Wish::Hint { sealed, over_relays });
        }
    }
}

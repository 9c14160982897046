//! How a link ends: refused, sent away for a while, closed, or all of them at a stop.

use std::time::Duration;

use model::wire::frame::{Refused, Retry};
use model::{Code, NodeId, Now, Refusal, TenantId};

use super::Control;
use crate::event::Event;
use crate::io::Output;
use crate::limits::{DRAIN_SPREAD_MAX, DRAIN_SPREAD_PER_LINK, RETRY_AFTER};
use crate::link::{LinkId, Origin};
use crate::session::Stage;

impl Control {
    /// A refusal that passes is told as a retry.
    pub(super) fn refuse_link(&mut self, link: LinkId, refusal: Refusal) {
        let Some(session) = self.sessions.get(&link) else { return };
        let passes = [Code::StoreUnavailable, Code::RateLimited, Code::Conflict, Code::Draining];
        if passes.contains(&refusal.code) {
            return self.retry(link, RETRY_AFTER);
        }
        self.out.counters.links_refused += 1;
        let from = match session.from {
            Origin::Hub => None,
            Origin::Network(address) => Some(address),
        };
        self.out.event(Event::LinkRefused { link, from, refusal: refusal.clone() });
        self.send(link, Refused { refusal });
        self.close(link, "refused");
    }

    pub(super) fn retry(&mut self, link: LinkId, within: Duration) {
        let after = self.dice.jittered(within);
        self.send_away(link, after);
    }

    fn send_away(&mut self, link: LinkId, after: Duration) {
        self.send(link, Retry { after_millis: u32::try_from(after.as_millis()).unwrap_or(u32::MAX) });
        self.close(link, "sent away for a while");
    }

    pub(super) fn close(&mut self, link: LinkId, why: &'static str) {
        if self.sessions.contains_key(&link) {
            self.out.push(Output::Close { link });
            self.forget(link, why);
        }
    }

    pub(super) fn forget(&mut self, link: LinkId, why: &'static str) {
        let Some(session) = self.sessions.remove(&link) else { return };
        self.wakes.remove(&(session.wake_at, link));
        self.publisher.unsubscribe(link);
        if session.admitted {
            self.out.push(Output::Dismiss { link });
        }
        if !session.is_attached() {
            self.half_open.end(session.from);
        }
        if let Stage::Attached { node, .. } = session.stage {
            self.out.event(Event::Detached { link, node, why });
            match node {
                NodeId::Device(device) => self.presences.detach(device, link),
                NodeId::Hub if self.hub.as_ref().is_some_and(|hub| hub.link == link) => self.hub = None,
                NodeId::Hub => {}
            }
        }
    }

    /// Sends away whoever is of a tenant that there is no more, and the hub, which is told anew whom it carries.
    pub(super) fn send_away_of(&mut self, tenant: TenantId) {
        let links = self.sessions.iter().filter_map(|(link, session)| match session.stage {
            Stage::Attached { tenant: theirs, node: NodeId::Device(_) } if theirs == Some(tenant) => {
                Some(*link)
            }
            _ => None,
        });
        let hub = self.hub.as_ref().map(|hub| hub.link);
        for link in links.chain(hub).collect::<Vec<_>>() {
            self.retry(link, RETRY_AFTER);
        }
    }

    /// Every node is sent away; the more there are, the wider their return is spread.
    pub(super) fn on_drain(&mut self, now: Now) {
        self.draining = true;
        self.refuse_waiting(now);
        let links: Vec<LinkId> = self.sessions.keys().copied().collect();
        let count = u32::try_from(links.len()).unwrap_or(u32::MAX);
        let spread = DRAIN_SPREAD_PER_LINK.saturating_mul(count).clamp(RETRY_AFTER, DRAIN_SPREAD_MAX);
        for link in links {
            let after = self.dice.between(RETRY_AFTER / 2, spread);
            self.send_away(link, after);
        }
        self.save_presence();
        self.save_installed();
    }
}

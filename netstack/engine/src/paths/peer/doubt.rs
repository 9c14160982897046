//! Doubt in the direct path that carries a peer's packets: when it is asked before its time, and when packets go over a relay as well.
//! Ends no trust.
//!
//! ```text
//! packets go, nothing is heard ──▶ asked at once ── no answer in time ──▶ packets go both ways ──▶ answered: directly alone
//!      every 400 ms in any case ──────▲   ▲                                   ▲    └── nor to the next: over the relay alone
//!                                         └── the peer asks over a relay ─────┘
//! ```
//!
//! Who gets a packet twice drops it (WireGuard paper, section 5.4.6), so that doubt without cause costs bytes and nothing else:
//! neither a relay that is dead nor a path whose answers come late loses a packet by it.

use std::time::Duration;

use model::Mono;
use rand_core::Rng as _;

use super::ask::ping;
use super::{Around, Peer, RELAY_PING_INTERVAL, Wish};
use crate::paths::pace::Stretch;
use crate::paths::route::Route;
use crate::paths::{CLOSE_COUNT_INTERVAL, RelayId, Way};

/// Silence is packets that went at one count and nothing that came by the next, which may come a little early.
const SILENCE_MIN: Duration = CLOSE_COUNT_INTERVAL.saturating_sub(Duration::from_millis(10));
/// Silence asks no more often: packets may go one way for hours.
pub(super) const SILENCE_ASK_INTERVAL: Duration = Duration::from_millis(90);

/// See the top of the file.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Counts come too seldom to tell silence.
    is_untold: bool,
    /// They come often.
    is_close: bool,
    /// When packets were counted since which nothing was heard.
    unheard_since: Option<Mono>,
    /// When the peer asked over a relay, which it does not need to: it doubts. Or when another path ended, and this one took its place.
    warned_at: Option<Mono>,
    /// Packets go over this relay as well.
    over: Option<RelayId>,
}

impl Doubt {
    /// Whether silence is told at once.
    pub(super) const fn is_told_soon(&self) -> bool {
        !self.is_untold
    }

    pub(super) const fn is_close(&self) -> bool {
        self.is_close
    }

    /// What a count says. Answers whether the peer is to be looked at: pings do that often enough where counts are close.
    pub(super) fn counted(&mut self, went: bool, came: bool, now: Mono) -> bool {
        if came {
            self.unheard_since = None;
        } else if went {
            self.unheard_since.get_or_insert(now);
        }
        !self.is_close || self.is_silent(now)
    }

    pub(super) fn is_silent(&self, now: Mono) -> bool {
        self.is_close && self.unheard_since.is_some_and(|at| now.since(at) >= SILENCE_MIN)
    }

    /// There is another reason to doubt than silence.
    pub(super) const fn warned(&mut self, now: Mono) {
        self.warned_at = Some(now);
    }

    /// The path answered what it was asked then.
    pub(super) fn answered(&mut self, asked_at: Mono) {
        self.unheard_since = None;
        self.warned_at = self.warned_at.filter(|at| *at > asked_at);
    }

    /// Whether the path is asked before its time.
    pub(super) fn asks(&self, route: &Route, stretch: Stretch, now: Mono) -> bool {
        let is_warned = self.warned_at.is_some_and(|at| route.next(Duration::ZERO) < at);
        let is_silent =
            self.is_silent(now) && route.is_idle() && route.next(stretch.of(SILENCE_ASK_INTERVAL)) <= now;
        is_warned || is_silent
    }
}

impl Peer {
    /// Sends both ways while it is not known whether the path in use lives, and says when its silence is to be told.
    pub(super) fn doubt(&mut self, around: &mut Around<'_>, wishes: &mut Vec<Wish>) {
        let now = around.now;
        let in_use = match self.way {
            Way::Direct(address) => self.routes.get(&address),
            Way::Relayed(_) | Way::ViaHub => None,
        };
        if in_use.is_none() {
            (self.doubt.unheard_since, self.doubt.warned_at) = (None, None);
        }
        self.doubt.is_untold = !around.counts_closely;
        let close = in_use.is_some() && around.counts_closely && self.is_lively(now);
        if close != self.doubt.is_close {
            self.doubt.is_close = close;
            wishes.push(Wish::Closely(close));
        }
        let is_missed = in_use.is_some_and(|route| !route.is_sure());
        let doubts = is_missed || self.doubt.warned_at.is_some();
        let over = self.over.current().filter(|_| doubts);
        if over == self.doubt.over {
            return;
        }
        let begins = self.doubt.over.is_none();
        self.doubt.over = over;
        wishes.push(Wish::Double(over));
        // Whether the relay lives is known soon then. And the peer hears that we doubt: it may be that its own packets alone are lost, of
        // which it has no other sign. Who was warned has heard it from the peer, mostly, and would warn it in turn: it asks a relay that it did not
        // ask for long.
        if let Some(relay) = over.filter(|_| begins)
            && let Some(route) = self.over.of(relay)
            && (is_missed || route.next(RELAY_PING_INTERVAL) <= now)
        {
            let number = around.rng.next_u64();
            ping(route, None, relay, &mut self.session, now, number, wishes);
        }
    }
}

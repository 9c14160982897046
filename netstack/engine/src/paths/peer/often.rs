//! How often the direct paths to one peer are asked whether they live. Asks nobody.

use std::time::Duration;

use model::Mono;

use super::doubt::SILENCE_ASK_INTERVAL;
use super::{Around, Peer};
use crate::paths::Way;
use crate::paths::pace::{Rate, told};

/// A direct path that carries packets is asked so often whether it lives, and at once where packets go and nothing is heard: a path
/// that ends loses less than that of packets. Where there are many, less often: see `pace`.
const PING_INTERVAL: Duration = Duration::from_millis(400);
/// And so often where the shell cannot tell soon that nothing is heard: with the 100 ms and more in which an answer is waited for, that
/// is less than the same.
const PING_UNTOLD_INTERVAL: Duration = Duration::from_millis(200);
/// And so often where a few seconds passed without packets.
pub(super) const PING_QUIET_INTERVAL: Duration = Duration::from_secs(1);
pub(super) const LIVELY: Duration = Duration::from_secs(3);

impl Peer {
    pub(super) fn is_lively(&self, now: Mono) -> bool {
        now.since(self.traffic_at) < LIVELY
    }

    /// How often the direct path in use is asked whether it lives.
    pub(super) fn ping_interval(&self, now: Mono) -> Duration {
        self.pace.stretch().of(self.ping_interval_alone(now))
    }

    /// The same if there are few.
    fn ping_interval_alone(&self, now: Mono) -> Duration {
        match self.is_lively(now) {
            true if self.doubt.is_told_soon() => PING_INTERVAL,
            true => PING_UNTOLD_INTERVAL,
            false => PING_QUIET_INTERVAL,
        }
    }

    /// What the peer's direct paths bring in, before and from now on. The probes that are sent from now on say it.
    pub(in crate::paths) fn count_load(&mut self, around: &Around<'_>) -> (Rate, Rate) {
        let now = around.now;
        let rate = match self.way {
            Way::Direct(_) if self.is_busy(now) => {
                let often = if self.doubt.is_silent(now) {
                    SILENCE_ASK_INTERVAL
                } else {
                    self.ping_interval_alone(now)
                };
                let others = self.routes.values().filter(|route| route.is_alive());
                others.fold(Rate::every(often), |rate, _| rate.and(Rate::SELDOM))
            }
            _ => Rate::default(),
        };
        self.session.tell(told(rate, around.stretch));
        self.pace.count(rate, self.session.told())
    }

    /// As it was counted last.
    pub(in crate::paths) const fn load(&self) -> Rate {
        self.pace.load()
    }
}

//! How often somebody may ask: a limiter for each kind of request, with a pace for each who asks. Knows no HTTP and no link.
//!
//! The capacity is what may come in a minute, at once or spread. Whoever administers on the server's own socket is not
//! limited.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Args;
use control::Actor;
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use link::listening::network_of;
use model::id::{ApiTokenId, UserId};
use prometheus_client::metrics::counter::Counter;

use crate::metrics::Metrics;

/// Who is kept apart by one limiter: some megabytes. Beyond, strangers share one pace.
const KEYS_MAX: usize = 65_536;
/// Strangers who may write as many refusals into the audit log as one may: an attacker has as many addresses as it likes, and one
/// address alone silences no other.
const STRANGERS: NonZeroU32 = NonZeroU32::new(16).expect("not zero");
/// How often those are looked for, at most, who need not be kept apart any more: that walks over all.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How many requests of each kind one who asks may make in a minute.
#[derive(Debug, Clone, Args)]
pub struct Capacities {
    /// Logins and unknown tokens of one address in a minute.
    #[arg(long, env = "WARREN_RATELIMIT_LOGIN_CAPACITY", default_value = "30")]
    pub ratelimit_login_capacity: NonZeroU32,
    /// Enrolments from one address in a minute.
    #[arg(long, env = "WARREN_RATELIMIT_REGISTRATION_CAPACITY", default_value = "3000")]
    pub ratelimit_registration_capacity: NonZeroU32,
    /// Heartbeats of one link in a minute.
    #[arg(long, env = "WARREN_RATELIMIT_HEARTBEAT_CAPACITY", default_value = "120")]
    pub ratelimit_heartbeat_capacity: NonZeroU32,
    /// Certificates of one person in a minute.
    #[arg(long, env = "WARREN_RATELIMIT_SIGNING_CAPACITY", default_value = "60")]
    pub ratelimit_signing_capacity: NonZeroU32,
    /// Other requests of one person, token or unknown address in a minute.
    #[arg(long, env = "WARREN_RATELIMIT_API_CAPACITY", default_value = "1200")]
    pub ratelimit_api_capacity: NonZeroU32,
    /// Refusals of one person, token, device or unknown address that become entries of the audit log in a minute; of all unknown
    /// addresses together there are sixteen times as many.
    #[arg(long, env = "WARREN_RATELIMIT_AUDIT_CAPACITY", default_value = "30")]
    pub ratelimit_audit_capacity: NonZeroU32,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Logins.
    Login,
    /// Enrolments.
    Registration,
    /// Heartbeats.
    Heartbeat,
    /// Certificates.
    Signing,
    /// Everything else that is asked over HTTP.
    Api,
    /// Entries of the audit log about refusals.
    Audit,
    /// Those about strangers, of all together.
    Strangers,
}

impl Limit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Login,
        Self::Registration,
        Self::Heartbeat,
        Self::Signing,
        Self::Api,
        Self::Audit,
        Self::Strangers,
    ];

    /// As the metric and the settings call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Registration => "registration",
            Self::Heartbeat => "heartbeat",
            Self::Signing => "signing",
            Self::Api => "api",
            Self::Audit | Self::Strangers => "audit",
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asker {
    /// Somebody at an address; all of an IPv6 /64 are one.
    Address(IpAddr),
    /// A person.
    User(UserId),
    /// A script.
    ApiToken(ApiTokenId),
    /// A link.
    Link(u64),
    /// A user of this machine without rights.
    Local(String),
    /// Somebody as the audit log names it: a person, a script, a device.
    Named(String),
    /// All strangers; everybody new while too many are kept apart.
    Crowd,
}

impl Asker {
    /// Whose refusals the audit log counts together; nobody's of the hub and of the server itself.
    pub fn of(actor: &Actor) -> Option<Self> {
        match actor {
            Actor::User(_) | Actor::ApiToken(_) | Actor::Device(_) => Some(Self::Named(actor.to_string())),
            Actor::Network(address) => Some(Self::Address(*address)),
            Actor::Local(name) => Some(Self::Local(name.to_string())),
            Actor::Hub | Actor::Server => None,
        }
    }
}

/// One kind's pace.
struct Limiter {
    pace: RateLimiter<Asker, HashMapStateStore<Asker>, DefaultClock>,
    swept_at: Mutex<Option<Instant>>,
}

impl Limiter {
    fn new(capacity: NonZeroU32) -> Self {
        Self { pace: RateLimiter::hashmap(Quota::per_minute(capacity)), swept_at: Mutex::default() }
    }

    /// Whether somebody new can be kept apart.
    fn has_room(&self) -> bool {
        if self.pace.len() < KEYS_MAX {
            return true;
        }
        // Whoever does not get the lock need not wait for another's sweep.
        if let Ok(mut swept_at) = self.swept_at.try_lock()
            && swept_at.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL)
        {
            // Whoever has its whole capacity again needs no entry.
            self.pace.retain_recent();
            *swept_at = Some(Instant::now());
        }
        self.pace.len() < KEYS_MAX
    }
}

/// All limiters. Clones share them.
#[derive(Clone)]
pub struct Limiters {
    each: Arc<[Limiter; Limit::ALL.len()]>,
    rejections: [Counter; Limit::ALL.len()],
}

impl Limiters {
    /// With these capacities.
    pub fn new(capacities: &Capacities, metrics: &Metrics) -> Self {
        let limiter = |limit| {
            let capacity = match limit {
                Limit::Login => capacities.ratelimit_login_capacity,
                Limit::Registration => capacities.ratelimit_registration_capacity,
                Limit::Heartbeat => capacities.ratelimit_heartbeat_capacity,
                Limit::Signing => capacities.ratelimit_signing_capacity,
                Limit::Api => capacities.ratelimit_api_capacity,
                Limit::Audit => capacities.ratelimit_audit_capacity,
                Limit::Strangers => capacities.ratelimit_audit_capacity.saturating_mul(STRANGERS),
            };
            Limiter::new(capacity)
        };
        let rejections = Limit::ALL.map(|limit| metrics.rate_limit_rejections(limit.as_str()));
        Self { each: Arc::new(Limit::ALL.map(limiter)), rejections }
    }

    /// Counts one request of somebody; `Err` says after how long it may come again.
    pub fn take(&self, limit: Limit, asker: Asker) -> Result<(), Duration> {
        self.try_take(limit, asker).inspect_err(|_| {
            self.rejections[limit as usize].inc();
        })
    }

    /// Whether one more refusal of somebody is written into the audit log, and of nobody in particular always: a flood fills no log,
    /// and keeps no other's entries waiting. The metric counts the rest.
    pub fn may_write(&self, asker: Option<Asker>) -> bool {
        let Some(asker) = asker else { return true };
        let is_stranger = matches!(asker, Asker::Address(_) | Asker::Local(_));
        self.take(Limit::Audit, asker).is_ok()
            && (!is_stranger || self.take(Limit::Strangers, Asker::Crowd).is_ok())
    }

    /// Waits until one more of somebody's own is in time. Nobody is rejected, so none is counted.
    pub async fn wait(&self, limit: Limit, asker: Asker) {
        while let Err(wait) = self.try_take(limit, asker.clone()) {
            tokio::time::sleep(wait).await;
        }
    }

    fn try_take(&self, limit: Limit, asker: Asker) -> Result<(), Duration> {
        let limiter = &self.each[limit as usize];
        let asker = match asker {
            Asker::Address(address) => Asker::Address(network_of(address)),
            other => other,
        };
        let asker = if limiter.has_room() { asker } else { Asker::Crowd };
        let clock = limiter.pace.clock();
        limiter.pace.check_key(&asker).map_err(|too_early| too_early.wait_time_from(clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        capacities: Capacities,
    }

    fn limiters(arguments: &[&str]) -> Limiters {
        let line = Line::parse_from(["x"].iter().chain(arguments));
        Limiters::new(&line.capacities, &Metrics::new(std::path::Path::new("/")))
    }

    fn address(text: &str) -> Asker {
        Asker::Address(text.parse().expect("an address"))
    }

    #[test]
    fn each_has_its_capacity_and_waits_for_its_own() {
        let limiters = limiters(&["--ratelimit-login-capacity", "2"]);
        let take = |limit, asker: &str| limiters.take(limit, address(asker));
        assert_eq!([take(Limit::Login, "2001:db8::1"), take(Limit::Login, "2001:db8::2")], [Ok(()), Ok(())]);
        let wait = take(Limit::Login, "2001:db8::3").expect_err("one network, one pace");
        assert!(wait > Duration::from_secs(20) && wait <= Duration::from_secs(30), "{wait:?}");
        assert_eq!(take(Limit::Login, "2001:db8:0:1::1"), Ok(()), "another network");
        assert_eq!(take(Limit::Api, "2001:db8::1"), Ok(()), "another limiter");
        assert_eq!(limiters.rejections.each_ref().map(Counter::get), [1, 0, 0, 0, 0, 0, 0]);
    }

    #[tokio::test]
    async fn whoever_waits_for_its_own_pace_is_not_rejected() {
        // One in a millisecond.
        let limiters = limiters(&["--ratelimit-api-capacity", "60000"]);
        let asker = || address("203.0.113.1");
        while limiters.try_take(Limit::Api, asker()).is_ok() {}
        limiters.wait(Limit::Api, asker()).await;
        assert_eq!(limiters.rejections[Limit::Api as usize].get(), 0);
    }

    #[test]
    fn no_stranger_and_no_few_of_them_keep_others_out_of_the_audit_log() {
        let limiters = limiters(&["--ratelimit-audit-capacity", "3"]);
        let written = |asker: &Asker| (0..20).filter(|_| limiters.may_write(Some(asker.clone()))).count();
        for n in 1..=15 {
            assert_eq!(written(&address(&format!("203.0.113.{n}"))), 3, "{n}");
        }
        assert_eq!(written(&Asker::Local("guest".into())), 3);
        // A busy machine may need so long that one more is in time.
        let late = written(&address("203.0.113.99"));
        assert!(late <= 1, "there is an end of strangers");
        assert_eq!(limiters.rejections[Limit::Audit as usize].get(), 16 * 17 + 20 - late as u64);
        for known in ["user:ada", "api-token:ci of ada", "device:00000000-0000-7000-8000-000000000001"] {
            let actor: Actor = known.parse().expect("an actor");
            assert_eq!(Asker::of(&actor).map(|asker| written(&asker)), Some(3), "{known} is no stranger");
        }
        assert!((0..20).all(|_| limiters.may_write(Asker::of(&Actor::Server))));
    }

    #[test]
    fn a_flood_of_addresses_fills_no_memory() {
        let limiters = limiters(&["--ratelimit-login-capacity", "3"]);
        for n in 0..u32::try_from(KEYS_MAX).expect("few") + 100 {
            // The last hundred share one pace, which ends.
            let _ = limiters.take(Limit::Login, Asker::Address(IpAddr::from(n.to_be_bytes())));
        }
        assert!(limiters.each[Limit::Login as usize].pace.len() <= KEYS_MAX + 1);
        assert!(limiters.take(Limit::Login, address("203.0.113.77")).is_err(), "one of the crowd");
    }
}

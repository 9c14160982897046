//! Keeps the lease: claims it again and again, and tells the desk and whoever sweeps. What a lease is kept in, the
//! keepers know.

mod kubernetes;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use control::{Input, LeaseWord, Term};
use model::Mono;
use store::{Claim, Engine, Holding, Store};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::kubernetes::Cluster;
use crate::clock::Clock;
use crate::config::{LeaseIn, Settings};
use crate::desk::Desk;
use crate::metrics::Metrics;
use crate::{news, report};

/// How long a claim lasts. Others begin so long after the last one of a leader that is gone: within ten seconds with a
/// claim and a heartbeat of the hub.
const LASTS: Duration = Duration::from_secs(6);
/// A leader stops so much earlier by its own clock, which may run slower than that of the database.
const MARGIN: Duration = Duration::from_millis(500);
/// How often the lease is claimed: five claims may fail before a leader stops.
const CLAIM_INTERVAL: Duration = Duration::from_secs(1);
/// A claim that takes longer has failed: the next one finds another connection.
const CLAIM_TIME_MAX: Duration = Duration::from_secs(2);

/// What a lease is kept in.
pub trait Keeper: Send + Sync + 'static {
    /// Takes the lease if nobody has it, and prolongs it if the claimant has.
    fn claim(&self, claim: Claim<'_>) -> impl Future<Output = Result<Holding, Unclaimed>> + Send;
}

impl Keeper for Store {
    async fn claim(&self, claim: Claim<'_>) -> Result<Holding, Unclaimed> {
        self.hold_lease(claim).await.map_err(|e| report::chain(&e).into())
    }
}

/// Why nobody knows whose the lease is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct Unclaimed {
    /// Stable: whoever watches the log may wait for it.
    code: &'static str,
    reason: String,
}

impl From<String> for Unclaimed {
    fn from(reason: String) -> Self {
        Self { code: "lease-unclaimed", reason }
    }
}

impl From<&str> for Unclaimed {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// Whether this replica holds the lease. Clones know the same.
#[derive(Clone)]
pub struct Lease {
    /// `None`: there are no other replicas.
    claimed: Option<watch::Receiver<Claimed>>,
    clock: Clock,
}

/// What the claims came to.
#[derive(Debug, Clone, Default)]
struct Claimed {
    word: LeaseWord,
    /// Why they fail, and since when.
    trouble: Option<(Mono, Unclaimed)>,
}

impl Lease {
    /// Of the only replica, which needs none.
    const fn alone(clock: Clock) -> Self {
        Self { claimed: None, clock }
    }

    /// Claims the lease for as long as the process lives.
    fn keep(keeper: impl Keeper, holder: String, desk: Desk, clock: Clock, metrics: Metrics) -> Self {
        let (told, claimed) = watch::channel(Claimed::default());
        let claims = Claims { holder, desk, clock, told, metrics };
        tokio::spawn(claims.again_and_again(keeper));
        Self { claimed: Some(claimed), clock }
    }

    /// Whether it is held now.
    pub fn is_held(&self) -> bool {
        self.claimed.as_ref().is_none_or(|claimed| claimed.borrow().word.held(self.clock.now()).is_some())
    }

    /// Why it is not known whose it is, once claims have failed for as long as one lasts. `None`: there is none to claim.
    pub fn check(&self) -> Option<Result<(), Unclaimed>> {
        Some(self.claimed.as_ref()?.borrow().check(self.clock.now().mono))
    }

    /// Waits until it is held.
    pub async fn held(&mut self) {
        let clock = self.clock;
        if let Some(claimed) = &mut self.claimed
            && claimed.wait_for(|claimed| claimed.word.held(clock.now()).is_some()).await.is_err()
        {
            // Nobody claims any more: the process ends.
            std::future::pending::<()>().await;
        }
    }
}

impl Claimed {
    fn check(&self, now: Mono) -> Result<(), Unclaimed> {
        match &self.trouble {
            Some((since, why)) if now.since(*since) >= LASTS => Err(why.clone()),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whoever claims, and who is told.
struct Claims {
    holder: String,
    desk: Desk,
    clock: Clock,
    told: watch::Sender<Claimed>,
    metrics: Metrics,
}

impl Claims {
    async fn again_and_again(self, keeper: impl Keeper) {
        let mut ticks = interval(CLAIM_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Claimed { mut word, mut trouble } = Claimed::default();
        loop {
            ticks.tick().await;
            let before = word.held(self.clock.now());
            match self.claim(&keeper, before).await {
                Ok(next) => (word, trouble) = (next, None),
                Err(why) => trouble = Some((self.since(trouble, &why), why)),
            }
            let held = word.held(self.clock.now());
            match (before, held) {
                (None, Some(term)) => tracing::info!(term = term.0, "this replica holds the lease"),
                (Some(term), None) => tracing::warn!(term = term.0, "this replica lost the lease"),
                (Some(_) | None, _) => {}
            }
            self.metrics.lease_term.set(i64::try_from(word.term.0).unwrap_or(i64::MAX));
            self.told.send_replace(Claimed { word, trouble: trouble.clone() });
            if !self.desk.tell(Input::Lease(word)).await {
                return;
            }
        }
    }

    /// Since when claims fail. A trouble that begins, or gives way to another, is logged.
    fn since(&self, before: Option<(Mono, Unclaimed)>, why: &Unclaimed) -> Mono {
        let Unclaimed { code, reason } = why;
        match &before {
            Some((_, before)) if before.code == *code => {
                tracing::debug!(code, reason, "the lease was not claimed");
            }
            Some(_) | None => {
                tracing::warn!(code, reason, "the lease was not claimed; tried again each second");
            }
        }
        before.map_or_else(|| self.clock.now().mono, |(since, _)| since)
    }

    async fn claim(&self, keeper: &impl Keeper, known: Option<Term>) -> Result<LeaseWord, Unclaimed> {
        let asked_at = self.clock.now().mono;
        let claim = Claim { holder: &self.holder, known, lasts: LASTS };
        let claimed = timeout(CLAIM_TIME_MAX, keeper.claim(claim)).await;
        Ok(match claimed.unwrap_or_else(|_| Err("no answer in time".into()))? {
            Holding::Held(term) => LeaseWord { term, held_until: Some(asked_at + (LASTS - MARGIN)) },
            Holding::Others { term, holder } => {
                tracing::debug!(term = term.0, holder, "another replica holds the lease");
                LeaseWord { term, held_until: None }
            }
        })
    }
}

/// Joins the other replicas: listens for what they write, and claims the lease as the settings say. There is none where the
/// database is this process's alone.
pub async fn of(
    settings: &Settings,
    store: &Store,
    desk: &Desk,
    clock: Clock,
    metrics: &Metrics,
) -> anyhow::Result<Lease> {
    if store.engine() == Engine::Sqlite {
        return Ok(Lease::alone(clock));
    }
    tokio::spawn(news::listen(store.clone(), desk.clone()));
    let (holder, desk, metrics) = (name_of(&settings.state_dir)?, desk.clone(), metrics.clone());
    Ok(match settings.lease {
        LeaseIn::Database => Lease::keep(store.clone(), holder, desk, clock, metrics),
        LeaseIn::Kubernetes => {
            let cluster = Cluster::of_pod(&settings.kubernetes_account, &settings.lease_name, store.clone());
            Lease::keep(cluster.await?, holder, desk, clock, metrics)
        }
    })
}

/// Where the replica's name is kept.
const NAME_FILE: &str = "replica";

/// The replica's name: the machine's, and a number of its state directory. Two that share one of both are told apart by
/// the other.
fn name_of(state: &Path) -> anyhow::Result<String> {
    let path = state.join(NAME_FILE);
    let machine = nix::unistd::gethostname().context("the machine has no name")?;
    let number = match std::fs::read_to_string(&path) {
        Ok(number) => number,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).context("the kernel has no random bytes")?;
            let number = format!("{:016x}", u64::from_be_bytes(bytes));
            std::fs::write(&path, &number)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            number
        }
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    Ok(format!("{}-{}", machine.to_string_lossy(), number.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_it_lasts_as_long_as_the_lease() {
        let at = |time: Duration| Mono::from_micros(1_000_000) + time;
        let why = Unclaimed::from("no answer in time");
        let claimed = Claimed { trouble: Some((at(Duration::ZERO), why.clone())), ..Claimed::default() };
        assert_eq!(claimed.check(at(LASTS - Duration::from_millis(1))), Ok(()), "the next claim may do");
        assert_eq!(claimed.check(at(LASTS)), Err(why));
        assert_eq!(Claimed::default().check(at(LASTS)), Ok(()));
    }
}

//! Keeps the lease: claims it again and again, and tells the desk and whoever sweeps. What a lease is kept in, the
//! keepers know.

mod kubernetes;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use control::{Input, LeaseWord, Term};
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
    fn claim(&self, claim: Claim<'_>) -> impl Future<Output = Result<Holding, String>> + Send;
}

impl Keeper for Store {
    async fn claim(&self, claim: Claim<'_>) -> Result<Holding, String> {
        self.hold_lease(claim).await.map_err(|e| report::chain(&e))
    }
}

/// Whether this replica holds the lease. Clones know the same.
#[derive(Clone)]
pub struct Lease {
    /// `None`: there are no other replicas.
    word: Option<watch::Receiver<LeaseWord>>,
    clock: Clock,
}

impl Lease {
    /// Of the only replica, which needs none.
    const fn alone(clock: Clock) -> Self {
        Self { word: None, clock }
    }

    /// Claims the lease for as long as the process lives.
    fn keep(keeper: impl Keeper, holder: String, desk: Desk, clock: Clock, metrics: Metrics) -> Self {
        let (words, word) = watch::channel(LeaseWord::default());
        let claims = Claims { holder, desk, clock, words, metrics };
        tokio::spawn(claims.again_and_again(keeper));
        Self { word: Some(word), clock }
    }

    /// Whether it is held now.
    pub fn is_held(&self) -> bool {
        self.word.as_ref().is_none_or(|word| word.borrow().held(self.clock.now()).is_some())
    }

    /// Waits until it is held.
    pub async fn held(&mut self) {
        let clock = self.clock;
        if let Some(word) = &mut self.word
            && word.wait_for(|word| word.held(clock.now()).is_some()).await.is_err()
        {
            // Nobody claims any more: the process ends.
            std::future::pending::<()>().await;
        }
    }
}

/// Whoever claims, and who is told.
struct Claims {
    holder: String,
    desk: Desk,
    clock: Clock,
    words: watch::Sender<LeaseWord>,
    metrics: Metrics,
}

impl Claims {
    async fn again_and_again(self, keeper: impl Keeper) {
        let mut ticks = interval(CLAIM_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut word, mut fails) = (LeaseWord::default(), false);
        loop {
            ticks.tick().await;
            let before = word.held(self.clock.now());
            match self.claim(&keeper, before).await {
                Ok(next) => (word, fails) = (next, false),
                Err(reason) if fails => tracing::debug!(reason, "the lease was not claimed"),
                Err(reason) => {
                    tracing::warn!(reason, "the lease was not claimed; tried again each second");
                    fails = true;
                }
            }
            let held = word.held(self.clock.now());
            match (before, held) {
                (None, Some(term)) => tracing::info!(term = term.0, "this replica holds the lease"),
                (Some(term), None) => tracing::warn!(term = term.0, "this replica lost the lease"),
                (Some(_) | None, _) => {}
            }
            self.metrics.lease_held.set(held.is_some().into());
            self.metrics.lease_term.set(i64::try_from(word.term.0).unwrap_or(i64::MAX));
            self.words.send_replace(word);
            if !self.desk.tell(Input::Lease(word)).await {
                return;
            }
        }
    }

    async fn claim(&self, keeper: &impl Keeper, known: Option<Term>) -> Result<LeaseWord, String> {
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
        metrics.lease_held.set(1);
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

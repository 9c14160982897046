//! `/healthz` and `/readyz`: each check by name, 503 when one fails.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use control::{Control, Withheld};
use model::api::admin::Health;
use model::{CaKind, Code, Refusal};
use store::Store;
use tokio::sync::Mutex;

use super::App;
use crate::desk::Desk;
use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::signing::{Signing, SigningKey};

/// A check that takes longer has failed.
const CHECK_TIME_MAX: Duration = Duration::from_secs(2);
/// How a check is written that found nothing wrong.
pub const OK: &str = "ok";

/// The answer of a second ago is given again: a check writes to the database, and anybody may ask.
const CHECK_LIFE: Duration = Duration::from_secs(1);

type Checks = BTreeMap<String, String>;

/// What the checks look at; empty until the database is migrated. Clones share it.
#[derive(Clone, Default)]
pub struct Readiness {
    subject: Arc<OnceLock<(Store, Desk, Signing, Lease)>>,
    /// Locked while the checks run, so that they run once for all who ask meanwhile.
    last: Arc<Mutex<Option<(Instant, Checks)>>>,
}

impl FromRef<App> for Readiness {
    fn from_ref(app: &App) -> Self {
        app.readiness.clone()
    }
}

impl Readiness {
    /// Migrations are done and the desk runs.
    pub fn set(&self, store: Store, desk: Desk, signing: Signing, lease: Lease) {
        // Said once, by main.
        let _ = self.subject.set((store, desk, signing, lease));
    }

    /// Each check by name, a second old at most.
    pub async fn checks(&self) -> Checks {
        let Some((store, desk, signing, lease)) = self.subject.get() else {
            return BTreeMap::from([("database".into(), "migrations: pending".into())]);
        };
        let mut last = self.last.lock().await;
        if let Some((_, checks)) = last.as_ref().filter(|(at, _)| at.elapsed() < CHECK_LIFE) {
            return checks.clone();
        }
        let mut checks = check(store, desk, signing).await;
        if let Some(claimed) = lease.check() {
            checks.insert("lease".into(), claimed.err().map_or_else(|| OK.into(), |why| why.to_string()));
        }
        *last = Some((Instant::now(), checks.clone()));
        checks
    }

    /// Sets the gauges to what is now.
    pub async fn measure(&self, metrics: &Metrics) {
        for (check, found) in self.checks().await {
            metrics.check(&check, found == OK);
        }
        let Some((store, desk, _, lease)) = self.subject.get() else { return };
        let figures = store.figures();
        // What cannot be read stays as it was read last.
        if let Ok(Some(last)) = crate::backup::last(store).await {
            metrics.last_backup.set(last.at.unix_micros() / 1_000_000);
        }
        metrics.db_max.set(figures.max.into());
        metrics.db_open.set(figures.open.into());
        metrics.db_in_use.set(figures.in_use.into());
        // A desk that is gone counts nothing more.
        if let Ok(now) = desk.read(super::server::figures).await {
            metrics.devices_online.set(now.devices_online.into());
            for (standing, count) in now.devices {
                metrics.devices(standing.as_str(), count);
            }
            metrics.published(&now.work);
            metrics.tenants.set(now.tenants.into());
            metrics.hub_settled.set(now.hub.is_some_and(|hub| hub.settled).into());
            metrics.wireguard_peers.set(now.devices_active.into());
            if let Some(drift) = now.hub_drift {
                metrics.hub_drift.set(i64::try_from(drift).unwrap_or(i64::MAX));
            }
        }
        metrics.lease_held.set(lease.is_held().into());
    }

    /// Whether migrations are done.
    pub fn migrated(&self) -> bool {
        self.subject.get().is_some()
    }
}

async fn check(store: &Store, desk: &Desk, signing: &Signing) -> Checks {
    let (written, read) = tokio::join!(
        tokio::time::timeout(CHECK_TIME_MAX, store.probe()),
        tokio::time::timeout(CHECK_TIME_MAX, store.answers()),
    );
    let database = match (written, read) {
        (Ok(Ok(())), _) => OK.into(),
        (Ok(Err(error)), _) | (_, Ok(Err(error))) => format!("{}: {error}", error.kind.as_str()),
        (Err(_), Ok(Ok(()))) => "locked: the database does not take a write in time".into(),
        (Err(_), Err(_)) => "unreachable: the database does not answer in time".into(),
    };
    let problem =
        desk.read(|control| control.hub().map(|hub| hub.problems.first().map(ToString::to_string))).await;
    let wireguard = match problem {
        Ok(Some(None)) => OK.into(),
        Ok(Some(Some(problem))) => problem,
        Ok(None) => "warren-netd is not attached: systemctl status warren-netd".into(),
        Err(refusal) => refusal.to_string(),
    };
    let directories = match desk.read(withheld).await {
        Ok(found) => found,
        Err(refusal) => refusal.to_string(),
    };
    let ssh_ca = authorities(desk, signing).await.err().map_or(OK.into(), |refusal| refusal.to_string());
    let checks =
        [("database", database), ("directories", directories), ("ssh_ca", ssh_ca), ("wireguard", wireguard)];
    checks.into_iter().map(|(name, result)| (name.into(), result)).collect()
}

/// Whether every tenant is served.
fn withheld(control: &Control) -> String {
    let sealed = control.withheld().filter(|(_, why)| *why == Withheld::Sealed).count();
    match (control.withheld().count(), sealed) {
        (0, _) => OK.into(),
        (count, 0) => format!("{count} tenants are withheld: see the log for why"),
        (count, _) => {
            let (code, hint) = (Code::SignerSealed, Code::SignerSealed.hint());
            format!("{count} tenants are withheld, their keys are sealed ({code}): {hint}")
        }
    }
}

/// Whether every authority can sign. A key that is open already costs a look.
async fn authorities(desk: &Desk, signing: &Signing) -> Result<(), Refusal> {
    signing.check_seal()?;
    let keys = desk.read(|control| {
        let live = control.directories().filter(|directory| directory.tenant().deleted_at.is_none());
        let keys = live.flat_map(|directory| CaKind::ALL.map(|kind| SigningKey::of(directory, kind)));
        keys.collect::<Result<Vec<_>, Refusal>>()
    });
    for key in keys.await?? {
        signing.open(&key).await?;
    }
    Ok(())
}

/// Whether everything that the server needs works now.
pub async fn healthz(State(readiness): State<Readiness>) -> (StatusCode, Json<Health>) {
    answer(readiness.checks().await)
}

/// Whether the server may be sent requests.
pub async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, Json<Health>) {
    let mut checks = readiness.checks().await;
    // Devices and people are served without a hub, too.
    checks.remove("wireguard");
    checks.remove("lease");
    // Nor without signatures: people, the audit log and backups are served.
    checks.remove("ssh_ca");
    let migrations = if readiness.migrated() { OK } else { "pending" };
    checks.insert("migrations".into(), migrations.into());
    answer(checks)
}

fn answer(checks: Checks) -> (StatusCode, Json<Health>) {
    let well = checks.values().all(|check| check == OK);
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { status: if well { OK } else { "degraded" }.into(), checks }))
}

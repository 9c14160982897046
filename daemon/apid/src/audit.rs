//! The audit log beside the commits: refusals are written in order, off the desk; all is chained and shown.

use std::collections::BTreeMap;
use std::time::Duration;

use control::AuditEntry;
use model::api::audit::AuditEntry as AuditForm;
use model::{Label, Refusal, TenantId};
use prometheus_client::metrics::counter::Counter;
use store::{AuditRow, Store};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::keys::Keys;
use crate::report;

/// Entries that wait for the database. More are lost with an error in the log: a flood of refusals must not fill the memory.
const WAITING_MAX: usize = 4096;

/// How often entries that are not chained yet are looked for: an entry can be taken out unnoticed for so long.
const CHAIN_INTERVAL: Duration = Duration::from_secs(1);

/// Chains what was written, for as long as it is polled.
pub async fn chain(store: Store, keys: Keys) {
    let mut ticks = tokio::time::interval(CHAIN_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        loop {
            match store.chain_audit(&keys).await {
                Ok(0) => break failing = false,
                Ok(chained) => tracing::debug!(chained, "audit entries chained"),
                Err(error) => {
                    // Said once: the health check names a database that takes no write.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(error = %report::chain(&error), "audit entries wait to be chained");
                    }
                    break;
                }
            }
        }
    }
}

/// An entry as the API and the sinks show it.
pub fn form(row: AuditRow, tenants: &BTreeMap<TenantId, Label>) -> AuditForm {
    let AuditRow { id, link, entry } = row;
    AuditForm {
        id,
        sequence: link.map(|(sequence, _)| sequence),
        hash: link.map(|(_, hash)| hash),
        at: entry.at,
        tenant: entry.tenant.and_then(|id| tenants.get(&id).cloned()),
        actor: entry.actor.to_string(),
        action: entry.action,
        target: entry.target,
        outcome: if entry.refused.is_some() { "refused" } else { "done" }.into(),
        code: entry.refused.map(|code| code.to_string()),
        detail: entry.detail,
        source: entry.trace.source,
        request: entry.trace.request,
    }
}

/// A refusal that is in the audit log or on its way there, or that the limiter left out.
#[derive(Debug, Clone)]
pub struct Written(pub Refusal);

/// Writes audit entries.
pub struct AuditWriter {
    waiting: mpsc::Sender<AuditEntry>,
    writer: JoinHandle<()>,
    lost: Counter,
}

impl AuditWriter {
    /// Starts the task that writes.
    pub fn start(store: Store, lost: Counter) -> Self {
        let (waiting, mut entries) = mpsc::channel::<AuditEntry>(WAITING_MAX);
        let unwritten = lost.clone();
        let writer = tokio::spawn(async move {
            while let Some(entry) = entries.recv().await {
                if let Err(error) = store.append_audit(&entry).await {
                    unwritten.inc();
                    tracing::error!(action = entry.action, error = error.chain(), "an audit entry is lost");
                }
            }
        });
        Self { waiting, writer, lost }
    }

    /// Queues an entry.
    pub fn write(&self, entry: AuditEntry) {
        if let Err(error) = self.waiting.try_send(entry) {
            self.lost.inc();
            tracing::error!(%error, "an audit entry is lost: the database is too slow");
        }
    }

    /// Waits until everything queued is written.
    pub async fn finish(self) {
        drop(self.waiting);
        if let Err(error) = self.writer.await {
            tracing::error!(%error, "the audit writer failed");
        }
    }
}

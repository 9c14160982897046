//! Audit entries that belong to no commit: refusals. Written one after the other, in order, off the desk.

use std::time::Duration;

use control::AuditEntry;
use prometheus_client::metrics::counter::Counter;
use store::Store;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::wall;

/// Entries that wait for the database. More are lost with an error in the log: a flood of refusals must not fill the memory.
const WAITING_MAX: usize = 4096;

/// How often old entries are looked for.
const PRUNE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Forgets entries that are older than so many days, once a day, for as long as it is polled.
pub async fn prune_daily(store: Store, days: u32) {
    let kept = Duration::from_secs(u64::from(days) * 24 * 3600);
    let mut ticks = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        ticks.tick().await;
        match store.prune_audit(wall() - kept).await {
            Ok(0) => {}
            Ok(pruned) => tracing::info!(pruned, days, "old audit entries are forgotten"),
            Err(error) => {
                tracing::warn!(error = error.chain(), "old audit entries stay; tried again tomorrow");
            }
        }
        if let Err(error) = store.prune_sessions(wall()).await {
            tracing::warn!(error = error.chain(), "expired sessions stay; tried again tomorrow");
        }
    }
}

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

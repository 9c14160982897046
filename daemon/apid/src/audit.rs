//! Audit entries that belong to no commit: refusals. Written one after the other, in order, off the desk.

use control::AuditEntry;
use prometheus_client::metrics::counter::Counter;
use store::Store;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Entries that wait for the database. More are lost with an error in the log: a flood of refusals must not fill the memory.
const WAITING_MAX: usize = 4096;

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

//! Presence on its way to the store: the last word of each device, however long the database is away. Knows no device.

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use control::PresenceRow;
use model::DeviceId;
use store::Store;
use tokio::sync::Mutex as Turn;
use tokio::task::JoinSet;

/// What waits, and who saves it. As many rows as there are devices at most.
#[derive(Default)]
pub(super) struct Saving {
    unsaved: Arc<Mutex<Unsaved>>,
    /// SQLite has one writer, for which nobody waits for long: one batch at a time.
    turn: Arc<Turn<()>>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Unsaved {
    rows: BTreeMap<DeviceId, PresenceRow>,
    /// Somebody is about to take them.
    awaited: bool,
}

impl Unsaved {
    /// Says whether nobody is about to take them.
    fn add(&mut self, rows: Vec<PresenceRow>) -> bool {
        self.rows.extend(rows.into_iter().map(|row| (row.device, row)));
        !std::mem::replace(&mut self.awaited, true)
    }

    fn take(&mut self) -> Vec<PresenceRow> {
        self.awaited = false;
        take(&mut self.rows).into_values().collect()
    }
}

impl Saving {
    /// Saves some rows, together with those that wait.
    pub(super) fn save(&mut self, rows: Vec<PresenceRow>, store: &Store) {
        while self.tasks.try_join_next().is_some() {}
        if !self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).add(rows) {
            return;
        }
        let (store, unsaved, turn) = (store.clone(), Arc::clone(&self.unsaved), Arc::clone(&self.turn));
        self.tasks.spawn(async move {
            let _turn = turn.lock().await;
            let rows = unsaved.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Err(error) = store.save_presence(&rows).await {
                tracing::warn!(
                    error = error.chain(),
                    "presence was not saved; the next heartbeats tell it again"
                );
            }
        });
    }

    /// Waits until all is saved.
    pub(super) async fn done(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use model::wire::Remark;
    use model::{TenantId, Timestamp};

    use super::*;

    fn row(device: u8, at: i64) -> PresenceRow {
        PresenceRow {
            tenant: TenantId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([device; 16]),
            last_seen: Timestamp::from_unix_micros(at),
            held: None,
            settled: false,
            software: Remark::default(),
            address: None,
            attached: true,
            facts: None,
        }
    }

    #[test]
    fn however_much_waits_nobodys_last_word_is_dropped() {
        let mut unsaved = Unsaved::default();
        assert!(unsaved.add(vec![row(1, 1), row(2, 1)]), "somebody has to begin");
        for at in 2..1000 {
            assert!(!unsaved.add(vec![row(1, at)]), "and nobody else");
        }
        assert_eq!(unsaved.take(), [row(1, 999), row(2, 1)]);
        assert!(unsaved.add(vec![row(1, 1000)]), "what comes while it is saved has its own turn");
    }
}

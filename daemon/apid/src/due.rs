//! Tells when keys of SSH authorities are due to be replaced: in the log, once for each notice, and in a metric. Changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use ca::due::Notice;
use control::{Control, Directory};
use model::{CaKind, Label, Timestamp};
use tokio::time::interval;

use crate::clock::wall;
use crate::desk::Desk;
use crate::metrics::Metrics;

/// Notices are days apart; whoever rotates is rid of them soon.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// When the key that signs is due.
pub fn due_at(directory: &Directory, kind: CaKind, life: Duration) -> Option<Timestamp> {
    directory.signing_key(kind).map(|key| key.created_at + life)
}

/// Every authority's.
pub fn all(control: &Control, life: Duration) -> Vec<(Label, CaKind, Timestamp)> {
    let live = control.directories().filter(|directory| !directory.is_closed());
    let each = live.flat_map(|directory| {
        let tenant = directory.tenant().name.clone();
        CaKind::ALL
            .into_iter()
            .filter_map(move |kind| Some((tenant.clone(), kind, due_at(directory, kind, life)?)))
    });
    each.collect()
}

/// Tells, for as long as it is polled.
pub async fn tell(desk: Desk, metrics: Metrics, life: Duration) {
    let mut ticks = interval(LOOK_INTERVAL);
    let mut told = BTreeMap::<(Label, CaKind), Notice>::new();
    loop {
        ticks.tick().await;
        let Ok(due) = desk.read_loaded(move |control| all(control, life)).await else { return };
        let first = due.iter().map(|(_, _, at)| at.unix_micros()).min();
        metrics.ssh_key_due.set(first.unwrap_or(0) / 1_000_000);
        let mut notices = BTreeMap::new();
        for (tenant, kind, due_at) in due {
            let Some(notice) = Notice::of(due_at, wall()) else { continue };
            let key = (tenant, kind);
            if told.get(&key) != Some(&notice) {
                let (tenant, command) =
                    (&key.0, format!("warren --tenant {} ca rotate --type {kind}", key.0));
                tracing::warn!(code = "ssh-key-due", %tenant, %kind, %due_at, command, "an SSH authority's key is due to be replaced");
            }
            notices.insert(key, notice);
        }
        told = notices;
    }
}

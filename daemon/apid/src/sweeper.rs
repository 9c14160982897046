//! Forgets what is old: audit entries, sessions, device commands, answers that were asked for with a key. One replica does, the one that holds the lease.

use std::time::Duration;

use store::Store;

use crate::clock::wall;
use crate::http::KEY_LIFE;
use crate::keys::Keys;
use crate::lease::Lease;
use crate::report;
use crate::retention::Retention;

/// How often old entries are looked for.
const PRUNE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Device commands that ended are shown for so long.
const COMMANDS_KEPT: Duration = Duration::from_secs(31 * 24 * 3600);

/// Forgets what is too old, once a day, for as long as it is polled.
/// While another replica holds the lease, that one does.
pub async fn prune_daily(store: Store, keys: Keys, mut lease: Lease, retention: Retention) {
    let mut ticks = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        ticks.tick().await;
        lease.held().await;
        match store.prune_audit(&retention.from(wall()), &keys).await {
            Ok(0) => {}
            Ok(pruned) => tracing::info!(pruned, "old audit entries are forgotten"),
            Err(error) => {
                tracing::warn!(error = %report::chain(&error), "old audit entries stay; tried again tomorrow");
            }
        }
        if let Err(error) = store.prune_commands(wall() - COMMANDS_KEPT).await {
            tracing::warn!(error = error.chain(), "old device commands stay; tried again tomorrow");
        }
        if let Err(error) = store.prune_keyed(wall() - KEY_LIFE).await {
            tracing::warn!(error = error.chain(), "old answers stay; tried again tomorrow");
        }
        if let Err(error) = store.prune_sessions(wall()).await {
            tracing::warn!(error = error.chain(), "expired sessions stay; tried again tomorrow");
        }
    }
}

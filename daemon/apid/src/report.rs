//! Events of the control machine as log lines: a constant message, values as fields.

use std::error::Error;

use control::Event;
use model::wire::Remark;

/// The error and its causes in one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Logs one event.
pub fn event(event: &Event) {
    match event {
        Event::Attached { link, tenant, node, software } => {
            let tenant = tenant.map(tracing::field::display);
            tracing::info!(link = link.0, tenant, %node, %software, "node attached");
        }
        Event::Detached { link, node, why } => {
            tracing::info!(link = link.0, %node, reason = why, "node detached");
        }
        Event::LinkRefused { link, from, refusal } => {
            let from = from.map(tracing::field::display);
            tracing::info!(link = link.0, from, code = %refusal.code, detail = refusal.detail, "link refused");
        }
        Event::NodeRefused { link, refusal } => {
            let detail = Remark::new(&refusal.detail);
            tracing::info!(link = link.0, code = %refusal.code, %detail, "node left with a refusal");
        }
        Event::Enrolled { tenant, device } => tracing::info!(%tenant, %device, "device enrolled"),
        Event::IdentityCloned { tenant, device } => {
            tracing::warn!(%tenant, %device, code = "identity-cloned", "two machines present one identity");
        }
        Event::ResyncAsked { tenant, node, reason } => {
            tracing::warn!(%tenant, %node, %reason, "node refused a snapshot");
        }
        Event::HoldingOverdue { tenant, node } => {
            tracing::warn!(%tenant, %node, "snapshot not acknowledged; sent again");
        }
        Event::NodeAhead { tenant, node, held, here } => {
            tracing::error!(%tenant, %node, %held, %here, "node is ahead: the database is older than the mesh");
        }
        Event::NodeForked { tenant, node, version } => {
            tracing::error!(%tenant, %node, %version, "node holds other contents of the same version");
        }
        Event::DirectoryWithheld { tenant, reason } => {
            tracing::error!(%tenant, %reason, "directory is not published: its rows cannot be right");
        }
        Event::AnchorSealed { tenant } => {
            tracing::error!(%tenant, "anchor is sealed: check the passphrase or seal.key");
        }
        Event::StoreBehind { tenant, read, here } => {
            tracing::error!(%tenant, %read, %here, "store is behind");
        }
        Event::TenantLost { tenant } => {
            tracing::warn!(%tenant, "the database was put back and has no such tenant: its devices must join again");
        }
        Event::CommitConflict { tenant, attempts } => {
            let tenant = tenant.map(tracing::field::display);
            tracing::debug!(tenant, attempts, "edit is decided again");
        }
        Event::EditRefused { tenant, action, code } => {
            let tenant = tenant.map(tracing::field::display);
            tracing::info!(tenant, action, %code, "edit refused");
        }
        Event::EditDone { tenant, action, version } => tracing::info!(%tenant, action, %version, "edit done"),
        Event::StoreUnavailable { tenant, reason } => {
            let tenant = tenant.map(tracing::field::display);
            tracing::error!(tenant, reason, "store is unavailable");
        }
    }
}

//! What a node begins with: its ledger as far as it is sound, ears for the kernel, and paths if it looks for any. Changes nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;

use engine::{Ledger, LedgerError, Role};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::drive::{DriveError, Setup};
use crate::events::Events;
use crate::host::HostConfig;
use crate::paths::{Credentials, Shell};
use crate::resolver;

/// What is sound of a ledger, if that is at least who the node is and whom it trusts. The engine removes nothing
/// until the server has sent what is missing.
pub(super) fn load(bytes: &[u8], path: &Path) -> Result<Ledger, DriveError> {
    Ledger::load(bytes).or_else(|error| match error {
        LedgerError::Snapshot { reason, rest } => {
            let path = path.display().to_string();
            tracing::error!(code = "ledger-damaged", path, reason, "a snapshot in the ledger is damaged");
            Ok(*rest)
        }
        source => Err(DriveError::Ledger { path: path.into(), source }),
    })
}

/// Tells of what others change on the machine; nothing of it concerns a node that changes nothing there.
pub(super) async fn watch(host: &HostConfig, changed: &Arc<Notify>) -> io::Result<JoinHandle<io::Error>> {
    if host.stack.is_some() {
        return Ok(tokio::spawn(std::future::pending()));
    }
    let events = Events::open(&host.interface, host.forwards).await?;
    let (changed, resolver) = (Arc::clone(changed), host.resolver.clone());
    Ok(tokio::spawn(async move {
        let others = resolver::watch(resolver, Arc::clone(&changed));
        tokio::select! {
            error = events.watch(changed) => error,
            never = others => match never {},
        }
    }))
}

/// A device looks for paths; a hub is where its endpoint says.
pub(super) fn paths(setup: &Setup) -> Option<Shell> {
    let Role::Device { ref identity, instance, .. } = setup.node.role else { return None };
    let (identity, software) = (identity.clone(), setup.node.software.clone());
    let credentials = Credentials { identity, instance, software, mark: setup.host.mark() };
    Some(Shell::start(&setup.host.interface, credentials, setup.maps_ports, setup.birthdays))
}

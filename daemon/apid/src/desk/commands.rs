//! What devices say came of their commands: written down elsewhere.

use control::{Actor, AuditEntry, Trace};
use model::wire::CommandDone;
use model::{DeviceId, TenantId};

use super::Run;
use crate::clock::wall;

impl Run {
    /// What is not written is asked for again: the command is sent once more.
    pub(super) fn command_done(&self, tenant: TenantId, device: DeviceId, done: CommandDone) {
        let store = self.store.clone();
        tokio::spawn(async move {
            let CommandDone { id, failed } = done;
            let entry = AuditEntry {
                at: wall(),
                tenant: Some(tenant),
                actor: Actor::Device(device),
                action: "device.command-done".into(),
                target: id.to_string(),
                refused: None,
                detail: failed.as_ref().map_or_else(|| "done".into(), |why| format!("failed: {why}")),
                trace: Trace::default(),
            };
            if let Err(error) = store.command_done(device, id, failed.as_ref(), &entry).await {
                tracing::info!(%id, error = error.chain(), "a device's answer is asked for again");
            }
        });
    }
}

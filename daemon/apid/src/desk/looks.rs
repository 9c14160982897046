//! Looks at what the machine knows, between two of its steps.

use std::collections::BTreeMap;

use control::Control;
use model::{Code, Label, Refusal, TenantId};
use tokio::sync::oneshot;

use super::{Desk, Message};

impl Desk {
    /// Reads what the machine knows. `look` must be short: everybody waits for it.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Control) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        // The asker may have gone; then nobody misses the answer.
        let look = move |control: &Control| drop(reply.send(look(control)));
        self.inbox.send(Message::Read(Box::new(look))).await.map_err(|_| Code::Draining)?;
        answer.await.map_err(|_| Code::Draining.into())
    }

    /// As [`Self::read`], once the store was read.
    pub async fn read_loaded<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Control) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.loaded.clone().wait_for(|loaded| *loaded).await.map_err(|_| Code::Draining)?;
        self.read(look).await
    }

    /// The names of tenants, deleted ones too.
    pub async fn tenant_names(&self) -> Result<BTreeMap<TenantId, Label>, Refusal> {
        let tenants = |control: &Control| {
            control.directories().map(|d| (d.tenant().id, d.tenant().name.clone())).collect()
        };
        self.read(tenants).await
    }
}

//! Certificates of hosts, and what devices say that they installed: what the desk has done elsewhere.

use ca::profile::{self, Host};
use control::{Actor, AuditEntry, Control, Input, InstalledRow, LinkId};
use model::{CaKind, Code, DeviceId, HostKey, Refusal, TenantId};
use store::Store;

use super::{Message, Run};
use crate::clock::wall;
use crate::report;
use crate::signing::{Signing, SigningKey, Wish};

impl Run {
    pub(super) fn certify(&self, link: LinkId, tenant: TenantId, device: DeviceId, key: &HostKey) {
        let wish = HostWish::of(&self.control, tenant, device, key);
        let (signing, store) = (self.signing.clone(), self.store.clone());
        self.elsewhere(async move {
            let result = match wish {
                Ok(wish) => wish.sign(&signing).await,
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = &result {
                note_refusal(&store, tenant, device, refusal).await;
            }
            Input::Certified { link, result }
        });
    }

    pub(super) fn save_installed(&self, rows: Vec<InstalledRow>) {
        let (store, inbox) = (self.store.clone(), self.inbox.clone());
        tokio::spawn(async move {
            if let Err(error) = store.save_installed(&rows).await {
                tracing::info!(error = error.chain(), "what devices installed is saved later");
                let _ = inbox.send(Message::Input(Box::new(Input::InstalledUnsaved(rows)))).await;
            }
        });
    }
}

/// What a host's certificate is to be: from the directory, never from the certificate before.
struct HostWish {
    wish: Wish,
    host: Host,
}

impl HostWish {
    /// Reads the directory.
    fn of(control: &Control, tenant: TenantId, device: DeviceId, key: &HostKey) -> Result<Self, Refusal> {
        let directory = control.directory(tenant).ok_or(Code::TenantNotFound)?;
        let host = directory.host_profile(device).ok_or(Code::DevicePending)?;
        let wish = Wish {
            key: SigningKey::of(directory, CaKind::Host)?,
            tenant: directory.tenant().name.clone(),
            subject: key.as_str().parse()?,
            user: None,
            device,
            actor: Actor::Device(device),
        };
        Ok(Self { wish, host })
    }

    /// Signs and records it.
    async fn sign(self, signing: &Signing) -> Result<String, Refusal> {
        let Self { wish, host } = self;
        let issued = signing.issue(wish, |basis| Ok(profile::host(basis, host, wall()))).await?;
        Ok(issued.certificate)
    }
}

/// Notes why a host got no certificate.
async fn note_refusal(store: &Store, tenant: TenantId, device: DeviceId, refusal: &Refusal) {
    let entry = AuditEntry {
        at: wall(),
        tenant: Some(tenant),
        actor: Actor::Device(device),
        action: "certificate.issue".into(),
        target: device.to_string(),
        refused: Some(refusal.code),
        detail: refusal.detail.clone(),
    };
    if let Err(error) = store.append_audit(&entry).await {
        tracing::error!(error = %report::chain(&error), "an audit entry is lost");
    }
}

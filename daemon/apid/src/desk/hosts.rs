//! Certificates of hosts, and what devices say that they installed: what the desk has done elsewhere.

use std::time::Duration;

use ca::profile::{self, Host};
use control::{Actor, AuditEntry, Control, Input, InstalledRow, LinkId, Trace};
use model::wire::SshLogin;
use model::{CaKind, Code, DeviceId, HostKey, Refusal, TenantId};
use store::Store;

use super::{Message, Run};
use crate::clock::wall;
use crate::limiters::{Asker, Limit};
use crate::signing::{Denied, Holder, Signing, SigningKey, Wish};

/// A host that is told that nothing was noted says it again at once: not before the database had time to come back.
const NOTE_RETRY: Duration = Duration::from_secs(10);

impl Run {
    pub(super) fn certify(&self, link: LinkId, tenant: TenantId, device: DeviceId, key: &HostKey) {
        let wish = HostWish::of(&self.control, tenant, device, key);
        let signing = self.signing.clone();
        self.elsewhere(async move {
            let result = match wish {
                Ok(wish) => wish.sign(&signing).await,
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = &result {
                let denied = Denied {
                    holder: Some(Holder::Host(device)),
                    tenant: Some(tenant),
                    target: device.to_string(),
                    by: Actor::Device(device).into(),
                };
                if let Err(error) = signing.note_refusal(denied, refusal).await {
                    tracing::error!(%error, "an audit entry is lost");
                }
            }
            Input::Certified { link, result }
        });
    }

    pub(super) fn note_logins(
        &self,
        link: LinkId,
        tenant: TenantId,
        device: DeviceId,
        logins: Vec<SshLogin>,
    ) {
        let (store, limiters) = (self.store.clone(), self.limiters.clone());
        self.elsewhere(async move {
            let mut through = 0;
            for login in logins {
                // Whoever says too much waits for its answer, and says no more meanwhile.
                limiters.wait(Limit::Api, Asker::Link(link.0)).await;
                if let Err(error) = note_login(&store, tenant, device, &login).await {
                    tracing::info!(%error, "whom a host let in is noted when it says so again");
                    tokio::time::sleep(NOTE_RETRY).await;
                    break;
                }
                through = login.number;
            }
            Input::LoginsNoted { link, through }
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
            by: Actor::Device(device).into(),
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

/// Joins the use of a certificate to its issue.
async fn note_login(
    store: &Store,
    tenant: TenantId,
    device: DeviceId,
    login: &SshLogin,
) -> anyhow::Result<()> {
    let issued = store.certificate(tenant, CaKind::User, login.serial).await?;
    let issued = issued.filter(|row| row.id.to_string() == login.id.as_str());
    let entry = AuditEntry {
        at: wall(),
        tenant: Some(tenant),
        actor: Actor::Device(device),
        action: "ssh.login".into(),
        target: login.id.to_string(),
        refused: issued.is_none().then_some(Code::CertificateUnknown),
        detail: format!("as {} from {}, certificate {}", login.login, login.from, login.serial),
        trace: Trace::default(),
    };
    Ok(store.append_audit(&entry).await?)
}

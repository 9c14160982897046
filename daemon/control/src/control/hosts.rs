//! What devices say of their sshd, and what they ask for it. Signs nothing: the shell does.

use model::limits::SSH_LOGINS_MAX;
use model::wire::{CertifyHost, HostCertified, SshInstalled, SshLogins, SshLoginsNoted};
use model::{Code, DeviceId, NodeId, Now, Refusal, TenantId};

use super::Control;
use crate::edit::Edit;
use crate::io::Output;
use crate::lanes::{Asker, Lane, Wish};
use crate::limits::{INSTALLED_KEYS_MAX, INSTALLED_SAVE_INTERVAL};
use crate::link::LinkId;
use crate::rows::Actor;
use crate::session::out_of_place;
use crate::ssh::InstalledRow;

impl Control {
    /// A host asks for a certificate: signed for what the directory says of it, whatever it says of itself. One at a time.
    pub(super) fn on_certify(
        &mut self,
        link: LinkId,
        tenant: Option<TenantId>,
        node: NodeId,
        wish: CertifyHost,
        now: Now,
    ) -> Result<(), Refusal> {
        let (tenant, device) = owner(tenant, node)?;
        let Some(session) = self.sessions.get_mut(&link) else { return Ok(()) };
        if std::mem::replace(&mut session.certifying, true) {
            return Ok(());
        }
        let directory = self.directories.whole(tenant);
        let Some(directory) = directory.filter(|directory| directory.is_active(node)) else {
            let refusal = Refusal::new(Code::DevicePending, "only active devices have host certificates");
            self.on_certified(link, Err(refusal));
            return Ok(());
        };
        let is_new = directory.host_key(device) != Some(&wish.key);
        self.out.push(Output::Certify { link, tenant, device, key: wish.key.clone() });
        if is_new {
            let edit = Edit::SetHostKey { device, key: wish.key };
            let wish = Wish { edit, by: Actor::Device(device).into(), asker: Asker::Nobody, conflicts: 0 };
            self.submit(Lane::Of(tenant), wish, now);
        }
        Ok(())
    }

    /// The certificate is signed and recorded, or it is not.
    pub(super) fn on_certified(&mut self, link: LinkId, result: Result<String, Refusal>) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.certifying = false;
        let (certificate, refusal) = match result {
            Ok(certificate) => (Some(certificate), None),
            Err(refusal) => (None, Some(refusal)),
        };
        self.send(link, HostCertified { certificate, refusal });
    }

    /// A device says what it installed: kept soon, so that a server that starts anew opens no gate of a rotation too early.
    pub(super) fn on_installed(
        &mut self,
        tenant: Option<TenantId>,
        node: NodeId,
        said: SshInstalled,
        now: Now,
    ) -> Result<(), Refusal> {
        let (tenant, device) = owner(tenant, node)?;
        let keys = said.people.iter().flatten().chain(&said.hosts).count();
        if keys > INSTALLED_KEYS_MAX {
            return Err(out_of_place("so many keys"));
        }
        let SshInstalled { people, hosts, presents } = said;
        let row = InstalledRow { tenant, device, people, hosts, presents, said_at: now.wall };
        self.installed.insert(device, row);
        self.save_installed_at.get_or_insert(now.mono + INSTALLED_SAVE_INTERVAL);
        Ok(())
    }

    /// A host says whom it let in. One frame at a time: what comes meanwhile is said again.
    pub(super) fn on_logins(
        &mut self,
        link: LinkId,
        tenant: Option<TenantId>,
        node: NodeId,
        said: SshLogins,
    ) -> Result<(), Refusal> {
        let (tenant, device) = owner(tenant, node)?;
        if said.logins.len() > SSH_LOGINS_MAX {
            return Err(out_of_place("so many logins"));
        }
        let Some(session) = self.sessions.get_mut(&link) else { return Ok(()) };
        if !std::mem::replace(&mut session.noting, true) {
            self.out.push(Output::NoteLogins { link, tenant, device, logins: said.logins });
        }
        Ok(())
    }

    pub(super) fn on_logins_noted(&mut self, link: LinkId, through: u64) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.noting = false;
        self.send(link, SshLoginsNoted { through });
    }

    pub(super) fn save_installed(&mut self) {
        self.save_installed_at = None;
        let rows: Vec<InstalledRow> = std::mem::take(&mut self.installed).into_values().collect();
        if !rows.is_empty() {
            self.out.push(Output::SaveInstalled(rows));
        }
    }

    /// What could not be kept is kept later, unless the device said something else since.
    pub(super) fn installed_unsaved(&mut self, rows: Vec<InstalledRow>, now: Now) {
        for row in rows {
            self.installed.entry(row.device).or_insert(row);
        }
        self.save_installed_at.get_or_insert(now.mono + crate::limits::STORE_RETRY_INTERVAL);
    }
}

fn owner(tenant: Option<TenantId>, node: NodeId) -> Result<(TenantId, DeviceId), Refusal> {
    match (tenant, node) {
        (Some(tenant), NodeId::Device(device)) => Ok((tenant, device)),
        _ => Err(out_of_place("a host's word from the hub")),
    }
}

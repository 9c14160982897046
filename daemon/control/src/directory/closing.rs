//! How many devices a tenant may have, and how it ends: closed, restored or erased. How it begins, `founding` says.
//!
//! ```text
//! open ──CloseTenant──▶ closed ──EraseTenant, after the grace──▶ deleted
//!   ▲                     │
//!   └────RestoreTenant────┘
//! ```
//! What is closed keeps every row: plans alone say that nobody takes part.

use std::time::Duration;

use model::{Code, Name, PublicKey, Refusal, Standing, Timestamp};

use super::{Decision, Directory, Grounds, Touched, naming, refuse};
use crate::edit::Answer;
use crate::limits::GRACE_MAX;
use crate::rows::{Closing, Device, Fact, Tenant, Token};
use crate::ssh::{AuthorityKey, SshFact};

impl Directory {
    /// Whether the tenant is closed or deleted: nobody takes part in it.
    pub const fn is_closed(&self) -> bool {
        self.tenant.closing.is_some() || self.tenant.deleted_at.is_some()
    }

    /// How far a device takes part: as its row says, unless the tenant is closed.
    pub const fn standing(&self, device: &Device) -> Standing {
        match device.standing {
            Standing::Revoked => Standing::Revoked,
            _ if self.is_closed() => Standing::Closed,
            standing => standing,
        }
    }

    pub(super) fn check_quota(&self) -> Result<(), Refusal> {
        let used = self.live_count();
        match self.tenant.quota {
            Some(quota) if used >= quota as usize => {
                let detail = format!("tenant {} has {used} of {quota} devices", self.tenant.name);
                refuse(Code::DeviceQuotaReached, detail)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn set_quota(&self, quota: Option<u32>) -> Decision {
        self.tenant_becomes(Tenant { quota, ..self.tenant.clone() })
    }

    pub(super) fn close(&self, grace: Duration, grounds: &Grounds<'_>) -> Result<Decision, Refusal> {
        if grace > GRACE_MAX {
            return refuse(Code::BadRequest, "the grace is at most 366 days");
        }
        let since = self.tenant.closing.map_or(grounds.now, |closing| closing.since);
        let closing = Some(Closing { since, erase_at: grounds.now + grace });
        Ok(self.tenant_becomes(Tenant { closing, ..self.tenant.clone() }))
    }

    pub(super) fn restore(&self) -> Decision {
        self.tenant_becomes(Tenant { closing: None, ..self.tenant.clone() })
    }

    /// After its grace.
    pub(super) fn erase(&self, grounds: &Grounds<'_>) -> Result<Decision, Refusal> {
        let now = grounds.now;
        match self.tenant.closing {
            Some(closing) if closing.erase_at <= now => {}
            Some(closing) => {
                let detail = format!("tenant {} is kept until {}", self.tenant.name, closing.erase_at);
                return refuse(Code::Conflict, detail);
            }
            None => return refuse(Code::Conflict, format!("tenant {} is open", self.tenant.name)),
        }
        Ok(self.ended(now))
    }

    /// Devices and tokens are revoked, records go, and no authority signs any more. Rows that say who was there stay.
    pub(super) fn ended(&self, now: Timestamp) -> Decision {
        let revoked = |device: &Device| {
            let (standing, revoked_at) = (Standing::Revoked, Some(now));
            Fact::Device(Device { standing, revoked_at, ..device.clone() })
        };
        let ended = |token: &Token| Fact::Token(Token { revoked_at: Some(now), ..token.clone() });
        let erased = |key: &AuthorityKey| {
            Fact::Ssh(SshFact::Key(AuthorityKey { erased_at: Some(now), ..key.clone() }))
        };
        let devices = self.devices().filter(|device| device.is_live()).map(revoked);
        let tokens = self.tokens().filter(|token| token.revoked_at.is_none()).map(ended);
        let records = self.records().map(|entry| Fact::RecordGone { name: entry.name, data: entry.data });
        let keys = self.authorities.keys.values().filter(|key| key.erased_at.is_none()).map(erased);
        let tenant = Tenant { deleted_at: Some(now), hub_port: None, ..self.tenant.clone() };
        let tenant = Fact::Tenant(tenant);
        let facts = std::iter::once(tenant).chain(devices).chain(tokens).chain(records).chain(keys);
        Decision::new(facts.collect(), Answer::TenantDeleted)
    }

    pub(super) fn tenant_becomes(&self, tenant: Tenant) -> Decision {
        let facts = if tenant == self.tenant { Vec::new() } else { vec![Fact::Tenant(tenant.clone())] };
        Decision::new(facts, Answer::Tenant(tenant))
    }

    /// Of a tenant that exists only its end changes a plan, its return, and where it is on the hub: name, suffix, block and anchor
    /// are for ever.
    pub(super) fn take_tenant(&mut self, tenant: Tenant, touched: &mut Touched) {
        let (before, port) = ((self.tenant.deleted_at.is_some(), self.is_closed()), self.hub_port());
        self.tenant = tenant;
        touched.hub |= before.0 != self.tenant.deleted_at.is_some() || port != self.hub_port();
        if let Some(hub) = self.hub.as_ref().filter(|_| port != self.hub_port()) {
            self.sync_peer(hub.key, touched);
        }
        if before == (self.tenant.deleted_at.is_some(), self.is_closed()) {
            return;
        }
        let keys: Vec<PublicKey> = self.by_wireguard.keys().copied().collect();
        keys.into_iter().for_each(|key| self.sync_peer(key, touched));
        let mut names: Vec<Name> = self.plans.names().chain(self.records.keys()).cloned().collect();
        let labels = self.by_name.keys().cloned().chain([naming::hub_label()]);
        names.extend(labels.filter_map(|label| self.origin.child(&label).ok()));
        names.into_iter().for_each(|name| self.sync_name(name, touched));
        let live: Vec<_> = self.by_name.values().copied().collect();
        for id in live {
            self.sync_host_key(id, touched);
            touched.shares.insert(id);
            touched.devices.insert(id);
        }
    }
}

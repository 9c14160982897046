//! What a commit may make true: versions grow, edits touch only what they name, nothing acknowledged is taken back.

use std::time::Duration;

use control::{AuditEntry, Commit, Device, Fact, Kind, Tenant, TenantRows, Token};
use model::limits::ADDRESS_REST;
use model::{Mono, Standing};

use super::{Judge, Retired};

/// Two servers' clocks differ by so much at most.
const SKEW_BETWEEN_SERVERS: Duration = Duration::from_secs(20 * 60);

impl Judge {
    /// The store took a commit; `before` are the rows without it.
    pub fn committed(&mut self, at: Mono, commit: &Commit, before: Option<&TenantRows>) {
        let version = commit.result();
        let last = self.stored.insert(commit.tenant, version);
        let grows = last.is_none_or(|last| last < version);
        self.expect(grows, at, "generations-only-grow", || format!("the store has {version} twice"));
        for fact in &commit.facts {
            match fact {
                Fact::Tenant(tenant) => {
                    self.anchors.insert(tenant.id, tenant.anchor);
                    if let Some(before) = before {
                        self.tenant(at, commit, before, tenant);
                    }
                }
                Fact::Device(device) => self.device(at, commit, before, device),
                Fact::Token(token) => self.token(at, commit, before, token),
                Fact::Hub(hub) => {
                    self.hub_keys.entry(commit.tenant).or_default().insert(hub.key);
                }
                Fact::Record(_) | Fact::RecordGone { .. } | Fact::Ssh(_) => {}
            }
        }
    }

    /// The rows after a commit, all together.
    pub fn rows(&mut self, at: Mono, commit: &Commit, after: &TenantRows) {
        let live: Vec<&Device> = after.devices.iter().filter(|device| device.is_live()).collect();
        let counted = usize::try_from(after.devices_count) == Ok(live.len());
        let detail = || format!("{} live devices, the counter says {}", live.len(), after.devices_count);
        self.expect(counted, at, "counter-counts-devices", detail);
        let deleted = after.tenant.deleted_at.is_some() && !live.is_empty();
        self.expect(!deleted, at, "deleted-tenants-are-empty", || after.tenant.name.to_string());
        let Some(token) = commit.redeems.and_then(|id| after.tokens.iter().find(|t| t.id == id)) else {
            return;
        };
        let by_it = |device: &&Device| matches!(device.kind, Kind::Agent { token: by, .. } if by == token.id);
        let enrolled = after.devices.iter().filter(by_it).count();
        let bounded = enrolled <= token.uses_max as usize && token.uses <= token.uses_max;
        let detail = || format!("token {} of {} uses let {enrolled} devices in", token.id, token.uses_max);
        self.expect(bounded, at, "tokens-let-in-no-more-than-their-uses", detail);
    }

    /// The database was restored: these rows are what there is now.
    pub fn restored(&mut self, rows: &TenantRows) {
        let tenant = rows.tenant.id;
        self.stored.insert(tenant, rows.version);
        for device in rows.devices.iter().filter(|device| device.standing == Standing::Active) {
            self.retired.remove(&(tenant, device.wireguard));
            // It may have had another key before it was revoked: that one is gone, its name is not.
            let same = |retired: &&mut Retired| retired.name == device.name;
            let retired = self.retired.iter_mut().filter(|((of, _), _)| *of == tenant);
            retired.map(|(_, retired)| retired).filter(same).for_each(|retired| retired.addresses = None);
        }
    }

    fn device(&mut self, at: Mono, commit: &Commit, before: Option<&TenantRows>, device: &Device) {
        let Some(rows) = before else {
            return self.accuse(at, "edits-touch-what-they-name", "a device of no tenant".into());
        };
        let action = commit.audit.action.as_str();
        match rows.devices.iter().find(|row| row.id == device.id) {
            Some(row) => self.changed_device(at, &commit.audit, row, device),
            None => self.new_device(at, action, rows, device),
        }
        let others = || rows.devices.iter().filter(|row| row.id != device.id && row.is_live());
        if device.is_live() {
            let twin = others().find(|row| {
                row.number == device.number || row.name == device.name || row.wireguard == device.wireguard
            });
            let detail = || format!("device {} is like {twin:?}", device.name);
            self.expect(twin.is_none(), at, "live-devices-differ", detail);
        }
        let before = rows.devices.iter().find(|row| row.id == device.id);
        self.peerage(commit, rows, before, device);
    }

    /// A tenant's row says less and less, but for a closing that is taken back; of a closed one nobody is a peer.
    fn tenant(&mut self, at: Mono, commit: &Commit, before: &TenantRows, tenant: &Tenant) {
        let action = commit.audit.action.as_str();
        let row = &before.tenant;
        let mut allowed = row.clone();
        match action {
            "tenant.quota" => allowed.quota = tenant.quota,
            "tenant.interface" => allowed.hub_port = tenant.hub_port,
            "tenant.close" | "tenant.restore" => allowed.closing = tenant.closing,
            "tenant.delete" | "tenant.erase" => {
                (allowed.deleted_at, allowed.hub_port) = (tenant.deleted_at, None);
            }
            _ => {}
        }
        let detail = || format!("{action} turned {row:?} into {tenant:?}");
        self.expect(allowed == *tenant, at, "edits-touch-what-they-name", detail);
        if action == "tenant.erase" {
            let is_over = row.closing.is_some_and(|closing| closing.erase_at <= commit.audit.at);
            self.expect(is_over, at, "graces-are-kept", || format!("{row:?} is erased"));
        }
        let active = before.devices.iter().filter(|device| device.standing == Standing::Active);
        for device in active {
            let key = (commit.tenant, device.wireguard);
            if tenant.closing.is_none() {
                self.retired.remove(&key);
            } else if row.closing.is_none() {
                let addresses = tenant.block.host(device.number);
                let retired = Retired { version: commit.result(), addresses, name: device.name.clone() };
                self.retired.insert(key, retired);
            }
        }
    }

    fn new_device(&mut self, at: Mono, action: &str, rows: &TenantRows, device: &Device) {
        let comes = match device.kind {
            Kind::Agent { .. } => action == "device.enrol",
            Kind::Plain => action == "device.add-plain" && device.standing == Standing::Active,
        };
        let comes = comes && device.standing != Standing::Revoked && rows.tenant.closing.is_none();
        self.expect(comes, at, "edits-touch-what-they-name", || format!("{action} made {}", device.name));
        let full = rows.tenant.quota.is_some_and(|quota| rows.devices_count >= quota);
        self.expect(!full, at, "quotas-are-kept", || format!("{} is one too many", device.name));
        let same = |row: &Device| row.identity().is_some() && row.identity() == device.identity();
        let twice = rows.devices.iter().any(same);
        self.expect(!twice, at, "an-identity-enrols-once", || format!("{} enrolled again", device.name));
        let rest = ADDRESS_REST - SKEW_BETWEEN_SERVERS;
        let soon = rows.devices.iter().find(|row| {
            let free_at = row.revoked_at.map(|revoked_at| revoked_at + rest);
            row.number == device.number && free_at.is_some_and(|at| at > device.enrolled_at)
        });
        let detail = || format!("{} got the address of {soon:?}", device.name);
        self.expect(soon.is_none(), at, "addresses-rest-for-a-day", detail);
    }

    fn changed_device(&mut self, at: Mono, audit: &AuditEntry, row: &Device, device: &Device) {
        let (action, now) = (audit.action.as_str(), audit.at);
        let mut allowed = row.clone();
        match action {
            "device.approve" => {
                (allowed.standing, allowed.approved_at) = (Standing::Active, device.approved_at);
            }
            "device.rename" => allowed.name = device.name.clone(),
            "device.tag" => allowed.tags.clone_from(&device.tags),
            "device.label" => allowed.labels.clone_from(&device.labels),
            "device.expiry" => {
                allowed.expires_at = device.expires_at;
                if row.standing == Standing::Expired {
                    let back = if row.approved_at.is_some() { Standing::Active } else { Standing::Pending };
                    allowed.standing = back;
                }
            }
            "device.expire" if row.expires_at.is_some_and(|over| over <= now) => {
                allowed.standing = Standing::Expired;
            }
            "device.idle" if row.idle_max.is_some() => {
                (allowed.standing, allowed.revoked_at) = (Standing::Revoked, device.revoked_at);
            }
            "device.revoke" | "tenant.erase" => {
                (allowed.standing, allowed.revoked_at) = (Standing::Revoked, device.revoked_at);
            }
            "device.enrol" => {
                (allowed.wireguard, allowed.abilities) = (device.wireguard, device.abilities);
            }
            "device.abilities" => allowed.abilities = device.abilities,
            "device.rekey" => allowed.wireguard = device.wireguard,
            _ => {}
        }
        let detail = || format!("{action} turned {row:?} into {device:?}");
        self.expect(allowed == *device, at, "edits-touch-what-they-name", detail);
        let lives = row.is_live() || row == device;
        self.expect(lives, at, "revoked-is-for-good", || format!("{action} touched revoked {}", row.name));
    }

    /// Since when keys are peers of the hub, and since when not.
    fn peerage(&mut self, commit: &Commit, rows: &TenantRows, before: Option<&Device>, device: &Device) {
        let (tenant, version) = (commit.tenant, commit.result());
        let was = before.filter(|row| row.standing == Standing::Active);
        let is = Some(device).filter(|row| row.standing == Standing::Active);
        if let Some(was) = was
            && is.is_none_or(|is| is.wireguard != was.wireguard)
        {
            let addresses = is.is_none().then(|| rows.tenant.block.host(was.number)).flatten();
            let retired = Retired { version, addresses, name: was.name.clone() };
            self.retired.insert((tenant, was.wireguard), retired);
        }
        if let Some(is) = is {
            self.retired.remove(&(tenant, is.wireguard));
            // A server whose clock jumped a day gives an address anew, and the name may come with it: it is theirs now.
            let own = rows.tenant.block.host(is.number);
            let of_tenant = self.retired.iter_mut().filter(|((of, _), _)| *of == tenant);
            for (_, gone) in of_tenant.filter(|(_, gone)| gone.name == is.name && gone.addresses == own) {
                gone.addresses = None;
            }
            self.active.entry((tenant, is.wireguard)).or_insert(version);
        }
    }

    fn token(&mut self, at: Mono, commit: &Commit, before: Option<&TenantRows>, token: &Token) {
        let action = commit.audit.action.as_str();
        let row = before.and_then(|rows| rows.tokens.iter().find(|row| row.id == token.id));
        let Some(row) = row else {
            let creates = action == "token.create" && token.uses == 0;
            return self
                .expect(creates, at, "edits-touch-what-they-name", || format!("{action} made a token"));
        };
        let mut allowed = row.clone();
        match action {
            "device.enrol" => allowed.uses += 1,
            "token.revoke" | "tenant.delete" | "tenant.erase" => allowed.revoked_at = token.revoked_at,
            _ => {}
        }
        let detail = || format!("{action} turned {row:?} into {token:?}");
        self.expect(allowed == *token, at, "edits-touch-what-they-name", detail);
        let alive = row.revoked_at.is_none() || row == token;
        self.expect(alive, at, "revoked-is-for-good", || format!("{action} touched revoked {}", row.id));
    }
}

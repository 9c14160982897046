//! All facts of one tenant at one version, indexed so that an edit finds what it changes without a scan. Knows no
//! link and no database.
//!
//! ```text
//! Edit ──decide──▶ [Fact] or Refusal ──(store)──▶ apply ──▶ Touched ──affected──▶ nodes ──▶ patch or plan
//! ```
//!
//! Plans are kept by key: what the entry of one peer or name should be is computed from the indices alone, and
//! compared with what it was. An apply looks at the keys of the rows that changed and at no others.

mod authorities;
mod closing;
mod decide;
mod devices;
mod founding;
mod journal;
mod logins;
mod naming;
mod numbers;
mod plan;
mod ports;
mod records;
mod revocations;

use std::collections::BTreeMap;

use model::address::MeshAddresses;
use model::relay::RelayPlace;
use model::{
    AnchorSecret, DeviceId, IdentityKey, Label, Name, PublicKey, RecordData, Refusal, TenantId, TokenId,
    Version,
};

use crate::rows::{Device, DnsEntry, Fact, Hub, Tenant, TenantRows, Token};
use authorities::Authorities;
use journal::Journal;
use numbers::Numbers;
use plan::Plans;

pub use decide::{Decision, Grounds};
pub use founding::create_tenant;
pub use journal::Touched;
pub use plan::{Affected, Delta, Share};
pub use ports::Ports;

/// Why rows do not make a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRows {
    /// The anchor that was opened is not the one that the row names: another key sealed it.
    #[error("the anchor does not fit the tenant {0}")]
    Anchor(TenantId),
    /// The tenant's name and suffix are no name together.
    #[error("the zone of tenant {0} has no valid name")]
    Zone(TenantId),
    /// The rows that were read are not as many as the counter says.
    #[error("tenant {tenant} has {counted} devices by its counter, but {read} were read")]
    Incomplete {
        /// Whose.
        tenant: TenantId,
        /// What the counter says.
        counted: u32,
        /// How many rows there were.
        read: u32,
    },
}

/// The directory of one tenant.
pub struct Directory {
    version: Version,
    tenant: Tenant,
    anchor: AnchorSecret,
    origin: Name,
    devices: BTreeMap<DeviceId, Device>,
    tokens: BTreeMap<TokenId, Token>,
    records: BTreeMap<Name, BTreeMap<RecordData, u32>>,
    hub: Option<Hub>,
    /// As this server is configured: they are in no row.
    relays: Vec<RelayPlace>,
    authorities: Authorities,
    /// What the store's counter says, see [`crate::rows::Commit::devices_count`].
    devices_count: u32,
    by_identity: BTreeMap<IdentityKey, DeviceId>,
    by_wireguard: BTreeMap<PublicKey, DeviceId>,
    by_name: BTreeMap<Label, DeviceId>,
    numbers: Numbers,
    plans: Plans,
    journal: Journal,
}

impl Directory {
    /// The directory of rows that were read whole. Nothing is published of rows that were not.
    pub fn new(rows: TenantRows, anchor: AnchorSecret) -> Result<Self, BadRows> {
        let tenant = rows.tenant;
        let id = tenant.id;
        if anchor.public() != tenant.anchor {
            return Err(BadRows::Anchor(id));
        }
        let origin = tenant.suffix.child(&tenant.name).map_err(|_| BadRows::Zone(id))?;
        let mut directory = Self {
            version: rows.version,
            anchor,
            devices: BTreeMap::new(),
            tokens: BTreeMap::new(),
            records: BTreeMap::new(),
            hub: None,
            relays: Vec::new(),
            authorities: Authorities::default(),
            devices_count: rows.devices_count,
            by_identity: BTreeMap::new(),
            by_wireguard: BTreeMap::new(),
            by_name: BTreeMap::new(),
            numbers: Numbers::new(tenant.block.hosts()),
            plans: Plans::new(origin.clone(), tenant.block),
            journal: Journal::new(rows.version.generation),
            origin,
            tenant,
        };
        let facts = rows.devices.into_iter().map(Fact::Device);
        let facts = facts.chain(rows.tokens.into_iter().map(Fact::Token));
        let facts = facts.chain(rows.records.into_iter().map(Fact::Record));
        let facts = facts.chain(rows.hub.map(Fact::Hub));
        let facts: Vec<Fact> = facts.chain(rows.ssh.into_facts().map(Fact::Ssh)).collect();
        directory.take(facts);
        if let Ok(hub) = directory.origin.child(&naming::hub_label()) {
            directory.sync_name(hub, &mut Touched::default());
        }
        directory.plans.refresh_digests();
        directory.check_complete()?;
        Ok(directory)
    }

    /// Announces these relays to devices from now on. A node that holds the current version without them is given a new
    /// one, as every node whose contents are others.
    pub(crate) fn set_relays(&mut self, relays: &[RelayPlace]) {
        self.relays = relays.to_vec();
    }

    /// The tenant.
    pub const fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Where the directory stands.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The apex of its zone.
    pub const fn origin(&self) -> &Name {
        &self.origin
    }

    /// Signs its snapshots.
    pub(crate) const fn anchor(&self) -> &AnchorSecret {
        &self.anchor
    }

    /// The hub, once there was one.
    pub const fn hub(&self) -> Option<&Hub> {
        self.hub.as_ref()
    }

    /// Every device by its id, revoked ones too.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// One device.
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(&id)
    }

    /// The device of that name; revoked ones have none.
    pub fn device_named(&self, name: &Label) -> Option<&Device> {
        self.by_name.get(name).and_then(|id| self.devices.get(id))
    }

    /// The device that proved this identity.
    pub fn device_identified(&self, identity: &IdentityKey) -> Option<&Device> {
        self.by_identity.get(identity).and_then(|id| self.devices.get(id))
    }

    /// The addresses that a device has or will have once it is approved.
    pub fn addresses(&self, device: &Device) -> Option<MeshAddresses> {
        self.tenant.block.host(device.number)
    }

    /// Every token by its id.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values()
    }

    /// One token.
    pub fn token(&self, id: TokenId) -> Option<&Token> {
        self.tokens.get(&id)
    }

    /// Every custom record by its name.
    pub fn records(&self) -> impl Iterator<Item = DnsEntry> {
        self.records.iter().flat_map(|(name, set)| {
            set.iter().map(|(data, ttl)| DnsEntry { name: name.clone(), data: data.clone(), ttl: *ttl })
        })
    }

    /// Devices that are not revoked. Each has a name of its own, so two rows of one name count as one too few.
    pub fn live_count(&self) -> usize {
        self.by_name.len()
    }

    /// How many devices the store's counter must say after these facts.
    pub(crate) fn count_after(&self, facts: &[Fact]) -> u32 {
        let live = |device: &Device| i64::from(device.is_live());
        let change: i64 = facts
            .iter()
            .filter_map(|fact| match fact {
                Fact::Device(device) => Some(live(device) - self.device(device.id).map_or(0, live)),
                _ => None,
            })
            .sum();
        u32::try_from(i64::from(self.devices_count) + change).unwrap_or_default()
    }

    /// Takes facts that are in the store: the directory is at `version` afterwards. Says which parts of plans changed.
    pub fn apply(
        &mut self,
        version: Version,
        devices_count: u32,
        facts: Vec<Fact>,
    ) -> Result<Touched, BadRows> {
        self.version = version;
        self.devices_count = devices_count;
        let touched = self.take(facts);
        self.journal.push(version.generation, touched.clone());
        self.check_complete()?;
        Ok(touched)
    }

    /// Whether the rows are as many as the counter says: only then is anything published.
    pub fn check_complete(&self) -> Result<(), BadRows> {
        let read = u32::try_from(self.live_count()).unwrap_or(u32::MAX);
        if read == self.devices_count {
            return Ok(());
        }
        Err(BadRows::Incomplete { tenant: self.tenant.id, counted: self.devices_count, read })
    }

    fn take(&mut self, facts: Vec<Fact>) -> Touched {
        let mut touched = Touched::default();
        for fact in facts {
            match fact {
                Fact::Tenant(tenant) => self.take_tenant(tenant, &mut touched),
                Fact::Device(device) => self.take_device(&device, &mut touched),
                Fact::Token(token) => {
                    self.tokens.insert(token.id, token);
                }
                Fact::Record(entry) => self.take_record(entry, &mut touched),
                Fact::RecordGone { name, data } => self.drop_record(&name, &data, &mut touched),
                Fact::Hub(hub) => self.take_hub(hub, &mut touched),
                Fact::Ssh(fact) => self.take_ssh(fact, &mut touched),
            }
        }
        self.plans.refresh_digests();
        touched
    }

    fn take_device(&mut self, device: &Device, touched: &mut Touched) {
        let id = device.id;
        let before = self.devices.insert(id, device.clone());
        if let Some(before) = &before {
            self.unindex(before);
        }
        self.index(device);
        let share = |device: &Device| (self.standing(device), self.share_of(device));
        if before.as_ref().map(share) != Some(share(device)) {
            touched.shares.insert(id);
            touched.devices.insert(id);
        }
        for row in before.iter().chain([device]) {
            self.sync_peer(row.wireguard, touched);
            self.sync_device_name(&row.name, touched);
        }
        self.sync_host_key(id, touched);
        let own = |d: &Device| (d.name.clone(), d.number, self.standing(d).told_to(d.abilities));
        let differs = |before: &Device| own(before) != own(device) || self.has_other_logins(before, device);
        if before.as_ref().is_some_and(differs) {
            touched.devices.insert(id);
        }
    }

    fn index(&mut self, device: &Device) {
        let id = device.id;
        if let Some(identity) = device.identity() {
            self.by_identity.insert(*identity, id);
        }
        if !device.is_live() {
            let revoked_at = device.revoked_at.unwrap_or(device.enrolled_at);
            self.numbers.rest(device.number, id, revoked_at);
            return;
        }
        self.numbers.hold(device.number, id);
        self.by_wireguard.insert(device.wireguard, id);
        self.by_name.insert(device.name.clone(), id);
    }

    fn unindex(&mut self, device: &Device) {
        if self.by_wireguard.get(&device.wireguard) == Some(&device.id) {
            self.by_wireguard.remove(&device.wireguard);
        }
        if self.by_name.get(&device.name) == Some(&device.id) {
            self.by_name.remove(&device.name);
        }
    }

    fn take_record(&mut self, entry: DnsEntry, touched: &mut Touched) {
        self.records.entry(entry.name.clone()).or_default().insert(entry.data, entry.ttl);
        self.sync_name(entry.name, touched);
    }

    fn drop_record(&mut self, name: &Name, data: &RecordData, touched: &mut Touched) {
        let Some(set) = self.records.get_mut(name) else { return };
        set.remove(data);
        if set.is_empty() {
            self.records.remove(name);
        }
        self.sync_name(name.clone(), touched);
    }

    fn take_hub(&mut self, hub: Hub, touched: &mut Touched) {
        let before = self.hub.replace(hub);
        let now = self.hub.as_ref().expect("set in the line above");
        let keys = |hub: &Hub| (hub.key, hub.serial, hub.next, hub.retiring);
        if before.as_ref().map(keys) != Some(keys(now)) {
            self.plans.set_hub_keys(now, self.tenant.id, self.version.epoch, &self.anchor);
            touched.hub_keys = true;
        }
        let keys: Vec<_> = before.iter().map(|hub| hub.key).chain([now.key]).collect();
        keys.into_iter().for_each(|key| self.sync_peer(key, touched));
    }
}

fn refuse<T>(code: model::Code, detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, detail))
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Directory({} at {}, {} devices)", self.tenant.name, self.version, self.devices.len())
    }
}

//! What administrators read and write under `/api/v1`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::address::Endpoint;
use crate::id::{DeviceId, TenantId, TokenId};
use crate::key::{Fingerprint, PublicKey};
use crate::name::{Label, Name};
use crate::time::Timestamp;
use crate::wire::Facts;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name, the first label of its zone.
    pub name: Label,
    /// Its zone, such as `home.internal`.
    pub zone: Name,
    /// Its IPv4 addresses.
    #[schema(value_type = String)]
    pub block_v4: Ipv4Net,
    /// Its IPv6 addresses.
    #[schema(value_type = String)]
    pub block_v6: Ipv6Net,
    /// What its tokens carry and its devices pin.
    pub anchor: Fingerprint,
    /// Epoch and generation of its directory, such as `0.17`.
    pub version: String,
    /// `open`, or `closed`: it is to go, and nothing of it takes part in anything.
    #[serde(default)]
    pub state: String,
    /// When a closed one is erased; until then it can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erase_at: Option<Timestamp>,
    /// Devices that are not revoked.
    pub devices: u32,
    /// How many there may be; as many as there are addresses if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u32>,
    /// The UDP port of the interface that it has for itself on the hub; absent: it is on the one that tenants share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub_port: Option<u16>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The wish for a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// Its name.
    pub name: Label,
    /// Its IPv4 block; the server picks a free /16 of 100.64.0.0/10 if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub block_v4: Option<Ipv4Net>,
    /// Whether it has an interface of its own on the hub.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_interface: bool,
    /// The UDP port of that interface, from 1024 on; the server picks the next free one if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub_port: Option<u16>,
}

/// A change of a tenant; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantChange {
    /// How many devices it may have from now on; those that it has stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 16_777_216)]
    pub quota: Option<u32>,
    /// As many as there are addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_quota: bool,
    /// Whether it has an interface of its own on the hub from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_interface: Option<bool>,
    /// The UDP port of that interface, from 1024 on; absent: the one that it has, or the next free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub_port: Option<u16>,
}

/// An onboarding token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Whose.
    pub tenant: Label,
    /// `live`, `used`, `expired` or `revoked`.
    pub state: String,
    /// How often it was redeemed.
    pub uses: u32,
    /// How often it may be.
    pub uses_max: u32,
    /// Whether its devices wait for an administrator.
    pub approve: bool,
    /// Tags of its devices.
    pub tags: Vec<Label>,
    /// Its devices expire so many seconds after they enrolled; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_ttl_seconds: Option<u64>,
    /// Its devices are ephemeral: each goes when nobody heard it for so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_idle_seconds: Option<u64>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Who made it.
    pub created_by: String,
}

/// The wish for an onboarding token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Life in seconds, up to [`crate::limits::TOKEN_TTL_MAX`].
    pub ttl_seconds: u64,
    /// How many devices may redeem it, 1 to [`crate::limits::TOKEN_USES_MAX`].
    pub uses: u32,
    /// Whether its devices wait for an administrator.
    #[serde(default)]
    pub approve: bool,
    /// Tags of its devices.
    #[serde(default)]
    pub tags: Vec<Label>,
    /// As in [`Token`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_ttl_seconds: Option<u64>,
    /// As in [`Token`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_idle_seconds: Option<u64>,
}

/// A token just made: the only answer that holds the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// Without the secret.
    #[serde(flatten)]
    pub token: Token,
    /// The whole text to paste, shown this once.
    pub secret: String,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Its name.
    pub name: Label,
    /// Whose.
    pub tenant: Label,
    /// `agent`, or `plain`: a WireGuard client without an agent. Such a one is never known to be online or settled.
    #[serde(default)]
    pub kind: String,
    /// Its name with the zone.
    pub fqdn: Name,
    /// `pending`, `active`, `expired`, `closed` or `revoked`.
    pub standing: String,
    /// Its mesh address.
    #[schema(value_type = String)]
    pub address_v4: Ipv4Addr,
    /// Its mesh address.
    #[schema(value_type = String)]
    pub address_v6: Ipv6Addr,
    /// Its WireGuard key, as `wg` prints it.
    pub wireguard_key: PublicKey,
    /// What it says that it runs.
    pub os: String,
    /// Tags.
    pub tags: Vec<Label>,
    /// Labels, which administrators set: values by their keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: BTreeMap<Label, Label>,
    /// From then on it takes no part; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// It is ephemeral: it goes when nobody heard it for so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u64>,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// Whether it holds a link now.
    pub online: bool,
    /// Program and version, as it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Where it called from last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub calls_from: Option<IpAddr>,
    /// What it says of its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// When it was heard last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// Epoch and generation that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<String>,
    /// Whether its host is as its snapshot says.
    pub settled: bool,
    /// What it reports to be wrong.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// The wish for a plain peer: a WireGuard client without an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlainPeer {
    /// Its name.
    pub name: Label,
    /// Its public key. The other half stays with whoever made it.
    pub wireguard_key: PublicKey,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Label>,
}

/// A plain peer just added, and what its configuration says beside its private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlainPeer {
    /// Itself.
    #[serde(flatten)]
    pub device: Device,
    /// The hub's WireGuard key.
    pub hub_key: PublicKey,
    /// Where the hub answers.
    pub endpoint: Endpoint,
    /// What is reached through the hub: the mesh.
    #[schema(value_type = Vec<String>)]
    pub allowed: Vec<IpNet>,
    /// The hub's mesh addresses, which answer names.
    #[schema(value_type = Vec<String>)]
    pub dns: Vec<IpAddr>,
    /// The zone in which short names are looked for.
    pub zone: Name,
    /// Of the interface, in bytes.
    pub mtu: u16,
    /// Seconds between keepalives.
    pub keepalive_seconds: u16,
}

/// A change of a device; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceChange {
    /// Its new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Label>,
    /// Its new tags, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<Label>>,
    /// Its new labels, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub labels: Option<BTreeMap<Label, Label>>,
    /// It expires so many seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after_seconds: Option<u64>,
    /// It never expires.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_expires: bool,
}

/// A device after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedDevice {
    /// As it is now.
    #[serde(flatten)]
    pub device: Device,
    /// Custom records that still lead to the name that it had, which is nobody's now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dangling: Vec<Record>,
}

/// A custom record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Owner: a name in the zone, with the zone or without it. `*` as the first label is a wildcard (RFC 4592).
    pub name: String,
    /// `A`, `AAAA`, `CNAME`, `TXT` or `SRV`.
    #[serde(rename = "type")]
    pub kind: String,
    /// As people write it; of SRV `PRIORITY WEIGHT PORT TARGET`.
    pub value: String,
    /// Seconds; 30 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
}

/// The server as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Of the server.
    pub version: String,
    /// `ok` or `degraded`.
    pub status: String,
    /// Each check by name: `ok`, or what is wrong.
    pub checks: BTreeMap<String, String>,
    /// `sqlite` or `postgres`.
    pub database: String,
    /// The hub, once it attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<Hub>,
    /// Tenants.
    pub tenants: u32,
    /// Devices that are active.
    pub devices_active: u32,
    /// Devices that hold a link now.
    pub devices_online: u32,
    /// Seconds since the process started.
    pub uptime_seconds: u64,
}

/// The hub as the API process sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hub {
    /// Its WireGuard key.
    pub wireguard_key: PublicKey,
    /// Where devices reach it.
    pub endpoint: Endpoint,
    /// The UDP ports of the interfaces that tenants have for themselves on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub own_ports: BTreeMap<Label, u16>,
    /// Whether it holds a link now.
    pub online: bool,
    /// Whether its host is as its snapshots say.
    pub settled: bool,
    /// Which WireGuard carries its packets: `kernel`, or `userspace` with its cipher; once it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// What it reports to be wrong.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// What a look at the server found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Examination {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Of the server.
    pub version: String,
    /// The server's clock.
    pub now: Timestamp,
    /// How devices and people are to reach it.
    pub public_url: String,
    /// Of its TLS key.
    pub fingerprint: Fingerprint,
    /// Everything that was looked at.
    pub findings: Vec<super::local::Finding>,
}

/// What somebody who helps needs to see, without a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SupportBundle {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Text by the name of its file.
    pub files: BTreeMap<String, String>,
}

/// `/api/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Of the server.
    pub version: String,
    /// Lowest and highest version of the link that it speaks.
    #[schema(value_type = Vec<u16>, min_items = 2, max_items = 2)]
    pub link_versions: (u16, u16),
    /// Whether it does a request with an `Idempotency-Key` once, however often it is sent.
    #[serde(default)]
    pub idempotency_keys: bool,
}

/// `/healthz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `degraded`.
    pub status: String,
    /// Each check by name: `ok`, or what is wrong.
    pub checks: BTreeMap<String, String>,
}

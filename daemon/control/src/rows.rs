//! The rows of a directory and the facts, commits and refreshes that carry them. Knows no SQL and decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use model::key::TokenKey;
use model::wire::{Facts, Remark};
use model::{
    Abilities, AnchorKey, AnchorSecret, Block, Code, DeviceId, Endpoint, Epoch, Generation, Held,
    IdentityKey, Label, Name, PublicKey, RecordData, Standing, TenantId, Timestamp, TokenId, Version,
};

pub use crate::actor::{Actor, BadActor, By, Trace};
use crate::lease::Term;
use crate::ssh::{NewKey, SshFact, SshRows};

/// One isolated mesh. A deleted tenant stays as a row, so that a hub that was away still learns it from the anchor;
/// its name and block are free again: they are unique among the tenants that are not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// The label of its zone below the suffix.
    pub name: Label,
    /// What its zone ends in; the origin is `name.suffix`.
    pub suffix: Name,
    /// Its addresses.
    pub block: Block,
    /// What its devices pin.
    pub anchor: AnchorKey,
    /// When it was created.
    pub created_at: Timestamp,
    /// How many devices it may have that are not revoked; none: as many as there are addresses.
    pub quota: Option<u32>,
    /// The UDP port of the interface that it has for itself on the hub, unique among tenants; none: it is on the shared one.
    pub hub_port: Option<u16>,
    /// Whether it is to go.
    pub closing: Option<Closing>,
    /// When it was deleted, if it was.
    pub deleted_at: Option<Timestamp>,
}

/// A tenant that is to go takes no part in anything, holds its name and block, and can be restored until it is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// When it was closed.
    pub since: Timestamp,
    /// From then on it is erased.
    pub erase_at: Timestamp,
}

/// How long a device stays that a token let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stay {
    /// It expires so long after it enrolled.
    pub expires_after: Option<Duration>,
    /// It goes when nobody heard it for so long.
    pub idle_max: Option<Duration>,
}

/// What a device runs, and how it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An agent, which proved its identity and enrolled with a token.
    Agent {
        /// Unique in the tenant for ever.
        identity: IdentityKey,
        /// The token that it redeemed.
        token: TokenId,
    },
    /// A WireGuard client without an agent, which an administrator added: it reaches the mesh through the hub.
    Plain,
}

impl Kind {
    /// As people and the API see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent { .. } => "agent",
            Self::Plain => "plain",
        }
    }
}

/// An enrolled machine, or a plain peer. A revoked device stays as a row, so that its identity stays refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Unique among the tenant's devices that are not revoked.
    pub name: Label,
    /// Whether there is an agent on it.
    pub kind: Kind,
    /// Unique among the tenant's devices that are not revoked.
    pub wireguard: PublicKey,
    /// Which host of the block it is, see [`Block::host`]; unique among the tenant's devices that are not revoked.
    pub number: u32,
    /// Whether it may take part.
    pub standing: Standing,
    /// For people and policies.
    pub tags: BTreeSet<Label>,
    /// The same with a value each.
    pub labels: BTreeMap<Label, Label>,
    /// From then on it takes no part; its standing is another as soon as an edit said so.
    pub expires_at: Option<Timestamp>,
    /// It is ephemeral: it goes when nobody heard it for so long.
    pub idle_max: Option<Duration>,
    /// What it said of its operating system.
    pub os: Remark,
    /// What its program knew when it was attached last: what the snapshots of it and of others may tell of it.
    pub abilities: Abilities,
    /// When it enrolled, or was added.
    pub enrolled_at: Timestamp,
    /// When it became active.
    pub approved_at: Option<Timestamp>,
    /// When it was revoked; its number rests for a day from then.
    pub revoked_at: Option<Timestamp>,
}

impl Device {
    /// Whether it is not revoked: it holds its name, its WireGuard key and its number.
    pub fn is_live(&self) -> bool {
        self.standing != Standing::Revoked
    }

    /// What its agent proves; a plain peer has none.
    pub const fn identity(&self) -> Option<&IdentityKey> {
        match &self.kind {
            Kind::Agent { identity, .. } => Some(identity),
            Kind::Plain => None,
        }
    }

    /// Whether it has no agent.
    pub const fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Plain)
    }
}

/// An onboarding token. The server has only the public half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Verifies what the token's seed signs.
    pub key: TokenKey,
    /// When it was created.
    pub created_at: Timestamp,
    /// Who created it.
    pub created_by: Actor,
    /// From then on it is refused.
    pub expires_at: Timestamp,
    /// How many devices it lets in.
    pub uses_max: u32,
    /// How many it let in.
    pub uses: u32,
    /// Whether an administrator must approve the devices that it lets in.
    pub needs_approval: bool,
    /// What its devices are tagged with.
    pub tags: BTreeSet<Label>,
    /// How long they stay.
    pub stay: Stay,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

/// A custom record. The key is the name and the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsEntry {
    /// Whole, within the tenant's zone.
    pub name: Name,
    /// Type and value.
    pub data: RecordData,
    /// Seconds.
    pub ttl: u32,
}

/// The hub as a tenant's devices know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// In use now.
    pub key: PublicKey,
    /// Grows with each set of keys that the anchor states.
    pub serial: u64,
    /// Where its WireGuard answers.
    pub endpoint: Endpoint,
    /// Announced for a rotation.
    pub next: Option<PublicKey>,
    /// Was in use before.
    pub retiring: Option<PublicKey>,
}

/// What became true: a full row. Applying one is an upsert, so every replica applies the same facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The tenant is this.
    Tenant(Tenant),
    /// The device of this id is this.
    Device(Device),
    /// The token of this id is this.
    Token(Token),
    /// The record of this name and data is this.
    Record(DnsEntry),
    /// There is no such record.
    RecordGone {
        /// Whole, within the tenant's zone.
        name: Name,
        /// Type and value.
        data: RecordData,
    },
    /// The hub is this.
    Hub(Hub),
    /// Something of the SSH authorities is so.
    Ssh(SshFact),
}

/// Counts the commits of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitId(pub u64);

/// One transaction: compare-and-set of the version, the facts, the audit entry; all or nothing.
#[derive(Debug)]
pub struct Commit {
    /// To be given back with the result.
    pub id: CommitId,
    /// Whose directory.
    pub tenant: TenantId,
    /// The version that the tenant must have in the store; generation 0 is a tenant that is not there yet. With
    /// success it has [`Commit::result`].
    pub expect: Version,
    /// What becomes true, in order. Never empty.
    pub facts: Vec<Fact>,
    /// What only the holder of the lease may do: the commit ends as a conflict once a later term has begun.
    pub term: Option<Term>,
    /// The token that a new device uses up: its `uses` are raised by a conditional update, in this transaction, and
    /// the commit fails with [`CommitError::TokenUsed`] where that finds no use left. Its fact is among the facts too.
    pub redeems: Option<TokenId>,
    /// The tenant's devices that are not revoked, after this commit. Stored beside the version, never computed from
    /// the device rows: a read of the rows is checked against it.
    pub devices_count: u32,
    /// Stored with the facts.
    pub audit: AuditEntry,
    /// The anchor of a new tenant, to be sealed and stored with it.
    pub new_anchor: Option<AnchorSecret>,
    /// Keys that SSH authorities get, to be sealed and stored with the facts that name them.
    pub new_keys: Vec<NewKey>,
}

impl Commit {
    /// The version that the tenant has when the commit succeeded.
    pub const fn result(&self) -> Version {
        Version { epoch: self.expect.epoch, generation: self.expect.generation.next() }
    }
}

/// Why a commit changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The tenant has another version, or a uniqueness of the rows would break: somebody else was faster.
    #[error("the directory was changed by somebody else")]
    Conflict,
    /// The token had no use left.
    #[error("the token has no use left")]
    TokenUsed,
    /// The database did not do it. Our own words are first, the driver's come after a colon.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
}

/// Everything that the store has, read in one transaction at start.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Of the database; every tenant's version has it.
    pub epoch: Epoch,
    /// Every tenant, deleted ones too.
    pub tenants: Vec<TenantRows>,
    /// What was saved of the devices' presence.
    pub presence: Vec<PresenceRow>,
}

/// All rows of one tenant, read in one transaction.
#[derive(Debug, Clone)]
pub struct TenantRows {
    /// The tenant itself.
    pub tenant: Tenant,
    /// Where its directory stands.
    pub version: Version,
    /// The counter that the last commit stored, see [`Commit::devices_count`].
    pub devices_count: u32,
    /// As the store has it; only the shell can open it.
    pub sealed_anchor: Vec<u8>,
    /// Every device, revoked ones too.
    pub devices: Vec<Device>,
    /// Every token.
    pub tokens: Vec<Token>,
    /// Every custom record.
    pub records: Vec<DnsEntry>,
    /// The hub, once there was one.
    pub hub: Option<Hub>,
    /// Its SSH authorities, once they were founded.
    pub ssh: SshRows,
}

/// What another replica wrote to one tenant, read in one transaction.
#[derive(Debug, Clone)]
pub enum Refresh {
    /// The facts since the generation that was asked for, in order, up to `version`. Empty if there is none.
    Facts {
        /// Where the directory stands after them.
        version: Version,
        /// The counter that the last commit stored.
        devices_count: u32,
        /// In the order of their commits.
        facts: Vec<Fact>,
    },
    /// The change log does not reach back so far, or the whole was asked for.
    Whole(Box<TenantRows>),
}

/// What heartbeats told of one device, as it is saved now and then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceRow {
    /// Whose device.
    pub tenant: TenantId,
    /// Which device.
    pub device: DeviceId,
    /// When it was heard last.
    pub last_seen: Timestamp,
    /// What it held then.
    pub held: Option<Held>,
    /// Whether its host was settled then.
    pub settled: bool,
    /// Program and version.
    pub software: Remark,
    /// Where it called from.
    pub address: Option<IpAddr>,
    /// Whether it held a link then, to whichever replica.
    pub attached: bool,
    /// What its machine is like, once it said so.
    pub facts: Option<Facts>,
}

/// One line of the audit log: with its commit when the edit was granted, alone when it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it was decided.
    pub at: Timestamp,
    /// Whose directory, where it is one tenant's.
    pub tenant: Option<TenantId>,
    /// Who wanted it.
    pub actor: Actor,
    /// The dotted name of the edit, such as `device.revoke`.
    pub action: String,
    /// What it was about: a name or an id.
    pub target: String,
    /// Why it was refused; `None` when it was done.
    pub refused: Option<Code>,
    /// What happened, for people.
    pub detail: String,
    /// Where it came from.
    pub trace: Trace,
}

impl AuditEntry {
    /// Which kind of entry it is.
    pub fn class(&self) -> AuditClass {
        match self.action.as_str() {
            _ if self.refused.is_some() => AuditClass::Refusal,
            "user.login" | "user.logout" | "ssh.login" => AuditClass::Login,
            "certificate.issue" => AuditClass::Certificate,
            _ => AuditClass::Change,
        }
    }
}

/// Kinds of entries of the audit log: each may be kept for a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditClass {
    /// What somebody changed.
    Change,
    /// People who came and went, and logins on hosts.
    Login,
    /// Certificates that were signed.
    Certificate,
    /// What somebody was not let do, failed logins among it.
    Refusal,
}

impl AuditClass {
    /// Its word in the database, which is part of each entry's digest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Login => "login",
            Self::Certificate => "certificate",
            Self::Refusal => "refusal",
        }
    }
}

impl FromStr for AuditClass {
    type Err = NoAuditClass;
    fn from_str(text: &str) -> Result<Self, NoAuditClass> {
        let all = [Self::Change, Self::Login, Self::Certificate, Self::Refusal];
        all.into_iter().find(|class| class.as_str() == text).ok_or(NoAuditClass)
    }
}

/// The text names no class of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no class of audit entries")]
pub struct NoAuditClass;

/// Where the store stands: a cheap read that says which tenants another replica changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standings {
    /// How often the database was put back from a backup; every version has it.
    pub epoch: Epoch,
    /// The version of every tenant, deleted ones too.
    pub versions: Vec<(TenantId, Version)>,
}

/// How a refresh asks: for the facts since a generation, or for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Only what came after it.
    Generation(Generation),
    /// Everything.
    Nothing,
}

//! A tenant's names as plain data: what Magic DNS serves. Knows no DNS message and answers nothing.

mod data;

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::address::{Block, MeshAddresses};
use crate::buckets::Buckets;
use crate::key::Digest;
use crate::limits::{NAME_TTL_SECONDS, SSH_ALIASES_MAX};
use crate::name::Name;

pub use data::{BadRecord, BadText, Later, RecordData, Text, quoted};

/// All names of one tenant. The serial of its SOA is the generation of the snapshot that it came with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Zone {
    /// `<tenant>.<suffix>`; every owner in `names` is within it.
    #[n(0)]
    pub origin: Name,
    /// The addresses whose PTR names this zone answers.
    #[n(1)]
    pub block: Block,
    /// Records by owner. An owner may be a wildcard (RFC 4592).
    #[n(2)]
    pub names: Buckets<Name, RecordSet>,
}

impl Zone {
    /// Owners whose CNAME leads to this name, in order; at most [`crate::limits::SSH_ALIASES_MAX`], and no wildcard.
    pub fn aliases_of(&self, name: &Name) -> BTreeSet<Name> {
        let leads = |set: &RecordSet| matches!(&set.records[..], [Record { data: RecordData::Cname(to), .. }] if to == name);
        let aliases = self.names.iter().filter(|(owner, set)| !owner.is_wildcard() && leads(set));
        let aliases: BTreeSet<Name> = aliases.map(|(owner, _)| owner.clone()).collect();
        aliases.into_iter().take(SSH_ALIASES_MAX).collect()
    }
}

/// All records of one owner.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct RecordSet {
    /// Sorted, without repetition. A CNAME stands alone.
    #[n(0)]
    pub records: Vec<Record>,
    /// Whether PTR questions for the addresses are answered with this owner.
    #[n(1)]
    pub reverse: bool,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct Record {
    /// Type and value.
    #[n(0)]
    pub data: RecordData,
    /// Seconds.
    #[n(1)]
    pub ttl: u32,
}

impl RecordSet {
    /// The set of a device's name: its two addresses, answering PTR.
    pub fn of_node(addresses: MeshAddresses) -> Self {
        let record = |data| Record { data, ttl: NAME_TTL_SECONDS };
        let records = vec![record(RecordData::A(addresses.v4)), record(RecordData::Aaaa(addresses.v6))];
        Self { records, reverse: true }
    }
}

impl Zone {
    /// A zone without names.
    pub fn new(origin: Name, block: Block) -> Self {
        Self { origin, block, names: Buckets::new() }
    }

    /// The digest of all of it. Costs what changed since it was computed last.
    pub fn digest(&mut self) -> Digest {
        let head = minicbor::to_vec((&self.origin, &self.block)).expect("writing to memory cannot fail");
        Digest::of("warren zone 1", &[&head, self.names.digest().as_bytes()])
    }
}

//! Records as hickory-proto writes them. Decides nothing about which.

use hickory_proto::rr::rdata::{A, AAAA, CNAME, HINFO, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name as WireName, RData, Record as WireRecord};
use model::limits::{NAME_TTL_SECONDS, NEGATIVE_TTL_SECONDS};

use crate::authority::Authority;
use crate::limits::{SOA_EXPIRE_SECONDS, SOA_REFRESH_SECONDS, SOA_RETRY_SECONDS};
use crate::node::{Ready, kind};
use crate::wire::{Starts, suffixes};

/// What an answer of type ANY says (RFC 8482, section 4.2).
pub(crate) const ANY_CPU: &str = "RFC8482";

/// Makes the records of one answer. Names in them have the case of the question as far as they end alike, so that
/// they are compressed wherever they can be (RFC 1035, section 4.1.4).
pub(crate) struct Writer<'q> {
    question: &'q WireName,
}

impl<'q> Writer<'q> {
    pub(crate) const fn new(question: &'q WireName) -> Self {
        Self { question }
    }

    /// A name from its wire form without the root.
    pub(crate) fn name(&self, wire: &[u8]) -> WireName {
        let starts = Starts::of(wire);
        let own: Vec<&[u8]> = (0..starts.len()).map(|at| starts.label(wire, at)).collect();
        let asked: Vec<&[u8]> = self.question.iter().collect();
        let alike =
            own.iter().rev().zip(asked.iter().rev()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
        let labels = own[..own.len() - alike].iter().chain(&asked[asked.len() - alike..]);
        WireName::from_labels(labels.copied()).expect("as long as it was")
    }

    /// A record of the zone. `None` if it is of no type that zones have.
    pub(crate) fn of_zone(&self, owner: &WireName, record: Ready<'_>) -> Option<WireRecord> {
        let data = record.data();
        let data = match record.kind() {
            kind::A => RData::A(A(<[u8; 4]>::try_from(data).ok()?.into())),
            kind::AAAA => RData::AAAA(AAAA(<[u8; 16]>::try_from(data).ok()?.into())),
            kind::CNAME => RData::CNAME(CNAME(self.name(record.target()))),
            kind::TXT => RData::TXT(TXT::from_bytes(vec![&data[1..]])),
            kind::SRV => {
                let number = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
                // Never compressed (RFC 2782), so it has its own case.
                let target = suffixes(record.target()).filter(|name| !name.is_empty());
                let labels = target.map(|name| &name[1..=usize::from(name[0])]);
                let target = WireName::from_labels(labels).ok()?;
                RData::SRV(SRV::new(number(0), number(2), number(4), target))
            }
            _ => return None,
        };
        Some(WireRecord::from_rdata(owner.clone(), record.ttl(), data))
    }

    /// The answer to a question for the name of an address.
    pub(crate) fn ptr(&self, name: &[u8]) -> WireRecord {
        let data = RData::PTR(PTR(self.name(name)));
        WireRecord::from_rdata(self.question.clone(), NAME_TTL_SECONDS, data)
    }

    /// The NS of an apex.
    pub(crate) fn ns(&self, apex: &WireName, authority: &Authority) -> WireRecord {
        let data = RData::NS(NS(self.name(&authority.server)));
        WireRecord::from_rdata(apex.clone(), NAME_TTL_SECONDS, data)
    }

    /// The SOA of an apex as an answer.
    pub(crate) fn soa(&self, apex: &WireName, authority: &Authority) -> WireRecord {
        self.soa_with_ttl(apex, authority, NAME_TTL_SECONDS)
    }

    /// The SOA that says how long a negative answer holds (RFC 2308, section 3).
    pub(crate) fn negative_soa(&self, apex: &WireName, authority: &Authority) -> WireRecord {
        self.soa_with_ttl(apex, authority, NEGATIVE_TTL_SECONDS)
    }

    fn soa_with_ttl(&self, apex: &WireName, authority: &Authority, ttl: u32) -> WireRecord {
        let data = SOA::new(
            self.name(&authority.server),
            self.name(&authority.mailbox),
            authority.serial(),
            SOA_REFRESH_SECONDS,
            SOA_RETRY_SECONDS,
            SOA_EXPIRE_SECONDS,
            NEGATIVE_TTL_SECONDS,
        );
        WireRecord::from_rdata(apex.clone(), ttl, RData::SOA(data))
    }
}

/// The answer to a question of type ANY (RFC 8482, section 4.2).
pub(crate) fn any(owner: &WireName) -> WireRecord {
    let data = HINFO::new(ANY_CPU.into(), String::new());
    WireRecord::from_rdata(owner.clone(), NAME_TTL_SECONDS, RData::HINFO(data))
}

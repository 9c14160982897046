//! Records as hickory-proto writes them. Decides nothing about which.

use hickory_proto::rr::rdata::{A, AAAA, CNAME, HINFO, NS, PTR, SOA, TXT};
use hickory_proto::rr::{Name as WireName, RData, Record as WireRecord, RecordType};
use model::limits::{NAME_TTL_SECONDS, NEGATIVE_TTL_SECONDS};
use model::{Name, Record, RecordData};

use crate::limits::{SOA_EXPIRE_SECONDS, SOA_REFRESH_SECONDS, SOA_RETRY_SECONDS};

/// The type under which a record is asked for.
pub(crate) const fn kind(data: &RecordData) -> RecordType {
    match data {
        RecordData::A(_) => RecordType::A,
        RecordData::Aaaa(_) => RecordType::AAAA,
        RecordData::Cname(_) => RecordType::CNAME,
        RecordData::Txt(_) => RecordType::TXT,
    }
}

/// A name as hickory-proto holds it, with the root.
pub(crate) fn wire_name(name: &Name) -> WireName {
    WireName::from_labels(name.labels().map(str::as_bytes)).expect("a name of 253 bytes fits the wire's 255")
}

/// A record of a zone. The owner is as asked for, so that its case stays.
pub(crate) fn of_zone(owner: &WireName, record: &Record) -> WireRecord {
    let data = match &record.data {
        RecordData::A(address) => RData::A(A(*address)),
        RecordData::Aaaa(address) => RData::AAAA(AAAA(*address)),
        RecordData::Cname(target) => RData::CNAME(CNAME(wire_name(target))),
        RecordData::Txt(text) => RData::TXT(TXT::new(vec![text.to_string()])),
    };
    WireRecord::from_rdata(owner.clone(), record.ttl, data)
}

/// The answer to a question for the name of an address.
pub(crate) fn ptr(owner: &WireName, name: &Name) -> WireRecord {
    WireRecord::from_rdata(owner.clone(), NAME_TTL_SECONDS, RData::PTR(PTR(wire_name(name))))
}

/// The answer to a question of type ANY (RFC 8482, section 4.2).
pub(crate) fn any(owner: &WireName) -> WireRecord {
    let data = HINFO::new("RFC8482".into(), String::new());
    WireRecord::from_rdata(owner.clone(), NAME_TTL_SECONDS, RData::HINFO(data))
}

/// Who serves a zone, and its serial.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    server: WireName,
    mailbox: WireName,
    serial: u32,
}

impl Authority {
    /// The hub and the mailbox `hostmaster` of the origin (RFC 2142). An origin too long for them stands for both.
    pub(crate) fn new(origin: &Name, serial: u32) -> Self {
        let child = |label: &str| match format!("{label}.{origin}").parse() {
            Ok(name) => wire_name(&name),
            Err(_) => wire_name(origin),
        };
        Self { server: child("hub"), mailbox: child("hostmaster"), serial }
    }

    pub(crate) const fn set_serial(&mut self, serial: u32) {
        self.serial = serial;
    }

    pub(crate) fn ns(&self, apex: &WireName) -> WireRecord {
        WireRecord::from_rdata(apex.clone(), NAME_TTL_SECONDS, RData::NS(NS(self.server.clone())))
    }

    /// The SOA as an answer.
    pub(crate) fn soa(&self, apex: &WireName) -> WireRecord {
        self.soa_with_ttl(apex, NAME_TTL_SECONDS)
    }

    /// The SOA that says how long a negative answer holds (RFC 2308, section 3).
    pub(crate) fn negative_soa(&self, apex: &WireName) -> WireRecord {
        self.soa_with_ttl(apex, NEGATIVE_TTL_SECONDS)
    }

    fn soa_with_ttl(&self, apex: &WireName, ttl: u32) -> WireRecord {
        let data = SOA::new(
            self.server.clone(),
            self.mailbox.clone(),
            self.serial,
            SOA_REFRESH_SECONDS,
            SOA_RETRY_SECONDS,
            SOA_EXPIRE_SECONDS,
            NEGATIVE_TTL_SECONDS,
        );
        WireRecord::from_rdata(apex.clone(), ttl, RData::SOA(data))
    }
}

//! Questions and answers as people write and read them. Knows no zone and no server.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, RData, RecordType};
use model::Name;
use model::zone::quoted;

use crate::limits::UDP_PAYLOAD_BYTES_MAX;
use crate::wire::wire_name;

/// Extended errors (RFC 8914, section 5.2), in the order of their numbers.
const EXTENDED_ERRORS: [&str; 25] = [
    "other error",
    "unsupported DNSKEY algorithm",
    "unsupported DS digest",
    "stale answer",
    "forged answer",
    "DNSSEC indeterminate",
    "DNSSEC bogus",
    "signature expired",
    "signature not yet valid",
    "DNSKEY missing",
    "signatures missing",
    "no zone key bit set",
    "NSEC missing",
    "cached error",
    "not ready",
    "blocked",
    "censored",
    "filtered",
    "prohibited",
    "stale no such name",
    "not authoritative",
    "not supported",
    "no reachable authority",
    "network error",
    "invalid data",
];

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The response code as tools show it, such as `NXDOMAIN`.
    pub code: String,
    /// What it says beyond its code (RFC 8914): a number, and the words for it where there are any.
    pub extended_error: Option<(u16, &'static str)>,
    /// Its answer section.
    pub records: Vec<ShownRecord>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRecord {
    /// Whose, without the final dot.
    pub name: String,
    /// In seconds.
    pub ttl: u32,
    /// Its type, such as `AAAA`.
    pub kind: String,
    /// Its value as zone files have it.
    pub value: String,
}

/// The number of a type: `AAAA`, `aaaa` or `TYPE28` (RFC 3597, section 5).
pub fn kind_number(text: &str) -> Option<u16> {
    let text = text.to_ascii_uppercase();
    match text.strip_prefix("TYPE") {
        Some(number) => number.parse().ok(),
        None => text.parse::<RecordType>().ok().map(u16::from),
    }
}

/// A type by its number.
pub fn kind_text(number: u16) -> String {
    match RecordType::from(number) {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

/// A query as a stub resolver sends it: recursion desired, with EDNS.
pub fn question(name: &Name, kind: u16) -> Vec<u8> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut query = Query::query(wire_name(name), kind.into());
    query.set_query_class(DNSClass::IN);
    message.add_query(query);
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD_BYTES_MAX);
    message.set_edns(edns);
    message.to_vec().expect("a name that was checked fits into a message")
}

/// Reads an answer. `None` if it is none.
pub fn show(answer: &[u8]) -> Option<Shown> {
    let message = Message::from_vec(answer).ok()?;
    let option = message.edns.as_ref().and_then(|edns| edns.options().get(EdnsCode::Unknown(15)));
    let extended_error = match option {
        Some(EdnsOption::Unknown(_, data)) => data.first_chunk().map(|code| u16::from_be_bytes(*code)),
        _ => None,
    };
    let records = message.answers.iter().map(|record| ShownRecord {
        name: record.name.to_utf8().trim_end_matches('.').into(),
        ttl: record.ttl,
        kind: kind_text(record.record_type().into()),
        value: value(&record.data),
    });
    Some(Shown {
        code: code(message.metadata.response_code.into()),
        extended_error: extended_error.map(|code| (code, words(code))),
        records: records.collect(),
    })
}

fn value(data: &RData) -> String {
    match data {
        RData::TXT(text) => text.txt_data.iter().map(|string| quoted(string)).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn code(number: u16) -> String {
    // RFC 6895, section 2.3.
    let known = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    known.get(usize::from(number)).map_or_else(|| format!("RCODE{number}"), |&known| known.to_owned())
}

fn words(extended_error: u16) -> &'static str {
    EXTENDED_ERRORS.get(usize::from(extended_error)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::ResponseCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, TXT};

    use super::*;

    #[test]
    fn types_are_read_by_name_and_by_number() {
        for (text, number) in [("A", 1), ("aaaa", 28), ("TYPE28", 28), ("type65280", 65280), ("HTTPS", 65)] {
            assert_eq!(kind_number(text), Some(number), "{text}");
        }
        for bad in ["", "B", "TYPE", "TYPE65536", "TYPE-1", "28"] {
            assert_eq!(kind_number(bad), None, "{bad:?}");
        }
        assert_eq!((kind_text(28).as_str(), kind_text(65280).as_str()), ("AAAA", "TYPE65280"));
    }

    #[test]
    fn texts_are_shown_as_zone_files_have_them() {
        let text = RData::TXT(TXT::from_bytes(vec![b"a\nb", b"\"c\""]));
        assert_eq!(value(&text), r#""a\010b" "\"c\"""#);
    }

    #[test]
    fn an_answer_is_shown_as_it_is() {
        let name: Name = "beta.home.internal".parse().expect("a name");
        let mut message = Message::from_vec(&question(&name, 1)).expect("it is one of ours");
        assert!(message.metadata.recursion_desired);
        assert_eq!(message.queries[0].to_string(), "beta.home.internal. IN A");
        message.metadata.message_type = MessageType::Response;
        message.metadata.response_code = ResponseCode::NXDomain;
        let owner = message.queries[0].name().clone();
        message.add_answer(Record::from_rdata(owner, 30, RData::A(A::new(100, 64, 0, 2))));
        let edns = message.edns.as_mut().expect("it has EDNS");
        edns.options_mut().insert(EdnsOption::Unknown(15, vec![0, 19]));
        let shown = show(&message.to_vec().expect("it is sound")).expect("it is an answer");
        assert_eq!(
            (shown.code.as_str(), shown.extended_error),
            ("NXDOMAIN", Some((19, "stale no such name")))
        );
        let record = &shown.records[0];
        assert_eq!((record.name.as_str(), record.ttl), ("beta.home.internal", 30));
        assert_eq!((record.kind.as_str(), record.value.as_str()), ("A", "100.64.0.2"));
        assert_eq!(show(b"nonsense"), None);
    }
}

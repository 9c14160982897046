//! Names that are answered here, as nobody else may be asked about them (RFC 6761, RFC 6303 and their kin). Knows no
//! server.

use std::collections::BTreeSet;

use super::kept::{Kept, Parts};
use super::limits::LOCAL_SECONDS;
use super::question::{HEADER_BYTES, KIND_A, KIND_AAAA, KIND_ANY, KIND_SOA, Key, suffixes};

/// Of no use to anybody else.
const NOWHERE: &[&str] = &[
    // RFC 6761, RFC 7686, RFC 9476.
    "invalid",
    "test",
    "onion",
    "alt",
    // RFC 6303, sections 4.1 to 4.4 and 4.6: this host, this network, and addresses for documents.
    "0.in-addr.arpa",
    "127.in-addr.arpa",
    "2.0.192.in-addr.arpa",
    "100.51.198.in-addr.arpa",
    "113.0.203.in-addr.arpa",
    "255.255.255.255.in-addr.arpa",
    "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
    "8.b.d.0.1.0.0.2.ip6.arpa",
];

/// They mean something within a site and nothing outside it.
const OF_A_SITE: &[&str] = &[
    // RFC 8375, RFC 6762, and the name that ICANN reserved for private use in 2024.
    "home.arpa",
    "local",
    "internal",
    // RFC 6303, sections 4.1, 4.4 and 4.5, without 172.16.0.0/12 and RFC 7793, which are counted below.
    "10.in-addr.arpa",
    "168.192.in-addr.arpa",
    "254.169.in-addr.arpa",
    "d.f.ip6.arpa",
    "8.e.f.ip6.arpa",
    "9.e.f.ip6.arpa",
    "a.e.f.ip6.arpa",
    "b.e.f.ip6.arpa",
];

/// Where a name belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `localhost` and all below it.
    Here,
    /// Nowhere: it does not exist. The zone that says so has so many bytes on the wire.
    Nowhere(usize),
    /// To the site: its own servers may be asked, but not the world's.
    Site(usize),
}

/// The names of [`Place`]s.
#[derive(Debug)]
pub(super) struct Places {
    nowhere: BTreeSet<Box<[u8]>>,
    site: BTreeSet<Box<[u8]>>,
}

const LOCALHOST: &[u8] = b"\x09localhost\x00";

impl Places {
    pub(super) fn new() -> Self {
        let wire = |text: &str| -> Box<[u8]> {
            super::question::wire_name(&text.parse().expect("the names of this file are names"))
        };
        let blocks = (16..32).map(|octet| format!("{octet}.172.in-addr.arpa"));
        let shared = (64..128).map(|octet| format!("{octet}.100.in-addr.arpa"));
        let mut site: BTreeSet<Box<[u8]>> = OF_A_SITE.iter().map(|text| wire(text)).collect();
        site.extend(blocks.chain(shared).map(|text| wire(&text)));
        Self { nowhere: NOWHERE.iter().map(|text| wire(text)).collect(), site }
    }

    /// The place of a name in wire form and lower case. `None`: anywhere.
    pub(super) fn of(&self, name: &[u8]) -> Option<Place> {
        suffixes(name).find_map(|suffix| {
            if suffix == LOCALHOST {
                Some(Place::Here)
            } else if self.nowhere.contains(suffix) {
                Some(Place::Nowhere(suffix.len()))
            } else if self.site.contains(suffix) {
                Some(Place::Site(suffix.len()))
            } else {
                None
            }
        })
    }
}

impl Place {
    /// What is said of a name of this place when nobody is asked.
    pub(super) fn answer(self, key: &Key) -> Kept {
        match self {
            Self::Here => match key.kind() {
                KIND_A | KIND_ANY => address(key, KIND_A, &[127, 0, 0, 1]),
                KIND_AAAA => address(key, KIND_AAAA, &std::net::Ipv6Addr::LOCALHOST.octets()),
                _ => negative(key, LOCALHOST.len(), 0),
            },
            // The zone itself exists: it has the SOA that says that there is nothing else.
            Self::Nowhere(zone) | Self::Site(zone) if zone == key.name().len() => negative(key, zone, 0),
            Self::Nowhere(zone) | Self::Site(zone) => negative(key, zone, 3),
        }
    }
}

fn address(key: &Key, kind: u16, octets: &[u8]) -> Kept {
    let records = record(HEADER_BYTES, kind, octets);
    finish(key, &records, [1, 0, 0], 0)
}

/// "No", from the zone that is the last `zone` bytes of the name (RFC 6303, section 3).
fn negative(key: &Key, zone: usize, code: u8) -> Kept {
    let apex = HEADER_BYTES + key.name().len() - zone;
    let mut data = pointer(apex).to_vec();
    data.extend_from_slice(b"\x06nobody\x07invalid\x00");
    for number in [1, 3_600, 1_200, 604_800, LOCAL_SECONDS] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    let counts = if key.kind() == KIND_SOA && code == 0 { [1, 0, 0] } else { [0, 1, 0] };
    finish(key, &record(apex, KIND_SOA, &data), counts, code)
}

/// A name as a place in the message (RFC 1035, section 4.1.4). The question is near its beginning.
fn pointer(at: usize) -> [u8; 2] {
    (0xc000 | u16::try_from(at).expect("a question ends before byte 300")).to_be_bytes()
}

fn record(owner: usize, kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = pointer(owner).to_vec();
    record.extend_from_slice(&kind.to_be_bytes());
    record.extend_from_slice(&super::question::CLASS_IN.to_be_bytes());
    record.extend_from_slice(&LOCAL_SECONDS.to_be_bytes());
    record.extend_from_slice(&u16::try_from(data.len()).expect("under 100 bytes").to_be_bytes());
    record.extend_from_slice(data);
    record
}

fn finish(key: &Key, records: &[u8], counts: [u16; 3], code: u8) -> Kept {
    Kept::new(&Parts {
        key: key.as_bytes(),
        records,
        ttls: &[6],
        counts,
        code,
        seconds: LOCAL_SECONDS,
        extended_error: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::kept::Age;
    use super::super::question::{Asked, wire_name};
    use super::*;
    use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::{Name, RecordType};

    fn ask(name: &str, kind: RecordType) -> (Option<Place>, Message) {
        let mut query = Message::new(9, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let mut buffer = query.to_vec().unwrap();
        let asked = Asked::read(&buffer).unwrap();
        let place = Places::new().of(asked.key.name());
        if let Some(place) = place {
            buffer.resize(512, 0);
            let kept = place.answer(&asked.key);
            let length = kept.write(&mut buffer, &asked, Age::Seconds(0), 512).unwrap();
            buffer.truncate(length);
        }
        (place, Message::from_vec(&buffer).unwrap())
    }

    #[test]
    fn localhost_is_this_machine() {
        let check = |name: &str, kind: RecordType, expect: &[&str]| {
            let (place, answer) = ask(name, kind);
            assert_eq!((place, answer.metadata.response_code), (Some(Place::Here), ResponseCode::NoError));
            let data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
            assert_eq!(data, expect, "{name} {kind}");
            assert_eq!(answer.authorities.is_empty(), !expect.is_empty());
        };
        check("localhost.", RecordType::A, &["127.0.0.1"]);
        check("Web.LocalHost.", RecordType::AAAA, &["::1"]);
        check("localhost.", RecordType::MX, &[]);
    }

    #[test]
    fn what_is_nowhere_is_said_not_to_exist() {
        for name in ["a.b.invalid.", "x.test.", "hidden.onion.", "5.0.0.127.in-addr.arpa."] {
            let (place, answer) = ask(name, RecordType::A);
            assert!(matches!(place, Some(Place::Nowhere(_))), "{name}");
            assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
            let apex = &answer.authorities[0].name;
            assert!(apex.zone_of(answer.queries[0].name()) && apex.num_labels() > 0, "{apex} for {name}");
        }
        let (_, apex) = ask("test.", RecordType::SOA);
        assert_eq!((apex.metadata.response_code, apex.answers.len()), (ResponseCode::NoError, 1));
        let (_, apex) = ask("test.", RecordType::A);
        assert_eq!((apex.metadata.response_code, apex.authorities.len()), (ResponseCode::NoError, 1));
    }

    #[test]
    fn sites_and_the_world_are_told_apart() {
        let places = Places::new();
        let place = |name: &str| places.of(&wire_name(&name.parse().unwrap()));
        for site in [
            "printer.home.arpa",
            "x.local",
            "1.0.0.10.in-addr.arpa",
            "9.20.172.in-addr.arpa",
            "1.2.168.192.in-addr.arpa",
            "1.1.100.100.in-addr.arpa",
            "1.2.d.f.ip6.arpa",
        ] {
            assert!(matches!(place(site), Some(Place::Site(_))), "{site}");
        }
        for world in
            ["example.org", "mylocalhost", "arpa", "32.172.in-addr.arpa", "8.8.8.8.in-addr.arpa", "latest"]
        {
            assert_eq!(place(world), None, "{world}");
        }
    }
}

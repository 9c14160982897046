//! Any bytes: no panic, and every answer can be read, carries the id, and fits.

use dns::{Names, Transport};
use hickory_proto::op::{Edns, Message, MessageType};
use hickory_proto::rr::rdata::opt::EdnsOption;
use model::Generation;
use proptest::prelude::*;

use crate::ask::{KINDS, both, bytes, number, query, reply, v4};
use crate::home::{SEED, TENANT, zone};

const OWNERS: [&str; 13] = [
    "laptop.home.internal",
    "alias.home.internal",
    "big.home.internal",
    "round.home.internal",
    "x.apps.home.internal",
    "x.elsewhere.home.internal",
    "_http._tcp.home.internal",
    "home.internal",
    "missing.home.internal",
    "2.0.64.100.in-addr.arpa",
    "64.100.in-addr.arpa",
    "example.org",
    ".",
];

fn check(names: &Names, query: &[u8], transport: Transport) -> Result<(), TestCaseError> {
    names.bring_near([(query, v4(2)), (query, v4(3))].into_iter());
    both(names, query, v4(2)).map_err(TestCaseError::fail)?;
    let Some((code, bytes)) = reply(names, query, v4(2), transport) else {
        prop_assert!(query.len() < 12 || query[2] & 0x80 != 0, "a query was dropped");
        return Ok(());
    };
    let reply = Message::from_vec(&bytes).expect("an answer can be read");
    prop_assert_eq!(reply.metadata.id, u16::from_be_bytes([query[0], query[1]]));
    prop_assert_eq!(u8::from(reply.metadata.op_code), (query[2] & 0x78) >> 3);
    prop_assert_eq!(reply.metadata.message_type, MessageType::Response);
    prop_assert_eq!(u16::from(reply.metadata.response_code), number(code));
    prop_assert!(transport == Transport::Tcp || bytes.len() <= 1232);
    prop_assert!(!reply.metadata.recursion_available);
    Ok(())
}

fn transports() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Udp), Just(Transport::Tcp)]
}

/// A well-formed query, often with EDNS.
fn queries() -> impl Strategy<Value = Vec<u8>> {
    let edns =
        prop::option::of((any::<u16>(), any::<u16>(), 0..2u8, prop::collection::vec(any::<u8>(), 0..20)));
    (0..OWNERS.len(), 0..KINDS.len(), edns).prop_map(|(owner, kind, edns)| {
        let mut message = query(&format!("{} {}", OWNERS[owner], KINDS[kind]));
        if let Some((size, option, version, data)) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size).set_version(version);
            edns.options_mut().insert(EdnsOption::Unknown(option, data));
            message.set_edns(edns);
        }
        bytes(&message)
    })
}

/// Overwrite, cut at, or insert: where and what.
pub(crate) fn mutate(mut bytes: Vec<u8>, mutations: &[(u8, prop::sample::Index, u8)]) -> Vec<u8> {
    for (kind, at, value) in mutations {
        let at = at.index(bytes.len() + 1);
        match kind {
            0 if at < bytes.len() => bytes[at] = *value,
            1 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
            2 => bytes.insert(at, *value),
            3 if at > 12 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn random_bytes_do_no_harm(query in prop::collection::vec(any::<u8>(), 0..600), transport in transports()) {
        let names = Names::new(SEED);
        names.whole(TENANT, Generation(7), &zone()).expect("alone");
        check(&names, &query, transport)?;
        // The same behind a header that is a query's.
        let query = [&[0x42, 0x42, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1], &query[..]].concat();
        check(&names, &query, transport)?;
    }

    #[test]
    fn bent_queries_do_no_harm(
        query in queries(),
        mutations in prop::collection::vec((0..4u8, any::<prop::sample::Index>(), any::<u8>()), 0..6),
        transport in transports(),
    ) {
        let names = Names::new(SEED);
        names.whole(TENANT, Generation(7), &zone()).expect("alone");
        check(&names, &mutate(query, &mutations), transport)?;
    }
}

//! What a node answers about devices that are gone, asked as any resolver would ask.

use std::net::IpAddr;

use dns::{Names, Transport};
use model::{Label, MeshAddresses, Mono, Name, TenantId, Version};

use super::Judge;

const A: u8 = 1;
const PTR: u8 = 12;

impl Judge {
    /// A node holds a version: it answers neither with an address nor with the name of a device revoked by then.
    pub fn answers(&mut self, at: Mono, who: &str, held: (TenantId, Version), origin: &Name, names: &Names) {
        let (tenant, version) = held;
        let gone =
            self.retired.iter().filter(|((of, _), retired)| *of == tenant && retired.version <= version);
        let known = gone.filter_map(|(_, retired)| Some((&retired.name, retired.addresses?)));
        let found = known.filter_map(|(name, addresses)| answered(names, origin, name, addresses)).next();
        if let Some(what) = found {
            let detail = format!("{who} holds {version} and answers {what}");
            self.accuse(at, "nothing-is-answered-for-the-revoked", detail);
        }
    }
}

/// What is still answered of a device.
fn answered(names: &Names, origin: &Name, device: &Label, addresses: MeshAddresses) -> Option<String> {
    let name = format!("{device}.{origin}");
    let says = |question: &str, kind: u8, data: &[u8]| {
        let query = query(question, kind);
        let answer = names.answer(&query, IpAddr::V4(addresses.v4), Transport::Tcp);
        let (bytes, _) = answer.into_reply()?;
        let records = u16::from_be_bytes([bytes[6], bytes[7]]);
        let has = records > 0 && bytes[query.len()..].windows(data.len()).any(|part| part == data);
        has.then(|| question.to_owned())
    };
    // Length and data of an A record; the first label of a name, before what is compressed.
    let [a, b, c, d] = addresses.v4.octets();
    let label = wire(device.as_str());
    says(&name, A, &[0, 4, a, b, c, d])
        .or_else(|| says(&format!("{d}.{c}.{b}.{a}.in-addr.arpa"), PTR, &label[..label.len() - 1]))
}

fn query(name: &str, kind: u8) -> Vec<u8> {
    [b"\0\x01\x01\0\0\x01\0\0\0\0\0\0", &*wire(name), &[0, kind, 0, 1]].concat()
}

fn wire(name: &str) -> Vec<u8> {
    let label = |label: &str| {
        let length = u8::try_from(label.len()).expect("a label has 63 bytes at most");
        [&[length], label.as_bytes()].concat()
    };
    name.split('.').flat_map(label).chain([0]).collect()
}

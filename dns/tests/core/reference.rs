//! What a zone says to a question, by looking at every name each time (RFC 1034, section 4.3.2; RFC 4592, section 3.3).
//! Slow, plain and written apart from the crate.

use std::net::IpAddr;

use model::{Record, RecordData, Zone};

/// The line that [`crate::ask::text`] makes of the right answer. `question` is lower case.
pub(crate) fn expect(zone: &Zone, serial: u32, question: &str, kind: &str) -> String {
    let origin = zone.origin.as_str();
    let soa = |ttl: u32| format!("{origin}. {ttl} SOA {serial} 10");
    let mut chain = Vec::new();
    let mut name = question.to_owned();
    loop {
        let apex = name == origin;
        let Some(owner) = source(zone, &name) else {
            return format!("nxdomain aa: {} / {}", chain.join(", "), soa(10));
        };
        let records = records(zone, &owner);
        let cname = records.iter().find(|r| r.data.kind() == "CNAME");
        let line = |r: &Record| {
            let dot = if r.data.target().is_some() { "." } else { "" };
            format!("{name}. {} {} {}{dot}", r.ttl, r.data.kind(), r.data)
        };
        let found: Vec<String> = match kind {
            "SOA" | "ANY" if apex => vec![soa(30)],
            "NS" if apex => vec![format!("{origin}. 30 NS hub.{origin}.")],
            "ANY" if cname.is_some() => cname.into_iter().map(line).collect(),
            "ANY" if !records.is_empty() => vec![format!("{name}. 30 HINFO RFC8482")],
            _ => records.iter().filter(|r| r.data.kind() == kind).map(line).collect(),
        };
        if !found.is_empty() {
            chain.extend(found);
            return format!("noerror aa: {} / ", chain.join(", "));
        }
        let Some(cname) = cname else {
            return format!("noerror aa: {} / {}", chain.join(", "), soa(10));
        };
        chain.push(line(cname));
        name = cname.data.to_string();
        let seen = chain.iter().any(|l| l.starts_with(&format!("{name}. ")));
        let inside = name == origin || name.ends_with(&format!(".{origin}"));
        if seen || !inside || chain.len() > dns::limits::CNAME_CHAIN_MAX {
            return format!("noerror aa: {} / ", chain.join(", "));
        }
    }
}

/// Whose records answer for a name: its own, or those of the wildcard below the closest encloser. `None` if nobody's.
fn source(zone: &Zone, name: &str) -> Option<String> {
    if exists(zone, name) {
        return Some(name.to_owned());
    }
    let mut encloser = name;
    while !exists(zone, encloser) {
        (_, encloser) = encloser.split_once('.').expect("the origin exists");
    }
    let wildcard = format!("*.{encloser}");
    exists(zone, &wildcard).then_some(wildcard)
}

/// Whether a name has records, or a name below it, or is the origin.
fn exists(zone: &Zone, name: &str) -> bool {
    let below = format!(".{name}");
    name == zone.origin.as_str()
        || zone.names.keys().any(|n| n.as_str() == name || n.as_str().ends_with(&below))
}

/// The records of an owner. One type has one TTL, the least (RFC 2181, section 5.2).
fn records(zone: &Zone, owner: &str) -> Vec<Record> {
    let held = zone.names.iter().find(|(n, _)| n.as_str() == owner).map(|(_, set)| set.records.as_slice());
    let held = held.unwrap_or_default();
    let ttl = |kind| held.iter().filter(|r| r.data.kind() == kind).map(|r| r.ttl).min().expect("itself");
    held.iter().map(|r| Record { data: r.data.clone(), ttl: ttl(r.data.kind()) }).collect()
}

/// The same for PTR of an address of the block; `owner` and `apex` are its names in the reverse tree.
pub(crate) fn expect_ptr(zone: &Zone, serial: u32, address: IpAddr, owner: &str, apex: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, set) in zone.names.iter().filter(|(name, _)| !name.is_wildcard()) {
        let given = |r: &Record| match r.data {
            RecordData::A(a) => IpAddr::V4(a) == address,
            RecordData::Aaaa(a) => IpAddr::V6(a) == address,
            RecordData::Cname(_) | RecordData::Txt(_) | RecordData::Srv { .. } | RecordData::Later(_) => {
                false
            }
        };
        if set.reverse && set.records.iter().any(given) {
            names.push(name.as_str());
        }
    }
    if names.is_empty() {
        return format!("nxdomain aa:  / {apex} 10 SOA {serial} 10");
    }
    names.sort_unstable();
    let lines: Vec<String> = names.iter().map(|name| format!("{owner} 30 PTR {name}.")).collect();
    format!("noerror aa: {} / ", lines.join(", "))
}

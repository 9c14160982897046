//! What a zone says to a question, by looking at every name each time. Slow, plain and written apart from the crate.

use std::net::IpAddr;

use model::{RecordData, Zone};

/// The line that [`crate::ask::text`] makes of the right answer. `question` is lower case.
pub(crate) fn expect(zone: &Zone, serial: u32, question: &str, kind: &str) -> String {
    let origin = zone.origin.as_str();
    let soa = |ttl: u32| format!("{origin}. {ttl} SOA {serial} 10");
    let mut chain = Vec::new();
    let mut name = question.to_owned();
    loop {
        let apex = name == origin;
        let exists = apex
            || zone.names.keys().any(|n| n.as_str() == name || n.as_str().ends_with(&format!(".{name}")));
        if !exists {
            return format!("nxdomain aa: {} / {}", chain.join(", "), soa(10));
        }
        let records =
            zone.names.iter().find(|(n, _)| n.as_str() == name).map(|(_, set)| set.records.as_slice());
        let records = records.unwrap_or_default();
        let cname = records.iter().find(|r| r.data.kind() == "CNAME");
        let line = |r: &model::Record| {
            let dot = if r.data.kind() == "CNAME" { "." } else { "" };
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

/// The same for PTR of an address of the block; `owner` and `apex` are its names in the reverse tree.
pub(crate) fn expect_ptr(zone: &Zone, serial: u32, address: IpAddr, owner: &str, apex: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, set) in zone.names.iter() {
        let given = |r: &model::Record| match r.data {
            RecordData::A(a) => IpAddr::V4(a) == address,
            RecordData::Aaaa(a) => IpAddr::V6(a) == address,
            RecordData::Cname(_) | RecordData::Txt(_) => false,
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

//! Names and addresses of the mesh, by what this device holds. Asks nobody.

use std::net::IpAddr;

use model::{Code, Name, RecordData, RecordSet, Refusal, Zone};

/// Aliases of aliases that are followed; more is a circle or a mistake.
const CNAME_CHAIN_MAX: usize = 8;
/// Names that a status shows.
pub const NAMES_MAX: usize = 1000;

/// What somebody named, as the mesh knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, or the address again.
    pub name: String,
    /// IPv4 where it has one.
    pub address: IpAddr,
}

/// Finds `beta`, `beta.home.internal` or a mesh address.
pub fn find(zone: &Zone, target: &str) -> Result<Found, Refusal> {
    match target.parse::<IpAddr>() {
        Ok(address) if zone.block.contains(address) => Ok(Found { name: name_of(zone, address), address }),
        Ok(address) => Err(Refusal::new(Code::NameUnknown, format!("{address} is no address of the mesh"))),
        Err(_) => by_name(zone, target),
    }
}

/// Names with an address, in order, without one of them.
pub fn names(zone: &Zone, without: Option<&Name>) -> Vec<(Name, IpAddr)> {
    let named = zone.names.iter().filter(|(name, _)| Some(*name) != without);
    let mut found: Vec<(Name, IpAddr)> =
        named.filter_map(|(name, set)| Some((name.clone(), address_in(set)?))).collect();
    found.sort();
    found.truncate(NAMES_MAX);
    found
}

fn by_name(zone: &Zone, target: &str) -> Result<Found, Refusal> {
    let unknown = || Refusal::new(Code::NameUnknown, format!("{target:?} is no name of {}", zone.origin));
    let name: Name = target.trim_end_matches('.').parse().map_err(|_| unknown())?;
    let mut name =
        if name.is_within(&zone.origin) { name } else { zone.origin.below(&name).map_err(|_| unknown())? };
    for _ in 0..CNAME_CHAIN_MAX {
        let set = zone.names.get(&name).or_else(|| wildcard_for(zone, &name)).ok_or_else(unknown)?;
        if let Some(address) = address_in(set) {
            return Ok(Found { name: name.to_string(), address });
        }
        name = alias_in(set).ok_or_else(unknown)?.clone();
    }
    Err(unknown())
}

/// The wildcard that answers for a name without records: the one below the nearest name above that exists, by records
/// of its own or of names below it (RFC 4592, section 3.3.1). Looks at every name: people ask for one at a time.
fn wildcard_for<'z>(zone: &'z Zone, name: &Name) -> Option<&'z RecordSet> {
    let exists = |name: &Name| *name == zone.origin || zone.names.keys().any(|other| other.is_within(name));
    if exists(name) || !name.is_within(&zone.origin) {
        return None;
    }
    let mut above = std::iter::successors(name.parent(), Name::parent);
    let encloser = above.find(|name| exists(name))?;
    zone.names.get(&format!("*.{encloser}").parse().ok()?)
}

fn name_of(zone: &Zone, address: IpAddr) -> String {
    let has = |set: &RecordSet| {
        set.reverse && set.records.iter().any(|record| address_of(&record.data) == Some(address))
    };
    let named = zone.names.iter().find(|(_, set)| has(set));
    named.map_or_else(|| address.to_string(), |(name, _)| name.to_string())
}

fn address_in(set: &RecordSet) -> Option<IpAddr> {
    let mut addresses = set.records.iter().filter_map(|record| address_of(&record.data));
    let first = addresses.next()?;
    Some(if first.is_ipv4() { first } else { addresses.find(IpAddr::is_ipv4).unwrap_or(first) })
}

const fn address_of(data: &RecordData) -> Option<IpAddr> {
    match data {
        RecordData::A(address) => Some(IpAddr::V4(*address)),
        RecordData::Aaaa(address) => Some(IpAddr::V6(*address)),
        RecordData::Cname(_) | RecordData::Txt(_) | RecordData::Srv { .. } | RecordData::Later(_) => None,
    }
}

fn alias_in(set: &RecordSet) -> Option<&Name> {
    set.records.iter().find_map(|record| match &record.data {
        RecordData::Cname(target) => Some(target),
        RecordData::A(_)
        | RecordData::Aaaa(_)
        | RecordData::Txt(_)
        | RecordData::Srv { .. }
        | RecordData::Later(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use model::{Block, Record, TenantId};

    use super::*;

    fn zone() -> Zone {
        let block = Block::new("100.64.0.0/16".parse().expect("a net"), TenantId::from_bytes([7; 16]))
            .expect("a block");
        let mut zone = Zone::new("home.internal".parse().expect("a name"), block);
        let mut add = |name: &str, set| zone.names.insert(name.parse().expect("a name"), set);
        let alone = |kind, value| {
            let data = RecordData::parse(kind, value).expect("a record");
            RecordSet { records: vec![Record { data, ttl: 60 }], reverse: false }
        };
        add("beta.home.internal", RecordSet::of_node(block.host(2).expect("a host")));
        add("www.home.internal", alone("CNAME", "beta.home.internal"));
        add("out.home.internal", alone("CNAME", "example.org"));
        add("round.home.internal", alone("CNAME", "round.home.internal"));
        add("six.home.internal", alone("AAAA", "fd00::1"));
        add("text.home.internal", alone("TXT", "hello"));
        add("*.apps.home.internal", alone("CNAME", "beta.home.internal"));
        add("a.deep.apps.home.internal", alone("TXT", "hello"));
        zone
    }

    #[test]
    fn targets_are_names_and_addresses_of_the_mesh() {
        let zone = zone();
        let check = |target: &str, expect: Option<(&str, &str)>| {
            let found = find(&zone, target).ok().map(|f| (f.name, f.address.to_string()));
            assert_eq!(found, expect.map(|(n, a)| (n.into(), a.into())), "{target:?}");
        };
        let beta = Some(("beta.home.internal", "100.64.0.2"));
        check("beta", beta);
        check("BETA", beta);
        check("beta.home.internal", beta);
        check("beta.home.internal.", beta);
        check("www", beta);
        check("100.64.0.2", beta);
        check("100.64.0.9", Some(("100.64.0.9", "100.64.0.9")));
        check("any.apps", beta);
        check("any.any.apps", beta);
        check("six", Some(("six.home.internal", "fd00::1")));
        for unknown in [
            "",
            "gamma",
            "out",
            "round",
            "apps",
            "deep.apps",
            "any.deep.apps",
            "any.beta",
            "text",
            "8.8.8.8",
            "beta.example.org",
            "-x",
            "a b",
            "home.internal",
        ] {
            check(unknown, None);
        }
    }

    #[test]
    fn names_are_listed_in_order_without_ones_own() {
        let own = "six.home.internal".parse().expect("a name");
        let names: Vec<String> = names(&zone(), Some(&own)).iter().map(|(n, _)| n.to_string()).collect();
        assert_eq!(names, ["beta.home.internal"]);
    }
}

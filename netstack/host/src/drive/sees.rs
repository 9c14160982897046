//! Which tenants' names a hub shows to the devices of others, as its administrator says. Shows names and nothing else.

use std::collections::BTreeMap;
use std::str::FromStr;

use dns::Names;
use model::{Label, TenantId, Zone};

/// The devices of one tenant see the names of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sees {
    /// Whose devices.
    pub tenant: Label,
    /// Whose names.
    pub other: Label,
}

/// Not two tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("TENANT=OTHER, such as home=office: the devices of home see the names of office")]
pub struct BadSees;

impl FromStr for Sees {
    type Err = BadSees;
    fn from_str(text: &str) -> Result<Self, BadSees> {
        let (tenant, other) = text.split_once('=').ok_or(BadSees)?;
        let label = |text: &str| text.parse::<Label>().map_err(|_| BadSees);
        let sees = Self { tenant: label(tenant)?, other: label(other)? };
        if sees.tenant == sees.other { Err(BadSees) } else { Ok(sees) }
    }
}

/// What is to be seen, among the tenants that are there.
#[derive(Debug, Default)]
pub(super) struct Sights {
    wishes: Vec<Sees>,
    tenants: BTreeMap<Label, TenantId>,
}

impl Sights {
    pub(super) fn new(wishes: Vec<Sees>) -> Self {
        Self { wishes, tenants: BTreeMap::new() }
    }

    /// A tenant's zone came or came anew.
    pub(super) fn come(&mut self, tenant: TenantId, zone: &Zone, names: &Names) {
        let Some(label) = zone.origin.labels().next().and_then(|label| label.parse().ok()) else { return };
        self.tenants.insert(label, tenant);
        self.show(names);
    }

    /// A tenant is gone.
    pub(super) fn go(&mut self, tenant: TenantId, names: &Names) {
        self.tenants.retain(|_, known| *known != tenant);
        self.show(names);
    }

    fn show(&self, names: &Names) {
        let mut sights: BTreeMap<TenantId, Vec<TenantId>> = BTreeMap::new();
        for wish in &self.wishes {
            if let Some(tenant) = self.tenants.get(&wish.tenant) {
                sights.entry(*tenant).or_default().extend(self.tenants.get(&wish.other));
            }
        }
        for (tenant, others) in sights {
            names.see(tenant, &others);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use dns::{Answer, Transport};
    use model::zone::RecordSet;
    use model::{Block, Generation, Name};

    use super::*;

    fn zone(number: u8, name: &str) -> (TenantId, Zone) {
        let tenant = TenantId::from_bytes([number; 16]);
        let block = format!("100.{}.0.0/16", 64 + number).parse().expect("a net");
        let block = Block::new(block, tenant).expect("a block");
        let origin: Name = format!("{name}.internal").parse().expect("a name");
        let mut zone = Zone::new(origin.clone(), block);
        let host = origin.child(&"db".parse().expect("a label")).expect("a name");
        zone.names.insert(host, RecordSet::of_node(block.host(9).expect("a host")));
        (tenant, zone)
    }

    /// Whether a device of the tenant 1 gets `db.office.internal`.
    fn sees(names: &Names) -> bool {
        let query = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02db\x06office\x08internal\x00\x00\x01\x00\x01";
        let source: IpAddr = "100.65.0.7".parse().expect("an address");
        matches!(names.answer(query, source, Transport::Udp), Answer::Reply { bytes, .. } if bytes[7] == 1)
    }

    #[test]
    fn names_of_another_tenant_are_seen_as_long_as_both_are_there() {
        let names = Names::new([1; 32]);
        let mut sights = Sights::new(vec!["home=office".parse().expect("two tenants")]);
        let ((home, at_home), (office, at_office)) = (zone(1, "home"), zone(2, "office"));
        let come = |tenant, zone: &Zone, sights: &mut Sights| {
            names.whole(tenant, Generation(1), zone).expect("a zone");
            sights.come(tenant, zone, &names);
        };
        come(home, &at_home, &mut sights);
        assert!(!sees(&names));
        come(office, &at_office, &mut sights);
        assert!(sees(&names));
        names.gone(office);
        sights.go(office, &names);
        assert!(!sees(&names));
        come(office, &at_office, &mut sights);
        assert!(sees(&names));
        // Not the other way round.
        let mut others = Sights::new(vec!["office=home".parse().expect("two tenants")]);
        let blind = Names::new([1; 32]);
        for (tenant, zone) in [(home, &at_home), (office, &at_office)] {
            blind.whole(tenant, Generation(1), zone).expect("a zone");
            others.come(tenant, zone, &blind);
        }
        assert!(!sees(&blind));
    }

    #[test]
    fn two_tenants_are_named() {
        for bad in ["", "home", "home=", "=office", "home=home", "home=of fice", "a=b=c"] {
            assert_eq!(bad.parse::<Sees>(), Err(BadSees), "{bad}");
        }
    }
}

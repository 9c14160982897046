//! Which UDP ports of the hub's machine tenants' own interfaces may have. Opens none.

use std::collections::{BTreeMap, BTreeSet};

use model::limits::{HUB_PORT_MIN, OWN_INTERFACES_MAX};
use model::{Code, Label, Refusal, TenantId};

use super::{Decision, Directory, Grounds, refuse};
use crate::edit::HubInterface;
use crate::rows::Tenant;

/// The port of a hub that nobody has told anything else: WireGuard's.
const HUB_PORT_DEFAULT: u16 = 51_820;

/// The ports that are taken. What is not known here, the hub says when it cannot have a port.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Where the interface listens that tenants share.
    hub: u16,
    /// That port as devices find it, and those of the server itself.
    shared: BTreeSet<u16>,
    /// Those of tenants' own, with whoever has them; until a tenant is erased.
    own: BTreeMap<u16, (TenantId, Label)>,
}

/// As long as nobody asks for one.
impl Default for Ports {
    fn default() -> Self {
        Self { hub: HUB_PORT_DEFAULT, shared: BTreeSet::new(), own: BTreeMap::new() }
    }
}

impl Ports {
    /// What these tenants have, the hub, if it is known, and the server.
    pub fn new<'a>(
        hub: Option<u16>,
        shared: BTreeSet<u16>,
        tenants: impl Iterator<Item = &'a Tenant>,
    ) -> Self {
        let hub = hub.unwrap_or(HUB_PORT_DEFAULT);
        let own = tenants.filter_map(|tenant| Some((tenant.hub_port?, (tenant.id, tenant.name.clone()))));
        Self { hub, shared, own: own.collect() }
    }

    /// The port that a tenant gets, which has `had` so far.
    pub(super) fn choose(
        &self,
        wish: HubInterface,
        tenant: TenantId,
        had: Option<u16>,
    ) -> Result<Option<u16>, Refusal> {
        let HubInterface::Own(port) = wish else { return Ok(None) };
        if had.is_none() && self.own.len() >= OWN_INTERFACES_MAX {
            let detail = format!("{OWN_INTERFACES_MAX} tenants have an interface of their own");
            return refuse(Code::QuotaReached, detail);
        }
        let Some(port) = port.or(had) else { return self.free().map(Some) };
        if port < HUB_PORT_MIN {
            return refuse(Code::HubPortInvalid, format!("port {port} is below {HUB_PORT_MIN}"));
        }
        match self.own.get(&port) {
            Some((holder, name)) if *holder != tenant => {
                refuse(Code::HubPortTaken, format!("tenant {name} has port {port}"))
            }
            None if self.is_servers(port) => {
                refuse(Code::HubPortTaken, format!("the server itself has port {port}"))
            }
            _ => Ok(Some(port)),
        }
    }

    fn is_servers(&self, port: u16) -> bool {
        port == self.hub || self.shared.contains(&port)
    }

    /// The next port after the shared one that nobody has.
    fn free(&self) -> Result<u16, Refusal> {
        let hub = self.hub.max(HUB_PORT_MIN);
        let mut ports = (hub..=u16::MAX).chain(HUB_PORT_MIN..hub);
        let free = ports.find(|port| !self.is_servers(*port) && !self.own.contains_key(port));
        free.ok_or_else(|| Refusal::new(Code::HubPortTaken, "every port is taken"))
    }
}

impl Directory {
    pub(super) fn set_interface(
        &self,
        wish: HubInterface,
        grounds: &Grounds<'_>,
    ) -> Result<Decision, Refusal> {
        let hub_port = grounds.ports.choose(wish, self.tenant.id, self.tenant.hub_port)?;
        Ok(self.tenant_becomes(Tenant { hub_port, ..self.tenant.clone() }))
    }

    /// The port of the tenant's own interface, while it has one: nobody is on that of a closed tenant.
    pub(crate) fn hub_port(&self) -> Option<u16> {
        self.tenant.hub_port.filter(|_| !self.is_closed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u8) -> TenantId {
        TenantId::from_bytes([number; 16])
    }

    fn ports(own: &[(u16, u8)]) -> Ports {
        let named = |(port, number): &(u16, u8)| {
            (*port, (tenant(*number), format!("t{number}").parse().expect("a label")))
        };
        Ports { hub: 51_820, shared: [3478, 51_900].into(), own: own.iter().map(named).collect() }
    }

    #[test]
    fn a_port_is_given_once_and_within_bounds() {
        let ports = ports(&[(51_821, 1), (40_000, 2)]);
        let choose =
            |wish, number, had| ports.choose(wish, tenant(number), had).map_err(|refusal| refusal.code);
        let own = |port| HubInterface::Own(Some(port));
        assert_eq!(choose(HubInterface::Shared, 3, Some(9)), Ok(None));
        assert_eq!(choose(HubInterface::Own(None), 3, None), Ok(Some(51_822)));
        assert_eq!(choose(HubInterface::Own(None), 2, Some(40_000)), Ok(Some(40_000)));
        assert_eq!(choose(own(40_000), 2, Some(40_000)), Ok(Some(40_000)));
        assert_eq!(choose(own(50_000), 2, Some(40_000)), Ok(Some(50_000)));
        assert_eq!(choose(own(51_821), 2, Some(40_000)), Err(Code::HubPortTaken));
        assert_eq!(choose(own(51_820), 3, None), Err(Code::HubPortTaken));
        assert_eq!(choose(own(3478), 3, None), Err(Code::HubPortTaken));
        assert_eq!(choose(own(51_900), 3, None), Err(Code::HubPortTaken));
        assert_eq!(choose(own(1023), 3, None), Err(Code::HubPortInvalid));
        assert_eq!(choose(own(0), 3, None), Err(Code::HubPortInvalid));
        assert_eq!(choose(own(1024), 3, None), Ok(Some(1024)));
    }

    #[test]
    fn so_many_tenants_have_their_own_and_no_more() {
        let all: Vec<_> = (1..=OWN_INTERFACES_MAX as u8).map(|n| (60_000 + u16::from(n), n)).collect();
        let ports = ports(&all);
        let refused = ports.choose(HubInterface::Own(None), tenant(99), None).map_err(|r| r.code);
        assert_eq!(refused, Err(Code::QuotaReached));
        // Who has one may have another.
        assert_eq!(ports.choose(HubInterface::Own(Some(2000)), tenant(1), Some(60_001)), Ok(Some(2000)));
    }
}

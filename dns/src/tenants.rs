//! Whose zones an asker sees: by the source address alone. Knows no message and no record.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use ipnet::IpNet;
use model::{Block, TenantId};

use crate::arpa;
use crate::view::View;
use crate::wire::Sought;

/// The tenants and their blocks. Copied when a tenant comes, goes or moves, not when a name changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tenants {
    by_id: BTreeMap<TenantId, Arc<Tenant>>,
    /// By the first address of the block. Blocks do not overlap.
    by_v4: BTreeMap<Ipv4Addr, Arc<Tenant>>,
    by_v6: BTreeMap<Ipv6Addr, Arc<Tenant>>,
    /// Whose names the askers of a tenant see besides their own.
    also: BTreeMap<TenantId, Vec<TenantId>>,
    /// Networks whose askers are this machine's own, as loopback is.
    guests: Vec<IpNet>,
    /// Somebody else is asked where aliases lead to.
    hands_over_aliases: bool,
}

#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    block: Block,
    pub(crate) view: ArcSwap<View>,
}

/// The zones that one asker sees.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'t> {
    tenants: &'t Tenants,
    asker: &'t Tenant,
}

/// Where the name of a question belongs.
pub(crate) struct Spot {
    pub(crate) tenant: TenantId,
    pub(crate) view: Guard<Arc<View>>,
    pub(crate) part: Part,
}

/// Which tree of a view a name is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// At or below the origin.
    Names,
    /// In the reverse tree of the block, below an apex with so many labels.
    Addresses(arpa::Place, usize),
}

impl Tenants {
    pub(crate) fn of_id(&self, tenant: TenantId) -> Option<&Arc<Tenant>> {
        self.by_id.get(&tenant)
    }

    pub(crate) fn insert(&mut self, id: TenantId, view: View) {
        let block = *view.block();
        let tenant = Arc::new(Tenant { id, block, view: ArcSwap::from_pointee(view) });
        self.by_id.insert(id, Arc::clone(&tenant));
        self.by_v4.insert(block.v4().addr(), Arc::clone(&tenant));
        self.by_v6.insert(block.v6().addr(), tenant);
    }

    pub(crate) fn remove(&mut self, tenant: TenantId) {
        self.by_id.remove(&tenant);
        self.by_v4.retain(|_, other| other.id != tenant);
        self.by_v6.retain(|_, other| other.id != tenant);
    }

    pub(crate) fn overlapping(&self, block: &Block) -> Option<TenantId> {
        self.by_id.values().find(|other| other.block.overlaps(block)).map(|other| other.id)
    }

    /// Lets the askers of a tenant see the names of others too.
    pub(crate) fn see(&mut self, tenant: TenantId, also: &[TenantId]) {
        if also.is_empty() {
            self.also.remove(&tenant);
        } else {
            self.also.insert(tenant, also.to_vec());
        }
    }

    /// Who asks as this machine itself does.
    pub(crate) fn set_guests(&mut self, guests: Vec<IpNet>) {
        self.guests = guests;
    }

    pub(crate) const fn hand_over_aliases(&mut self) {
        self.hands_over_aliases = true;
    }

    /// What an asker sees: one inside a tenant's block, or, where there is a single tenant, loopback and guests.
    pub(crate) fn sight(&self, source: IpAddr) -> Option<Sight<'_>> {
        let source = source.to_canonical();
        self.in_a_block(source)
            .or_else(|| self.of_this_machine(source))
            .map(|asker| Sight { tenants: self, asker })
    }

    fn in_a_block(&self, source: IpAddr) -> Option<&Arc<Tenant>> {
        let nearest = match source {
            IpAddr::V4(source) => self.by_v4.range(..=source).next_back().map(|(_, tenant)| tenant),
            IpAddr::V6(source) => self.by_v6.range(..=source).next_back().map(|(_, tenant)| tenant),
        };
        nearest.filter(|tenant| tenant.block.contains(source))
    }

    fn of_this_machine(&self, source: IpAddr) -> Option<&Arc<Tenant>> {
        let is_here = || source.is_loopback() || self.guests.iter().any(|net| net.contains(&source));
        if self.by_id.len() == 1 && is_here() { self.by_id.values().next() } else { None }
    }
}

impl Sight<'_> {
    pub(crate) fn is_own(&self, tenant: TenantId) -> bool {
        self.asker.id == tenant
    }

    /// Whether somebody else is asked where aliases lead to.
    pub(crate) const fn hands_over_aliases(&self) -> bool {
        self.tenants.hands_over_aliases
    }

    /// The asker's own zone.
    pub(crate) fn own(&self) -> Guard<Arc<View>> {
        self.asker.view.load()
    }

    /// Where a name belongs: to the asker's own zone or block, else to the nearest of the other zones that they see.
    pub(crate) fn spot(&self, name: &Sought) -> Option<Spot> {
        let (tenant, view) = (self.asker.id, self.asker.view.load());
        if name.is_within(view.origin()) {
            return Some(Spot { tenant, view, part: Part::Names });
        }
        if let Some((place, labels)) = arpa::place(name, view.block()) {
            return Some(Spot { tenant, view, part: Part::Addresses(place, labels) });
        }
        let others = self.tenants.also.get(&tenant)?.iter().filter_map(|id| self.tenants.by_id.get(id));
        let views = others.map(|other| (other.id, other.view.load()));
        let within = views.filter(|(_, view)| name.is_within(view.origin()));
        let (tenant, view) = within.max_by_key(|(_, view)| view.origin().labels)?;
        Some(Spot { tenant, view, part: Part::Names })
    }
}

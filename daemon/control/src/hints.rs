//! Hints on their way: how many may be sent, and what goes to another replica. Reads none.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{DeviceId, Mono, TenantId};

use crate::limits::{
    HINTS_PASSED_PER_SECOND, HINTS_PASSED_PER_SECOND_OF_TENANT, HINTS_PASSED_PER_SECOND_TO_DEVICE,
};

/// A hint for a device that is attached at another replica, if anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedHint {
    /// Whose devices both are.
    pub tenant: TenantId,
    /// Who says it.
    pub from: DeviceId,
    /// To whom.
    pub to: DeviceId,
    /// What they alone can read: at most [`model::limits::HINT_BYTES_MAX`] bytes.
    pub sealed: Vec<u8>,
}

/// How many hints, or words of a device that arrived, may still be sent: as many as a second allows at once, then as they
/// come back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HintBudget {
    each_second: u32,
    left: u32,
    since: Mono,
}

impl HintBudget {
    pub(crate) const fn new(each_second: u32, now: Mono) -> Self {
        Self { each_second, left: each_second, since: now }
    }

    /// Whether one more may be sent; then it counts.
    pub(crate) fn take(&mut self, now: Mono) -> bool {
        if self.is_whole(now) {
            *self = Self::new(self.each_second, now);
        }
        self.left.checked_sub(1).inspect(|left| self.left = *left).is_some()
    }

    /// Whether it is as good as a new one.
    fn is_whole(&self, now: Mono) -> bool {
        now.since(self.since) >= Duration::from_secs(1)
    }
}

/// How many hints may still be told other replicas: of all tenants together, of each, and to each device. One tenant that
/// tells many leaves room for others, and one device that is nowhere leaves room for others of its tenant.
#[derive(Debug)]
pub(crate) struct PassBudgets {
    all: HintBudget,
    /// Those that are not whole, and some that were not a second ago: each had a hint passed in the last two seconds.
    of_tenants: BTreeMap<TenantId, HintBudget>,
    to_devices: BTreeMap<DeviceId, HintBudget>,
}

impl PassBudgets {
    pub(crate) const fn new() -> Self {
        Self {
            all: HintBudget::new(HINTS_PASSED_PER_SECOND, Mono::from_micros(0)),
            of_tenants: BTreeMap::new(),
            to_devices: BTreeMap::new(),
        }
    }

    /// Whether one more may be passed; then it counts for all three, else for none.
    pub(crate) fn take(&mut self, tenant: TenantId, to: DeviceId, now: Mono) -> bool {
        if self.all.is_whole(now) {
            self.all = HintBudget::new(HINTS_PASSED_PER_SECOND, now);
            self.of_tenants.retain(|_, budget| !budget.is_whole(now));
            self.to_devices.retain(|_, budget| !budget.is_whole(now));
        }
        let new = |each_second| HintBudget::new(each_second, now);
        let of_tenant = self.of_tenants.get(&tenant).copied();
        let to_device = self.to_devices.get(&to).copied();
        let mut all = self.all;
        let mut of_tenant = of_tenant.unwrap_or_else(|| new(HINTS_PASSED_PER_SECOND_OF_TENANT));
        let mut to_device = to_device.unwrap_or_else(|| new(HINTS_PASSED_PER_SECOND_TO_DEVICE));
        let may_pass = all.take(now) && of_tenant.take(now) && to_device.take(now);
        if may_pass {
            self.all = all;
            self.of_tenants.insert(tenant, of_tenant);
            self.to_devices.insert(to, to_device);
        }
        may_pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_that_are_whole_again_are_forgotten() {
        let mut budgets = PassBudgets::new();
        let most = HINTS_PASSED_PER_SECOND as usize;
        let mut passed = 0;
        // A minute in which each hint is of another tenant and for another device.
        for n in 0..60_000_u64 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            let now = Mono::from_micros(n * 1000);
            let taken = budgets.take(TenantId::from_bytes(id), DeviceId::from_bytes(id), now);
            passed += usize::from(taken);
            assert!(budgets.of_tenants.len() <= 2 * most && budgets.to_devices.len() <= 2 * most, "{n}");
        }
        assert_eq!(passed, 60 * most, "and all that may be passed is");
    }
}

//! Snapshots on their way in: parts until they are whole, and how often the server may be asked for another.
//!
//! Judges nothing: the ledger does.

use std::collections::BTreeMap;
use std::time::Duration;

use model::limits::{SNAPSHOT_BYTES_MAX, TENANTS_MAX};
use model::snapshot::Stamp;
use model::time::Deadline;
use model::wire::{Part, Remark, Whole};
use model::{Mono, Signed, TenantId};

use crate::backoff::{Backoff, Schedule};
use crate::ledger::{Offer, Rejection};
use crate::turn::Turn;

/// A server that sends what is refused again and again costs a snapshot each time, and both sides bandwidth.
const RESYNCS: Schedule =
    Schedule { first: Duration::from_secs(2), max: Duration::from_secs(300), full_jitter: false };

#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// The whole that began last. Parts of one that was refused find none, and are dropped.
    assembly: Option<Assembly>,
    /// By tenant, while the newest offer is refused. At most [`TENANTS_MAX`].
    refused: BTreeMap<TenantId, Refused>,
}

#[derive(Debug)]
struct Assembly {
    tenant: TenantId,
    stamp: Signed<Stamp>,
    bytes_total: usize,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Refused {
    reason: String,
    backoff: Backoff,
    /// Before that nothing is asked for.
    ask_at: Mono,
    pending: bool,
}

impl Intake {
    /// A whole begins, whose stamp was found good.
    pub(crate) fn begin(&mut self, whole: Whole) -> Result<(), Rejection> {
        self.assembly = None;
        let bytes_total = whole.bytes_total as usize;
        if bytes_total > SNAPSHOT_BYTES_MAX {
            return Err(Rejection::TooLong(bytes_total));
        }
        let (tenant, stamp) = (whole.tenant, whole.stamp);
        self.assembly = Some(Assembly { tenant, stamp, bytes_total, bytes: Vec::new() });
        Ok(())
    }

    /// Lets go of a whole that has begun: its parts are not wanted.
    pub(crate) fn skip(&mut self) {
        self.assembly = None;
    }

    /// Takes the next bytes, and gives the whole when they were the last.
    pub(crate) fn part(&mut self, part: &Part) -> Result<Option<Offer>, (TenantId, Rejection)> {
        let Some(mut assembly) = self.assembly.take() else { return Ok(None) };
        assembly.bytes.extend_from_slice(&part.bytes);
        let length = assembly.bytes.len();
        if length > assembly.bytes_total {
            return Err((assembly.tenant, Rejection::TooLong(length)));
        }
        if length < assembly.bytes_total {
            self.assembly = Some(assembly);
            return Ok(None);
        }
        let Assembly { tenant, stamp, bytes, .. } = assembly;
        Ok(Some(Offer::Whole { tenant, stamp, bytes }))
    }

    /// An offer was accepted.
    pub(crate) fn accepted(&mut self, tenant: TenantId) {
        self.refused.remove(&tenant);
    }

    /// An offer was refused: the whole will be asked for, now or when it is time.
    pub(crate) fn rejected(&mut self, tenant: TenantId, rejection: &Rejection, now: Mono) {
        if self.refused.len() >= TENANTS_MAX && !self.refused.contains_key(&tenant) {
            return;
        }
        let refused = self.refused.entry(tenant).or_insert_with(|| Refused {
            reason: String::new(),
            backoff: Backoff::new(RESYNCS),
            ask_at: now,
            pending: true,
        });
        refused.reason = format!("{}: {rejection}", rejection.code());
        refused.pending = true;
    }

    /// The link is gone, and with it what was on its way. The next attach says what is held.
    pub(crate) fn link_down(&mut self) {
        self.assembly = None;
        for refused in self.refused.values_mut() {
            refused.pending = false;
        }
    }

    /// Whom to ask for the whole now, and why.
    pub(crate) fn due(&mut self, turn: &mut Turn<'_>) -> Vec<(TenantId, Remark)> {
        let now = turn.mono();
        let mut due = Vec::new();
        for (tenant, refused) in &mut self.refused {
            if refused.pending && refused.ask_at <= now {
                refused.pending = false;
                refused.ask_at = now + refused.backoff.fail(turn.rng);
                due.push((*tenant, Remark::new(&refused.reason)));
            }
        }
        due
    }

    /// Why the newest offers were refused.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = (&TenantId, &str)> {
        self.refused.iter().map(|(tenant, refused)| (tenant, refused.reason.as_str()))
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let pending = self.refused.values().filter(|refused| refused.pending);
        Some(Deadline { at: pending.map(|refused| refused.ask_at).min()?, why: "ask for the whole" })
    }
}

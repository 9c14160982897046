//! When the ledger is written, and what of it is surely on disk. One write at a time, the newest state next.

use std::collections::BTreeMap;
use std::time::Duration;

use model::time::Deadline;
use model::{Held, Mono, TenantId};

use crate::backoff::{Backoff, Schedule};
use crate::event::Event;
use crate::turn::Turn;

/// A disk that is full now may have room in a minute.
const RETRIES: Schedule =
    Schedule { first: Duration::from_secs(1), max: Duration::from_secs(60), full_jitter: false };

#[derive(Debug)]
pub(crate) struct Saver {
    /// Counts what the ledger went through.
    changed: u64,
    /// How much of that is on disk.
    saved: u64,
    writing: Option<u64>,
    /// Held since the last write began.
    fresh: BTreeMap<TenantId, Held>,
    /// Held by what is being written.
    under_way: BTreeMap<TenantId, Held>,
    /// What is held by the ledger on disk.
    durable: BTreeMap<TenantId, Held>,
    retry_at: Option<Mono>,
    backoff: Backoff,
    failed: Option<String>,
}

impl Saver {
    /// A saver of a ledger that was just read.
    pub(crate) const fn new(durable: BTreeMap<TenantId, Held>) -> Self {
        Self {
            changed: 0,
            saved: 0,
            writing: None,
            fresh: BTreeMap::new(),
            under_way: BTreeMap::new(),
            durable,
            retry_at: None,
            backoff: Backoff::new(RETRIES),
            failed: None,
        }
    }

    /// The ledger changed.
    pub(crate) const fn touch(&mut self) {
        self.changed += 1;
    }

    /// The ledger holds another snapshot.
    pub(crate) fn hold(&mut self, tenant: TenantId, held: Held) {
        self.touch();
        self.fresh.insert(tenant, held);
    }

    /// The ledger holds nothing of a tenant any more.
    pub(crate) fn let_go(&mut self, tenant: TenantId) {
        self.touch();
        for held in [&mut self.fresh, &mut self.under_way, &mut self.durable] {
            held.remove(&tenant);
        }
    }

    /// Everything up to now is on disk.
    pub(crate) const fn is_saved(&self) -> bool {
        self.saved == self.changed
    }

    /// What is on disk of each tenant.
    pub(crate) const fn durable(&self) -> &BTreeMap<TenantId, Held> {
        &self.durable
    }

    /// Why the last write failed.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Whether to write now. If so, the write has begun.
    pub(crate) fn begin(&mut self, now: Mono) -> bool {
        if self.is_saved() || self.writing.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return false;
        }
        self.retry_at = None;
        self.writing = Some(self.changed);
        self.under_way.append(&mut self.fresh);
        true
    }

    /// Takes the outcome of a write, and says what is on disk since.
    pub(crate) fn finish(
        &mut self,
        result: Result<(), String>,
        turn: &mut Turn<'_>,
    ) -> BTreeMap<TenantId, Held> {
        let Some(written) = self.writing.take() else { return BTreeMap::new() };
        match result {
            Ok(()) => {
                self.saved = written;
                self.backoff.succeed();
                self.failed = None;
                let on_disk = std::mem::take(&mut self.under_way);
                self.durable.extend(on_disk.iter().map(|(tenant, held)| (*tenant, *held)));
                on_disk
            }
            Err(reason) => {
                self.retry_at = Some(turn.mono() + self.backoff.fail(turn.rng));
                self.failed = Some(reason.clone());
                turn.event(Event::PersistFailed { reason });
                BTreeMap::new()
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.retry_at.map(|at| Deadline { at, why: "write the ledger again" })
    }
}

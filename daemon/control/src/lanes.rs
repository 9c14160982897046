//! Edits in line: one tenant's edits are decided one after the other, tenants do not wait for each other. Decides none.

use std::collections::{BTreeMap, VecDeque};

use model::{AnchorSecret, TenantId, Version};

use crate::edit::{Answer, Edit};
use crate::io::RequestId;
use crate::limits::EDITS_QUEUED_MAX;
use crate::link::LinkId;
use crate::rows::{By, CommitId, Fact, Tenant};

/// What must not be decided twice at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// New tenants: their names and blocks exclude each other.
    Founding,
    /// One directory.
    Of(TenantId),
}

impl Lane {
    pub(crate) const fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Founding => None,
            Self::Of(tenant) => Some(tenant),
        }
    }
}

/// Who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Request(RequestId),
    Link(LinkId),
    /// A device that is attached and claims another WireGuard key.
    Key(LinkId),
    /// The server itself; nobody waits.
    Nobody,
}

/// An edit that waits.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) edit: Edit,
    pub(crate) by: By,
    pub(crate) asker: Asker,
    /// Times that somebody else was faster.
    pub(crate) conflicts: u32,
}

/// An edit whose commit is under way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) lane: Lane,
    pub(crate) wish: Wish,
    pub(crate) tenant: TenantId,
    pub(crate) result: Version,
    pub(crate) devices_count: u32,
    pub(crate) facts: Vec<Fact>,
    pub(crate) answer: Answer,
    /// A new tenant and its anchor.
    pub(crate) founded: Option<(Tenant, AnchorSecret)>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Wish>,
    flying: bool,
    /// Until a refresh has told what others wrote.
    blocked: bool,
}

/// All lines that are not empty.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lines: BTreeMap<Lane, Line>,
    flights: BTreeMap<CommitId, Flight>,
    last_commit: u64,
}

impl Lanes {
    /// Whether nobody else fits into the line.
    pub(crate) fn is_full(&self, lane: Lane) -> bool {
        self.lines.get(&lane).is_some_and(|line| line.waiting.len() >= EDITS_QUEUED_MAX)
    }

    /// The last in line.
    pub(crate) fn enqueue(&mut self, lane: Lane, wish: Wish) {
        self.lines.entry(lane).or_default().waiting.push_back(wish);
    }

    /// The first in line again: somebody else was faster.
    pub(crate) fn put_back(&mut self, lane: Lane, wish: Wish) {
        self.lines.entry(lane).or_default().waiting.push_front(wish);
    }

    /// The first in line, if the line may move.
    pub(crate) fn next(&mut self, lane: Lane) -> Option<Wish> {
        let line = self.lines.get_mut(&lane)?;
        let wish = if line.flying || line.blocked { None } else { line.waiting.pop_front() };
        if wish.is_none() && line.waiting.is_empty() && !line.flying && !line.blocked {
            self.lines.remove(&lane);
        }
        wish
    }

    /// The first in line, blocked or not, if it lost to somebody else: its refresh failed.
    pub(crate) fn take_loser(&mut self, lane: Lane) -> Option<Wish> {
        let line = self.lines.get_mut(&lane)?;
        if line.waiting.front()?.conflicts == 0 { None } else { line.waiting.pop_front() }
    }

    /// Everybody who waits and is not under way.
    pub(crate) fn take_waiting(&mut self) -> Vec<(Lane, Wish)> {
        let lines = self.lines.iter_mut();
        lines.flat_map(|(lane, line)| line.waiting.drain(..).map(|wish| (*lane, wish))).collect()
    }

    pub(crate) fn block(&mut self, lane: Lane) {
        self.lines.entry(lane).or_default().blocked = true;
    }

    pub(crate) fn unblock(&mut self, lane: Lane) {
        if let Some(line) = self.lines.get_mut(&lane) {
            line.blocked = false;
        }
    }

    pub(crate) fn is_flying(&self, lane: Lane) -> bool {
        self.lines.get(&lane).is_some_and(|line| line.flying)
    }

    pub(crate) fn any_flying(&self) -> bool {
        !self.flights.is_empty()
    }

    /// The commit is under way.
    pub(crate) fn take_off(&mut self, flight: Flight) -> CommitId {
        self.last_commit += 1;
        let id = CommitId(self.last_commit);
        self.lines.entry(flight.lane).or_default().flying = true;
        self.flights.insert(id, flight);
        id
    }

    /// The commit ended.
    pub(crate) fn land(&mut self, id: CommitId) -> Option<Flight> {
        let flight = self.flights.remove(&id)?;
        if let Some(line) = self.lines.get_mut(&flight.lane) {
            line.flying = false;
        }
        Some(flight)
    }
}

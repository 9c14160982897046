//! Where every part of the machine puts what it wants done, and what it counts. Decides nothing.

use std::collections::VecDeque;

use model::wire::Frame;

use crate::event::Event;
use crate::io::Output;
use crate::link::LinkId;

/// What was done since the process began. Every count only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Links that were opened.
    pub links_opened: u64,
    /// Links that were refused.
    pub links_refused: u64,
    /// Heartbeats that were heard.
    pub heartbeats: u64,
    /// Snapshots that were sent whole.
    pub wholes_sent: u64,
    /// Snapshots that were sent as patches.
    pub patches_sent: u64,
    /// Frames of any kind that were sent.
    pub frames_sent: u64,
    /// Stamps that were signed.
    pub signatures: u64,
    /// Digests of one node's plan that were computed.
    pub nodes_planned: u64,
    /// Entries of plans that edits touched.
    pub entries_touched: u64,
    /// Hints that were given on to another device.
    pub hints_forwarded: u64,
    /// Hints that were told other replicas, where their receivers may be.
    pub hints_passed: u64,
    /// Hints that were not: too many, or for nobody.
    pub hints_lost: u64,
    /// Edits that are in the store.
    pub edits_done: u64,
    /// Edits that were refused.
    pub edits_refused: u64,
    /// Commits that somebody else was faster than.
    pub conflicts: u64,
    /// Times that a node refused what it was sent.
    pub resyncs: u64,
}

/// Outputs in order, and the counters.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    outputs: VecDeque<Output>,
    pub(crate) counters: Counters,
}

impl Outbox {
    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn send(&mut self, link: LinkId, frame: impl Into<Frame>) {
        self.counters.frames_sent += 1;
        self.push(Output::Send { link, frame: frame.into() });
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }
}

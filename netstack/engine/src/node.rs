//! A node: routes inputs to the machines that decide, and their outputs to the shell. Decides nothing itself.

use model::Now;
use model::time::Deadline;

use crate::config::NodeConfig;
use crate::input::Input;
use crate::ledger::Ledger;
use crate::output::Output;
use crate::status::Status;

/// What a hub or a device does: keeps a link, accepts snapshots, keeps the host as they say.
///
/// After each [`Self::handle`] and [`Self::handle_timeout`], drain [`Self::poll_output`]; then call
/// [`Self::handle_timeout`] when [`Self::poll_timeout`] says. A call too early or too many does nothing.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// A node with the ledger as loaded. What that holds is kept at once, before any link. Nothing is asked of the
    /// shell before the first [`Self::handle_timeout`], which is due at once.
    pub fn new(_config: NodeConfig, _ledger: Ledger, _seed: [u8; 32]) -> Self {
        Self {}
    }

    /// Takes what the shell says.
    pub fn handle(&mut self, _input: Input, _now: Now) {}

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Now) {}

    /// The next thing to do. Call until it is `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// When [`Self::handle_timeout`] is due next. Ask again after each call of another method.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    /// What the node says of itself. Costs a copy of all peers: for people, not for loops.
    pub fn status(&self) -> Status {
        unreachable!()
    }
}

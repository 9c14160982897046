//! Which device commands were done, so that none is done twice though it is sent again. Does none itself.

use std::collections::VecDeque;

use model::id::CommandId;
use model::wire::{CommandDone, Remark};

/// Commands that are remembered: a server has half as many waiting for one device at most.
const REMEMBERED_MAX: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Commands {
    done: VecDeque<CommandDone>,
}

impl Commands {
    /// What came of it, if it is known.
    pub(crate) fn outcome(&self, id: CommandId) -> Option<CommandDone> {
        self.done.iter().find(|done| done.id == id).cloned()
    }

    /// It was done, or could not be.
    pub(crate) fn note(&mut self, id: CommandId, failed: Option<Remark>) -> CommandDone {
        let done = CommandDone { id, failed };
        self.done.push_front(done.clone());
        self.done.truncate(REMEMBERED_MAX);
        done
    }
}

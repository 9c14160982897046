//! How a device command has the whole program begin anew. Begins none itself.

use engine::Event;
use model::id::CommandId;
use tokio::sync::watch;

/// Who begins the program anew, and why it began.
#[derive(Debug, Clone)]
pub struct Restart {
    /// Told which command wants it.
    pub asked: watch::Sender<Option<CommandId>>,
    /// The command because of which this program began: it is done.
    pub done: Option<CommandId>,
}

impl Restart {
    /// Passes on what the engine was told.
    pub(super) fn hear(&self, event: &Event) {
        if let Event::RestartAsked { command } = event {
            self.asked.send_replace(Some(*command));
        }
    }
}

//! What a device does when its server tells it to, once for each id.

use model::wire::{Command, Remark, Resync};
use model::{CommandKind, TenantId};

use super::Machines;
use crate::event::Event;
use crate::output::Output;
use crate::turn::Turn;

impl Machines {
    /// A command that was done is answered again, and not done.
    pub(super) fn command(&mut self, command: &Command, turn: &mut Turn<'_>) {
        if let Some(done) = self.commands.outcome(command.id) {
            return turn.push(Output::Send(done.into()));
        }
        let failed = match command.kind.as_str().parse() {
            Ok(CommandKind::Resync) => {
                self.compare_everything(turn);
                None
            }
            Ok(CommandKind::Report) => {
                self.pulse.hurry(turn.mono());
                None
            }
            // Answered by the program that begins.
            Ok(CommandKind::Restart) => return turn.event(Event::RestartAsked { command: command.id }),
            Err(unknown) => Some(Remark::new(&unknown.to_string())),
        };
        let done = self.commands.note(command.id, failed);
        turn.push(Output::Send(done.into()));
    }

    /// Asks for the whole of what is held, as if nothing were, and looks at the host.
    fn compare_everything(&mut self, turn: &mut Turn<'_>) {
        let tenants: Vec<TenantId> = self.ledger.holdings().map(|(tenant, ..)| tenant).collect();
        for tenant in tenants {
            self.pulse.forget(tenant);
            let reason = Remark::new("a device command");
            turn.push(Output::Send(Resync { tenant, held: None, reason }.into()));
        }
        self.reconciler.look_soon(turn.mono());
    }
}

//! What a device does when its server tells it to, once for each id.

use model::id::CommandId;
use model::wire::{Command, Remark, Resync};
use model::{CommandKind, PrivateKey, TenantId};

use super::Machines;
use crate::event::Event;
use crate::output::Output;
use crate::rekey::Asked;
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
                self.session.asks_now(turn.mono());
                None
            }
            // Answered by the node that begins with the other key.
            Ok(CommandKind::Rekey) => return self.rekey_asked(command.id, turn),
            // Answered by the program that begins.
            Ok(CommandKind::Restart) => return turn.event(Event::RestartAsked { command: command.id }),
            Err(unknown) => Some(Remark::new(&unknown.to_string())),
        };
        let done = self.commands.note(command.id, failed);
        turn.push(Output::Send(done.into()));
    }

    /// Has the shell make a key. Asked again, the server has not taken it yet: it is offered once more.
    fn rekey_asked(&mut self, command: CommandId, turn: &mut Turn<'_>) {
        match self.rekey.asked(command, turn.mono()) {
            Asked::New => turn.event(Event::RekeyAsked { command }),
            Asked::Again => self.session.restart(turn),
            Asked::UnderWay => {}
        }
    }

    /// There is a key that is to follow: the server hears of it with the next attach, which is now if it is wanted.
    pub(super) fn next_key(&mut self, key: PrivateKey, command: Option<CommandId>, turn: &mut Turn<'_>) {
        self.rekey.made(key);
        if command.is_some() && self.session.is_attached() {
            self.session.restart(turn);
        }
    }

    /// The shell could not do it.
    pub(super) fn command_failed(&mut self, command: CommandId, why: &str, turn: &mut Turn<'_>) {
        let done = self.commands.note(command, Some(Remark::new(why)));
        if self.session.is_attached() {
            turn.push(Output::Send(done.into()));
        }
    }

    /// Asks for the whole of what is held, as if nothing were, and looks at the host.
    fn compare_everything(&mut self, turn: &mut Turn<'_>) {
        let tenants: Vec<TenantId> = self.ledger.holdings().map(|(tenant, ..)| tenant).collect();
        for tenant in tenants {
            self.pulse.forget(tenant);
            let reason = Remark::new("a device command");
            turn.push(Output::Send(Resync { tenant, held: None, reason }.into()));
        }
        self.reconcilers.look_soon(turn.mono());
    }
}

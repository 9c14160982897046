//! Device commands on their way: to the device that is attached here, and its answer back. Keeps none.

use model::wire::{Command, CommandDone};
use model::{Abilities, CommandKind, DeviceId, NodeId, Refusal, TenantId};

use super::Control;
use crate::io::Output;
use crate::limits::COMMANDS_UNANSWERED_MAX;
use crate::link::LinkId;
use crate::session::out_of_place;

impl Control {
    /// Sends a command, unless the device is elsewhere or would not understand.
    pub(super) fn deliver(&mut self, device: DeviceId, command: Command) {
        let link = self.presences.of(device).and_then(|presence| presence.link);
        let able = |link: &LinkId| {
            self.sessions.get(link).is_some_and(|session| session.abilities.has(Abilities::COMMANDS))
        };
        let Some(link) = link.filter(able) else { return };
        if let Some(session) = self.sessions.get_mut(&link) {
            // Said again, it excuses nothing again.
            let excuses = command.kind.as_str() == CommandKind::Resync.as_str();
            session.commands.entry(command.id).or_insert(excuses);
            if session.commands.len() > COMMANDS_UNANSWERED_MAX {
                session.commands.pop_first();
            }
        }
        self.send(link, command);
    }

    /// What came of it. Whose it is, the link says; what nobody asked for is passed over.
    pub(super) fn on_command_done(
        &mut self,
        link: LinkId,
        tenant: Option<TenantId>,
        node: NodeId,
        done: CommandDone,
    ) -> Result<(), Refusal> {
        let (Some(tenant), NodeId::Device(device)) = (tenant, node) else {
            return Err(out_of_place("a device's answer from the hub"));
        };
        if self.sessions.get_mut(&link).is_some_and(|session| session.commands.remove(&done.id).is_some()) {
            self.out.push(Output::CommandDone { tenant, device, done });
        }
        Ok(())
    }
}

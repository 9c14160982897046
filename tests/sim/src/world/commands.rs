//! Device commands in the world: queued by people, carried by every server again and again, answered once by whose they are.

use std::time::Duration;

use control::Input as Told;
use engine::Input;
use model::id::CommandId;
use model::wire::{Command, CommandDone, Remark};
use model::{Abilities, CommandKind, DeviceId, Mono, PrivateKey, Timestamp};

use super::{Happening, Phase, Who, World};

/// As a courier looks into its queue, and as long as it waits for an answer.
const CARRY_INTERVAL: Duration = Duration::from_secs(5);
/// Nobody waits longer.
const LIFE: Duration = Duration::from_secs(300);
/// Draws of a person that are a command, in thousandths.
const WANTED_PER_MILLE: usize = 300;

/// A command that nobody answered yet.
struct Waiting {
    id: CommandId,
    device: DeviceId,
    kind: CommandKind,
    until: Mono,
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Vec<Waiting>,
    /// Which device each was ever for.
    all: std::collections::BTreeMap<CommandId, DeviceId>,
}

impl Queue {
    /// Nobody waits for an answer any more.
    pub(super) fn end(&mut self) {
        self.waiting.clear();
    }
}

impl World {
    /// Sends what waits, and at times somebody wants more.
    pub(super) fn carry(&mut self) {
        if !matches!(self.phase, Phase::Chaos | Phase::Calm) {
            return;
        }
        self.soon(CARRY_INTERVAL, Happening::Carry);
        if self.is_wild() && self.dice.people.chance(WANTED_PER_MILLE) {
            self.want_command();
        }
        self.commands.waiting.retain(|waiting| waiting.until > self.at);
        for index in 0..self.replicas.len() {
            let each = self.commands.waiting.iter();
            let each: Vec<_> = each.map(|one| (one.id, one.device, one.kind)).collect();
            for (id, device, kind) in each {
                let command = Command { id, kind: Remark::new(kind.as_str()) };
                self.drive_replica(index, Some(Told::Deliver { device, command }));
            }
        }
    }

    fn want_command(&mut self) {
        let devices: Vec<DeviceId> =
            self.store.tenants().flat_map(|(_, stored)| &stored.rows.devices).map(|row| row.id).collect();
        let dice = &mut self.dice.people;
        let (Some(device), Some(kind)) =
            (dice.pick(&devices).copied(), dice.pick(&CommandKind::ALL).copied())
        else {
            return;
        };
        let id = CommandId::new(Timestamp::default() + self.at.since(Mono::default()), dice.bytes());
        self.trace.event(self.at, "command", 0, kind.as_str().as_bytes());
        self.trace.tell(self.at, || format!("device {device} is to {kind}: {id}"));
        self.commands.all.insert(id, device);
        self.commands.waiting.push(Waiting { id, device, kind, until: self.at + LIFE });
    }

    /// A device answered. Again is no offence: the answer may have been lost.
    pub(super) fn command_done(&mut self, device: DeviceId, done: &CommandDone) {
        let known = self.commands.all.get(&done.id) == Some(&device);
        if !known {
            let detail = format!("device {device} answers {}, which was not told to it", done.id);
            self.judge.accuse(self.at, "commands-are-answered-by-their-device", detail);
        }
        if let Some(why) = &done.failed {
            let detail = format!("device {device} cannot do {}: {why}", done.id);
            self.judge.accuse(self.at, "commands-are-done", detail);
        }
        self.trace.detail(self.at, || format!("device {device} has done {}", done.id));
        self.commands.waiting.retain(|waiting| waiting.id != done.id);
    }

    /// A program that is told to begin anew does, and the one that begins answers.
    pub(super) fn restart_machine(&mut self, index: usize, command: CommandId) {
        let machine = &mut self.machines[index];
        if machine.began_for == Some(command) {
            let detail = format!("{} begins anew for {command}, for which it began", machine.name);
            self.judge.accuse(self.at, "restarts-are-done-once", detail);
        }
        let machine = &mut self.machines[index];
        let (name, life) = (machine.name.clone(), machine.life);
        self.trace.tell(self.at, || format!("{name} begins anew for {command}"));
        self.stop_machine(index, false);
        let machine = &mut self.machines[index];
        machine.disk.crash(true);
        machine.began_for = Some(command);
        self.soon(Duration::from_millis(20), Happening::Start { who: Who::Machine(index), life });
    }

    /// A key that is to follow is on the disk before the node hears of it; a crash leaves both.
    pub(super) fn make_key(&mut self, index: usize, command: CommandId) {
        let fresh = PrivateKey::from_bytes(self.dice.keys.bytes());
        let machine = &mut self.machines[index];
        let key = machine.next.get_or_insert(fresh).clone();
        machine.secrets().into_iter().chain([*key.expose()]).for_each(|key| self.judge.keep_secret(key));
        self.seen_keys.push(key.public());
        let (name, life) = (machine.name.clone(), machine.life);
        self.trace.tell(self.at, || format!("{name} makes another key for {command}"));
        let input = Box::new(Input::NextKey { key, command: Some(command) });
        self.soon(Duration::from_millis(8), Happening::Tell { machine: index, life, input });
    }

    /// The server has it: the program begins with it.
    pub(super) fn rekey(&mut self, index: usize, command: Option<CommandId>) {
        let machine = &mut self.machines[index];
        if let Some(key) = machine.next.take() {
            machine.wireguard = key;
        }
        let (name, life) = (machine.name.clone(), machine.life);
        self.trace.event(self.at, "rekey", index as u64, machine.wireguard.public().as_bytes());
        self.trace.tell(self.at, || format!("{name} has another key"));
        self.stop_machine(index, false);
        let machine = &mut self.machines[index];
        machine.disk.crash(true);
        machine.began_for = command;
        self.soon(Duration::from_millis(20), Happening::Start { who: Who::Machine(index), life });
    }

    /// A command that should have been answered: its device is there and understands it.
    pub(super) fn command_unanswered(&self) -> Option<String> {
        self.commands.waiting.iter().find_map(|waiting| {
            let attached =
                self.replicas.iter().filter_map(|replica| replica.control.as_ref()).any(|control| {
                    control.presence(waiting.device).is_some_and(|presence| presence.link.is_some())
                });
            let mut devices = self.store.tenants().flat_map(|(_, stored)| &stored.rows.devices);
            let able = devices.any(|row| row.id == waiting.device && row.abilities.has(Abilities::COMMANDS));
            (attached && able).then(|| format!("device {} does not answer {}", waiting.device, waiting.id))
        })
    }
}

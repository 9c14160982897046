//! Machines in the world: what a node's outputs do, and what it is told of them.

use std::net::SocketAddr;

use engine::{Change, Event, Input, Output, Seat};
use model::wire::{Frame, Heartbeat, Holding};
use model::{Code, Endpoint, MeshAddresses, NodeId};

use super::{Happening, Who, World};
use crate::judge::{Applying, Removing};
use crate::link::{Item, Way};
use crate::machine::{Started, Wish};
use crate::scenario::Sabotage;

/// Things that one node may do in a minute, for each node of the run: a hub has a peer for each.
const WORK_PER_NODE: usize = 60;
const WORK_FLOOR: usize = 3_000;

impl World {
    pub(super) fn start_machine(&mut self, index: usize, life: u64) {
        let machine = &mut self.machines[index];
        if machine.life != life || machine.node.is_some() || machine.gone {
            return;
        }
        let name = machine.name.clone();
        let Started { damage, lost } = match machine.start(self.at, &self.guard, &mut self.dice.host) {
            Ok(started) => started,
            Err(reason) => return self.ledger_is_thrown_away(index, &reason),
        };
        self.trace.event(self.at, "start", index as u64, &[]);
        self.trace.tell(self.at, || match damage {
            Some(damage) => format!("{name} starts; its ledger was damaged: {damage}"),
            None => format!("{name} starts"),
        });
        if let Some(tenant) = lost.first() {
            let detail =
                format!("{} told a server that it holds {tenant}, and lost it", self.machines[index].name);
            self.judge.accuse(self.at, "acknowledged-is-on-disk", detail);
        }
        if let Some(command) = self.machines[index].began_for
            && !self.is_sabotaged(Sabotage::RestartsForget)
        {
            self.drive(index, Some(Input::Restarted { command }));
        }
        if let Some(key) = self.machines[index].next.clone() {
            self.drive(index, Some(Input::NextKey { key, command: None }));
        }
        let found = self.machines[index].host.found();
        self.drive(index, Some(Input::Found(found)));
        let input = (!self.is_wild()).then_some(Input::Up);
        self.drive(index, input);
    }

    /// A program does not start with a ledger that it cannot trust: a person takes that away.
    fn ledger_is_thrown_away(&mut self, index: usize, reason: &str) {
        let machine = &mut self.machines[index];
        machine.forget();
        machine.wish = Wish::None;
        let (name, life) = (machine.name.clone(), machine.life);
        self.trace.event(self.at, "stopped", index as u64, &[]);
        self.trace
            .tell(self.at, || format!("{name} does not start: {reason}; a person takes the ledger away"));
        let later = self.dice.host.millis(1_000, 60_000);
        self.soon(later, Happening::Start { who: Who::Machine(index), life });
    }

    pub(super) fn wake_machine(&mut self, index: usize, stamp: u64) {
        let machine = &mut self.machines[index];
        if machine.timer.stamp != stamp {
            return;
        }
        machine.timer.at = None;
        let why =
            machine.node.as_ref().and_then(engine::Node::poll_timeout).map_or("", |deadline| deadline.why);
        self.judge.woken(self.at, &self.machines[index].name, why);
        self.drive(index, None);
    }

    pub(super) fn tell_node(&mut self, index: usize, life: u64, input: Input) {
        if self.lives(index, life) {
            self.drive(index, Some(input));
        }
    }

    pub(super) fn synced(&mut self, index: usize, life: u64, ok: bool) {
        if self.lives(index, life) {
            self.machines[index].disk.finish(ok);
            let result = if ok { Ok(()) } else { Err("injected: no space left on device".into()) };
            self.drive(index, Some(Input::Persisted(result)));
        }
    }

    pub(super) fn applied(&mut self, index: usize, life: u64, seat: Seat, change: Change) {
        if self.lives(index, life) {
            let machine = &mut self.machines[index];
            let own = machine.wireguard.public();
            self.judge.brings_up(self.at, &machine.name, machine.is_hub, (&machine.host, seat), &change);
            let result = machine.host.apply(seat, &change, &own, &mut self.dice.host);
            self.drive(index, Some(Input::Applied { seat, change, result }));
        }
    }

    pub(super) fn observed(&mut self, index: usize, life: u64, seat: Seat) {
        if self.lives(index, life) {
            if self.is_wild() {
                self.machines[index].host.live(&mut self.dice.host);
            }
            let seen = self.machines[index].host.observe(seat, &mut self.dice.host);
            self.drive(index, Some(Input::Observed(seat, seen)));
        }
    }

    pub(super) fn resolved(&mut self, index: usize, life: u64, endpoint: Endpoint) {
        if self.lives(index, life) {
            let lost = self.is_wild() && self.dice.host.chance(200);
            let moved = u8::from(self.is_wild() && self.dice.host.chance(100));
            let address = (!lost).then(|| SocketAddr::from(([198, 51, 100, 1 + moved], endpoint.port)));
            self.drive(index, Some(Input::Resolved { endpoint, address }));
        }
    }

    pub(super) fn lives(&self, index: usize, life: u64) -> bool {
        let machine = &self.machines[index];
        machine.life == life && machine.node.is_some()
    }

    /// Tells a node something, or that time has passed; then does what it wants.
    pub(super) fn drive(&mut self, index: usize, input: Option<Input>) {
        let machine = &mut self.machines[index];
        let now = machine.now(self.at, self.jumped);
        let Some(node) = &mut machine.node else { return };
        match input {
            Some(input) => node.handle(input, now),
            None => node.handle_timeout(now),
        }
        let outputs: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
        if self.at.as_micros().is_multiple_of(7) {
            node.handle_timeout(now);
            if let Some(output) = node.poll_output() {
                let detail = format!("{} was woken for nothing and did {output:?}", machine.name);
                self.judge.accuse(self.at, "spurious-wakes-do-nothing", detail);
            }
        }
        if !outputs.is_empty() {
            let bound = WORK_FLOOR + WORK_PER_NODE * self.scenario.devices;
            self.judge.worked(self.at, &self.machines[index].name, outputs.len(), bound);
        }
        let life = self.machines[index].life;
        for output in outputs {
            if !self.lives(index, life) {
                return;
            }
            self.node_does(index, output);
            self.count_down(index);
        }
        self.arm_machine(index);
    }

    /// A crash that was to come after so many steps.
    fn count_down(&mut self, index: usize) {
        let Some(left) = &mut self.machines[index].crash_after else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.crash_machine(index);
        }
    }

    fn arm_machine(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let deadline = machine.node.as_ref().and_then(engine::Node::poll_timeout);
        let at = deadline.map(|deadline| machine.clock.when(deadline.at).max(self.at));
        if at == machine.timer.at && at.is_some() {
            return;
        }
        machine.timer.stamp += 1;
        machine.timer.at = at;
        let stamp = machine.timer.stamp;
        if let Some(at) = at {
            self.queue.at(at, Happening::Wake { who: Who::Machine(index), stamp });
        }
    }

    fn node_does(&mut self, index: usize, output: Output) {
        let life = self.machines[index].life;
        match output {
            Output::Dial => self.dial(index),
            Output::Hangup => self.hang_up(index),
            Output::Send(frame) => self.node_sends(index, frame),
            Output::Persist(bytes) => {
                let machine = &mut self.machines[index];
                let holds =
                    machine.accepted.iter().map(|(tenant, (version, _))| (*tenant, *version)).collect();
                machine.disk.begin(crate::disk::File { bytes, holds });
                let ok = !self.is_wild() || !self.dice.host.chance(20);
                let delay = self.dice.host.millis(1, 30);
                self.soon(delay, Happening::Synced { machine: index, life, ok });
            }
            // Nobody talks here: paths have a world of their own, `mesh`.
            Output::Path(_) | Output::Seal { .. } => {}
            Output::Ssh(output) => self.tell_sshd(index, output),
            Output::Observe(seat) => {
                let at = self.host_at(index);
                self.queue.at(at, Happening::Observe { machine: index, life, seat });
            }
            Output::Apply(seat, change) => {
                self.judge_change(index, seat, &change);
                let at = self.host_at(index);
                self.queue.at(at, Happening::Apply { machine: index, life, seat, change: Box::new(change) });
            }
            Output::Names(update) => {
                if let Err(detail) = self.machines[index].serve(update) {
                    self.judge.accuse(self.at, "names-follow-snapshots", detail);
                }
            }
            Output::Resolve(endpoint) => {
                let delay = self.dice.host.millis(5, 400);
                self.soon(delay, Happening::Resolve { machine: index, life, endpoint });
            }
            Output::Event(Event::RestartAsked { command }) => self.restart_machine(index, command),
            Output::Event(Event::RekeyAsked { command }) => self.make_key(index, command),
            Output::Event(Event::Rekeyed { command }) => self.rekey(index, command),
            Output::Event(event) => self.node_says(index, &event),
        }
    }

    /// When the host has done one thing more.
    fn host_at(&mut self, index: usize) -> model::Mono {
        let took = self.dice.host.millis(0, 3);
        let machine = &mut self.machines[index];
        machine.busy_until = machine.busy_until.max(self.at) + took;
        machine.busy_until
    }

    fn node_sends(&mut self, index: usize, mut frame: Frame) {
        let Some(link) = self.machines[index].link else { return };
        let able = self.machines[index].abilities;
        match &mut frame {
            Frame::Enrol(enrol) => enrol.abilities = able,
            Frame::Attach(attach) => attach.abilities = able,
            Frame::Holding(holding) => self.promises(index, holding),
            Frame::Heartbeat(Heartbeat { holding, .. }) => {
                holding.iter().for_each(|holding| self.promises(index, holding));
            }
            _ => {}
        }
        let mut bytes = model::wire::encode(&frame);
        if self.is_sabotaged(Sabotage::LeaksKey) && matches!(frame, Frame::Enrol(_)) {
            bytes.extend_from_slice(&self.machines[index].wireguard.expose()[..]);
        }
        self.judge.frame(self.at, &self.machines[index].name, &bytes);
        self.machines[index].bytes += bytes.len() as u64;
        let name = &self.machines[index].name;
        self.trace.detail(self.at, || format!("{name} sends {} of {} bytes", frame.name(), bytes.len()));
        self.send(link, Way::Up, Item::Frame(bytes));
    }

    /// What a node says that it holds is on its disk, and is what every other says of that version.
    fn promises(&mut self, index: usize, holding: &Holding) {
        let machine = &mut self.machines[index];
        let Holding { tenant, held, .. } = holding;
        if machine.disk.promised(*tenant).is_none_or(|version| version < held.version) {
            let detail =
                format!("{} says that it holds {}, and it is not on disk", machine.name, held.version);
            return self.judge.accuse(self.at, "acknowledged-is-on-disk", detail);
        }
        machine.announced.insert(*tenant, held.version);
        if let Some(zone) = machine.zones.get(tenant) {
            let held = (*tenant, held.version);
            self.judge.answers(self.at, &machine.name, held, &zone.origin, &machine.names);
        }
        if let Some(node) = machine.node_id() {
            self.judge.holding(self.at, &machine.name, *tenant, node, *held);
        }
    }

    fn judge_change(&mut self, index: usize, seat: Seat, change: &Change) {
        let machine = &mut self.machines[index];
        machine.changes += 1;
        self.trace.event(self.at, "apply", index as u64, change.to_string().as_bytes());
        let name = &machine.name;
        self.trace.detail(self.at, || format!("{name}: {change}"));
        let removes = matches!(
            change,
            Change::RemovePeer(_)
                | Change::RemoveAddress(_)
                | Change::RemoveRoute(_)
                | Change::RemoveStray(_)
                | Change::RemoveInterface
                | Change::ClearResolver
        );
        if removes && let Some(node) = &machine.node {
            let (is_hub, host) = (machine.is_hub, &machine.host.at(seat));
            let removing = Removing { who: name, is_hub, status: &node.status(), seat, host };
            self.judge.remove(self.at, &removing, change);
        }
        let own = self.own_addresses(index);
        let machine = &self.machines[index];
        let applying = Applying {
            who: &machine.name,
            is_hub: machine.is_hub,
            accepted: &machine.accepted,
            own,
            remembers_nothing: false,
        };
        self.judge.apply(self.at, &applying, change, &self.store);
    }

    /// The addresses that the store has for a device.
    fn own_addresses(&self, index: usize) -> Option<MeshAddresses> {
        let machine = &self.machines[index];
        let Some(NodeId::Device(id)) = machine.node_id() else { return None };
        let mut tenants = machine.accepted.keys().filter_map(|tenant| self.store.tenant(*tenant));
        tenants.find_map(|stored| {
            let device = stored.rows.devices.iter().find(|device| device.id == id)?;
            stored.rows.tenant.block.host(device.number)
        })
    }

    /// Whether nobody hostile is on its link.
    fn is_honest(&self, index: usize) -> bool {
        let link = self.machines[index].link.and_then(|id| self.links.get(&id));
        link.is_none_or(|link| link.honest)
    }

    fn node_says(&mut self, index: usize, event: &Event) {
        self.trace.event(self.at, event.message(), index as u64, &[]);
        let name = self.machines[index].name.clone();
        let honest = self.is_honest(index);
        let machine = &mut self.machines[index];
        if let Event::ServerRefused(refusal) | Event::JoinRefused(refusal) = event {
            machine.told_full |= refusal.code == Code::BlockExhausted;
        }
        match event {
            Event::Accepted { tenant, version, standing } => {
                let before =
                    machine.accepted.insert(*tenant, (*version, *standing)).map(|(before, _)| before);
                self.judge.accepted(self.at, &name, *tenant, before, *version);
                self.trace.detail(self.at, || format!("{name} accepts {version}, {}", standing.as_str()));
            }
            Event::Joined { device, standing } => {
                machine.wish = Wish::Joined(*device);
                self.trace.tell(self.at, || format!("{name} joined, {}", standing.as_str()));
            }
            Event::Attached if !honest => {
                let detail = format!("{name} attached to somebody who does not have the anchor");
                self.judge.accuse(self.at, "only-the-anchor-is-trusted", detail);
            }
            Event::JoinRefused(refusal) if !honest => {
                let detail = format!("{name} gave up joining because a stranger said so: {refusal}");
                self.judge.accuse(self.at, "only-the-anchor-is-trusted", detail);
            }
            Event::JoinRefused(refusal) => {
                machine.wish = Wish::None;
                self.trace.tell(self.at, || format!("{name} may not join: {refusal}"));
            }
            Event::Settled => {
                let remembers_nothing =
                    matches!(machine.wish, Wish::Joined(_)) && machine.accepted.is_empty();
                let (is_hub, accepted) = (machine.is_hub, &machine.accepted);
                let applying = Applying { who: &name, is_hub, accepted, own: None, remembers_nothing };
                for observed in machine.host.all() {
                    self.judge.settled(self.at, &applying, observed, &machine.zones);
                }
                self.trace.detail(self.at, || format!("{name} is settled"));
            }
            other => {
                let warns = other.is_warning();
                let line = || format!("{name}: {other:?}");
                if warns { self.trace.tell(self.at, line) } else { self.trace.detail(self.at, line) }
            }
        }
    }
}

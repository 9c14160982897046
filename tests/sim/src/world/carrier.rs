//! The network: dials, links, what is sent over them and what becomes of it.

use std::time::Duration;

use control::{LinkId, Origin};
use engine::Input;
use model::wire::{Channel, Decoder, Frame};

use super::{Happening, World};
use crate::link::{Client, Item, Link, Pipe, Server, Way};
use crate::paths::CutId;

/// A dial that gets no answer is tried again by the carriers below it.
const DIAL_RETRY: Duration = Duration::from_secs(3);
/// Frames of one link that somebody hostile records.
const RECORD_FRAMES_MAX: usize = 24;

/// Who answers a dial.
enum Target {
    Replica(usize),
    /// A relay of somebody hostile, to this server.
    Between(usize),
    Forger,
}

impl World {
    pub(super) fn dial(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.dials += 1;
        machine.dialing = true;
        let (life, dial) = (machine.life, machine.dials);
        let delay = if machine.is_hub { Duration::from_millis(1) } else { self.dice.network.millis(5, 80) };
        self.soon(delay, Happening::Connect { machine: index, life, dial });
    }

    pub(super) fn hang_up(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.dials += 1;
        machine.dialing = false;
        let life = machine.life;
        if let Some(link) = machine.link.take() {
            self.let_go(link);
        }
        let input = Box::new(Input::LinkDown { reason: "hung up".into() });
        self.soon(Duration::from_millis(1), Happening::Tell { machine: index, life, input });
    }

    /// The client closes its end; the server hears of it when the network lets it.
    pub(super) fn let_go(&mut self, id: LinkId) {
        self.send(id, Way::Up, Item::End);
        if let Some(link) = self.links.get_mut(&id) {
            link.client = None;
        }
        self.sweep(id);
    }

    pub(super) fn connect(&mut self, index: usize, life: u64, dial: u64) {
        let machine = &self.machines[index];
        if machine.life != life || machine.node.is_none() || machine.dials != dial || !machine.dialing {
            return;
        }
        let is_hub = machine.is_hub;
        let target = self.target(is_hub);
        let (replica, way_in) = match target {
            Target::Forger => return self.connect_forger(index, life),
            Target::Replica(replica) => (replica, None),
            Target::Between(replica) => (replica, Some(Channel::Exporter(self.dice.network.bytes()))),
        };
        let cut = |way| !is_hub && self.paths.blocked(index, replica, way);
        if cut(Way::Up) || cut(Way::Down) {
            return self.soon(DIAL_RETRY, Happening::Connect { machine: index, life, dial });
        }
        if self.replicas[replica].control.is_none() {
            self.machines[index].dialing = false;
            return self.drive(index, Some(Input::LinkDown { reason: "connection refused".into() }));
        }
        let channel = if is_hub { Channel::Local } else { Channel::Exporter(self.dice.network.bytes()) };
        let server = Server::Replica(replica, self.replicas[replica].life);
        let link = self.open(Client::Machine(index, life), server, channel, way_in.is_none());
        self.machines[index].dialing = false;
        self.machines[index].link = Some(link);
        let from = if is_hub { Origin::Hub } else { Origin::Network([192, 0, 2, 1].into()) };
        let input = control::Input::Opened { link, channel: way_in.unwrap_or(channel), from };
        self.drive_replica(replica, Some(input));
        self.drive(index, Some(Input::LinkUp { channel }));
    }

    fn target(&mut self, is_hub: bool) -> Target {
        if is_hub {
            return Target::Replica(0);
        }
        let replica = self.dice.network.below(self.replicas.len());
        if !self.dice.attack.chance(self.spoofed_per_mille) {
            return Target::Replica(replica);
        }
        if self.dice.attack.chance(500) { Target::Between(replica) } else { Target::Forger }
    }

    fn connect_forger(&mut self, index: usize, life: u64) {
        let channel = Channel::Exporter(self.dice.network.bytes());
        let link = self.open(Client::Machine(index, life), Server::Forger, channel, false);
        self.machines[index].dialing = false;
        self.machines[index].link = Some(link);
        self.drive(index, Some(Input::LinkUp { channel }));
    }

    pub(super) fn open(&mut self, client: Client, server: Server, channel: Channel, honest: bool) -> LinkId {
        self.last_link += 1;
        let id = LinkId(self.last_link);
        let (latency, slow) = (self.dice.network.millis(1, 60), self.dice.network.chance(50));
        let writes_in = if slow { self.dice.network.millis(20, 300) } else { Duration::from_micros(50) };
        let link = Link {
            client: Some(client),
            server: Some(server),
            channel,
            honest,
            up: Pipe::default(),
            down: Pipe::default(),
            latency,
            unwritten: 0,
            writes_in,
            written_at: self.at,
            record: Vec::new(),
        };
        self.links.insert(id, link);
        self.trace.event(self.at, "open", id.0, &[]);
        id
    }

    /// Puts something on its way.
    pub(super) fn send(&mut self, id: LinkId, way: Way, item: Item) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let cut = match (link.client, link.server) {
            (Some(Client::Machine(machine, _)), Some(Server::Replica(replica, _))) => {
                machine != 0 && self.paths.blocked(machine, replica, way)
            }
            _ => false,
        };
        if let (Item::Frame(bytes), Way::Up) = (&item, way)
            && self.scenario.attacks
            && link.record.len() < RECORD_FRAMES_MAX
        {
            link.record.push(bytes.clone());
        }
        let latency = link.latency;
        let pipe = link.pipe(way);
        if cut || !pipe.held.is_empty() {
            return pipe.held.push_back(item);
        }
        let lost = self.phase == super::Phase::Chaos && self.dice.network.chance(20);
        let late = if lost { self.dice.network.millis(200, 3_000) } else { Duration::ZERO };
        let at = pipe.arrival(self.at, latency + late);
        self.queue.at(at, Happening::Deliver { link: id, way, item });
    }

    /// What a partition held back goes on.
    pub(super) fn mend(&mut self, cut: CutId) {
        self.paths.mend(cut);
        self.trace.tell(self.at, || "a partition heals".to_owned());
        self.release();
    }

    /// Sends what is held back on every path that is open again.
    pub(super) fn release(&mut self) {
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        for id in ids {
            for way in [Way::Up, Way::Down] {
                let held = self.links.get_mut(&id).map(|link| std::mem::take(&mut link.pipe(way).held));
                held.into_iter().flatten().for_each(|item| self.send(id, way, item));
            }
        }
    }

    pub(super) fn deliver(&mut self, id: LinkId, way: Way, item: Item) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Item::Frame(bytes) = &item {
            self.trace.event(self.at, "frame", id.0, bytes);
        }
        match (way, item) {
            (Way::Up, item) => match link.server {
                Some(Server::Replica(replica, life)) => self.server_gets(id, replica, life, item),
                Some(Server::Forger) => self.forger_gets(id, item),
                None => {}
            },
            (Way::Down, item) => match link.client {
                Some(Client::Machine(machine, life)) => self.node_gets(id, machine, life, &item),
                Some(Client::Stranger(stranger)) => self.stranger_gets(id, stranger, item),
                None => {}
            },
        }
        self.sweep(id);
    }

    fn server_gets(&mut self, id: LinkId, replica: usize, life: u64, item: Item) {
        if self.replicas[replica].life != life || self.replicas[replica].control.is_none() {
            return;
        }
        let input = match item {
            Item::Frame(bytes) => read(&bytes).map(|frame| control::Input::Received { link: id, frame }),
            Item::End => None,
        };
        let Some(input) = input else {
            self.send(id, Way::Down, Item::End);
            if let Some(link) = self.links.get_mut(&id) {
                link.server = None;
            }
            return self.drive_replica(replica, Some(control::Input::Closed { link: id }));
        };
        self.drive_replica(replica, Some(input));
    }

    fn node_gets(&mut self, id: LinkId, index: usize, life: u64, item: &Item) {
        let machine = &mut self.machines[index];
        if machine.life != life || machine.link != Some(id) {
            return;
        }
        if let Item::Frame(bytes) = item {
            machine.bytes += bytes.len() as u64;
            if let Some(frame) = read(bytes) {
                return self.drive(index, Some(Input::Received(frame)));
            }
        }
        machine.link = None;
        if let Some(link) = self.links.get_mut(&id) {
            link.client = None;
        }
        self.drive(index, Some(Input::LinkDown { reason: "closed by the server".into() }));
    }

    /// Forgets a link that nobody holds, and notes what was recorded of it.
    pub(super) fn sweep(&mut self, id: LinkId) {
        let over = |link: &Link| link.client.is_none() && link.server.is_none();
        if self.links.get(&id).is_some_and(over)
            && let Some(link) = self.links.remove(&id)
            && link.record.len() > 1
            && self.records.len() < 50
        {
            self.records.push(link.record);
        }
    }
}

/// The frame that the bytes are.
pub(super) fn read(bytes: &[u8]) -> Option<Frame> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    decoder.next_frame().ok().flatten()
}

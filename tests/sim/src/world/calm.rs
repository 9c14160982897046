//! The end of a run: faults stop, everything settles, and then nothing happens for an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control::Directory;
use engine::{Input, Observed, ObservedPeer, Seat, Status};
use ipnet::IpNet;
use model::{Abilities, DeviceId, NodeId, PublicKey, Snapshot, Standing, TenantId};

use super::{Happening, Phase, Who, World};
use crate::machine::Wish;
use crate::scenario::Sabotage;

const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// What a human did without anybody being told is seen at the next look of the node: 30 s, and the repair.
const CALM_AT_LEAST: Duration = Duration::from_secs(60);
/// A node that was refused again and again waits for ten minutes, and may be refused twice more before it is let in.
const CALM_AT_MOST: Duration = Duration::from_secs(40 * 60);
/// A device that is revoked looks every hour, and may not be revoked any more after a restore.
const CALM_AT_MOST_RESTORED: Duration = Duration::from_secs(110 * 60);
const QUIET: Duration = Duration::from_secs(3600);
/// Two megabytes a day.
const QUIET_BYTES_MAX: u64 = 2_000_000 / 24;
/// Machines whose served names are compared one by one; the digest speaks for the others.
const NAMES_COMPARED: usize = 8;

/// What there was when the quiet hour began.
#[derive(Default)]
pub(super) struct Baseline {
    changes: Vec<u64>,
    bytes: Vec<u64>,
    commits: u64,
    /// Directories made of the store's rows alone.
    directories: BTreeMap<TenantId, Directory>,
}

/// What a host should be by the plans of directories, without what the engine makes of them.
#[derive(Default)]
struct Expected {
    addresses: BTreeSet<IpNet>,
    /// The blocks of the tenants, both families of each.
    blocks: BTreeSet<[IpNet; 2]>,
    /// What each key may send from; by tenant, where several name it.
    peers: BTreeMap<PublicKey, Vec<BTreeSet<IpNet>>>,
}

impl Expected {
    fn add(&mut self, plan: &Snapshot) {
        self.addresses.extend(plan.own.addresses.iter().flat_map(model::MeshAddresses::host_nets));
        self.blocks.insert(plan.own.block.nets());
        for (key, peer) in plan.peers.iter() {
            self.peers.entry(*key).or_default().push(peer.allowed.iter().copied().collect());
        }
    }

    fn interface_differs(&self, host: &Observed) -> Option<&'static str> {
        let Some(interface) = &host.interface else { return Some("interfaces") };
        let routes: BTreeSet<IpNet> = self.blocks.iter().flatten().copied().collect();
        let is_one = |(key, peer): (&PublicKey, &ObservedPeer)| {
            self.peers.get(key).is_some_and(|wanted| wanted.contains(&peer.allowed))
        };
        let holds = [
            (interface.up, "states"),
            (interface.peers.len() == self.peers.len(), "peers"),
            (interface.peers.iter().all(is_one), "allowed addresses"),
            (interface.addresses == self.addresses, "addresses"),
            (interface.routes == routes, "routes"),
            (interface.strays.is_empty(), "stray routes"),
        ];
        holds.into_iter().find(|(holds, _)| !holds).map(|(_, what)| what)
    }

    fn hub_differs(&self, host: &Observed) -> Option<&'static str> {
        if host.firewall.as_ref().map(|firewall| &firewall.blocks) != Some(&self.blocks) {
            return Some("firewall blocks");
        }
        if !host.forwarding && !self.blocks.is_empty() {
            return Some("forwarding");
        }
        self.interface_differs(host)
    }
}

impl World {
    /// Looks whether it is time for the next phase.
    pub(super) fn look(&mut self) {
        match self.phase {
            Phase::Chaos if self.at >= self.phase_until => self.begin_calm(),
            Phase::Chaos => {}
            Phase::Calm => {
                self.help_to_join();
                self.tidy_up();
                let began = self.phase_until;
                if self.at.since(began) >= CALM_AT_LEAST {
                    match self.unsettled() {
                        None => return self.begin_quiet(),
                        Some(why) => self.not_yet(why),
                    }
                }
            }
            Phase::Quiet | Phase::Over => return,
        }
        self.soon(LOOK_INTERVAL, Happening::Look);
    }

    fn begin_calm(&mut self) {
        self.trace.tell(self.at, || "--- faults stop".to_owned());
        (self.phase, self.phase_until) = (Phase::Calm, self.at);
        self.store.ailment = crate::store::Ailment::default();
        self.spoofed_per_mille = 0;
        self.paths.mend_all();
        self.release();
        for index in 0..self.replicas.len() {
            let replica = &mut self.replicas[index];
            replica.crash_after = None;
            let life = replica.life;
            self.soon(Duration::ZERO, Happening::Start { who: Who::Replica(index), life });
        }
        self.discard_copies();
        for index in 0..self.machines.len() {
            let machine = &mut self.machines[index];
            machine.crash_after = None;
            machine.host.calm();
            machine.told_full = false;
            let life = machine.life;
            self.soon(Duration::ZERO, Happening::Start { who: Who::Machine(index), life });
            self.drive(index, Some(Input::Up));
        }
        if self.is_sabotaged(Sabotage::HumanNeverRests) {
            self.soon(CALM_AT_LEAST, Happening::Meddle { machine: 0, told: true });
        }
    }

    fn not_yet(&mut self, why: String) {
        let bound = if self.restored { CALM_AT_MOST_RESTORED } else { CALM_AT_MOST };
        if self.at.since(self.phase_until) > bound {
            self.judge.accuse(self.at, "settles", why);
        } else {
            self.trace.detail(self.at, || format!("not settled: {why}"));
        }
    }

    fn begin_quiet(&mut self) {
        let took = self.at.since(self.phase_until).as_secs();
        self.trace.tell(self.at, || format!("--- settled after {took} s; the quiet hour begins"));
        self.phase = Phase::Quiet;
        // Of whoever was not attached nobody waits for an answer any more.
        self.commands.end();
        self.calm.changes = self.machines.iter().map(|machine| machine.changes).collect();
        self.calm.bytes = self.machines.iter().map(|machine| machine.bytes).collect();
        self.calm.commits = self.store.commits;
        self.soon(QUIET, Happening::QuietIsOver);
    }

    pub(super) fn quiet_is_over(&mut self) {
        self.phase = Phase::Over;
        let commits = self.store.commits - self.calm.commits;
        if commits > 0 {
            self.judge.accuse(self.at, "quiet-hour", format!("{commits} edits"));
        }
        for index in 0..self.machines.len() {
            let machine = &self.machines[index];
            let changes = machine.changes - self.calm.changes[index];
            let bytes = machine.bytes - self.calm.bytes[index];
            if changes > 0 {
                self.judge.accuse(self.at, "quiet-hour", format!("{changes} changes on {}", machine.name));
            } else if bytes > QUIET_BYTES_MAX {
                self.judge.accuse(self.at, "quiet-hour", format!("{bytes} bytes of {}", machine.name));
            }
        }
        if let Some(why) = self.unsettled() {
            self.judge.accuse(self.at, "quiet-hour", why);
        }
        let links = self.links.len();
        let most = 2 * self.machines.len();
        if links > most {
            self.judge.accuse(self.at, "bounded-work", format!("{links} links are left"));
        }
        let (waiting, events) = (self.queue.len(), self.trace.events());
        self.trace.tell(self.at, || format!("--- over: {events} events, {waiting} were still to come"));
    }

    /// What is not as it should be in the end.
    fn unsettled(&mut self) -> Option<String> {
        if self.tokens.tenants.len() < self.scenario.tenants {
            return Some("a tenant is missing".into());
        }
        self.refresh_directories()?;
        self.untidy()
            .or_else(|| self.servers_unsettled())
            .or_else(|| self.hub_unsettled())
            .or_else(|| self.devices_unsettled())
            .or_else(|| self.command_unanswered())
    }

    /// What would end by itself, or keep somebody out.
    fn untidy(&self) -> Option<String> {
        self.store.tenants().filter(|(_, stored)| stored.rows.tenant.deleted_at.is_none()).find_map(
            |(id, stored)| {
                let rows = &stored.rows;
                let ends = |row: &&control::Device| {
                    row.is_live() && row.standing != Standing::Expired && row.expires_at.is_some()
                };
                let expiring = rows.tenant.closing.is_none() && rows.devices.iter().any(|row| ends(&row));
                (expiring || rows.tenant.quota.is_some()).then(|| format!("tenant {id} is not tidied up"))
            },
        )
    }

    /// `None` where the rows make no directory, which the judge hears.
    fn refresh_directories(&mut self) -> Option<()> {
        for (id, stored) in self.store.tenants() {
            let version = stored.rows.version;
            if self.calm.directories.get(id).is_none_or(|directory| directory.version() != version) {
                match Directory::new(stored.rows.clone(), stored.anchor.clone()) {
                    Ok(directory) => {
                        self.calm.directories.insert(*id, directory);
                    }
                    Err(reason) => {
                        self.judge.accuse(self.at, "rows-are-complete", reason.to_string());
                        return None;
                    }
                }
            }
        }
        Some(())
    }

    fn servers_unsettled(&self) -> Option<String> {
        for replica in &self.replicas {
            let Some(control) = &replica.control else { return Some(format!("{} is down", replica.name)) };
            for (id, directory) in &self.calm.directories {
                let here = control.directory(*id).map(Directory::version);
                if here != Some(directory.version()) {
                    return Some(format!("{} has {here:?}, the store {}", replica.name, directory.version()));
                }
            }
        }
        None
    }

    fn hub_unsettled(&self) -> Option<String> {
        let machine = &self.machines[0];
        let Some(status) = machine.node.as_ref().map(engine::Node::status) else {
            return Some("the hub is down".into());
        };
        if !status.settled {
            return Some(format!("the hub is not settled: {:?} {:?}", status.failing, status.problems));
        }
        let mut wanted = BTreeMap::from([(Seat::Shared, Expected::default())]);
        for (id, directory) in &self.calm.directories {
            if directory.tenant().deleted_at.is_some() {
                continue;
            }
            let held = status.tenants.iter().find(|t| t.tenant == *id).map(|t| t.held.digest);
            if held != directory.held(NodeId::Hub).map(|held| held.digest) {
                return Some(format!("the hub does not hold {} of tenant {id}", directory.version()));
            }
            let plan = directory.plan(NodeId::Hub)?;
            if machine.zones.get(id) != Some(&plan.zone) {
                return Some(format!("the hub serves other names for tenant {id}"));
            }
            let active = directory.devices().filter(|row| directory.standing(row) == Standing::Active);
            if !active.map(|device| device.wireguard).all(|key| plan.peers.contains_key(&key)) {
                return Some(format!("the plan of tenant {id} lacks active devices"));
            }
            let seat = plan.own.hub_port.map_or(Seat::Shared, Seat::Own);
            wanted.entry(seat).or_default().add(&plan);
        }
        if wanted.values().all(|seat| seat.blocks.is_empty()) && status.tenants.is_empty() {
            // Every tenant was deleted, perhaps while the hub could not read what it held of the last: nothing speaks
            // of what is left then.
            return None;
        }
        let stray = machine.host.found().into_iter().find(|port| !wanted.contains_key(&Seat::Own(*port)));
        if let Some(port) = stray {
            return Some(format!("the hub has an interface on port {port} that is nobody's"));
        }
        wanted.iter().find_map(|(seat, wanted)| {
            let what = wanted.hub_differs(&machine.host.at(*seat))?;
            Some(format!("the hub has other {what} ({seat})"))
        })
    }

    fn devices_unsettled(&self) -> Option<String> {
        (1..=self.scenario.devices).find_map(|index| {
            let machine = &self.machines[index];
            self.device_unsettled(index).map(|why| format!("{}: {why}", machine.name))
        })
    }

    fn device_unsettled(&self, index: usize) -> Option<String> {
        let machine = &self.machines[index];
        let Some(status) = machine.node.as_ref().map(engine::Node::status) else {
            return Some("down".into());
        };
        let identity = machine.identity.public();
        let place = |(id, directory): (&TenantId, &Directory)| {
            directory.device_identified(&identity).map(|device| (*id, device.id))
        };
        match (&machine.wish, self.calm.directories.iter().find_map(place)) {
            (Wish::Joined(_), Some((tenant, device))) => {
                self.member_unsettled(index, &status, tenant, NodeId::Device(device))
            }
            // A device that a restore forgot keeps what it has, and is told to enrol again.
            (Wish::Joined(_), None) if self.restored => None,
            (Wish::Joined(_), None) => Some("the store does not know it".into()),
            // It lost what it held, and is let in again only with more time.
            (Wish::Pending | Wish::None, Some((tenant, device))) if self.has_expired(tenant, device) => None,
            (Wish::Pending | Wish::None, _) => {
                let full = self.scenario.small_block && machine.tenant == 0 && machine.told_full;
                (!full && self.may_join(index)).then(|| format!("not joined: {:?}", status.last_refusal))
            }
        }
    }

    fn has_expired(&self, tenant: TenantId, device: DeviceId) -> bool {
        let row = self.calm.directories.get(&tenant).and_then(|directory| directory.device(device));
        row.is_some_and(|row| row.standing == Standing::Expired)
    }

    /// By what the machines are, whatever the directory says of them: an agent of before has the hub alone, and is nobody's
    /// peer but the hub's.
    fn peers_differ(&self, index: usize, directory: &Directory) -> Option<String> {
        let peers = &self.machines[index].host.observed.interface.as_ref()?.peers;
        let reads = self.machines[index].abilities.has(Abilities::PATHS);
        let others = (1..=self.scenario.devices).filter(|other| *other != index);
        others.map(|other| &self.machines[other]).find_map(|other| {
            let row = directory.device_identified(&other.identity.public())?;
            let alive =
                directory.standing(row) == Standing::Active && row.wireguard == other.wireguard.public();
            let expected = alive && reads && other.abilities.has(Abilities::PATHS);
            (peers.contains_key(&row.wireguard) != expected)
                .then(|| format!("{} as a peer: {}", other.name, !expected))
        })
    }

    fn member_unsettled(
        &self,
        index: usize,
        status: &Status,
        tenant: TenantId,
        node: NodeId,
    ) -> Option<String> {
        let machine = &self.machines[index];
        let directory = self.calm.directories.get(&tenant)?;
        let wanted = directory.held(node)?;
        let Some(own) = status.tenants.first() else { return Some("holds nothing".into()) };
        if !status.settled {
            return Some(format!("not settled: {:?} {:?}", status.failing, status.problems));
        }
        let share = directory.own(node)?;
        if own.standing != share.standing {
            return Some(format!("{:?} instead of {:?}", own.standing, share.standing));
        }
        if matches!(share.standing, Standing::Pending | Standing::Expired) && machine.next.is_some() {
            return Some("has not got its next key yet".into());
        }
        let interface = machine.host.observed.interface.as_ref();
        if share.standing != Standing::Active {
            return interface.map(|_| "has an interface".into());
        }
        if own.held.digest != wanted.digest {
            return Some(format!("holds {} instead of {}", own.held.version, wanted.version));
        }
        if interface.is_none() {
            return Some("has no interface".into());
        }
        let plan = (index <= NAMES_COMPARED).then(|| directory.plan(node)).flatten();
        if plan.is_some_and(|plan| machine.zones.get(&tenant) != Some(&plan.zone)) {
            return Some("serves other names".into());
        }
        let NodeId::Device(device) = node else { return Some("is no device".into()) };
        if machine.next.is_some() || directory.device(device)?.wireguard != machine.wireguard.public() {
            return Some("has another key than the directory says".into());
        }
        if let Some(what) =
            self.peers_differ(index, directory).or_else(|| self.sshd_differs(index, directory))
        {
            return Some(what);
        }
        let itself = directory.device(device)?.wireguard;
        let mut plan = directory.plan(node)?;
        // All devices are told the same: each finds itself, too.
        plan.peers.remove(&itself);
        let mut wanted = Expected::default();
        wanted.add(&plan);
        wanted.interface_differs(&machine.host.observed).map(|what| format!("has other {what}"))
    }
}

//! The world of one run: who is in it, and the one loop that lets the next thing happen.

mod attack;
mod calm;
mod carrier;
mod chaos;
mod commands;
mod edits;
mod nodes;
mod people;
mod rotations;
mod servers;
mod ssh;

use std::collections::BTreeMap;
use std::time::Duration;

use control::{LinkId, RequestId};
use engine::{Change, Guard, Input, Seat};
use model::key::Digest;
use model::{Endpoint, Mono, PublicKey, TenantId};

use crate::dice::Dice;
use crate::judge::{Judge, Violation};
use crate::link::{Item, Link, Way};
use crate::machine::Machine;
use crate::paths::{CutId, Paths};
use crate::queue::Queue;
use crate::replica::Replica;
use crate::scenario::{Sabotage, Scenario};
use crate::store::Store;
use crate::trace::{Trace, Verbosity};
use attack::Stranger;
use people::Tokens;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Over everything that happened.
    pub digest: Digest,
    /// The first invariant that did not hold.
    pub violation: Option<Violation>,
    /// What there is to read, as far as it was asked for.
    pub story: String,
    /// How much happened.
    pub events: u64,
    /// How long it took, in virtual time.
    pub lasted: Duration,
}

/// Who is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Machine(usize),
    Replica(usize),
}

/// What a server asks of the store.
enum Call {
    Load,
    Commit(Box<control::Commit>),
    Refresh { tenant: TenantId, since: control::Since },
    Poll,
}

/// What is going to happen.
enum Happening {
    Wake {
        who: Who,
        stamp: u64,
    },
    Start {
        who: Who,
        life: u64,
    },
    Connect {
        machine: usize,
        life: u64,
        dial: u64,
    },
    /// The node is told something that needs nothing else to happen.
    Tell {
        machine: usize,
        life: u64,
        input: Box<Input>,
    },
    Synced {
        machine: usize,
        life: u64,
        ok: bool,
    },
    Apply {
        machine: usize,
        life: u64,
        seat: Seat,
        change: Box<Change>,
    },
    Observe {
        machine: usize,
        life: u64,
        seat: Seat,
    },
    Resolve {
        machine: usize,
        life: u64,
        endpoint: Endpoint,
    },
    Deliver {
        link: LinkId,
        way: Way,
        item: Item,
    },
    Written {
        link: LinkId,
    },
    Ask {
        replica: usize,
        life: u64,
        call: Call,
    },
    Answer {
        replica: usize,
        life: u64,
        input: Box<control::Input>,
    },
    /// A machine's sshd goes by what it was told last.
    Install {
        machine: usize,
        life: u64,
    },
    Sign {
        replica: usize,
        life: u64,
        wish: Box<ssh::Wish>,
    },
    SaveInstalled {
        replica: usize,
        life: u64,
        rows: Vec<control::InstalledRow>,
    },
    /// Hosts that are connected have heard of a commit by now.
    InForce(Box<rotations::Watch>),
    Mend {
        cut: CutId,
    },
    Well {
        what: chaos::Illness,
    },
    /// Servers look into the queue of device commands.
    Carry,
    Fault,
    Edit,
    Person,
    Ssh,
    Meddle {
        machine: usize,
        told: bool,
    },
    Look,
    QuietIsOver,
}

/// What the run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Chaos,
    /// Faults have stopped; everything settles, or the run fails.
    Calm,
    /// Nothing may happen.
    Quiet,
    Over,
}

/// Separate streams of chance.
struct Streams {
    network: Dice,
    host: Dice,
    store: Dice,
    chaos: Dice,
    people: Dice,
    ssh: Dice,
    attack: Dice,
    keys: Dice,
}

/// The world of one run.
pub struct World {
    scenario: Scenario,
    at: Mono,
    /// Walls were set ahead by so much.
    jumped: Duration,
    phase: Phase,
    phase_until: Mono,
    queue: Queue<Happening>,
    trace: Trace,
    judge: Judge,
    dice: Streams,
    store: Store,
    machines: Vec<Machine>,
    replicas: Vec<Replica>,
    links: BTreeMap<LinkId, Link>,
    last_link: u64,
    paths: Paths,
    guard: Guard,
    tokens: Tokens,
    /// Edits that wait for an answer.
    requests: BTreeMap<RequestId, String>,
    commands: commands::Queue,
    last_request: u64,
    rotations: rotations::Rotations,
    strangers: Vec<Stranger>,
    /// What hostile people recorded of links.
    records: Vec<Vec<Vec<u8>>>,
    /// Somebody is between machines and servers.
    spoofed_per_mille: usize,
    /// Every WireGuard key that is to be seen on the network.
    seen_keys: Vec<PublicKey>,
    /// What calm began with: commits, changes, bytes.
    calm: calm::Baseline,
    restored: bool,
}

impl World {
    /// A world at its beginning.
    pub fn new(scenario: Scenario, verbosity: Verbosity) -> Self {
        let seed = scenario.seed;
        let stream = |purpose| Dice::new(seed, purpose);
        let mut world = Self {
            at: Mono::default(),
            jumped: Duration::ZERO,
            phase: Phase::Chaos,
            phase_until: Mono::default() + scenario.chaos,
            queue: Queue::default(),
            trace: Trace::new(verbosity),
            judge: Judge::default(),
            dice: Streams {
                network: stream("network"),
                host: stream("host"),
                store: stream("store"),
                chaos: stream("chaos"),
                people: stream("people"),
                ssh: stream("ssh"),
                attack: stream("attack"),
                keys: stream("keys"),
            },
            store: Store::default(),
            machines: Vec::new(),
            replicas: Vec::new(),
            links: BTreeMap::new(),
            last_link: 0,
            paths: Paths::default(),
            guard: Guard {
                blocks: ["100.64.0.0/10", "10.0.0.0/8", "fd00::/8"].map(|n| n.parse().expect("a net")).into(),
                suffixes: vec!["internal".parse().expect("a name")],
            },
            tokens: Tokens::default(),
            requests: BTreeMap::new(),
            commands: commands::Queue::default(),
            last_request: 0,
            rotations: rotations::Rotations::default(),
            strangers: Vec::new(),
            records: Vec::new(),
            spoofed_per_mille: 0,
            seen_keys: Vec::new(),
            calm: calm::Baseline::default(),
            restored: false,
            scenario,
        };
        world.populate();
        world
    }

    /// Lets everything happen, until the end or the first violation.
    pub fn run(mut self) -> Outcome {
        let text = self.scenario.describe();
        self.trace.tell(self.at, || text);
        while self.phase != Phase::Over && self.judge.verdict().is_none() {
            let Some((at, happening)) = self.queue.pop() else { break };
            self.at = at;
            self.happen(happening);
        }
        let violation = self.judge.verdict().cloned();
        if let Some(violation) = &violation {
            self.trace.tell(self.at, || format!("VIOLATED {}: {}", violation.invariant, violation.detail));
        }
        Outcome {
            violation,
            story: self.trace.take_story(),
            events: self.trace.events(),
            lasted: self.at.since(Mono::default()),
            digest: self.trace.finish(),
        }
    }

    fn populate(&mut self) {
        let skew = self.scenario.skew;
        self.store.betrayal = match self.scenario.sabotage {
            Some(Sabotage::Store(betrayal)) => Some(betrayal),
            _ => None,
        };
        for index in 0..self.scenario.replicas {
            self.replicas.push(Replica::new(format!("apid{index}"), skew, &mut self.dice.keys));
            self.soon(Duration::ZERO, Happening::Start { who: Who::Replica(index), life: 0 });
        }
        for index in 0..=self.scenario.devices {
            let name = if index == 0 { "hub".to_owned() } else { format!("dev{index}") };
            let tenant = self.dice.keys.below(self.scenario.tenants);
            let mut machine = Machine::new(name, index == 0, tenant, skew, &mut self.dice.keys);
            machine.host.forgets_tenants = index == 0 && self.is_sabotaged(Sabotage::FirewallLacksTenant);
            machine.host.drops_peers = index == 0 && self.is_sabotaged(Sabotage::HostDropsPeers);
            machine.names_lag = self.is_sabotaged(Sabotage::NamesLag);
            machine.disk.lies = self.is_sabotaged(Sabotage::DisksLie);
            machine.secrets().into_iter().for_each(|key| self.judge.keep_secret(key));
            self.seen_keys.push(machine.wireguard.public());
            self.machines.push(machine);
            let delay = self.dice.people.millis(0, 60_000);
            self.soon(delay, Happening::Start { who: Who::Machine(index), life: 0 });
        }
        self.soon(Duration::from_millis(500), Happening::Edit);
        self.soon(Duration::from_secs(2), Happening::Person);
        self.soon(Duration::from_secs(5), Happening::Ssh);
        self.soon(Duration::from_secs(15), Happening::Fault);
        self.soon(Duration::from_secs(1), Happening::Look);
        self.soon(Duration::from_secs(3), Happening::Carry);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake { who: Who::Machine(index), stamp } => self.wake_machine(index, stamp),
            Happening::Wake { who: Who::Replica(index), stamp } => self.wake_replica(index, stamp),
            Happening::Start { who: Who::Machine(index), life } => self.start_machine(index, life),
            Happening::Start { who: Who::Replica(index), life } => self.start_replica(index, life),
            Happening::Connect { machine, life, dial } => self.connect(machine, life, dial),
            Happening::Tell { machine, life, input } => self.tell_node(machine, life, *input),
            Happening::Synced { machine, life, ok } => self.synced(machine, life, ok),
            Happening::Apply { machine, life, seat, change } => self.applied(machine, life, seat, *change),
            Happening::Observe { machine, life, seat } => self.observed(machine, life, seat),
            Happening::Resolve { machine, life, endpoint } => self.resolved(machine, life, endpoint),
            Happening::Deliver { link, way, item } => self.deliver(link, way, item),
            Happening::Written { link } => self.written(link),
            Happening::Ask { replica, life, call } => self.asked(replica, life, call),
            Happening::Answer { replica, life, input } => self.tell_replica(replica, life, *input),
            Happening::Install { machine, life } => self.install(machine, life),
            Happening::Sign { replica, life, wish } => self.sign(replica, life, *wish),
            Happening::SaveInstalled { replica, life, rows } => self.save_installed(replica, life, rows),
            Happening::InForce(watch) => self.is_in_force(&watch),
            Happening::Mend { cut } => self.mend(cut),
            Happening::Well { what } => self.well(what),
            Happening::Carry => self.carry(),
            Happening::Fault => self.fault(),
            Happening::Edit => self.edit(),
            Happening::Person => self.person(),
            Happening::Ssh => self.ssh_turn(),
            Happening::Meddle { machine, told } => self.meddle(machine, told),
            Happening::Look => self.look(),
            Happening::QuietIsOver => self.quiet_is_over(),
        }
    }

    fn soon(&mut self, after: Duration, happening: Happening) {
        self.queue.at(self.at + after, happening);
    }

    fn is_sabotaged(&self, by: Sabotage) -> bool {
        self.scenario.sabotage == Some(by)
    }

    fn is_wild(&self) -> bool {
        self.phase == Phase::Chaos
    }
}

//! One node in its world: drives it as a shell would, in virtual time, and lets things go wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use engine::paths::PathOutput;
use engine::{
    Change, Event, Guard, Input, Ledger, LedgerError, NamesUpdate, Node, NodeConfig, Output, Role, Seat,
    SshOutput,
};
use model::wire::{Channel, Frame, Remark};
use model::{DeviceId, IdentitySecret, Mono, Nonce, Now, PrivateKey, PublicKey, Timestamp};

use crate::host::Host;
use crate::server::Server;

/// More steps at one instant than any of these stories needs: a machine that spins.
const STEPS_MAX: u32 = 100_000;

pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) config: NodeConfig,
    pub(crate) server: Server,
    pub(crate) host: Host,
    /// Interfaces of tenants' own, by their ports.
    pub(crate) beside: BTreeMap<u16, Host>,
    pub(crate) disk: Vec<u8>,
    pub(crate) now: Now,
    pub(crate) channel: Channel,
    linked: bool,
    /// Why dialling fails, while it does.
    pub(crate) unreachable: bool,
    /// The disk takes no more.
    pub(crate) disk_full: bool,
    /// Which changes the host refuses.
    pub(crate) refuses: fn(&Change) -> bool,
    /// Which interfaces cannot be looked at.
    pub(crate) unseen: fn(Seat) -> bool,
    /// What names resolve to.
    pub(crate) resolves_to: Option<SocketAddr>,
    /// The node is killed when it has asked for so many more things.
    pub(crate) outputs_left: Option<u32>,
    pub(crate) changes: Vec<Change>,
    pub(crate) events: Vec<Event>,
    pub(crate) names: Vec<NamesUpdate>,
    pub(crate) paths: Vec<PathOutput>,
    pub(crate) ssh: Vec<SshOutput>,
    /// The devices that are peers, as the shell is told.
    pub(crate) devices: BTreeMap<PublicKey, DeviceId>,
    pub(crate) dials: u32,
    pub(crate) persists: u32,
    pub(crate) observes: u32,
    pub(crate) resolves: u32,
}

pub(crate) fn device_config() -> NodeConfig {
    NodeConfig {
        role: Role::Device {
            identity: IdentitySecret::from_seed([42; 32]),
            instance: Nonce::from_bytes([43; 32]),
            listen_port: None,
            search: Vec::new(),
        },
        wireguard: PrivateKey::from_bytes([44; 32]),
        software: Remark::new("test 1"),
    }
}

pub(crate) fn hub_config() -> NodeConfig {
    let guard = Guard {
        blocks: ["100.64.0.0/10", "fd00::/8"].map(|n| n.parse().expect("a net")).into(),
        suffixes: vec!["internal".parse().expect("a name")],
    };
    NodeConfig {
        role: Role::Hub { listen_port: 51820, guard },
        wireguard: PrivateKey::from_bytes([77; 32]),
        software: Remark::new("test 1"),
    }
}

impl World {
    pub(crate) fn new(config: NodeConfig, server: Server) -> Self {
        let channel = match config.role {
            Role::Hub { .. } => Channel::Local,
            Role::Device { .. } => Channel::Exporter([5; 32]),
        };
        Self {
            node: Node::new(config.clone(), Ledger::new(), [1; 32]),
            host: Host::new(config.wireguard.public()),
            beside: BTreeMap::new(),
            config,
            server,
            disk: Vec::new(),
            now: Now { mono: Mono::from_micros(1), wall: Timestamp::from_unix_micros(1) },
            channel,
            linked: false,
            unreachable: false,
            disk_full: false,
            refuses: |_| false,
            unseen: |_| false,
            resolves_to: "192.0.2.7:51820".parse().ok(),
            outputs_left: None,
            changes: Vec::new(),
            events: Vec::new(),
            names: Vec::new(),
            paths: Vec::new(),
            ssh: Vec::new(),
            devices: BTreeMap::new(),
            dials: 0,
            persists: 0,
            observes: 0,
            resolves: 0,
        }
    }

    /// Asks to join with the token of the server's first tenant.
    pub(crate) fn join(&mut self) {
        let token = self.server.tenant().token.clone();
        self.handle(Input::Join { token, hostname: Remark::new("laptop"), os: Remark::new("linux") });
    }

    /// Kills the node and starts it again from the disk.
    pub(crate) fn restart(&mut self) {
        let ledger = match Ledger::load(&self.disk) {
            _ if self.disk.is_empty() => Ledger::new(),
            Ok(ledger) => ledger,
            Err(LedgerError::Snapshot { rest, .. }) => *rest,
            Err(error) => panic!("{error}"),
        };
        self.node = Node::new(self.config.clone(), ledger, [2; 32]);
        self.linked = false;
        self.outputs_left = None;
    }

    pub(crate) fn handle(&mut self, input: Input) {
        self.node.handle(input, self.now);
        self.settle_outputs();
    }

    /// The server says something unasked.
    pub(crate) fn push(&mut self, frames: impl IntoIterator<Item = Frame>) {
        for frame in frames {
            if self.linked {
                self.node.handle(Input::Received(frame), self.now);
                self.settle_outputs();
            }
        }
    }

    pub(crate) fn cut(&mut self) {
        self.linked = false;
        self.handle(Input::LinkDown { reason: "cut".into() });
    }

    /// Runs for so long.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now.mono + duration;
        let mut steps = 0;
        loop {
            self.settle_outputs();
            let Some(deadline) = self.node.poll_timeout().filter(|d| d.at <= end) else { break };
            steps = if deadline.at <= self.now.mono { steps + 1 } else { 0 };
            assert!(steps < STEPS_MAX, "the node spins: {deadline:?}");
            self.sleep_until(deadline.at);
            self.node.handle_timeout(self.now);
        }
        self.sleep_until(end);
    }

    pub(crate) fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.outputs_left == Some(0)
    }

    fn sleep_until(&mut self, at: Mono) {
        let slept = at.since(self.now.mono);
        self.now = Now { mono: self.now.mono + slept, wall: self.now.wall + slept };
    }

    fn settle_outputs(&mut self) {
        while !self.is_dead() {
            let Some(output) = self.node.poll_output() else { return };
            if let Some(left) = &mut self.outputs_left {
                *left -= 1;
            }
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Ssh(output) => self.ssh.push(output),
            Output::Seal { recipient } => {
                let sealed = Some(recipient.as_str().into());
                self.node.handle(Input::Sealed(sealed), self.now);
            }
            Output::Dial => {
                self.dials += 1;
                self.linked = !self.unreachable;
                let input = if self.linked {
                    Input::LinkUp { channel: self.channel }
                } else {
                    Input::LinkDown { reason: "unreachable".into() }
                };
                self.answer(input);
            }
            Output::Hangup => {
                self.linked = false;
                self.answer(Input::LinkDown { reason: "hung up".into() });
            }
            Output::Send(frame) => {
                assert!(self.linked, "sent without a link: {}", frame.name());
                // What travels is bytes.
                let mut decoder = model::wire::Decoder::new();
                decoder.push(&model::wire::encode(&frame));
                let frame = decoder.next_frame().expect("a frame").expect("whole");
                for answer in self.server.take(frame, &self.channel) {
                    self.answer(Input::Received(answer));
                }
            }
            Output::Persist(bytes) => {
                self.persists += 1;
                let result = if self.disk_full {
                    Err("no space left on device".into())
                } else {
                    self.disk = bytes;
                    Ok(())
                };
                self.answer(Input::Persisted(result));
            }
            Output::Observe(seat) => {
                self.observes += 1;
                let state = self.host_of(seat).state.clone();
                let unseen = (self.unseen)(seat);
                self.answer(Input::Observed(seat, if unseen { Err("unseen".into()) } else { Ok(state) }));
            }
            Output::Apply(seat, change) => {
                let refuses = (self.refuses)(&change);
                let result = if refuses { Err("refused".into()) } else { self.apply(seat, &change) };
                self.changes.push(change.clone());
                self.answer(Input::Applied { seat, change, result });
            }
            Output::Names(update) => self.names.push(update),
            Output::Path(PathOutput::Peer { key, device: Some(device) }) => {
                self.devices.insert(key, device);
            }
            Output::Path(PathOutput::Peer { key, device: None }) => drop(self.devices.remove(&key)),
            Output::Path(output) => self.paths.push(output),
            Output::Resolve(endpoint) => {
                self.resolves += 1;
                self.answer(Input::Resolved { endpoint, address: self.resolves_to });
            }
            Output::Event(event) => self.events.push(event),
        }
    }

    pub(crate) fn host_of(&mut self, seat: Seat) -> &mut Host {
        let key = self.host.key;
        match seat {
            Seat::Shared => &mut self.host,
            Seat::Own(port) => self.beside.entry(port).or_insert_with(|| Host::new(key)),
        }
    }

    /// Does a change, as strict as a kernel: a route is on one interface.
    fn apply(&mut self, seat: Seat, change: &Change) -> Result<(), String> {
        if let Change::AddRoute(net) = change {
            let all = [&self.host].into_iter().chain(self.beside.values());
            let mut others = all.filter_map(|host| host.state.interface.as_ref());
            if others.any(|interface| interface.routes.contains(net)) {
                return Err("file exists".into());
            }
        }
        self.host_of(seat).apply(change)
    }

    fn answer(&mut self, input: Input) {
        if !self.is_dead() {
            self.node.handle(input, self.now);
        }
    }

    pub(crate) fn count(&self, message: &str) -> usize {
        self.events.iter().filter(|event| event.message() == message).count()
    }
}

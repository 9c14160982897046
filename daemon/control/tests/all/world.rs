//! One server on a store in memory, nodes on links without latency, and a clock that a test turns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use control::{
    Actor, Answer, Control, ControlConfig, Directory, Edit, Event, HubInterface, Input, InstalledRow, LinkId,
    Output, PresenceRow, RequestId, Stay,
};
use model::id::CommandId;
use model::token::OnboardingToken;
use model::wire::{Frame, HubLease, Remark};
use model::{
    DeviceId, EndpointHost, Fingerprint, HostKey, Label, Mono, NodeId, Now, Refusal, TenantId, Timestamp,
};

use crate::node::{Node, Wish};
use crate::store::Store;

pub struct World {
    pub control: Control,
    pub store: Store,
    pub nodes: BTreeMap<LinkId, Node>,
    pub now: Now,
    pub events: Vec<Event>,
    pub saved: Vec<PresenceRow>,
    pub certify: Vec<(LinkId, DeviceId, HostKey)>,
    pub installed: Vec<InstalledRow>,
    pub done: Vec<(DeviceId, CommandId)>,
    pub logins: Vec<Vec<u64>>,
    pub hub_keys: Vec<Option<control::SealedHubKey>>,
    pub answers: BTreeMap<RequestId, Result<Answer, Refusal>>,
    pub audits: Vec<control::AuditEntry>,
    /// What other replicas were told.
    pub passed: Vec<control::PassedHint>,
    pub sighted: Vec<control::Sighting>,
    /// Links whose carrier is stuck: frames stay in the shell's queue.
    pub stuck: BTreeSet<LinkId>,
    pub queues: BTreeMap<LinkId, VecDeque<Frame>>,
    /// Outputs for the store are kept back, so that others can come between.
    pub hold_store: bool,
    pub store_queue: VecDeque<Output>,
    /// Who may relay by which link.
    pub admitted: BTreeMap<LinkId, (Fingerprint, DeviceId)>,
    /// Where the relay was told that the hub of each tenant is.
    pub hubs: BTreeMap<Fingerprint, control::HubPlace>,
    last_request: u64,
}

pub fn now_at(seconds: u64) -> Now {
    let start = 1_700_000_000_000_000;
    let micros = i64::try_from(seconds).expect("small") * 1_000_000;
    Now { mono: Mono::from_micros(seconds * 1_000_000), wall: Timestamp::from_unix_micros(start + micros) }
}

pub fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

pub fn config(shared: bool) -> ControlConfig {
    ControlConfig {
        software: Remark::new("server 1"),
        zone_suffix: "internal".parse().expect("a name"),
        hub_endpoint_host: EndpointHost::Address([198, 51, 100, 1].into()),
        hub_endpoint: None,
        relays: Vec::new(),
        stun: Vec::new(),
        shared,
        passes_hints: shared,
        leased: false,
    }
}

pub fn admin() -> Actor {
    Actor::User(Remark::new("alice"))
}

impl World {
    pub fn empty() -> Self {
        Self::over(Store::default(), false, 1)
    }

    pub fn over(store: Store, shared: bool, seed: u8) -> Self {
        let mut world = Self {
            control: Control::new(config(shared), [seed; 32]),
            store,
            nodes: BTreeMap::new(),
            now: now_at(0),
            events: Vec::new(),
            saved: Vec::new(),
            certify: Vec::new(),
            installed: Vec::new(),
            done: Vec::new(),
            logins: Vec::new(),
            hub_keys: Vec::new(),
            answers: BTreeMap::new(),
            audits: Vec::new(),
            passed: Vec::new(),
            sighted: Vec::new(),
            stuck: BTreeSet::new(),
            queues: BTreeMap::new(),
            hold_store: false,
            store_queue: VecDeque::new(),
            admitted: BTreeMap::new(),
            hubs: BTreeMap::new(),
            last_request: 0,
        };
        world.load();
        world
    }

    /// A server with one tenant, `home`.
    pub fn with_tenant() -> (Self, TenantId) {
        let mut world = Self::empty();
        let tenant = world.found("home");
        (world, tenant)
    }

    /// Another process with other settings, which begins with the same store.
    pub fn restart(&mut self, change: impl FnOnce(&mut ControlConfig)) {
        let mut config = config(false);
        change(&mut config);
        self.hubs.clear();
        self.control = Control::new(config, [1; 32]);
        self.load();
    }

    pub fn load(&mut self) {
        let (loaded, anchors) = self.store.loaded();
        self.input(Input::Loaded { loaded, anchors });
    }

    pub fn found(&mut self, name: &str) -> TenantId {
        let edit = Edit::CreateTenant { name: label(name), block: None, interface: HubInterface::Shared };
        match self.edit(None, edit).expect("a tenant") {
            Answer::TenantCreated(tenant) => tenant.id,
            other => panic!("{other:?}"),
        }
    }

    pub fn input(&mut self, input: Input) {
        self.control.handle(input, self.now);
        self.run();
    }

    /// Does everything that the machine wants, until it wants nothing.
    pub fn run(&mut self) {
        loop {
            while let Some(output) = self.control.poll_output() {
                self.act(output);
            }
            if !self.write() && !self.serve_store() {
                return;
            }
        }
    }

    pub fn advance(&mut self, by: Duration) {
        let until = self.now.mono + by;
        while let Some(deadline) = self.control.poll_timeout().filter(|d| d.at <= until) {
            self.set_clock(self.now.mono.max(deadline.at));
            self.control.handle_timeout(self.now);
            self.run();
        }
        self.set_clock(until);
    }

    fn set_clock(&mut self, mono: Mono) {
        let wall = self.now.wall + mono.since(self.now.mono);
        self.now = Now { mono, wall };
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Send { link, frame } => {
                self.queues.entry(link).or_default().push_back(frame);
            }
            Output::Close { link } => {
                self.write_link(link);
                if let Some(node) = self.nodes.get_mut(&link) {
                    node.closed = true;
                }
            }
            Output::Answer { request, result } => {
                assert!(self.answers.insert(request, result).is_none(), "answered twice");
            }
            Output::Audit(entry) => self.audits.push(entry),
            Output::Pass(hint) => self.passed.push(hint),
            Output::TellSighting(sighting) => self.sighted.push(sighting),
            Output::Certify { link, device, key, .. } => self.certify.push((link, device, key)),
            Output::CommandDone { device, done, .. } => self.done.push((device, done.id)),
            Output::NoteLogins { logins, .. } => {
                self.logins.push(logins.iter().map(|login| login.number).collect());
            }
            Output::SaveInstalled(rows) => self.installed.extend(rows),
            Output::HubKey(sealed) => self.hub_keys.push(sealed),
            Output::SavePresence(rows) => self.saved.extend(rows),
            Output::Event(event) => self.events.push(event),
            Output::Admit { link, realm, device } => {
                assert!(self.admitted.insert(link, (realm, device)).is_none(), "admitted twice");
            }
            Output::HubAt { realm, place } => {
                assert_ne!(self.hubs.insert(realm, place.clone()), Some(place), "it is news");
            }
            Output::Dismiss { link } => {
                assert!(self.admitted.remove(&link).is_some(), "dismissed, and never admitted");
            }
            store => self.store_queue.push_back(store),
        }
    }

    /// One call of the store. Whether there was one.
    pub fn serve_store(&mut self) -> bool {
        if self.hold_store {
            return false;
        }
        let Some(output) = self.store_queue.pop_front() else { return false };
        let input = match output {
            Output::Commit(commit) => {
                Input::Committed { commit: commit.id, result: self.store.commit(&commit) }
            }
            Output::Refresh { tenant, since } => {
                let (result, anchor) = self.store.refresh(tenant, since);
                Input::Refreshed { tenant, result, anchor }
            }
            Output::Poll => Input::Polled(self.store.standings()),
            other => panic!("{other:?} is not for the store"),
        };
        self.control.handle(input, self.now);
        true
    }

    /// Writes every queue that is not stuck, and tells the machine. Whether there was anything.
    fn write(&mut self) -> bool {
        let full = |(link, queue): (&LinkId, &VecDeque<Frame>)| {
            (!queue.is_empty() && !self.stuck.contains(link)).then_some(*link)
        };
        let links: Vec<LinkId> = self.queues.iter().filter_map(full).collect();
        for link in &links {
            self.write_link(*link);
            self.control.handle(Input::Drained { link: *link }, self.now);
        }
        !links.is_empty()
    }

    fn write_link(&mut self, link: LinkId) {
        while let Some(frame) = self.queues.get_mut(&link).and_then(VecDeque::pop_front) {
            let Some(node) = self.nodes.get_mut(&link) else { continue };
            for frame in node.receive(frame) {
                self.control.handle(Input::Received { link, frame }, self.now);
            }
        }
    }

    pub fn edit(&mut self, tenant: Option<TenantId>, edit: Edit) -> Result<Answer, Refusal> {
        let request = self.ask(tenant, edit);
        self.answers.remove(&request).expect("an answer")
    }

    /// As [`Self::edit`], without waiting for the answer.
    pub fn ask(&mut self, tenant: Option<TenantId>, edit: Edit) -> RequestId {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.input(Input::Edit { request, tenant, edit, by: admin().into() });
        request
    }

    pub fn token(&mut self, tenant: TenantId, uses: u32) -> OnboardingToken {
        self.token_with(tenant, uses, false)
    }

    pub fn token_with(&mut self, tenant: TenantId, uses: u32, needs_approval: bool) -> OnboardingToken {
        let ttl = Duration::from_secs(3600);
        let stay = Stay::default();
        let edit = Edit::CreateToken { ttl, uses, tags: BTreeSet::new(), needs_approval, stay };
        match self.edit(Some(tenant), edit).expect("a token") {
            Answer::TokenCreated { secret, .. } => *secret,
            other => panic!("{other:?}"),
        }
    }

    pub fn directory(&self, tenant: TenantId) -> &Directory {
        self.control.directory(tenant).expect("a directory that is served")
    }

    pub fn anchor(&self, tenant: TenantId) -> Fingerprint {
        self.directory(tenant).tenant().anchor.fingerprint()
    }

    /// Opens the node's link and lets it say hello.
    pub fn connect(&mut self, mut node: Node) -> LinkId {
        let link = node.link;
        let frame = node.hello();
        let (channel, from) = (node.channel, node.origin);
        self.nodes.insert(link, node);
        self.input(Input::Opened { link, channel, from });
        self.say(link, frame);
        link
    }

    pub fn say(&mut self, link: LinkId, frame: Frame) {
        self.input(Input::Received { link, frame });
    }

    /// Closes a link and gives its node back.
    /// A heartbeat of the hub; what it is answered of the lease.
    pub fn beat(&mut self, hub: LinkId) -> Option<HubLease> {
        let beat = self.node(hub).heartbeat(1);
        self.say(hub, beat);
        self.node(hub).lease
    }

    pub fn disconnect(&mut self, link: LinkId) -> Node {
        self.input(Input::Closed { link });
        self.nodes.remove(&link).expect("a node")
    }

    /// A device that enrols by the token.
    pub fn enrol(&mut self, n: u8, token: &OnboardingToken) -> LinkId {
        let wish = Wish::Enrol { token: Box::new(token.clone()), hostname: format!("host{n}") };
        self.connect(Node::device(u64::from(n), n, wish, token.anchor))
    }

    pub fn node(&self, link: LinkId) -> &Node {
        &self.nodes[&link]
    }

    pub fn device(&self, link: LinkId) -> DeviceId {
        self.nodes[&link].device.expect("it enrolled")
    }

    /// Every attached node that is not deaf holds its plan.
    pub fn assert_all_hold_their_plans(&self) {
        for node in self.nodes.values().filter(|node| !node.closed) {
            let id = node.device.map_or(NodeId::Hub, NodeId::Device);
            for directory in self.control.directories() {
                let Some((held, snapshot)) = node.snapshots.get(&directory.tenant().id) else { continue };
                assert_eq!(Some(snapshot), directory.plan(id).as_ref(), "{id}");
                assert_eq!(Some(held.digest), directory.held(id).map(|h| h.digest), "{id}");
            }
        }
    }
}

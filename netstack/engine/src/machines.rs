//! The machines of a node, and who hears of what. Each arm calls the machine that decides.

mod commands;
mod host;
mod lease;
mod link;
mod paths;
mod report;

use model::relay::RelayPlace;
use model::time::Deadline;
use model::wire::{Facts, Remark};
use model::{Mono, NodeId, PublicKey, Refusal, Standing};

use crate::commands::Commands;
use crate::config::{NodeConfig, Role};
use crate::endpoints::Endpoints;
use crate::event::Event;
use crate::input::Input;
use crate::intake::Intake;
use crate::ledger::{Joining, Ledger, Rules};
use crate::merge::Merge;
use crate::names::Names;
use crate::output::Output;
use crate::paths::Paths;
use crate::pulse::Pulse;
use crate::reconcilers::Reconcilers;
use crate::rekey::Rekey;
use crate::saver::Saver;
use crate::session::Session;
use crate::ssh::Ssh;
use crate::turn::Turn;

#[derive(Debug)]
pub(crate) struct Machines {
    config: NodeConfig,
    ledger: Ledger,
    saver: Saver,
    session: Session,
    intake: Intake,
    pulse: Pulse,
    merge: Merge,
    endpoints: Endpoints,
    names: Names,
    reconcilers: Reconcilers,
    /// `None` for a hub, which everybody reaches where it is.
    paths: Option<Paths>,
    ssh: Ssh,
    commands: Commands,
    rekey: Rekey,
    /// Whether the host's WireGuard can be told which way a peer's packets go.
    steers: bool,
    /// What goes over the link to the hub reaches it: the server said so.
    server_leads_to_hub: bool,
    /// The peer whose packets go over the link: the hub, if it does.
    led_over_link: Option<PublicKey>,
    /// Relays on other machines, as they were told last.
    places: Vec<RelayPlace>,
    /// Until when a hub among several acts; see `lease`.
    leads_until: Option<Mono>,
    /// Whether the host was settled when it was asked last.
    was_settled: bool,
    /// Since the node was attached last.
    last_refusal: Option<Refusal>,
    /// Why there is no link.
    link_error: Option<String>,
    /// Which WireGuard carries the packets.
    engine: Option<Remark>,
    /// What the machine is like.
    facts: Option<Facts>,
}

/// What a node wants of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Nothing,
    Join,
    Attach,
    AttachHub,
}

impl Machines {
    pub(crate) fn new(config: NodeConfig, ledger: Ledger, seed_of_paths: [u8; 32]) -> Self {
        let durable = ledger.holdings().map(|(tenant, held, _)| (tenant, held)).collect();
        let paths = match config.role {
            Role::Hub { .. } => None,
            Role::Device { .. } => Some(Paths::new(config.wireguard.clone(), seed_of_paths)),
        };
        Self {
            paths,
            ssh: Ssh::default(),
            commands: Commands::default(),
            rekey: Rekey::default(),
            steers: true,
            server_leads_to_hub: false,
            led_over_link: None,
            places: Vec::new(),
            saver: Saver::new(durable),
            session: Session::new(&config.role),
            intake: Intake::default(),
            pulse: Pulse::default(),
            merge: Merge::new(&config, ledger.up && ledger.hub_term.is_none()),
            leads_until: None,
            endpoints: Endpoints::default(),
            names: Names::default(),
            reconcilers: Reconcilers::new(config.wireguard.public()),
            was_settled: false,
            last_refusal: None,
            link_error: None,
            engine: None,
            facts: None,
            config,
            ledger,
        }
    }

    /// Puts in force what the ledger holds.
    pub(crate) fn start(&mut self, turn: &mut Turn<'_>) {
        if let Some(rules) = rules(&self.config, &self.ledger) {
            for (tenant, rejection) in self.ledger.recheck(&rules) {
                self.saver.let_go(tenant);
                turn.event(Event::Rejected { tenant, rejection });
            }
        }
        for tenant in self.ledger.tenants().collect::<Vec<_>>() {
            self.take_tenant(tenant, turn);
        }
        self.show_pass(turn);
        self.weigh_removals();
        self.session.set_revoked(self.is_revoked(), turn.mono());
    }

    pub(crate) fn take(&mut self, input: Input, turn: &mut Turn<'_>) {
        match input {
            Input::Join { token, hostname, os } => self.join(Joining { token, hostname, os }, turn),
            Input::Up => self.set_up(true, turn),
            Input::Down => self.set_up(false, turn),
            Input::LinkUp { channel } => self.link_up(channel, turn),
            Input::Received(frame) => self.take_frame(frame, turn),
            Input::LinkDown { reason } => self.link_down(reason, turn),
            Input::Persisted(result) => self.persisted(result, turn),
            Input::HostChanged => self.reconcilers.look_soon(turn.mono()),
            Input::Engine(engine) => self.engine = Some(engine),
            Input::Facts(facts) => self.facts = Some(facts),
            Input::Observed(seat, result) => self.observed(seat, result, turn),
            Input::Found(ports) => self.reconcilers.find(&ports),
            Input::Applied { seat, change, result } => {
                self.reconcilers.take_applied(&self.merge, seat, &change, result, turn);
            }
            Input::Path(input) => self.take_path(input, turn),
            Input::Ssh(input) => self.ssh.hear(input),
            Input::Restarted { command } => drop(self.commands.note(command, None)),
            Input::NextKey { key, command } => self.next_key(key, command, turn),
            Input::CommandFailed { command, why } => self.command_failed(command, &why, turn),
            Input::Sealed(sealed) => self.sealed(sealed, turn),
            Input::Steers(steers) => self.set_steers(steers, turn),
            Input::Resolved { endpoint, address } => self.resolved(&endpoint, address, turn),
        }
    }

    /// Does what is due and what the last input made possible.
    pub(crate) fn advance(&mut self, turn: &mut Turn<'_>) {
        self.weigh_part(turn);
        if self.saver.begin(turn.mono()) {
            turn.push(Output::Persist(self.ledger.to_bytes()));
        }
        self.endpoints.advance(turn);
        self.advance_paths(turn);
        self.reconcilers.advance(&self.merge, turn);
        if self.go_on_greeting(turn) {
            self.reconcilers.advance(&self.merge, turn);
        }
        if let Some(reason) = self.session.advance(self.aim() != Aim::Nothing, turn) {
            self.link_error = Some(reason.into());
            turn.event(Event::Detached { reason: reason.into() });
        }
        self.claim(turn);
        if !self.session.is_attached() {
            self.intake.link_down();
            self.ssh.link_down();
            self.pulse.end();
        }
        self.tell(turn);
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let asking = self.session.is_attached().then(|| self.intake.deadline()).flatten();
        [
            self.saver.deadline(),
            self.endpoints.deadline(),
            self.paths.as_ref().and_then(Paths::poll_timeout),
            self.reconcilers.deadline(),
            self.session.deadline(),
            self.pulse.deadline(),
            self.leads_until.map(|at| Deadline { at, why: "the lease ends" }),
            asking,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn aim(&self) -> Aim {
        match self.config.role {
            Role::Hub { .. } => Aim::AttachHub,
            Role::Device { .. } if self.ledger.enrolment.is_some() => Aim::Attach,
            Role::Device { .. } if self.ledger.joining.is_some() => Aim::Join,
            Role::Device { .. } => Aim::Nothing,
        }
    }

    fn is_revoked(&self) -> bool {
        matches!(self.config.role, Role::Device { .. })
            && self.ledger.holdings().any(|(_, _, snapshot)| snapshot.own.standing == Standing::Revoked)
    }

    fn settled(&self) -> bool {
        self.reconcilers.settled() && !self.endpoints.any_missing()
    }
}

/// What snapshots are checked against. `None`: a device that is not enrolled takes none.
fn rules<'a>(config: &'a NodeConfig, ledger: &Ledger) -> Option<Rules<'a>> {
    let wireguard = config.wireguard.public();
    match &config.role {
        Role::Hub { guard, .. } => Some(Rules { node: NodeId::Hub, wireguard, guard: Some(guard) }),
        Role::Device { .. } => Some(Rules { node: NodeId::Device(ledger.device()?), wireguard, guard: None }),
    }
}

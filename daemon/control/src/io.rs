//! What the machine is told and what it wants done. Plain data; a shell turns one output into one call.

use std::collections::BTreeMap;

use model::relay::RelayPlace;
use model::wire::{Channel, Command, CommandDone, Frame, Remark, SshLogin};
use model::{
    AnchorSecret, DeviceId, Endpoint, EndpointHost, Fingerprint, HostKey, Name, PublicKey, Refusal, TenantId,
};

use crate::edit::{Answer, Edit};
use crate::event::Event;
use crate::hints::PassedHint;
use crate::lease::LeaseWord;
use crate::link::{LinkId, Origin};
use crate::presence::Sighting;
use crate::rows::{
    AuditEntry, By, Commit, CommitError, CommitId, Loaded, PresenceRow, Refresh, Since, Standings,
};
use crate::ssh::InstalledRow;

/// One request for an edit, named by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Where the hub of a tenant answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubPlace {
    /// As devices are told.
    pub endpoint: Endpoint,
    /// The UDP port on which it listens, if it is on this machine.
    pub here: Option<u16>,
}

/// The hub's WireGuard key as the hub sealed it. Nobody here can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedHubKey {
    /// Its public half.
    pub public: PublicKey,
    /// As the hub gave it.
    pub sealed: Vec<u8>,
}

/// What the server is.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Program and version.
    pub software: Remark,
    /// What the zones of new tenants end in.
    pub zone_suffix: Name,
    /// Where the hub is reached, with the port that it listens on: the host of the public address.
    pub hub_endpoint_host: EndpointHost,
    /// Where the hub is reached, if an operator says so; then neither host nor port is guessed.
    pub hub_endpoint: Option<Endpoint>,
    /// Relays on other machines: devices are given passes to them.
    pub relays: Vec<RelayPlace>,
    /// Where STUN is answered, as devices are told; none if it is not.
    pub stun: Vec<Endpoint>,
    /// Whether other replicas write the same store: then it is looked at again and again.
    pub shared: bool,
    /// Whether other replicas hear hints that are passed to them.
    pub passes_hints: bool,
    /// Whether the hub is whose server holds a lease. Else the one that is attached here is the hub.
    pub leased: bool,
}

/// What the machine is told.
#[derive(Debug)]
pub enum Input {
    /// The store was read. Until then every node is asked to come back.
    Loaded {
        /// All of it.
        loaded: Loaded,
        /// The anchors that the shell could open.
        anchors: BTreeMap<TenantId, AnchorSecret>,
    },
    /// A carrier was accepted.
    Opened {
        /// Its name.
        link: LinkId,
        /// What ties the frames to it.
        channel: Channel,
        /// Where it comes from.
        from: Origin,
    },
    /// A frame came.
    Received {
        /// Over which link.
        link: LinkId,
        /// The frame.
        frame: Frame,
    },
    /// All frames that were given out for the link before are written to its carrier. The shell says so whenever its
    /// queue for the link runs empty; without it a link gets no more than a few frames of snapshots.
    Drained {
        /// Which link.
        link: LinkId,
    },
    /// The carrier ended.
    Closed {
        /// Which link.
        link: LinkId,
    },
    /// Somebody wants an edit; it is answered once, by [`Output::Answer`].
    Edit {
        /// To be given back with the answer.
        request: RequestId,
        /// Whose directory; `None` to create a tenant.
        tenant: Option<TenantId>,
        /// The wish.
        edit: Edit,
        /// Who wants it.
        by: By,
    },
    /// A commit ended.
    Committed {
        /// Which.
        commit: CommitId,
        /// All or nothing.
        result: Result<(), CommitError>,
    },
    /// A refresh ended.
    Refreshed {
        /// Whose.
        tenant: TenantId,
        /// What was read, or why nothing was.
        result: Result<Refresh, String>,
        /// The anchor, where the whole was read and the shell could open it.
        anchor: Option<AnchorSecret>,
    },
    /// A poll ended.
    Polled(Result<Standings, String>),
    /// Another replica wrote something.
    Rumoured,
    /// What a replica wants passed, this one or another.
    Passed(PassedHint),
    /// What a replica saw, this one or another.
    Sighted(Sighting),
    /// What is known of the lease. To be told again each time that it was renewed.
    Lease(LeaseWord),
    /// What [`Output::Certify`] asked for: the certificate, recorded, or why there is none.
    Certified {
        /// Who asked.
        link: LinkId,
        /// One line of OpenSSH.
        result: Result<String, Refusal>,
    },
    /// What other replicas heard of devices, as they saved it. Of devices that are attached here nothing is believed but that
    /// they may be there by now.
    Heard(Vec<PresenceRow>),
    /// A device command is to be sent, if the device is attached here and knows of them. Told again until it is answered.
    Deliver {
        /// To which device.
        device: DeviceId,
        /// What it is to do.
        command: Command,
    },
    /// What [`Output::NoteLogins`] asked for is in the audit log, up to this number. The host says the others again.
    LoginsNoted {
        /// Who said so.
        link: LinkId,
        /// The last one's.
        through: u64,
    },
    /// These rows of [`Output::SaveInstalled`] were not saved.
    InstalledUnsaved(Vec<InstalledRow>),
    /// The hub's WireGuard key is wanted for a backup; [`Output::HubKey`] follows, unless the hub says nothing.
    SealHubKey {
        /// Who alone may open it: a recipient of age.
        recipient: Remark,
    },
    /// The process is about to end: nodes are sent away, edits refused.
    Drain,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Output {
    /// Queue a frame for a link. A shell whose queue is full closes the link.
    Send {
        /// Which link.
        link: LinkId,
        /// The frame.
        frame: Frame,
    },
    /// Close the link once what was queued for it is written. [`Input::Closed`] may follow and is ignored.
    Close {
        /// Which link.
        link: LinkId,
    },
    /// The link is an active device's: packets for devices of the same realm may pass from and to it. Said again after
    /// [`Output::Dismiss`].
    Admit {
        /// Which link.
        link: LinkId,
        /// Of the tenant's anchor.
        realm: Fingerprint,
        /// Whose link.
        device: DeviceId,
    },
    /// The hub of a realm is there, for what its devices send it over their links.
    HubAt {
        /// Of the tenant's anchor.
        realm: Fingerprint,
        /// Where.
        place: HubPlace,
    },
    /// No packets pass from and to the link any more.
    Dismiss {
        /// Which link.
        link: LinkId,
    },
    /// Do one transaction; [`Input::Committed`] follows.
    Commit(Box<Commit>),
    /// Read what others wrote to one tenant; [`Input::Refreshed`] follows.
    Refresh {
        /// Whose.
        tenant: TenantId,
        /// How much.
        since: Since,
    },
    /// Read where every tenant stands; [`Input::Polled`] follows.
    Poll,
    /// Tell all replicas; [`Input::Passed`] follows there. What is lost, devices say again.
    Pass(PassedHint),
    /// Tell all replicas; [`Input::Sighted`] follows there. What is lost, presence tells later.
    TellSighting(Sighting),
    /// Write one line of the audit log that belongs to no commit: a refusal, or an edit that changed nothing.
    Audit(AuditEntry),
    /// Answer a request.
    Answer {
        /// Which.
        request: RequestId,
        /// What it got.
        result: Result<Answer, Refusal>,
    },
    /// Save some presence. Nothing follows: what is lost, the next heartbeats tell again.
    SavePresence(Vec<PresenceRow>),
    /// Sign a certificate for a host's key; [`Input::Certified`] follows.
    Certify {
        /// Who asks.
        link: LinkId,
        /// Whose host.
        tenant: TenantId,
        /// Which.
        device: DeviceId,
        /// Its key.
        key: HostKey,
    },
    /// Write to the audit log whom a host's sshd let in; [`Input::LoginsNoted`] follows.
    NoteLogins {
        /// Who says so.
        link: LinkId,
        /// Whose host.
        tenant: TenantId,
        /// Which.
        device: DeviceId,
        /// At most [`model::limits::SSH_LOGINS_MAX`].
        logins: Vec<SshLogin>,
    },
    /// The hub's WireGuard key, sealed for who asked last. `None`: no hub is attached that seals it.
    HubKey(Option<SealedHubKey>),
    /// Save what devices installed. [`Input::InstalledUnsaved`] follows only if that fails.
    SaveInstalled(Vec<InstalledRow>),
    /// A device says what came of a command. Nothing follows: it is sent again until that is kept.
    CommandDone {
        /// Whose device.
        tenant: TenantId,
        /// Which.
        device: DeviceId,
        /// What it said.
        done: CommandDone,
    },
    /// Log and count.
    Event(Event),
}

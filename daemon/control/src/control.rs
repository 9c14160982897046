//! The machine that puts the parts together: it routes inputs and keeps time. The parts decide.

mod between;
mod commands;
mod edits;
mod endings;
mod hosts;
mod hub_key;
mod lease;
mod links;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};

use model::time::Deadline;
use model::{DeviceId, Mono, Now, TenantId};

use crate::dice::Dice;
use crate::directories::{Directories, Withheld};
use crate::directory::Directory;
use crate::half_open::HalfOpen;
use crate::hints::{HintBudget, PassBudgets};
use crate::io::{ControlConfig, HubPlace, Input, Output};
use crate::lanes::Lanes;
use crate::lease::LeaseWord;
use crate::limits::{ARRIVALS_TOLD_PER_SECOND, PRESENCE_SAVE_INTERVAL};
use crate::link::LinkId;
use crate::outbox::{Counters, Outbox};
use crate::presence::{HubPresence, Presence, Presences};
use crate::publisher::Publisher;
use crate::rows::Tenant;
use crate::session::Session;
use crate::ssh::InstalledRow;

/// Everything that the server decides. Tell it what happened with [`Control::handle`], do what
/// [`Control::poll_output`] wants until it wants nothing, and call [`Control::handle_timeout`] when
/// [`Control::poll_timeout`] says.
pub struct Control {
    config: ControlConfig,
    dice: Dice,
    directories: Directories,
    lanes: Lanes,
    sessions: BTreeMap<LinkId, Session>,
    hints_passed: PassBudgets,
    arrivals_told: HintBudget,
    half_open: HalfOpen,
    publisher: Publisher,
    presences: Presences,
    hub: Option<HubPresence>,
    /// Where each tenant's is, as the relay was told.
    hub_places: BTreeMap<TenantId, HubPlace>,
    lease: LeaseWord,
    /// When to look at which link again; each link has one entry, at its session's `wake_at`.
    wakes: BTreeSet<(Mono, LinkId)>,
    store: replicas::StoreWatch,
    save_presence_at: Option<Mono>,
    /// What devices said of their sshd and is not saved yet.
    installed: BTreeMap<DeviceId, InstalledRow>,
    save_installed_at: Option<Mono>,
    loaded: bool,
    draining: bool,
    out: Outbox,
}

impl Control {
    /// A machine that knows nothing yet: it waits for [`Input::Loaded`].
    pub fn new(config: ControlConfig, seed: [u8; 32]) -> Self {
        Self {
            directories: Directories::new(config.relays.clone()),
            publisher: Publisher::new(config.leased),
            config,
            dice: Dice::new(seed),
            lanes: Lanes::default(),
            sessions: BTreeMap::new(),
            hints_passed: PassBudgets::new(),
            arrivals_told: HintBudget::new(ARRIVALS_TOLD_PER_SECOND, Mono::default()),
            half_open: HalfOpen::default(),
            presences: Presences::default(),
            hub: None,
            hub_places: BTreeMap::new(),
            lease: LeaseWord::default(),
            wakes: BTreeSet::new(),
            store: replicas::StoreWatch::default(),
            save_presence_at: None,
            installed: BTreeMap::new(),
            save_installed_at: None,
            loaded: false,
            draining: false,
            out: Outbox::default(),
        }
    }

    /// Tells what happened. Call [`Self::poll_output`] afterwards.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Loaded { loaded, anchors } => self.on_loaded(loaded, anchors, now),
            Input::Opened { link, channel, from } => self.on_opened(link, channel, from, now),
            Input::Received { link, frame } => self.on_frame(link, frame, now),
            Input::Drained { link } => self.on_drained(link, now),
            Input::Closed { link } => self.forget(link, "closed"),
            Input::Edit { request, tenant, edit, by } => self.on_edit(request, tenant, edit, by, now),
            Input::Committed { commit, result } => self.on_committed(commit, result, now),
            Input::Refreshed { tenant, result, anchor } => self.on_refreshed(tenant, result, anchor, now),
            Input::Polled(result) => self.on_polled(result, now),
            Input::Rumoured => self.on_rumour(),
            Input::Passed(hint) => self.on_passed(hint),
            Input::Sighted(sighting) => self.presences.sighted(sighting, now.wall),
            Input::Lease(word) => self.on_lease(word, now),
            Input::Certified { link, result } => self.on_certified(link, result),
            Input::Heard(rows) => self.presences.heard_elsewhere(rows),
            Input::Deliver { device, command } => self.deliver(device, command),
            Input::LoginsNoted { link, through } => self.on_logins_noted(link, through),
            Input::InstalledUnsaved(rows) => self.installed_unsaved(rows, now),
            Input::SealHubKey { recipient } => self.seal_hub_key(recipient),
            Input::Drain => self.on_drain(now),
        }
        if self.presences.has_unsaved() && self.save_presence_at.is_none() {
            self.save_presence_at = Some(now.mono + PRESENCE_SAVE_INTERVAL);
        }
    }

    /// Does what is due. A call too early does nothing. Call [`Self::poll_output`] afterwards.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(&(at, link)) = self.wakes.first()
            && at <= now.mono
        {
            self.wakes.remove(&(at, link));
            self.on_link_due(link, now);
        }
        if self.save_presence_at.is_some_and(|at| at <= now.mono) {
            self.save_presence();
        }
        if self.save_installed_at.is_some_and(|at| at <= now.mono) {
            self.save_installed();
        }
        self.on_store_due(now);
    }

    /// What to do next, if anything. Call until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop()
    }

    /// When to call [`Self::handle_timeout`]. Ask again after every call of another method.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let link = self.wakes.first().map(|(at, _)| Deadline { at: *at, why: "a link is due" });
        let save = self.save_presence_at.map(|at| Deadline { at, why: "presence is to be saved" });
        let store = self.store.due_at().map(|at| Deadline { at, why: "the store is to be looked at" });
        let installed =
            self.save_installed_at.map(|at| Deadline { at, why: "installed keys are to be saved" });
        [link, save, installed, store].into_iter().flatten().min()
    }

    /// The directories that are served, by tenant.
    pub fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.directories.all()
    }

    /// The directory of a tenant; `None` if there is none or it is withheld.
    pub fn directory(&self, tenant: TenantId) -> Option<&Directory> {
        self.directories.whole(tenant)
    }

    /// Tenants that are withheld, and why.
    pub fn withheld(&self) -> impl Iterator<Item = (&Tenant, Withheld)> {
        self.directories.withheld()
    }

    /// What is known of a device beyond its row.
    pub fn presence(&self, device: DeviceId) -> Option<&Presence> {
        self.presences.of(device)
    }

    /// The hub, while it is attached here.
    pub const fn hub(&self) -> Option<&HubPresence> {
        self.hub.as_ref()
    }

    /// What was done since the process began.
    pub const fn counters(&self) -> Counters {
        self.out.counters
    }

    /// Links that are open.
    pub fn links(&self) -> usize {
        self.sessions.len()
    }

    /// Whether the store was read.
    pub const fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Whether a drain is done: no link is left and no commit under way.
    pub fn is_drained(&self) -> bool {
        self.draining && self.sessions.is_empty() && !self.lanes.any_flying()
    }

    fn save_presence(&mut self) {
        self.save_presence_at = None;
        for rows in self.presences.take_unsaved() {
            self.out.push(Output::SavePresence(rows));
        }
    }
}

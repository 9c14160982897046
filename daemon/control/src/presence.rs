//! What heartbeats tell of devices and of the hub: in memory, saved now and then. Never part of a snapshot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use model::wire::Remark;
use model::wire::frame::{Heartbeat, Holding};
use model::{DeviceId, Held, Nonce, PublicKey, TenantId, Timestamp};

use crate::limits::{ATTACHED_MAX, INSTANCES_REMEMBERED, PRESENCE_ROWS_MAX, PROBLEMS_MAX};
use crate::link::LinkId;
use crate::rows::PresenceRow;

/// What is known of one device beyond its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// What is saved.
    pub row: PresenceRow,
    /// Its link, while it has one here.
    pub link: Option<LinkId>,
    /// Drift that it repaired since its program started.
    pub drift_total: u64,
    /// What it says is wrong.
    pub problems: Vec<Remark>,
    /// When two machines were last seen to present its identity.
    pub cloned_at: Option<Timestamp>,
    /// When another server heard it last, as far as that was told since it attached here.
    elsewhere_at: Option<Timestamp>,
    /// When it attached here last.
    arrived_at: Option<Timestamp>,
    instance: Option<Nonce>,
    /// Instances whose link a later one took over.
    displaced: VecDeque<Nonce>,
}

/// Word that a device attached at a server: links that it has at others may be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Which device.
    pub device: DeviceId,
    /// When, by the clock of that server.
    pub at: Timestamp,
}

/// What is known of the hub while it is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubPresence {
    /// Its link.
    pub link: LinkId,
    /// The WireGuard key that it proved.
    pub key: PublicKey,
    /// The UDP port that it listens on.
    pub listen_port: u16,
    /// Program and version.
    pub software: Remark,
    /// When it was heard last.
    pub last_seen: Timestamp,
    /// What it holds of each tenant, and whether its host is settled.
    pub holding: BTreeMap<TenantId, (Held, bool)>,
    /// Drift that it repaired since its program started.
    pub drift_total: u64,
    /// What it says is wrong.
    pub problems: Vec<Remark>,
    /// Which WireGuard carries its packets, once it said so.
    pub engine: Option<Remark>,
    /// Whether it seals its WireGuard key for backups.
    pub seals: bool,
    /// Whether it keeps interfaces of tenants' own.
    pub own_interfaces: bool,
}

impl HubPresence {
    pub(crate) fn holding(&mut self, holding: &Holding, now: Timestamp) {
        self.last_seen = now;
        self.holding.insert(holding.tenant, (holding.held, holding.settled));
    }

    pub(crate) fn heartbeat(&mut self, heartbeat: &Heartbeat, now: Timestamp) {
        self.last_seen = now;
        self.drift_total = heartbeat.drift_total;
        self.problems = some_of(&heartbeat.problems);
        self.engine.clone_from(&heartbeat.engine);
    }
}

/// What an attach means for the links that were there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// The device's link before, to be closed.
    pub(crate) displaced: Option<LinkId>,
    /// An instance came back whose link another had taken over: two machines are alive.
    pub(crate) cloned: bool,
}

/// The presence of every device that was ever heard.
#[derive(Debug, Default)]
pub(crate) struct Presences {
    devices: BTreeMap<DeviceId, Presence>,
    unsaved: BTreeSet<DeviceId>,
}

/// Who attaches.
pub(crate) struct Arrival {
    pub(crate) tenant: TenantId,
    pub(crate) device: DeviceId,
    pub(crate) link: LinkId,
    pub(crate) held: Option<Held>,
    pub(crate) software: Remark,
    pub(crate) address: Option<IpAddr>,
    /// `None` right after an enrolment, which has none.
    pub(crate) instance: Option<Nonce>,
}

impl Presences {
    /// What was saved before the process began. Who was attached then is only where others may hold the link.
    pub(crate) fn load(&mut self, rows: Vec<PresenceRow>, shared: bool) {
        for mut row in rows {
            row.attached &= shared;
            self.devices.entry(row.device).or_insert_with(|| Presence::new(row));
        }
    }

    /// What others saved and is newer. Of a device that has a link here, they say that it may have another one there.
    pub(crate) fn heard_elsewhere(&mut self, rows: Vec<PresenceRow>) {
        for row in rows {
            let presence = self.devices.entry(row.device).or_insert_with(|| Presence::new(row.clone()));
            if presence.link.is_some() {
                let there = row.attached.then_some(row.last_seen);
                presence.elsewhere_at = presence.elsewhere_at.max(there);
            } else if presence.row.last_seen <= row.last_seen {
                presence.row = row;
            }
        }
    }

    /// Somebody says that a device attached: another server just now, or this one, which hears itself.
    pub(crate) fn sighted(&mut self, sighting: Sighting, now: Timestamp) {
        if let Some(presence) = self.devices.get_mut(&sighting.device)
            && presence.arrived_at.is_some_and(|here| here < sighting.at)
        {
            presence.elsewhere_at = Some(now);
        }
    }

    pub(crate) fn of(&self, device: DeviceId) -> Option<&Presence> {
        self.devices.get(&device)
    }

    /// A device attached. A restarted program has a new instance and its old one never returns; of two machines
    /// both return, each time the other has taken over.
    pub(crate) fn attach(&mut self, arrival: Arrival, now: Timestamp) -> Attachment {
        let row = PresenceRow {
            tenant: arrival.tenant,
            device: arrival.device,
            last_seen: now,
            held: arrival.held,
            settled: false,
            software: arrival.software,
            address: arrival.address,
            attached: true,
            facts: self.of(arrival.device).and_then(|before| before.row.facts.clone()),
        };
        self.unsaved.insert(arrival.device);
        let presence = self.devices.entry(arrival.device).or_insert_with(|| Presence::new(row.clone()));
        presence.row = row;
        presence.elsewhere_at = None;
        presence.arrived_at = Some(now);
        let displaced = presence.link.replace(arrival.link).filter(|link| *link != arrival.link);
        let cloned = presence.take_instance(arrival.instance, displaced.is_some());
        if cloned {
            presence.cloned_at = Some(now);
        }
        Attachment { displaced, cloned }
    }

    /// The link is gone; only the device's current one counts.
    pub(crate) fn detach(&mut self, device: DeviceId, link: LinkId) {
        if let Some(presence) = self.devices.get_mut(&device)
            && presence.link == Some(link)
        {
            presence.link = None;
            presence.row.attached = false;
            self.unsaved.insert(device);
        }
    }

    pub(crate) fn holding(&mut self, device: DeviceId, holding: &Holding, now: Timestamp) {
        if let Some(presence) = self.devices.get_mut(&device) {
            presence.row.last_seen = now;
            presence.row.held = Some(holding.held);
            presence.row.settled = holding.settled;
            self.unsaved.insert(device);
        }
    }

    pub(crate) fn heartbeat(&mut self, device: DeviceId, heartbeat: &Heartbeat, now: Timestamp) {
        if let Some(presence) = self.devices.get_mut(&device) {
            presence.row.last_seen = now;
            presence.drift_total = heartbeat.drift_total;
            presence.problems = some_of(&heartbeat.problems);
            if heartbeat.facts.is_some() {
                presence.row.facts.clone_from(&heartbeat.facts);
            }
            self.unsaved.insert(device);
        }
    }

    pub(crate) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// What changed since it was saved last, in transactions of bounded size.
    pub(crate) fn take_unsaved(&mut self) -> Vec<Vec<PresenceRow>> {
        let ids: Vec<DeviceId> = std::mem::take(&mut self.unsaved).into_iter().collect();
        let row = |id: &DeviceId| self.devices.get(id).map(|presence| presence.row.clone());
        ids.chunks(PRESENCE_ROWS_MAX).map(|ids| ids.iter().filter_map(row).collect()).collect()
    }
}

impl Presence {
    const fn new(row: PresenceRow) -> Self {
        Self {
            row,
            link: None,
            drift_total: 0,
            problems: Vec::new(),
            cloned_at: None,
            elsewhere_at: None,
            arrived_at: None,
            instance: None,
            displaced: VecDeque::new(),
        }
    }

    /// Whether it holds a link, here or to another replica that heard it not long ago.
    pub fn is_online(&self, now: Timestamp) -> bool {
        self.link.is_some() || (self.row.attached && now < self.row.last_seen + ATTACHED_MAX)
    }

    /// Whether it has a link here and, as far as is known, no later one elsewhere: a device that changes its network leaves a
    /// link behind that is dead and not yet given up.
    pub(crate) fn is_only_here(&self) -> bool {
        self.link.is_some() && self.elsewhere_at.is_none_or(|there| there <= self.row.last_seen)
    }

    /// Whether the instance is one that another had displaced.
    fn take_instance(&mut self, instance: Option<Nonce>, displaces: bool) -> bool {
        let Some(instance) = instance else { return false };
        let cloned = self.displaced.contains(&instance);
        let before = self.instance.replace(instance).filter(|before| displaces && *before != instance);
        if let Some(before) = before {
            self.displaced.push_back(before);
            if self.displaced.len() > INSTANCES_REMEMBERED {
                self.displaced.pop_front();
            }
        }
        cloned
    }
}

fn some_of(problems: &[Remark]) -> Vec<Remark> {
    problems.iter().take(PROBLEMS_MAX).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(link: u64, instance: u8) -> Arrival {
        Arrival {
            tenant: TenantId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([2; 16]),
            link: LinkId(link),
            held: None,
            software: Remark::new("agent"),
            address: None,
            instance: Some(Nonce::from_bytes([instance; 32])),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_restart_is_no_clone_and_a_clone_is() {
        let mut presences = Presences::default();
        let mut attach = |link, instance| presences.attach(arrival(link, instance), at(0));
        assert_eq!(attach(1, 1), Attachment::default());
        let taken_over = |link| Attachment { displaced: Some(LinkId(link)), cloned: false };
        assert_eq!(attach(2, 1), taken_over(1), "the same program by a new link");
        assert_eq!(attach(3, 2), taken_over(2), "the program was restarted");
        assert_eq!(attach(4, 2), taken_over(3));
        assert_eq!(attach(5, 1), Attachment { displaced: Some(LinkId(4)), cloned: true });
        assert!(presences.of(DeviceId::from_bytes([2; 16])).is_some_and(|p| p.cloned_at.is_some()));
    }

    #[test]
    fn a_program_that_left_and_came_back_is_no_clone() {
        let mut presences = Presences::default();
        let device = DeviceId::from_bytes([2; 16]);
        for (link, instance) in [(1, 1), (2, 2), (3, 1)] {
            assert_eq!(presences.attach(arrival(link, instance), at(0)), Attachment::default());
            presences.detach(device, LinkId(link));
        }
    }

    #[test]
    fn what_others_heard_counts_where_it_is_newer_and_no_link_is_here() {
        let mut presences = Presences::default();
        let device = DeviceId::from_bytes([2; 16]);
        presences.attach(arrival(1, 1), at(5));
        let here = presences.of(device).expect("known").row.clone();
        assert!(here.attached);
        let there = PresenceRow { last_seen: at(50), settled: true, ..here };
        presences.heard_elsewhere(vec![there.clone()]);
        assert_eq!(presences.of(device).expect("known").row.last_seen, at(5), "it is attached here");
        presences.detach(device, LinkId(1));
        assert!(!presences.of(device).expect("known").is_online(at(6)));
        presences.heard_elsewhere(vec![there.clone()]);
        let presence = presences.of(device).expect("known");
        assert_eq!(presence.row, there);
        assert!(presence.is_online(at(51)) && !presence.is_online(at(50) + ATTACHED_MAX));
        presences.heard_elsewhere(vec![PresenceRow { last_seen: at(40), ..there.clone() }]);
        assert_eq!(presences.of(device).expect("known").row, there, "older words change nothing");

        for (shared, online) in [(true, true), (false, false)] {
            let mut fresh = Presences::default();
            fresh.load(vec![there.clone()], shared);
            assert_eq!(fresh.of(device).expect("known").is_online(at(51)), online, "shared: {shared}");
        }
    }

    #[test]
    fn a_device_that_another_server_heard_later_may_be_there() {
        let mut presences = Presences::default();
        let device = DeviceId::from_bytes([2; 16]);
        let is_only_here = |presences: &Presences| presences.of(device).is_some_and(Presence::is_only_here);
        presences.attach(arrival(1, 1), at(5));
        let own = presences.of(device).expect("known").row.clone();
        let row = |seconds, attached| PresenceRow { last_seen: at(seconds), attached, ..own.clone() };
        for (there, expect) in
            [(own.clone(), true), (row(4, true), true), (row(9, false), true), (row(9, true), false)]
        {
            presences.heard_elsewhere(vec![there.clone()]);
            assert_eq!(is_only_here(&presences), expect, "{there:?}");
        }
        presences.heard_elsewhere(vec![row(5, true)]);
        assert!(!is_only_here(&presences), "older words change nothing");
        let version = model::Version::default();
        let held = Held { version, digest: model::key::Digest::of("", &[]) };
        let tenant = own.tenant;
        presences.holding(device, &Holding { tenant, held, settled: true }, at(10));
        assert!(is_only_here(&presences), "its link here is alive after all");
        presences.heard_elsewhere(vec![row(20, true)]);
        presences.attach(arrival(2, 2), at(12));
        assert!(is_only_here(&presences), "it came back, whatever the other's clock says");
    }

    #[test]
    fn unsaved_rows_are_given_out_once() {
        let mut presences = Presences::default();
        presences.attach(arrival(1, 1), at(5));
        assert_eq!(presences.take_unsaved().concat().len(), 1);
        assert!(!presences.has_unsaved() && presences.take_unsaved().is_empty());
    }
}

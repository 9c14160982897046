//! What the store says that this process did not write: the first read, other replicas' facts, and reads that failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{AnchorSecret, CaKind, DeviceId, Epoch, Mono, Now, PublicKey, TenantId, Version};

use super::Control;
use crate::directory::{BadRows, Directory};
use crate::edit::Edit;
use crate::event::Event;
use crate::io::Output;
use crate::lanes::{Asker, Lane, Wish};
use crate::limits::{POLL_INTERVAL, REREAD_INTERVAL_MAX, STORE_RETRY_INTERVAL};
use crate::link::LinkId;
use crate::rows::{Actor, Fact, Loaded, Refresh, Since, Standings, TenantRows};

/// What is being read, and when to look again.
#[derive(Debug, Default)]
pub(crate) struct StoreWatch {
    pub(super) epoch: Epoch,
    /// Tenants that got a new generation because a node held the current one with other contents.
    pub(super) renewed: BTreeSet<TenantId>,
    /// Some tenant lacks the hub's keys or its SSH authorities: they are made when the store answers.
    pub(super) owes: bool,
    polling: bool,
    /// Polls that began, the one that is under way among them.
    polls: u64,
    /// Something was written since the poll that is under way began.
    poll_again: bool,
    refreshing: BTreeSet<TenantId>,
    /// Lines that stand still until all is read that others had written by then, of whichever tenant.
    awaiting: BTreeMap<Lane, Awaited>,
    poll_at: Option<Mono>,
    /// When the withheld tenants are read again, and how long after that.
    reread_at: Option<Mono>,
    reread_after: Option<Duration>,
}

/// What a line waits for. What others write later is for later: whoever writes all the time keeps nobody.
#[derive(Debug)]
enum Awaited {
    /// The end of the first poll that began after the line's edit lost: its number.
    Poll(u64),
    /// The refreshes that were under way when that poll had ended.
    Refreshes(BTreeSet<TenantId>),
}

impl StoreWatch {
    pub(super) fn due_at(&self) -> Option<Mono> {
        [self.poll_at, self.reread_at].into_iter().flatten().min()
    }

    fn poll_by(&mut self, at: Mono) {
        self.poll_at = Some(self.poll_at.map_or(at, |before| before.min(at)));
    }

    /// A poll ended, and what it found is being read.
    fn await_refreshes(&mut self, poll: u64) {
        for awaited in self.awaiting.values_mut() {
            if matches!(awaited, Awaited::Poll(number) if *number <= poll) {
                *awaited = Awaited::Refreshes(self.refreshing.clone());
            }
        }
    }

    /// A refresh ended, unless it had to begin anew.
    fn refresh_ended(&mut self, tenant: TenantId) {
        if self.refreshing.contains(&tenant) {
            return;
        }
        for awaited in self.awaiting.values_mut() {
            if let Awaited::Refreshes(left) = awaited {
                left.remove(&tenant);
            }
        }
    }

    /// Lines that wait for nothing any more.
    fn take_informed(&mut self) -> Vec<Lane> {
        let is_informed = |awaited: &Awaited| matches!(awaited, Awaited::Refreshes(left) if left.is_empty());
        self.awaiting.extract_if(.., |_, awaited| is_informed(awaited)).map(|(lane, _)| lane).collect()
    }

    /// Rows that cannot be right are read again, less and less often.
    fn reread_later(&mut self, now: Mono) {
        if self.reread_at.is_none() {
            let after = self.reread_after.map_or(STORE_RETRY_INTERVAL, |before| before * 2);
            let after = after.min(REREAD_INTERVAL_MAX);
            self.reread_after = Some(after);
            self.reread_at = Some(now + after);
        }
    }
}

impl Control {
    pub(super) fn on_loaded(
        &mut self,
        loaded: Loaded,
        mut anchors: BTreeMap<TenantId, AnchorSecret>,
        now: Now,
    ) {
        self.store.epoch = loaded.epoch;
        self.loaded = true;
        for rows in loaded.tenants {
            let anchor = anchors.remove(&rows.tenant.id);
            self.take_rows(rows, anchor, now);
        }
        self.presences.load(loaded.presence, self.config.shared);
        if self.config.shared {
            self.store.poll_by(now.mono + POLL_INTERVAL);
        }
    }

    /// Takes all rows of one tenant.
    pub(super) fn take_rows(&mut self, rows: TenantRows, anchor: Option<AnchorSecret>, now: Now) {
        let tenant = rows.tenant.id;
        let Some(anchor) = anchor else {
            self.out.event(Event::AnchorSealed { tenant });
            self.directories.insert_withheld(rows.tenant);
            return self.store.reread_later(now.mono);
        };
        let is_new = !self.directories.contains(tenant);
        if let Err(reason) = self.directories.insert(rows, anchor) {
            self.withheld_because(tenant, reason, now);
        } else if self.directories.withheld().next().is_none() {
            self.store.reread_after = None;
        }
        if is_new {
            self.introduce_tenants(now);
        }
        self.publish_to_all(tenant, now);
        self.point_hub(tenant, now);
        self.state_hub_keys(now);
        self.found_authorities(tenant, now);
    }

    /// A tenant that was made before there were SSH authorities gets them.
    fn found_authorities(&mut self, tenant: TenantId, now: Now) {
        let lacks = |directory: &Directory| {
            directory.tenant().deleted_at.is_none()
                && (directory.ssh_roles().next().is_none()
                    || CaKind::ALL.into_iter().any(|kind| directory.authority(kind).is_none()))
        };
        if self.directories.whole(tenant).is_some_and(lacks) {
            let edit = Edit::FoundAuthorities;
            let wish = Wish { edit, by: Actor::Server.into(), asker: Asker::Nobody, conflicts: 0 };
            self.submit(Lane::Of(tenant), wish, now);
        }
    }

    pub(super) fn withheld_because(&mut self, tenant: TenantId, reason: BadRows, now: Now) {
        self.out.event(Event::DirectoryWithheld { tenant, reason });
        self.store.reread_later(now.mono);
    }

    pub(super) fn store_failed(&mut self, tenant: Option<TenantId>, reason: String, now: Now) {
        self.out.event(Event::StoreUnavailable { tenant, reason });
        self.store.poll_by(now.mono + STORE_RETRY_INTERVAL);
    }

    pub(super) fn on_store_due(&mut self, now: Now) {
        if self.store.poll_at.is_some_and(|at| at <= now.mono) {
            self.store.poll_at = None;
            self.poll_store();
        }
        if self.store.reread_at.is_some_and(|at| at <= now.mono) {
            self.store.reread_at = None;
            let withheld: Vec<TenantId> = self.directories.withheld().map(|(tenant, _)| tenant.id).collect();
            withheld.into_iter().for_each(|tenant| self.ask(tenant, Since::Nothing));
        }
    }

    pub(super) fn poll_store(&mut self) {
        if !self.store.polling {
            self.store.polling = true;
            self.store.polls += 1;
            self.out.push(Output::Poll);
        }
    }

    /// An edit lost to what others wrote, perhaps of another tenant: its line waits until all of that is read.
    pub(super) fn await_others(&mut self, lane: Lane) {
        self.lanes.block(lane);
        // A poll that is under way may have been answered before.
        self.store.awaiting.insert(lane, Awaited::Poll(self.store.polls + 1));
        self.on_rumour();
    }

    /// Another replica wrote something.
    pub(super) fn on_rumour(&mut self) {
        self.store.poll_again = self.store.polling;
        self.poll_store();
    }

    /// Asks for what others wrote; the tenant's edits wait for it.
    pub(super) fn refresh(&mut self, tenant: TenantId) {
        let version = self.directories.version(tenant);
        self.ask(tenant, version.map_or(Since::Nothing, |v| Since::Generation(v.generation)));
    }

    fn ask(&mut self, tenant: TenantId, since: Since) {
        if self.store.refreshing.insert(tenant) {
            self.lanes.block(Lane::Of(tenant));
            self.out.push(Output::Refresh { tenant, since });
        }
    }

    pub(super) fn on_polled(&mut self, result: Result<Standings, String>, now: Now) {
        self.store.polling = false;
        match result {
            Ok(standings) => {
                self.let_go_of_absent(&standings);
                for (tenant, version) in standings.versions {
                    self.compare(tenant, version);
                }
                self.store.await_refreshes(self.store.polls);
                if std::mem::take(&mut self.store.poll_again) {
                    self.poll_store();
                } else if self.config.shared {
                    self.store.poll_by(now.mono + POLL_INTERVAL);
                }
                if std::mem::take(&mut self.store.owes) {
                    self.state_hub_keys(now);
                    let tenants: Vec<TenantId> = self.directories.all().map(|d| d.tenant().id).collect();
                    tenants.into_iter().for_each(|tenant| self.found_authorities(tenant, now));
                }
            }
            Err(reason) => {
                self.store_failed(None, reason, now);
                self.fail_awaiting(now);
            }
        }
        self.resume_awaiting(now);
    }

    /// A database that was put back from a backup begins a new epoch, and knows nothing of tenants that were made after the
    /// backup: they end here too. Whom this process has founded since that poll began has the epoch of now.
    fn let_go_of_absent(&mut self, standings: &Standings) {
        let there: BTreeSet<TenantId> = standings.versions.iter().map(|(tenant, _)| *tenant).collect();
        let is_of_before =
            |id: TenantId| self.directories.version(id).is_none_or(|v| v.epoch < standings.epoch);
        let absent = self.directories.tenants().map(|tenant| tenant.id).filter(|id| !there.contains(id));
        let lost = absent.filter(|id| is_of_before(*id) && !self.lanes.is_flying(Lane::Of(*id)));
        for tenant in lost.collect::<Vec<_>>() {
            self.out.event(Event::TenantLost { tenant });
            self.directories.remove(tenant);
            self.hub_places.remove(&tenant);
            self.send_away_of(tenant);
        }
        self.store.epoch = self.store.epoch.max(standings.epoch);
    }

    /// An older version is no news: it was read before our own commit. Withheld tenants have their own time.
    fn compare(&mut self, tenant: TenantId, there: Version) {
        if self.lanes.is_flying(Lane::Of(tenant)) {
            return;
        }
        match self.directories.version(tenant) {
            None if self.directories.contains(tenant) => {}
            None => self.ask(tenant, Since::Nothing),
            Some(here) if here.epoch < there.epoch => self.ask(tenant, Since::Nothing),
            Some(here) if here < there => self.ask(tenant, Since::Generation(here.generation)),
            Some(_) => {}
        }
    }

    pub(super) fn on_refreshed(
        &mut self,
        tenant: TenantId,
        result: Result<Refresh, String>,
        anchor: Option<AnchorSecret>,
        now: Now,
    ) {
        self.store.refreshing.remove(&tenant);
        let lane = Lane::Of(tenant);
        if !self.store.awaiting.contains_key(&lane) {
            self.lanes.unblock(lane);
        }
        match result {
            Ok(Refresh::Facts { version, devices_count, facts }) => match self.directories.version(tenant) {
                Some(here) if here.epoch != version.epoch => self.ask(tenant, Since::Nothing),
                Some(here) if here < version => {
                    let cloned = self.cloned_elsewhere(&facts);
                    self.apply(tenant, version, devices_count, facts, now);
                    cloned.into_iter().for_each(|link| self.displace(link, true));
                }
                _ => {}
            },
            Ok(Refresh::Whole(rows)) => self.take_whole(*rows, anchor, now),
            Err(reason) => {
                self.store_failed(Some(tenant), reason, now);
                if self.directories.version(tenant).is_none() {
                    self.store.reread_later(now.mono);
                }
                self.fail_loser(lane, now);
            }
        }
        self.pump(lane, now);
        self.store.refresh_ended(tenant);
        self.resume_awaiting(now);
    }

    /// Links of devices that another replica gave another key than they use: somebody else attached there with their identity. Who
    /// is not told would have no tunnel until it attaches again.
    fn cloned_elsewhere(&self, facts: &[Fact]) -> Vec<LinkId> {
        let device = |fact: &Fact| match fact {
            Fact::Device(device) => Some((device.id, (device.wireguard, device.is_live()))),
            _ => None,
        };
        // The last of each is how it is now.
        let now: BTreeMap<_, _> = facts.iter().filter_map(device).collect();
        let link = |(id, (key, is_live)): (DeviceId, (PublicKey, bool))| {
            let link = self.presences.of(id)?.link?;
            let used = self.sessions.get(&link)?.key?;
            (used != key && is_live).then_some(link)
        };
        now.into_iter().filter_map(link).collect()
    }

    fn take_whole(&mut self, rows: TenantRows, anchor: Option<AnchorSecret>, now: Now) {
        let (tenant, read) = (rows.tenant.id, rows.version);
        match self.directories.version(tenant) {
            Some(here) if read < here => self.out.event(Event::StoreBehind { tenant, read, here }),
            Some(here) if read == here => {}
            _ => {
                self.store.epoch = self.store.epoch.max(read.epoch);
                self.take_rows(rows, anchor, now);
            }
        }
    }

    /// The edit that waits for a read that failed.
    fn fail_loser(&mut self, lane: Lane, now: Now) {
        if let Some(wish) = self.lanes.take_loser(lane) {
            let code = model::Code::StoreUnavailable;
            let refusal = model::Refusal::new(code, "the database could not be read again");
            self.refuse_wish(lane, &wish, refusal, now);
        }
    }

    /// Nobody knows what others wrote: the edits that wait for a poll fail, and those behind them go on.
    fn fail_awaiting(&mut self, now: Now) {
        let polls = self.store.awaiting.iter().filter(|(_, awaited)| matches!(awaited, Awaited::Poll(_)));
        for lane in polls.map(|(lane, _)| *lane).collect::<Vec<_>>() {
            self.fail_loser(lane, now);
            self.store.awaiting.insert(lane, Awaited::Refreshes(BTreeSet::new()));
        }
    }

    /// What excludes others waits until it is known what there was when it lost.
    fn resume_awaiting(&mut self, now: Now) {
        for lane in self.store.take_informed() {
            // Its own directory may be on the way once more.
            if lane.tenant().is_none_or(|tenant| !self.store.refreshing.contains(&tenant)) {
                self.lanes.unblock(lane);
                self.pump(lane, now);
            }
        }
    }
}

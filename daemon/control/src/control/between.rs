//! What passes between devices of one tenant: hints, and who may send packets over the relay. Reads none of it.

use model::limits::{HINT_BYTES_MAX, RELAY_PASS_LIFE};
use model::relay::RelayPass;
use model::wire::{Hint, Hinted, Services};
use model::{DeviceId, NodeId, Now, Refusal, Signed, TenantId};

use super::Control;
use crate::hints::PassedHint;
use crate::io::{HubPlace, Output};
use crate::limits::HINTS_UNWRITTEN_MAX;
use crate::link::LinkId;
use crate::presence::Presence;
use crate::session::{Session, Stage, out_of_place};

impl Control {
    /// Gives a hint on, if its receiver is of the same tenant and attached here, and passes it to other replicas, if it may be
    /// there. Else it is lost, as over any network: devices tell each other again.
    pub(super) fn on_hint(
        &mut self,
        link: LinkId,
        tenant: Option<TenantId>,
        node: NodeId,
        hint: Hint,
        now: Now,
    ) -> Result<(), Refusal> {
        let (Some(tenant), NodeId::Device(from)) = (tenant, node) else {
            return Err(out_of_place("a hint of the hub"));
        };
        if hint.sealed.len() > HINT_BYTES_MAX {
            return Err(out_of_place("a hint of that length"));
        }
        let may_send = self.sessions.get_mut(&link).is_some_and(|s| s.admitted && s.hints.take(now.mono));
        let Hint { to, sealed } = hint;
        let receiver = self.receiver(tenant, to).filter(|_| may_send);
        let passes = may_send && self.may_pass(tenant, to, now);
        if passes {
            self.out.counters.hints_passed += 1;
            self.out.push(Output::Pass(PassedHint { tenant, from, to, sealed: sealed.clone() }));
        }
        if let Some(link) = receiver {
            self.give(link, from, sealed);
        } else if !passes {
            self.out.counters.hints_lost += 1;
        }
        Ok(())
    }

    /// Gives on what came to another replica, or to this one, if its receiver is attached here.
    pub(super) fn on_passed(&mut self, hint: PassedHint) {
        if let Some(link) = self.receiver(hint.tenant, hint.to) {
            self.give(link, hint.from, hint.sealed);
        }
    }

    fn give(&mut self, link: LinkId, from: DeviceId, sealed: Vec<u8>) {
        self.out.counters.hints_forwarded += 1;
        self.send(link, Hinted { from, sealed });
    }

    /// Whether other replicas are told: there may be some, and the device may be there.
    fn may_pass(&mut self, tenant: TenantId, device: DeviceId, now: Now) -> bool {
        let is_here = self.presences.of(device).is_some_and(Presence::is_only_here);
        let directory = self.directories.whole(tenant);
        let is_active = directory.is_some_and(|directory| directory.is_active(NodeId::Device(device)));
        self.config.passes_hints && !is_here && is_active && self.hints_passed.take(tenant, device, now.mono)
    }

    /// The link of a device that may be sent a hint now.
    fn receiver(&self, tenant: TenantId, device: DeviceId) -> Option<LinkId> {
        let link = self.presences.of(device)?.link?;
        let session = self.sessions.get(&link)?;
        let is_of_tenant = matches!(session.stage, Stage::Attached { tenant: Some(of), .. } if of == tenant);
        (is_of_tenant && session.admitted && session.unwritten < HINTS_UNWRITTEN_MAX).then_some(link)
    }

    /// Lets a device take part in what passes between devices as soon as it is active, and no longer than that.
    pub(super) fn admit(&mut self, link: LinkId, now: Now) {
        let Some((tenant, device)) = self.sessions.get(&link).and_then(Session::device) else { return };
        let Some(directory) = self.directories.whole(tenant) else { return };
        let is_active = directory.is_active(NodeId::Device(device));
        let realm = directory.anchor().public().fingerprint();
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if session.admitted == is_active {
            return;
        }
        session.admitted = is_active;
        if is_active {
            self.out.push(Output::Admit { link, realm, device });
            self.serve_device(link, tenant, device, now);
        } else {
            self.out.push(Output::Dismiss { link });
        }
    }

    /// Tells the relay where a tenant's hub is, if that is news.
    pub(super) fn point_hub(&mut self, tenant: TenantId, now: Now) {
        let leads = self.leads(now).is_ok();
        let listens_on = self.hub.as_ref().map(|hub| hub.listen_port);
        let Some(directory) = self.directories.whole(tenant) else { return };
        let Some(endpoint) = directory.hub_peer().and_then(|(_, peer)| peer.endpoint) else { return };
        // A hub that is not attached for a moment goes on.
        let before = || self.hub_places.get(&tenant).and_then(|place| place.here);
        let here = listens_on.map(|shared| directory.hub_port().unwrap_or(shared)).or_else(before);
        let here = here.filter(|_| leads);
        let (realm, place) = (directory.anchor().public().fingerprint(), HubPlace { endpoint, here });
        if self.hub_places.get(&tenant) != Some(&place) {
            self.hub_places.insert(tenant, place.clone());
            self.out.push(Output::HubAt { realm, place });
        }
    }

    /// The same for all tenants: whose hub acts is another.
    pub(super) fn point_hubs(&mut self, now: Now) {
        let tenants: Vec<_> = self.directories.all().map(|directory| directory.tenant().id).collect();
        tenants.into_iter().for_each(|tenant| self.point_hub(tenant, now));
    }

    /// Tells a device what there is for it beside snapshots, with a fresh pass where relays ask for one.
    fn serve_device(&mut self, link: LinkId, tenant: TenantId, device: DeviceId, now: Now) {
        let stun = self.config.stun.clone();
        if self.config.relays.is_empty() {
            if !stun.is_empty() {
                self.send(link, Services { stun, pass: None, leads_to_hub: true });
            }
            return;
        }
        let Some(directory) = self.directories.whole(tenant) else { return };
        let Some(identity) = directory.device(device).and_then(|row| row.identity().copied()) else { return };
        let pass = RelayPass { tenant, device, identity, expires_at: now.wall + RELAY_PASS_LIFE };
        let pass = Signed::new(&pass, directory.anchor());
        if let Some(session) = self.sessions.get_mut(&link) {
            session.pass_until = Some(now.mono + RELAY_PASS_LIFE / 2);
        }
        self.send(link, Services { stun, pass: Some(pass), leads_to_hub: true });
    }

    /// A device that stays attached gets another pass long before the one that it has expires.
    pub(super) fn renew_pass(&mut self, link: LinkId, now: Now) {
        let Some(session) = self.sessions.get(&link) else { return };
        let is_due = session.admitted && session.pass_until.is_some_and(|until| until <= now.mono);
        if let Some((tenant, device)) = session.device().filter(|_| is_due) {
            self.serve_device(link, tenant, device, now);
        }
    }
}

//! What a frame, an end and a silence of a link mean. Proofs are checked by the session, snapshots sent by the publisher.

use model::wire::frame::{
    Attach, AttachHub, Attached, Enrol, Enrolled, Heard, Heartbeat, Hello, Holding, Refused, Resync,
};
use model::wire::{Channel, Frame};
use model::{Code, DeviceId, Endpoint, Mono, NodeId, Nonce, Now, PublicKey, Refusal, Standing, TenantId};

use super::Control;
use crate::edit::Edit;
use crate::enrolment::VerifiedEnrol;
use crate::event::Event;
use crate::io::Output;
use crate::lanes::{Asker, Lane, Wish};
use crate::limits::{ABILITIES_INTERVAL, FRAMES_UNWRITTEN_MAX, HUB_HEARTBEAT_SECONDS, RETRY_AFTER};
use crate::link::{LinkId, Origin};
use crate::presence::{Arrival, HubPresence, Sighting};
use crate::rows::{Actor, By};
use crate::session::{Greeted, Session, Stage, heartbeat_seconds, out_of_place};

impl Control {
    pub(super) fn on_opened(&mut self, link: LinkId, channel: Channel, from: Origin, now: Now) {
        self.out.counters.links_opened += 1;
        let session = Session::new(channel, from, now.mono);
        self.wakes.insert((session.wake_at, link));
        self.sessions.insert(link, session);
        let room = self.half_open.begin(from);
        if !self.loaded || self.draining || !room {
            self.retry(link, RETRY_AFTER);
        }
    }

    pub(super) fn on_frame(&mut self, link: LinkId, frame: Frame, now: Now) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.heard(now.mono);
        let result = match (&session.stage, frame) {
            (_, Frame::Unknown(_)) => Ok(()),
            (_, Frame::Refused(Refused { refusal })) => {
                self.out.event(Event::NodeRefused { link, refusal });
                self.close(link, "the node refused");
                Ok(())
            }
            (Stage::Opened, Frame::Hello(hello)) => self.greet(link, &hello),
            (Stage::Greeted(_), frame) => self.on_greeted(link, frame, now),
            (Stage::Attached { tenant, node }, frame) => {
                let (tenant, node) = (*tenant, *node);
                self.on_attached_frame(link, tenant, node, frame, now)
            }
            (_, frame) => Err(out_of_place(frame.name())),
        };
        if let Err(refusal) = result {
            self.refuse_link(link, refusal);
        }
        self.check_reader(link);
    }

    fn greet(&mut self, link: LinkId, hello: &Hello) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(&link) else { return Ok(()) };
        let welcome = session.greet(hello, &self.directories, &mut self.dice)?;
        self.send(link, welcome);
        Ok(())
    }

    fn on_greeted(&mut self, link: LinkId, frame: Frame, now: Now) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(&link) else { return Ok(()) };
        let from = session.from;
        let Stage::Greeted(greeted) = std::mem::replace(&mut session.stage, Stage::Opened) else {
            return Ok(());
        };
        match frame {
            Frame::Enrol(enrol) => self.enrol(link, enrol, &greeted, from, now),
            Frame::Attach(attach) => self.attach(link, &attach, &greeted, now),
            Frame::AttachHub(attach) => self.attach_hub(link, attach, &greeted, now),
            other => Err(out_of_place(other.name())),
        }
    }

    fn enrol(
        &mut self,
        link: LinkId,
        enrol: Enrol,
        greeted: &Greeted,
        from: Origin,
        now: Now,
    ) -> Result<(), Refusal> {
        let tenant = greeted.device_tenant()?;
        let directory = self.directories.whole(tenant).ok_or_else(withheld)?;
        let key = directory.token(enrol.claim.token).map(|token| token.key);
        let by = By::from(match from {
            Origin::Hub => Actor::Hub,
            Origin::Network(address) => Actor::Network(address),
        });
        let target = enrol.claim.identity.to_string();
        let abilities = enrol.abilities.known();
        let verified = VerifiedEnrol::verify(enrol, key.as_ref(), &greeted.transcript, &greeted.ephemeral);
        let verified = verified.inspect_err(|refusal| {
            let audit = super::edits::refused(Some(tenant), &by, "device.enrol", target, refusal, now);
            self.out.push(Output::Audit(audit));
        })?;
        if let Some(session) = self.sessions.get_mut(&link) {
            session.stage = Stage::Enrolling { tenant };
            session.abilities = abilities;
        }
        let edit = Edit::Enrol(verified);
        self.submit(Lane::Of(tenant), Wish { edit, by, asker: Asker::Link(link), conflicts: 0 }, now);
        Ok(())
    }

    /// The enrolment is in the store: the link goes on as if attached.
    pub(super) fn enrolled(&mut self, link: LinkId, device: DeviceId, standing: Standing, now: Now) {
        let Some(session) = self.sessions.get(&link) else { return };
        let Stage::Enrolling { tenant } = session.stage else { return };
        self.send(link, Enrolled { device, standing, heartbeat_seconds: heartbeat_seconds() });
        self.out.event(Event::Enrolled { tenant, device });
        self.arrive(link, tenant, device, None, None, now);
    }

    fn attach(&mut self, link: LinkId, attach: &Attach, greeted: &Greeted, now: Now) -> Result<(), Refusal> {
        let tenant = greeted.device_tenant()?;
        greeted.verify_attach(attach)?;
        let directory = self.directories.whole(tenant).ok_or_else(withheld)?;
        let Some(device) = directory.device_identified(&attach.claim.identity) else {
            return Err(Refusal::new(Code::DeviceUnknown, "no device has this identity"));
        };
        let (id, known, is_live) = (device.id, device.wireguard, device.is_live());
        let other = if is_live { greeted.verify_key(attach, known)? } else { None };
        if let Some(session) = self.sessions.get_mut(&link) {
            session.abilities = attach.abilities.known();
            session.key = attach.key.as_ref().map(|claim| claim.wireguard);
        }
        let key = attach.key.is_some().then_some(known);
        self.send(link, Attached { heartbeat_seconds: heartbeat_seconds(), tenants: Vec::new(), key });
        self.arrive(link, tenant, id, attach.claim.held, Some(attach.claim.instance), now);
        if let Some(key) = other {
            let edit = Edit::SetKey { device: id, key };
            let (by, asker) = (Actor::Device(id).into(), Asker::Key(link));
            self.submit(Lane::Of(tenant), Wish { edit, by, asker, conflicts: 0 }, now);
        }
        Ok(())
    }

    /// The directory has the key that the device claimed: it may use it.
    pub(super) fn keyed(&mut self, link: LinkId, key: PublicKey) {
        let heartbeat_seconds = heartbeat_seconds();
        self.send(link, Attached { heartbeat_seconds, tenants: Vec::new(), key: Some(key) });
    }

    fn arrive(
        &mut self,
        link: LinkId,
        tenant: TenantId,
        device: DeviceId,
        held: Option<model::Held>,
        instance: Option<Nonce>,
        now: Now,
    ) {
        let node = NodeId::Device(device);
        let Some(software) = self.attached(link, Some(tenant), node) else { return };
        let address = match self.sessions.get(&link).map(|session| session.from) {
            Some(Origin::Network(address)) => Some(address),
            _ => None,
        };
        // Whoever just enrolled has no other link.
        if instance.is_some() && self.config.passes_hints && self.arrivals_told.take(now.mono) {
            self.out.push(Output::TellSighting(Sighting { device, at: now.wall }));
        }
        let arrival = Arrival { tenant, device, link, held, software, address, instance };
        let attachment = self.presences.attach(arrival, now.wall);
        if attachment.cloned {
            self.out.event(Event::IdentityCloned { tenant, device });
        }
        if let Some(displaced) = attachment.displaced {
            self.displace(displaced, attachment.cloned);
        }
        self.publisher.subscribe(link, node, tenant, held);
        self.note_abilities(link, now);
        self.admit(link, now);
        self.flush(link, now);
    }

    /// Marks the session; gives the node's software.
    fn attached(
        &mut self,
        link: LinkId,
        tenant: Option<TenantId>,
        node: NodeId,
    ) -> Option<model::wire::Remark> {
        let session = self.sessions.get_mut(&link)?;
        session.stage = Stage::Attached { tenant, node };
        let software = session.software.clone();
        self.half_open.end(session.from);
        self.out.event(Event::Attached { link, tenant, node, software: software.clone() });
        Some(software)
    }

    /// A later link of the same node is there. Only a clone is told: a program that restarted is not listening.
    pub(super) fn displace(&mut self, link: LinkId, cloned: bool) {
        if cloned {
            let refusal = Refusal::new(Code::IdentityCloned, "another machine attached with this identity");
            self.refuse_link(link, refusal);
        } else {
            self.close(link, "a later link of the node");
        }
    }

    fn attach_hub(
        &mut self,
        link: LinkId,
        attach: AttachHub,
        greeted: &Greeted,
        now: Now,
    ) -> Result<(), Refusal> {
        let (seals, own_interfaces) = (attach.seals, attach.own_interfaces);
        let claim = greeted.verify_hub(attach)?;
        let with_own = self.directories.tenants().find(|tenant| tenant.hub_port.is_some());
        if let Some(tenant) = with_own.filter(|_| !own_interfaces) {
            // It would refuse what it is sent of that tenant, again and again.
            return Err(Refusal::new(
                Code::HubTooOld,
                format!("tenant {} has an interface of its own", tenant.name),
            ));
        }
        let Some(software) = self.attached(link, None, NodeId::Hub) else { return Ok(()) };
        let presence = HubPresence {
            link,
            key: claim.wireguard,
            listen_port: claim.listen_port,
            software,
            last_seen: now.wall,
            holding: claim.held.iter().map(|(tenant, held)| (*tenant, (*held, false))).collect(),
            drift_total: 0,
            problems: Vec::new(),
            engine: None,
            seals,
            own_interfaces,
        };
        if let Some(before) = self.hub.replace(presence) {
            self.displace(before.link, false);
        }
        self.point_hubs(now);
        self.state_hub_keys(now);
        self.introduce_tenants(now);
        Ok(())
    }

    /// Tells the hub which tenants it carries, and sends it those that are new to it.
    pub(super) fn introduce_tenants(&mut self, now: Now) {
        let Some(hub) = &self.hub else { return };
        let link = hub.link;
        let tenants = self.directories.carried(|tenant| hub.holding.contains_key(&tenant));
        let fresh = tenants.iter().filter(|(tenant, _)| !self.publisher.is_subscribed(link, *tenant));
        let fresh: Vec<_> = fresh.map(|(id, _)| (*id, hub.holding.get(id).map(|(held, _)| *held))).collect();
        let seconds = if self.config.leased { HUB_HEARTBEAT_SECONDS } else { heartbeat_seconds() };
        self.send(link, Attached { heartbeat_seconds: seconds, tenants, key: None });
        for (tenant, held) in fresh {
            self.publisher.subscribe(link, NodeId::Hub, tenant, held);
        }
        self.flush(link, now);
    }

    /// Every tenant states the key that the hub proved, and where it answers.
    pub(super) fn state_hub_keys(&mut self, now: Now) {
        let Some(hub) = self.hub.as_ref().filter(|_| self.leads(now).is_ok()) else { return };
        let key = hub.key;
        let endpoint = self.hub_endpoint(hub.listen_port);
        let differs = |directory: &&crate::Directory| {
            directory.tenant().deleted_at.is_none()
                && directory.hub().is_none_or(|hub| hub.key != key || hub.endpoint != endpoint)
        };
        let tenants: Vec<_> = self.directories.all().filter(differs).map(|d| d.tenant().id).collect();
        for tenant in tenants {
            let edit = Edit::SetHub { key, endpoint: endpoint.clone() };
            let wish = Wish { edit, by: Actor::Hub.into(), asker: Asker::Nobody, conflicts: 0 };
            self.submit(Lane::Of(tenant), wish, now);
        }
    }

    pub(super) fn hub_endpoint(&self, port: u16) -> Endpoint {
        let guess = || Endpoint { host: self.config.hub_endpoint_host.clone(), port };
        self.config.hub_endpoint.clone().unwrap_or_else(guess)
    }

    fn on_attached_frame(
        &mut self,
        link: LinkId,
        own: Option<TenantId>,
        node: NodeId,
        frame: Frame,
        now: Now,
    ) -> Result<(), Refusal> {
        let foreign = |tenant: TenantId| own.is_some_and(|own| own != tenant);
        match frame {
            Frame::Holding(holding) if foreign(holding.tenant) => Err(out_of_place("another tenant")),
            Frame::Holding(holding) => {
                self.holding(link, node, &holding, now);
                self.flush(link, now);
                if node == NodeId::Hub {
                    self.publisher.take_awaiting_hub().into_iter().for_each(|link| self.flush(link, now));
                }
                Ok(())
            }
            Frame::Resync(resync) if foreign(resync.tenant) => Err(out_of_place("another tenant")),
            Frame::Resync(Resync { tenant, held, reason }) => {
                let was_told = self.sessions.get_mut(&link).is_some_and(Session::take_excuse);
                let reason = (!was_told).then_some(reason);
                if self.publisher.resync(link, tenant, held, reason, &mut self.out) {
                    self.flush(link, now);
                } else {
                    self.close(link, "it refuses everything that it is sent");
                }
                Ok(())
            }
            Frame::Heartbeat(beat) if beat.holding.iter().any(|h| foreign(h.tenant)) => {
                Err(out_of_place("another tenant"))
            }
            Frame::Heartbeat(beat) => {
                self.heartbeat(link, node, &beat, now);
                Ok(())
            }
            Frame::CertifyHost(wish) => self.on_certify(link, own, node, wish, now),
            Frame::KeySealed(answer) => self.on_key_sealed(link, node, answer),
            Frame::SshInstalled(said) => self.on_installed(own, node, said, now),
            Frame::CommandDone(done) => self.on_command_done(link, own, node, done),
            Frame::SshLogins(said) => self.on_logins(link, own, node, said),
            Frame::Hint(hint) => self.on_hint(link, own, node, hint, now),
            other => Err(out_of_place(other.name())),
        }
    }

    fn heartbeat(&mut self, link: LinkId, node: NodeId, beat: &Heartbeat, now: Now) {
        self.out.counters.heartbeats += 1;
        self.send(link, Heard { sequence: beat.sequence, lease: self.lease_for(node, now) });
        for holding in &beat.holding {
            self.holding(link, node, holding, now);
        }
        match (node, &mut self.hub) {
            (NodeId::Device(device), _) => self.presences.heartbeat(device, beat, now.wall),
            (NodeId::Hub, Some(hub)) if hub.link == link => hub.heartbeat(beat, now.wall),
            (NodeId::Hub, _) => {}
        }
        self.renew_pass(link, now);
        self.note_abilities(link, now);
        self.flush(link, now);
    }

    /// The directory says what a device knows: its next snapshot is for that. Until then it has the one for what it knew
    /// before, which it may refuse.
    fn note_abilities(&mut self, link: LinkId, now: Now) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let Some((tenant, device)) = session.device().filter(|_| session.abilities_due <= now.mono) else {
            return;
        };
        let abilities = session.abilities;
        let row = self.directories.whole(tenant).and_then(|directory| directory.device(device));
        if row.is_some_and(|row| row.is_live() && row.abilities != abilities) {
            session.abilities_due = now.mono + ABILITIES_INTERVAL;
            let edit = Edit::SetAbilities { device, abilities };
            let wish = Wish { edit, by: Actor::Device(device).into(), asker: Asker::Nobody, conflicts: 0 };
            self.submit(Lane::Of(tenant), wish, now);
        }
    }

    fn holding(&mut self, link: LinkId, node: NodeId, holding: &Holding, now: Now) {
        if !self.publisher.is_subscribed(link, holding.tenant) {
            return;
        }
        self.publisher.holds(link, holding, now, &mut self.out);
        match (node, &mut self.hub) {
            (NodeId::Device(device), _) => self.presences.holding(device, holding, now.wall),
            (NodeId::Hub, Some(hub)) if hub.link == link => hub.holding(holding, now.wall),
            (NodeId::Hub, _) => {}
        }
    }

    pub(super) fn on_drained(&mut self, link: LinkId, now: Now) {
        if let Some(session) = self.sessions.get_mut(&link) {
            session.unwritten = 0;
            self.publisher.drained(link);
            self.flush(link, now);
        }
    }

    pub(super) fn on_link_due(&mut self, link: LinkId, now: Now) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let deadline = session.deadline();
        session.wake_at = deadline;
        if deadline > now.mono {
            self.wakes.insert((deadline, link));
            self.flush(link, now);
            return;
        }
        match session.stage {
            Stage::Enrolling { .. } => self.retry(link, RETRY_AFTER),
            Stage::Attached { .. } => self.close(link, "silent for too long"),
            Stage::Opened | Stage::Greeted(_) => self.close(link, "the handshake took too long"),
        }
    }

    /// Sends the link what it may be sent, and wakes for what it may be sent later.
    pub(super) fn flush(&mut self, link: LinkId, now: Now) {
        let sent_before = self.out.counters.frames_sent;
        let again = self.publisher.flush(link, &self.directories, now, &mut self.out);
        let sent = self.out.counters.frames_sent - sent_before;
        if let Some(session) = self.sessions.get_mut(&link) {
            session.unwritten += u32::try_from(sent).unwrap_or(u32::MAX);
        }
        if let Some(at) = again {
            self.wake(link, at);
        }
        self.renew_forked(now);
    }

    fn wake(&mut self, link: LinkId, at: Mono) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if at < session.wake_at {
            self.wakes.remove(&(session.wake_at, link));
            session.wake_at = at;
            self.wakes.insert((at, link));
        }
    }

    pub(super) fn send(&mut self, link: LinkId, frame: impl Into<Frame>) {
        if let Some(session) = self.sessions.get_mut(&link) {
            session.unwritten += 1;
            self.out.send(link, frame);
        }
    }

    /// A node that asks and never reads is sent away.
    fn check_reader(&mut self, link: LinkId) {
        if self.sessions.get(&link).is_some_and(|session| session.unwritten > FRAMES_UNWRITTEN_MAX) {
            self.close(link, "it does not read what it is sent");
        }
    }
}

fn withheld() -> Refusal {
    Refusal::new(Code::StoreUnavailable, "the tenant's directory is withheld")
}

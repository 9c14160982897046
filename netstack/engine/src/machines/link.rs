//! The server's side of a node: what frames mean, and what the server is told.

use std::collections::BTreeSet;

use model::snapshot::Stamp;
use model::wire::{Attached, Channel, Enrolled, Frame, Holding, KeySealed, Patched, Resync, SealKey, Whole};
use model::{Code, Refusal, Signed, Standing, TenantId};

use crate::claim::Ground;
use crate::config::Role;
use crate::event::Event;
use crate::ledger::{Enrolment, Freshness, Joining, Offer, Rejection, Unpinned};
use crate::output::Output;
use crate::pulse::News;
use crate::session::Wait;
use crate::turn::Turn;

use super::{Aim, Machines, rules};

impl Machines {
    pub(super) fn join(&mut self, joining: Joining, turn: &mut Turn<'_>) {
        let refusal = match (&self.config.role, self.ledger.enrolment) {
            (Role::Hub { .. }, _) => Some(Refusal::new(Code::BadRequest, "a hub does not join")),
            (Role::Device { .. }, Some(e)) => Some(Refusal::new(Code::AlreadyEnrolled, e.device.to_string())),
            (Role::Device { .. }, None) => None,
        };
        if let Some(refusal) = refusal {
            return turn.event(Event::JoinRefused(refusal));
        }
        self.ledger.joining = Some(joining);
        self.saver.touch();
        (self.last_refusal, self.link_error) = (None, None);
        self.session.restart(turn);
    }

    pub(super) fn link_up(&mut self, channel: Channel, turn: &mut Turn<'_>) {
        let anchor = match self.aim() {
            Aim::Attach => self.ledger.enrolment.map(|e| e.anchor.fingerprint()),
            Aim::Join => self.ledger.joining.as_ref().map(|j| j.token.anchor),
            Aim::Nothing | Aim::AttachHub => None,
        };
        self.session.link_up(channel, anchor, self.config.software.clone(), turn);
    }

    pub(super) fn link_down(&mut self, reason: String, turn: &mut Turn<'_>) {
        if self.session.is_open() {
            self.link_error = Some(reason.clone());
            turn.event(Event::Detached { reason });
        } else if self.session.is_dialing() && self.link_error.as_ref() != Some(&reason) {
            self.link_error = Some(reason.clone());
            turn.event(Event::Unreachable { reason });
        }
        self.session.link_down(turn);
    }

    pub(super) fn take_frame(&mut self, frame: Frame, turn: &mut Turn<'_>) {
        if !self.session.is_open() {
            return;
        }
        self.session.heard(turn.mono());
        match frame {
            Frame::Welcome(welcome) => {
                if let Err(reason) = self.session.take_welcome(&welcome) {
                    self.distrust(reason, turn);
                }
            }
            Frame::Enrolled(enrolled) => self.enrolled(&enrolled, turn),
            Frame::Attached(attached) => self.attached(attached, turn),
            Frame::Refused(refused) => self.refused(refused.refusal, turn),
            Frame::Retry(retry) => {
                let wait = std::time::Duration::from_millis(retry.after_millis.into());
                self.session.hang_up(Wait::Server(wait), turn);
            }
            Frame::Whole(_) | Frame::Part(_) | Frame::Patched(_) if !self.session.is_attached() => {
                self.distrust("a snapshot before the node attached", turn);
            }
            Frame::Whole(whole) => self.whole_begins(whole, turn),
            Frame::Part(part) => match self.intake.part(&part) {
                Ok(Some(offer)) => self.take_offer(offer, turn),
                Ok(None) => {}
                Err((tenant, rejection)) => self.reject(tenant, rejection, turn),
            },
            Frame::Patched(Patched { stamp, tenant, from, patch }) => {
                self.take_offer(Offer::Patch { tenant, stamp, from, patch }, turn);
            }
            Frame::Command(command) if self.session.is_attached() && self.aim() == Aim::Attach => {
                self.command(&command, turn);
            }
            Frame::Hinted(hinted) => self.hinted(hinted, turn),
            Frame::HostCertified(answer) if self.session.is_attached() => {
                turn.push(Output::Ssh(self.ssh.certified(answer)));
            }
            Frame::SshLoginsNoted(noted) if self.session.is_attached() => self.ssh.noted(&noted),
            Frame::SealKey(SealKey { recipient })
                if self.session.is_attached() && self.aim() == Aim::AttachHub =>
            {
                turn.push(Output::Seal { recipient });
            }
            Frame::Services(services) if self.session.is_attached() => {
                self.take_services(services, turn);
            }
            Frame::Heard(heard) => self.heard(&heard, turn),
            Frame::Services(_)
            | Frame::HostCertified(_)
            | Frame::SshLoginsNoted(_)
            | Frame::SealKey(_)
            | Frame::Command(_)
            | Frame::Unknown(_) => {}
            Frame::Hello(_)
            | Frame::Enrol(_)
            | Frame::Attach(_)
            | Frame::AttachHub(_)
            | Frame::AttachRelay(_)
            | Frame::Holding(_)
            | Frame::Resync(_)
            | Frame::Hint(_)
            | Frame::CertifyHost(_)
            | Frame::SshInstalled(_)
            | Frame::CommandDone(_)
            | Frame::SshLogins(_)
            | Frame::KeySealed(_)
            | Frame::Heartbeat(_) => self.distrust("a frame that only nodes send", turn),
        }
    }

    /// The server may have gone meanwhile: the next one asks anew.
    pub(super) fn sealed(&mut self, sealed: Option<Vec<u8>>, turn: &mut Turn<'_>) {
        if self.session.is_attached() {
            turn.push(Output::Send(KeySealed { sealed }.into()));
        }
    }

    pub(super) fn persisted(&mut self, result: Result<(), String>, turn: &mut Turn<'_>) {
        for tenant in self.saver.finish(result, turn).into_keys() {
            self.announce(tenant, turn);
        }
    }

    /// Proves who the node is, once the server has. A wish to join is on disk first: a crash finds it again.
    pub(super) fn claim(&mut self, turn: &mut Turn<'_>) {
        let Some(proven) = self.session.proving() else { return };
        let ground = Ground {
            transcript: proven.transcript,
            ephemeral: proven.ephemeral,
            wireguard: &self.config.wireguard,
        };
        let frame = match (&self.config.role, &self.ledger.joining) {
            (Role::Hub { listen_port, .. }, _) => {
                let held = self.ledger.holdings().map(|(tenant, held, _)| (tenant, held)).collect();
                ground.attach_hub(*listen_port, held)
            }
            (Role::Device { identity, instance, .. }, _) if self.ledger.enrolment.is_some() => {
                let held = self.ledger.holdings().map(|(_, held, _)| held).next();
                let wireguard = self.rekey.next().unwrap_or(&self.config.wireguard);
                Ground { wireguard, ..ground }.attach(identity, *instance, held)
            }
            (Role::Device { .. }, Some(_)) if !self.saver.is_saved() => return,
            (Role::Device { identity, .. }, Some(joining)) => ground.enrol(joining, identity),
            (Role::Device { .. }, None) => return self.session.hang_up(Wait::None, turn),
        };
        match frame {
            Some(frame) => self.session.claim(frame, turn),
            None => self.distrust("its ephemeral key is of low order", turn),
        }
    }

    /// Tells the server what is new.
    pub(super) fn tell(&mut self, turn: &mut Turn<'_>) {
        let settled = self.settled();
        if settled != std::mem::replace(&mut self.was_settled, settled) && settled {
            turn.event(Event::Settled);
            for tenant in self.pulse.unsettled() {
                self.announce(tenant, turn);
            }
        }
        if !self.session.is_attached() {
            return;
        }
        for (tenant, reason) in self.intake.due(turn) {
            let held = self.ledger.held(tenant);
            turn.push(Output::Send(Resync { tenant, held, reason }.into()));
        }
        for frame in self.ssh.news() {
            turn.push(Output::Send(frame));
        }
        let news = News {
            drift_total: self.reconcilers.drift_total(),
            problems: self.remarks(),
            // Nobody asks for a device's, and in each heartbeat it would be a twentieth of what an idle device may cost.
            engine: self.engine.clone().filter(|_| matches!(self.config.role, Role::Hub { .. })),
        };
        if self.pulse.is_due(&news, turn.mono()) {
            let holding = self.saver.durable().keys().filter_map(|tenant| self.holding(*tenant)).collect();
            let heartbeat = self.pulse.beat(holding, news, self.facts.as_ref(), turn);
            turn.push(Output::Send(heartbeat.into()));
        }
    }

    fn enrolled(&mut self, enrolled: &Enrolled, turn: &mut Turn<'_>) {
        if self.aim() != Aim::Join {
            return self.distrust("it enrols a node that did not ask", turn);
        }
        let Some(anchor) = self.session.attach(turn).and_then(|proven| proven.anchor) else {
            return self.distrust("it enrols before it was asked", turn);
        };
        self.ledger.joining = None;
        self.ledger.enrolment = Some(Enrolment { anchor, device: enrolled.device });
        self.saver.touch();
        self.weigh_removals();
        (self.last_refusal, self.link_error) = (None, None);
        turn.event(Event::Joined { device: enrolled.device, standing: enrolled.standing });
        self.pulse.begin(enrolled.heartbeat_seconds, turn.mono());
        if self.rekey.next().is_some() {
            // Left by a life whose ledger is gone. It is offered with an attach.
            self.session.restart(turn);
        }
    }

    fn attached(&mut self, attached: Attached, turn: &mut Turn<'_>) {
        let aim = self.aim();
        if !self.session.is_attached() {
            if aim == Aim::Join || self.session.attach(turn).is_none() {
                return self.distrust("it attaches before it was asked", turn);
            }
            (self.last_refusal, self.link_error) = (None, None);
            self.pulse.begin(attached.heartbeat_seconds, turn.mono());
        }
        if let Some(command) = attached.key.and_then(|key| self.rekey.taken(&key)) {
            turn.event(Event::Rekeyed { command });
        }
        if aim == Aim::AttachHub {
            self.pin_tenants(attached, turn);
        }
    }

    /// Pins the anchors of a hub's tenants at first sight, and forgets those that are gone for good: the anchor said
    /// that they are revoked, and the server does not list them any more.
    fn pin_tenants(&mut self, attached: Attached, turn: &mut Turn<'_>) {
        let listed: BTreeSet<TenantId> = attached.tenants.iter().map(|(tenant, _)| *tenant).collect();
        let holdings = self.ledger.holdings();
        let revoked = holdings.filter(|(_, _, snapshot)| snapshot.own.standing == Standing::Revoked);
        let gone: Vec<_> = revoked.map(|(tenant, ..)| tenant).filter(|t| !listed.contains(t)).collect();
        for tenant in gone {
            self.ledger.forget(tenant);
            self.saver.let_go(tenant);
        }
        let mut refused = None;
        for (tenant, anchor) in attached.tenants {
            match self.ledger.pin(tenant, anchor) {
                Ok(true) => self.saver.touch(),
                Ok(false) => {}
                Err(Unpinned::Other) => turn.event(Event::AnchorChanged { tenant }),
                Err(Unpinned::Full) => refused = refused.or(Some(tenant)),
            }
        }
        if let Some(refused) = refused {
            turn.event(Event::TenantsTooMany { refused });
        }
        self.ledger.list(&listed);
        self.weigh_removals();
    }

    fn refused(&mut self, refusal: Refusal, turn: &mut Turn<'_>) {
        (self.last_refusal, self.link_error) = (Some(refusal.clone()), None);
        // Only who proved the anchor can end a wish: before that anybody could.
        if self.aim() == Aim::Join && self.session.is_claiming() && ends_join(refusal.code) {
            self.ledger.joining = None;
            self.saver.touch();
            turn.event(Event::JoinRefused(refusal));
            return self.session.hang_up(Wait::None, turn);
        }
        let wait = if is_transient(refusal.code) { Wait::Reconnect } else { Wait::Refusal };
        turn.event(Event::ServerRefused(refusal));
        self.session.hang_up(wait, turn);
    }

    fn whole_begins(&mut self, whole: Whole, turn: &mut Turn<'_>) {
        let tenant = whole.tenant;
        let begun = match self.foresee(tenant, &whole.stamp) {
            Ok(Freshness::Newer) => self.intake.begin(whole),
            Ok(Freshness::Held) => {
                self.intake.skip();
                self.intake.accepted(tenant);
                return self.announce(tenant, turn);
            }
            Err(rejection) => Err(rejection),
        };
        if let Err(rejection) = begun {
            self.intake.skip();
            self.reject(tenant, rejection, turn);
        }
    }

    /// Checks a stamp before megabytes are taken for it.
    fn foresee(&self, tenant: TenantId, stamp: &Signed<Stamp>) -> Result<Freshness, Rejection> {
        let rules = rules(&self.config, &self.ledger).ok_or(Rejection::TenantUnknown(tenant))?;
        self.ledger.check_stamp(tenant, stamp, &rules).map(|(_, freshness)| freshness)
    }

    fn take_offer(&mut self, offer: Offer, turn: &mut Turn<'_>) {
        let tenant = offer.tenant();
        let rules = rules(&self.config, &self.ledger).ok_or(Rejection::TenantUnknown(tenant));
        match rules.and_then(|rules| self.ledger.accept(offer, &rules)) {
            Ok(accepted) => {
                self.intake.accepted(tenant);
                if accepted.is_news() {
                    self.saver.hold(tenant, accepted.held());
                } else {
                    self.announce(tenant, turn);
                }
                self.adopt(accepted, turn);
            }
            Err(rejection) => self.reject(tenant, rejection, turn),
        }
    }

    fn reject(&mut self, tenant: TenantId, rejection: Rejection, turn: &mut Turn<'_>) {
        self.intake.rejected(tenant, &rejection, turn.mono());
        turn.event(Event::Rejected { tenant, rejection });
    }

    /// Tells the server what is on disk of a tenant, unless it knows.
    fn announce(&mut self, tenant: TenantId, turn: &mut Turn<'_>) {
        if let Some(holding) = self.holding(tenant)
            && let Some(holding) = self.pulse.announce(holding)
        {
            turn.push(Output::Send(holding.into()));
        }
    }

    fn holding(&self, tenant: TenantId) -> Option<Holding> {
        let held = *self.saver.durable().get(&tenant)?;
        let settled = self.settled() && self.ledger.held(tenant) == Some(held);
        Some(Holding { tenant, held, settled })
    }

    fn distrust(&mut self, reason: &'static str, turn: &mut Turn<'_>) {
        turn.event(Event::ServerUntrusted { reason });
        self.link_error = Some(format!("the server is not to be trusted: {reason}"));
        self.session.hang_up(Wait::Refusal, turn);
    }
}

/// Whether trying again is of no use: another token or another key is needed.
const fn ends_join(code: Code) -> bool {
    matches!(
        code,
        Code::TokenUnknown
            | Code::TokenExpired
            | Code::TokenUsed
            | Code::TokenRevoked
            | Code::ProofInvalid
            | Code::KeyTaken
            | Code::DeviceRevoked
    )
}

/// Whether the server may say something else in a moment.
const fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::Internal | Code::Draining | Code::StoreUnavailable | Code::RateLimited | Code::Conflict
    )
}

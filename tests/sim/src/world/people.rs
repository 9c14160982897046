//! Administrators who edit, and people who give tokens to machines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control::{Actor, Answer, Edit, HubInterface, RequestId, Stay};
use engine::Input;
use model::token::OnboardingToken;
use model::wire::Remark;
use model::{Label, Mono, Refusal, Standing, TenantId};

use super::{Happening, Phase, World, edits};
use crate::machine::{Wish, copied};

/// What machines call themselves.
const HOSTNAMES: [&str; 9] =
    ["laptop", "laptop", "build.example.org", "hub", "localhost", "Ünïcödé Ω", "", "-._-", "x\n\u{7}y; DROP"];

/// Of the tokens with which everybody gets in in the end, and of no other.
const HELP_USES: u32 = 100_000;
/// An administrator who got no token asks again.
const ASK_AGAIN: Duration = Duration::from_secs(20);

/// What people know of tenants and tokens.
#[derive(Default)]
pub(super) struct Tokens {
    /// The run's tenants, in the order of their creation.
    pub(super) tenants: Vec<TenantId>,
    /// What was ever shown, newest last.
    shown: Vec<(TenantId, OnboardingToken)>,
    /// When a token without tricks was asked for in the end, by tenant.
    asked: BTreeMap<TenantId, Mono>,
    /// When somebody saw last to what would end in the quiet hour, by tenant.
    tidied: BTreeMap<TenantId, Mono>,
    /// And what came of it.
    last: BTreeMap<TenantId, OnboardingToken>,
}

impl Tokens {
    /// Which tenant a machine wants to join, once it exists.
    fn tenant(&self, index: usize) -> Option<TenantId> {
        self.tenants.get(index).copied()
    }
}

impl World {
    /// The next edit of an administrator.
    pub(super) fn edit(&mut self) {
        if self.phase != Phase::Chaos {
            return;
        }
        let mean = u64::try_from(self.scenario.edit_interval.as_millis()).unwrap_or(u64::MAX);
        let founding = self.tokens.tenants.len() < self.scenario.tenants;
        let pause = self.dice.people.millis(0, if founding { 2_000 } else { 2 * mean });
        self.soon(pause, Happening::Edit);
        if founding {
            return self.found();
        }
        let tenants: Vec<TenantId> = self.store.tenants().map(|(id, _)| *id).collect();
        let Some(tenant) = self.dice.people.pick(&tenants).copied() else { return };
        let Some(rows) = self.store.tenant(tenant).map(|stored| stored.rows.clone()) else { return };
        if let Some((edit, by)) = edits::draw(&rows, &mut self.dice.people) {
            self.request(Some(tenant), edit, by);
        }
    }

    fn found(&mut self) {
        let number = self.tokens.tenants.len();
        let small = self.scenario.small_block && number == 0;
        let name: Label = format!("t{number}").parse().expect("a label");
        let there = self.store.tenants().find(|(_, stored)| stored.rows.tenant.name == name);
        if let Some((id, _)) = there {
            return self.tokens.tenants.push(*id);
        }
        let block = small.then(|| "10.9.8.0/29".parse().expect("a net"));
        // Every third has an interface of its own from its first moment.
        let own = number % 3 == 1;
        let interface = if own { HubInterface::Own(None) } else { HubInterface::Shared };
        self.request(None, Edit::CreateTenant { name, block, interface }, alice());
    }

    fn request(&mut self, tenant: Option<TenantId>, edit: Edit, by: Actor) {
        let index = self.dice.people.below(self.replicas.len());
        self.request_at(index, tenant, edit, by);
    }

    /// Somebody asks one server.
    pub(super) fn request_at(&mut self, index: usize, tenant: Option<TenantId>, edit: Edit, by: Actor) {
        if self.replicas[index].control.is_none() {
            return;
        }
        self.last_request += 1;
        let request = RequestId(self.last_request);
        let (name, action, target) = (&self.replicas[index].name, edit.action(), edit.target());
        self.trace.event(self.at, action, request.0, target.as_bytes());
        self.trace.tell(self.at, || format!("{by} asks {name}: {action} {target}"));
        self.requests.insert(request, action.to_owned());
        self.drive_replica(index, Some(control::Input::Edit { request, tenant, edit, by: by.into() }));
    }

    /// An edit is answered: what was granted is in the store.
    pub(super) fn answered(&mut self, index: usize, request: RequestId, result: Result<Answer, Refusal>) {
        let name = self.replicas[index].name.clone();
        let Some(action) = self.requests.remove(&request) else {
            return self.judge.accuse(
                self.at,
                "requests-are-answered-once",
                format!("{name} answers nobody"),
            );
        };
        let answer = match result {
            Ok(answer) => answer,
            Err(refusal) => {
                return self.trace.tell(self.at, || format!("{name} refuses {action}: {refusal}"));
            }
        };
        if !self.is_stored(&answer) {
            let detail = format!("{name} granted {action}, and the store does not have it: {answer:?}");
            self.judge.accuse(self.at, "acknowledged-edits-are-stored", detail);
        }
        match answer {
            Answer::TenantCreated(tenant) => {
                let known = self.tokens.tenants.contains(&tenant.id);
                if !known && self.tokens.tenants.len() < self.scenario.tenants {
                    self.tokens.tenants.push(tenant.id);
                }
            }
            Answer::TokenCreated { token, secret } => {
                self.judge.keep_secret(*secret.secret.expose_seed());
                let tenant =
                    self.store.tenants().find(|(_, s)| s.rows.tokens.iter().any(|t| t.id == token.id));
                if let Some((tenant, _)) = tenant {
                    // One of the faults may be answered only now, and end too soon.
                    if token.uses_max == HELP_USES {
                        self.tokens.last.insert(*tenant, copied(&secret));
                    }
                    self.tokens.shown.push((*tenant, *secret));
                }
            }
            _ => {}
        }
    }

    fn is_stored(&self, answer: &Answer) -> bool {
        let mut all = self.store.tenants().map(|(_, stored)| stored);
        match answer {
            Answer::TenantCreated(tenant) => self.store.tenant(tenant.id).is_some(),
            Answer::TokenCreated { token, .. } => all.any(|s| s.rows.tokens.iter().any(|t| t.id == token.id)),
            Answer::TokenRevoked(token) => {
                all.any(|s| s.rows.tokens.iter().any(|t| t.id == token.id && t.revoked_at.is_some()))
            }
            Answer::Device(device) => all.any(|stored| stored.knows_device(device)),
            Answer::RecordAdded(record) => all.any(|stored| stored.knows_record(record)),
            Answer::Tenant(tenant) => all.any(|stored| stored.knows_tenant(tenant)),
            Answer::SshRole(role) => all.any(|stored| stored.knows_role(role)),
            Answer::TenantDeleted
            | Answer::Enrolled { .. }
            | Answer::RecordRemoved(_)
            | Answer::HubSet
            | Answer::AuthoritiesFounded
            | Answer::Authority(_)
            | Answer::CertificatesRevoked(_)
            | Answer::RevocationsPruned(_)
            | Answer::SshRoleGone
            | Answer::AdministratorsSet
            | Answer::HostKeySet
            | Answer::CertificatesGivenBack(_)
            | Answer::PersonForgotten(_)
            | Answer::Renewed => true,
        }
    }

    /// The next thing that a person does to a machine.
    pub(super) fn person(&mut self) {
        if !matches!(self.phase, Phase::Chaos | Phase::Calm) {
            return;
        }
        let count = self.machines.len() as u64;
        let pause = self.dice.people.millis(0, (60_000 / count).clamp(100, 4_000));
        self.soon(pause, Happening::Person);
        let index = 1 + self.dice.people.below(self.scenario.devices);
        let revoked = self.machines[index].accepted.values().any(|(_, s)| *s == Standing::Revoked);
        if self.phase == Phase::Calm {
            return;
        }
        if revoked && self.dice.people.chance(100) {
            self.set_up_anew(index);
        } else if self.machines[index].wish == Wish::None {
            self.give_token(index);
        } else if self.dice.people.chance(20) {
            let input = if self.dice.people.chance(500) { Input::Up } else { Input::Down };
            self.drive(index, Some(input));
        }
    }

    /// `warren up --token`.
    fn give_token(&mut self, index: usize) {
        let Some(tenant) = self.tokens.tenant(self.machines[index].tenant) else { return };
        let newest = self.tokens.shown.iter().rev().filter(|(of, _)| *of == tenant);
        let newest: Vec<&OnboardingToken> = newest.take(4).map(|(_, token)| token).collect();
        let one = self.tokens.last.get(&tenant).or_else(|| self.dice.people.pick(&newest).copied());
        let Some(token) = one.map(copied) else { return };
        let machine = &mut self.machines[index];
        if machine.node.is_none() {
            return;
        }
        machine.wish = Wish::Pending;
        let name = machine.name.clone();
        self.trace.event(self.at, "join", index as u64, token.id.as_bytes());
        self.trace.tell(self.at, || format!("{name} is given token {}", token.id));
        let hostname = HOSTNAMES[self.dice.people.below(HOSTNAMES.len())];
        let hostname = if self.dice.people.chance(500) { &name } else { hostname };
        let (hostname, os) = (Remark::new(hostname), Remark::new("linux"));
        self.drive(index, Some(Input::Join { token, hostname, os }));
    }

    /// `warren logout` and a new beginning.
    fn set_up_anew(&mut self, index: usize) {
        let life = self.machines[index].life;
        let name = self.machines[index].name.clone();
        self.trace.tell(self.at, || format!("{name} is set up anew, with new keys"));
        self.stop_machine(index, false);
        let machine = &mut self.machines[index];
        machine.renew(&mut self.dice.keys);
        machine.host.reboot();
        machine.secrets().into_iter().for_each(|key| self.judge.keep_secret(key));
        self.seen_keys.push(machine.wireguard.public());
        let who = super::Who::Machine(index);
        self.soon(Duration::from_secs(1), Happening::Start { who, life });
    }

    /// Whoever wants to join gets a token that works.
    pub(super) fn help_to_join(&mut self) {
        for index in 1..=self.scenario.devices {
            if self.machines[index].wish != Wish::None {
                continue;
            }
            let Some(tenant) = self.tokens.tenant(self.machines[index].tenant) else { continue };
            if self.is_revoked(index) {
                self.set_up_anew(index);
            } else if self.tokens.last.contains_key(&tenant) {
                self.give_token(index);
            } else if self.tokens.asked.get(&tenant).is_none_or(|asked| self.at.since(*asked) > ASK_AGAIN) {
                self.tokens.asked.insert(tenant, self.at);
                let (ttl, uses, tags) = (Duration::from_secs(24 * 3600), HELP_USES, BTreeSet::new());
                self.request(
                    Some(tenant),
                    Edit::CreateToken { ttl, uses, tags, needs_approval: false, stay: Stay::default() },
                    alice(),
                );
            }
        }
        if self.tokens.tenants.len() < self.scenario.tenants {
            self.found();
        }
    }

    /// Nothing is to end by itself in the quiet hour, and no quota keeps anybody out. Every other tenant that was closed
    /// stays so, and who has expired stays so.
    pub(super) fn tidy_up(&mut self) {
        let mut wishes = Vec::new();
        for (index, (id, stored)) in self.store.tenants().enumerate() {
            let soon = self.tokens.tidied.get(id).is_some_and(|at| self.at.since(*at) <= ASK_AGAIN);
            let tenant = &stored.rows.tenant;
            if soon || tenant.deleted_at.is_some() {
                continue;
            }
            let before = wishes.len();
            if tenant.closing.is_some() && (self.scenario.seed + index as u64).is_multiple_of(2) {
                wishes.push((*id, Edit::RestoreTenant));
            }
            if tenant.quota.is_some() {
                wishes.push((*id, Edit::SetQuota(None)));
            }
            let expiring = stored.rows.devices.iter().filter(|device| {
                device.is_live() && device.standing != Standing::Expired && device.expires_at.is_some()
            });
            if tenant.closing.is_none() {
                let never = |device: &control::Device| Edit::SetExpiry { device: device.id, after: None };
                wishes.extend(expiring.map(|device| (*id, never(device))));
            }
            if wishes.len() > before {
                self.tokens.tidied.insert(*id, self.at);
            }
        }
        for (tenant, edit) in wishes {
            self.request(Some(tenant), edit, alice());
        }
    }

    /// Whether its identity will never be let in again.
    fn is_revoked(&self, index: usize) -> bool {
        let identity = self.machines[index].identity.public();
        let mut devices = self.store.tenants().flat_map(|(_, stored)| &stored.rows.devices);
        devices.any(|device| device.identity() == Some(&identity) && !device.is_live())
    }

    /// Whether the tenant that a machine wants to join is there.
    pub(super) fn may_join(&self, index: usize) -> bool {
        let tenant = self.tokens.tenant(self.machines[index].tenant).and_then(|id| self.store.tenant(id));
        tenant.is_some_and(|stored| {
            stored.rows.tenant.deleted_at.is_none() && stored.rows.tenant.closing.is_none()
        })
    }
}

/// Who administers.
pub(super) fn alice() -> Actor {
    Actor::User(Remark::new("alice"))
}

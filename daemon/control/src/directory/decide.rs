//! What an edit makes true, or why it is refused. Pure: changes nothing, asks for no time and no randomness.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::key::TokenSecret;
use model::limits::{TOKEN_TTL_MAX, TOKEN_USES_MAX};
use model::token::OnboardingToken;
use model::{Abilities, Code, DeviceId, Endpoint, Label, PublicKey, Refusal, Standing, Timestamp, TokenId};

use super::{Directory, Ports, naming, refuse};
use crate::dice::Dice;
use crate::edit::{Answer, Edit};
use crate::enrolment::VerifiedEnrol;
use crate::limits::{DEVICE_LIFE_MAX, IDLE_LEAST, IDLE_MOST, TAGS_MAX, TOKENS_MAX};
use crate::rows::{Actor, Device, Fact, Hub, Kind, Stay, Token};
use crate::ssh::NewKey;

/// What a decision rests on besides the directory.
pub struct Grounds<'a> {
    /// The server's wall clock: it alone says what has expired.
    pub now: Timestamp,
    /// Who wants it.
    pub actor: &'a Actor,
    /// For ids and secrets.
    pub dice: &'a mut Dice,
    /// What others have, where the edit asks for a port.
    pub ports: Ports,
}

/// An edit that is granted, as soon as its facts are in the store.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What becomes true. Empty if it is true already.
    pub facts: Vec<Fact>,
    /// What is answered then.
    pub answer: Answer,
    /// The token that a new device uses up.
    pub redeems: Option<TokenId>,
    /// Keys that SSH authorities get.
    pub new_keys: Vec<NewKey>,
}

impl Decision {
    pub(super) const fn new(facts: Vec<Fact>, answer: Answer) -> Self {
        Self { facts, answer, redeems: None, new_keys: Vec::new() }
    }
}

impl Directory {
    /// What the edit makes true here, or why not.
    pub fn decide(&self, edit: &Edit, grounds: &mut Grounds<'_>) -> Result<Decision, Refusal> {
        if self.tenant.deleted_at.is_some() {
            return refuse(Code::TenantNotFound, format!("tenant {} is deleted", self.tenant.name));
        }
        if self.is_closed() && !edit.fits_closed() {
            return refuse(Code::TenantClosed, format!("tenant {} is closed", self.tenant.name));
        }
        match edit {
            Edit::CreateTenant { .. } => refuse(Code::BadRequest, "a tenant is not created within another"),
            Edit::DeleteTenant => self.delete_tenant(grounds),
            Edit::SetQuota(quota) => Ok(self.set_quota(*quota)),
            Edit::SetInterface(wish) => self.set_interface(*wish, grounds),
            Edit::CloseTenant { grace } => self.close(*grace, grounds),
            Edit::RestoreTenant => Ok(self.restore()),
            Edit::EraseTenant => self.erase(grounds),
            Edit::CreateToken { ttl, uses, tags, needs_approval, stay } => {
                let token = self.new_token(*ttl, *uses, tags, *stay, grounds)?;
                Ok(token_created(Token { needs_approval: *needs_approval, ..token.0 }, token.1))
            }
            Edit::RevokeToken(id) => self.revoke_token(*id, grounds),
            Edit::Enrol(enrol) => self.enrol(enrol, grounds),
            Edit::AddPlain { name, wireguard, tags } => self.add_plain(name, *wireguard, tags, grounds),
            Edit::ApproveDevice(id) => self.approve(*id, grounds),
            Edit::RenameDevice { device, name } => self.rename(*device, name),
            Edit::TagDevice { device, tags } => self.tag(*device, tags),
            Edit::LabelDevice { device, labels } => self.label(*device, labels),
            Edit::SetExpiry { device, after } => self.set_expiry(*device, *after, grounds),
            Edit::ExpireDevice(id) => self.expire(*id, grounds),
            Edit::RemoveIdle(id) => self.remove_idle(*id, grounds),
            Edit::SetAbilities { device, abilities } => self.set_abilities(*device, *abilities),
            Edit::SetKey { device, key } => self.set_key(*device, key.key()),
            Edit::RevokeDevice(id) => self.revoke(*id, grounds),
            Edit::AddRecord { name, data, ttl } => self.add_record(name, data, *ttl),
            Edit::RemoveRecord { name, data } => self.remove_record(name, data),
            Edit::SetHub { key, endpoint } => self.set_hub(*key, endpoint),
            Edit::SetSshRole(role) => self.set_ssh_role(role),
            Edit::DeleteSshRole(name) => self.delete_ssh_role(name),
            Edit::SetAdministrators(names) => Ok(self.set_administrators(names)),
            Edit::SetHostKey { device, key } => Ok(self.set_host_key(*device, key)),
            Edit::FoundAuthorities => Ok(self.found_authorities(grounds)),
            Edit::RotateAuthority(kind) => self.rotate_authority(*kind, grounds),
            Edit::AdvanceAuthority { kind, except, judged, ground } => {
                self.advance_authority(*kind, except, (*judged, ground), grounds.now)
            }
            Edit::RollBackAuthority(kind) => self.roll_back_authority(*kind, grounds.now),
            Edit::ReplaceAuthority(kind) => self.replace_authority(*kind, grounds),
            Edit::RevokeCertificates { kind, what, until } => {
                self.revoke_certificates(*kind, what, *until, grounds)
            }
            Edit::WithdrawCertificates { kind, of, until } => {
                Ok(self.withdraw_certificates(*kind, of, *until, grounds.now))
            }
            Edit::GiveBackCertificates { what, there } => self.give_back_certificates(what, there),
            Edit::ForgetPerson(name) => Ok(self.forget_person(name)),
            Edit::PruneRevocations => Ok(self.prune_revocations(grounds.now)),
            Edit::Renew => Ok(Decision::new(vec![Fact::Tenant(self.tenant.clone())], Answer::Renewed)),
        }
    }

    fn delete_tenant(&self, grounds: &Grounds<'_>) -> Result<Decision, Refusal> {
        let live = self.live_count();
        if live > 0 {
            return refuse(Code::TenantNotEmpty, format!("tenant {} has {live} devices", self.tenant.name));
        }
        Ok(self.ended(grounds.now))
    }

    fn new_token(
        &self,
        ttl: Duration,
        uses: u32,
        tags: &BTreeSet<Label>,
        stay: Stay,
        grounds: &mut Grounds<'_>,
    ) -> Result<(Token, OnboardingToken), Refusal> {
        if !(Duration::from_secs(1)..=TOKEN_TTL_MAX).contains(&ttl) {
            return refuse(Code::BadRequest, "ttl is between a second and 366 days");
        }
        if !(1..=TOKEN_USES_MAX).contains(&uses) {
            return refuse(Code::BadRequest, format!("uses is between 1 and {TOKEN_USES_MAX}"));
        }
        check_tags(tags)?;
        check_stay(stay)?;
        if self.tokens.len() >= TOKENS_MAX {
            return refuse(Code::QuotaReached, format!("the tenant has {TOKENS_MAX} tokens"));
        }
        let secret = OnboardingToken {
            id: TokenId::new(grounds.now, grounds.dice.bytes()),
            secret: TokenSecret::from_seed(grounds.dice.bytes()),
            anchor: self.tenant.anchor.fingerprint(),
        };
        let token = Token {
            id: secret.id,
            key: secret.key(),
            created_at: grounds.now,
            created_by: grounds.actor.clone(),
            expires_at: grounds.now + ttl,
            uses_max: uses,
            uses: 0,
            needs_approval: false,
            tags: tags.clone(),
            stay,
            revoked_at: None,
        };
        Ok((token, secret))
    }

    fn revoke_token(&self, id: TokenId, grounds: &Grounds<'_>) -> Result<Decision, Refusal> {
        let Some(token) = self.token(id) else {
            return refuse(Code::TokenNotFound, format!("there is no token {id}"));
        };
        let mut token = token.clone();
        let was_revoked = token.revoked_at.is_some();
        token.revoked_at = token.revoked_at.or(Some(grounds.now));
        let facts = if was_revoked { Vec::new() } else { vec![Fact::Token(token.clone())] };
        Ok(Decision::new(facts, Answer::TokenRevoked(token)))
    }

    fn enrol(&self, enrol: &VerifiedEnrol, grounds: &mut Grounds<'_>) -> Result<Decision, Refusal> {
        let claim = enrol.claim();
        if let Some(known) = self.device_identified(&claim.identity) {
            return self.enrol_again(known, claim.wireguard, enrol.abilities());
        }
        let token = self.usable_token(claim.token, grounds.now)?;
        self.check_quota()?;
        self.check_key_free(&claim.wireguard)?;
        let number = self.free_number(grounds.now)?;
        let wish = naming::wish(claim.hostname.as_str(), &claim.identity);
        let approved = !token.needs_approval;
        let device = Device {
            id: DeviceId::new(grounds.now, grounds.dice.bytes()),
            name: naming::free(&wish, |label| self.is_name_taken(label)),
            kind: Kind::Agent { identity: claim.identity, token: token.id },
            wireguard: claim.wireguard,
            number,
            standing: if approved { Standing::Active } else { Standing::Pending },
            tags: token.tags.clone(),
            labels: BTreeMap::new(),
            expires_at: token.stay.expires_after.map(|after| grounds.now + after),
            idle_max: token.stay.idle_max,
            os: claim.os.clone(),
            abilities: enrol.abilities(),
            enrolled_at: grounds.now,
            approved_at: approved.then_some(grounds.now),
            revoked_at: None,
        };
        let token = Token { uses: token.uses + 1, ..token.clone() };
        let answer = Answer::Enrolled { device: device.id, standing: device.standing };
        let redeems = Some(token.id);
        Ok(Decision {
            facts: vec![Fact::Token(token), Fact::Device(device)],
            answer,
            redeems,
            new_keys: Vec::new(),
        })
    }

    /// The identity is known: nothing is reset and no token is used. Only a WireGuard key that it lost and made anew
    /// is taken over, as both keys were proven.
    fn enrol_again(
        &self,
        known: &Device,
        wireguard: PublicKey,
        abilities: Abilities,
    ) -> Result<Decision, Refusal> {
        if !known.is_live() {
            return refuse(Code::DeviceRevoked, format!("device {} is revoked", known.id));
        }
        if known.standing == Standing::Expired {
            return refuse(Code::DeviceExpired, format!("device {} has expired", known.name));
        }
        let answer = Answer::Enrolled { device: known.id, standing: known.standing };
        if known.wireguard == wireguard && known.abilities == abilities {
            return Ok(Decision::new(Vec::new(), answer));
        }
        if known.wireguard != wireguard {
            self.check_key_free(&wireguard)?;
        }
        Ok(Decision::new(vec![Fact::Device(Device { wireguard, abilities, ..known.clone() })], answer))
    }

    pub(super) fn free_number(&self, now: Timestamp) -> Result<u32, Refusal> {
        let exhausted = || format!("block {} has no free address", self.tenant.block.v4());
        self.numbers.free(now).ok_or_else(|| Refusal::new(Code::BlockExhausted, exhausted()))
    }

    fn usable_token(&self, id: TokenId, now: Timestamp) -> Result<&Token, Refusal> {
        let Some(token) = self.token(id) else {
            return refuse(Code::TokenUnknown, format!("token {id} lets nobody in"));
        };
        if token.revoked_at.is_some() {
            return refuse(Code::TokenRevoked, format!("token {id} is revoked"));
        }
        if token.expires_at <= now {
            return refuse(Code::TokenExpired, format!("token {id} expired at {}", token.expires_at));
        }
        if token.uses >= token.uses_max {
            return refuse(Code::TokenUsed, format!("token {id} was used {} times", token.uses));
        }
        Ok(token)
    }

    pub(super) fn check_key_free(&self, key: &PublicKey) -> Result<(), Refusal> {
        let of_hub = self
            .hub
            .as_ref()
            .is_some_and(|hub| [Some(hub.key), hub.next, hub.retiring].contains(&Some(*key)));
        if of_hub || self.by_wireguard.contains_key(key) {
            return refuse(Code::KeyTaken, format!("WireGuard key {key} belongs to another node"));
        }
        Ok(())
    }

    /// The key before is retiring; an endpoint alone is no new statement.
    fn set_hub(&self, key: PublicKey, endpoint: &Endpoint) -> Result<Decision, Refusal> {
        if self.by_wireguard.contains_key(&key) {
            return refuse(Code::KeyTaken, format!("WireGuard key {key} belongs to a device"));
        }
        let endpoint = endpoint.clone();
        let hub = match &self.hub {
            Some(hub) if hub.key == key && hub.endpoint == endpoint => {
                return Ok(Decision::new(Vec::new(), Answer::HubSet));
            }
            Some(hub) if hub.key == key => Hub { endpoint, ..hub.clone() },
            Some(hub) => Hub {
                key,
                serial: hub.serial + 1,
                endpoint,
                next: hub.next.filter(|next| *next != key),
                retiring: Some(hub.key),
            },
            None => Hub { key, serial: 1, endpoint, next: None, retiring: None },
        };
        Ok(Decision::new(vec![Fact::Hub(hub)], Answer::HubSet))
    }

    /// Whether a device or a custom record has the name.
    pub(super) fn is_name_taken(&self, label: &Label) -> bool {
        self.by_name.contains_key(label)
            || self.origin.child(label).map_or(true, |name| self.records.contains_key(&name))
    }
}

fn token_created(token: Token, secret: OnboardingToken) -> Decision {
    let facts = vec![Fact::Token(token.clone())];
    Decision::new(facts, Answer::TokenCreated { token, secret: Box::new(secret) })
}

fn check_stay(stay: Stay) -> Result<(), Refusal> {
    let least = Duration::from_secs(1);
    if stay.expires_after.is_some_and(|after| !(least..=DEVICE_LIFE_MAX).contains(&after)) {
        return refuse(Code::BadRequest, "devices expire between a second and ten years after they enrolled");
    }
    if stay.idle_max.is_some_and(|idle| !(IDLE_LEAST..=IDLE_MOST).contains(&idle)) {
        return refuse(Code::BadRequest, "ephemeral devices may be silent for ten seconds to 31 days");
    }
    Ok(())
}

pub(super) fn check_tags(tags: &BTreeSet<Label>) -> Result<(), Refusal> {
    if tags.len() > TAGS_MAX {
        return refuse(Code::QuotaReached, format!("{} tags are more than {TAGS_MAX}", tags.len()));
    }
    Ok(())
}

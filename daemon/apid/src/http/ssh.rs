//! `/api/v1/ssh`: certificates of people, and the authorities.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use ca::due::Notice;
use ca::profile::{self, Person};
use ca::{Ground, KeyGeneration, Missing, Phase, Subject, Verifier, limits};
use control::{By, Control, Directory, Edit, InstalledRow};
use model::api::Page;
use model::api::ssh::{
    Advance, Authority, AuthorityKey, IssuedCertificate, MissingDevice, NewCertificate, Rotate,
};
use model::vouch::{SignedVouch, key_digest};
use model::{
    CaKey, CaKind, CertificateId, Code, DeviceId, Refusal, SshIdentity, Standing, TenantId, Timestamp,
};
use store::{CertificateRow, CertificatesOf};

use super::App;
use super::auth::Caller;
use super::devices::{find, takes_part};
use super::in_path::InPath;
use super::problem::{Refused, bad_form, unavailable};
use super::tenants::{MeantQuery, Target, read_query, target};
use crate::clock::wall;
use crate::limiters::{Asker, Limit};
use crate::signing::{Denied, Holder, SigningKey, Wish};

/// A device's word is good for so long, either way: clocks are ten minutes off. It lets nobody but the person who is
/// logged in have a certificate, and that one for the same key on the same device.
const VOUCH_LIFE: Duration = Duration::from_secs(15 * 60);

/// A rotation names so many whose certificates it waits for, and counts the others.
const HOLDERS_NAMED_MAX: usize = 5;

/// A person's certificate: for whoever is logged in, on the device that vouches for the key.
pub async fn issue(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    wish: Result<Json<NewCertificate>, JsonRejection>,
) -> Result<(StatusCode, Json<IssuedCertificate>), Refused> {
    let query = read_query(query)?;
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    let target = target(&app, query, caller.clone()).await;
    let denied = Denied {
        holder: caller.user.as_ref().map(|user| Holder::Person(user.id)),
        tenant: target.as_ref().ok().map(|target| target.tenant),
        target: caller.user.as_ref().map(|user| user.name.to_string()).unwrap_or_default(),
        by: caller.by.clone(),
    };
    let issued = match target {
        Ok(target) => issued(&app, caller, target.tenant, wish).await,
        Err(refused) => Err(refused),
    };
    match issued {
        Ok(issued) => Ok((StatusCode::CREATED, Json(issued))),
        Err(refused) => {
            app.signing.note_refusal(denied, &refused.refusal).await?;
            Err(refused.written())
        }
    }
}

async fn issued(
    app: &App,
    caller: Caller,
    tenant: TenantId,
    wish: NewCertificate,
) -> Result<IssuedCertificate, Refused> {
    let Some(user) = caller.user else {
        let detail = "a local administrator of the server is no person that hosts know";
        return Err(Refusal::new(Code::PersonUnknown, detail).into());
    };
    // A certificate is the person, with all that the person may.
    if caller.token.is_some() && caller.role < user.role {
        let detail = format!("a token of a {} is not all that {} is", caller.role, user.name);
        return Err(Refusal::new(Code::SessionNeeded, detail).into());
    }
    let in_time = app.limiters.take(Limit::Signing, Asker::User(user.id));
    in_time.map_err(|after| Refused::later("too many certificates of one person", after))?;
    let subject: Subject = wish.public_key.parse()?;
    let (key, printed) = (subject.to_string(), wish.vouch);
    let identity = SshIdentity::Person(user.name.clone());
    let meant_identity = identity.clone();
    let found = app.desk.read(move |control| {
        let directory = control.directory(tenant).ok_or(Code::TenantNotFound)?;
        let device = vouched(directory, &printed, &key, wall())?;
        let addresses = directory.device(device).and_then(|row| directory.addresses(row));
        let addresses = addresses.ok_or(Code::Internal)?;
        let tenant = directory.tenant().name.clone();
        let id = CertificateId::Identity(meant_identity.clone(), tenant.clone());
        if let Some(revoked) = directory.revocation_of(CaKind::User, &id) {
            let until = revoked.listed_until();
            let detail = format!("hosts refuse every certificate of {id} until {until}, a new one too");
            return Err(Refusal::new(Code::HolderRevoked, detail));
        }
        let roles = directory.ssh_roles_of(&meant_identity);
        Ok::<_, Refusal>((SigningKey::of(directory, CaKind::User)?, tenant, device, addresses, roles))
    });
    let (key, tenant, device, addresses, roles) = found.await??;
    // Without a role a certificate opens nothing yet, and a role that comes finds it.
    let (life_max, permits) = roles.unwrap_or((limits::ROLE_LIFE_DEFAULT, BTreeSet::new()));
    let person = Person {
        identity: identity.clone(),
        device: addresses,
        life: wish.life_seconds.map(Duration::from_secs),
        life_max,
        permits,
    };
    let signer = key.public();
    let wish = Wish { key, tenant, subject, user: Some(user.id), device, by: caller.by };
    let issued = app.signing.issue(wish, |basis| profile::user(basis, person, wall())).await?;
    Ok(IssuedCertificate {
        certificate: issued.certificate,
        serial: issued.row.serial,
        principal: identity.to_string(),
        valid_until: issued.row.valid_until,
        signer,
    })
}

/// The device that vouches for a key, if it is one of this tenant that may take part, and said so just now.
fn vouched(
    directory: &Directory,
    vouch: &SignedVouch,
    key: &str,
    now: Timestamp,
) -> Result<DeviceId, Refusal> {
    let unproven = |detail: &str| Refusal::new(Code::DeviceUnproven, detail);
    let (_, id) = vouch.claimed().ok_or_else(|| unproven("the device's word cannot be read"))?;
    let device =
        directory.device(id).ok_or_else(|| unproven("no device of the tenant vouches for the key"))?;
    let identity = device.identity().ok_or_else(|| unproven("a plain peer proves nothing"))?;
    let said = vouch.verify(identity).map_err(|_| unproven("another identity signed the device's word"))?;
    if said.tenant != directory.tenant().id || said.key != key_digest(key) {
        return Err(unproven("the device vouches for another key"));
    }
    if said.at + VOUCH_LIFE < now || now + VOUCH_LIFE < said.at {
        return Err(unproven("the device's word is old, or its clock is wrong"));
    }
    takes_part(directory.standing(device))?;
    Ok(id)
}

/// Both authorities.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
) -> Result<Json<Page<Authority>>, Refused> {
    let Target { tenant, .. } = target(&app, read_query(query)?, caller).await?;
    let mut items = Vec::new();
    for kind in CaKind::ALL {
        items.extend(authority(&app, tenant, kind).await?);
    }
    Ok(Json(Page::whole(items)))
}

/// A rotation begins.
pub async fn rotate(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(kind): InPath<CaKind>,
    query: MeantQuery,
    form: Result<Option<Json<Rotate>>, JsonRejection>,
) -> Result<Json<Authority>, Refused> {
    let form = form.map_err(|rejection| bad_form(&rejection))?.map(|Json(form)| form);
    let edit = match form.unwrap_or_default().emergency {
        true => Edit::ReplaceAuthority(kind),
        false => Edit::RotateAuthority(kind),
    };
    stepped(&app, caller, query, kind, edit).await
}

/// The former key signs again.
pub async fn roll_back(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(kind): InPath<CaKind>,
    query: MeantQuery,
) -> Result<Json<Authority>, Refused> {
    stepped(&app, caller, query, kind, Edit::RollBackAuthority(kind)).await
}

/// A rotation goes on, if nobody is locked out by it.
pub async fn advance(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(kind): InPath<CaKind>,
    query: MeantQuery,
    form: Result<Json<Advance>, JsonRejection>,
) -> Result<Json<Authority>, Refused> {
    let query = read_query(query)?;
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    let Target { tenant, by, .. } = target(&app, query, caller).await?;
    let except = app.desk.read(move |control| {
        let directory = whole(control, tenant)?;
        let named = form.except.iter().map(|text| Ok(find(directory, text)?.id));
        named.collect::<Result<BTreeSet<DeviceId>, Refusal>>()
    });
    let except = except.await??;
    // Before anything else: what is looked at is of this step, or it is not taken.
    let judged = app.desk.read(move |control| {
        let directory = whole(control, tenant)?;
        let authority = directory.authority(kind).ok_or_else(|| unfounded(kind))?;
        Ok::<_, Refusal>(authority.rotation.step())
    });
    let judged = judged.await??;
    let ground = ground(&app, tenant, kind, &except).await?;
    step(&app, tenant, by, kind, Edit::AdvanceAuthority { kind, except, judged, ground }).await
}

async fn stepped(
    app: &App,
    caller: Caller,
    query: MeantQuery,
    kind: CaKind,
    edit: Edit,
) -> Result<Json<Authority>, Refused> {
    let Target { tenant, by, .. } = target(app, read_query(query)?, caller).await?;
    step(app, tenant, by, kind, edit).await
}

async fn step(
    app: &App,
    tenant: TenantId,
    by: By,
    kind: CaKind,
    edit: Edit,
) -> Result<Json<Authority>, Refused> {
    app.desk.edit(Some(tenant), edit, by).await?;
    // The key that signs now is opened, and one that was erased is forgotten.
    let key = app.desk.read(move |control| SigningKey::of(whole(control, tenant)?, kind));
    app.signing.open(&key.await??).await?;
    authority(app, tenant, kind).await?.map(Json).ok_or_else(|| Code::Internal.into())
}

fn unfounded(kind: CaKind) -> Refusal {
    Refusal::new(Code::StoreUnavailable, format!("the {kind} authority is not founded yet"))
}

fn whole(control: &Control, tenant: TenantId) -> Result<&Directory, Refusal> {
    control.directory(tenant).ok_or_else(|| Code::TenantNotFound.into())
}

/// What a rotation's gates look at: what active devices said that they have installed, and certificates that live.
///
/// A host that nobody waits for is not waited for by its certificate either. People's devices are no hosts: what they asked for
/// opens others.
async fn ground(
    app: &App,
    tenant: TenantId,
    kind: CaKind,
    except: &BTreeSet<DeviceId>,
) -> Result<Ground, Refusal> {
    let said = app.store.installed(tenant).await.map_err(|e| unavailable(&e))?;
    let mut exempt = except.clone();
    let devices = app.desk.read(move |control| {
        let directory = whole(control, tenant)?;
        exempt.extend(directory.authority(kind).into_iter().flat_map(|row| row.rotation.exempt.iter()));
        let active = directory.devices().filter(|d| d.standing == Standing::Active && !d.is_plain());
        let mut devices: BTreeMap<_, _> = active.map(|row| (row.id, Verifier::default())).collect();
        for row in said {
            if let Some(verifier) = devices.get_mut(&row.device) {
                *verifier = verifier_of(directory, kind, row);
            }
        }
        if kind == CaKind::User {
            exempt.clear();
        }
        Ok::<_, Refusal>((devices, exempt))
    });
    let (devices, exempt) = devices.await??;
    let until = app.store.certificates_until(tenant, kind, wall(), &exempt).await;
    Ok(Ground { devices, certificates_until: until.map_err(|e| unavailable(&e))? })
}

/// Hosts check people's certificates, and people's devices those of hosts.
fn verifier_of(directory: &Directory, kind: CaKind, row: InstalledRow) -> Verifier {
    let generation = |key: &CaKey| directory.key_generation(kind, key);
    let (keys, presents) = match kind {
        CaKind::User => (row.people, None),
        CaKind::Host => (Some(row.hosts), row.presents),
    };
    Verifier {
        trusts: keys.map(|keys| keys.iter().filter_map(generation).collect()),
        presents: presents.as_ref().and_then(generation),
        said_at: Some(row.said_at),
    }
}

/// An authority as it is now; `None` until it is founded.
async fn authority(app: &App, tenant: TenantId, kind: CaKind) -> Result<Option<Authority>, Refusal> {
    let ground = ground(app, tenant, kind, &BTreeSet::new()).await?;
    let of = CertificatesOf::Kind(kind);
    let living = app.store.living_certificates(tenant, of, wall()).await.map_err(|e| unavailable(&e))?;
    let life = app.site.ssh_ca_key_life;
    let form = app.desk.read(move |control| {
        let directory = whole(control, tenant)?;
        Ok::<_, Refusal>(form(directory, kind, &ground, &living, life))
    });
    form.await?
}

fn form(
    directory: &Directory,
    kind: CaKind,
    ground: &Ground,
    living: &[CertificateRow],
    life: Duration,
) -> Option<Authority> {
    let rotation = &directory.authority(kind)?.rotation;
    let signs = rotation.signs();
    let key = |key: &control::AuthorityKey| AuthorityKey {
        generation: key.generation.0,
        public_key: key.public,
        signs: key.generation == signs,
        created_at: key.created_at,
        due_at: key.created_at + life,
        is_due: key.generation == signs && Notice::of(key.created_at + life, wall()).is_some(),
    };
    let missing = rotation.missing(ground, wall());
    let trusted = rotation.trusted();
    let exempt = |row: &CertificateRow| kind == CaKind::Host && rotation.exempt.contains(&row.device);
    let text = |missing: &Missing| match missing {
        Missing::Certificates { key, .. } => {
            let of_key = living.iter().filter(|row| row.generation == *key && !exempt(row));
            let of_key = of_key.filter(|row| is_needed(ground, kind, row.device, *key));
            format!("{}{}", directory.missing_text(missing), holders(directory, of_key))
        }
        Missing::Trust { .. } | Missing::HostCertificate { .. } => directory.missing_text(missing),
    };
    Some(Authority {
        kind,
        state: match rotation.phase {
            Phase::Standby => "standby",
            Phase::Rollback => "rollback",
            Phase::Init | Phase::UpdateClients | Phase::UpdateServers => "in_progress",
        }
        .into(),
        phase: rotation.phase.to_string(),
        since: rotation.since,
        keys: directory.trusted_keys(kind).map(key).collect(),
        living: living.iter().filter(|row| trusted.contains(&row.generation)).count(),
        missing: missing.iter().map(text).collect(),
        missing_devices: missing.iter().filter_map(missing_device).collect(),
    })
}

fn missing_device(missing: &Missing) -> Option<MissingDevice> {
    match *missing {
        Missing::Trust { device, said_at, .. } | Missing::HostCertificate { device, said_at, .. } => {
            Some(MissingDevice { device, said_at })
        }
        Missing::Certificates { .. } => None,
    }
}

/// Whether somebody may still use what a device asked for of a key: a host shows one certificate, and those before are nobody's.
fn is_needed(ground: &Ground, kind: CaKind, device: DeviceId, key: KeyGeneration) -> bool {
    let shows = ground.devices.get(&device).and_then(|verifier| verifier.presents);
    kind == CaKind::User || shows.is_none_or(|shown| shown == key)
}

/// Whose certificates they are: people as hosts know them, hosts by their names.
fn holders<'a>(directory: &Directory, rows: impl Iterator<Item = &'a CertificateRow>) -> String {
    let name = |row: &CertificateRow| match &row.id {
        CertificateId::Identity(identity, _) => identity.to_string(),
        CertificateId::Device(device, _) => {
            directory.device(*device).map_or_else(|| device.to_string(), |device| device.name.to_string())
        }
    };
    let names: BTreeSet<String> = rows.map(name).collect();
    let more = names.len().saturating_sub(HOLDERS_NAMED_MAX);
    let named = names.into_iter().take(HOLDERS_NAMED_MAX).collect::<Vec<_>>().join(", ");
    match (named.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!(", of {named}"),
        (false, more) => format!(", of {named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_shows_the_next_key_is_not_waited_for_by_what_it_had() {
        let device = |n: u8| DeviceId::from_bytes([n; 16]);
        let shows = |key| Verifier { presents: Some(KeyGeneration(key)), ..Verifier::default() };
        let devices = [(device(1), shows(1)), (device(2), shows(2)), (device(3), Verifier::default())];
        let ground = Ground { devices: devices.into(), ..Ground::default() };
        let of_former = |kind, n| is_needed(&ground, kind, device(n), KeyGeneration(1));
        for (n, expect) in [(1, true), (2, false), (3, true), (4, true)] {
            assert_eq!(of_former(CaKind::Host, n), expect, "host {n}");
            assert!(of_former(CaKind::User, n), "a person's opens others");
        }
    }
}

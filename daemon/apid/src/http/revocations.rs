//! `/api/v1/ssh/revocations`: certificates that are taken back, and given back. What may be named, `revocable` says.

use std::fmt;
use std::str::FromStr;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use ca::limits;
use control::{Answer, By, Edit};
use model::api::Page;
use model::api::ssh::{GivenBack, NewRevocation, Revocation, RevocationList, Revocations, Unrevoke};
use model::{CaKind, Code, DeviceId, Refusal, Revoked, TenantId, Timestamp};
use store::CertificatesOf;

use super::auth::Caller;
use super::in_path::InPath;
use super::paging::{PageQuery, read_page};
use super::problem::{Refused, bad_form, unavailable};
use super::tenants::{MeantQuery, Target, meant, read_query, target};
use super::{App, revocable};
use crate::clock::wall;
use crate::sweep;
use crate::withdrawn::withdrawn;

/// Certificates are taken back.
pub async fn revoke(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    form: Result<Json<NewRevocation>, JsonRejection>,
) -> Result<Json<Revocations>, Refused> {
    let query = read_query(query)?;
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    let Target { tenant, by, name } = target(&app, query, caller).await?;
    if !form.unknown {
        revocable::check(&app, (tenant, &name), form.kind, &form.what).await?;
    }
    let certificates = revocable::living(&app, tenant, form.kind, &form.what).await?;
    let last_end = last_end(form.kind);
    // Of a person or a host whatever is given out is refused for as long as the line is listed.
    let is_id = form.what.iter().any(|what| matches!(what, Revoked::Id(_)));
    let until = if is_id { last_end + control::Revocation::LISTED_AFTER } else { last_end };
    let what = form.what.into_iter().collect();
    let edit = Edit::RevokeCertificates { kind: form.kind, what, until: last_end };
    match app.desk.edit(Some(tenant), edit, by).await? {
        Answer::CertificatesRevoked(revoked) => Ok(Json(Revocations { revoked, certificates, until })),
        _ => Err(Code::Internal.into()),
    }
}

/// What is revoked of both authorities, and by whom.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    page: PageQuery,
) -> Result<Json<Page<Revocation>>, Refused> {
    let (query, page) = (read_query(query)?, read_page(page)?);
    let items = app.desk.read(move |control| {
        let directory = meant(control, &query, &caller)?;
        page.of(directory.revocations(), |row| Line(row.kind, row.what.clone()), |row| Ok(form(row)))
    });
    Ok(Json(items.await??))
}

/// What an administrator took back is good again, and people whom the server revoked by id and who are there.
pub async fn give_back(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    form: Result<Json<Unrevoke>, JsonRejection>,
) -> Result<Json<GivenBack>, Refused> {
    let query = read_query(query)?;
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    let Target { tenant, by, .. } = target(&app, query, caller).await?;
    let there = revocable::there(&app, tenant, &form.what).await?;
    let edit = Edit::GiveBackCertificates { what: form.what.into_iter().collect(), there };
    let answer = app.desk.edit(Some(tenant), edit, by).await?;
    // Of a person who is revoked no more, certificates of devices that are gone stay so.
    sweep::now(&app.desk, &app.store).await;
    match answer {
        Answer::CertificatesGivenBack(given_back) => Ok(Json(GivenBack { given_back })),
        _ => Err(Code::Internal.into()),
    }
}

/// What is revoked, as sshd reads it.
pub async fn as_sshd_reads_it(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(kind): InPath<CaKind>,
    query: MeantQuery,
) -> Result<Json<RevocationList>, Refused> {
    let query = read_query(query)?;
    let list = app.desk.read(move |control| {
        let directory = meant(control, &query, &caller)?;
        let entries = directory.revocations().filter(|row| row.kind == kind).count();
        Ok::<_, Refusal>((directory.revocation_list(kind), entries))
    });
    let (list, entries) = list.await??;
    Ok(Json(RevocationList::new(kind, list.version, entries, &list.to_bytes(wall()))))
}

/// Takes back every certificate that a device asked for: it was removed.
pub async fn revoke_of_device(app: &App, tenant: TenantId, device: DeviceId, by: &By) -> Result<(), Refused> {
    let living = app.store.living_certificates(tenant, CertificatesOf::Device(device), wall()).await;
    let living = living.map_err(|e| unavailable(&e))?;
    for kind in CaKind::ALL {
        // The device is gone for good; its people are not.
        let of_kind = living.iter().filter(|row| row.kind == kind).map(|row| (row, kind == CaKind::Host));
        let Some((of, until)) = withdrawn(of_kind) else { continue };
        let edit = Edit::WithdrawCertificates { kind, of, until };
        app.desk.edit(Some(tenant), edit, by.clone()).await?;
    }
    Ok(())
}

/// No certificate that exists now lives longer.
fn last_end(kind: CaKind) -> Timestamp {
    wall()
        + match kind {
            CaKind::User => limits::USER_LIFE_MAX,
            CaKind::Host => limits::HOST_LIFE,
        }
}

fn form(row: &control::Revocation) -> Revocation {
    Revocation {
        kind: row.kind,
        what: row.what.clone(),
        since: row.revoked_at,
        until: row.listed_until(),
        by: row.by.as_ref().map(ToString::to_string),
    }
}

/// One line of the list, as a cursor names it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Line(CaKind, Revoked);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

impl FromStr for Line {
    type Err = model::ssh::BadSsh;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, what) = text.split_once(' ').ok_or(model::ssh::BadSsh::Revoked)?;
        Ok(Self(kind.parse()?, what.parse()?))
    }
}

//! `/api/v1/tenants`, and which tenant a request means.

use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use control::limits::{GRACE_DEFAULT, QUOTA_MAX};
use control::{Answer, By, Control, Directory, Edit, HubInterface};
use model::api::Page;
use model::api::admin::{NewTenant, Tenant, TenantChange};
use model::{Code, Label, Refusal, TenantId};
use serde::Deserialize;

use super::App;
use super::auth::Caller;
use super::in_path::InPath;
use super::paging::{PageQuery, read_page};
use super::problem::{Refused, bad_form, bad_query};

/// `?tenant=NAME`.
#[derive(Debug, Clone, Deserialize)]
pub struct Meant {
    tenant: Option<Label>,
}

/// A query that may name a tenant.
pub type MeantQuery = Result<Query<Meant>, QueryRejection>;

/// The directory that a request means: the one that it names, or the only one that its caller may see. A tenant that the
/// caller may not see is not found.
pub fn meant<'a>(control: &'a Control, meant: &Meant, caller: &Caller) -> Result<&'a Directory, Refusal> {
    let mut visible = visible(control, caller);
    match &meant.tenant {
        Some(name) => visible
            .find(|d| d.tenant().name == *name)
            .ok_or_else(|| withheld(control, caller, Some(name)).unwrap_or_else(|| absent(name))),
        None => match (visible.next(), visible.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(withheld(control, caller, None)
                .unwrap_or_else(|| Refusal::new(Code::TenantNotFound, "there is no tenant"))),
            (Some(_), Some(_)) => {
                Err(Refusal::new(Code::BadRequest, "there are several tenants: name one with --tenant"))
            }
        },
    }
}

/// What a query says, or that it cannot be read.
pub fn read_query(query: MeantQuery) -> Result<Meant, Refused> {
    query.map(|Query(meant)| meant).map_err(|rejection| bad_query(&rejection))
}

/// What a change is made to, and who makes it.
pub struct Target {
    /// The tenant meant.
    pub tenant: TenantId,
    /// Its name.
    pub name: Label,
    /// Whoever asked.
    pub by: By,
}

/// The tenant that a change is meant for.
pub async fn target(app: &App, query: Meant, caller: Caller) -> Result<Target, Refused> {
    let found = app.desk.read(move |control| {
        let row = meant(control, &query, &caller)?.tenant();
        Ok::<_, Refusal>(Target { tenant: row.id, name: row.name.clone(), by: caller.by })
    });
    Ok(found.await??)
}

/// The tenant of a name, if the caller sees it.
pub async fn tenant_named(app: &App, caller: &Caller, name: Label) -> Result<TenantId, Refusal> {
    Ok(target(app, Meant { tenant: Some(name) }, caller.clone())
        .await
        .map_err(|refused| refused.refusal)?
        .tenant)
}

fn visible<'a>(control: &'a Control, caller: &Caller) -> impl Iterator<Item = &'a Directory> {
    let only = caller.tenant;
    control
        .directories()
        .filter(move |d| d.tenant().deleted_at.is_none() && only.is_none_or(|only| only == d.tenant().id))
}

/// Why a tenant is not served that the caller would see: the one of this name, or any.
fn withheld(control: &Control, caller: &Caller, name: Option<&Label>) -> Option<Refusal> {
    let is_meant = |tenant: &control::Tenant| {
        let sees = caller.tenant.is_none_or(|only| only == tenant.id);
        sees && tenant.deleted_at.is_none() && name.is_none_or(|name| *name == tenant.name)
    };
    let mut found = control.withheld().filter(|(tenant, _)| is_meant(tenant));
    found.next().map(|(_, why)| why.refusal())
}

fn absent(name: &Label) -> Refusal {
    Refusal::new(Code::TenantNotFound, format!("there is no tenant {name}"))
}

fn form(directory: &Directory) -> Tenant {
    let tenant = directory.tenant();
    Tenant {
        id: tenant.id,
        name: tenant.name.clone(),
        zone: directory.origin().clone(),
        block_v4: tenant.block.v4(),
        block_v6: tenant.block.v6(),
        anchor: tenant.anchor.fingerprint(),
        version: directory.version().to_string(),
        state: if directory.is_closed() { "closed" } else { "open" }.into(),
        erase_at: tenant.closing.map(|closing| closing.erase_at),
        quota: tenant.quota,
        hub_port: tenant.hub_port,
        devices: u32::try_from(directory.live_count()).unwrap_or(u32::MAX),
        created_at: tenant.created_at,
    }
}

/// All tenants that the caller may see.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    page: PageQuery,
) -> Result<Json<Page<Tenant>>, Refused> {
    let page = read_page(page)?;
    let items = app.desk.read(move |control| {
        // A list of none would say that they are gone.
        let sealed = withheld(control, &caller, None).filter(|why| why.code == Code::SignerSealed);
        sealed.map_or(Ok(()), Err)?;
        page.of(visible(control, &caller), |directory| directory.tenant().id, |directory| Ok(form(directory)))
    });
    Ok(Json(items.await??))
}

/// One tenant.
pub async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<Label>,
) -> Result<Json<Tenant>, Refused> {
    let meant = Meant { tenant: Some(name) };
    Ok(Json(app.desk.read(move |control| self::meant(control, &meant, &caller).map(form)).await??))
}

/// A new tenant.
pub async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    wish: Result<Json<NewTenant>, JsonRejection>,
) -> Result<(StatusCode, Json<Tenant>), Refused> {
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    // It is to have keys.
    app.signing.check_seal()?;
    let interface = match (wish.own_interface, wish.hub_port) {
        (true, port) => HubInterface::Own(port),
        (false, None) => HubInterface::Shared,
        (false, Some(_)) => return Err(portless()),
    };
    let edit = Edit::CreateTenant { name: wish.name, block: wish.block_v4, interface };
    let Answer::TenantCreated(tenant) = app.desk.edit(None, edit, caller.by.clone()).await? else {
        return Err(Code::Internal.into());
    };
    Ok((StatusCode::CREATED, now(&app, tenant.id).await?))
}

/// Another quota, or another place on the hub.
pub async fn change(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<Label>,
    wish: Result<Json<TenantChange>, JsonRejection>,
) -> Result<Json<Tenant>, Refused> {
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    let Target { tenant, by, .. } = target(&app, Meant { tenant: Some(name) }, caller).await?;
    let interface = match (wish.own_interface, wish.hub_port) {
        (Some(true), port) => Some(HubInterface::Own(port)),
        (Some(false), None) => Some(HubInterface::Shared),
        (None, None) => None,
        (Some(false) | None, Some(_)) => return Err(portless()),
    };
    let quota = match (wish.quota, wish.no_quota) {
        (Some(_), true) => return Err(Refusal::new(Code::BadRequest, "a quota, or none").into()),
        (Some(quota), _) if quota > QUOTA_MAX => {
            return Err(Refusal::new(Code::BadRequest, format!("quota is {QUOTA_MAX} at most")).into());
        }
        (None, false) => None,
        (quota, _) => Some(Edit::SetQuota(quota)),
    };
    for edit in interface.map(Edit::SetInterface).into_iter().chain(quota) {
        app.desk.edit(Some(tenant), edit, by.clone()).await?;
    }
    now(&app, tenant).await
}

fn portless() -> Refused {
    Refusal::new(Code::BadRequest, "hub_port is of an interface of the tenant's own: say own_interface, too")
        .into()
}

/// `?grace_seconds=`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Grace {
    grace_seconds: Option<u64>,
}

/// A tenant goes: one without devices at once, unless a grace is asked for; else it is closed and erased after the grace.
pub async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<Label>,
    grace: Result<Query<Grace>, QueryRejection>,
) -> Result<StatusCode, Refused> {
    let Query(Grace { grace_seconds }) = grace.map_err(|rejection| bad_query(&rejection))?;
    let Target { tenant, by, .. } = target(&app, Meant { tenant: Some(name) }, caller).await?;
    let is_bare = |directory: &Directory| directory.live_count() == 0 && !directory.is_closed();
    let bare = app.desk.read(move |control| control.directory(tenant).is_some_and(is_bare));
    let edit = match grace_seconds {
        None if bare.await? => Edit::DeleteTenant,
        None => Edit::CloseTenant { grace: GRACE_DEFAULT },
        Some(seconds) => Edit::CloseTenant { grace: Duration::from_secs(seconds) },
    };
    app.desk.edit(Some(tenant), edit, by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A closed tenant is as it was.
pub async fn restore(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<Label>,
) -> Result<Json<Tenant>, Refused> {
    let Target { tenant, by, .. } = target(&app, Meant { tenant: Some(name) }, caller).await?;
    app.desk.edit(Some(tenant), Edit::RestoreTenant, by).await?;
    now(&app, tenant).await
}

async fn now(app: &App, tenant: TenantId) -> Result<Json<Tenant>, Refused> {
    let shown = app.desk.read(move |control| control.directory(tenant).map(form)).await?;
    Ok(Json(shown.ok_or(Code::Internal)?))
}

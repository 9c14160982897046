//! `/api/v1/roles`: who may be whom on which hosts.

use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use ca::limits::{USER_LIFE_MAX, USER_LIFE_MIN};
use control::{Answer, By, Edit, SshRole, Tenant};
use model::api::Page;
use model::api::ssh::{Role, RoleWish};
use model::{Code, Label, Refusal, SshIdentity, TenantId};

use super::App;
use super::auth::Caller;
use super::in_path::InPath;
use super::paging::{PageQuery, read_page};
use super::problem::{Refused, bad_form, unavailable};
use super::tenants::{MeantQuery, Target, meant, read_query, target};

/// Every role of a tenant.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    page: PageQuery,
) -> Result<Json<Page<Role>>, Refused> {
    let (query, page) = (read_query(query)?, read_page(page)?);
    let items = app.desk.read(move |control| {
        let directory = meant(control, &query, &caller)?;
        page.of(directory.ssh_roles(), |role| role.name.clone(), |role| Ok(form(role)))
    });
    Ok(Json(items.await??))
}

/// The role says this from now on.
pub async fn set(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<Label>,
    query: MeantQuery,
    wish: Result<Json<RoleWish>, JsonRejection>,
) -> Result<Json<Role>, Refused> {
    let query = read_query(query)?;
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    let role = read(name, wish)?;
    let Target { tenant, by, .. } = target(&app, query, caller).await?;
    check_people(&app, tenant, &role).await?;
    match app.desk.edit(Some(tenant), Edit::SetSshRole(role), by).await? {
        Answer::SshRole(role) => Ok(Json(form(&role))),
        _ => Err(Code::Internal.into()),
    }
}

/// The role goes.
pub async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<Label>,
    query: MeantQuery,
) -> Result<StatusCode, Refused> {
    let Target { tenant, by, .. } = target(&app, read_query(query)?, caller).await?;
    app.desk.edit(Some(tenant), Edit::DeleteSshRole(name), by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses names that nobody has: whoever gets one later would have what was meant for another.
async fn check_people(app: &App, tenant: TenantId, role: &SshRole) -> Result<(), Refusal> {
    for identity in &role.identities {
        let SshIdentity::Person(name) = identity else {
            let detail = format!("{identity} is nobody: no service gets a certificate");
            return Err(Refusal::new(Code::UserNotFound, detail));
        };
        let user = app.store.user(name).await.map_err(|e| unavailable(&e))?;
        let sees = |user: store::User| user.tenant.is_none_or(|only| only == tenant);
        if !user.is_some_and(sees) {
            let detail = format!("{identity} is nobody who sees this tenant");
            return Err(Refusal::new(Code::UserNotFound, detail));
        }
    }
    Ok(())
}

/// Refuses where a tenant is not served that somebody is to see, which are all if she is of none: its roles may name a former person
/// of her name.
pub async fn check_served(app: &App, seen: Option<TenantId>) -> Result<(), Refusal> {
    let withheld = app.desk.read(move |control| {
        let is_seen = |tenant: &Tenant| tenant.deleted_at.is_none() && seen.is_none_or(|id| id == tenant.id);
        let mut of_hers = control.withheld().filter(|(tenant, _)| is_seen(tenant));
        of_hers.next().map(|(_, why)| why.refusal())
    });
    withheld.await?.map_or(Ok(()), Err)
}

/// Takes a person's name out of every role, but for those of one tenant: whoever has it next is another. Of a tenant that is not
/// served the sweep does that once it is.
pub async fn forget_person(app: &App, name: &Label, but: Option<TenantId>, by: &By) -> Result<(), Refused> {
    let person = name.clone();
    let named = app.desk.read(move |control| {
        let of = control.directories().filter(|directory| directory.tenant().deleted_at.is_none());
        let named = of.filter(|directory| directory.people_of_roles().contains(&person));
        let named = named.map(|directory| directory.tenant().id).filter(|tenant| but != Some(*tenant));
        named.collect::<Vec<_>>()
    });
    for tenant in named.await? {
        app.desk.edit(Some(tenant), Edit::ForgetPerson(name.clone()), by.clone()).await?;
    }
    Ok(())
}

fn read(name: Label, wish: RoleWish) -> Result<SshRole, Refusal> {
    let session_max = Duration::from_secs(wish.max_session_ttl_seconds);
    if !(USER_LIFE_MIN..=USER_LIFE_MAX).contains(&session_max) {
        let (asked, hours) = (session_max.as_secs(), USER_LIFE_MAX.as_secs() / 3600);
        let detail = format!(
            "--max-session-ttl (max_session_ttl_seconds) is {asked} s, and neither less than a minute nor more than {hours} h"
        );
        return Err(Refusal::new(Code::LifeInvalid, detail));
    }
    let permits = wish.permits.iter().map(|permit| permit.parse());
    let permits = permits.collect::<Result<_, ca::BadPermit>>();
    Ok(SshRole {
        name,
        administrators: wish.administrators,
        identities: wish.identities.into_iter().collect(),
        own_login: wish.own_login,
        logins: wish.logins.into_iter().collect(),
        tags: wish.tags.into_iter().collect(),
        labels: wish.labels,
        session_max,
        permits: permits.map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?,
    })
}

fn form(role: &SshRole) -> Role {
    Role {
        name: role.name.clone(),
        wish: RoleWish {
            administrators: role.administrators,
            identities: role.identities.iter().cloned().collect(),
            own_login: role.own_login,
            logins: role.logins.iter().cloned().collect(),
            tags: role.tags.iter().cloned().collect(),
            labels: role.labels.clone(),
            max_session_ttl_seconds: role.session_max.as_secs(),
            permits: role.permits.iter().map(|permit| permit.as_str().to_owned()).collect(),
        },
    }
}

//! `/api/v1/api-tokens`: what scripts log in with. People make their own; administrators see and revoke those of others.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use model::api::Page;
use model::api::people::{ApiToken as Form, CreatedApiToken, NewApiToken};
use model::id::{ApiTokenId, UserId};
use model::token::ApiToken as Secret;
use model::{Code, Label, Refusal, Role, TenantId, Timestamp};
use store::{ApiToken, PeopleError, User};

use super::App;
use super::auth::Caller;
use super::in_path::InPath;
use super::paging::{PageQuery, read_page};
use super::problem::{Refused, bad_form, of_people, unavailable};
use super::tenants::tenant_named;
use super::users::{at_most, gone};
use crate::accounts::{entry, random};
use crate::clock::wall;

/// An API token lives a year at most.
const LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// What an API token is for fits in a line.
const LABEL_CHARS_MAX: usize = 64;

fn form(row: ApiToken, user: Label, tenants: &BTreeMap<TenantId, Label>, now: Timestamp) -> Form {
    let state = match (row.revoked_at, row.expires_at) {
        (Some(_), _) => "revoked",
        (None, end) if end <= now => "expired",
        _ => "live",
    };
    Form {
        id: row.id,
        user,
        label: row.label,
        state: state.into(),
        role: row.role,
        tenant: row.tenant.map(|id| tenants.get(&id).cloned().unwrap_or_else(gone)),
        created_at: row.created_at,
        expires_at: row.expires_at,
        used_at: row.used_at,
    }
}

/// Users whose API tokens the caller sees: oneself, and as an administrator those who may do no more.
async fn owners(app: &App, caller: &Caller) -> Result<BTreeMap<UserId, User>, Refusal> {
    let own = caller.user.as_ref().map(|user| user.id);
    let seen = |user: &User| {
        let below = caller.role >= Role::TenantAdmin && user.role <= caller.role && caller.sees(user.tenant);
        below || Some(user.id) == own
    };
    let users = app.store.users().await.map_err(|e| unavailable(&e))?;
    Ok(users.into_iter().filter(seen).map(|user| (user.id, user)).collect())
}

async fn seen(app: &App, caller: &Caller) -> Result<Vec<(ApiToken, Label)>, Refusal> {
    let owners = owners(app, caller).await?;
    let rows = app.store.api_tokens(None).await.map_err(|e| unavailable(&e))?;
    let named = rows.into_iter().filter_map(|row| {
        let owner = owners.get(&row.user)?.name.clone();
        caller.sees(row.tenant.or(owners.get(&row.user)?.tenant)).then_some((row, owner))
    });
    Ok(named.collect())
}

/// API tokens of oneself, and those that one administers.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    page: PageQuery,
) -> Result<Json<Page<Form>>, Refused> {
    let page = read_page(page)?;
    let names = app.desk.tenant_names().await?;
    let rows = seen(&app, &caller).await?;
    let now = wall();
    Ok(Json(page.of(rows, |(row, _)| row.id, |(row, user)| Ok(form(row, user, &names, now)))?))
}

/// An API token of one's own.
pub async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    wish: Result<Json<NewApiToken>, JsonRejection>,
) -> Result<(StatusCode, Json<CreatedApiToken>), Refused> {
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    let user = caller.user.as_ref().ok_or(Code::SessionNeeded)?;
    let life = Duration::from_secs(wish.ttl_seconds);
    if life.is_zero() || life > LIFE_MAX {
        return Err(Refusal::new(Code::BadRequest, "ttl_seconds is 1 to 31622400").into());
    }
    if wish.label.is_empty()
        || wish.label.chars().count() > LABEL_CHARS_MAX
        || wish.label.chars().any(char::is_control)
    {
        return Err(Refusal::new(Code::BadRequest, "label is 1 to 64 printable characters").into());
    }
    let role = wish.role.unwrap_or(caller.role);
    at_most(&caller, role)?;
    let tenant = match wish.tenant {
        Some(name) => Some(tenant_named(&app, &caller, name).await?),
        None => caller.tenant,
    };
    let now = wall();
    let secret = Secret::new(ApiTokenId::new(now, random()), random(), app.fingerprint);
    let row = ApiToken {
        id: secret.id,
        user: user.id,
        label: wish.label,
        digest: secret.digest(),
        role,
        tenant,
        created_at: now,
        expires_at: now + life,
        used_at: None,
        revoked_at: None,
    };
    let mut done = entry(caller.by.clone(), "api-token.create", &row.id.to_string(), None);
    (done.tenant, done.detail) = (tenant, format!("{role} until {}", row.expires_at));
    app.store.create_api_token(&row, &done).await.map_err(|e| of_people(&e))?;
    let token = form(row, user.name.clone(), &app.desk.tenant_names().await?, now);
    Ok((StatusCode::CREATED, Json(CreatedApiToken { token, secret: secret.expose().to_string() })))
}

/// An API token ends.
pub async fn revoke(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath<ApiTokenId>,
) -> Result<Json<Form>, Refused> {
    let absent = || Refusal::new(Code::ApiTokenNotFound, format!("there is no API token {id}"));
    let rows = seen(&app, &caller).await?;
    let (mut row, user) = rows.into_iter().find(|(row, _)| row.id == id).ok_or_else(absent)?;
    let mut done = entry(caller.by, "api-token.revoke", &id.to_string(), None);
    done.tenant = row.tenant;
    match app.store.revoke_api_token(id, &done).await {
        Ok(()) => {}
        Err(PeopleError::NotFound) => return Err(absent().into()),
        Err(error) => return Err(of_people(&error).into()),
    }
    row.revoked_at = row.revoked_at.or(Some(done.at));
    Ok(Json(form(row, user, &app.desk.tenant_names().await?, done.at)))
}

//! Login, first administrator, API tokens.

use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use control::Actor;
use model::api::admin::{CreatedApiToken, Login, NewApiToken, Setup};
use model::id::ApiTokenId;
use model::token::ApiToken;
use model::wire::Remark;
use model::{Code, Refusal, TenantId};
use store::{PeopleError, Role, User};

use super::App;
use super::auth::{Caller, Peer};
use super::problem::{Refused, bad_form};
use crate::accounts::{entry, new_user, random, setup_digest};
use crate::clock::wall;
use crate::{people, report};

/// A login lasts a working day.
const LOGIN_LIFE: Duration = Duration::from_secs(12 * 3600);
/// An API token lives a year at most.
const API_TOKEN_LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// What an API token is for fits in a line.
const LABEL_CHARS_MAX: usize = 64;

/// A failure of the store as a refusal; logged here, with its causes.
pub fn unavailable(error: &(dyn std::error::Error + 'static)) -> Refusal {
    tracing::error!(error = %report::chain(error), "store is unavailable");
    Refusal::new(Code::StoreUnavailable, error.to_string())
}

/// Name and password for an API token that lasts a working day.
pub async fn login(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    form: Result<Json<Login>, JsonRejection>,
) -> Result<Json<CreatedApiToken>, Refused> {
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    let user = app.store.user(&form.user).await.map_err(|e| unavailable(&e))?;
    let live = user.filter(|user| user.disabled_at.is_none());
    let hash = live.as_ref().and_then(|user| user.password_hash.clone());
    let right = people::check(form.password, hash).await?;
    match live {
        Some(user) if right => {
            let actor = Actor::User(Remark::new(user.name.as_str()));
            let role = user.role;
            Ok(Json(issue(&app, &user, (role, None), "login", LOGIN_LIFE, actor).await?))
        }
        _ => {
            app.metrics.login_failure("password");
            let refused =
                entry(actor_of(&peer), "user.login", form.user.as_str(), Some(Code::Unauthenticated));
            app.store.append_audit(&refused).await.map_err(|e| unavailable(&e))?;
            Err(Refusal::new(Code::Unauthenticated, "name or password is wrong").into())
        }
    }
}

fn actor_of(peer: &Peer) -> Actor {
    match peer {
        Peer::Local { user, .. } => Actor::Local(Remark::new(user)),
        Peer::Network { address, .. } => Actor::Network(address.ip()),
    }
}

/// The first administrator.
pub async fn set_up(
    State(app): State<App>,
    form: Result<Json<Setup>, JsonRejection>,
) -> Result<(StatusCode, Json<CreatedApiToken>), Refused> {
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    Ok((StatusCode::CREATED, Json(first_administrator(&app, form).await?)))
}

/// Uses the setup secret up and makes the administrator, or neither.
pub async fn first_administrator(app: &App, form: Setup) -> Result<CreatedApiToken, Refusal> {
    people::judge(&form.password, form.user.as_str())?;
    let user = new_user(form.user, Role::SuperAdmin, people::hash(form.password).await?);
    let actor = Actor::User(Remark::new(user.name.as_str()));
    let done = entry(actor.clone(), "user.set-up", user.name.as_str(), None);
    app.store.set_up(&setup_digest(&form.secret), &user, &done).await.map_err(|e| refusal_of(&e))?;
    issue(app, &user, (Role::SuperAdmin, None), "setup", LOGIN_LIFE, actor).await
}

/// An API token of one's own.
pub async fn create_api_token(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    form: Result<Json<NewApiToken>, JsonRejection>,
) -> Result<(StatusCode, Json<CreatedApiToken>), Refused> {
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    let Some(user) = &caller.user else {
        return Err(
            Refusal::new(Code::BadRequest, "a local administrator has no user to make a token for").into()
        );
    };
    let life = Duration::from_secs(form.ttl_seconds);
    if life.is_zero() || life > API_TOKEN_LIFE_MAX {
        return Err(Refusal::new(Code::BadRequest, "ttl_seconds is 1 to 31622400").into());
    }
    if form.label.is_empty()
        || form.label.chars().count() > LABEL_CHARS_MAX
        || form.label.chars().any(char::is_control)
    {
        return Err(Refusal::new(Code::BadRequest, "label is 1 to 64 printable characters").into());
    }
    Ok((
        StatusCode::CREATED,
        Json(issue(&app, user, (caller.role, caller.tenant), &form.label, life, caller.actor.clone()).await?),
    ))
}

async fn issue(
    app: &App,
    user: &User,
    (role, tenant): (Role, Option<TenantId>),
    label: &str,
    life: Duration,
    actor: Actor,
) -> Result<CreatedApiToken, Refusal> {
    let now = wall();
    let token = ApiToken::new(ApiTokenId::new(now, random()), random(), app.fingerprint);
    let row = store::ApiToken {
        id: token.id,
        user: user.id,
        label: label.into(),
        digest: token.digest(),
        role,
        tenant,
        created_at: now,
        expires_at: now + life,
        used_at: None,
        revoked_at: None,
    };
    let done = entry(actor, "api-token.create", &token.id.to_string(), None);
    app.store.create_api_token(&row, &done).await.map_err(|e| refusal_of(&e))?;
    Ok(CreatedApiToken {
        user: user.name.clone(),
        secret: token.expose().to_string(),
        expires_at: row.expires_at,
    })
}

fn refusal_of(error: &PeopleError) -> Refusal {
    match error {
        PeopleError::NameTaken => Refusal::new(Code::NameTaken, error.to_string()),
        PeopleError::NotFound => Refusal::new(Code::NotFound, error.to_string()),
        PeopleError::SetupDone => Refusal::new(Code::SetupDone, error.to_string()),
        PeopleError::Database(_) | PeopleError::Corrupt(_) => unavailable(error),
    }
}

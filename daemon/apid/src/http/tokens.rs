//! `/api/v1/tokens`.

use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use control::{Answer, Directory, Edit, Stay, Token as Row};
use model::api::Page;
use model::api::admin::{CreatedToken, NewToken, Token};
use model::{Code, Label, Refusal, Timestamp, TokenId};

use super::App;
use super::auth::Caller;
use super::in_path::InPath;
use super::paging::{PageQuery, read_page};
use super::problem::{Refused, bad_form};
use super::tenants::{MeantQuery, Target, meant, read_query, target};
use crate::clock::wall;

fn form(row: &Row, tenant: &Label, now: Timestamp) -> Token {
    let state = match row {
        Row { revoked_at: Some(_), .. } => "revoked",
        row if row.uses >= row.uses_max => "used",
        row if row.expires_at <= now => "expired",
        _ => "live",
    };
    Token {
        id: row.id,
        tenant: tenant.clone(),
        state: state.into(),
        uses: row.uses,
        uses_max: row.uses_max,
        approve: row.needs_approval,
        tags: row.tags.iter().cloned().collect(),
        device_ttl_seconds: row.stay.expires_after.map(|after| after.as_secs()),
        device_idle_seconds: row.stay.idle_max.map(|idle| idle.as_secs()),
        created_at: row.created_at,
        expires_at: row.expires_at,
        created_by: row.created_by.to_string(),
    }
}

fn form_in(directory: &Directory, row: &Row) -> Token {
    form(row, &directory.tenant().name, wall())
}

/// All tokens of a tenant.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    page: PageQuery,
) -> Result<Json<Page<Token>>, Refused> {
    let (query, page) = (read_query(query)?, read_page(page)?);
    let items = app.desk.read(move |control| {
        let directory = meant(control, &query, &caller)?;
        page.of(directory.tokens(), |row| row.id, |row| Ok(form_in(directory, row)))
    });
    Ok(Json(items.await??))
}

/// One token.
pub async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath<TokenId>,
    query: MeantQuery,
) -> Result<Json<Token>, Refused> {
    let query = read_query(query)?;
    let token = app.desk.read(move |control| {
        let directory = meant(control, &query, &caller)?;
        directory.token(id).map(|row| form_in(directory, row)).ok_or_else(|| absent(id))
    });
    Ok(Json(token.await??))
}

/// A new token: the only answer with its secret.
pub async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    wish: Result<Json<NewToken>, JsonRejection>,
) -> Result<(StatusCode, Json<CreatedToken>), Refused> {
    let query = read_query(query)?;
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    let Target { tenant, name, by } = target(&app, query, caller).await?;
    let edit = Edit::CreateToken {
        ttl: Duration::from_secs(wish.ttl_seconds),
        uses: wish.uses,
        tags: wish.tags.into_iter().collect(),
        needs_approval: wish.approve,
        stay: Stay {
            expires_after: wish.device_ttl_seconds.map(Duration::from_secs),
            idle_max: wish.device_idle_seconds.map(Duration::from_secs),
        },
    };
    match app.desk.edit(Some(tenant), edit, by).await? {
        Answer::TokenCreated { token, secret } => {
            let token = form(&token, &name, wall());
            Ok((StatusCode::CREATED, Json(CreatedToken { token, secret: secret.expose().to_string() })))
        }
        _ => Err(Code::Internal.into()),
    }
}

/// A token ends.
pub async fn revoke(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath<TokenId>,
    query: MeantQuery,
) -> Result<Json<Token>, Refused> {
    let Target { tenant, name, by } = target(&app, read_query(query)?, caller).await?;
    match app.desk.edit(Some(tenant), Edit::RevokeToken(id), by).await? {
        Answer::TokenRevoked(row) => Ok(Json(form(&row, &name, wall()))),
        _ => Err(Code::Internal.into()),
    }
}

fn absent(id: TokenId) -> Refusal {
    Refusal::new(Code::TokenNotFound, format!("there is no token {id}"))
}

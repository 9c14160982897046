//! `/api/v1/audit`: what was done and refused, and whether the log is as it was written.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use model::api::audit::{AuditEntry, AuditVerdict};
use model::api::{Page, SCHEMA_VERSION};
use model::{Code, Label, Refusal};
use serde::Deserialize;
use store::{AUDIT_PAGE_MAX, AuditCursor};

use super::App;
use super::auth::Caller;
use super::problem::{Refused, bad_query, unavailable};
use super::tenants::tenant_named;
use crate::audit::form;

/// Entries of a page where nothing is said.
const PAGE_DEFAULT: u32 = 100;

/// `?tenant=NAME&limit=N`, and where to begin.
#[derive(Deserialize)]
pub struct Wanted {
    tenant: Option<Label>,
    limit: Option<u32>,
    cursor: Option<String>,
    after: Option<u64>,
}

/// Entries of the tenants that the caller sees: newest first, or after a number oldest first.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Page<AuditEntry>>, Refused> {
    let Query(wanted) = query.map_err(|rejection| bad_query(&rejection))?;
    let tenant = match wanted.tenant {
        Some(name) => Some(tenant_named(&app, &caller, name).await?),
        None => caller.tenant,
    };
    let limit = wanted.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=AUDIT_PAGE_MAX).contains(&limit) {
        return Err(Refusal::new(Code::BadRequest, format!("limit is 1 to {AUDIT_PAGE_MAX}")).into());
    }
    let cursor = wanted.cursor.map(|text| text.parse::<AuditCursor>()).transpose();
    let cursor = cursor.map_err(|e| Refusal::new(Code::BadRequest, format!("cursor: {e}")))?;
    let (rows, next) = match wanted.after {
        Some(number) if i64::try_from(number).is_err() => {
            return Err(Refusal::new(Code::BadRequest, "after is below 2^63").into());
        }
        Some(number) => {
            let rows = app.store.audit_after(tenant, number, limit).await;
            (rows.map_err(|e| unavailable(&e))?, None)
        }
        None => {
            let page = app.store.audit_list(tenant, cursor, limit).await.map_err(|e| unavailable(&e))?;
            (page.rows, page.next.map(|next| next.to_string()))
        }
    };
    let tenants = app.desk.tenant_names().await?;
    let items = rows.into_iter().map(|row| form(row, &tenants)).collect();
    Ok(Json(Page { schema_version: SCHEMA_VERSION, items, next }))
}

/// `?sequence=N`.
#[derive(Deserialize)]
pub struct Compared {
    sequence: Option<u64>,
}

/// Reads the whole log again. Says the digest at a number, too, for whoever has one from elsewhere.
pub async fn verify(
    State(app): State<App>,
    query: Result<Query<Compared>, QueryRejection>,
) -> Result<Json<AuditVerdict>, Refused> {
    let Query(Compared { sequence }) = query.map_err(|rejection| bad_query(&rejection))?;
    let there = match sequence {
        None => None,
        Some(number) if number == 0 || i64::try_from(number).is_err() => {
            return Err(Refusal::new(Code::BadRequest, "sequence is 1 to 2^63 - 1").into());
        }
        Some(number) => app.store.audit_digest(number).await.map_err(|e| unavailable(&e))?,
    };
    let verdict = app.store.verify_audit(&app.keys).await.map_err(|e| unavailable(&e))?;
    if let Some((at, why)) = verdict.broken {
        tracing::error!(at, why, "the audit log is not as it was written");
    }
    Ok(Json(AuditVerdict {
        holds: verdict.broken.is_none(),
        entries: verdict.entries,
        forgotten: verdict.forgotten,
        forgotten_to: verdict.ends.pruned_sequence,
        newest: verdict.ends.sequence,
        hash: verdict.ends.hash,
        there,
        key: app.keys.checkpoint_secret().ok().map(|secret| secret.public()),
        broken_at: verdict.broken.map(|(at, _)| at),
        why: verdict.broken.map(|(_, why)| why.to_owned()),
    }))
}

//! `/api/v1/dns`: custom records.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use control::{Answer, DnsEntry, Edit};
use model::api::Page;
use model::api::admin::Record;
use model::{Code, Name, RecordData, Refusal};

use super::App;
use super::auth::Caller;
use super::paging::{PageQuery, read_page};
use super::problem::{Refused, bad_form};
use super::tenants::{MeantQuery, Target, meant, read_query, target};

/// As the API shows it.
pub fn form(entry: &DnsEntry) -> Record {
    Record {
        name: entry.name.to_string(),
        kind: entry.data.kind().into(),
        value: entry.data.to_string(),
        ttl: Some(entry.ttl),
    }
}

fn read(record: &Record) -> Result<(Name, RecordData), Refusal> {
    let name = record
        .name
        .parse()
        .map_err(|e| Refusal::new(Code::NameInvalid, format!("{:?}: {e}", record.name)))?;
    let data = RecordData::parse(&record.kind, &record.value)
        .map_err(|e| Refusal::new(Code::RecordInvalid, e.to_string()))?;
    Ok((name, data))
}

/// All custom records of a tenant.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    page: PageQuery,
) -> Result<Json<Page<Record>>, Refused> {
    let (query, page) = (read_query(query)?, read_page(page)?);
    let items = app.desk.read(move |control| {
        let directory = meant(control, &query, &caller)?;
        let key = |record: &Record| format!("{} {} {}", record.name, record.kind, record.value);
        page.of(directory.records().map(|entry| form(&entry)), key, Ok)
    });
    Ok(Json(items.await??))
}

/// A new record.
pub async fn add(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    wish: Result<Json<Record>, JsonRejection>,
) -> Result<(StatusCode, Json<Record>), Refused> {
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    let (name, data) = read(&wish)?;
    let Target { tenant, by, .. } = target(&app, read_query(query)?, caller).await?;
    match app.desk.edit(Some(tenant), Edit::AddRecord { name, data, ttl: wish.ttl }, by).await? {
        Answer::RecordAdded(entry) => Ok((StatusCode::CREATED, Json(form(&entry)))),
        _ => Err(Code::Internal.into()),
    }
}

/// A record goes.
pub async fn remove(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    wish: Result<Json<Record>, JsonRejection>,
) -> Result<Json<Record>, Refused> {
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    let (name, data) = read(&wish)?;
    let Target { tenant, by, .. } = target(&app, read_query(query)?, caller).await?;
    match app.desk.edit(Some(tenant), Edit::RemoveRecord { name, data }, by).await? {
        Answer::RecordRemoved(entry) => Ok(Json(form(&entry))),
        _ => Err(Code::Internal.into()),
    }
}

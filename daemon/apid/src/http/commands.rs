//! `/api/v1/devices/{device}/commands`: what a device is told to do once.

use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use control::Directory;
use model::api::Page;
use model::api::commands::{DeviceCommand, NewCommand};
use model::id::CommandId;
use model::wire::Remark;
use model::{Abilities, Code, CommandKind, Label, Refusal};
use store::{CommandRow, CommandState, QueueError};

use super::App;
use super::auth::Caller;
use super::devices::{find, takes_part};
use super::in_path::InPath;
use super::paging::{PageQuery, read_page};
use super::problem::{Refused, bad_form, unavailable};
use super::tenants::{MeantQuery, meant, read_query};
use crate::accounts::{entry, random};
use crate::clock::wall;

/// Long enough for a device that is about to come back.
const LIFE_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// What was wanted yesterday is nobody's surprise today.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

fn form(row: &CommandRow, device: Label) -> DeviceCommand {
    DeviceCommand {
        id: row.id,
        device,
        kind: row.kind,
        state: row.state.as_str().into(),
        created_at: row.created_at,
        created_by: row.created_by.to_string(),
        expires_at: row.expires_at,
        sent_at: row.sent_at,
        ended_at: row.ended_at,
        detail: row.detail.to_string(),
    }
}

/// Commands of a device: those that wait, and those that ended in the last month.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(device): InPath<String>,
    query: MeantQuery,
    page: PageQuery,
) -> Result<Json<Page<DeviceCommand>>, Refused> {
    let (query, page) = (read_query(query)?, read_page(page)?);
    let found = app.desk.read(move |control| {
        let row = find(meant(control, &query, &caller)?, &device)?;
        Ok::<_, Refusal>((row.id, row.name.clone()))
    });
    let (id, name) = found.await??;
    let rows = app.store.device_commands(id).await.map_err(|e| unavailable(&e))?;
    Ok(Json(page.of(rows, |row| row.id, |row| Ok(form(&row, name.clone())))?))
}

/// A command for a device that takes part and understands it.
pub async fn queue(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(device): InPath<String>,
    query: MeantQuery,
    wish: Result<Json<NewCommand>, JsonRejection>,
) -> Result<(StatusCode, Json<DeviceCommand>), Refused> {
    let query = read_query(query)?;
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    let life = wish.ttl_seconds.map_or(LIFE_DEFAULT, Duration::from_secs);
    if life.is_zero() || life > LIFE_MAX {
        return Err(Refusal::new(Code::BadRequest, "ttl_seconds is 1 to 86400").into());
    }
    let by = caller.by.clone();
    let found = app.desk.read(move |control| {
        let directory = meant(control, &query, &caller)?;
        let row = find(directory, &device)?;
        check_able(directory, row, wish.kind)?;
        Ok::<_, Refusal>((directory.tenant().id, row.id, row.name.clone()))
    });
    let (tenant, device, name) = found.await??;
    let now = wall();
    let row = CommandRow {
        id: CommandId::new(now, random()),
        tenant,
        device,
        kind: wish.kind,
        state: CommandState::Queued,
        created_at: now,
        created_by: by.actor.clone(),
        expires_at: now + life,
        sent_at: None,
        ended_at: None,
        detail: Remark::default(),
    };
    let mut wanted = entry(by, "device.command", &device.to_string(), None);
    (wanted.tenant, wanted.detail) = (Some(tenant), format!("{} as {}", row.kind, row.id));
    app.store.queue_command(&row, &wanted).await.map_err(|error| match error {
        QueueError::Full => Refusal::new(Code::QuotaReached, error.to_string()),
        QueueError::Database(_) | QueueError::Corrupt(_) => unavailable(&error),
    })?;
    app.commands.notify_one();
    Ok((StatusCode::CREATED, Json(form(&row, name))))
}

fn check_able(directory: &Directory, device: &control::Device, kind: CommandKind) -> Result<(), Refusal> {
    takes_part(directory.standing(device))?;
    if device.abilities.has(kind.needs()) {
        return Ok(());
    }
    let why = match (device.is_plain(), device.abilities.has(Abilities::COMMANDS)) {
        (true, _) => "is a plain peer".to_owned(),
        (false, false) => "runs a program that knows no commands".to_owned(),
        (false, true) => format!("runs a program that does not know {kind}"),
    };
    Err(Refusal::new(Code::CommandUnsupported, format!("{} {why}", device.name)))
}

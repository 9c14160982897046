//! `/api/v1/devices`.

use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use control::{By, Control, Directory, Edit};
use model::api::Page;
use model::api::admin::{ChangedDevice, Device, DeviceChange};
use model::{Code, DeviceId, Label, Refusal, Standing, TenantId};

use super::auth::Caller;
use super::in_path::InPath;
use super::paging::{PageQuery, read_page};
use super::problem::{Refused, bad_form};
use super::tenants::{Meant, MeantQuery, meant, read_query};
use super::{App, dns, revocations};
use crate::clock::wall;

pub(super) fn form(
    control: &Control,
    directory: &Directory,
    row: &control::Device,
) -> Result<Device, Refusal> {
    let tenant = directory.tenant();
    let presence = control.presence(row.id);
    let addresses = directory.addresses(row).ok_or(Code::Internal)?;
    let fqdn =
        directory.origin().child(&row.name).map_err(|e| Refusal::new(Code::Internal, e.to_string()))?;
    Ok(Device {
        id: row.id,
        name: row.name.clone(),
        tenant: tenant.name.clone(),
        kind: row.kind.as_str().into(),
        fqdn,
        standing: directory.standing(row).as_str().into(),
        address_v4: addresses.v4,
        address_v6: addresses.v6,
        wireguard_key: row.wireguard,
        os: row.os.to_string(),
        tags: row.tags.iter().cloned().collect(),
        labels: row.labels.clone(),
        expires_at: row.expires_at,
        idle_seconds: row.idle_max.map(|idle| idle.as_secs()),
        enrolled_at: row.enrolled_at,
        online: presence.is_some_and(|p| p.is_online(wall())),
        agent: presence.map(|p| p.row.software.to_string()).filter(|software| !software.is_empty()),
        calls_from: presence.and_then(|p| p.row.address),
        facts: presence.and_then(|p| p.row.facts.clone()),
        last_seen_at: presence.map(|p| p.row.last_seen),
        holds: presence.and_then(|p| p.row.held).map(|held| held.version.to_string()),
        settled: presence.is_some_and(|p| p.row.settled),
        problems: presence.map(|p| p.problems.iter().map(ToString::to_string).collect()).unwrap_or_default(),
    })
}

/// A device by its id, or by the name of one that is not revoked.
pub(super) fn find<'a>(directory: &'a Directory, text: &str) -> Result<&'a control::Device, Refusal> {
    let by_id = text.parse::<DeviceId>().ok().and_then(|id| directory.device(id));
    let by_name = || text.parse().ok().and_then(|name| directory.device_named(&name));
    by_id
        .or_else(by_name)
        .ok_or_else(|| Refusal::new(Code::DeviceNotFound, format!("there is no device {text}")))
}

/// Refuses a device that takes no part, with the reason.
pub(super) fn takes_part(standing: Standing) -> Result<(), Refusal> {
    match standing {
        Standing::Active => Ok(()),
        Standing::Pending => Err(Code::DevicePending.into()),
        Standing::Revoked => Err(Code::DeviceRevoked.into()),
        Standing::Expired => Err(Code::DeviceExpired.into()),
        Standing::Closed => Err(Code::TenantClosed.into()),
    }
}

/// All devices of a tenant.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    page: PageQuery,
) -> Result<Json<Page<Device>>, Refused> {
    let (query, page) = (read_query(query)?, read_page(page)?);
    let items = app.desk.read(move |control| {
        let directory = meant(control, &query, &caller)?;
        page.of(directory.devices(), |row| row.id, |row| form(control, directory, row))
    });
    Ok(Json(items.await??))
}

/// One device.
pub async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(device): InPath<String>,
    query: MeantQuery,
) -> Result<Json<Device>, Refused> {
    let query = read_query(query)?;
    let shown = app.desk.read(move |control| {
        let directory = meant(control, &query, &caller)?;
        form(control, directory, find(directory, &device)?)
    });
    Ok(Json(shown.await??))
}

/// Another name, other tags or labels, another end.
pub async fn change(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(device): InPath<String>,
    query: MeantQuery,
    wish: Result<Json<DeviceChange>, JsonRejection>,
) -> Result<Json<ChangedDevice>, Refused> {
    let query = read_query(query)?;
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    if wish.never_expires && wish.expires_after_seconds.is_some() {
        return Err(Refusal::new(Code::BadRequest, "a time, or never").into());
    }
    let Located { tenant, id, name: before, by } = locate(&app, query, caller, device).await?;
    if let Some(name) = wish.name {
        app.desk.edit(Some(tenant), Edit::RenameDevice { device: id, name }, by.clone()).await?;
    }
    if let Some(tags) = wish.tags {
        let tags = tags.into_iter().collect();
        app.desk.edit(Some(tenant), Edit::TagDevice { device: id, tags }, by.clone()).await?;
    }
    if let Some(labels) = wish.labels {
        app.desk.edit(Some(tenant), Edit::LabelDevice { device: id, labels }, by.clone()).await?;
    }
    let after = wish.expires_after_seconds.map(Duration::from_secs);
    if after.is_some() || wish.never_expires {
        app.desk.edit(Some(tenant), Edit::SetExpiry { device: id, after }, by).await?;
    }
    now(&app, tenant, id, before).await
}

/// A pending device may take part.
pub async fn approve(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(device): InPath<String>,
    query: MeantQuery,
) -> Result<Json<ChangedDevice>, Refused> {
    edit(&app, query, caller, device, Edit::ApproveDevice).await
}

/// A device is removed for good.
pub async fn revoke(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(device): InPath<String>,
    query: MeantQuery,
) -> Result<Json<ChangedDevice>, Refused> {
    let Located { tenant, id, name, by } = locate(&app, read_query(query)?, caller, device).await?;
    app.desk.edit(Some(tenant), Edit::RevokeDevice(id), by.clone()).await?;
    revocations::revoke_of_device(&app, tenant, id, &by).await?;
    now(&app, tenant, id, name).await
}

async fn edit(
    app: &App,
    query: MeantQuery,
    caller: Caller,
    device: String,
    what: impl FnOnce(DeviceId) -> Edit,
) -> Result<Json<ChangedDevice>, Refused> {
    let Located { tenant, id, name, by } = locate(app, read_query(query)?, caller, device).await?;
    app.desk.edit(Some(tenant), what(id), by).await?;
    now(app, tenant, id, name).await
}

/// A device that is to be changed, before it is.
struct Located {
    tenant: TenantId,
    id: DeviceId,
    name: Label,
    /// Who changes it.
    by: By,
}

async fn locate(app: &App, query: Meant, caller: Caller, device: String) -> Result<Located, Refused> {
    let by = caller.by.clone();
    let found = app.desk.read(move |control| {
        let directory = meant(control, &query, &caller)?;
        let row = find(directory, &device)?;
        Ok::<_, Refusal>(Located { tenant: directory.tenant().id, id: row.id, name: row.name.clone(), by })
    });
    Ok(found.await??)
}

/// The device after a change, and what led to the name that it had.
async fn now(
    app: &App,
    tenant: TenantId,
    id: DeviceId,
    before: Label,
) -> Result<Json<ChangedDevice>, Refused> {
    let shown = app.desk.read(move |control| {
        let directory = control.directory(tenant).ok_or(Code::TenantNotFound)?;
        let device = form(control, directory, directory.device(id).ok_or(Code::DeviceNotFound)?)?;
        let dangling = directory.dangling_at(&before).iter().map(dns::form).collect();
        Ok::<_, Refusal>(ChangedDevice { device, dangling })
    });
    Ok(Json(shown.await??))
}

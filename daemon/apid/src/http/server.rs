//! `/api/v1/status` and `/api/version`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use model::api::SCHEMA_VERSION;
use model::api::admin::{Hub, ServerStatus, Version};
use model::wire::VERSION;
use model::{Label, Refusal, Standing};

use super::App;
use super::health::OK;
use super::problem::Refused;

/// The version of the server and of the link.
pub async fn version() -> Json<Version> {
    let version = env!("CARGO_PKG_VERSION").into();
    let link_versions = (VERSION, VERSION);
    Json(Version { schema_version: SCHEMA_VERSION, version, link_versions, idempotency_keys: true })
}

/// What the machine counts.
pub struct Figures {
    /// The hub, once it attached.
    pub hub: Option<Hub>,
    /// Tenants that were not deleted.
    pub tenants: u32,
    /// How many devices have each standing.
    pub devices: [(Standing, u32); Standing::ALL.len()],
    /// Devices that take part: the peers of the hub.
    pub devices_active: u32,
    /// Devices that hold a link.
    pub devices_online: u32,
    /// What publishing has cost.
    pub work: control::Counters,
    /// Drift that the hub repaired; none while it is not attached.
    pub hub_drift: Option<u64>,
}

/// The server as a whole.
pub async fn status(State(app): State<App>) -> Result<Json<ServerStatus>, Refused> {
    Ok(Json(current(&app).await?))
}

/// The server as it is.
pub async fn current(app: &App) -> Result<ServerStatus, Refusal> {
    let checks = app.readiness.checks().await;
    let figures = app.desk.read(figures).await?;
    let well = checks.values().all(|check| check == OK);
    Ok(ServerStatus {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").into(),
        status: if well { OK } else { "degraded" }.into(),
        checks,
        database: match app.store.engine() {
            store::Engine::Sqlite => "sqlite".into(),
            store::Engine::Postgres => "postgres".into(),
        },
        hub: figures.hub,
        tenants: figures.tenants,
        devices_active: figures.devices_active,
        devices_online: figures.devices_online,
        uptime_seconds: app.clock.uptime().as_secs(),
    })
}

/// Counts.
pub fn figures(control: &control::Control) -> Figures {
    let live = || control.directories().filter(|d| d.tenant().deleted_at.is_none());
    let mut devices = Standing::ALL.map(|standing| (standing, 0));
    let standings = live().flat_map(|directory| directory.devices().map(|device| directory.standing(device)));
    for now in standings {
        let counted = devices.iter_mut().find(|(standing, _)| *standing == now);
        counted.expect("all standings are there").1 += 1;
    }
    let active = devices.iter().find(|(standing, _)| *standing == Standing::Active);
    let holds_link =
        |device: &&control::Device| control.presence(device.id).is_some_and(|p| p.link.is_some());
    let online = live().flat_map(control::Directory::devices).filter(holds_link);
    Figures {
        hub: hub(control),
        tenants: u32::try_from(live().count()).unwrap_or(u32::MAX),
        devices_active: active.map_or(0, |(_, count)| *count),
        devices,
        devices_online: u32::try_from(online.count()).unwrap_or(u32::MAX),
        work: control.counters(),
        hub_drift: control.hub().map(|hub| hub.drift_total),
    }
}

/// The ports that devices find the hub at beside the one that tenants share, by tenant.
pub fn own_ports(control: &control::Control) -> BTreeMap<Label, u16> {
    let open = control.directories().filter(|directory| !directory.is_closed());
    open.filter_map(|d| Some((d.tenant().name.clone(), d.tenant().hub_port?))).collect()
}

fn hub(control: &control::Control) -> Option<Hub> {
    let row = control.directories().find_map(|d| d.hub())?;
    let presence = control.hub();
    Some(Hub {
        wireguard_key: row.key,
        endpoint: row.endpoint.clone(),
        own_ports: own_ports(control),
        online: presence.is_some(),
        settled: presence.is_some_and(|p| {
            control.directories().all(|d| p.holding.get(&d.tenant().id).is_some_and(|(_, settled)| *settled))
        }),
        engine: presence.and_then(|p| p.engine.as_ref()).map(ToString::to_string),
        problems: presence.map(|p| p.problems.iter().map(ToString::to_string).collect()).unwrap_or_default(),
    })
}

//! Plain peers: WireGuard clients without an agent. The server sees their public key alone.

use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use control::{Answer, Control, Edit};
use model::api::admin::{NewPlainPeer, PlainPeer};
use model::limits::MTU_DEFAULT;
use model::{Code, DeviceId, Refusal, TenantId};

use tokio::time::{interval, timeout};

use super::App;
use super::auth::Caller;
use super::devices::form;
use super::problem::{Refused, bad_form};
use super::tenants::{MeantQuery, Target, read_query, target};

/// A netd that was started with the server is attached by then.
const HUB_TIME_MAX: Duration = Duration::from_secs(5);
const HUB_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A plain peer comes.
pub async fn add(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: MeantQuery,
    wish: Result<Json<NewPlainPeer>, JsonRejection>,
) -> Result<(StatusCode, Json<PlainPeer>), Refused> {
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    let Target { tenant, by, .. } = target(&app, read_query(query)?, caller).await?;
    let tags = wish.tags.into_iter().collect();
    let edit = Edit::AddPlain { name: wish.name, wireguard: wish.wireguard_key, tags };
    hub_known(&app, tenant).await?;
    let Answer::Device(row) = app.desk.edit(Some(tenant), edit, by).await? else {
        return Err(Code::Internal.into());
    };
    let peer = app.desk.read(move |control| configured(control, tenant, row.id));
    Ok((StatusCode::CREATED, Json(peer.await??)))
}

/// Waits a moment for the hub where there never was one: the server and its netd start together.
async fn hub_known(app: &App, tenant: TenantId) -> Result<(), Refusal> {
    let mut looks = interval(HUB_LOOK_INTERVAL);
    let known = async {
        loop {
            looks.tick().await;
            let look = move |control: &Control| control.directory(tenant).is_none_or(|d| d.hub().is_some());
            if app.desk.read(look).await? {
                return Ok(());
            }
        }
    };
    // Without one the directory says why not.
    timeout(HUB_TIME_MAX, known).await.unwrap_or(Ok(()))
}

/// What the configuration of a plain peer says.
fn configured(control: &Control, tenant: TenantId, device: DeviceId) -> Result<PlainPeer, Refusal> {
    let directory = control.directory(tenant).ok_or(Code::TenantNotFound)?;
    let row = directory.device(device).ok_or(Code::DeviceNotFound)?;
    let (hub_key, hub) = directory.hub_peer().ok_or(Code::HubUnknown)?;
    Ok(PlainPeer {
        device: form(control, directory, row)?,
        hub_key,
        endpoint: hub.endpoint.ok_or(Code::HubUnknown)?,
        allowed: hub.allowed,
        dns: directory.tenant().block.hub().both().into(),
        zone: directory.origin().clone(),
        mtu: MTU_DEFAULT,
        keepalive_seconds: hub.keepalive_seconds,
    })
}

//! Plain peers: WireGuard clients without an agent. The server sees their public key alone.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use control::{Answer, Control, Edit};
use model::api::admin::{NewPlainPeer, PlainPeer};
use model::limits::MTU_DEFAULT;
use model::{Code, DeviceId, Refusal, TenantId};

use super::App;
use super::auth::Caller;
use super::devices::form;
use super::problem::{Refused, bad_form};
use super::tenants::{MeantQuery, Target, read_query, target};

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
    let Answer::Device(row) = app.desk.edit(Some(tenant), edit, by).await? else {
        return Err(Code::Internal.into());
    };
    let peer = app.desk.read(move |control| configured(control, tenant, row.id));
    Ok((StatusCode::CREATED, Json(peer.await??)))
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

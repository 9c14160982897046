//! The HTTP API: who may call what, and where each route lives. A handler turns a form into an edit or a look, never
//! more.

mod auth;
mod devices;
mod dns;
mod doctor;
mod health;
mod observe;
mod paging;
mod people;
mod problem;
mod server;
mod setup_page;
mod ssh;
mod support;
mod tenants;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get, post};
use link::ServerAddress;
use model::Fingerprint;
use store::Store;

use crate::clock::Clock;
use crate::desk::Desk;
use crate::metrics::Metrics;
use crate::proxies::Proxies;
use crate::signing::Signing;
use crate::site::Site;

pub use auth::Peer;
pub use health::Readiness;

/// Every form is far below.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What handlers use. Clones share it.
#[derive(Clone)]
pub struct App {
    /// Edits and looks.
    pub desk: Desk,
    /// People and tokens.
    pub store: Store,
    /// Counters.
    pub metrics: Metrics,
    /// Time.
    pub clock: Clock,
    /// The server as devices and people reach it.
    pub public: Arc<ServerAddress>,
    /// Of its TLS key.
    pub fingerprint: Fingerprint,
    /// Whose word on a client's address is believed.
    pub proxies: Proxies,
    /// Certificates.
    pub signing: Signing,
    /// What the health checks look at.
    pub readiness: Readiness,
    /// The machine and the settings.
    pub site: Arc<Site>,
}

/// All routes of the public listener and of the unix socket. A route stands in one of three groups, and the group
/// says who may call it: there is no other way to add one.
pub fn router(app: App) -> Router {
    let everybody = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/api/version", get(server::version))
        .route("/api/v1/login", post(people::login))
        .route("/api/v1/setup", post(people::set_up))
        .route("/setup", get(setup_page::page).post(setup_page::submit))
        .route(link::websocket::PATH, any(observe::link));
    let viewers = Router::new()
        .route("/api/v1/status", get(server::status))
        .route("/api/v1/doctor", get(doctor::show))
        .route("/api/v1/support-bundle", get(support::bundle))
        .route("/api/v1/tenants", get(tenants::list))
        .route("/api/v1/tenants/{name}", get(tenants::show))
        .route("/api/v1/tokens", get(tokens::list))
        .route("/api/v1/tokens/{id}", get(tokens::show))
        .route("/api/v1/devices", get(devices::list))
        .route("/api/v1/devices/{device}", get(devices::show))
        .route("/api/v1/dns", get(dns::list))
        .route("/api/v1/ssh/authorities", get(ssh::list))
        .route("/api/v1/ssh/authorities/{kind}/revoked", get(ssh::revoked))
        .route("/api/v1/ssh/certificates", post(ssh::issue))
        .route_layer(from_fn(auth::require_viewer));
    let administrators = Router::new()
        .route("/api/v1/tenants", post(tenants::create))
        .route("/api/v1/tenants/{name}", axum::routing::delete(tenants::delete))
        .route("/api/v1/tokens", post(tokens::create))
        .route("/api/v1/tokens/{id}/revoke", post(tokens::revoke))
        .route("/api/v1/devices/{device}", axum::routing::patch(devices::change))
        .route("/api/v1/devices/{device}/approve", post(devices::approve))
        .route("/api/v1/devices/{device}/revoke", post(devices::revoke))
        .route("/api/v1/dns", post(dns::add))
        .route("/api/v1/dns/remove", post(dns::remove))
        .route("/api/v1/api-tokens", post(people::create_api_token))
        .route("/api/v1/ssh/authorities/{kind}/rotate", post(ssh::rotate))
        .route("/api/v1/ssh/authorities/{kind}/advance", post(ssh::advance))
        .route("/api/v1/ssh/authorities/{kind}/rollback", post(ssh::roll_back))
        .route("/api/v1/ssh/revocations", post(ssh::revoke))
        .route_layer(from_fn(auth::require_administrator));
    everybody
        .merge(viewers)
        .merge(administrators)
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(from_fn_with_state(app.clone(), auth::identify))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(app.metrics.clone(), observe::request))
        .with_state(app)
}

/// The routes of the second listener, which is never public. They serve while the database is not ready yet, too.
pub fn probes(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .with_state(readiness.clone())
        .merge(Router::new().route("/metrics", get(observe::metrics)).with_state((readiness, metrics)))
        .fallback(problem::no_such_route)
}

//! The HTTP API: who may call what, and where each route lives. A handler turns a form into an edit or a look, never
//! more.

mod api_tokens;
mod audit;
mod auth;
mod backup;
mod closed;
mod commands;
mod description;
mod devices;
mod dns;
mod doctor;
mod health;
mod idempotency;
mod in_path;
mod login;
mod me;
mod observe;
mod paging;
mod plain;
mod problem;
mod refusals;
mod revocable;
mod revocations;
mod roles;
mod routes;
mod server;
mod setup_page;
mod ssh;
mod support;
mod table;
mod tenants;
mod tokens;
mod users;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use link::ServerAddress;
use model::Fingerprint;
use store::Store;
use tokio::sync::{Notify, RwLock};

use crate::backup::Backups;
use crate::clock::Clock;
use crate::desk::Desk;
use crate::keys::Keys;
use crate::limiters::Limiters;
use crate::metrics::Metrics;
use crate::people::Policy;
use crate::proxies::Proxies;
use crate::signing::Signing;
use crate::site::Site;
use crate::throttle::Throttle;

use routes::{Needs, get};

pub use auth::Peer;
pub use health::Readiness;
pub use idempotency::KEY_LIFE;

/// Every form is far below.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What handlers use. Clones share it.
#[derive(Clone)]
pub struct App {
    /// Read for as long as a request with a key is under way: whoever stops the server waits for them.
    pub under_way: Arc<RwLock<()>>,
    /// Backups.
    pub backups: Backups,
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
    /// What seals second factors.
    pub keys: Keys,
    /// Which passwords may be set.
    pub policy: Policy,
    /// Who asks how often.
    pub limiters: Limiters,
    /// Stirred when a device command was queued here.
    pub commands: Arc<Notify>,
    /// Whose logins failed.
    pub throttle: Arc<Mutex<Throttle>>,
}

impl App {
    /// Whose logins failed, for a moment.
    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The router of the public listener and of the unix socket.
pub fn router(app: App) -> Router {
    let routes = table::routes();
    let description = Bytes::from(description::describe(&routes).to_string());
    let described = get("/api/v1/openapi.json", Needs::Nothing, "openapi", "This description", move || {
        std::future::ready(([(header::CONTENT_TYPE, "application/json")], description.clone()))
    });
    routes
        .into_iter()
        .chain([described])
        .fold(Router::new(), |router, route| route.into_router(router, &app))
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
        .route("/healthz", axum::routing::get(health::healthz))
        .route("/readyz", axum::routing::get(health::readyz))
        .with_state(readiness.clone())
        .merge(
            Router::new()
                .route("/metrics", axum::routing::get(observe::metrics))
                .with_state((readiness, metrics)),
        )
        .fallback(problem::no_such_route)
}

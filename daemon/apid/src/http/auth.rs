//! Who calls: the kernel's word on the unix socket, or an API token. A route's group says what that must be worth.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control::Actor;
use model::token::ApiToken;
use model::wire::{Channel, Remark};
use model::{Code, Refusal, TenantId};
use store::{Role, User};

use super::App;
use super::problem::Refused;
use crate::clock::wall;

/// The other end of the connection, as the listener saw it.
#[derive(Debug, Clone)]
pub enum Peer {
    /// A user of this machine, on the unix socket.
    Local {
        /// Its name, or its number.
        user: String,
        /// Whether it is root or of the administrators' group.
        administrator: bool,
    },
    /// Anybody, over TLS.
    Network {
        /// Where from.
        address: SocketAddr,
        /// What ties a link to this connection.
        channel: Channel,
    },
}

/// Whoever is behind a request, checked.
#[derive(Debug, Clone)]
pub struct Caller {
    /// For the audit log.
    pub actor: Actor,
    /// What it may do.
    pub role: Role,
    /// The one tenant that it may see, if there is only one.
    pub tenant: Option<TenantId>,
    /// The user, unless it is a local administrator.
    pub user: Option<User>,
}

/// Finds out who calls and puts it into the request, if it is anybody.
pub async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if let Some(Peer::Network { address, channel }) = request.extensions().get::<Peer>().cloned() {
        let (address, channel) = app.proxies.client(address, channel, request.headers());
        request.extensions_mut().insert(Peer::Network { address, channel });
    }
    let peer = request.extensions().get::<Peer>().cloned();
    let bearer = request.headers().get(header::AUTHORIZATION).cloned();
    match caller(&app, peer, bearer).await {
        Ok(Some(caller)) => {
            let actor = caller.actor.clone();
            request.extensions_mut().insert(caller);
            let mut response = next.run(request).await;
            // For the line in the log.
            response.extensions_mut().insert(actor);
            response
        }
        Ok(None) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

async fn caller(
    app: &App,
    peer: Option<Peer>,
    bearer: Option<HeaderValue>,
) -> Result<Option<Caller>, Refused> {
    if let Some(Peer::Local { user, administrator: true }) = peer {
        let actor = Actor::Local(Remark::new(&user));
        return Ok(Some(Caller { actor, role: Role::SuperAdmin, tenant: None, user: None }));
    }
    let Some(value) = bearer else { return Ok(None) };
    let unknown =
        || Refused(Refusal::new(Code::Unauthenticated, "the API token is unknown, expired or revoked"));
    let token = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).ok_or_else(unknown)?;
    let token: ApiToken = token.parse().map_err(|_| unknown())?;
    let digest = token.digest();
    let found = app.store.api_token(token.id, wall(), |stored| constant_time_equal(stored, &digest)).await;
    match found {
        Ok(Some((row, user))) => {
            let actor = Actor::ApiToken(Remark::new(&format!("{} of {}", row.label, user.name)));
            Ok(Some(Caller { actor, role: row.role.min(user.role), tenant: row.tenant, user: Some(user) }))
        }
        Ok(None) => {
            app.metrics.login_failure("token");
            Err(unknown())
        }
        Err(error) => Err(super::people::unavailable(&error).into()),
    }
}

fn constant_time_equal(a: &model::Digest, b: &model::Digest) -> bool {
    use subtle::ConstantTimeEq as _;
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// Lets in whoever may look.
pub async fn require_viewer(request: Request, next: Next) -> Response {
    require(Role::Viewer, request, next).await
}

/// Lets in whoever may change.
pub async fn require_administrator(request: Request, next: Next) -> Response {
    require(Role::TenantAdmin, request, next).await
}

async fn require(role: Role, request: Request, next: Next) -> Response {
    match request.extensions().get::<Caller>() {
        Some(caller) if caller.role >= role => next.run(request).await,
        Some(caller) => {
            let detail = format!("{} is {}, and this needs {role}", caller.actor, caller.role);
            Refused(Refusal::new(Code::Forbidden, detail)).into_response()
        }
        None => Refused(Refusal::new(Code::Unauthenticated, "nobody is logged in")).into_response(),
    }
}

//! Who calls: the kernel's word on the unix socket, a person's session, or an API token. What that must be worth, each
//! route declares.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control::{Actor, By, Trace};
use model::id::ApiTokenId;
use model::token::{ApiToken, Bearer, SessionToken};
use model::wire::{Channel, Remark};
use model::{Code, Digest, Refusal, Role, TenantId};
use store::User;

use super::App;
use super::closed::check_open;
use super::login::of_peer;
use super::observe::RequestTag;
use super::problem::{Refused, unavailable};
use super::refusals::{Attempt, written_down};
use super::routes::Needs;
use crate::clock::wall;
use crate::limiters::{Asker, Limit};

/// A session that nobody used for so long is over: somebody else may sit there.
const SESSION_IDLE_MAX: Duration = Duration::from_secs(4 * 3600);

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

impl Peer {
    /// Where it is on the network; the machine itself is its own loopback.
    pub const fn address(&self) -> IpAddr {
        match self {
            Self::Local { .. } => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            Self::Network { address, .. } => address.ip(),
        }
    }
}

/// Whoever is behind a request, checked.
#[derive(Debug, Clone)]
pub struct Caller {
    /// For the audit log.
    pub by: By,
    /// What it may do.
    pub role: Role,
    /// The one tenant that it may see, if there is only one.
    pub tenant: Option<TenantId>,
    /// The user, unless it is a local administrator.
    pub user: Option<User>,
    /// The session, if it is a person's.
    pub session: Option<Digest>,
    /// The API token, if it is a script's.
    pub token: Option<ApiTokenId>,
}

impl Caller {
    /// Whether it may see what belongs to this tenant, or to all if there is none.
    pub fn sees(&self, tenant: Option<TenantId>) -> bool {
        self.tenant.is_none() || self.tenant == tenant
    }

    /// Whose refusals the audit log counts together; nobody's who administers on the server itself.
    fn of_refusals(&self) -> Option<Asker> {
        self.user.as_ref()?;
        Asker::of(&self.by.actor)
    }
}

/// Finds out who calls and puts it into the request, if it is anybody.
pub async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if let Some(Peer::Network { address, channel }) = request.extensions().get::<Peer>().cloned() {
        let (address, channel) = app.proxies.client(address, channel, request.headers());
        request.extensions_mut().insert(Peer::Network { address, channel });
    }
    let peer = request.extensions().get::<Peer>().cloned();
    let trace = Trace {
        source: match &peer {
            Some(Peer::Network { address, .. }) => Some(address.ip()),
            Some(Peer::Local { .. }) | None => None,
        },
        request: request.extensions().get::<RequestTag>().map(|tag| tag.0.clone()),
    };
    request.extensions_mut().insert(trace.clone());
    let bearer = request.headers().get(header::AUTHORIZATION).cloned();
    let says_who = bearer.is_some();
    let mut found = caller(&app, peer.as_ref(), bearer).await;
    if let Ok(Some(caller)) = &mut found {
        caller.by.trace = trace.clone();
    }
    let known = found.as_ref().ok().and_then(Option::as_ref);
    let asker = asker(peer.as_ref(), known);
    let attempt = match (known, &peer) {
        (Some(caller), _) => Some((caller.by.clone(), caller.tenant, caller.of_refusals())),
        (None, Some(peer)) if says_who => {
            let actor = of_peer(peer);
            let of_refusals = Asker::of(&actor);
            Some((By { actor, trace }, None, of_refusals))
        }
        // Nobody tried to be anybody.
        (None, _) => None,
    };
    let attempt = attempt.map(|(by, tenant, asker)| Attempt::new(&request, by, tenant, asker));
    let answer = answered(&app, found, asker, request, next).await.unwrap_or_else(Refused::into_response);
    match attempt {
        Some(attempt) => written_down(&app, attempt, answer).await,
        None => answer,
    }
}

/// What whoever was found is answered, if it may ask at all.
async fn answered(
    app: &App,
    found: Result<Option<Caller>, Refused>,
    asker: Option<Asker>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refused> {
    // A link is no request: thousands of devices behind one address come back at once after a restart.
    if request.uri().path() != link::websocket::PATH
        && let Some(asker) = asker
    {
        let in_time = app.limiters.take(Limit::Api, asker);
        in_time.map_err(|after| Refused::later("too many requests", after))?;
    }
    let Some(caller) = found? else { return Ok(next.run(request).await) };
    check_open(app, caller.tenant).await?;
    let by = caller.by.actor.clone();
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    // For the line in the log.
    response.extensions_mut().insert(by);
    Ok(response)
}

/// Whose requests are counted together; nobody's who administers on the server itself.
fn asker(peer: Option<&Peer>, caller: Option<&Caller>) -> Option<Asker> {
    match (caller, peer?) {
        (Some(Caller { token: Some(token), .. }), _) => Some(Asker::ApiToken(*token)),
        (Some(Caller { user: Some(user), .. }), _) => Some(Asker::User(user.id)),
        (Some(Caller { user: None, .. }), _) => None,
        (None, Peer::Local { user, .. }) => Some(Asker::Local(user.clone())),
        (None, Peer::Network { address, .. }) => Some(Asker::Address(address.ip())),
    }
}

async fn caller(
    app: &App,
    peer: Option<&Peer>,
    bearer: Option<HeaderValue>,
) -> Result<Option<Caller>, Refused> {
    if let Some(Peer::Local { user, administrator: true }) = peer {
        let by = Actor::Local(Remark::new(user)).into();
        let role = Role::SuperAdmin;
        return Ok(Some(Caller { by, role, tenant: None, user: None, session: None, token: None }));
    }
    let Some(value) = bearer else { return Ok(None) };
    let bearer = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).and_then(|v| v.parse().ok());
    let found = match bearer {
        Some(Bearer::Session(session)) => of_session(app, &session).await?,
        Some(Bearer::ApiToken(token)) => of_api_token(app, &token).await?,
        None => None,
    };
    if found.is_none() {
        app.metrics.login_failure("token");
        let from = peer.map_or(Asker::Crowd, |peer| Asker::Address(peer.address()));
        app.limiters.take(Limit::Login, from).map_err(|after| Refused::later("too many logins", after))?;
        let detail = "the session or API token is unknown, expired or revoked";
        return Err(Refusal::new(Code::Unauthenticated, detail).into());
    }
    Ok(found)
}

async fn of_session(app: &App, session: &SessionToken) -> Result<Option<Caller>, Refusal> {
    let digest = session.digest();
    let found = app.store.session(&digest, wall(), SESSION_IDLE_MAX).await;
    Ok(found.map_err(|e| unavailable(&e))?.map(|(_, user)| Caller {
        by: Actor::User(Remark::new(user.name.as_str())).into(),
        role: user.role,
        tenant: user.tenant,
        user: Some(user),
        session: Some(digest),
        token: None,
    }))
}

async fn of_api_token(app: &App, token: &ApiToken) -> Result<Option<Caller>, Refusal> {
    let digest = token.digest();
    let found = app.store.api_token(token.id, wall(), |stored| constant_time_equal(stored, &digest)).await;
    let Some((row, user)) = found.map_err(|e| unavailable(&e))? else { return Ok(None) };
    let tenant = match (row.tenant, user.tenant) {
        (Some(of_token), Some(of_user)) if of_token != of_user => return Ok(None),
        (of_token, of_user) => of_token.or(of_user),
    };
    let by = Actor::ApiToken(Remark::new(&format!("{} of {}", row.label, user.name))).into();
    let role = row.role.min(user.role);
    Ok(Some(Caller { by, role, tenant, user: Some(user), session: None, token: Some(row.id) }))
}

fn constant_time_equal(a: &Digest, b: &Digest) -> bool {
    use subtle::ConstantTimeEq as _;
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// Lets in whoever is what the route needs.
pub async fn require(Extension(needs): Extension<Needs>, request: Request, next: Next) -> Response {
    match enough(needs, request.extensions().get::<Caller>()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => Refused::from(refusal).into_response(),
    }
}

fn enough(needs: Needs, caller: Option<&Caller>) -> Result<(), Refusal> {
    let role = match needs {
        Needs::Nothing => return Ok(()),
        Needs::Role(role) | Needs::Everywhere(role) => role,
        Needs::Person => Role::Viewer,
    };
    let Some(caller) = caller else {
        return Err(Refusal::new(Code::Unauthenticated, "nobody is logged in"));
    };
    let forbidden = |why: String| Err(Refusal::new(Code::Forbidden, format!("{} {why}", caller.by)));
    if caller.role < role {
        return forbidden(format!("is {}, and this needs {role}", caller.role));
    }
    if matches!(needs, Needs::Everywhere(_)) && caller.tenant.is_some() {
        return forbidden("sees one tenant only, and this is about all".into());
    }
    if needs == Needs::Person && caller.session.is_none() {
        return Err(Refusal::new(
            Code::SessionNeeded,
            "this is for a person who logged in, and for no token",
        ));
    }
    Ok(())
}

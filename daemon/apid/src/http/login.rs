//! How people come in: login, log-out, the first administrator.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use control::{Actor, By, Trace};
use model::api::people::{LoggedIn, Login, Setup};
use model::token::SessionToken;
use model::wire::Remark;
use model::{Code, Label, Refusal, Role, TenantId};
use store::{Session, User};

use super::App;
use super::auth::{Caller, Peer};
use super::closed::check_open;
use super::problem::{Refused, bad_form, of_people, unavailable};
use crate::accounts::{entry, new_user, random, setup_digest};
use crate::audit::Written;
use crate::clock::wall;
use crate::limiters::{Asker, Limit};
use crate::throttle::Verdict;
use crate::{people, second_factor};

/// Logins that wait are worked off by then.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(5);
/// A login lasts a working day.
const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);

/// Name, password and code of a person for a session.
pub async fn login(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Extension(trace): Extension<Trace>,
    form: Result<Json<Login>, JsonRejection>,
) -> Result<Json<LoggedIn>, Refused> {
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    let name = form.user.clone();
    let by = By { actor: of_peer(&peer), trace: trace.clone() };
    let who = Who { name: &name, by, from: peer.address(), action: "user.login" };
    let admitted = admitted(&app, form.password, form.code, &name, &trace);
    let user = Box::pin(guess(&app, who, admitted)).await?;
    Ok(Json(begin(&app, &user, &peer, trace).await?))
}

/// Who tries to prove what.
pub struct Who<'a> {
    /// The account.
    pub name: &'a Label,
    /// For the audit log.
    pub by: By,
    /// Where it is.
    pub from: IpAddr,
    /// What it is for.
    pub action: &'static str,
}

/// One try with a password or a code: paced, and counted and written down if it was wrong.
pub async fn guess<T>(
    app: &App,
    who: Who<'_>,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refused> {
    if let Err(refused) = paced(app, &who).await {
        let Who { name, by, action, .. } = who;
        // Whose is asked of the database only for what is written.
        if app.limiters.may_write(Asker::of(&by.actor)) {
            let mut early = entry(by, action, name.as_str(), Some(refused.refusal.code));
            early.tenant = tenant_of(app, name).await?;
            early.detail.clone_from(&refused.refusal.detail);
            app.store.append_audit(&early).await.map_err(|e| unavailable(&e))?;
        }
        return Err(refused.written());
    }
    let Who { name, by, from, action } = who;
    let refusal = match work.await {
        Ok(right) => {
            app.throttle().succeeded(name, from);
            return Ok(right);
        }
        Err(refusal) => refusal,
    };
    let reason = match refusal.code {
        Code::Unauthenticated => "password",
        Code::SecondFactorWrong => "second-factor",
        // The right password was given: whoever lacks the code is asked for it, and guesses nothing.
        Code::SecondFactorNeeded => return Err(refusal.into()),
        // Nobody looked whether it is right: neither a guess nor worth a line for each in a flood.
        Code::RateLimited => {
            app.metrics.login_failure("busy");
            return Err(Refused::later(&refusal.detail, BUSY_RETRY_AFTER));
        }
        // So it was here, and it was no guess.
        Code::TenantClosed => "tenant-closed",
        _ => "unavailable",
    };
    app.metrics.login_failure(reason);
    if refusal.code != Code::TenantClosed && reason != "unavailable" {
        app.throttle().failed(name, from, app.clock.now().mono);
    }
    let mut refused = entry(by, action, name.as_str(), Some(refusal.code));
    refused.tenant = tenant_of(app, name).await?;
    app.store.append_audit(&refused).await.map_err(|e| unavailable(&e))?;
    Err(Written(refusal).into())
}

/// The one tenant of a person, if there is one: its administrators see who tries to be her.
async fn tenant_of(app: &App, name: &Label) -> Result<Option<TenantId>, Refusal> {
    let user = app.store.user(name).await.map_err(|e| unavailable(&e))?;
    Ok(user.and_then(|user| user.tenant))
}

/// Waits as long as whoever failed before has to. Whoever asks sooner is refused before anything is spent on it.
async fn paced(app: &App, who: &Who<'_>) -> Result<(), Refused> {
    let in_time = app.limiters.take(Limit::Login, Asker::Address(who.from));
    in_time.map_err(|after| Refused::later("too many logins", after))?;
    let verdict = app.throttle().ask(who.name, who.from, app.clock.now().mono);
    match verdict {
        Verdict::Go(pause) => tokio::time::sleep(pause).await,
        Verdict::Wait(left) => {
            app.metrics.login_failure("throttled");
            return Err(Refused::later("too many logins failed", left));
        }
    }
    Ok(())
}

/// The person, if the password and the code are right. An unknown name takes as long as a wrong password.
async fn admitted(
    app: &App,
    password: String,
    code: Option<String>,
    name: &Label,
    trace: &Trace,
) -> Result<User, Refusal> {
    let seat = people::Seat::take()?;
    let user = app.store.user(name).await.map_err(|e| unavailable(&e))?;
    let live = user.filter(|user| user.disabled_at.is_none());
    let hash = live.as_ref().and_then(|user| user.password_hash.clone());
    let right = people::check(seat, password, hash).await?;
    let wrong = || Refusal::new(Code::Unauthenticated, "name or password is wrong");
    let user = live.filter(|_| right).ok_or_else(wrong)?;
    prove(app, &user, code.as_deref(), trace).await?;
    check_open(app, user.tenant).await?;
    Ok(user)
}

/// Takes a code of the second factor, or a recovery code, of a person who has one.
pub async fn prove(app: &App, user: &User, code: Option<&str>, trace: &Trace) -> Result<(), Refusal> {
    let factor = app.store.second_factor(user.id).await.map_err(|e| unavailable(&e))?;
    let Some(factor) = factor.filter(|factor| factor.confirmed) else { return Ok(()) };
    let code = code.ok_or_else(|| Refusal::new(Code::SecondFactorNeeded, "this user has a second factor"))?;
    let taken = if second_factor::is_one_time(code) {
        let secret = app.keys.open_factor(user.id, &factor.sealed).map_err(|e| sealed(&e))?;
        match second_factor::step(&secret, code, wall()) {
            Some(step) => app.store.take_step(user.id, step).await.map_err(|e| unavailable(&e))?,
            None => false,
        }
    } else {
        let by = by(user, trace.clone());
        let mut used = entry(by, "user.recovery-code", user.name.as_str(), None);
        used.tenant = user.tenant;
        let digest = second_factor::recovery_digest(user.id, code);
        app.store.take_recovery_code(user.id, &digest, &used).await.map_err(|e| of_people(&e))?
    };
    let wrong = "the code is wrong, or was used before";
    if taken { Ok(()) } else { Err(Refusal::new(Code::SecondFactorWrong, wrong)) }
}

/// A secret of a person that does not unseal.
pub fn sealed(error: &crate::seal::SealError) -> Refusal {
    tracing::error!(error = %crate::report::chain(error), "a second factor does not unseal");
    Refusal::new(Code::SignerSealed, error.to_string())
}

/// A person who just proved to be so.
fn by(user: &User, trace: Trace) -> By {
    By { actor: Actor::User(Remark::new(user.name.as_str())), trace }
}

async fn begin(app: &App, user: &User, peer: &Peer, trace: Trace) -> Result<LoggedIn, Refusal> {
    let now = wall();
    let token = SessionToken::new(random(), app.fingerprint);
    let session = Session {
        digest: token.digest(),
        user: user.id,
        created_at: now,
        used_at: now,
        expires_at: now + SESSION_LIFE,
        address: Some(peer.address()),
    };
    let mut done = entry(by(user, trace), "user.login", user.name.as_str(), None);
    done.tenant = user.tenant;
    app.store.create_session(&session, &done).await.map_err(|e| of_people(&e))?;
    Ok(LoggedIn {
        user: user.name.clone(),
        secret: token.expose().to_string(),
        expires_at: session.expires_at,
    })
}

pub fn of_peer(peer: &Peer) -> Actor {
    match peer {
        Peer::Local { user, .. } => Actor::Local(Remark::new(user)),
        Peer::Network { address, .. } => Actor::Network(address.ip()),
    }
}

/// Ends the session that asks.
pub async fn log_out(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode, Refused> {
    let session = caller.session.ok_or(Code::SessionNeeded)?;
    let user = caller.user.as_ref().ok_or(Code::SessionNeeded)?;
    let mut done = entry(caller.by.clone(), "user.logout", user.name.as_str(), None);
    done.tenant = user.tenant;
    app.store.end_session(&session, &done).await.map_err(|e| of_people(&e))?;
    Ok(StatusCode::NO_CONTENT)
}

/// The first administrator.
pub async fn set_up(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Extension(trace): Extension<Trace>,
    form: Result<Json<Setup>, JsonRejection>,
) -> Result<(StatusCode, Json<LoggedIn>), Refused> {
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    let made = first_administrator(&app, form, &peer, trace).await.map_err(Written)?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Uses the setup secret up and makes the administrator, or neither. Whoever is refused is written down.
pub async fn first_administrator(
    app: &App,
    form: Setup,
    peer: &Peer,
    trace: Trace,
) -> Result<LoggedIn, Refusal> {
    let by = By { actor: of_peer(peer), trace: trace.clone() };
    let mut denied = entry(by, "user.set-up", form.user.as_str(), None);
    let made = founded(app, form, peer, trace).await;
    if let Err(refusal) = &made
        && app.limiters.may_write(Asker::of(&denied.actor))
    {
        (denied.refused, denied.detail) = (Some(refusal.code), refusal.detail.clone());
        app.store.append_audit(&denied).await.map_err(|e| unavailable(&e))?;
    }
    made
}

async fn founded(app: &App, form: Setup, peer: &Peer, trace: Trace) -> Result<LoggedIn, Refusal> {
    app.policy.judge(&form.password, form.user.as_str())?;
    let user = new_user(form.user, Role::SuperAdmin, None, people::hash(form.password).await?);
    let done = entry(by(&user, trace.clone()), "user.set-up", user.name.as_str(), None);
    app.store.set_up(&setup_digest(&form.secret), &user, &done).await.map_err(|e| of_people(&e))?;
    begin(app, &user, peer, trace).await
}

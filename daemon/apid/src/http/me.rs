//! `/api/v1/me`: what a person changes of itself, and nobody else does: its password and its second factor.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use control::AuditEntry;
use model::api::people::{FactorCode, OfferedFactor, PasswordChange, RecoveryCodes, User as Form};
use model::{Code, Digest, Refusal};
use store::{PeopleError, User};

use super::App;
use super::auth::{Caller, Peer};
use super::login::{Who, guess, prove, sealed};
use super::problem::{Refused, bad_form, of_people, unavailable};
use crate::accounts::{entry, random};
use crate::clock::wall;
use crate::{people, second_factor};

fn person(caller: &Caller) -> Result<&User, Refusal> {
    caller.user.as_ref().ok_or_else(|| Code::SessionNeeded.into())
}

fn who<'a>(caller: &Caller, user: &'a User, peer: &Peer, action: &'static str) -> Who<'a> {
    Who { name: &user.name, by: caller.by.clone(), from: peer.address(), action }
}

/// What a person did to itself, for the log that the administrators of its tenant see.
fn done_by(caller: &Caller, user: &User, action: &str) -> AuditEntry {
    AuditEntry { tenant: user.tenant, ..entry(caller.by.clone(), action, user.name.as_str(), None) }
}

/// Who asks.
pub async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Form>, Refused> {
    let absent = || Refusal::new(Code::UserNotFound, "a local administrator is no user of the server");
    let user = caller.user.as_ref().ok_or_else(absent)?;
    Ok(Json(super::users::form(&app, user).await?))
}

/// Another password; every session ends, this one too.
pub async fn password(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    form: Result<Json<PasswordChange>, JsonRejection>,
) -> Result<StatusCode, Refused> {
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    let user = person(&caller)?;
    let action = "user.password";
    let check = async {
        let right = people::check(people::Seat::take()?, form.current, user.password_hash.clone()).await?;
        let wrong = || Refusal::new(Code::Unauthenticated, "the current password is another");
        right.then_some(()).ok_or_else(wrong)
    };
    guess(&app, who(&caller, user, &peer, action), check).await?;
    app.policy.judge(&form.new, user.name.as_str())?;
    let hash = people::hash(form.new).await?;
    let done = done_by(&caller, user, action);
    app.store.set_password(user.id, &hash, &done).await.map_err(|e| of_people(&e))?;
    Ok(StatusCode::NO_CONTENT)
}

/// A second factor that is in force once a code of it was seen.
pub async fn offer_factor(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<(StatusCode, Json<OfferedFactor>), Refused> {
    let user = person(&caller)?;
    let secret = zeroize::Zeroizing::new(random());
    let kept = app.keys.seal_factor(user.id, &secret).map_err(|e| sealed(&e))?;
    let done = done_by(&caller, user, "user.second-factor.offer");
    match app.store.offer_second_factor(user.id, &kept, &done).await {
        Ok(()) => {}
        Err(PeopleError::NotFound) => return Err(Code::SecondFactorOn.into()),
        Err(error) => return Err(of_people(&error).into()),
    }
    let url = second_factor::url(&secret, &user.name, &app.public.host_text());
    Ok((StatusCode::CREATED, Json(OfferedFactor { secret: second_factor::printed(&secret), url })))
}

/// The first code of a second factor: from now on logins need one.
pub async fn confirm_factor(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    form: Result<Json<FactorCode>, JsonRejection>,
) -> Result<Json<RecoveryCodes>, Refused> {
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    let user = person(&caller)?;
    let factor = app.store.second_factor(user.id).await.map_err(|e| unavailable(&e))?;
    let factor = factor.ok_or(Code::SecondFactorOff)?;
    if factor.confirmed {
        return Err(Code::SecondFactorOn.into());
    }
    let secret = app.keys.open_factor(user.id, &factor.sealed).map_err(|e| sealed(&e))?;
    let step = second_factor::step(&secret, &form.code, wall());
    let step = step.ok_or_else(|| Refusal::new(Code::SecondFactorWrong, "the code is wrong"))?;
    let (codes, digests) = fresh_codes(user);
    let done = done_by(&caller, user, "user.second-factor.confirm");
    let confirmed = app.store.confirm_second_factor(user.id, step, &digests, &done).await;
    confirmed.map_err(|e| of_people(&e))?;
    Ok(Json(codes))
}

/// Other recovery codes; those before are void.
pub async fn recovery_codes(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    form: Result<Json<FactorCode>, JsonRejection>,
) -> Result<Json<RecoveryCodes>, Refused> {
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    let user = person(&caller)?;
    let proof = prove_there(&app, &caller, user, &form.code);
    guess(&app, who(&caller, user, &peer, "user.recovery-codes"), proof).await?;
    let (codes, digests) = fresh_codes(user);
    let done = done_by(&caller, user, "user.recovery-codes");
    let replaced = app.store.replace_recovery_codes(user.id, &digests, &done).await;
    replaced.map_err(|e| of_people(&e))?;
    Ok(Json(codes))
}

/// Logins need no code any more.
pub async fn remove_factor(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    form: Result<Json<FactorCode>, JsonRejection>,
) -> Result<StatusCode, Refused> {
    let Json(form) = form.map_err(|rejection| bad_form(&rejection))?;
    let user = person(&caller)?;
    let proof = prove_there(&app, &caller, user, &form.code);
    guess(&app, who(&caller, user, &peer, "user.second-factor.remove"), proof).await?;
    let done = done_by(&caller, user, "user.second-factor.remove");
    app.store.remove_second_factor(user.id, &done).await.map_err(|e| of_people(&e))?;
    Ok(StatusCode::NO_CONTENT)
}

/// As at a login, but there must be a second factor.
async fn prove_there(app: &App, caller: &Caller, user: &User, code: &str) -> Result<(), Refusal> {
    let factor = app.store.second_factor(user.id).await.map_err(|e| unavailable(&e))?;
    if !factor.is_some_and(|factor| factor.confirmed) {
        return Err(Code::SecondFactorOff.into());
    }
    prove(app, user, Some(code), &caller.by.trace).await
}

fn fresh_codes(user: &User) -> (RecoveryCodes, Vec<Digest>) {
    let codes = second_factor::recovery_codes();
    let digests = codes.iter().map(|code| second_factor::recovery_digest(user.id, code)).collect();
    (RecoveryCodes { codes }, digests)
}

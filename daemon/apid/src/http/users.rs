//! `/api/v1/users`: people, as those see them who may do at least as much, in the same tenants.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use model::api::Page;
use model::api::people::{NewUser, User as Form, UserChange};
use model::{Code, Label, Refusal, Role, TenantId};
use store::{PeopleError, User};

use super::auth::Caller;
use super::in_path::InPath;
use super::paging::{PageQuery, read_page};
use super::problem::{Refused, bad_form, of_people, unavailable};
use super::tenants::tenant_named;
use super::{App, roles};
use crate::accounts::{entry, new_user};
use crate::clock::wall;
use crate::{people, sweep};

/// One user as the API shows it.
pub async fn form(app: &App, user: &User) -> Result<Form, Refusal> {
    Ok(forms(app, vec![user.clone()]).await?.remove(0))
}

async fn forms(app: &App, users: Vec<User>) -> Result<Vec<Form>, Refusal> {
    let with_factor = app.store.second_factors().await.map_err(|e| unavailable(&e))?;
    let tenants = app.desk.tenant_names().await?;
    let form = |user: User| Form {
        id: user.id,
        name: user.name,
        role: user.role,
        tenant: user.tenant.map(|id| tenants.get(&id).cloned().unwrap_or_else(gone)),
        second_factor: with_factor.contains(&user.id),
        created_at: user.created_at,
        disabled_at: user.disabled_at,
    };
    Ok(users.into_iter().map(form).collect())
}

/// How a tenant is shown whose rows are withheld.
pub fn gone() -> Label {
    "unknown".parse().expect("a label")
}

async fn find(app: &App, caller: &Caller, name: &Label) -> Result<User, Refusal> {
    let user = app.store.user(name).await.map_err(|e| unavailable(&e))?;
    let seen = user.filter(|user| caller.sees(user.tenant));
    seen.ok_or_else(|| Refusal::new(Code::UserNotFound, format!("there is no user {name}")))
}

/// As [`find`], if the caller may do at least as much.
async fn find_below(app: &App, caller: &Caller, name: &Label) -> Result<User, Refusal> {
    let user = find(app, caller, name).await?;
    at_most(caller, user.role)?;
    Ok(user)
}

/// Nobody gives, or takes from, more than it has itself.
pub fn at_most(caller: &Caller, role: Role) -> Result<(), Refusal> {
    if role <= caller.role {
        return Ok(());
    }
    Err(Refusal::new(Code::Forbidden, format!("{} is {}, and this is {role}", caller.by, caller.role)))
}

fn whole_server(role: Role, tenant: Option<TenantId>) -> Result<(), Refusal> {
    if role == Role::SuperAdmin && tenant.is_some() {
        return Err(Refusal::new(Code::BadRequest, "a super-admin is of no tenant: say tenant-admin"));
    }
    Ok(())
}

/// All users that the caller sees.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    page: PageQuery,
) -> Result<Json<Page<Form>>, Refused> {
    let page = read_page(page)?;
    let users = app.store.users().await.map_err(|e| unavailable(&e))?;
    let seen = users.into_iter().filter(|user| caller.sees(user.tenant));
    let Page { schema_version, items, next } = page.of(seen, |user| user.id, Ok)?;
    Ok(Json(Page { schema_version, items: forms(&app, items).await?, next }))
}

/// One user.
pub async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<Label>,
) -> Result<Json<Form>, Refused> {
    let user = find(&app, &caller, &name).await?;
    Ok(Json(form(&app, &user).await?))
}

/// A new user.
pub async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    wish: Result<Json<NewUser>, JsonRejection>,
) -> Result<(StatusCode, Json<Form>), Refused> {
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    at_most(&caller, wish.role)?;
    let tenant = match wish.tenant {
        Some(name) => Some(tenant_named(&app, &caller, name).await?),
        None => caller.tenant,
    };
    whole_server(wish.role, tenant)?;
    app.policy.judge(&wish.password, wish.name.as_str())?;
    if app.store.user(&wish.name).await.map_err(|e| unavailable(&e))?.is_none() {
        // What a former person of the name might do is not hers.
        roles::check_served(&app, tenant).await?;
        roles::forget_person(&app, &wish.name, None, &caller.by).await?;
    }
    let user = new_user(wish.name, wish.role, tenant, people::hash(wish.password).await?);
    let mut done = entry(caller.by, "user.create", user.name.as_str(), None);
    (done.tenant, done.detail) = (tenant, user.role.to_string());
    app.store.create_user(&user, &done).await.map_err(|e| of_user(&e))?;
    sweep::now(&app.desk, &app.store).await;
    Ok((StatusCode::CREATED, Json(form(&app, &user).await?)))
}

/// Another role, tenant or password; or it is disabled.
pub async fn change(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<Label>,
    wish: Result<Json<UserChange>, JsonRejection>,
) -> Result<Json<Form>, Refused> {
    let Json(wish) = wish.map_err(|rejection| bad_form(&rejection))?;
    let before = find_below(&app, &caller, &name).await?;
    let mut user = before.clone();
    if let Some(role) = wish.role {
        at_most(&caller, role)?;
        user.role = role;
    }
    user.tenant = match (wish.tenant, wish.all_tenants) {
        (Some(_), true) => return Err(Refusal::new(Code::BadRequest, "one tenant, or all").into()),
        (Some(name), false) => Some(tenant_named(&app, &caller, name).await?),
        (None, true) if caller.tenant.is_some() => return Err(Code::Forbidden.into()),
        (None, true) => None,
        (None, false) => user.tenant,
    };
    whole_server(user.role, user.tenant)?;
    if before.tenant.is_some() && user.tenant != before.tenant {
        // Nor is it where she has not been.
        roles::check_served(&app, user.tenant).await?;
        roles::forget_person(&app, &name, before.tenant, &caller.by).await?;
    }
    if let Some(disabled) = wish.disabled {
        user.disabled_at = disabled.then(|| before.disabled_at.unwrap_or_else(wall));
    }
    let password = match wish.password {
        Some(password) => Some(hashed(&app, &caller, &user, password).await?),
        None => None,
    };
    if user != before || wish.end_sessions {
        let mut done = entry(caller.by.clone(), "user.change", name.as_str(), None);
        (done.tenant, done.detail) = (user.tenant, changes(&before, &user, wish.end_sessions));
        let changed = app.store.update_user(&user, wish.end_sessions, &done).await;
        changed.map_err(|e| of_user(&e))?;
        sweep::now(&app.desk, &app.store).await;
    }
    if let Some(password) = password {
        let mut done = entry(caller.by, "user.password", name.as_str(), None);
        done.tenant = user.tenant;
        app.store.set_password(user.id, &password, &done).await.map_err(|e| of_user(&e))?;
    }
    Ok(Json(form(&app, &user).await?))
}

fn changes(before: &User, after: &User, end_sessions: bool) -> String {
    let mut said = Vec::new();
    if before.role != after.role {
        said.push(format!("{} instead of {}", after.role, before.role));
    }
    if before.tenant != after.tenant {
        said.push("another tenant".into());
    }
    if before.disabled_at != after.disabled_at {
        said.push(if after.disabled_at.is_some() { "disabled" } else { "enabled" }.into());
    }
    if end_sessions {
        said.push("sessions ended".into());
    }
    said.join(", ")
}

/// A password that somebody else gives a user, if it may be one.
async fn hashed(app: &App, caller: &Caller, user: &User, password: String) -> Result<String, Refusal> {
    if caller.user.as_ref().is_some_and(|own| own.id == user.id) {
        let detail = "one's own password is changed together with the current one";
        return Err(Refusal::new(Code::BadRequest, detail));
    }
    app.policy.judge(&password, user.name.as_str())?;
    people::hash(password).await
}

/// A user goes.
pub async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<Label>,
) -> Result<StatusCode, Refused> {
    let user = find_below(&app, &caller, &name).await?;
    let mut done = entry(caller.by.clone(), "user.delete", name.as_str(), None);
    done.tenant = user.tenant;
    app.store.delete_user(user.id, &done).await.map_err(|e| of_user(&e))?;
    if let Err(Refused { refusal, .. }) = roles::forget_person(&app, &name, None, &caller.by).await {
        tracing::warn!(%refusal, "roles name a person who is gone; looked for again soon");
    }
    sweep::now(&app.desk, &app.store).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Somebody lost the second factor and the recovery codes.
pub async fn remove_factor(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath<Label>,
) -> Result<StatusCode, Refused> {
    let user = find_below(&app, &caller, &name).await?;
    if caller.user.as_ref().is_some_and(|own| own.id == user.id) {
        return Err(Refusal::new(Code::BadRequest, "one's own second factor is removed with a code").into());
    }
    let mut done = entry(caller.by, "user.second-factor.remove", name.as_str(), None);
    done.tenant = user.tenant;
    match app.store.remove_second_factor(user.id, &done).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(PeopleError::NotFound) => Err(Code::SecondFactorOff.into()),
        Err(error) => Err(of_user(&error).into()),
    }
}

/// What is not there is the user.
fn of_user(error: &PeopleError) -> Refusal {
    match error {
        PeopleError::NotFound => Code::UserNotFound.into(),
        other => of_people(other),
    }
}

//! What may be wrong with the server, why it matters, and the command that mends it. Looks; changes nothing.

mod machine;
mod mesh;

use axum::extract::State;
use axum::{Extension, Json};
use model::api::SCHEMA_VERSION;
use model::api::admin::Examination;
use model::api::local::Finding;
use model::{Code, Refusal};
use store::Role;

use super::App;
use super::auth::Caller;
use super::problem::Refused;
use crate::clock::wall;

/// What may be wrong with the server.
pub async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Examination>, Refused> {
    only_everywhere(&caller, Role::Viewer)?;
    Ok(Json(Examination {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").into(),
        findings: examine(&app).await,
        now: wall(),
        public_url: app.site.public.to_string(),
        fingerprint: app.site.fingerprint,
    }))
}

/// Names of every tenant's devices are in the answer.
pub fn only_everywhere(caller: &Caller, role: Role) -> Result<(), Refusal> {
    if caller.tenant.is_none() && caller.role >= role {
        return Ok(());
    }
    Err(Refusal::new(Code::Forbidden, format!("this needs {role} of all tenants")))
}

/// Everything that was looked at, in a fixed order.
pub async fn examine(app: &App) -> Vec<Finding> {
    let (site, now) = (&app.site, wall());
    let checks = app.readiness.checks().await;
    let mut findings: Vec<Finding> = checks.iter().map(|(name, found)| machine::check(name, found)).collect();
    findings.push(machine::migrations(app.store.schema().await));
    findings.push(machine::people(app.store.users().await.map(|users| users.len())));
    findings.push(machine::disk(&site.state_dir, crate::room::of(&site.state_dir)));
    findings.push(machine::files());
    findings.push(machine::certificate(site.certificate_end, now));
    findings.push(machine::clock(site.started_at, app.clock.uptime(), now));
    findings.push(machine::stun(site.stun.as_deref()));
    findings.extend(machine::relays(&site.relays).await);
    match app.desk.read(mesh::look).await {
        Ok(seen) => findings.extend(mesh::findings(&seen, now)),
        Err(refusal) => findings.push(bad(
            "mesh",
            &refusal.to_string(),
            "nothing can be edited",
            "journalctl -u warren-apid",
        )),
    }
    findings
}

fn good(about: &str, what: &str) -> Finding {
    Finding {
        about: about.into(),
        ok: true,
        unchecked: false,
        what: what.into(),
        why: String::new(),
        remedy: String::new(),
    }
}

fn bad(about: &str, what: &str, why: &str, remedy: &str) -> Finding {
    Finding { ok: false, why: why.into(), remedy: remedy.into(), ..good(about, what) }
}

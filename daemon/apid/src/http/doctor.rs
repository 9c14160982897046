//! What may be wrong with the server, why it matters, and the command that mends it. Looks; changes nothing.

mod machine;
mod mesh;

use axum::Json;
use axum::extract::State;
use model::Timestamp;
use model::api::SCHEMA_VERSION;
use model::api::admin::Examination;
use model::api::local::Finding;

use super::App;
use super::problem::Refused;
use crate::backup;
use crate::clock::wall;

/// What may be wrong with the server.
pub async fn show(State(app): State<App>) -> Result<Json<Examination>, Refused> {
    Ok(Json(Examination {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").into(),
        findings: examine(&app).await,
        now: wall(),
        public_url: app.site.public.to_string(),
        fingerprint: app.site.fingerprint,
    }))
}

/// Everything that was looked at, in a fixed order.
pub async fn examine(app: &App) -> Vec<Finding> {
    let (site, now) = (&app.site, wall());
    let key_life = site.ssh_ca_key_life;
    let checks = app.readiness.checks().await;
    let mut findings: Vec<Finding> = checks.iter().map(|(name, found)| machine::check(name, found)).collect();
    findings.push(machine::migrations(app.store.schema().await));
    findings.extend(machine::sessions(app.store.engine(), app.store.shares_sessions()));
    findings.push(machine::people(app.store.users().await.map(|users| users.len())));
    findings.push(machine::disk(&site.state_dir, crate::room::of(&site.state_dir)));
    findings.push(machine::files());
    findings.push(machine::certificate(site.certificate_end, now));
    findings.push(machine::clock(site.started_at, app.clock.uptime(), now));
    findings.push(machine::stun(site.stun.as_deref()));
    findings.push(machine::backup(backup::last(&app.store).await, first_tenant(app).await, now));
    findings.extend(machine::relays(&site.relays).await);
    match app.desk.read(move |control| mesh::look(control, key_life)).await {
        Ok(seen) => findings.extend(mesh::findings(&seen, now)),
        Err(refusal) => findings.push(
            Finding::bad("mesh", refusal.to_string(), "journalctl -u warren-apid")
                .meaning("nothing can be edited"),
        ),
    }
    findings
}

/// When the server was set up, as far as its tenants tell.
async fn first_tenant(app: &App) -> Option<Timestamp> {
    let first = |control: &control::Control| {
        control.directories().map(|directory| directory.tenant().created_at).min()
    };
    app.desk.read(first).await.ok().flatten()
}

//! What a support bundle holds: versions, settings, state, figures, the last lines of the log and of the audit log.
//! No secret is in it: each text goes through the redactor.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::{Extension, Json};
use control::Control;
use model::Refusal;
use model::api::SCHEMA_VERSION;
use model::api::admin::SupportBundle;
use model::api::audit::AuditEntry;
use model::wire::VERSION;
use serde_json::{Value, json};

use super::auth::Caller;
use super::problem::{Refused, unavailable};
use super::server::current;
use super::{App, doctor};
use crate::accounts::entry;
use crate::audit::form;
use crate::clock::wall;
use crate::config::RECENT_LOG;

/// Rows of the audit log.
const AUDIT_ROWS: u32 = 500;
/// Devices whose state is told one by one; of others the number is.
const DEVICES_MAX: usize = 1_000;

const ABOUT: &str = "What somebody who helps with this server needs to see. Tokens, passwords, passphrases and keys were taken \
out (***). Names, addresses and public keys were not: look through it before you give it away.\n";

/// What somebody who helps needs. That it was taken is in the audit log.
pub async fn bundle(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<SupportBundle>, Refused> {
    let taken = entry(caller.by, "server.support-bundle", "", None);
    app.store.append_audit(&taken).await.map_err(|error| unavailable(&error))?;
    Ok(Json(SupportBundle { schema_version: SCHEMA_VERSION, files: files(&app).await? }))
}

/// Text by the name of its file.
async fn files(app: &App) -> Result<BTreeMap<String, String>, Refusal> {
    let rows = app.store.audit_list(None, None, AUDIT_ROWS).await.map_err(|error| unavailable(&error))?;
    // Each line by itself: a key that is cut off in one takes no other with it.
    let redact = |line: String| app.site.redactor.redact(&line);
    let tenants = app.desk.tenant_names().await?;
    let audit = rows.rows.into_iter().map(|row| audit_row(form(row, &tenants), redact));
    let audit = audit.collect::<Vec<_>>().join("\n");
    let log = RECENT_LOG.lines().into_iter().map(redact).collect::<Vec<_>>().join("\n");
    app.readiness.measure(&app.metrics).await;
    let texts = [
        ("README", ABOUT.to_owned()),
        ("versions.json", pretty(&versions(app).await)),
        ("settings.toml", app.site.settings.clone()),
        ("status.json", pretty(&current(app).await?)),
        ("doctor.json", pretty(&doctor::examine(app).await)),
        ("state.json", pretty(&app.desk.read(state).await?)),
        ("metrics.txt", app.metrics.text()),
        ("log.txt", log),
        ("audit.jsonl", audit),
    ];
    let redacted = texts.into_iter().map(|(name, text)| (name.to_owned(), app.site.redactor.redact(&text)));
    Ok(redacted.collect())
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("not written: {error}"))
}

async fn versions(app: &App) -> Value {
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    json!({
        "warren-apid": env!("CARGO_PKG_VERSION"),
        "link": VERSION,
        "schema": app.store.schema().await.map(|(here, _)| here).ok(),
        "kernel": kernel.ok(),
        "system": system.map(|name| name.trim_matches('"')),
        "architecture": std::env::consts::ARCH,
        "taken_at": wall(),
    })
}

/// A short look, as everybody waits for it.
fn state(control: &Control) -> Value {
    let tenants = control.directories().map(|directory| {
        let tenant = directory.tenant();
        json!({
            "name": tenant.name,
            "version": directory.version().to_string(),
            "devices": directory.live_count(),
            "records": directory.records().count(),
            "deleted": tenant.deleted_at.is_some(),
        })
    });
    let devices = control.directories().flat_map(|directory| {
        directory.devices().map(|device| {
            let presence = control.presence(device.id);
            json!({
                "id": device.id,
                "tenant": directory.tenant().name,
                "name": device.name,
                "standing": device.standing.as_str(),
                "os": device.os.to_string(),
                "enrolled_at": device.enrolled_at,
                "online": presence.is_some_and(|presence| presence.link.is_some()),
                "last_seen_at": presence.map(|presence| presence.row.last_seen),
                "software": presence.map(|presence| presence.row.software.to_string()),
                "holds": presence.and_then(|presence| presence.row.held).map(|held| held.version.to_string()),
                "settled": presence.is_some_and(|presence| presence.row.settled),
                "drift": presence.map(|presence| presence.drift_total),
                "problems": presence.map(|presence| {
                    presence.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
                }),
            })
        })
    });
    let withheld: Vec<String> = control.withheld().map(|(tenant, _)| tenant.id.to_string()).collect();
    json!({
        "tenants": tenants.collect::<Vec<_>>(),
        "withheld": withheld,
        "links": control.links(),
        "devices": devices.take(DEVICES_MAX).collect::<Vec<_>>(),
    })
}

/// A line as `warren audit export` writes it, its texts without secrets.
fn audit_row(mut entry: AuditEntry, redact: impl Fn(String) -> String) -> String {
    for text in [&mut entry.actor, &mut entry.target, &mut entry.detail] {
        *text = redact(std::mem::take(text));
    }
    serde_json::to_string(&entry).unwrap_or_else(|error| format!("not written: {error}"))
}

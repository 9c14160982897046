//! `warren server`.

use model::api::admin::{ServerStatus, Version};

use crate::admin::Admin;
use crate::args::Server as Command;
use crate::failure::{Exit, Failure};
use crate::output::Output;

pub(super) async fn run(admin: &Admin, command: &Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::Status => {
            let status: ServerStatus = admin.get("/api/v1/status").await?;
            show(&status, output);
            Ok(if status.status == "ok" { Exit::Done } else { Exit::Degraded })
        }
        Command::Version => {
            let version: Version = admin.get("/api/version").await?;
            if output.json() {
                output.json_line(&version);
            } else {
                let (low, high) = version.link_versions;
                output.line(&format!("warren-apid {} (link versions {low} to {high})", version.version));
            }
            Ok(Exit::Done)
        }
    }
}

fn show(status: &ServerStatus, output: &Output) {
    if output.json() {
        return output.json_line(status);
    }
    let mut facts = vec![("status", status.status.clone()), ("version", status.version.clone())];
    facts.extend(status.checks.iter().map(|(name, result)| (name.as_str(), result.clone())));
    facts.push(("engine", status.database.clone()));
    facts.push(("tenants", status.tenants.to_string()));
    facts.push(("devices", format!("{} active, {} online", status.devices_active, status.devices_online)));
    match &status.hub {
        None => facts.push(("hub", "never attached: start warren-netd".into())),
        Some(hub) => {
            let state = match (hub.online, hub.settled) {
                (true, true) => "online, settled",
                (true, false) => "online, not settled",
                (false, _) => "offline: see `systemctl status warren-netd`",
            };
            facts.push(("hub", format!("{} ({state})", hub.endpoint)));
            facts.extend(hub.engine.iter().map(|engine| ("hub wireguard", engine.clone())));
            facts.push(("hub key", hub.wireguard_key.to_string()));
            facts.extend(hub.problems.iter().map(|problem| ("hub problem", problem.clone())));
        }
    }
    facts.push((
        "up for",
        humantime::format_duration(std::time::Duration::from_secs(status.uptime_seconds)).to_string(),
    ));
    output.facts(&facts);
}

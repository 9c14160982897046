//! `warren server`.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use link::tls::HttpsTrust;
use model::api::admin::{Examination, ServerStatus, SupportBundle, Version};
use model::api::local::Finding;
use model::{Fingerprint, Timestamp};
use serde::Serialize;

use super::findings;
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
        Command::Doctor => doctor(admin, output).await,
        Command::SupportBundle { output: file } => support_bundle(admin, file.as_deref(), output).await,
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

/// Clocks that differ by more end logins and certificates at another time than people think.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);

async fn doctor(admin: &Admin, output: &Output) -> Result<Exit, Failure> {
    let seen: Examination = admin.get("/api/v1/doctor").await?;
    let mut findings = seen.findings;
    findings.push(clocks(seen.now, SystemTime::now()));
    findings.push(outside(&seen.public_url, seen.fingerprint, *output).await);
    Ok(findings::show(findings, output))
}

fn clocks(server: Timestamp, here: SystemTime) -> Finding {
    let here = here.duration_since(UNIX_EPOCH).unwrap_or_default();
    let server = Duration::from_micros(u64::try_from(server.unix_micros()).unwrap_or_default());
    let apart = Duration::from_secs(here.abs_diff(server).as_secs());
    if apart <= CLOCKS_APART_MAX {
        return Finding::good("clocks", "this machine's clock and the server's agree");
    }
    let apart = humantime::format_duration(apart);
    let what = format!("this machine's clock and the server's are {apart} apart");
    Finding::bad("clocks", what, "timedatectl, here and there")
        .meaning("logins and SSH certificates begin and end by the server's")
}

/// Whether the server answers from here where devices look for it.
async fn outside(url: &str, own: Fingerprint, output: Output) -> Finding {
    let here = |how: &str| format!("{url} answers from here{how}");
    let by_key = answers(url, HttpsTrust::Pinned(own), output).await;
    let by_authorities = match &by_key {
        Err(Some(_)) => answers(url, HttpsTrust::Authorities { extra_ca_file: None }, output).await,
        Ok(()) | Err(None) => Err(None),
    };
    match (by_key, by_authorities) {
        (Ok(()), _) => Finding::good("outside", here("")),
        (_, Ok(())) => Finding::good("outside", here(", with a certificate of a public authority")),
        (Err(key), Err(_)) => {
            let what = match key {
                Some(error) => format!("{url} does not answer from here: {error}"),
                None => format!("{url} is no URL"),
            };
            Finding::bad("outside", what, "check DNS, port forwarding and firewall on the way; --public-url")
                .meaning("devices and people outside find the server there or not at all")
        }
    }
}

async fn answers(url: &str, trust: HttpsTrust, output: Output) -> Result<(), Option<String>> {
    let address = url.parse().map_err(|_| None)?;
    let asked = Admin::anonymous(address, trust, output).get::<Version>("/api/version").await;
    asked.map(drop).map_err(|failure| Some(failure.detail().to_owned()))
}

async fn support_bundle(admin: &Admin, file: Option<&Path>, output: &Output) -> Result<Exit, Failure> {
    let bundle: SupportBundle = admin.get("/api/v1/support-bundle").await?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let path = file.map_or_else(|| format!("warren-support-{since}.tar").into(), Path::to_path_buf);
    let bytes = write_tar(&path, &bundle, since)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "name another --output"))?;
    if output.json() {
        output.object(&Written { file: path.display().to_string(), bytes, files: bundle.files.len() });
    } else {
        output.line(&path.display().to_string());
        output.say(
            "Secrets were taken out, names and addresses were not: look through it before you give it away.",
        );
    }
    Ok(Exit::Done)
}

/// A bundle that was written.
#[derive(Serialize)]
struct Written {
    file: String,
    bytes: u64,
    files: usize,
}

/// Only its owner reads it, as it tells of the whole mesh.
fn write_tar(path: &Path, bundle: &SupportBundle, since: u64) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let folder = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut archive = tar::Builder::new(file);
    for (name, text) in &bundle.files {
        // A name is a file in the folder, whatever a server says.
        let name = Path::new(name).file_name().ok_or(io::ErrorKind::InvalidData)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(since);
        archive.append_data(&mut header, Path::new(&folder).join(name), text.as_bytes())?;
    }
    archive.into_inner()?.metadata().map(|written| written.len())
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
        // It is a tenant's row that knows of it.
        None if status.checks.get("directories").is_some_and(|found| found != "ok") => {
            facts.push(("hub", "not known while tenants are withheld".into()));
        }
        None => facts.push(("hub", "never attached: start warren-netd".into())),
        Some(hub) => {
            let state = match (hub.online, hub.settled) {
                (true, true) => "online, settled",
                (true, false) => "online, not settled",
                (false, _) => "offline: see `systemctl status warren-netd`",
            };
            facts.push(("hub", format!("{} ({state})", hub.endpoint)));
            if !hub.own_ports.is_empty() {
                let ports: Vec<String> =
                    hub.own_ports.iter().map(|(tenant, port)| format!("{port} for {tenant}")).collect();
                facts.push(("own ports", ports.join(", ")));
            }
            facts.extend(hub.engine.iter().map(|engine| ("hub wireguard", engine.clone())));
            facts.push(("hub key", hub.wireguard_key.to_string()));
            facts.extend(hub.problems.iter().map(|problem| ("hub problem", problem.clone())));
        }
    }
    facts
        .push(("up for", humantime::format_duration(Duration::from_secs(status.uptime_seconds)).to_string()));
    output.facts(&facts);
}

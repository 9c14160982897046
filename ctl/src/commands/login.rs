//! `warren login`.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use link::ServerAddress;
use link::tls::HttpsTrust;
use model::api::admin::{CreatedApiToken, Login};
use model::{Fingerprint, Label};

use crate::admin::{Admin, Remembered, memory};
use crate::failure::{Exit, Failure};
use crate::output::Output;

pub(super) async fn run(
    output: &Output,
    url: &str,
    user: Option<Label>,
    password_file: Option<&Path>,
    fingerprint: Option<Fingerprint>,
) -> Result<Exit, Failure> {
    let address: ServerAddress =
        url.parse().map_err(|e| Failure::usage(format!("{url:?}: {e}"), "say https://HOST:8443"))?;
    let user = match user {
        Some(user) => user,
        None => {
            ask("user: ")?.parse().map_err(|e| Failure::usage(format!("user: {e}"), "give it with --user"))?
        }
    };
    let password = password(password_file)?;
    let pinned = fingerprint.is_some();
    let trust = match fingerprint {
        Some(fingerprint) => HttpsTrust::Pinned(fingerprint),
        None => HttpsTrust::Authorities { extra_ca_file: None },
    };
    let admin = Admin::anonymous(address.clone(), trust);
    let created: CreatedApiToken = admin.post("/api/v1/login", &Login { user, password }).await?;
    remember(&Remembered { server: address.to_string(), token: created.secret, pinned })?;
    output.say(format!("logged in to {address} as {} until {}", created.user, created.expires_at));
    Ok(Exit::Done)
}

fn password(file: Option<&Path>) -> Result<String, Failure> {
    match file {
        Some(path) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|e| Failure::usage(format!("{}: {e}", path.display()), "check --password-file")),
        None => rpassword::prompt_password("password: ")
            .map_err(|e| Failure::usage(format!("no password: {e}"), "give it with --password-file")),
    }
}

fn ask(prompt: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("no user was named", "give it with --user"));
    }
    // Without a prompt the question is merely harder to guess.
    let _ = write!(std::io::stderr(), "{prompt}");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|e| Failure::usage(e.to_string(), "give it with --user"))?;
    Ok(line.trim().into())
}

fn remember(login: &Remembered) -> Result<(), Failure> {
    let path = memory()?;
    let failed = |e: std::io::Error| {
        Failure::usage(format!("{}: {e}", path.display()), "use WARREN_API_TOKEN instead")
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let text = serde_json::to_vec_pretty(login).map_err(|e| Failure::bug(e.to_string()))?;
    let temporary = path.with_extension("new");
    // One left by a crash may have another mode.
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&temporary, &path).map_err(failed)
}

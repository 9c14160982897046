//! `warren login`.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use link::ServerAddress;
use link::tls::HttpsTrust;
use model::api::people::{LoggedIn, Login};
use model::{Code, Fingerprint, Label};

use crate::admin::{Admin, Remembered, memory};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// `warren login` as it was typed.
pub(super) struct Asked<'a> {
    pub(super) url: &'a str,
    pub(super) user: Option<&'a Label>,
    pub(super) password_file: Option<&'a Path>,
    pub(super) code: Option<&'a str>,
    pub(super) fingerprint: Option<Fingerprint>,
}

pub(super) async fn run(output: &Output, asked: &Asked<'_>) -> Result<Exit, Failure> {
    let Asked { url, user, password_file, code, fingerprint } = *asked;
    let address: ServerAddress =
        url.parse().map_err(|e| Failure::usage(format!("{url:?}: {e}"), "say https://HOST:8443"))?;
    let user = match user {
        Some(user) => user.clone(),
        None => ask("user: ", "--user")?
            .parse()
            .map_err(|e| Failure::usage(format!("user: {e}"), "give it with --user"))?,
    };
    let password = password("password: ", password_file)?;
    let pinned = fingerprint.is_some();
    let trust = match fingerprint {
        Some(fingerprint) => HttpsTrust::Pinned(fingerprint),
        None => HttpsTrust::Authorities { extra_ca_file: None },
    };
    let admin = Admin::anonymous(address.clone(), trust, *output);
    let mut form = Login { user, password, code: code.map(ToOwned::to_owned) };
    let mut answer: Result<LoggedIn, Failure> = admin.post_again("/api/v1/login", &form).await;
    if answer.as_ref().is_err_and(|failure| failure.is(Code::SecondFactorNeeded))
        && std::io::stdin().is_terminal()
    {
        form.code = Some(ask("code of your authenticator, or a recovery code: ", "--code")?);
        answer = admin.post_again("/api/v1/login", &form).await;
    }
    let begun = answer?;
    super::ssh::drop_held(None)?;
    remember(&Remembered { server: address.to_string(), token: begun.secret, pinned })?;
    output.say(format!("logged in to {address} as {} until {}", begun.user, begun.expires_at));
    Ok(Exit::Done)
}

/// A password from a file, or from the terminal without showing it.
pub(super) fn password(prompt: &str, file: Option<&Path>) -> Result<String, Failure> {
    match file {
        Some(path) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|e| Failure::usage(format!("{}: {e}", path.display()), "check --password-file")),
        None => rpassword::prompt_password(prompt)
            .map_err(|e| Failure::usage(format!("no password: {e}"), "give it with --password-file")),
    }
}

/// A line from the terminal.
pub(super) fn ask(prompt: &str, flag: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("nobody can be asked here", format!("give it with {flag}")));
    }
    // Without a prompt the question is merely harder to guess.
    let _ = write!(std::io::stderr(), "{prompt}");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|e| Failure::usage(e.to_string(), format!("give it with {flag}")))?;
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

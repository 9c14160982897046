//! `warren ca`.

use std::io::Write as _;

use model::api::ssh::{
    Advance, Authority, GivenBack, NewRevocation, Revocation, RevocationList, Revocations, Rotate, Unrevoke,
};
use model::{CaKind, Revoked};

use crate::admin::Admin;
use crate::args::Ca as Command;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Row};

impl Row for Authority {
    const HEADS: &'static [&'static str] = &["TYPE", "STATE", "PHASE", "SINCE", "SIGNS", "TRUSTED", "LIVE"];

    fn cells(&self) -> Vec<String> {
        let signs = self.keys.iter().find(|key| key.signs).map(|key| key.generation.to_string());
        let trusted: Vec<String> = self.keys.iter().map(|key| key.generation.to_string()).collect();
        vec![
            self.kind.to_string(),
            self.state.clone(),
            self.phase.clone(),
            self.since.to_string(),
            signs.unwrap_or_default(),
            trusted.join(","),
            self.living.to_string(),
        ]
    }

    fn id(&self) -> String {
        self.kind.to_string()
    }
}

impl Row for Revocation {
    const HEADS: &'static [&'static str] = &["TYPE", "WHAT", "SINCE", "UNTIL", "BY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.kind.to_string(),
            self.what.to_string(),
            self.since.to_string(),
            self.until.to_string(),
            self.by.clone().unwrap_or_else(|| "unknown".into()),
        ]
    }

    fn id(&self) -> String {
        self.what.to_string()
    }
}

pub(super) async fn run(admin: &Admin, command: &Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::Status => {
            let authorities = admin.list::<Authority>(&admin.of_tenant("/api/v1/ssh/authorities")).await?;
            let notes = notes(&authorities);
            output.list(authorities, "no authority yet: see `warren server status`");
            notes.iter().for_each(|note| output.say(note));
        }
        Command::Rotate { kind, emergency, yes } => {
            if *emergency {
                let ends = "Every certificate of its former keys opens nothing more";
                super::confirm(&format!("Replace the key of the {kind} authority? {ends}."), *yes)?;
            }
            stepped(&step(admin, *kind, "rotate", &Rotate { emergency: *emergency }).await?, output);
        }
        Command::Advance { kind, except } => {
            let form = Advance { except: except.clone() };
            stepped(&step(admin, *kind, "advance", &form).await?, output);
        }
        Command::Rollback { kind } => stepped(&step(admin, *kind, "rollback", &()).await?, output),
        Command::Krl { kind } => {
            let path = format!("/api/v1/ssh/authorities/{kind}/revoked");
            list(&admin.get(&admin.of_tenant(&path)).await?, output)?;
        }
        Command::Revoke { kind, what, unknown, yes } => {
            super::confirm(&format!("Take back {} of the {kind} authority?", listed(what)), *yes)?;
            let form = NewRevocation { kind: *kind, what: what.clone(), unknown: *unknown };
            revoke(admin, &form, output).await?;
        }
        Command::Revoked => {
            let revoked = admin.list::<Revocation>(&admin.of_tenant("/api/v1/ssh/revocations")).await?;
            output.list(revoked, "nothing is revoked");
        }
        Command::Unrevoke { what, yes } => {
            super::confirm(&format!("Make {} good again?", listed(what)), *yes)?;
            let path = admin.of_tenant("/api/v1/ssh/revocations/give-back");
            let done: GivenBack = admin.post(&path, &Unrevoke { what: what.clone() }).await?;
            if output.json() {
                output.object(&done);
            }
            output.say(format!("{} good again: hosts hear of it within seconds", done.given_back));
        }
    }
    Ok(Exit::Done)
}

async fn revoke(admin: &Admin, form: &NewRevocation, output: &Output) -> Result<(), Failure> {
    let done: Revocations = admin.post(&admin.of_tenant("/api/v1/ssh/revocations"), form).await?;
    if output.json() {
        output.object(&done);
    }
    output.say(format!("{} revoked, {} living certificates", done.revoked, done.certificates));
    if form.what.iter().any(|what| matches!(what, Revoked::Id(_))) {
        output.say(format!("new ones are refused too, until {}: `warren ca unrevoke` ends that", done.until));
    }
    Ok(())
}

async fn step(
    admin: &Admin,
    kind: CaKind,
    verb: &str,
    form: &impl serde::Serialize,
) -> Result<Authority, Failure> {
    admin.post(&admin.of_tenant(&format!("/api/v1/ssh/authorities/{kind}/{verb}")), form).await
}

fn stepped(authority: &Authority, output: &Output) {
    if output.json() {
        return output.object(authority);
    }
    output.say(format!("the {} authority is in {}", authority.kind, authority.phase));
    notes(std::slice::from_ref(authority)).iter().for_each(|note| output.say(note));
}

/// The bytes alone, so that they can go into a file.
fn list(list: &RevocationList, output: &Output) -> Result<(), Failure> {
    if output.json() {
        output.object(list);
        return Ok(());
    }
    let bytes = list.bytes().ok_or_else(|| Failure::bug("the server's list cannot be read"))?;
    let mut out = std::io::stdout().lock();
    let written = out.write_all(&bytes).and_then(|()| out.flush());
    written.map_err(|e| {
        let hint = "write it to a file and put that in place: sshd takes no half of a list";
        Failure::new(Exit::Refused, "output-closed", format!("the list cannot be written: {e}"), hint)
    })
}

/// What hosts are to trust, and whom a rotation waits for.
fn notes(authorities: &[Authority]) -> Vec<String> {
    let mut lines = vec![String::new()];
    for authority in authorities {
        let kind = authority.kind;
        let key = |key: &model::api::ssh::AuthorityKey| {
            let due = format!("  to be replaced by {}: warren ca rotate --type {kind}", key.due_at);
            let due = if key.is_due { due } else { String::new() };
            format!("{kind} key {}  {}{due}", key.generation, key.public_key)
        };
        lines.extend(authority.keys.iter().map(key));
        lines.extend(authority.missing.iter().map(|missing| format!("{kind} waits: {missing}")));
    }
    lines
}

fn listed(what: &[Revoked]) -> String {
    what.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

//! `warren user`.

use std::path::{Path, PathBuf};

use model::api::people::{
    FactorCode, NewUser, OfferedFactor, PasswordChange, RecoveryCodes, User, UserChange,
};
use model::{Code, Label};
use qrcode::QrCode;

use super::login::{ask, password};
use super::{confirm, draw};
use crate::admin::Admin;
use crate::args::{Args, Mfa, User as Command};
use crate::failure::{Exit, Failure};
use crate::output::{Output, Row};

impl Row for User {
    const HEADS: &'static [&'static str] = &["NAME", "ROLE", "TENANT", "SECOND FACTOR", "STATE", "CREATED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.role.to_string(),
            self.tenant.as_ref().map_or("all".into(), ToString::to_string),
            if self.second_factor { "on" } else { "off" }.into(),
            if self.disabled_at.is_some() { "disabled" } else { "active" }.into(),
            self.created_at.to_string(),
        ]
    }

    fn id(&self) -> String {
        self.name.to_string()
    }
}

pub(super) async fn run(args: &Args, command: &Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::Create { name, role, only_tenant, password_file } => {
            let admin = Admin::new(args)?;
            let password = new_password(password_file.as_deref())?;
            let (name, tenant) = (name.clone(), only_tenant.clone());
            let wish = NewUser { name, role: *role, tenant, password };
            let user: User = admin.post("/api/v1/users", &wish).await?;
            changed(&user, "is created", output);
        }
        Command::List => {
            let users = Admin::new(args)?.list::<User>("/api/v1/users").await?;
            output.list(users, "no user: `warren user create NAME`");
        }
        Command::Set { name, .. } => set(args, name, command, output).await?,
        Command::Delete { name, yes } => {
            confirm(&format!("Delete user {name} with its sessions and API tokens?"), *yes)?;
            Admin::new(args)?.delete(&format!("/api/v1/users/{name}")).await?;
            output.say(format!("user {name} is deleted"));
        }
        Command::Mfa(command) => mfa(args, command, output).await?,
    }
    Ok(Exit::Done)
}

fn changed(user: &User, what: &str, output: &Output) {
    if output.json() {
        output.object(user);
    }
    output.say(format!("user {} {what}", user.name));
}

async fn set(args: &Args, name: &Label, command: &Command, output: &Output) -> Result<(), Failure> {
    let Command::Set {
        role,
        only_tenant,
        all_tenants,
        password,
        password_file,
        current_password_file,
        disable,
        enable,
        end_sessions,
        ..
    } = command
    else {
        return Ok(());
    };
    let admin = Admin::new(args)?;
    let wants_password = *password || password_file.is_some();
    if wants_password && is_own(&admin, name).await? {
        return set_own_password(&admin, password_file, current_password_file, output).await;
    }
    let wish = UserChange {
        role: *role,
        tenant: only_tenant.clone(),
        all_tenants: *all_tenants,
        password: if wants_password { Some(new_password(password_file.as_deref())?) } else { None },
        disabled: (*disable || *enable).then_some(*disable),
        end_sessions: *end_sessions,
    };
    let user: User = admin.patch(&format!("/api/v1/users/{name}"), &wish).await?;
    changed(&user, "is changed", output);
    Ok(())
}

/// Whether the one who asks is that user: a local administrator is nobody.
async fn is_own(admin: &Admin, name: &Label) -> Result<bool, Failure> {
    match admin.get::<User>("/api/v1/me").await {
        Ok(me) => Ok(me.name == *name),
        Err(failure) if failure.is(Code::UserNotFound) => Ok(false),
        Err(failure) => Err(failure),
    }
}

async fn set_own_password(
    admin: &Admin,
    file: &Option<PathBuf>,
    current_file: &Option<PathBuf>,
    output: &Output,
) -> Result<(), Failure> {
    let current = password("current password: ", current_file.as_deref())?;
    let change = PasswordChange { current, new: new_password(file.as_deref())? };
    admin.post::<_, Option<()>>("/api/v1/me/password", &change).await?;
    output.say("the password is changed and every session has ended: `warren login` again");
    Ok(())
}

/// A password that is to be set: typed twice, as nobody sees it.
fn new_password(file: Option<&Path>) -> Result<String, Failure> {
    let first = password("new password: ", file)?;
    if file.is_none() && password("the same again: ", None)? != first {
        return Err(Failure::usage("the two passwords differ", "type it again"));
    }
    Ok(first)
}

async fn mfa(args: &Args, command: &Mfa, output: &Output) -> Result<(), Failure> {
    match command {
        Mfa::On => {
            let admin = Admin::person(args)?;
            let offered: OfferedFactor = admin.post("/api/v1/me/second-factor", &()).await?;
            show(&offered, output)?;
            let code = ask("the six digits that it shows now: ", "a terminal")?;
            let codes: RecoveryCodes =
                admin.post("/api/v1/me/second-factor/confirm", &FactorCode { code }).await?;
            recovery(&codes, output);
        }
        Mfa::Off { name: Some(name), .. } => {
            Admin::new(args)?.delete(&format!("/api/v1/users/{name}/second-factor")).await?;
            output.say(format!("user {name} logs in without a second factor"));
        }
        Mfa::Off { name: None, code } => {
            let form = FactorCode { code: code_of(code.as_deref())? };
            Admin::person(args)?.post::<_, Option<()>>("/api/v1/me/second-factor/remove", &form).await?;
            output.say("you log in without a second factor");
        }
        Mfa::RecoveryCodes { code } => {
            let form = FactorCode { code: code_of(code.as_deref())? };
            recovery(&Admin::person(args)?.post("/api/v1/me/recovery-codes", &form).await?, output);
        }
    }
    Ok(())
}

fn code_of(given: Option<&str>) -> Result<String, Failure> {
    given.map_or_else(|| ask("code of your authenticator: ", "--code"), |code| Ok(code.to_owned()))
}

fn show(offered: &OfferedFactor, output: &Output) -> Result<(), Failure> {
    if output.json() {
        output.object(offered);
        return Ok(());
    }
    let code = QrCode::new(&offered.url).map_err(|e| Failure::bug(format!("no QR code: {e}")))?;
    draw(&code, output);
    output.line(&format!("or type it in: {}", offered.secret));
    Ok(())
}

fn recovery(codes: &RecoveryCodes, output: &Output) {
    if output.json() {
        return output.object(codes);
    }
    output.say("keep these on paper; each stands in for your authenticator once:");
    codes.codes.iter().for_each(|code| output.line(code));
}

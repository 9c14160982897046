//! From the command line to the command.

mod api_token;
mod audit;
mod backup;
mod ca;
mod device;
mod dns;
mod findings;
mod local;
mod login;
mod nc;
mod plain;
mod query;
mod role;
mod server;
mod ssh;
mod tenant;
mod token;
mod user;

use std::io::{IsTerminal as _, Write as _};

use clap::CommandFactory as _;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::admin::Admin;
use crate::args::{Args, Command, Dns};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Runs the command.
pub async fn run(args: &Args, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        Command::Up { .. }
        | Command::Down { .. }
        | Command::Status { .. }
        | Command::Ping { .. }
        | Command::Wait { .. }
        | Command::Doctor { .. }
        | Command::Netcheck { .. }
        | Command::Logout { .. } => local::run(args, output).await,
        Command::Nc { host, port, timeout, profile } => {
            nc::run(&args.agent_socket, &profile.profile, host, *port, *timeout).await
        }
        Command::Login { url, user, password_file, code, fingerprint } => {
            let (user, password_file, code) = (user.as_ref(), password_file.as_deref(), code.as_deref());
            let asked = login::Asked { url, user, password_file, code, fingerprint: *fingerprint };
            login::run(output, &asked).await
        }
        Command::User(command) => user::run(args, command, output).await,
        Command::ApiToken(command) => api_token::run(args, command, output).await,
        Command::Tenant(command) => tenant::run(&Admin::new(args)?, command, output).await,
        Command::Token(command) => token::run(&Admin::new(args)?, command, output).await,
        Command::Device(command) => device::run(&Admin::new(args)?, command, output).await,
        Command::Dns(Dns::Query { name, kind, explain, profile }) => {
            let asked = query::Asked { name, kind: kind.as_deref(), explain: *explain };
            query::run(&args.agent_socket, &profile.profile, &asked, output).await
        }
        Command::Dns(command) => dns::run(&Admin::new(args)?, command, output).await,
        Command::Role(command) => role::run(&Admin::new(args)?, command, output).await,
        Command::Ssh { host, life, key, include, profile, rest } => {
            let (key, profile) = (key.as_deref(), &profile.profile);
            let asked = ssh::Asked { host, life: *life, key, include: *include, profile, rest };
            ssh::run(args, &asked, output).await
        }
        Command::Ca(command) => ca::run(&Admin::new(args)?, command, output).await,
        Command::Audit(command) => audit::run(&Admin::new(args)?, command, output).await,
        Command::Backup(command) => backup::run(args, command, output).await,
        Command::Server(command) => server::run(&Admin::new(args)?, command, output).await,
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Args::command(), "warren", &mut std::io::stdout());
            Ok(Exit::Done)
        }
        Command::Manpage => manpage(),
    }
}

fn manpage() -> Result<Exit, Failure> {
    let page = clap_mangen::Man::new(Args::command());
    page.render(&mut std::io::stdout())
        .map_err(|e| Failure::bug(format!("the page cannot be written: {e}")))?;
    Ok(Exit::Done)
}

/// Draws a QR code for a camera. Dark terminals show light on dark; readers take both only with a margin.
fn draw(code: &QrCode, output: &Output) {
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    picture.lines().for_each(|line| output.line(line));
}

/// Asks before something is destroyed; refuses where nobody can answer.
fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("this destroys something and nobody can be asked", "add --yes"));
    }
    let mut line = String::new();
    // Without a terminal to ask on there is no answer either, and that is a no.
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let _ = std::io::stdin().read_line(&mut line);
    if matches!(line.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(Exit::Refused, "not-confirmed", "nothing was changed", ""))
    }
}

//! `warren ssh`: a certificate for the person, and ssh with it. The key never leaves this machine.

mod place;

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::api::local::{Answer, Request};
use model::api::ssh::{IssuedCertificate, NewCertificate};
use model::{Label, Timestamp};

use crate::admin::{Admin, config_dir};
use crate::agent::ask_once;
use crate::args::Args;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use place::{CONFIG, Held, OwnKey, Place, Trust, Wanted};

/// What the person wants.
pub(super) struct Asked<'a> {
    pub host: &'a str,
    pub life: Option<Duration>,
    pub key: Option<&'a Path>,
    pub include: bool,
    pub profile: &'a Label,
    pub rest: &'a [String],
}

pub(super) async fn run(args: &Args, asked: &Asked<'_>, output: &Output) -> Result<Exit, Failure> {
    if asked.host == "known-hosts" {
        return known_hosts(args, asked, output).await;
    }
    // A login says which key it is from now on; another connection goes on with it.
    let place = Place::make(asked.key, asked.host != "login")?;
    if asked.host == "login" {
        if let Some(word) = asked.rest.first() {
            return Err(Failure::usage(
                format!("{word:?} means nothing to a login"),
                "see `warren ssh --help`",
            ));
        }
        let issued = login(args, &place, asked).await?;
        if asked.include {
            include(&place, output)?;
        }
        if output.json() {
            output.object(&issued);
        }
        output.say(format!("{} until {}", issued.principal, issued.valid_until));
        return Ok(Exit::Done);
    }
    let wanted = Wanted {
        profile: asked.profile.clone(),
        tenant: args.tenant.clone(),
        session: Admin::person(args)?.session(),
        now: wall(),
    };
    let held = place.held(&wanted).filter(|_| asked.life.is_none());
    let trust = Trust::ask(args, asked.profile, held.as_ref()).await;
    if !held.is_some_and(|held| trust.takes(&held)) {
        login(args, &place, asked).await?;
    }
    let mut ssh = Command::new("ssh");
    ssh.arg("-o").arg(format!("KnownHostsCommand={}", known_hosts_command(args, asked.profile)?));
    ssh.arg("-o").arg(format!("IdentityFile={}", quoted(&place.key())));
    ssh.arg("-o").arg(format!("CertificateFile={}", quoted(&place.certificate())));
    if let Some(revoked) = trust.revoked_hosts {
        ssh.arg("-o").arg(format!("RevokedHostKeys=\"{}\"", revoked.display()));
    }
    ssh.arg(asked.host).args(asked.rest);
    Err(no_openssh("ssh", &ssh.exec()))
}

/// Drops the certificate at hand: who logs in may be another. Of one profile alone where that is given.
pub(super) fn drop_held(profile: Option<&Label>) -> Result<(), Failure> {
    // Without a directory there is none at hand.
    config_dir().map_or(Ok(()), |folder| Place::of(&folder).drop_certificate(profile))
}

/// Gets a certificate and puts it where ssh finds it.
async fn login(args: &Args, place: &Place, asked: &Asked<'_>) -> Result<IssuedCertificate, Failure> {
    let public_key = place.public_key()?;
    place.check_certificate()?;
    let request = Request::SshVouch { profile: asked.profile.clone(), public_key: public_key.clone() };
    let Answer::Vouched { vouch } = ask_once(&args.agent_socket, &request, Duration::ZERO).await? else {
        return Err(Failure::bug("the agent answered with something else"));
    };
    let admin = Admin::person(args)?;
    let life_seconds = asked.life.map(|life| life.as_secs());
    let form = NewCertificate { public_key: public_key.clone(), vouch, life_seconds };
    let issued: IssuedCertificate =
        admin.post_again(&admin.of_tenant("/api/v1/ssh/certificates"), &form).await?;
    // ssh-agent finds the former one by its file.
    place.drop_certificate(None)?;
    let certificate = format!("{}\n", issued.certificate);
    place.write(&place.certificate(), certificate.as_bytes())?;
    let trust = Trust::ask(args, asked.profile, None).await;
    let held = Held {
        valid_until: issued.valid_until,
        profile: asked.profile.clone(),
        tenant: args.tenant.clone(),
        session: admin.session(),
        serial: issued.serial,
        identity: issued.principal.parse().map_err(|_| Failure::bug("the certificate is nobody's"))?,
        signer: issued.signer,
        public_key,
        addresses: trust.addresses.clone(),
        own: place.own.clone().map(|key| OwnKey { key, certificate }),
    };
    place.write(&place.file(CONFIG), config(args, asked.profile, place, &trust)?.as_bytes())?;
    place.note(&held)?;
    // What of the person's own is in ssh-agent, she says.
    if place.own.is_none() {
        hand_to_agent(place, issued.valid_until);
    }
    Ok(issued)
}

/// What ssh asks for when it connects: lines of known hosts, or an end that says that the host is no device of the mesh.
async fn known_hosts(args: &Args, asked: &Asked<'_>, output: &Output) -> Result<Exit, Failure> {
    let [host] = asked.rest else {
        return Err(Failure::usage("known-hosts wants one host", "see `warren ssh --help`"));
    };
    let request = Request::SshKnown { profile: asked.profile.clone(), host: host.clone() };
    let Answer::Known { lines } = ask_once(&args.agent_socket, &request, Duration::ZERO).await? else {
        return Err(Failure::bug("the agent answered with something else"));
    };
    if output.json() {
        output.object(&serde_json::json!({ "lines": lines }));
    } else {
        lines.iter().for_each(|line| output.say(line));
    }
    Ok(Exit::Done)
}

/// This program, as ssh is to call it: it takes no program that is not named from the root on.
fn known_hosts_command(args: &Args, profile: &Label) -> Result<String, Failure> {
    let program =
        std::env::current_exe().map_err(|e| Failure::bug(format!("this program has no path: {e}")))?;
    let socket = args.agent_socket.display();
    Ok(format!(
        "\"{}\" --agent-socket \"{socket}\" ssh --profile {profile} known-hosts %H",
        program.display()
    ))
}

/// What plain ssh needs to know of the mesh: nothing of it counts for other hosts.
fn config(args: &Args, profile: &Label, place: &Place, trust: &Trust) -> Result<String, Failure> {
    let command = known_hosts_command(args, profile)?;
    let check = command.replace('"', "'").replace("%H", "'%h' >/dev/null 2>&1");
    // One that does not know the word would refuse all of the person's configuration.
    let known = match knows_hosts_by_command(&ssh_version()) {
        true => format!("    KnownHostsCommand {command}\n"),
        false => String::new(),
    };
    // The check has brought the file up to date: where it is missing, nothing here counts.
    let revoked = trust.revoked_hosts.as_ref();
    let revoked =
        revoked.map(|file| format!("    RevokedHostKeys \"{}\"\n", file.display())).unwrap_or_default();
    Ok(format!(
        "# Of `warren ssh login`, which writes it anew.\nMatch exec \"{check}\"\n{known}\
         {revoked}    IdentityFile {}\n    CertificateFile {}\nMatch all\n",
        quoted(&place.key()),
        quoted(&place.certificate()),
    ))
}

/// A path as ssh_config(5) takes it: `%` begins a token there.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

/// What `ssh -V` says; empty if nobody knows.
fn ssh_version() -> String {
    let said = Command::new("ssh").arg("-V").stdin(Stdio::null()).output();
    said.map(|said| String::from_utf8_lossy(&said.stderr).into_owned()).unwrap_or_default()
}

/// Whether an ssh has `KnownHostsCommand`: OpenSSH has since 8.5. Of another nobody knows.
fn knows_hosts_by_command(version: &str) -> bool {
    let numbers = version.strip_prefix("OpenSSH_").unwrap_or_default();
    let mut numbers = numbers.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (8, 5),
        _ => true,
    }
}

/// Puts one line at the top of the person's own configuration, unless it is there: what comes first counts.
fn include(place: &Place, output: &Output) -> Result<(), Failure> {
    let home = std::env::var_os("HOME").ok_or_else(|| Failure::usage("HOME is not set", "set it"))?;
    let folder = Path::new(&home).join(".ssh");
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|e| unwritable(&folder, &e))?;
    let path = folder.join("config");
    let line = format!("Include \"{}\"", place.file(CONFIG).display());
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(unwritable(&path, &error)),
    };
    if before.lines().any(|there| there.trim() == line) {
        return Ok(());
    }
    // A link, as of a collection of such files, stays one.
    let target = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    let half = target.with_extension("warren-half");
    let open = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&half);
    let text = format!("{line}\n{before}");
    let written = open.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.and_then(|()| fs::rename(&half, &target)).map_err(|e| unwritable(&path, &e))?;
    output.say(format!("{} includes it", path.display()));
    Ok(())
}

/// Gives key and certificate to ssh-agent for as long as the certificate lives. Without one the files serve.
fn hand_to_agent(place: &Place, until: Timestamp) {
    if std::env::var_os("SSH_AUTH_SOCK").is_none() {
        return;
    }
    let left = (until.unix_micros() - wall().unix_micros()) / 1_000_000;
    let mut add = Command::new("ssh-add");
    add.args(["-q", "-t", &left.max(1).to_string()]).arg(place.key());
    add.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // An agent that takes nothing is no obstacle: ssh reads the files.
    let _ = add.status();
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(
        format!("{} cannot be used: {error}", path.display()),
        "check its owner and the room on its disk",
    )
}

fn no_openssh(program: &str, error: &std::io::Error) -> Failure {
    Failure::usage(
        format!("{program} cannot be started: {error}"),
        "install OpenSSH: apt-get install openssh-client",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssh_of_before_is_not_told_what_it_does_not_know() {
        for (version, expect) in [
            ("OpenSSH_9.2p1 Debian-2+deb12u7, OpenSSL 3.0.17", true),
            ("OpenSSH_8.5p1, LibreSSL", true),
            ("OpenSSH_8.4p1 Debian-5+deb11u3", false),
            ("OpenSSH_7.4p1, OpenSSL 1.0.2k-fips", false),
            ("OpenSSH_10.0p2", true),
            ("OpenSSH_for_Windows_8.1p1", true),
            ("", true),
        ] {
            assert_eq!(knows_hosts_by_command(version), expect, "{version}");
        }
    }
}

//! `warren ssh`: a certificate for the person, and ssh with it. The key never leaves this machine.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::api::local::{Answer, Request};
use model::api::ssh::{IssuedCertificate, NewCertificate};
use model::{CaKey, Label, Timestamp};
use serde::{Deserialize, Serialize};

use crate::admin::{Admin, config_dir};
use crate::agent::ask_once;
use crate::args::Args;
use crate::failure::{Exit, Failure};
use crate::output::Output;

const KEY: &str = "id_ed25519";
/// What plain ssh includes.
const CONFIG: &str = "config";
const CERTIFICATE: &str = "id_ed25519-cert.pub";
const HELD: &str = "held.json";
/// A certificate that ends sooner is renewed first: logging in and starting takes its time.
const LEFT_MIN: Duration = Duration::from_secs(120);

/// What the person wants.
pub(super) struct Asked<'a> {
    pub host: &'a str,
    pub life: Option<Duration>,
    pub include: bool,
    pub profile: &'a Label,
    pub rest: &'a [String],
}

/// What is known of the certificate at hand.
#[derive(Serialize, Deserialize)]
struct Held {
    valid_until: Timestamp,
    profile: Label,
    tenant: Option<Label>,
    /// The key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signer: Option<CaKey>,
}

/// The person's own directory for SSH.
struct Place(PathBuf);

impl Place {
    fn make() -> Result<Self, Failure> {
        let path = config_dir()?.join("ssh");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|e| unwritable(&path, &e))?;
        Ok(Self(path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The certificate at hand, if it is the one that is meant and lives long enough.
    fn held(&self, wanted: &Held) -> Option<Held> {
        let held =
            fs::read(self.file(HELD)).ok().and_then(|bytes| serde_json::from_slice::<Held>(&bytes).ok());
        let fits = |held: &Held| {
            held.valid_until > wall() + LEFT_MIN
                && (&held.profile, &held.tenant) == (&wanted.profile, &wanted.tenant)
        };
        held.filter(fits).filter(|_| self.file(CERTIFICATE).exists() && self.file(KEY).exists())
    }

    /// Puts a file in place, whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let (half, whole) = (self.file(&format!("{name}.half")), self.file(name));
        let open = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&half);
        let written = open.and_then(|mut file| std::io::Write::write_all(&mut file, bytes));
        written.and_then(|()| fs::rename(&half, &whole)).map_err(|e| unwritable(&whole, &e))
    }

    /// The public half of the person's key, which is made if it is not there.
    fn public_key(&self) -> Result<String, Failure> {
        let (key, public) = (self.file(KEY), self.file(&format!("{KEY}.pub")));
        if !key.exists() || !public.exists() {
            // ssh-keygen asks before it replaces: half of a pair is none.
            for file in [&key, &public] {
                let _ = fs::remove_file(file);
            }
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "warren", "-f"]).arg(&key);
            let made = keygen.status().map_err(|e| no_openssh("ssh-keygen", &e))?;
            if !made.success() {
                return Err(unwritable(&key, &format!("ssh-keygen ended with {made}")));
            }
        }
        fs::read_to_string(&public).map_err(|e| unwritable(&public, &e))
    }
}

pub(super) async fn run(args: &Args, asked: &Asked<'_>, output: &Output) -> Result<Exit, Failure> {
    if asked.host == "known-hosts" {
        return known_hosts(args, asked, output).await;
    }
    let place = Place::make()?;
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
    let wanted = Held {
        valid_until: Timestamp::default(),
        profile: asked.profile.clone(),
        tenant: args.tenant.clone(),
        signer: None,
    };
    let trust = Trust::ask(args, asked.profile).await;
    let held = place.held(&wanted).filter(|_| asked.life.is_none());
    if !held.is_some_and(|held| trust.takes(held.signer)) {
        login(args, &place, asked).await?;
    }
    let mut ssh = Command::new("ssh");
    ssh.arg("-o").arg(format!("KnownHostsCommand={}", known_hosts_command(args, asked.profile)?));
    ssh.arg("-o").arg(format!("IdentityFile={}", place.file(KEY).display()));
    ssh.arg("-o").arg(format!("CertificateFile={}", place.file(CERTIFICATE).display()));
    if let Some(revoked) = trust.revoked_hosts {
        ssh.arg("-o").arg(format!("RevokedHostKeys=\"{}\"", revoked.display()));
    }
    ssh.arg(asked.host).args(asked.rest);
    Err(no_openssh("ssh", &ssh.exec()))
}

/// What the agent says of whom to trust.
#[derive(Default)]
struct Trust {
    /// Whose certificates hosts take; `None` if nobody knows.
    keys: Option<Vec<CaKey>>,
    revoked_hosts: Option<PathBuf>,
}

impl Trust {
    /// An agent that is away, or of before, says nothing.
    async fn ask(args: &Args, profile: &Label) -> Self {
        let request = Request::SshTrusted { profile: profile.clone() };
        match ask_once(&args.agent_socket, &request, Duration::ZERO).await {
            Ok(Answer::Trusted { keys, revoked_hosts }) => Self { keys: Some(keys), revoked_hosts },
            _ => Self::default(),
        }
    }

    /// Whether hosts still take certificates of this signer: its key may have been replaced. If nobody knows, they do.
    fn takes(&self, signer: Option<CaKey>) -> bool {
        signer.zip(self.keys.as_ref()).is_none_or(|(signer, keys)| keys.contains(&signer))
    }
}

/// Gets a certificate and puts it where ssh finds it.
async fn login(args: &Args, place: &Place, asked: &Asked<'_>) -> Result<IssuedCertificate, Failure> {
    let public_key = place.public_key()?;
    let request = Request::SshVouch { profile: asked.profile.clone(), public_key: public_key.clone() };
    let Answer::Vouched { vouch } = ask_once(&args.agent_socket, &request, Duration::ZERO).await? else {
        return Err(Failure::bug("the agent answered with something else"));
    };
    let admin = Admin::person(args)?;
    let life_seconds = asked.life.map(|life| life.as_secs());
    let form = NewCertificate { public_key, vouch, life_seconds };
    let issued: IssuedCertificate =
        admin.post_again(&admin.of_tenant("/api/v1/ssh/certificates"), &form).await?;
    place.write(CERTIFICATE, format!("{}\n", issued.certificate).as_bytes())?;
    let held = Held {
        valid_until: issued.valid_until,
        profile: asked.profile.clone(),
        tenant: args.tenant.clone(),
        signer: Some(issued.signer),
    };
    let trust = Trust::ask(args, asked.profile).await;
    place.write(CONFIG, config(args, asked.profile, place, &trust)?.as_bytes())?;
    place.write(HELD, &serde_json::to_vec(&held).map_err(|e| Failure::bug(e.to_string()))?)?;
    hand_to_agent(place, issued.valid_until);
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
    // The check has brought the file up to date: where it is missing, nothing here counts.
    let revoked = trust.revoked_hosts.as_ref();
    let revoked =
        revoked.map(|file| format!("    RevokedHostKeys \"{}\"\n", file.display())).unwrap_or_default();
    Ok(format!(
        "# Of `warren ssh login`, which writes it anew.\nMatch exec \"{check}\"\n    KnownHostsCommand {command}\n\
         {revoked}    IdentityFile \"{}\"\n    CertificateFile \"{}\"\nMatch all\n",
        place.file(KEY).display(),
        place.file(CERTIFICATE).display(),
    ))
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
    add.args(["-q", "-t", &left.max(1).to_string()]).arg(place.file(KEY));
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

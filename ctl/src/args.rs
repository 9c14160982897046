//! The command line as CLI.md promises it.

mod backup;
mod devices;
mod people;
mod ssh;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use model::Label;

pub use self::backup::{Backup, Opened, Part};
pub use self::devices::{Device, Expiry, Tenant, Token};
pub use self::people::{ApiToken, Audit, Mfa, User};
pub use self::ssh::{Ca, Role};

/// Names, reaches and administers the devices of a Warren mesh.
#[derive(Debug, Parser)]
#[command(
    name = "warren",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Args {
    /// Print JSON with a schema_version, errors too.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print ids only.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// The agent's socket.
    #[arg(
        long,
        global = true,
        env = "WARREN_AGENT_SOCKET",
        default_value = "/run/warren/agent.sock",
        hide_env_values = true
    )]
    pub agent_socket: PathBuf,
    /// The server's own socket, for local administration.
    #[arg(
        long,
        global = true,
        env = "WARREN_APID_SOCKET",
        default_value = "/run/warren/apid.sock",
        hide_env_values = true
    )]
    pub apid_socket: PathBuf,
    /// Server to administer, such as https://vpn.example.org:8443.
    #[arg(long = "admin-server", global = true, env = "WARREN_SERVER", hide_env_values = true)]
    pub admin_server: Option<String>,
    /// API token for it.
    #[arg(long, global = true, env = "WARREN_API_TOKEN", hide_env_values = true)]
    pub api_token: Option<String>,
    /// Tenant to administer; needed only where there are several.
    #[arg(long, global = true, env = "WARREN_TENANT")]
    pub tenant: Option<Label>,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join the mesh the first time, and run.
    Up {
        /// Where the server is, such as https://vpn.example.org:8443. Needed the first time.
        #[arg(long)]
        server: Option<String>,
        /// Onboarding token. Needed the first time; - reads it from standard input.
        #[arg(long, env = "WARREN_TOKEN", hide_env_values = true)]
        token: Option<String>,
        /// Name to ask for; this machine's host name if absent.
        #[arg(long)]
        hostname: Option<String>,
        #[command(flatten)]
        profile: Profile,
        /// Give up waiting to be settled after so long.
        #[arg(long, default_value = "30s", value_parser = duration)]
        timeout: Duration,
    },
    /// Leave the mesh's interface, keep the identity.
    Down {
        #[command(flatten)]
        profile: Profile,
    },
    /// What this device is, holds and cannot do.
    Status {
        #[command(flatten)]
        profile: Profile,
        /// Print nothing and say by the exit code whether the agent lives, or is ready (7: degraded).
        #[arg(long)]
        check: Option<Check>,
    },
    /// Reach a device by name or address, and say the path.
    Ping {
        /// A name in the zone, or a mesh address.
        target: String,
        /// How many; until a reply comes directly, or ten, if absent.
        #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        count: Option<u32>,
        /// Wait so long for each reply.
        #[arg(short = 'W', long, default_value = "2s", value_parser = duration)]
        timeout: Duration,
        #[command(flatten)]
        profile: Profile,
    },
    /// Connect to a port of a device: standard input goes there, what comes back to standard output.
    ///
    /// In ssh_config(5): `ProxyCommand warren nc %h %p`.
    Nc {
        /// A name in the zone, or a mesh address.
        host: String,
        /// TCP port.
        #[arg(value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// Give up connecting after so long.
        #[arg(short = 'w', long, default_value = "30s", value_parser = duration)]
        timeout: Duration,
        #[command(flatten)]
        profile: Profile,
    },
    /// Log in to a device by certificate, or `ssh login`: get the certificate alone.
    ///
    /// `ssh known-hosts HOST` prints what ssh(1) asks for itself (KnownHostsCommand): whose certificates make a device known.
    ///
    /// The key and the certificate are in ~/.config/warren/ssh, and in ssh-agent where one runs, for as long as the
    /// certificate lives. What follows HOST goes to ssh(1).
    Ssh {
        /// A name in the zone or a mesh address, with USER@ before it if that is another; or `login`, or `known-hosts`.
        host: String,
        /// Life of the certificate, such as 8h; what the server gives if absent.
        #[arg(long, value_parser = duration)]
        life: Option<Duration>,
        /// A key of your own (FILE and FILE.pub), in a security key too, instead of the one that Warren makes. The certificate stands
        /// beside it, as FILE-cert.pub. It is used until `ssh login` names none.
        #[arg(long, value_name = "FILE", env = "WARREN_SSH_KEY")]
        key: Option<PathBuf>,
        /// Of `ssh login`: let plain ssh(1) know, by one Include line at the top of ~/.ssh/config.
        #[arg(long)]
        include: bool,
        #[command(flatten)]
        profile: Profile,
        /// For ssh(1): options and the command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Wait until something is true.
    Wait {
        /// settled, or reachable:NAME.
        #[arg(long = "for", value_parser = condition)]
        condition: Condition,
        /// Give up after so long.
        #[arg(long, default_value = "30s", value_parser = duration)]
        timeout: Duration,
        #[command(flatten)]
        profile: Profile,
    },
    /// What is wrong, and the command that mends it.
    Doctor {
        /// What to look at.
        #[arg(default_value = "dns")]
        subject: Subject,
        /// Who is asked for this name on this machine, and what comes of it.
        name: Option<String>,
        #[command(flatten)]
        profile: Profile,
    },
    /// What the NAT before this device does, and where other devices may reach it.
    Netcheck {
        #[command(flatten)]
        profile: Profile,
    },
    /// Forget this device's identity.
    Logout {
        #[command(flatten)]
        profile: Profile,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Log in as an administrator and remember it.
    Login {
        /// The server, such as https://vpn.example.org:8443.
        url: String,
        /// Name of the user.
        #[arg(long)]
        user: Option<Label>,
        /// File with the password; asked for on a terminal otherwise.
        #[arg(long)]
        password_file: Option<PathBuf>,
        /// Six digits of the second factor, or a recovery code; asked for on a terminal where one is needed.
        #[arg(long)]
        code: Option<String>,
        /// Fingerprint of the server's TLS key, for a certificate of its own making. The server prints it at start.
        #[arg(long)]
        fingerprint: Option<model::Fingerprint>,
    },
    /// People who administer.
    #[command(subcommand)]
    User(User),
    /// What scripts administer with.
    #[command(subcommand)]
    ApiToken(ApiToken),
    /// Isolated meshes on one server.
    #[command(subcommand)]
    Tenant(Tenant),
    /// Onboarding tokens.
    #[command(subcommand)]
    Token(Token),
    /// Enrolled devices.
    #[command(subcommand)]
    Device(Device),
    /// Names: records of your own in the zone, and what this device is told.
    #[command(subcommand)]
    Dns(Dns),
    /// Authorities that sign SSH certificates, and the rotation of their keys.
    #[command(subcommand)]
    Ca(Ca),
    /// What was done and refused.
    #[command(subcommand)]
    Audit(Audit),
    /// Who may be whom on which devices by an SSH certificate.
    #[command(subcommand)]
    Role(Role),
    /// Copies of the server, sealed.
    #[command(subcommand)]
    Backup(Backup),
    /// The server itself.
    #[command(subcommand)]
    Server(Server),
    /// Shell completions on standard output.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// The manual page on standard output.
    #[command(hide = true)]
    Manpage,
}

/// Which profile of the agent.
#[derive(Debug, clap::Args)]
pub struct Profile {
    /// Profile of the agent.
    #[arg(long, default_value = model::api::local::PROFILE_DEFAULT)]
    pub profile: Label,
}

/// `warren status --check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// The agent answers.
    Live,
    /// The device is active, settled and holds a link.
    Ready,
}

/// What `warren doctor` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Names.
    Dns,
    /// Direct paths to other devices.
    Paths,
    /// This machine's sshd.
    Ssh,
}

/// What `warren wait` waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// No change left to make, and a link.
    Settled,
    /// A device answers.
    Reachable(String),
}

/// `warren dns`.
#[derive(Debug, Subcommand)]
pub enum Dns {
    /// What this device's programs are told about a name.
    ///
    /// Ends with 0 if there are records, 5 if there are none, 3 if the name is refused, and 4 if nobody could be asked.
    Query {
        /// A name, short or whole (a dot at its end says that it is whole), or an address.
        name: String,
        /// A, AAAA, TXT, SRV, PTR and the like, or a number as in TYPE65.
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Say by which rules, too.
        #[arg(long)]
        explain: bool,
        #[command(flatten)]
        profile: Profile,
    },
    /// Records of your own.
    List,
    /// Add one.
    Add {
        #[command(flatten)]
        record: Record,
        /// Seconds that resolvers may keep it: 0 to 604800, which is a week; 30 if nothing is said.
        #[arg(long)]
        ttl: Option<u32>,
    },
    /// Remove one.
    Remove {
        #[command(flatten)]
        record: Record,
    },
}

/// A record on the command line.
#[derive(Debug, clap::Args)]
pub struct Record {
    /// Owner, with the zone or without it; '*.host' stands for every name below host that has no records of its own.
    pub name: String,
    /// A, AAAA, CNAME, TXT or SRV.
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// As the type wants it; of SRV "PRIORITY WEIGHT PORT TARGET", such as "10 5 8080 host.home.internal". A target
    /// without a dot is of the zone.
    pub value: String,
}

/// `warren server`.
#[derive(Debug, Subcommand)]
pub enum Server {
    /// Its checks, hub and figures.
    Status,
    /// What is wrong with it or soon will be, why that matters, and the command that mends it.
    ///
    /// Looks from the server and, at its public URL, from here. Ends with 7 if something is wrong.
    Doctor,
    /// Versions, settings, state, figures and the last lines of its logs in one file for somebody who helps.
    ///
    /// Tokens, passwords, passphrases and keys are taken out; names and addresses are not.
    SupportBundle {
        /// The file, which must not be there yet; warren-support-TIME.tar here if nothing is said.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Its version and what it speaks.
    Version,
}

/// Longest time that can be asked for: a year and a day, as for tokens.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if duration > model::limits::TOKEN_TTL_MAX { Err("at most 366 days".into()) } else { Ok(duration) }
}

fn condition(text: &str) -> Result<Condition, String> {
    match text.split_once(':') {
        None if text == "settled" => Ok(Condition::Settled),
        Some(("reachable", name)) if !name.is_empty() => Ok(Condition::Reachable(name.into())),
        _ => Err("say settled, or reachable:NAME".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn scripts_may_say_yes_wherever_a_person_is_changed_or_removed() {
        for line in [
            "warren user set ada --disable --yes",
            "warren user set ada --enable --yes",
            "warren user delete ada --yes",
        ] {
            let read = Args::try_parse_from(line.split(' ')).map(|args| args.command);
            assert!(matches!(read, Ok(Command::User(_))), "{line}: {read:?}");
        }
    }

    #[test]
    fn what_follows_the_host_is_for_ssh() {
        let read = |line: &str| match Args::try_parse_from(line.split(' ')).expect(line).command {
            Command::Ssh { host, life, rest, .. } => (host, life.map(|life| life.as_secs()), rest.join(" ")),
            other => panic!("{other:?}"),
        };
        assert_eq!(read("warren ssh --life 1h db"), ("db".into(), Some(3600), String::new()));
        assert_eq!(read("warren ssh login --life 1h"), ("login".into(), Some(3600), String::new()));
        assert_eq!(read("warren ssh db uptime -p"), ("db".into(), None, "uptime -p".into()));
        assert_eq!(read("warren ssh db -- -v -p 22"), ("db".into(), None, "-v -p 22".into()));
        assert_eq!(read("warren ssh --key k db"), ("db".into(), None, String::new()));
    }

    #[test]
    fn conditions_are_read_or_refused() {
        assert_eq!(condition("settled"), Ok(Condition::Settled));
        assert_eq!(condition("reachable:beta"), Ok(Condition::Reachable("beta".into())));
        for bad in ["", "reachable:", "reachable", "gone:x"] {
            assert!(condition(bad).is_err(), "{bad}");
        }
    }
}

//! The settings of `warren-apid`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use ipnet::{IpNet, Ipv4Net};
use link::ServerAddress;
use model::limits::RELAYS_MAX;
use model::relay::RelayPlace;
use model::{Endpoint, Fingerprint, Label, Name};
use zeroize::Zeroizing;

use crate::limiters::Capacities;
use crate::places::{HTTPS_CONNECTIONS_EACH, HTTPS_CONNECTIONS_MAX};
use crate::retention::Retention;

/// The unprivileged API process: owns the database, enrols devices, takes heartbeats, serves people.
#[derive(Debug, Parser)]
#[command(name = "warren-apid", version, max_term_width = 100)]
pub struct Settings {
    /// Instead of serving: `migrate` brings the database to the newest schema and ends, which serving does too; `verify` and
    /// `restore` are what `warren backup` runs.
    #[arg(value_enum)]
    pub task: Option<Task>,
    /// Of verify and restore: the file of the backup.
    #[arg(requires = "task")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub backup: BackupSettings,
    /// With migrate: try it, read every row as a server would, and take it all back. Nobody else writes meanwhile; use a
    /// copy where that matters.
    #[arg(long, requires = "task")]
    pub check: bool,
    /// What the process is: the server, or a relay alone, which needs no database and serves --serve-anchor.
    #[arg(long, env = "WARREN_ROLE", value_enum, default_value = "server")]
    pub role: Role,
    /// As a relay alone: fingerprint of the anchor of a tenant whose devices may relay; may be repeated.
    #[arg(long, env = "WARREN_SERVE_ANCHOR", value_delimiter = ',')]
    pub serve_anchor: Vec<Fingerprint>,
    /// As the server: a relay on another machine, ID=NAME@HOST:PORT#FINGERPRINT, with an ID from 1 that no other relay ever
    /// had and the fingerprint that the relay prints when it starts; may be repeated.
    #[arg(long, env = "WARREN_RELAY", value_delimiter = ',')]
    pub relay: Vec<AnnouncedRelay>,
    /// Where the database, the sealing key and the TLS key live.
    #[arg(long, env = "WARREN_STATE_DIR", default_value = "/var/lib/warren/apid")]
    pub state_dir: PathBuf,
    /// sqlite:PATH or postgres://…; SQLite in the state directory if absent.
    #[arg(long, env = "WARREN_DATABASE_URL", hide_env_values = true)]
    pub database: Option<String>,
    /// Connections to PostgreSQL for requests; two more are for the lease and for what other replicas write.
    #[arg(long, env = "WARREN_DATABASE_CONNECTIONS", default_value_t = store::CONNECTIONS_DEFAULT, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub database_connections: u32,
    /// Among replicas on PostgreSQL: what says which of them is the hub's server, the database or a Kubernetes Lease.
    #[arg(long, env = "WARREN_LEASE", value_enum, default_value = "database")]
    pub lease: LeaseIn,
    /// Name of the Kubernetes Lease, in the pod's own namespace.
    #[arg(long, env = "WARREN_LEASE_NAME", default_value = "warren-apid")]
    pub lease_name: Label,
    /// Where Kubernetes puts the pod's token, namespace and the authority of its API.
    #[arg(
        long,
        env = "WARREN_KUBERNETES_ACCOUNT",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    pub kubernetes_account: PathBuf,
    /// How devices and people reach this server, such as https://vpn.example.org:8443.
    #[arg(long, env = "WARREN_PUBLIC_URL")]
    pub public_url: Option<ServerAddress>,
    /// HTTPS and WebSocket (TCP), and QUIC (UDP) on the same number. `[::]` is both families.
    #[arg(long, env = "WARREN_LISTEN", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// STUN (UDP), there and on the next port, by which devices find direct paths to each other; they ask at the host of the
    /// public URL. `off` answers none.
    #[arg(long, env = "WARREN_STUN_LISTEN", default_value = "[::]:3478")]
    pub stun_listen: StunListen,
    /// Metrics, and health for probes. Never public.
    #[arg(long, env = "WARREN_METRICS_LISTEN", default_value = "127.0.0.1:8080")]
    pub metrics_listen: SocketAddr,
    /// Unix socket of the hub and of local administrators.
    #[arg(long, env = "WARREN_SOCKET", default_value = "/run/warren/apid.sock")]
    pub socket: PathBuf,
    /// User that warren-netd runs as; root may attach as hub too.
    #[arg(long, env = "WARREN_HUB_USER", default_value = "warren-netd")]
    pub hub_user: String,
    /// Group whose members administer without a password over the unix socket.
    #[arg(long, env = "WARREN_ADMIN_GROUP", default_value = "warren")]
    pub admin_group: String,
    /// Where devices reach the hub's WireGuard; the host of the public URL and the hub's port if absent.
    #[arg(long, env = "WARREN_HUB_ENDPOINT")]
    pub hub_endpoint: Option<Endpoint>,
    /// What every zone ends in: TENANT.SUFFIX.
    #[arg(long, env = "WARREN_ZONE_SUFFIX", default_value = "internal")]
    pub zone_suffix: Name,
    /// The tenant that a new database starts with.
    #[arg(long, env = "WARREN_FIRST_TENANT", default_value = "home")]
    pub first_tenant: Label,
    /// Its addresses.
    #[arg(long, env = "WARREN_FIRST_BLOCK", default_value = "100.64.0.0/16")]
    pub first_block: Ipv4Net,
    /// TLS certificate chain [PEM]; one of our own making if absent.
    #[arg(long, env = "WARREN_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// TLS private key [PEM].
    #[arg(long, env = "WARREN_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Passphrase that opens the keys in the database; a key file in the state directory if absent.
    #[arg(long, env = "WARREN_CA_PASSPHRASE", hide_env_values = true)]
    pub ca_passphrase: Option<String>,
    /// File with that passphrase.
    #[arg(long, env = "WARREN_CA_PASSPHRASE_FILE", conflicts_with = "ca_passphrase")]
    pub ca_passphrase_file: Option<PathBuf>,
    /// Of rewrap: file with the passphrase that opens the keys from now on.
    #[arg(long)]
    pub new_ca_passphrase_file: Option<PathBuf>,
    /// Of rewrap: take the passphrase away; seal.key in the state directory opens the keys from now on.
    #[arg(long, conflicts_with = "new_ca_passphrase_file", requires = "task")]
    pub to_key_file: bool,
    /// Password of the first administrator, `admin`; a one-time setup URL is printed if absent.
    #[arg(long, env = "WARREN_ADMIN_PASSWORD", hide_env_values = true)]
    pub admin_password: Option<String>,
    /// File of passwords that nobody may have, one a line, beside those that are easily guessed.
    #[arg(long, env = "WARREN_PASSWORD_BLOCKLIST")]
    pub password_blocklist: Option<PathBuf>,
    /// Network of proxies that end TLS in front of this server; may be repeated. Their X-Forwarded-For is believed, and
    /// agents behind them say --proxied.
    #[arg(long, env = "WARREN_TRUSTED_PROXY", value_delimiter = ',')]
    pub trusted_proxy: Vec<IpNet>,
    /// HTTPS connections of one address at once, links over WebSocket among them. Raise it where a balancer passes TCP through, or
    /// where many devices share an address and have no UDP; proxies of --trusted-proxy have half of all, 8192, if that is more.
    #[arg(long, env = "WARREN_CONNECTIONS_PER_ADDRESS", default_value_t = HTTPS_CONNECTIONS_EACH, value_parser = clap::value_parser!(u16).range(1..=i64::from(HTTPS_CONNECTIONS_MAX)))]
    pub connections_per_address: u16,
    /// How long a key of an SSH authority signs until it is due to be replaced: people are told 90, 30 and 7 days before. It
    /// goes on signing.
    #[arg(long, env = "WARREN_SSH_CA_KEY_LIFE", value_name = "TIME", default_value = "730d", value_parser = humantime::parse_duration)]
    pub ssh_ca_key_life: Duration,
    #[command(flatten)]
    pub capacities: Capacities,
    /// Run as root all the same. The process needs no privilege.
    #[arg(long)]
    pub allow_root: bool,
    #[command(flatten)]
    pub retention: Retention,
    /// File to which the audit log is appended too, one JSON object a line.
    #[arg(long, env = "WARREN_AUDIT_FILE")]
    pub audit_file: Option<PathBuf>,
    /// URL to which the audit log is posted too, such as https://log.example.org/warren.
    #[arg(
        long,
        env = "WARREN_AUDIT_WEBHOOK",
        hide_env_values = true,
        requires = "audit_webhook_secret_file"
    )]
    pub audit_webhook: Option<String>,
    /// File with the secret that signs what is posted: HMAC-SHA256 of the body, in the header Warren-Signature.
    #[arg(long, env = "WARREN_AUDIT_WEBHOOK_SECRET_FILE")]
    pub audit_webhook_secret_file: Option<PathBuf>,
    /// Authorities that the webhook's certificate may be of, beside the public ones [PEM].
    #[arg(long, env = "WARREN_AUDIT_WEBHOOK_CA_FILE")]
    pub audit_webhook_ca_file: Option<PathBuf>,
    /// After restoring the database from a backup, once: raise its epoch, so that every node takes it, and end.
    #[arg(long)]
    pub restored: bool,
    /// Print the settings in force and end.
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    pub log: shell::log::Settings,
    /// All of this as text, secrets masked.
    #[arg(skip)]
    pub printed: String,
}

/// What to do instead of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Task {
    /// Bring the database to the newest schema.
    Migrate,
    /// Restore a backup into a scratch directory, look whether it holds, and say so in JSON.
    Verify,
    /// Restore a backup.
    Restore,
    /// Have the keys in the database opened by another passphrase, or by a key file.
    Rewrap,
}

/// What a backup is opened with, and where it is restored.
#[derive(Debug, clap::Args)]
pub struct BackupSettings {
    /// Of verify and restore: file with the key that opens the backup, as `warren backup key` and age-keygen(1) write it.
    #[arg(long)]
    pub backup_key: Option<PathBuf>,
    /// Of verify and restore: file with the passphrase that opens it.
    #[arg(long, conflicts_with = "backup_key")]
    pub backup_passphrase_file: Option<PathBuf>,
    /// Of verify and restore: that passphrase.
    #[arg(long, env = "WARREN_BACKUP_PASSPHRASE", hide_env_values = true)]
    pub backup_passphrase: Option<String>,
    /// Of verify and restore: file with the passphrase that opened the keys of the server when the backup was made, if the
    /// server has another one now.
    #[arg(long)]
    pub backup_ca_passphrase_file: Option<PathBuf>,
    /// Of restore: give what is there another name beside, instead of refusing.
    #[arg(long)]
    pub force: bool,
    /// Of restore: where warren-netd keeps the hub's WireGuard key.
    #[arg(long, env = "WARREN_NETD_STATE_DIR", default_value = "/var/lib/warren/netd")]
    pub netd_state_dir: PathBuf,
}

/// What the lease is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LeaseIn {
    /// A row of the database.
    Database,
    /// `coordination.k8s.io/v1`, by the pod's service account.
    Kubernetes,
}

/// The last lines of this process's log, for support bundles.
pub static RECENT_LOG: shell::log::Recent = shell::log::Recent::new();

/// What the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Owns the database, and relays.
    Server,
    /// Relays only.
    Relay,
}

/// A relay as an operator writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedRelay(pub RelayPlace);

/// Not a relay as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a relay looks like 1=fra1@relay.example.org:8443#FINGERPRINT")]
pub struct BadRelay;

impl FromStr for AnnouncedRelay {
    type Err = BadRelay;
    fn from_str(text: &str) -> Result<Self, BadRelay> {
        let (id, rest) = text.split_once('=').ok_or(BadRelay)?;
        let (name, rest) = rest.split_once('@').ok_or(BadRelay)?;
        let (endpoint, certificate) = rest.rsplit_once('#').ok_or(BadRelay)?;
        let id = id.parse().ok().filter(|id| *id > 0).ok_or(BadRelay)?;
        let name = name.parse().map_err(|_| BadRelay)?;
        let endpoint = endpoint.parse().map_err(|_| BadRelay)?;
        let certificate = certificate.parse().map_err(|_| BadRelay)?;
        Ok(Self(RelayPlace { id, name, endpoint, certificate }))
    }
}

/// Two relays have one number, or there are more than a snapshot names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("relays need a number each, and there are {RELAYS_MAX} at most")]
pub struct BadRelays;

/// Where STUN is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StunListen {
    /// Nowhere.
    Off,
    /// At this UDP port and the next; 0 chooses two.
    At(SocketAddr),
}

/// Not a place for STUN.
#[derive(Debug, thiserror::Error)]
#[error("an address and a UDP port below 65535, or off")]
pub struct BadStunListen;

impl FromStr for StunListen {
    type Err = BadStunListen;
    fn from_str(text: &str) -> Result<Self, BadStunListen> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() < u16::MAX => Ok(Self::At(address)),
            Err(_) if text == "off" => Ok(Self::Off),
            _ => Err(BadStunListen),
        }
    }
}

/// Nobody said how devices reach this server, and the listening address does not tell.
#[derive(Debug, thiserror::Error)]
#[error("say how devices reach this server: --public-url https://vpn.example.org:{0}")]
pub struct PublicUrlMissing(u16);

impl Settings {
    /// The relays on other machines.
    pub fn relays(&self) -> Result<Vec<RelayPlace>, BadRelays> {
        let numbers: BTreeSet<u32> = self.relay.iter().map(|relay| relay.0.id).collect();
        if numbers.len() != self.relay.len() || numbers.len() > RELAYS_MAX {
            return Err(BadRelays);
        }
        Ok(self.relay.iter().map(|relay| relay.0.clone()).collect())
    }

    /// The database's URL.
    pub fn database_url(&self) -> String {
        self.database
            .clone()
            .unwrap_or_else(|| format!("sqlite:{}", self.state_dir.join("warren.db").display()))
    }

    /// What must never be shown: passphrase and passwords, the one in the database's URL too, what the webhook's bodies are signed
    /// with, and its URL.
    pub fn secrets(&self) -> Vec<Zeroizing<String>> {
        let read = |path: &Option<PathBuf>| path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let files = [read(&self.ca_passphrase_file), read(&self.audit_webhook_secret_file)];
        let url = self.database.as_ref().and_then(|url| Some(url.split_once("://")?.1.rsplit_once('@')?.0));
        let url = url.and_then(|user| user.split_once(':')).map(|(_, password)| password.to_owned());
        let backup = self.backup.backup_passphrase.clone();
        let all = [self.ca_passphrase.clone(), self.admin_password.clone(), backup, url];
        let webhook = self.audit_webhook.as_deref().map(parts_of_url).unwrap_or_default();
        let all = all.into_iter().chain(files).flatten().chain(webhook);
        all.map(|secret| Zeroizing::new(secret.trim().to_owned())).collect()
    }

    /// The public URL, or the listening address if that is one that others can reach.
    pub fn public(&self) -> Result<ServerAddress, PublicUrlMissing> {
        if let Some(url) = &self.public_url {
            return Ok(url.clone());
        }
        let ip = self.listen.ip();
        let reachable = !ip.is_unspecified() && !ip.is_loopback();
        reachable.then(|| self.listen.into()).ok_or(PublicUrlMissing(self.listen.port()))
    }
}

/// Shorter parts of a URL are words, such as a path that others have, too.
const URL_PART_BYTES_MIN: usize = 12;

/// A URL, and whatever in its path or its query may be a token.
fn parts_of_url(url: &str) -> Vec<String> {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let target = after_scheme.find(['/', '?']).map_or("", |at| &after_scheme[at..]);
    let parts = [target].into_iter().chain(target.split(['/', '?', '&', '=']));
    let parts = parts.filter(|part| part.len() >= URL_PART_BYTES_MIN);
    [url].into_iter().chain(parts).map(str::to_owned).collect()
}

impl shell::service::Daemon for Settings {
    fn log(&self) -> &shell::log::Settings {
        &self.log
    }

    fn print_config(&self) -> bool {
        self.print_config
    }

    fn recent_log() -> Option<&'static shell::log::Recent> {
        Some(&RECENT_LOG)
    }

    fn printed(&mut self, settings: String) {
        self.printed = settings;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_written_in_one_word_and_numbered_apart() {
        let key = Fingerprint::from_bytes([7; 32]);
        let word = format!("3=fra1@relay.example.org:8443#{key}");
        let relay: AnnouncedRelay = word.parse().expect("a relay");
        assert_eq!((relay.0.id, relay.0.name.as_str(), relay.0.certificate), (3, "fra1", key));
        assert_eq!(relay.0.endpoint.to_string(), "relay.example.org:8443");
        let six = format!("1=x@[2001:db8::1]:443#{key}").parse::<AnnouncedRelay>().expect("a relay");
        assert_eq!(six.0.endpoint.to_string(), "[2001:db8::1]:443");
        let zero = word.replace('3', "0");
        for bad in ["", "fra1@relay.example.org:8443", "1=fra1@relay.example.org:8443", zero.as_str()] {
            assert_eq!(bad.parse::<AnnouncedRelay>(), Err(BadRelay), "{bad}");
        }
        let relays = |words: &[&str]| {
            let flags = words.iter().flat_map(|word| ["--relay", word]);
            Settings::parse_from(["warren-apid"].into_iter().chain(flags)).relays()
        };
        assert_eq!(relays(&[&word]).map(|relays| relays.len()), Ok(1));
        assert_eq!(relays(&[&word, &word]), Err(BadRelays));
    }

    #[test]
    fn every_setting_that_is_a_secret_is_known_as_one() {
        let flags = [
            "warren-apid",
            "--ca-passphrase=harbour plum",
            "--admin-password=quartz",
            "--backup-passphrase=seven tins",
            "--database=postgres://warren:p:w@d@db.example.org/warren",
        ];
        let secrets = Settings::parse_from(flags).secrets();
        let secrets: Vec<&str> = secrets.iter().map(|secret| secret.as_str()).collect();
        assert_eq!(secrets, ["harbour plum", "quartz", "seven tins", "p:w@d"]);
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(file("seal"), "harbour plum\n").expect("written");
        std::fs::write(file("hook"), "between us two\n").expect("written");
        let flags = [
            "warren-apid".to_owned(),
            format!("--ca-passphrase-file={}", file("seal")),
            format!("--audit-webhook-secret-file={}", file("hook")),
            "--audit-webhook=https://log.example.org/services/T0123/QXpUc0RrVm9w?token=bG9uZyBlbm91Z2g"
                .to_owned(),
        ];
        let secrets = Settings::parse_from(flags).secrets();
        let secrets: Vec<&str> = secrets.iter().map(|secret| secret.as_str()).collect();
        let target = "/services/T0123/QXpUc0RrVm9w?token=bG9uZyBlbm91Z2g";
        let url = format!("https://log.example.org{target}");
        let parts = ["QXpUc0RrVm9w", "bG9uZyBlbm91Z2g"];
        assert_eq!(secrets, ["harbour plum", "between us two", &url, target, parts[0], parts[1]]);
        let none = Settings::parse_from(["warren-apid", "--database=sqlite:/a@b:c"]).secrets();
        assert!(none.is_empty(), "a path is no secret");
    }

    #[test]
    fn stun_has_an_address_and_a_port_with_a_next_one() {
        let check = |text: &str, expect: Option<StunListen>| assert_eq!(text.parse().ok(), expect, "{text}");
        check("off", Some(StunListen::Off));
        check("[::]:3478", Some(StunListen::At("[::]:3478".parse().expect("an address"))));
        check("192.0.2.1:0", Some(StunListen::At("192.0.2.1:0".parse().expect("an address"))));
        check("192.0.2.1:65535", None);
        check("3478", None);
        check("", None);
    }

    #[test]
    fn an_address_may_have_every_connection_and_no_more() {
        let each = |given: &[&str]| {
            let settings = Settings::try_parse_from(["warren-apid"].iter().chain(given));
            settings.map(|settings| settings.connections_per_address).ok()
        };
        let flag = "--connections-per-address";
        assert_eq!(each(&[]), Some(1024));
        assert_eq!(each(&[flag, "16384"]), Some(16_384));
        assert_eq!([each(&[flag, "16385"]), each(&[flag, "0"])], [None, None]);
    }

    #[test]
    fn without_a_url_the_listening_address_must_be_reachable() {
        let public = |listen: &str| Settings::parse_from(["warren-apid", "--listen", listen]).public();
        assert!(public("0.0.0.0:8443").is_err());
        assert!(public("203.0.113.1:8443").is_ok());
    }
}

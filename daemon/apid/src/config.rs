//! The settings of `warren-apid`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use ipnet::{IpNet, Ipv4Net};
use link::ServerAddress;
use model::{Endpoint, Label, Name};

/// The unprivileged API process: owns the database, enrols devices, takes heartbeats, serves people.
#[derive(Debug, Parser)]
#[command(name = "warren-apid", version, max_term_width = 100)]
pub struct Settings {
    /// Where the database, the sealing key and the TLS key live.
    #[arg(long, env = "WARREN_STATE_DIR", default_value = "/var/lib/warren/apid")]
    pub state_dir: PathBuf,
    /// sqlite:PATH or postgres://…; SQLite in the state directory if absent.
    #[arg(long, env = "WARREN_DATABASE_URL", hide_env_values = true)]
    pub database: Option<String>,
    /// How devices and people reach this server, such as https://vpn.example.org:8443.
    #[arg(long, env = "WARREN_PUBLIC_URL")]
    pub public_url: Option<ServerAddress>,
    /// HTTPS and WebSocket (TCP), and QUIC (UDP) on the same number.
    #[arg(long, env = "WARREN_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
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
    /// Passphrase that unseals the keys in the database; a key file in the state directory if absent.
    #[arg(long, env = "WARREN_CA_PASSPHRASE", hide_env_values = true)]
    pub ca_passphrase: Option<String>,
    /// File with that passphrase.
    #[arg(long, env = "WARREN_CA_PASSPHRASE_FILE", conflicts_with = "ca_passphrase")]
    pub ca_passphrase_file: Option<PathBuf>,
    /// Password of the first administrator, `admin`; a one-time setup URL is printed if absent.
    #[arg(long, env = "WARREN_ADMIN_PASSWORD", hide_env_values = true)]
    pub admin_password: Option<String>,
    /// Network of proxies that end TLS in front of this server; may be repeated. Their X-Forwarded-For is believed, and
    /// agents behind them say --proxied.
    #[arg(long, env = "WARREN_TRUSTED_PROXY", value_delimiter = ',')]
    pub trusted_proxy: Vec<IpNet>,
    /// Run as root all the same. The process needs no privilege.
    #[arg(long)]
    pub allow_root: bool,
    /// Days that the audit log goes back.
    #[arg(long, env = "WARREN_AUDIT_RETENTION_DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub audit_retention_days: u32,
    /// After restoring the database from a backup, once: raise its epoch, so that every node takes it, and end.
    #[arg(long)]
    pub restored: bool,
    /// Print the settings in force and end.
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    pub log: shell::log::Settings,
}

/// Nobody said how devices reach this server, and the listening address does not tell.
#[derive(Debug, thiserror::Error)]
#[error("say how devices reach this server: --public-url https://vpn.example.org:{0}")]
pub struct PublicUrlMissing(u16);

impl Settings {
    /// The database's URL.
    pub fn database_url(&self) -> String {
        self.database
            .clone()
            .unwrap_or_else(|| format!("sqlite:{}", self.state_dir.join("warren.db").display()))
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

impl shell::service::Daemon for Settings {
    fn log(&self) -> &shell::log::Settings {
        &self.log
    }

    fn print_config(&self) -> bool {
        self.print_config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_url_the_listening_address_must_be_reachable() {
        let public = |listen: &str| Settings::parse_from(["warren-apid", "--listen", listen]).public();
        assert!(public("0.0.0.0:8443").is_err());
        assert!(public("203.0.113.1:8443").is_ok());
    }
}

//! The settings of `warren-agent`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use host::InterfaceName;
use host::drive::Server;
use host::resolver::ResolverMode;
use host::wireguard::Mode;
use link::{PreferCarrier, ServerAddress, Trust};

/// The agent: keeps this device's interface, routes and names as the directory says.
#[derive(Debug, Parser)]
#[command(name = "warren-agent", version, max_term_width = 100)]
pub struct Settings {
    /// Where profiles live: keys, and what this device holds of its mesh.
    #[arg(long, env = "WARREN_STATE_DIR", default_value = "/var/lib/warren/agent")]
    pub state_dir: PathBuf,
    /// Unix socket for `warren`.
    #[arg(long, env = "WARREN_SOCKET", default_value = "/run/warren/agent.sock")]
    pub socket: PathBuf,
    /// Group whose members may use the socket; root always may.
    #[arg(long, env = "WARREN_GROUP", default_value = "warren")]
    pub group: String,
    /// WireGuard interface of the first profile; further profiles count on from its number.
    #[arg(long, env = "WARREN_INTERFACE", default_value = "wg0")]
    pub interface: InterfaceName,
    /// UDP port of WireGuard on the first profile's interface; any free one if absent.
    #[arg(long, env = "WARREN_LISTEN_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub listen_port: Option<u16>,
    /// auto, kernel or userspace.
    #[arg(long, env = "WARREN_WIREGUARD", default_value = "auto")]
    pub wireguard: Mode,
    /// Who resolves names on this machine and is told of the mesh's.
    #[arg(long, env = "WARREN_RESOLVER", default_value = "auto")]
    pub resolver: Resolver,
    /// UDP and TCP port of names, on this device's mesh addresses only.
    #[arg(long, env = "WARREN_DNS_PORT", default_value = "53", value_parser = clap::value_parser!(u16).range(1..))]
    pub dns_port: u16,
    /// The server's TLS ends at a proxy: its certificate is verified, and the link is a WebSocket.
    #[arg(long, env = "WARREN_PROXIED")]
    pub proxied: bool,
    /// Verify the server's certificate by these authorities [PEM] besides the public ones.
    #[arg(long, env = "WARREN_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// What carries the link.
    #[arg(long, env = "WARREN_CARRIER", default_value = "fastest")]
    pub carrier: Carrier,
    /// Print the settings in force and end.
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    pub log: shell::log::Settings,
}

/// Who is told of the mesh's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resolver {
    /// Whoever owns the machine's resolver.
    Auto,
    /// systemd-resolved.
    SystemdResolved,
    /// resolvconf or openresolv.
    Resolvconf,
    /// /etc/resolv.conf itself.
    File,
    /// Nobody.
    None,
}

/// What carries the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    /// QUIC, or WebSocket where UDP does not pass.
    Fastest,
    /// QUIC or nothing.
    Quic,
    /// WebSocket or nothing.
    Websocket,
}

impl From<Resolver> for ResolverMode {
    fn from(resolver: Resolver) -> Self {
        match resolver {
            Resolver::Auto => Self::Auto,
            Resolver::SystemdResolved => Self::Resolved,
            Resolver::Resolvconf => Self::Resolvconf,
            Resolver::File => Self::File,
            Resolver::None => Self::Off,
        }
    }
}

impl From<Carrier> for PreferCarrier {
    fn from(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Fastest => Self::Fastest,
            Carrier::Quic => Self::OnlyQuic,
            Carrier::Websocket => Self::OnlyWebSocket,
        }
    }
}

impl Settings {
    /// How a server is dialled.
    pub fn server(&self, address: ServerAddress) -> Server {
        let trust = if self.proxied || self.ca_file.is_some() {
            Trust::Authorities { extra_ca_file: self.ca_file.clone(), proxied: self.proxied }
        } else {
            Trust::Anchor
        };
        Server::Network { address, trust, prefer: self.carrier.into() }
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

    fn parse(args: &[&str]) -> Result<Settings, clap::Error> {
        Settings::try_parse_from([&["warren-agent"], args].concat())
    }

    #[test]
    fn resolvers_and_carriers_are_named_as_documented() {
        let resolver = |name| parse(&["--resolver", name]).map(|s| ResolverMode::from(s.resolver)).ok();
        assert_eq!(resolver("auto"), Some(ResolverMode::Auto));
        assert_eq!(resolver("systemd-resolved"), Some(ResolverMode::Resolved));
        assert_eq!(resolver("none"), Some(ResolverMode::Off));
        assert_eq!(resolver("magic"), None);
        let carrier = |name| parse(&["--carrier", name]).map(|s| PreferCarrier::from(s.carrier)).ok();
        assert_eq!(carrier("websocket"), Some(PreferCarrier::OnlyWebSocket));
        assert_eq!(carrier("pigeon"), None);
    }

    #[test]
    fn a_server_is_trusted_by_its_anchor_unless_authorities_are_asked_for() {
        let trust = |args: &[&str]| {
            let address = "https://vpn.example.org".parse().expect("an address");
            match parse(args).expect("settings").server(address) {
                Server::Network { trust, .. } => trust,
                Server::Unix { .. } => panic!("an agent's server is on the network"),
            }
        };
        assert_eq!(trust(&[]), Trust::Anchor);
        assert_eq!(trust(&["--proxied"]), Trust::Authorities { extra_ca_file: None, proxied: true });
        let file = Some("/etc/ca.pem".into());
        assert_eq!(
            trust(&["--ca-file", "/etc/ca.pem"]),
            Trust::Authorities { extra_ca_file: file, proxied: false }
        );
    }
}

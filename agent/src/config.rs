//! The settings of `warren-agent`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use host::InterfaceName;
use host::drive::{NamesSettings, Server};
use host::resolver::ResolverMode;
use host::sshd::{SSHD_CONFIG, SshLog, SshMode};
use host::wireguard::{Crypto, Tuning};
use link::{PreferCarrier, ServerAddress, Trust};
use model::Name;
use shell::config::WithoutEffect;
use stack::Inbound;

/// Where the proxies listen in mode netstack.
const PROXY_DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1055));

/// A proxy that strangers could reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a proxy at {0} is open to whoever reaches it: choose a loopback address for --proxy, or add --proxy-open"
)]
pub struct OpenProxy(SocketAddr);

/// The agent: keeps this device's interface, routes and names as the directory says.
#[derive(Debug, Parser)]
#[command(name = "warren-agent", version, max_term_width = 100)]
#[command(
    after_help = "warren-agent wg IFNAME runs the userspace WireGuard engine alone: see warren-agent wg --help."
)]
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
    /// auto, kernel, userspace; or netstack, which needs no privilege and has no interface: see --proxy and --inbound.
    #[arg(long, env = "WARREN_MODE", alias = "wireguard", default_value = "auto")]
    pub mode: Mode,
    /// Of userspace WireGuard: auto, reference, avx2 or avx512 seals packets; auto is the processor's fastest.
    #[arg(long, env = "WARREN_CRYPTO", default_value = "auto")]
    pub crypto: Crypto,
    /// Of userspace WireGuard: whether the kernel cuts and joins packets for it.
    #[arg(long, env = "WARREN_OFFLOAD", default_value = "true", action = clap::ArgAction::Set)]
    pub offload: bool,
    /// Whether the router is asked for a port (PCP, NAT-PMP, UPnP), so that other devices reach this one directly.
    #[arg(long, env = "WARREN_PORT_MAPPING", default_value = "true", action = clap::ArgAction::Set)]
    pub port_mapping: bool,
    /// Whether a NAT that gives ports by chance, here or at another device, is met by 256 sockets there and 1024 guesses
    /// here, for ten seconds at most: a router may have no room for as many.
    #[arg(long, env = "WARREN_BIRTHDAY", default_value = "true", action = clap::ArgAction::Set)]
    pub birthday: bool,
    /// Where SOCKS5 and HTTP proxies reach the mesh, or none; 127.0.0.1:1055 in mode netstack, else none.
    #[arg(long, env = "WARREN_PROXY")]
    pub proxy: Option<Proxy>,
    /// Let the proxies listen elsewhere than on loopback: whoever reaches them is on the mesh as this device.
    #[arg(long, env = "WARREN_PROXY_OPEN")]
    pub proxy_open: bool,
    /// Let the proxies connect to what is outside the mesh, too.
    #[arg(long, env = "WARREN_PROXY_OUTSIDE")]
    pub proxy_outside: bool,
    /// In mode netstack, ports of this machine's loopback that the mesh reaches: all, none, or 22,8080.
    #[arg(long, env = "WARREN_INBOUND", default_value = "all")]
    pub inbound: Inbound,
    /// Who resolves names on this machine and is told of the mesh's.
    #[arg(long, env = "WARREN_RESOLVER", default_value = "auto")]
    pub resolver: Resolver,
    /// Domains that this machine searches for names besides its zone, such as internal: then db.office is found as
    /// db.office.internal, if this machine is in that mesh too or its hub shows it. Repeat it, or separate by commas.
    #[arg(long, env = "WARREN_DNS_SEARCH", value_delimiter = ',')]
    pub dns_search: Vec<Name>,
    /// Whether this machine's sshd takes the mesh's certificates: auto does so where it reads a directory of drop-ins.
    #[arg(long, env = "WARREN_SSH", default_value = "auto")]
    pub ssh: SshMode,
    /// The configuration of that sshd.
    #[arg(long, env = "WARREN_SSHD_CONFIG", default_value = SSHD_CONFIG)]
    pub sshd_config: PathBuf,
    /// Where that sshd says whom it let in, which the server notes: auto, journal, off, or the path of a file.
    #[arg(long, env = "WARREN_SSHD_LOG", default_value = "auto")]
    pub sshd_log: SshLog,
    /// Take away what was installed for this machine's sshd, and end.
    #[arg(long)]
    pub restore_sshd: bool,
    #[command(flatten)]
    pub names: NamesSettings,
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
    /// Put back how names were resolved before, if an agent that is gone left it changed, and end.
    #[arg(long)]
    pub restore_resolver: bool,
    #[command(flatten)]
    pub metrics: shell::metrics::Settings,
    #[command(flatten)]
    pub log: shell::log::Settings,
}

/// How this device takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With an interface.
    Interface(host::wireguard::Mode),
    /// With a stack in this process, which needs no privilege.
    Netstack,
}

/// Not a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mode is auto, kernel, userspace or netstack")]
pub struct BadMode;

impl FromStr for Mode {
    type Err = BadMode;
    fn from_str(text: &str) -> Result<Self, BadMode> {
        match text {
            "netstack" => Ok(Self::Netstack),
            other => other.parse().map(Self::Interface).map_err(|_| BadMode),
        }
    }
}

/// Where the proxies listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// Here.
    At(SocketAddr),
    /// Nowhere.
    None,
}

/// Not a place for a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a proxy is ADDRESS:PORT or none")]
pub struct BadProxy;

impl FromStr for Proxy {
    type Err = BadProxy;
    fn from_str(text: &str) -> Result<Self, BadProxy> {
        match text {
            "none" => Ok(Self::None),
            address => address.parse().map(Self::At).map_err(|_| BadProxy),
        }
    }
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
    /// Where the proxies listen, if anywhere.
    ///
    /// # Errors
    /// Elsewhere than on loopback, and nobody said that this is meant.
    pub fn proxy(&self) -> Result<Option<SocketAddr>, OpenProxy> {
        match (self.proxy, self.mode) {
            (Some(Proxy::At(address)), _) if !address.ip().is_loopback() && !self.proxy_open => {
                Err(OpenProxy(address))
            }
            (Some(Proxy::At(address)), _) => Ok(Some(address)),
            (None, Mode::Netstack) => Ok(Some(PROXY_DEFAULT)),
            (Some(Proxy::None), _) | (None, Mode::Interface(_)) => Ok(None),
        }
    }

    /// Whether the mesh reaches a port of this machine in mode netstack. The proxies' is no way back into the mesh.
    pub fn admits(&self, port: u16) -> bool {
        let is_proxy = self.proxy().ok().flatten().is_some_and(|proxy| proxy.port() == port);
        self.inbound.admits(port) && !is_proxy
    }

    /// How our own engine works.
    pub const fn tuning(&self) -> Tuning {
        Tuning { crypto: self.crypto, offload: self.offload }
    }

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

    fn check(&self) -> Result<(), WithoutEffect> {
        let refuse = |setting, because, instead| Err(WithoutEffect { setting, because, instead });
        let has_proxy = match self.proxy {
            Some(proxy) => proxy != Proxy::None,
            None => self.mode == Mode::Netstack,
        };
        let with_proxy = "choose where proxies listen: --proxy ADDRESS:PORT";
        match self.mode {
            Mode::Interface(mode) => {
                if let Some(setting) = self.tuning().idle(mode) {
                    return refuse(setting, "in mode kernel", "choose --mode userspace");
                }
                if self.inbound != Inbound::All {
                    return refuse("inbound", "in a mode with an interface", "choose --mode netstack");
                }
            }
            Mode::Netstack => {
                if !matches!(self.resolver, Resolver::Auto | Resolver::None) {
                    return refuse("resolver", "in mode netstack", "choose a mode with an interface");
                }
            }
        }
        if let Some(setting) = self.names.idle() {
            return refuse(setting, "with --dns-forward off", "choose --dns-forward auto");
        }
        if self.proxy_open && !has_proxy {
            return refuse("proxy-open", "without a proxy", with_proxy);
        }
        if self.proxy_outside && !has_proxy {
            return refuse("proxy-outside", "without a proxy", with_proxy);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use host::drive::ForwardMode;

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
    fn only_the_mode_without_interface_has_proxies_by_itself() {
        let proxy = |args: &[&str]| {
            let proxy = parse(args).expect("settings").proxy();
            proxy.map(|at| at.map(|at| at.to_string()))
        };
        let at = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(proxy(&[]), Ok(None));
        assert_eq!(proxy(&["--mode", "netstack"]), at("127.0.0.1:1055"));
        assert_eq!(proxy(&["--mode", "netstack", "--proxy", "none"]), Ok(None));
        assert_eq!(proxy(&["--mode", "kernel", "--proxy", "[::1]:9"]), at("[::1]:9"));
        assert!(proxy(&["--proxy", "0.0.0.0:1055"]).is_err());
        assert_eq!(proxy(&["--proxy", "0.0.0.0:1055", "--proxy-open"]), at("0.0.0.0:1055"));
        for bad in [["--mode", "magic"], ["--proxy", "1055"], ["--inbound", "some"]] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_mesh_reaches_the_ports_that_are_named_but_no_proxy() {
        let settings = |args: &[&str]| parse(&[&["--mode", "netstack"], args].concat()).expect("settings");
        assert!(settings(&[]).admits(22) && !settings(&[]).admits(1055));
        assert!(settings(&["--proxy", "none"]).admits(1055));
        let named = settings(&["--inbound", "80,443"]);
        assert!(named.admits(443) && !named.admits(22));
    }

    #[test]
    fn what_would_do_nothing_is_refused() {
        use shell::service::Daemon as _;
        let check = |args: &str, refused: Option<&str>| {
            let args: Vec<&str> = args.split_whitespace().collect();
            let found = parse(&args).expect("settings").check().err();
            assert_eq!(found.map(|found| found.setting), refused, "{args:?}");
        };
        check("", None);
        check("--mode kernel --crypto avx2", Some("crypto"));
        check("--mode kernel --offload false", Some("offload"));
        check("--mode auto --crypto avx2 --offload false", None);
        check("--mode netstack --crypto avx2", None);
        check("--mode userspace --inbound none", Some("inbound"));
        check("--mode netstack --inbound none", None);
        check("--mode netstack --resolver file", Some("resolver"));
        check("--mode netstack --resolver none", None);
        check("--proxy-outside", Some("proxy-outside"));
        check("--mode netstack --proxy none --proxy-outside", Some("proxy-outside"));
        check("--mode netstack --proxy none --proxy-open", Some("proxy-open"));
        check("--mode netstack --proxy-outside", None);
        check("--dns-forward off --dns-upstream 192.0.2.1", Some("dns-upstream"));
        check("--dns-ca-file ca.pem --dns-rebind-allow plex.direct", None);
        check("--proxy 0.0.0.0:1055 --proxy-open --proxy-outside", None);
        let said = parse(&["--proxy-open"]).expect("settings").check().expect_err("no proxy").to_string();
        assert!(
            said.starts_with("setting-without-effect: --proxy-open") && said.contains("--proxy A"),
            "{said}"
        );
    }

    #[test]
    fn a_device_looks_up_names_outside_where_all_come_to_it() {
        let names = |args: &[&str]| parse(args).expect("settings").names;
        assert_eq!(names(&[]).dns_forward, ForwardMode::Auto);
        assert_eq!(names(&["--dns-forward", "on"]).forward().expect("settings").mode, ForwardMode::On);
        assert!(!names(&[]).forward().expect("settings").for_mesh, "its own programs only");
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

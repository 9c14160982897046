//! The settings of `warren-netd`: what no server can make it leave.

use std::path::PathBuf;

use clap::Parser;
use host::InterfaceName;
use host::drive::{BadForward, ForwardSetup, NamesSettings, Sees};
use host::wireguard::{Crypto, Mode, Tuning};
use ipnet::IpNet;
use model::Name;
use shell::config::WithoutEffect;

/// A hub has no resolver file of ours, and looks up names for others only if it is told to.
const FORWARD_HELP: &str = "Names outside the mesh: off refuses them; auto asks the servers of --dns-upstream if there are any; \
     on asks this machine's own resolvers besides. For devices of the mesh only";

/// The privileged network daemon: keeps the hub's WireGuard interface, firewall and names as the directory says.
#[derive(Debug, Parser)]
#[command(name = "warren-netd", version, max_term_width = 100)]
#[command(mut_arg("dns_forward", |arg| arg.default_value("off").help(FORWARD_HELP)))]
pub struct Settings {
    /// Where the hub's WireGuard key and its ledger live.
    #[arg(long, env = "WARREN_STATE_DIR", default_value = "/var/lib/warren/netd")]
    pub state_dir: PathBuf,
    /// Unix socket of warren-apid.
    #[arg(long, env = "WARREN_SOCKET", default_value = "/run/warren/apid.sock")]
    pub socket: PathBuf,
    /// User that warren-apid runs as, by name or number. Nobody else is believed on that socket but root.
    #[arg(long, env = "WARREN_APID_USER", default_value = "warren-apid")]
    pub apid_user: String,
    /// WireGuard interface.
    #[arg(long, env = "WARREN_INTERFACE", default_value = "wg0")]
    pub interface: InterfaceName,
    /// UDP port of WireGuard.
    #[arg(long, env = "WARREN_LISTEN_PORT", default_value = "51820", value_parser = clap::value_parser!(u16).range(1..))]
    pub listen_port: u16,
    /// auto, kernel or userspace.
    #[arg(long, alias = "wireguard", env = "WARREN_MODE", default_value = "auto")]
    pub mode: Mode,
    /// Of userspace WireGuard: auto, reference, avx2 or avx512 seals packets; auto is the processor's fastest.
    #[arg(long, env = "WARREN_CRYPTO", default_value = "auto")]
    pub crypto: Crypto,
    /// Of userspace WireGuard: whether the kernel cuts and joins packets for it.
    #[arg(long, env = "WARREN_OFFLOAD", default_value = "true", action = clap::ArgAction::Set)]
    pub offload: bool,
    /// Networks that meshes may have; a server that hands out others is refused. Repeat it, or separate by commas.
    #[arg(long, env = "WARREN_MESH_BLOCKS", default_value = "100.64.0.0/10,fd00::/8", value_delimiter = ',')]
    pub mesh_blocks: Vec<IpNet>,
    /// What zones may end in; a server that serves others is refused. Repeat it, or separate by commas.
    #[arg(long, env = "WARREN_ZONE_SUFFIXES", default_value = "internal", value_delimiter = ',')]
    pub zone_suffixes: Vec<Name>,
    /// Tenants whose devices see the names of another tenant at the hub, by their whole names: TENANT=OTHER. Packets do not
    /// pass between them for it. Repeat it, or separate by commas.
    #[arg(long, env = "WARREN_DNS_SEES", value_delimiter = ',')]
    pub dns_sees: Vec<Sees>,
    #[command(flatten)]
    pub names: NamesSettings,
    /// Print the settings in force and end.
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    pub metrics: shell::metrics::Settings,
    #[command(flatten)]
    pub log: shell::log::Settings,
}

impl Settings {
    /// How our own engine works.
    pub const fn tuning(&self) -> Tuning {
        Tuning { crypto: self.crypto, offload: self.offload }
    }

    /// How names outside the mesh are looked up, for every device of it.
    ///
    /// # Errors
    /// The settings contradict each other, or the file of authorities is none.
    pub fn forward(&self) -> Result<ForwardSetup, BadForward> {
        Ok(ForwardSetup { for_mesh: true, zones: self.zone_suffixes.clone(), ..self.names.forward()? })
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
        if let Some(setting) = self.tuning().idle(self.mode) {
            return refuse(setting, "in mode kernel", "choose --mode userspace");
        }
        if let Some(setting) = self.names.idle() {
            return refuse(setting, "with --dns-forward off", "choose --dns-forward auto");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use host::drive::ForwardMode;

    use super::*;

    fn parse(args: &[&str]) -> Result<Settings, clap::Error> {
        Settings::try_parse_from([&["warren-netd"], args].concat())
    }

    #[test]
    fn the_defaults_are_what_meshes_use() {
        let settings = parse(&[]).expect("defaults");
        assert_eq!(
            settings.mesh_blocks,
            ["100.64.0.0/10".parse().expect("v4"), "fd00::/8".parse().expect("v6")]
        );
        assert_eq!(settings.zone_suffixes, ["internal".parse().expect("a name")]);
        assert_eq!(settings.listen_port, 51_820);
    }

    #[test]
    fn lists_are_repeated_or_separated() {
        let blocks = |args: &[&str]| parse(args).expect("settings").mesh_blocks.len();
        assert_eq!(blocks(&["--mesh-blocks", "10.0.0.0/8,fd00::/8"]), 2);
        assert_eq!(blocks(&["--mesh-blocks", "10.0.0.0/8", "--mesh-blocks", "fd00::/8"]), 2);
    }

    #[test]
    fn the_engine_is_chosen_and_tuned() {
        let settings = parse(&["--mode", "userspace", "--crypto", "reference", "--offload", "false"]);
        let settings = settings.expect("settings");
        assert_eq!((settings.mode, settings.offload), (Mode::Userspace, false));
        assert_eq!(settings.crypto.to_string(), "reference");
        assert_eq!(parse(&["--wireguard", "kernel"]).map(|s| s.mode).ok(), Some(Mode::Kernel));
        assert!(parse(&[]).expect("defaults").offload);
    }

    #[test]
    fn what_would_do_nothing_is_refused() {
        use shell::service::Daemon as _;
        let refused = |args: &[&str]| parse(args).expect("settings").check().err().map(|found| found.setting);
        assert_eq!(refused(&["--mode", "kernel", "--crypto", "avx2"]), Some("crypto"));
        assert_eq!(refused(&["--mode", "kernel", "--offload", "false"]), Some("offload"));
        assert_eq!(refused(&["--crypto", "avx2", "--offload", "false"]), None);
        assert_eq!(refused(&["--dns-upstream", "10.0.0.53"]), Some("dns-upstream"));
        assert_eq!(refused(&["--dns-rebind-allow", "plex.direct"]), Some("dns-rebind-allow"));
        assert_eq!(refused(&["--dns-forward", "auto", "--dns-rebind-allow", "plex.direct"]), None);
    }

    #[test]
    fn the_hub_forwards_only_if_it_is_told_to_and_never_what_may_be_the_meshs() {
        let forward = |args: &[&str]| parse(args).expect("settings").forward();
        assert_eq!(forward(&[]).expect("settings").mode, ForwardMode::Off);
        let on = forward(&["--dns-forward", "on", "--dns-upstream", "tls://9.9.9.9"]).expect("settings");
        assert_eq!((on.mode, on.for_mesh, on.config.upstreams.len()), (ForwardMode::On, true, 1));
        assert_eq!(on.zones, ["internal".parse().expect("a name")]);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            ["--interface", "../x"],
            ["--listen-port", "0"],
            ["--mode", "magic"],
            ["--crypto", "rot13"],
            ["--offload", "perhaps"],
            ["--mesh-blocks", "10.0.0.0/33"],
            ["--zone-suffixes", "a b"],
            ["--dns-sees", "home"],
            ["--dns-sees", "home=home"],
            ["--dns-sees", "=office"],
            ["--metrics-listen", "0.0.0.0:8081"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}

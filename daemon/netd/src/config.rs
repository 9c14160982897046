//! The settings of `warren-netd`: what no server can make it leave.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Parser;
use host::InterfaceName;
use host::drive::{BadForward, ForwardMode, ForwardSetup, ForwardWishes, Rule, Sees};
use host::drive::{LIMIT_PER_SECOND_DEFAULT, NamesLimit, NamesOptions};
use host::wireguard::{Crypto, Mode, Tuning};
use ipnet::IpNet;
use model::Name;
use shell::config::WithoutEffect;

/// The privileged network daemon: keeps the hub's WireGuard interface, firewall and names as the directory says.
#[derive(Debug, Parser)]
#[command(name = "warren-netd", version, max_term_width = 100)]
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
    /// UDP and TCP port of names, on the hub's mesh addresses only.
    #[arg(long, env = "WARREN_DNS_PORT", default_value = "53", value_parser = clap::value_parser!(u16).range(1..))]
    pub dns_port: u16,
    /// Threads that answer names on each address; more than one helps where one cannot keep up.
    #[arg(long, env = "WARREN_DNS_THREADS", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub dns_threads: u8,
    /// Answers to one address in a second over UDP; who asks more is told to come by TCP. 0: no limit.
    #[arg(long, env = "WARREN_DNS_LIMIT", default_value_t = LIMIT_PER_SECOND_DEFAULT)]
    pub dns_limit: u32,
    /// Log one of so many questions; 0: none.
    #[arg(long, env = "WARREN_DNS_LOG_SAMPLE", default_value = "0")]
    pub dns_log_sample: u32,
    /// Tenants whose devices see the names of another tenant at the hub, by their whole names: TENANT=OTHER. Packets do not
    /// pass between them for it. Repeat it, or separate by commas.
    #[arg(long, env = "WARREN_DNS_SEES", value_delimiter = ',')]
    pub dns_sees: Vec<Sees>,
    /// Another program of ours may answer at the same addresses, such as the next one while this one ends.
    #[arg(long, env = "WARREN_DNS_SHARED")]
    pub dns_shared: bool,
    /// Names outside the mesh: off refuses them; auto asks the servers of --dns-upstream if there are any; on asks this
    /// machine's own resolvers besides. For devices of the mesh only.
    #[arg(long, env = "WARREN_DNS_FORWARD", default_value = "off")]
    pub dns_forward: ForwardMode,
    /// Who knows names outside the mesh: [SUFFIX=]ADDRESS, tls://ADDRESS#NAME or https://ADDRESS/PATH#NAME; without SUFFIX
    /// instead of the machine's own. Repeat it, or separate by commas.
    #[arg(long, env = "WARREN_DNS_UPSTREAM", value_delimiter = ',')]
    pub dns_upstream: Vec<Rule>,
    /// Domains outside the mesh whose names may lead to private addresses. Repeat it, or separate by commas.
    #[arg(long, env = "WARREN_DNS_REBIND_ALLOW", value_delimiter = ',')]
    pub dns_rebind_allow: Vec<Name>,
    /// Verify encrypted servers of names by these authorities [PEM] besides the public ones.
    #[arg(long, env = "WARREN_DNS_CA_FILE")]
    pub dns_ca_file: Option<PathBuf>,
    /// Print the settings in force and end.
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    pub metrics: shell::metrics::Settings,
    #[command(flatten)]
    pub log: shell::log::Settings,
}

impl Settings {
    /// How names are answered.
    pub fn names(&self) -> NamesOptions {
        NamesOptions {
            threads: self.dns_threads.into(),
            limit: NonZeroU32::new(self.dns_limit).map(NamesLimit::per_second),
            log_sample: self.dns_log_sample,
            shared: self.dns_shared,
        }
    }

    /// How our own engine works.
    pub const fn tuning(&self) -> Tuning {
        Tuning { crypto: self.crypto, offload: self.offload }
    }

    /// How names outside the mesh are looked up, for every device of it.
    ///
    /// # Errors
    /// The settings contradict each other, or the file of authorities is none.
    pub fn forward(&self) -> Result<ForwardSetup, BadForward> {
        Ok(ForwardSetup {
            for_mesh: true,
            zones: self.zone_suffixes.clone(),
            ..self.forward_wishes().setup()?
        })
    }

    fn forward_wishes(&self) -> ForwardWishes<'_> {
        ForwardWishes {
            mode: self.dns_forward,
            upstreams: &self.dns_upstream,
            rebind_allow: &self.dns_rebind_allow,
            ca_file: self.dns_ca_file.as_deref(),
        }
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
        if let Some(setting) = self.forward_wishes().idle() {
            return refuse(setting, "with --dns-forward off", "choose --dns-forward auto");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
    fn names_are_answered_as_usual_unless_told_otherwise() {
        let names = |args: &[&str]| parse(args).expect("settings").names();
        assert_eq!(names(&[]), NamesOptions::default());
        let told = names(&["--dns-threads", "3", "--dns-limit", "0", "--dns-log-sample", "100"]);
        assert_eq!((told.threads, told.limit, told.log_sample), (3, None, 100));
        assert_eq!(names(&["--dns-shared"]), NamesOptions { shared: true, ..NamesOptions::default() });
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
            ["--dns-port", "65536"],
            ["--dns-threads", "0"],
            ["--dns-threads", "17"],
            ["--dns-sees", "home"],
            ["--dns-sees", "home=home"],
            ["--dns-sees", "=office"],
            ["--dns-limit", "-1"],
            ["--metrics-listen", "0.0.0.0:8081"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}

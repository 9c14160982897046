//! What an operator sets about names, alike on hubs and agents. Knows no file of settings, and no device or hub.

use std::num::NonZeroU32;
use std::path::PathBuf;

use dns::forward::{ForwardConfig, ForwardError, Rule};
use dns::serve::{LIMIT_PER_SECOND_DEFAULT, Limit, Options};
use model::Name;

use crate::drive::forward::{ForwardMode, ForwardSetup};
use crate::files::{self, FileError};

/// How names are answered and looked up. A daemon flattens it into its own settings; a hub says its own default of
/// `dns_forward`.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct NamesSettings {
    /// UDP and TCP port of names, on this node's mesh addresses only.
    #[arg(long, env = "WARREN_DNS_PORT", default_value = "53", value_parser = clap::value_parser!(u16).range(1..))]
    pub dns_port: u16,
    /// Threads that answer names on each address; more than one helps where one cannot keep up.
    #[arg(long, env = "WARREN_DNS_THREADS", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub dns_threads: u8,
    /// Answers to one address in a second over UDP, other than this machine's own; who asks more is told to come by TCP.
    /// 0: no limit.
    #[arg(long, env = "WARREN_DNS_LIMIT", default_value_t = LIMIT_PER_SECOND_DEFAULT)]
    pub dns_limit: u32,
    /// Log one of so many questions; 0: none.
    #[arg(long, env = "WARREN_DNS_LOG_SAMPLE", default_value = "0")]
    pub dns_log_sample: u32,
    /// Another program of ours may answer at the same addresses, such as the next one while this one ends.
    #[arg(long, env = "WARREN_DNS_SHARED")]
    pub dns_shared: bool,
    /// Names outside the mesh: off refuses them; auto asks the resolvers that this machine had before, where its resolver
    /// file is ours, and the servers of --dns-upstream; on does so always.
    #[arg(long, env = "WARREN_DNS_FORWARD", default_value = "auto")]
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
}

/// Settings of forwarding that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadForward {
    /// The authorities cannot be read.
    #[error("--dns-ca-file")]
    File(#[source] FileError),
    /// There is no such file.
    #[error("--dns-ca-file {}: there is no such file", .0.display())]
    NoFile(PathBuf),
    /// They do not fit the forwarder.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

impl NamesSettings {
    /// How names are answered.
    pub fn options(&self) -> Options {
        Options {
            threads: self.dns_threads.into(),
            limit: NonZeroU32::new(self.dns_limit).map(Limit::per_second),
            log_sample: self.dns_log_sample,
            shared: self.dns_shared,
        }
    }

    /// Which of them is set and means nothing, as nothing is forwarded: its flag without dashes.
    pub const fn idle(&self) -> Option<&'static str> {
        match self.dns_forward {
            ForwardMode::Auto | ForwardMode::On => None,
            ForwardMode::Off if !self.dns_upstream.is_empty() => Some("dns-upstream"),
            ForwardMode::Off if !self.dns_rebind_allow.is_empty() => Some("dns-rebind-allow"),
            ForwardMode::Off if self.dns_ca_file.is_some() => Some("dns-ca-file"),
            ForwardMode::Off => None,
        }
    }

    /// How names outside the mesh are looked up, for this machine's own programs. Reads the file of authorities.
    ///
    /// # Errors
    /// [`BadForward`].
    pub fn forward(&self) -> Result<ForwardSetup, BadForward> {
        let authorities = match &self.dns_ca_file {
            None => None,
            Some(path) => {
                let read = files::read(path).map_err(BadForward::File)?;
                Some(read.ok_or_else(|| BadForward::NoFile(path.clone()))?)
            }
        };
        let config = ForwardConfig {
            upstreams: self.dns_upstream.clone(),
            rebind_allow: self.dns_rebind_allow.clone(),
            authorities,
            ..ForwardConfig::default()
        };
        config.verify()?;
        Ok(ForwardSetup { mode: self.dns_forward, config, ..ForwardSetup::default() })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        names: NamesSettings,
    }

    fn parse(args: &str) -> Result<NamesSettings, clap::Error> {
        let args = ["node"].into_iter().chain(args.split_whitespace());
        Alone::try_parse_from(args).map(|alone| alone.names)
    }

    #[test]
    fn names_are_answered_as_usual_unless_told_otherwise() {
        let options = |args: &str| parse(args).unwrap().options();
        assert_eq!(options(""), Options::default());
        let told = options("--dns-threads 3 --dns-limit 0 --dns-log-sample 100");
        assert_eq!((told.threads, told.limit, told.log_sample), (3, None, 100));
        assert_eq!(options("--dns-shared"), Options { shared: true, ..Options::default() });
        assert_eq!(parse("--dns-port 5353").unwrap().dns_port, 5353);
    }

    #[test]
    fn names_outside_the_mesh_are_looked_up_as_wished() {
        let forward = |args: &str| {
            let setup = parse(args).unwrap().forward();
            setup.map(|setup| (setup.mode, setup.config.upstreams.len())).map_err(|error| error.to_string())
        };
        assert_eq!(forward(""), Ok((ForwardMode::Auto, 0)));
        let servers = "corp.example=10.0.0.53,tls://9.9.9.9#dns.quad9.net";
        assert_eq!(forward(&format!("--dns-forward on --dns-upstream {servers}")), Ok((ForwardMode::On, 2)));
        assert_eq!(parse("--dns-rebind-allow plex.direct,corp.example").unwrap().dns_rebind_allow.len(), 2);
        let refused = |args: &str, said: &str| {
            let error = forward(args).expect_err(said);
            assert!(error.contains(said), "{error}");
        };
        refused(&format!("--dns-upstream {}", ["corp.example=10.0.0.53"; 65].join(",")), "too many");
        refused("--dns-ca-file /nowhere/ca.pem", "no such file");
        refused("--dns-ca-file /dev/null", "holds no certificate");
    }

    #[test]
    fn what_means_nothing_without_forwarding_is_known() {
        let check =
            |args: &str, expect: Option<&str>| assert_eq!(parse(args).unwrap().idle(), expect, "{args}");
        check("--dns-forward off", None);
        check("--dns-forward off --dns-upstream 192.0.2.1", Some("dns-upstream"));
        check("--dns-forward off --dns-rebind-allow corp.example", Some("dns-rebind-allow"));
        check("--dns-forward off --dns-ca-file ca.pem", Some("dns-ca-file"));
        check("--dns-upstream 192.0.2.1 --dns-rebind-allow corp.example --dns-ca-file ca.pem", None);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "--dns-port 0",
            "--dns-port 65536",
            "--dns-threads 0",
            "--dns-threads 17",
            "--dns-limit -1",
            "--dns-forward perhaps",
            "--dns-upstream dns.quad9.net",
            "--dns-rebind-allow a..b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

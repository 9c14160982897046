//! Tenants, the tokens that let devices in, and devices: `warren tenant`, `warren token`, `warren device`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use ipnet::Ipv4Net;
use model::{CommandKind, Label, TokenId};

use super::duration;

/// `warren tenant`.
#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// Make one.
    Create {
        /// Its name.
        name: Label,
        /// Its IPv4 block; a free /16 of 100.64.0.0/10 if absent.
        #[arg(long)]
        block: Option<Ipv4Net>,
        /// Give it an interface of its own on the hub, instead of the one that tenants share.
        #[arg(long)]
        own_interface: bool,
        /// UDP port of that interface; the next free one if absent.
        #[arg(long, requires = "own_interface")]
        hub_port: Option<u16>,
    },
    /// All of them.
    List,
    /// One of them.
    Show {
        /// Its name.
        name: Label,
    },
    /// Set how many devices one may have, and where it is on the hub.
    #[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["quota", "no_quota", "own_interface", "no_own_interface"])))]
    Set {
        /// Its name.
        name: Label,
        /// So many; those that it has stay.
        #[arg(long)]
        quota: Option<u32>,
        /// As many as there are addresses.
        #[arg(long, conflicts_with = "quota")]
        no_quota: bool,
        /// Give it an interface of its own on the hub. Its devices change over by themselves, plain peers need a new configuration.
        #[arg(long)]
        own_interface: bool,
        /// UDP port of that interface; the one that it has, or the next free one, if absent.
        #[arg(long, requires = "own_interface")]
        hub_port: Option<u16>,
        /// Put it back on the interface that tenants share.
        #[arg(long, conflicts_with = "own_interface")]
        no_own_interface: bool,
    },
    /// Close one at once, and erase it after a grace. One without devices goes at once.
    Delete {
        /// Its name.
        name: Label,
        /// How long it can be restored, also where it has no device; 7d for one with devices.
        #[arg(long, value_parser = duration)]
        grace: Option<Duration>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Bring back one that is closed, as it was.
    Restore {
        /// Its name.
        name: Label,
    },
}

/// `warren token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make one, and print it this once.
    Create {
        /// How long it lives.
        #[arg(long, default_value = "24h", value_parser = duration)]
        ttl: Duration,
        /// How many devices may use it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(model::limits::TOKEN_USES_MAX)))]
        uses: u32,
        /// Tag of its devices; may be repeated.
        #[arg(long = "tag")]
        tags: Vec<Label>,
        /// Let its devices wait for an administrator.
        #[arg(long)]
        approve: bool,
        /// Let its devices expire so long after they enrolled.
        #[arg(long, value_parser = duration)]
        expires: Option<Duration>,
        /// Let its devices go when nobody heard them for a while.
        #[arg(long)]
        ephemeral: bool,
        /// How long an ephemeral device may be silent: 10s to 31d.
        #[arg(long, requires = "ephemeral", default_value = "10m", value_parser = duration)]
        idle: Duration,
    },
    /// All of them, without their secrets.
    List,
    /// One of them.
    Show {
        /// Its id.
        id: TokenId,
    },
    /// End one. Devices that used it stay.
    Revoke {
        /// Its id.
        id: TokenId,
    },
}

/// `warren device`.
#[derive(Debug, Subcommand)]
pub enum Device {
    /// All of them.
    List,
    /// One of them.
    Show {
        /// Its name or id.
        device: String,
    },
    /// Add a WireGuard client without an agent, such as a phone: prints its configuration this once.
    ///
    /// The private key is made here and given to nobody else; the server is told the public one. The client reaches the mesh
    /// through the hub.
    AddPlain {
        /// Its name.
        name: Label,
        /// Show a QR code for WireGuard's own app instead of the text.
        #[arg(long)]
        qr: bool,
        /// Write the configuration to this file, which must not be there yet, for its owner alone.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Tag; may be repeated.
        #[arg(long = "tag")]
        tags: Vec<Label>,
    },
    /// Let one in that waits.
    Approve {
        /// Its name or id.
        device: String,
    },
    /// Give one another name.
    Rename {
        /// Its name or id.
        device: String,
        /// The new name.
        name: Label,
    },
    /// Set the tags of one.
    Tag {
        /// Its name or id.
        device: String,
        /// All its tags; none clears them.
        tags: Vec<Label>,
    },
    /// Set the labels of one, by which roles choose devices.
    Label {
        /// Its name or id.
        device: String,
        /// All its labels, such as env=prod; none clears them.
        #[arg(value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(Label, Label)>,
    },
    /// Set when one expires. One that has expired is as it was before.
    Set {
        /// Its name or id.
        device: String,
        /// So long from now, such as 30d; or never.
        #[arg(long, value_name = "TIME", value_parser = expiry)]
        expires: Expiry,
    },
    /// Tell one to do something once, or show what it was told.
    ///
    /// resync: ask for the whole snapshot and compare the host with it. report: say how it is, now. restart: begin the agent
    /// anew. rekey: another WireGuard key.
    Command {
        /// Its name or id.
        device: String,
        /// resync, report, restart or rekey.
        #[arg(required_unless_present = "list")]
        kind: Option<CommandKind>,
        /// A device that does not do it within so long need not any more: up to 24h.
        #[arg(long, default_value = "5m", value_parser = duration)]
        ttl: Duration,
        /// What it was told in the last month, and what came of it.
        #[arg(long, conflicts_with = "kind")]
        list: bool,
    },
    /// Remove one for good.
    Revoke {
        /// Its name or id.
        device: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// When a device expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// So long from now.
    After(Duration),
    /// Never.
    Never,
}

fn expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry::Never);
    }
    humantime::parse_duration(text).map(Expiry::After).map_err(|e| e.to_string())
}

/// A label on the command line.
pub(super) fn label(text: &str) -> Result<(Label, Label), String> {
    let (key, value) = text.split_once('=').ok_or("say KEY=VALUE")?;
    let part = |text: &str| text.parse::<Label>().map_err(|e| format!("{text:?}: {e}"));
    Ok((part(key)?, part(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_ends_are_read_or_refused() {
        let read = |text: &str| label(text).ok().map(|(key, value)| format!("{key} is {value}"));
        assert_eq!(read("env=prod").as_deref(), Some("env is prod"));
        for bad in ["env", "env=", "=prod", "env=a b", "env=a=b"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(expiry("never"), Ok(Expiry::Never));
        assert_eq!(expiry("30d"), Ok(Expiry::After(Duration::from_secs(30 * 24 * 3600))));
        assert!(expiry("soon").is_err());
    }
}

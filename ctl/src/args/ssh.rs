//! The authorities of SSH certificates and the roles: `warren ca`, `warren role`.

use std::time::Duration;

use clap::Subcommand;
use model::{CaKind, Label, Login, Revoked, SshIdentity};

use super::duration;

/// `warren ca`.
#[derive(Debug, Subcommand)]
pub enum Ca {
    /// Which keys sign and are trusted, and whom a rotation waits for.
    Status,
    /// Begin a rotation: make the next key, which is trusted and does not sign yet.
    Rotate {
        /// user or host.
        #[arg(long = "type", value_name = "TYPE")]
        kind: CaKind,
        /// The key is in the wrong hands: trust nothing but a new one, at once. What the former signed opens nothing more.
        #[arg(long)]
        emergency: bool,
        /// Do not ask.
        #[arg(long, requires = "emergency")]
        yes: bool,
    },
    /// Take the next step of a rotation. Refused while it would lock somebody out.
    Advance {
        /// user or host.
        #[arg(long = "type", value_name = "TYPE")]
        kind: CaKind,
        /// Name or id of a device that nobody waits for; may be repeated.
        #[arg(long, value_name = "DEVICE")]
        except: Vec<String>,
    },
    /// Let the former key sign again.
    Rollback {
        /// user or host.
        #[arg(long = "type", value_name = "TYPE")]
        kind: CaKind,
    },
    /// What is revoked, on standard output: for RevokedKeys of sshd, to be put in place whole.
    Krl {
        /// user or host.
        #[arg(long = "type", value_name = "TYPE")]
        kind: CaKind,
    },
    /// Take certificates back.
    Revoke {
        /// user or host.
        #[arg(long = "type", value_name = "TYPE")]
        kind: CaKind,
        /// serial:NUMBER, or id:u:NAME@TENANT for all of a person, new ones too for two days; of a host id:h:ID@TENANT.
        #[arg(required = true)]
        what: Vec<Revoked>,
        /// Also what the server does not know: a restored one has forgotten what it gave out since the backup.
        #[arg(long)]
        unknown: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// What is revoked of both authorities: since when, until when, and by whom.
    Revoked,
    /// Make good again what an administrator took back, as far as it lives.
    Unrevoke {
        /// serial:NUMBER or id:u:NAME@TENANT, as `warren ca revoked` shows it.
        #[arg(required = true)]
        what: Vec<Revoked>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// `warren role`.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// All of them.
    List,
    /// Make one, or have it say something else from now on. What is not said is not allowed.
    Set {
        /// Its name; `administrators` is where every tenant begins.
        name: Label,
        /// Whoever administers the tenant has it.
        #[arg(long)]
        administrators: bool,
        /// Who else has it: u:NAME of a user (`warren user list`); may be repeated.
        #[arg(long = "who", value_name = "IDENTITY")]
        identities: Vec<SshIdentity>,
        /// Each may be the login of its own name.
        #[arg(long)]
        own_login: bool,
        /// A login that each may be; may be repeated.
        #[arg(long = "login", value_name = "LOGIN")]
        logins: Vec<Login>,
        /// On devices with this tag; may be repeated for those with all of them. On all devices if absent.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<Label>,
        /// And with this label, such as env=prod; may be repeated.
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = super::devices::label)]
        labels: Vec<(Label, Label)>,
        /// Longest life of a certificate.
        #[arg(long = "max-session-ttl", value_name = "TIME", default_value = "12h", value_parser = duration)]
        session: Duration,
        /// What a certificate permits besides a terminal: permit-port-forwarding, permit-agent-forwarding; may be repeated.
        #[arg(long = "permit", value_name = "PERMIT")]
        permits: Vec<String>,
    },
    /// Remove one.
    Delete {
        /// Its name.
        name: Label,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

//! `warren user`, `warren api-token` and `warren audit` on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use model::id::ApiTokenId;
use model::{Label, Role};

use super::duration;

/// `warren user`.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Make one.
    Create {
        /// Its name.
        name: Label,
        /// viewer, operator, tenant-admin or super-admin.
        #[arg(long, default_value = "viewer")]
        role: Role,
        /// The one tenant that it sees; all that you see if absent.
        #[arg(long, value_name = "TENANT")]
        only_tenant: Option<Label>,
        /// File with the first password; asked for on a terminal otherwise.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// All of them.
    List,
    /// Change one.
    Set {
        /// Its name; one's own changes nothing but the password.
        name: Label,
        /// viewer, operator, tenant-admin or super-admin.
        #[arg(long)]
        role: Option<Role>,
        /// Let it see one tenant only.
        #[arg(long, value_name = "TENANT")]
        only_tenant: Option<Label>,
        /// Let it see all tenants.
        #[arg(long, conflicts_with = "only_tenant")]
        all_tenants: bool,
        /// Give it another password, asked for on a terminal. Ends its sessions.
        #[arg(long)]
        password: bool,
        /// The same, from a file.
        #[arg(long)]
        password_file: Option<PathBuf>,
        /// One's own password of now, from a file; asked for on a terminal otherwise.
        #[arg(long)]
        current_password_file: Option<PathBuf>,
        /// Keep it out. Ends its sessions, and its API tokens sleep.
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Let it in again.
        #[arg(long)]
        enable: bool,
        /// End its sessions.
        #[arg(long)]
        end_sessions: bool,
        /// Nothing is asked: for scripts that say so everywhere.
        #[arg(long)]
        yes: bool,
    },
    /// Remove one with its sessions and API tokens.
    Delete {
        /// Its name.
        name: Label,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// One's own second factor, or somebody's that is lost.
    #[command(subcommand)]
    Mfa(Mfa),
}

/// `warren user mfa`.
#[derive(Debug, Subcommand)]
pub enum Mfa {
    /// Ask for a code at each login from now on. Shows a QR code for an authenticator, and recovery codes.
    On,
    /// Ask for none any more.
    Off {
        /// Somebody else's, who lost it.
        name: Option<Label>,
        /// Six digits, or a recovery code; asked for on a terminal otherwise.
        #[arg(long)]
        code: Option<String>,
    },
    /// Make other recovery codes; those before are void.
    RecoveryCodes {
        /// Six digits, or a recovery code; asked for on a terminal otherwise.
        #[arg(long)]
        code: Option<String>,
    },
}

/// `warren api-token`.
#[derive(Debug, Subcommand)]
pub enum ApiToken {
    /// Make one of your own, and print it this once.
    Create {
        /// What it is for.
        label: String,
        /// How long it lives, a year at most.
        #[arg(long, default_value = "30d", value_parser = duration)]
        ttl: Duration,
        /// What it may do at most; as much as you if absent.
        #[arg(long)]
        role: Option<Role>,
        /// The one tenant that it is for; all that you see if absent.
        #[arg(long, value_name = "TENANT")]
        only_tenant: Option<Label>,
    },
    /// Yours, and those that you administer.
    List,
    /// End one.
    Revoke {
        /// Its id.
        id: ApiTokenId,
    },
}

/// `warren audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// The newest entries, newest first.
    List {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Entries as they come, until it is interrupted.
    Tail {
        /// How many of before first.
        #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
        lines: u32,
    },
    /// Whether the log is as it was written (7: it is not).
    Verify {
        /// A file that a sink or `warren audit export` wrote: compare with its newest signed end, or its newest entry.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
    },
    /// Every entry, oldest first, one JSON object a line.
    Export {
        /// Begin after this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
}

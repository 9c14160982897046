//! This machine's stock sshd: told whose certificates it takes over the mesh, given a host certificate, and left as it was
//! when that ends. Knows no link; what is to be so, the engine says.
//!
//! ```text
//! state ─▶ wanted files ─▶ data files ─▶ drop-in ─▶ sshd -t, sshd -T ─▶ reload ─▶ self-test ─▶ what was read back
//!                                           └──────── put back ◀── anything else changed, or it fails
//! ```

mod conf;
mod files;
mod install;
mod logins;
mod programs;
mod renewal;
pub mod revoked;
mod task;

use std::path::{Path, PathBuf};

use model::{CaKey, Timestamp};

pub use logins::SshLog;
pub use task::SshdTask;

/// Where OpenSSH has its configuration.
pub const SSHD_CONFIG: &str = "/etc/ssh/sshd_config";

/// Whether this machine's sshd is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum SshMode {
    /// Where there is an sshd that reads a directory of drop-ins.
    #[default]
    Auto,
    /// Yes; it is a problem if it cannot be.
    On,
    /// No; what was installed before is taken away.
    Off,
}

/// How sshd is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshdSetup {
    /// Whether it is.
    pub mode: SshMode,
    /// Its configuration.
    pub config: PathBuf,
    /// Where it writes whom it let in.
    pub log: SshLog,
}

impl SshdSetup {
    /// No sshd of this machine is touched or looked at.
    pub fn none() -> Self {
        Self { mode: SshMode::Off, config: PathBuf::new(), log: SshLog::Off }
    }
}

/// How this machine's sshd is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SshdReport {
    /// Whether it takes the mesh's certificates.
    pub kept: bool,
    /// Whose certificates it takes, as read back.
    pub people: Vec<CaKey>,
    /// Who signed the host certificate that it shows.
    pub presents: Option<CaKey>,
    /// Until when that is valid.
    pub certificate_until: Option<Timestamp>,
    /// Why it is not as it should be.
    pub problem: Option<String>,
}

/// Takes away what was installed for the mesh, after sshd was told to do without.
///
/// # Errors
/// Says what could not be done.
pub fn remove(config: &Path) -> Result<(), String> {
    match programs::Programs::find(config) {
        Some(programs) => install::remove(&programs).map_err(|error| crate::chain(&error)),
        None => Ok(()),
    }
}

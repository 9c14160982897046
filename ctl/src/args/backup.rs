//! `warren backup`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `warren backup`.
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Everything that the server is in one sealed file: database, keys of SSH authorities, anchors, the hub's WireGuard key.
    ///
    /// Runs while the server serves. Ends with 7 if the hub's key is not in it, because warren-netd is not there.
    Create {
        /// The file. It appears when it is complete, and takes the place of one that is there.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Who alone can open it: age1…, as `warren backup key` prints it. A passphrase otherwise.
        #[arg(long, value_name = "AGE1…", conflicts_with = "passphrase_file")]
        recipient: Option<backup::Recipient>,
        /// File with the passphrase; WARREN_BACKUP_PASSPHRASE otherwise, or asked for on a terminal.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Only a part of it.
        #[arg(long, value_enum)]
        only: Option<Part>,
    },
    /// Open a backup, restore it into a scratch directory and look whether it holds. Runs on any machine with warren-apid.
    ///
    /// Ends with 7 if something of it does not hold.
    Verify {
        /// The backup.
        file: PathBuf,
        #[command(flatten)]
        opened: Opened,
    },
    /// Put a backup in the place of the server of this machine, which must not run. Run it as root.
    Restore {
        /// The backup.
        file: PathBuf,
        #[command(flatten)]
        opened: Opened,
        /// warren-apid's state directory; as its settings say if absent.
        #[arg(long, value_name = "DIRECTORY")]
        state_dir: Option<PathBuf>,
        /// warren-netd's state directory.
        #[arg(long, value_name = "DIRECTORY")]
        netd_state_dir: Option<PathBuf>,
        /// sqlite:PATH or postgres://…; as warren-apid's settings say if absent.
        #[arg(long, env = "WARREN_DATABASE_URL", hide_env_values = true)]
        database: Option<String>,
        /// Give what is there another name beside, instead of refusing.
        #[arg(long)]
        force: bool,
        /// With --force: do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// A new key that opens backups, in a file; what is printed is the recipient to make them for.
    ///
    /// Keep the file where the server is not: who has it and a backup has the server.
    Key {
        /// The file, which must not be there yet.
        file: PathBuf,
    },
}

/// With what a backup is opened.
#[derive(Debug, Args)]
pub struct Opened {
    /// File with the key, as `warren backup key` and age-keygen(1) write it.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub key: Option<PathBuf>,
    /// File with the passphrase; WARREN_BACKUP_PASSPHRASE otherwise, or asked for on a terminal.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// File with the passphrase of the keys in the database; as warren-apid's settings say if absent.
    #[arg(long, value_name = "FILE")]
    pub ca_passphrase_file: Option<PathBuf>,
}

/// A part of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The SSH authorities' keys and the anchors, with what opens them.
    SshCa,
}

//! What the files for sshd say, and how they are put in place: whole or not at all. Tells sshd nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ca::RevocationList;
use engine::SshState;
use model::ssh::Permit;
use model::{Block, CaKey, CaKind, Grant, Timestamp};

use super::revoked::{RevokedFile, WriteError};
use crate::files::{self, PUBLIC};

const TRUSTED: &str = "user_ca";
const PRINCIPALS: &str = "principals";
const REVOKED: &str = "revoked";
const CERTIFICATE: &str = "host_key-cert.pub";
/// Drop-ins are read in the order of their names: the administrator's own may come before or after.
const DROP_IN: &str = "50-warren.conf";
/// No directory of ours is larger: one file for each login of a machine.
const LOGINS_MAX: usize = 10_000;

/// Where the files are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The data files: readable by all, as sshd reads them as whoever logs in.
    folder: PathBuf,
    /// What sshd reads at its start.
    pub(super) drop_in: PathBuf,
}

impl Places {
    pub(super) fn new(config: &Path, drop_ins: &Path) -> Self {
        let folder = config.parent().unwrap_or(Path::new("/")).join("warren");
        Self { folder, drop_in: drop_ins.join(DROP_IN) }
    }

    pub(super) fn trusted(&self) -> PathBuf {
        self.folder.join(TRUSTED)
    }

    pub(super) fn principals(&self) -> PathBuf {
        self.folder.join(PRINCIPALS)
    }

    pub(super) fn revoked(&self) -> PathBuf {
        self.folder.join(REVOKED)
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join(CERTIFICATE)
    }

    pub(super) fn are_there(&self) -> bool {
        self.drop_in.exists() || self.folder.exists()
    }

    /// What sshd reads at its start. Only what comes in at a mesh address is let in by us: whatever becomes of our files,
    /// every other address is as it was.
    pub(super) fn drop_in_text(&self, block: Block, with_certificate: bool) -> String {
        let certificate = match with_certificate {
            true => format!("HostCertificate {}\n", self.certificate().display()),
            false => String::new(),
        };
        let blocks = block.nets().map(|net| net.to_string()).join(",");
        format!(
            "# Of warren-agent: written anew when it is changed. `warren-agent --ssh off` takes it away.\n\
             {certificate}Match LocalAddress {blocks}\n    TrustedUserCAKeys {}\n    \
             AuthorizedPrincipalsFile {}/%u\n    RevokedKeys {}\nMatch all\n",
            self.trusted().display(),
            self.principals().display(),
            self.revoked().display(),
        )
    }

    /// Brings every data file to what the state says, each by itself: one that fails keeps no other from it, and the first
    /// failure is told. The revocations go first: whom they name is let in no longer. `check` says whether a list of revocations may be put in place.
    pub(super) fn write(
        &self,
        state: &SshState,
        now: Timestamp,
        check: impl Fn(&Path) -> Result<(), String>,
    ) -> Result<(), WriteError> {
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true).mode(0o755);
        folder.create(self.principals()).map_err(|e| WriteError::Folder(self.folder.clone(), e))?;
        for path in [&self.folder, &self.principals()] {
            set_readable(path).map_err(|e| WriteError::Folder(path.clone(), e))?;
        }
        let list = RevocationList::of_trust(&state.trust, &CaKind::ALL, state.version);
        let revoked = RevokedFile::new(self.revoked()).write(list, now, check);
        let trusted = put(&self.trusted(), trusted(state).as_bytes());
        let principals = self.write_principals(&principals(state));
        revoked.and(trusted).and(principals)
    }

    fn write_principals(&self, wanted: &BTreeMap<String, String>) -> Result<(), WriteError> {
        let folder = self.principals();
        let failed = |e| WriteError::Folder(folder.clone(), e);
        let mut done = Ok(());
        for entry in fs::read_dir(&folder).map_err(failed)?.take(LOGINS_MAX) {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_str().is_some_and(|name| wanted.contains_key(name)) {
                done = done.and(files::remove(&entry.path()).map_err(WriteError::from));
            }
        }
        let written = wanted.iter().map(|(login, lines)| put(&folder.join(login), lines.as_bytes()));
        written.fold(done, Result::and)
    }

    /// Puts a host certificate in place.
    pub(super) fn write_certificate(&self, line: &str) -> Result<(), WriteError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.folder)
            .map_err(|e| WriteError::Folder(self.folder.clone(), e))?;
        put(&self.certificate(), format!("{}\n", line.trim()).as_bytes())
    }

    /// The keys that sshd takes, as they stand in the file.
    pub(super) fn read_trusted(&self) -> Option<Vec<CaKey>> {
        let text = String::from_utf8(files::read(&self.trusted()).ok()??).ok()?;
        text.lines().map(|line| line.parse().ok()).collect()
    }

    /// The drop-in, if it is there.
    pub(super) fn read_drop_in(&self) -> Option<String> {
        String::from_utf8(files::read(&self.drop_in).ok()??).ok()
    }

    pub(super) fn read_certificate(&self) -> Option<String> {
        String::from_utf8(files::read(&self.certificate()).ok()??).ok()
    }

    /// Removes the data files; sshd must not name them any more.
    pub(super) fn remove_data(&self) -> Result<(), WriteError> {
        match fs::remove_dir_all(&self.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(WriteError::Folder(self.folder.clone(), e))
            }
            _ => Ok(()),
        }
    }
}

/// A umask of the process, or somebody else, may have made it unreadable to whom sshd reads as.
fn set_readable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Writes a file unless it is so already.
fn put(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    use std::os::unix::fs::MetadataExt as _;
    let same_mode = fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o7777 == PUBLIC && meta.uid() == 0);
    if same_mode && files::read(path)?.as_deref() == Some(content) {
        return Ok(());
    }
    Ok(files::replace(path, content, PUBLIC)?)
}

fn trusted(state: &SshState) -> String {
    state.trust.trusted(CaKind::User).map(|key| format!("{}\n", key.key)).collect()
}

/// The lines of each login's file. sshd takes the first that fits, so an identity has one.
fn principals(state: &SshState) -> BTreeMap<String, String> {
    let lines = |grants: &[Grant]| {
        let mut seen = BTreeSet::new();
        let grants = grants.iter().filter(|grant| seen.insert(grant.identity.clone()));
        grants.map(|grant| format!("{}{}\n", options(grant), grant.identity)).collect::<String>()
    };
    let logins = state.own.logins.iter();
    logins.map(|login| (login.login.to_string(), lines(&login.grants))).collect()
}

/// What stands before an identity (`AUTHORIZED_KEYS FILE FORMAT` of `sshd(8)`): of line and certificate what both permit holds.
fn options(grant: &Grant) -> String {
    let permits = grant.permits.iter().flat_map(|permits| {
        let more = permits.iter().copied().filter(|permit| *permit != Permit::Pty);
        let words = std::iter::once(Permit::Pty).chain(more).map(option);
        std::iter::once("restrict").chain(words).map(str::to_owned)
    });
    let options: Vec<String> = permits.chain(grant.until.map(expiry)).collect();
    if options.is_empty() { String::new() } else { format!("{} ", options.join(",")) }
}

const fn option(permit: Permit) -> &'static str {
    match permit {
        Permit::Pty => "pty",
        Permit::PortForwarding => "port-forwarding",
        Permit::AgentForwarding => "agent-forwarding",
    }
}

/// `expiry-time` of `sshd(8)`, in UTC.
fn expiry(until: Timestamp) -> String {
    let digits: String = until.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
    format!("expiry-time=\"{digits}Z\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_of_the_certificate_holds_here() {
        let until = Timestamp::from_unix_micros(1_800_000_000_000_000);
        let check = |permits: Option<&[Permit]>, until, expect: &str| {
            let identity = "u:ada".parse().expect("an identity");
            let grant = Grant { identity, until, permits: permits.map(<[Permit]>::to_vec) };
            assert_eq!(options(&grant), expect);
        };
        check(None, None, "");
        check(None, Some(until), "expiry-time=\"20270115080000Z\" ");
        check(Some(&[]), None, "restrict,pty ");
        check(Some(&[Permit::Pty, Permit::PortForwarding]), None, "restrict,pty,port-forwarding ");
        let both = [Permit::PortForwarding, Permit::AgentForwarding];
        check(
            Some(&both),
            Some(until),
            "restrict,pty,port-forwarding,agent-forwarding,expiry-time=\"20270115080000Z\" ",
        );
    }
}

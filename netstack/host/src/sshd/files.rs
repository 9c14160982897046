//! What the files for sshd say, and how they are put in place: whole or not at all. Tells sshd nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ca::{OfAuthority, RevocationList};
use engine::SshState;
use model::{Block, CaKey, CaKind, Grant, Revoked, Timestamp};

use crate::files::{self, FileError, PUBLIC};

const TRUSTED: &str = "user_ca";
const PRINCIPALS: &str = "principals";
/// The version of a list is the epoch, above the generation.
const EPOCH_SHIFT: u32 = 32;
const REVOKED: &str = "revoked";
/// What was revoked before the server was restored from a backup, which may not know of it.
const REVOKED_BEFORE: &str = "revoked.before";
/// By then every certificate of before has ended: a host's lives a week, and a day is for clocks.
const REVOKED_BEFORE_LIFE: Duration = Duration::from_secs(8 * 24 * 3600);
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

    /// Brings every data file to what the state says. The revocations go first: whom they name is let in no longer.
    /// `check` says whether a list of revocations may be put in place.
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
        self.write_revoked(&list(state), now, check)?;
        put(&self.trusted(), trusted(state).as_bytes())?;
        self.write_principals(&principals(state))
    }

    fn write_revoked(
        &self,
        list: &RevocationList,
        now: Timestamp,
        check: impl Fn(&Path) -> Result<(), String>,
    ) -> Result<(), WriteError> {
        let there = files::read(&self.revoked())?.and_then(|bytes| RevocationList::from_bytes(&bytes).ok());
        let before = self.revoked_before(there.as_ref(), list, now)?;
        let list = &list.clone().and(before);
        // The version says of which epoch it is, so that what was before it is kept once.
        let same = |there: RevocationList| {
            there.version >> EPOCH_SHIFT == list.version >> EPOCH_SHIFT
                && RevocationList { version: list.version, ..there } == *list
        };
        if there.is_some_and(same) {
            return Ok(());
        }
        let half = self.folder.join(format!("{REVOKED}.new"));
        files::replace(&half, &list.to_bytes(now), PUBLIC)?;
        if let Err(why) = check(&half) {
            files::remove(&half)?;
            return Err(WriteError::List(why));
        }
        fs::rename(&half, self.revoked()).map_err(|e| WriteError::Folder(self.revoked(), e))
    }

    /// A server of a later epoch was restored: what was revoked until then stays so here, for as long as certificates of
    /// then live.
    fn revoked_before(
        &self,
        there: Option<&RevocationList>,
        list: &RevocationList,
        now: Timestamp,
    ) -> Result<RevocationList, WriteError> {
        let path = self.folder.join(REVOKED_BEFORE);
        let kept = files::read(&path)?.and_then(|bytes| RevocationList::from_bytes(&bytes).ok());
        let age = fs::metadata(&path).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        let kept = kept.filter(|_| age.is_none_or(|age| age < REVOKED_BEFORE_LIFE));
        match there.filter(|there| there.version >> EPOCH_SHIFT < list.version >> EPOCH_SHIFT) {
            Some(there) if !there.is_empty() => {
                let before = there.clone().and(kept.unwrap_or_default());
                files::replace(&path, &before.to_bytes(now), PUBLIC)?;
                tracing::info!("what was revoked before the server was restored stays revoked here");
                Ok(before)
            }
            _ if kept.is_none() => {
                files::remove(&path)?;
                Ok(RevocationList::default())
            }
            _ => Ok(kept.unwrap_or_default()),
        }
    }

    fn write_principals(&self, wanted: &BTreeMap<String, String>) -> Result<(), WriteError> {
        let folder = self.principals();
        let failed = |e| WriteError::Folder(folder.clone(), e);
        for entry in fs::read_dir(&folder).map_err(failed)?.take(LOGINS_MAX) {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_str().is_some_and(|name| wanted.contains_key(name)) {
                files::remove(&entry.path())?;
            }
        }
        wanted.iter().try_for_each(|(login, lines)| put(&folder.join(login), lines.as_bytes()))
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

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}", .0.display())]
    Folder(PathBuf, #[source] std::io::Error),
    #[error("ssh-keygen does not take the list of revocations: {0}")]
    List(String),
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
        grants.map(|grant| format!("{}{}\n", expiry(grant), grant.identity)).collect::<String>()
    };
    let logins = state.own.logins.iter();
    logins.map(|login| (login.login.to_string(), lines(&login.grants))).collect()
}

/// `expiry-time` of `sshd(8)`, in UTC.
fn expiry(grant: &Grant) -> String {
    let digits = |until: Timestamp| until.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
    let text: Option<String> = grant.until.map(digits);
    text.map(|text| format!("expiry-time=\"{text}Z\" ")).unwrap_or_default()
}

/// What is revoked, of both authorities: sshd looks for people's in it, ssh for hosts'.
pub(super) fn list(state: &SshState) -> RevocationList {
    let mut list = RevocationList {
        version: u64::from(state.version.epoch.0) << EPOCH_SHIFT | state.version.generation.0,
        ..RevocationList::default()
    };
    for kind in CaKind::ALL {
        let mut of = OfAuthority::default();
        for (_, what) in state.trust.revoked.keys().filter(|(of, _)| *of == kind) {
            match what {
                Revoked::Serial(serial) => drop(of.serials.insert(serial.number())),
                Revoked::Id(id) => drop(of.key_ids.insert(id.to_string())),
            }
        }
        if !of.serials.is_empty() || !of.key_ids.is_empty() {
            for key in state.trust.trusted(kind) {
                list.authorities.insert(key.key.wire(), of.clone());
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use model::{
        CaKey, Epoch, Generation, MeshAddresses, OwnSsh, SshSerial, SshTrust, TenantId, TrustedKey, Version,
    };

    use super::*;

    fn state(epoch: u32, generation: u64, revoked: &[u64]) -> SshState {
        let block = Block::new("100.64.0.0/16".parse().expect("a net"), TenantId::from_bytes([1; 16]));
        let block = block.expect("a block");
        let addresses: MeshAddresses = block.host(2).expect("a host");
        let key = TrustedKey { kind: CaKind::User, key: CaKey::from_bytes([1; 32]), signs: true };
        let mut trust = SshTrust { keys: vec![key], ..SshTrust::default() };
        for serial in revoked {
            let serial = SshSerial::from_number(*serial).expect("a serial");
            trust.revoked.insert((CaKind::User, Revoked::Serial(serial)), ());
        }
        SshState {
            version: Version { epoch: Epoch(epoch), generation: Generation(generation) },
            name: "alpha".parse().expect("a label"),
            zone: "home.internal".parse().expect("a name"),
            aliases: BTreeSet::new(),
            addresses,
            block,
            own: OwnSsh::default(),
            trust,
        }
    }

    #[test]
    fn what_was_revoked_before_a_restore_stays_revoked_while_its_certificates_live() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Places::new(&dir.path().join("sshd_config"), &dir.path().join("sshd_config.d"));
        let revoked_after = |state: &SshState| {
            places.write(state, Timestamp::default(), |_| Ok(())).expect("written");
            let bytes = fs::read(places.revoked()).expect("there");
            let list = RevocationList::from_bytes(&bytes).expect("a list");
            assert_eq!(list.version >> EPOCH_SHIFT, u64::from(state.version.epoch.0));
            list.authorities.values().flat_map(|of| of.serials.clone()).collect::<Vec<_>>()
        };
        assert_eq!(revoked_after(&state(1, 5, &[5, 6])), [5, 6]);
        assert_eq!(revoked_after(&state(1, 6, &[6])), [6], "of one epoch the newest says it");
        // The backup was made before 6 was revoked.
        assert_eq!(revoked_after(&state(7, 2, &[])), [6]);
        assert_eq!(revoked_after(&state(7, 3, &[9])), [6, 9]);
        assert_eq!(revoked_after(&state(8, 3, &[])), [6, 9], "restored once more");
        let long_ago = SystemTime::now() - REVOKED_BEFORE_LIFE;
        let before = fs::File::options().write(true).open(places.folder.join(REVOKED_BEFORE)).expect("there");
        before.set_modified(long_ago).expect("set");
        assert_eq!(revoked_after(&state(8, 4, &[10])), [10]);
        assert!(!places.folder.join(REVOKED_BEFORE).exists());
    }
}

//! A list of what is revoked, in place for sshd or ssh: what a restored server has forgotten stays in it while certificates of
//! before live. Knows no reader of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ca::RevocationList;
use model::{CaKind, CertificateId, Revoked, SshTrust, Timestamp, Version};

use crate::files::{self, FileError, PUBLIC};

/// By then every certificate of before has ended: a host's lives a week, and a day is for clocks.
const BEFORE_LIFE: Duration = Duration::from_secs(8 * 24 * 3600);

/// A list in a file. In another, while it matters, what was revoked before the server was restored from a backup, which may
/// not know of it.
#[derive(Debug, Clone)]
pub struct RevokedFile {
    list: PathBuf,
    before: PathBuf,
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something is wrong with where it is to be.
    #[error("{}", .0.display())]
    Folder(PathBuf, #[source] std::io::Error),
    /// It is not as OpenSSH wants it.
    #[error("ssh-keygen does not take the list of revocations: {0}")]
    List(String),
}

/// What ssh is to refuse of hosts: certificates, and the plain keys of hosts all of whose certificates are revoked.
pub fn hosts(trust: &SshTrust, version: Version) -> RevocationList {
    let mut list = RevocationList::of_trust(trust, &[CaKind::Host], version);
    for (_, what) in trust.revoked.keys().filter(|(kind, _)| *kind == CaKind::Host) {
        if let Revoked::Id(CertificateId::Device(device, _)) = what {
            list.keys.extend(trust.hosts.get(device).map(model::HostKey::wire));
        }
    }
    list
}

impl RevokedFile {
    /// Both beside each other.
    pub fn new(list: PathBuf) -> Self {
        let before = beside(&list, "before");
        Self { list, before }
    }

    /// The list is where a restart of the machine takes it away; what was before is not.
    pub const fn keeping(list: PathBuf, before: PathBuf) -> Self {
        Self { list, before }
    }

    /// Brings it to a list. `check` says whether a file of it may be put in place.
    ///
    /// # Errors
    /// See [`WriteError`]; what was there stays.
    pub fn write(
        &self,
        list: RevocationList,
        now: Timestamp,
        check: impl Fn(&Path) -> Result<(), String>,
    ) -> Result<(), WriteError> {
        let there = self.read(&self.list)?;
        let before = self.before(there.as_ref(), &list, now)?;
        let list = list.and(before);
        // The version says of which epoch it is, so that what was before it is kept once.
        let same = |there: RevocationList| {
            there.epoch() == list.epoch() && RevocationList { version: list.version, ..there } == list
        };
        if there.is_some_and(same) {
            return Ok(());
        }
        let half = beside(&self.list, "new");
        files::replace(&half, &list.to_bytes(now), PUBLIC)?;
        if let Err(why) = check(&half) {
            files::remove(&half)?;
            return Err(WriteError::List(why));
        }
        fs::rename(&half, &self.list).map_err(|e| WriteError::Folder(self.list.clone(), e))
    }

    /// A server of a later epoch was restored: what was revoked until then stays so here, for as long as certificates of
    /// then live.
    fn before(
        &self,
        there: Option<&RevocationList>,
        list: &RevocationList,
        now: Timestamp,
    ) -> Result<RevocationList, WriteError> {
        let path = &self.before;
        let kept = self.read(path)?;
        let age = fs::metadata(path).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        let kept = kept.filter(|_| age.is_none_or(|age| age < BEFORE_LIFE));
        match there.filter(|there| there.epoch() < list.epoch()) {
            Some(there) if !there.is_empty() => {
                let before = there.clone().and(kept.unwrap_or_default());
                files::replace(path, &before.to_bytes(now), PUBLIC)?;
                tracing::info!("what was revoked before the server was restored stays revoked here");
                Ok(before)
            }
            _ if kept.is_none() => {
                files::remove(path)?;
                Ok(RevocationList::default())
            }
            _ => Ok(kept.unwrap_or_default()),
        }
    }

    fn read(&self, path: &Path) -> Result<Option<RevocationList>, FileError> {
        Ok(files::read(path)?.and_then(|bytes| RevocationList::from_bytes(&bytes).ok()))
    }
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{what}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use ca::OfAuthority;
    use model::{CaKey, DeviceId, Epoch, Generation, HostKey, SshSerial, TrustedKey};

    use super::*;

    fn version(epoch: u32, generation: u64) -> Version {
        Version { epoch: Epoch(epoch), generation: Generation(generation) }
    }

    fn trust(kind: CaKind, revoked: impl IntoIterator<Item = Revoked>) -> SshTrust {
        let key = TrustedKey { kind, key: CaKey::from_bytes([1; 32]), signs: true };
        let mut trust = SshTrust { keys: vec![key], ..SshTrust::default() };
        for what in revoked {
            trust.revoked.insert((kind, what), ());
        }
        trust
    }

    fn serial(number: u64) -> Revoked {
        Revoked::Serial(SshSerial::from_number(number).expect("a serial"))
    }

    #[test]
    fn what_was_revoked_before_a_restore_stays_revoked_while_its_certificates_live() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = RevokedFile::new(dir.path().join("revoked"));
        let revoked_after = |epoch, generation, revoked: &[u64]| {
            let trust = trust(CaKind::User, revoked.iter().copied().map(serial));
            let list = RevocationList::of_trust(&trust, &CaKind::ALL, version(epoch, generation));
            file.write(list, Timestamp::default(), |_| Ok(())).expect("written");
            let bytes = fs::read(&file.list).expect("there");
            let list = RevocationList::from_bytes(&bytes).expect("a list");
            assert_eq!(list.epoch(), u64::from(epoch));
            list.authorities.values().flat_map(|of| of.serials.clone()).collect::<Vec<_>>()
        };
        assert_eq!(revoked_after(1, 5, &[5, 6]), [5, 6]);
        assert_eq!(revoked_after(1, 6, &[6]), [6], "of one epoch the newest says it");
        // The backup was made before 6 was revoked.
        assert_eq!(revoked_after(7, 2, &[]), [6]);
        assert_eq!(revoked_after(7, 3, &[9]), [6, 9]);
        assert_eq!(revoked_after(8, 3, &[]), [6, 9], "restored once more");
        let long_ago = SystemTime::now() - BEFORE_LIFE;
        let before = fs::File::options().write(true).open(&file.before).expect("there");
        before.set_modified(long_ago).expect("set");
        assert_eq!(revoked_after(8, 4, &[10]), [10]);
        assert!(!file.before.exists());
    }

    #[test]
    fn a_list_that_is_not_taken_leaves_the_one_before_in_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = RevokedFile::new(dir.path().join("revoked"));
        let list = |number| {
            RevocationList::of_trust(&trust(CaKind::User, [serial(number)]), &CaKind::ALL, version(1, number))
        };
        file.write(list(5), Timestamp::default(), |_| Ok(())).expect("written");
        let written = fs::read(&file.list).expect("there");
        let refused = file.write(list(6), Timestamp::default(), |_| Err("garbage".into()));
        assert!(matches!(refused, Err(WriteError::List(_))), "{refused:?}");
        assert_eq!(fs::read(&file.list).expect("there"), written);
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1);
    }

    #[test]
    fn clients_refuse_the_plain_key_of_a_host_that_is_revoked_and_no_other() {
        let device = |n| DeviceId::from_bytes([n; 16]);
        let key = |n| CaKey::from_bytes([n; 32]).to_string().parse::<HostKey>().expect("a key");
        let id = |n| Revoked::Id(CertificateId::Device(device(n), "home".parse().expect("a label")));
        // 3 is no device any more.
        let mut trust = trust(CaKind::Host, [serial(5), id(1), id(3)]);
        trust.hosts.insert(device(1), key(11));
        trust.hosts.insert(device(2), key(12));
        trust.revoked.insert((CaKind::User, serial(9)), ());
        let list = hosts(&trust, version(1, 1));
        assert_eq!(list.keys, [key(11).wire()].into());
        let of: Vec<_> = list.authorities.values().collect();
        let expect = OfAuthority {
            serials: [5].into(),
            key_ids: [1, 3].map(|n| id(n).to_string().trim_start_matches("id:").to_owned()).into(),
        };
        assert_eq!(of, [&expect]);
    }
}

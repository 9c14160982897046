//! Profiles on disk: who this device is in a mesh, and where its server is. Knows no node that runs.
//!
//! ```text
//! STATE/lock                          one agent at a time
//! STATE/profiles/NAME/identity.key    authenticates every link; 0600
//!                     wg.key          the interface's; 0600
//!                     wg.next.key     the one that is to follow, until the server has it; 0600
//!                     profile.toml    server and interface: written last, so without it there is no profile
//!                     ledger          what is held; the node's own
//!                     resolv.conf.*   the machine's resolver file while it is changed; the node's own
//! STATE/profiles/.gone-NAME           forgotten, and being removed
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use host::InterfaceName;
use host::files::{self, FileError, SECRET, StateDirectory, StateDirectoryError};
use host::keyfile::{self, KeyFileError};
use link::ServerAddress;
use model::{IdentitySecret, Label, PrivateKey};

const IDENTITY: &str = "identity.key";
const WIREGUARD: &str = "wg.key";
const WIREGUARD_NEXT: &str = "wg.next.key";
const RECORD: &str = "profile.toml";
const GONE: &str = ".gone-";
/// More meshes than one machine takes part in; each has an interface.
const PROFILES_MAX: usize = 64;

/// Why a profile could not be read, made or forgotten.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateDirectoryError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A profile without one of its keys.
    #[error("{} is missing: put it back from a backup, or `warren logout` and enrol anew", .0.display())]
    KeyMissing(PathBuf),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A directory.
    #[error("{doing} {}: {source}", path.display())]
    Directory {
        /// What was tried.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// `profile.toml` is not what was written.
    #[error("{} is damaged ({what}): it needs a server and an interface", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What of it.
        what: &'static str,
    },
    /// One more than there may be.
    #[error("there are {PROFILES_MAX} profiles already")]
    TooMany,
}

/// What a person chose for a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where its server is.
    pub server: ServerAddress,
    /// Its interface.
    pub interface: InterfaceName,
}

/// A profile as it is on disk.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its name.
    pub name: Label,
    /// Its directory.
    pub folder: PathBuf,
    /// Authenticates every link.
    pub identity: IdentitySecret,
    /// The interface's key.
    pub wireguard: PrivateKey,
    /// What a person chose.
    pub record: Record,
}

impl Kept {
    /// Where the WireGuard key is that is to follow.
    pub fn next_key(&self) -> PathBuf {
        self.folder.join(WIREGUARD_NEXT)
    }

    /// The key that followed takes the place of the one before. There being none is fine: that was done already.
    pub fn rekey(&mut self) -> Result<(), StoreError> {
        let (next, path) = (self.next_key(), self.folder.join(WIREGUARD));
        let Some(key) = keyfile::load(&next)? else { return Ok(()) };
        // Whatever becomes of the file: the server has this one.
        self.wireguard = PrivateKey::from_bytes(*key);
        fs::rename(&next, &path).map_err(directory("putting in place", &next))?;
        sync(&self.folder)
    }
}

/// All profiles of this device.
#[derive(Debug)]
pub struct Store {
    state: StateDirectory,
}

impl Store {
    /// Opens the state directory, which is this process's own from now on. Finishes what was being forgotten.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self { state: StateDirectory::open(path)? };
        let profiles = store.profiles();
        fs::create_dir_all(&profiles).map_err(directory("creating", &profiles))?;
        for name in store.entries()?.iter().filter(|name| name.starts_with(GONE)) {
            let gone = profiles.join(name);
            fs::remove_dir_all(&gone).map_err(directory("removing", &gone))?;
        }
        Ok(store)
    }

    /// The names that are taken, whether what is under them is sound or not.
    pub fn names(&self) -> Result<Vec<Label>, StoreError> {
        Ok(self.entries()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Reads a profile; `None` if there is none, or its making was interrupted.
    pub fn load(&self, name: &Label) -> Result<Option<Kept>, StoreError> {
        let folder = self.folder(name);
        let Some(text) = files::read(&folder.join(RECORD))? else { return Ok(None) };
        let record = parse(&folder.join(RECORD), &text)?;
        let key = |file: &str| {
            let path = folder.join(file);
            keyfile::load(&path)?.ok_or(StoreError::KeyMissing(path))
        };
        let (identity, wireguard) = (key(IDENTITY)?, key(WIREGUARD)?);
        Ok(Some(Kept {
            name: name.clone(),
            identity: IdentitySecret::from_seed(*identity),
            wireguard: PrivateKey::from_bytes(*wireguard),
            folder,
            record,
        }))
    }

    /// Makes a profile with keys of its own. Keys that an interrupted attempt left are used.
    pub fn create(&self, name: &Label, record: Record) -> Result<Kept, StoreError> {
        let others = self.names()?;
        if others.len() >= PROFILES_MAX && !others.contains(name) {
            return Err(StoreError::TooMany);
        }
        let folder = self.folder(name);
        fs::create_dir_all(&folder).map_err(directory("creating", &folder))?;
        sync(&self.profiles())?;
        let identity = keyfile::load_or_create(&folder.join(IDENTITY))?;
        let wireguard = keyfile::load_or_create(&folder.join(WIREGUARD))?;
        self.save(name, &record)?;
        Ok(Kept {
            name: name.clone(),
            identity: IdentitySecret::from_seed(*identity),
            wireguard: PrivateKey::from_bytes(*wireguard),
            folder,
            record,
        })
    }

    /// Writes what a person chose.
    pub fn save(&self, name: &Label, record: &Record) -> Result<(), StoreError> {
        let mut table = toml::Table::new();
        table.insert("server".into(), record.server.to_string().into());
        table.insert("interface".into(), record.interface.to_string().into());
        Ok(files::replace(&self.folder(name).join(RECORD), table.to_string().as_bytes(), SECRET)?)
    }

    /// Removes a profile with its keys, at once or not at all; there being none is fine.
    pub fn forget(&self, name: &Label) -> Result<(), StoreError> {
        let (folder, gone) = (self.folder(name), self.profiles().join(format!("{GONE}{name}")));
        match fs::rename(&folder, &gone) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(directory("forgetting", &folder)(e)),
        }
        sync(&self.profiles())?;
        fs::remove_dir_all(&gone).map_err(directory("removing", &gone))
    }

    fn profiles(&self) -> PathBuf {
        self.state.file("profiles")
    }

    fn folder(&self, name: &Label) -> PathBuf {
        self.profiles().join(name.as_str())
    }

    fn entries(&self) -> Result<Vec<String>, StoreError> {
        let profiles = self.profiles();
        let read = || fs::read_dir(&profiles)?.collect::<io::Result<Vec<_>>>();
        let found = read().map_err(directory("reading", &profiles))?;
        let mut names: Vec<String> = found.iter().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Record, StoreError> {
    let bad = |what| StoreError::Record { path: path.into(), what };
    let text = std::str::from_utf8(text).map_err(|_| bad("not text"))?;
    let table: toml::Table = text.parse().map_err(|_| bad("not TOML"))?;
    let field = |name| table.get(name).and_then(toml::Value::as_str);
    Ok(Record {
        server: field("server").and_then(|t| t.parse().ok()).ok_or_else(|| bad("server"))?,
        interface: field("interface").and_then(|t| t.parse().ok()).ok_or_else(|| bad("interface"))?,
    })
}

fn sync(path: &Path) -> Result<(), StoreError> {
    fs::File::open(path).and_then(|d| d.sync_all()).map_err(directory("syncing", path))
}

fn directory(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Directory { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> Label {
        text.parse().expect("a label")
    }

    fn record(server: &str) -> Record {
        Record { server: server.parse().expect("a server"), interface: "wg0".parse().expect("a name") }
    }

    #[test]
    fn a_profile_is_the_same_after_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let (home, work) = (label("home"), label("work"));
        let store = Store::open(directory.path()).expect("a store");
        let kept = store.create(&home, record("https://a.example:1")).expect("a profile");
        store.create(&work, record("https://b.example:2")).expect("a profile");
        store.save(&home, &record("https://c.example:3")).expect("saved");
        drop(store);
        let store = Store::open(directory.path()).expect("a store");
        assert_eq!(store.names().expect("names"), [home.clone(), work.clone()]);
        let again = store.load(&home).expect("sound").expect("there");
        assert_eq!(again.identity.public(), kept.identity.public());
        assert_eq!(again.wireguard.public(), kept.wireguard.public());
        assert_eq!(again.record, record("https://c.example:3"));
        let other = store.load(&work).expect("sound").expect("there");
        assert_ne!(other.identity.public(), kept.identity.public());
    }

    #[test]
    fn a_key_that_follows_takes_the_place_of_the_other_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let home = label("home");
        let mut kept = store.create(&home, record("https://a.example")).expect("a profile");
        let before = kept.wireguard.public();
        kept.rekey().expect("nothing to do");
        assert_eq!(kept.wireguard.public(), before);
        let next =
            PrivateKey::from_bytes(*keyfile::load_or_create(&kept.next_key()).expect("a key")).public();
        assert_eq!(store.load(&home).expect("sound").expect("there").wireguard.public(), before, "not yet");
        kept.rekey().expect("done");
        kept.rekey().expect("done already");
        assert_eq!(kept.wireguard.public(), next);
        assert_eq!(store.load(&home).expect("sound").expect("there").wireguard.public(), next);
        assert!(!kept.next_key().exists());
    }

    #[test]
    fn forgetting_is_whole_and_may_be_repeated() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let home = label("home");
        let first = store.create(&home, record("https://a.example")).expect("a profile");
        store.forget(&home).expect("forgotten");
        store.forget(&home).expect("forgotten already");
        assert!(store.load(&home).expect("sound").is_none());
        let second = store.create(&home, record("https://a.example")).expect("a profile");
        assert_ne!(first.identity.public(), second.identity.public());
        // A crash in the midst of it.
        let profiles = directory.path().join("profiles");
        fs::rename(profiles.join("home"), profiles.join(".gone-home")).expect("renamed");
        drop(store);
        let store = Store::open(directory.path()).expect("a store");
        assert_eq!(store.names().expect("names"), []);
        assert!(!profiles.join(".gone-home").exists());
    }

    #[test]
    fn what_is_damaged_is_reported_and_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let home = label("home");
        let folder = store.create(&home, record("https://a.example")).expect("a profile").folder;
        let check = |file: &str, content: &[u8], part: &str| {
            let path = folder.join(file);
            let before = fs::read(&path).expect("readable");
            fs::write(&path, content).expect("writable");
            let error = host::chain(&store.load(&home).expect_err("damaged"));
            assert!(error.contains(part), "{error}");
            assert_eq!(fs::read(&path).expect("readable"), content);
            fs::write(&path, before).expect("writable");
        };
        check(IDENTITY, b"half", "backup");
        check(WIREGUARD, b"", "backup");
        check(RECORD, b"server = 1", "server");
        check(RECORD, b"= =", "not TOML");
        fs::remove_file(folder.join(IDENTITY)).expect("removed");
        let error = store.load(&home).expect_err("incomplete").to_string();
        assert!(error.contains("warren logout"), "{error}");
    }

    #[test]
    fn an_interrupted_making_goes_on_with_its_keys() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let home = label("home");
        let first = store.create(&home, record("https://a.example")).expect("a profile");
        fs::remove_file(first.folder.join(RECORD)).expect("removed");
        assert!(store.load(&home).expect("no profile yet").is_none());
        let again = store.create(&home, record("https://a.example")).expect("a profile");
        assert_eq!(again.identity.public(), first.identity.public());
    }
}

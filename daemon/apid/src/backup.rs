//! Makes a backup: rows of one moment, what opens the keys among them, and the hub's WireGuard key as the hub sealed it.
//!
//! ```text
//! store ─ pages ─┐
//! state dir ─────┼─▶ a thread: tar, age ─▶ a file without a name ─▶ whoever asked
//! netd ─ sealed ─┘
//! ```
//!
//! A page at a time is in memory. The file on the way is sealed already, and gone when it was read or the process ends.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backup::{Anchor, Content, DatabaseFacts, FORMAT, HUB_KEY, Manifest, Recipient, STATE, SealedBy, Writer};
use control::{By, Control, SealedHubKey};
use model::{Code, Refusal, Timestamp};
use serde::{Deserialize, Serialize};
use store::{DumpOf, Store};
use tokio::sync::{Mutex, mpsc};
use zeroize::Zeroizing;

use crate::accounts::entry;
use crate::clock::wall;
use crate::desk::Desk;
use crate::keys::Keys;
use crate::site::Site;
use crate::{master_key, report, seal};

/// What opens the keys in the database, and what administrators pin: files of the state directory.
pub const STATE_FILES: [&str; 3] = [seal::KEY_FILE, seal::SALT_FILE, TLS_KEY];
const TLS_KEY: &str = "tls.key";
/// netd seals in a millisecond; one that does not answer by then does not.
const HUB_TIME_MAX: Duration = Duration::from_secs(5);
/// Pages that wait for the disk.
const PARTS_WAITING_MAX: usize = 4;
/// Where it is noted when the last backup of everything was made.
const SETTING: &str = "backup.last";

/// Makes backups, one at a time: each reads all of the database.
#[derive(Clone)]
pub struct Backups {
    store: Store,
    keys: Keys,
    desk: Desk,
    site: Arc<Site>,
    one: Arc<Mutex<()>>,
}

/// A backup that was made.
pub struct Made {
    /// Sealed, at its beginning, without a name.
    pub file: File,
    /// Its length.
    pub bytes: u64,
    /// Whether the hub's key is in it.
    pub has_hub_key: bool,
}

/// The last backup of everything, as it is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    /// When.
    pub at: Timestamp,
    /// Its length.
    pub bytes: u64,
    /// Whether the hub's key is in it.
    pub has_hub_key: bool,
}

/// When the last backup was made, if there ever was one.
pub async fn last(store: &Store) -> Result<Option<LastBackup>, store::ReadError> {
    let noted = store.setting(SETTING).await?;
    Ok(noted.and_then(|text| serde_json::from_str(&text).ok()))
}

/// On its way into the file.
enum Piece {
    Part(String, Zeroizing<Vec<u8>>),
    Rows(String, store::Page),
}

impl Backups {
    /// Over one store.
    pub fn new(store: Store, keys: Keys, desk: Desk, site: Arc<Site>) -> Self {
        Self { store, keys, desk, site, one: Arc::default() }
    }

    /// Makes one that `recipient` alone can open.
    ///
    /// # Errors
    /// `backup-under-way`: another is being made. `store-unavailable`: the database or the disk.
    pub async fn make(&self, recipient: &Recipient, content: Content, by: By) -> Result<Made, Refusal> {
        let _one = self.one.try_lock().map_err(|_| Code::BackupUnderWay)?;
        let hub = match content {
            Content::Everything => self.hub_key(recipient).await?,
            Content::SshCa => None,
        };
        let (file, manifest) = self.write(recipient, content, hub).await.map_err(|error| {
            tracing::error!(error = %format!("{error:#}"), "no backup could be made");
            Refusal::new(Code::StoreUnavailable, format!("{error:#}"))
        })?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        let has_hub_key = manifest.hub_key.is_some();
        self.note(&manifest, bytes, recipient, by).await?;
        tracing::info!(%recipient, bytes, content = ?content, has_hub_key, "a backup was made");
        Ok(Made { file, bytes, has_hub_key })
    }

    async fn hub_key(&self, recipient: &Recipient) -> Result<Option<SealedHubKey>, Refusal> {
        let asked = tokio::time::timeout(HUB_TIME_MAX, self.desk.seal_hub_key(&recipient.to_string())).await;
        match asked {
            Ok(answer) => answer,
            Err(_) => {
                tracing::warn!("warren-netd did not seal its WireGuard key: the backup is made without it");
                Ok(None)
            }
        }
    }

    async fn write(
        &self,
        recipient: &Recipient,
        content: Content,
        hub: Option<SealedHubKey>,
    ) -> anyhow::Result<(File, Manifest)> {
        let of = match content {
            Content::Everything => DumpOf::Everything,
            Content::SshCa => DumpOf::SshCa,
        };
        let mut dump = self.store.dump(of).await?;
        let sealed_by = master_key::sealed_by(&self.store).await?;
        let anchors = self.desk.read(anchors).await?;
        let manifest = Manifest {
            format: FORMAT,
            made_by: concat!("warren-apid ", env!("CARGO_PKG_VERSION")).into(),
            made_at: wall(),
            content,
            server: self.site.public.to_string(),
            anchors,
            database: DatabaseFacts {
                engine: engine(&self.store).into(),
                schema: dump.schema,
                epoch: dump.epoch.0,
            },
            sealed_by,
            hub_key: hub.as_ref().map(|hub| hub.public),
        };
        let file = nameless(&self.site.state_dir)?;
        let (pieces, taken) = mpsc::channel(PARTS_WAITING_MAX);
        let (recipient, head) = (recipient.clone(), manifest.clone());
        let writing = tokio::task::spawn_blocking(move || write_pieces(file, &recipient, &head, taken));
        let mut queue = Queue { pieces, count: 0 };
        for name in STATE_FILES {
            let is_left_over = sealed_by == SealedBy::Passphrase && name != TLS_KEY;
            if is_left_over || (content == Content::SshCa && name == TLS_KEY) {
                continue;
            }
            // What this process opened them with: a file that another replica wrote may not be here.
            let bytes = match name {
                seal::KEY_FILE => Some(self.keys.expose_master()?),
                _ => read_if_there(&self.site.state_dir.join(name))?,
            };
            if let Some(bytes) = bytes {
                queue.part(format!("{STATE}{name}"), bytes).await;
            }
        }
        if let Some(hub) = hub {
            queue.part(HUB_KEY.to_owned(), Zeroizing::new(hub.sealed)).await;
        }
        while let Some(page) = dump.next().await? {
            queue.rows(page).await;
        }
        drop(queue);
        Ok((writing.await??, manifest))
    }

    async fn note(
        &self,
        manifest: &Manifest,
        bytes: u64,
        recipient: &Recipient,
        by: By,
    ) -> Result<(), Refusal> {
        let mut made = entry(by, "backup.create", &recipient.to_string(), None);
        made.detail = match manifest.content {
            Content::Everything => format!("{bytes} bytes"),
            Content::SshCa => format!("keys of SSH authorities alone, {bytes} bytes"),
        };
        let last = LastBackup { at: manifest.made_at, bytes, has_hub_key: manifest.hub_key.is_some() };
        let noted = match manifest.content {
            Content::Everything => {
                let text = serde_json::to_string(&last).unwrap_or_default();
                self.store.set_setting(SETTING, &text, &made).await.map_err(|error| report::chain(&error))
            }
            Content::SshCa => self.store.append_audit(&made).await.map_err(|error| report::chain(&error)),
        };
        // Who is given all that the server knows is in the log, or it is not given.
        noted.map_err(|error| Refusal::new(Code::StoreUnavailable, error))
    }
}

/// The writer's side tells why it ended; this one goes on until then.
struct Queue {
    pieces: mpsc::Sender<Piece>,
    count: u32,
}

impl Queue {
    async fn part(&mut self, name: String, bytes: Zeroizing<Vec<u8>>) {
        let _ = self.pieces.send(Piece::Part(name, bytes)).await;
    }

    async fn rows(&mut self, page: store::Page) {
        self.count += 1;
        let name = format!("{}{:06}-{}.jsonl", backup::DATABASE, self.count, page.table);
        let _ = self.pieces.send(Piece::Rows(name, page)).await;
    }
}

fn write_pieces(
    file: File,
    recipient: &Recipient,
    manifest: &Manifest,
    mut taken: mpsc::Receiver<Piece>,
) -> io::Result<File> {
    let mut writer = Writer::new(backup::seal(recipient, file)?, manifest)?;
    while let Some(piece) = taken.blocking_recv() {
        match piece {
            Piece::Part(name, bytes) => writer.part(&name, &bytes)?,
            Piece::Rows(name, page) => writer.rows(&name, page.table, page.rows, &page.text)?,
        }
    }
    let mut file = writer.finish()?.finish()?;
    file.rewind()?;
    Ok(file)
}

/// A file of the state directory's disk that nobody else can open and nobody has to remove.
fn nameless(state_dir: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = state_dir.join("backup.half");
    // Of a process that ended between these two lines.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn read_if_there(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    match File::open(path) {
        Ok(mut file) => {
            let mut bytes = Zeroizing::new(Vec::new());
            file.read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn anchors(control: &Control) -> Vec<Anchor> {
    let anchor = |directory: &control::Directory| {
        let tenant = directory.tenant();
        Anchor { tenant: tenant.name.clone(), fingerprint: tenant.anchor.fingerprint() }
    };
    control.directories().map(anchor).collect()
}

const fn engine(store: &Store) -> &'static str {
    match store.engine() {
        store::Engine::Sqlite => "sqlite",
        store::Engine::Postgres => "postgres",
    }
}

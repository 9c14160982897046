//! A backup's rows in a database of their own. Nobody else sees it, and it goes unless it is taken into use.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use backup::{BackupError, Key, Manifest, Part, Sums};
use data_encoding::HEXLOWER;
use model::{Code, Epoch, Refusal};
use store::{After, Opened, Refill, RefillError, Store};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::{Wish, open};
use crate::accounts::{entry, random};
use crate::report;

/// The database's file.
pub const DATABASE: &str = "warren.db";
/// Pages that wait for the database.
const PARTS_WAITING_MAX: usize = 4;

/// A directory of mode 0700 that goes with this value.
pub struct Directory(PathBuf);

impl Directory {
    /// A new one inside another.
    pub fn new(inside: &Path) -> Result<Self, Refusal> {
        let path = inside.join(format!("warren-restore-{}", HEXLOWER.encode(&random::<8>())));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| {
            Refusal::new(Code::StoreUnavailable, format!("{} cannot be made: {error}", path.display()))
        })?;
        Ok(Self(path))
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a scratch directory stays");
        }
    }
}

/// What was in a backup, with its rows in a database.
pub struct Filled {
    /// What it says of itself.
    pub manifest: Manifest,
    /// What was in it.
    pub sums: Sums,
    /// Files of the state directory, and the hub's sealed key.
    pub files: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// What opens parts that were sealed apart.
    pub keys: Vec<Key>,
    /// The rows, brought forward.
    pub store: Store,
    /// Of the rows, now.
    pub epoch: Epoch,
}

/// Reads the file to its end into a database in `directory`.
pub async fn fill(wish: &Wish, directory: &Path, after: &After) -> Result<Filled, Refusal> {
    let url = format!("sqlite:{}", directory.join(DATABASE).display());
    let opened = Store::reach_with(&url, 1).await.map_err(|error| unavailable(&error))?;
    fill_into(wish, opened, None, after).await
}

/// The same into a database that was reached; what is there is moved into the schema `aside` first.
pub async fn fill_into(
    wish: &Wish,
    opened: Opened,
    aside: Option<&str>,
    after: &After,
) -> Result<Filled, Refusal> {
    let backup::Opened { content, keys } = open(wish)?;
    let (pieces, mut parts) = mpsc::channel(PARTS_WAITING_MAX);
    let reading = tokio::task::spawn_blocking(move || {
        backup::read(content, |manifest, part| {
            // Nobody takes them any more: the taker says why.
            let sent = pieces.blocking_send((manifest.clone(), part));
            sent.map_err(|_| BackupError::Damaged("its rows do not fit".into()))
        })
    });
    let taken = take(&opened, aside, &mut parts).await;
    drop(parts);
    let read = reading.await.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    // What the rows say is nearer to the cause than that reading ended there.
    let (refill, files) = match (taken, &read) {
        (Ok(taken), _) => taken,
        (Err(refusal), _) => return Err(refusal),
    };
    let (manifest, sums) = read?;
    let refill = refill.ok_or_else(|| Refusal::new(Code::BackupDamaged, "there are no rows in it"))?;
    if *refill.rows() != sums.rows {
        return Err(Refusal::new(Code::BackupDamaged, "its rows are not as many as it says"));
    }
    let restored = entry(control::Actor::Server, "server.restored", &manifest.made_at.to_string(), None);
    let epoch = refill.finish(after, &restored).await.map_err(|error| of_refill(&error))?;
    let store = opened.migrate().await.map_err(|error| unavailable(&error))?;
    Ok(Filled { manifest, sums, files, keys, store, epoch })
}

type Taken = (Option<Refill>, BTreeMap<String, Zeroizing<Vec<u8>>>);

async fn take(
    opened: &Opened,
    aside: Option<&str>,
    parts: &mut mpsc::Receiver<(Manifest, Part)>,
) -> Result<Taken, Refusal> {
    let (mut refill, mut files) = (None, BTreeMap::new());
    while let Some((manifest, part)) = parts.recv().await {
        if !part.name.starts_with(backup::DATABASE) {
            files.insert(part.name, part.bytes);
            continue;
        }
        if refill.is_none() {
            let begun = opened.refill(manifest.database.schema, aside).await;
            refill = Some(begun.map_err(|error| of_refill(&error))?);
        }
        if let Some(refill) = &mut refill {
            refill.page(&part.bytes).await.map_err(|error| of_refill(&error))?;
        }
    }
    Ok((refill, files))
}

fn of_refill(error: &RefillError) -> Refusal {
    let code = match error {
        RefillError::Newer { .. } => Code::BackupNewer,
        RefillError::NotEmpty => Code::TargetNotEmpty,
        RefillError::Page(_) => Code::BackupDamaged,
        RefillError::Open(_) | RefillError::Read(_) => Code::StoreUnavailable,
    };
    Refusal::new(code, report::chain(error))
}

/// The database or the disk under it.
pub fn unavailable(error: &(dyn std::error::Error + 'static)) -> Refusal {
    Refusal::new(Code::StoreUnavailable, report::chain(error))
}

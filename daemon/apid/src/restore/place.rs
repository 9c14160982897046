//! Puts a restored server in the place of whatever is there: what was there gets another name beside, and nothing is
//! removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use backup::{Content, STATE};
use model::api::backup::BackupReport;
use model::{Code, Epoch, Refusal};
use store::{Opened, Store};

use super::examine::{examine, hub_key_file, stamp};
use super::mend::mend;
use super::scratch::{self, DATABASE, Directory, Filled};
use super::{Wish, after};
use crate::backup::STATE_FILES;
use crate::clock::wall;
use crate::config::Settings;
use crate::first_start;

/// netd's file.
const HUB_KEY_FILE: &str = "wg.key";
/// How a file is called until those that were there are aside.
const RESTORED: &str = ".restored";
/// What SQLite keeps beside its file.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];

/// What is to be restored where.
struct Target<'a> {
    settings: &'a Settings,
    /// Of SQLite.
    database: Option<PathBuf>,
    /// In the names of what was there.
    stamp: String,
}

/// Restores. Until everything was looked at nothing that is there is touched.
pub async fn restore(settings: &Settings, wish: Wish) -> Result<BackupReport, Refusal> {
    let dir = &settings.state_dir;
    fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    let alone = first_start::hold(dir, true).map_err(|error| failed(dir, &error))?;
    let _alone = alone
        .ok_or_else(|| Refusal::new(Code::ServerRunning, format!("a server runs on {}", dir.display())))?;
    let scratch = Directory::new(dir)?;
    let target = Target::new(settings);
    let known = target.known().await;
    let after = after(known);
    let filled = scratch::fill(&wish, scratch.path(), &after).await?;
    let mut report = examine(&filled, wish.passphrase.as_deref().map(String::as_str)).await?;
    if !report.well {
        return Err(Refusal::new(Code::BackupNotUsable, report.problems.join("; ")));
    }
    if filled.manifest.content == Content::SshCa {
        mend(settings, &wish, &filled, &mut report).await?;
        filled.store.close().await;
        return Ok(report);
    }
    let there = target.there();
    if !there.is_empty() && !settings.backup.force {
        let names: Vec<String> = there.iter().map(|path| path.display().to_string()).collect();
        return Err(Refusal::new(Code::TargetNotEmpty, format!("there is {} already", names.join(", "))));
    }
    let served = target.reached().await?;
    filled.store.close().await;
    report.restored_epoch = Some(filled.epoch.0);
    if let Some(opened) = served {
        let aside = format!("warren_before_{}", target.stamp.to_lowercase());
        let aside_if_any = settings.backup.force.then_some(aside.as_str());
        let empty = opened.is_empty().await.map_err(|error| scratch::unavailable(&error))?;
        let again = scratch::fill_into(&wish, opened, aside_if_any, &after).await?;
        again.store.close().await;
        if !empty {
            report.moved_aside.push(format!("schema {aside}"));
        }
    }
    target.put(&there, scratch.path(), &filled, &mut report)?;
    target.put_hub_key(&filled, &mut report);
    report.left_to_do.push("systemctl start warren-apid warren-netd".into());
    report.left_to_do.push("warren server doctor".into());
    Ok(report)
}

impl<'a> Target<'a> {
    fn new(settings: &'a Settings) -> Self {
        let url = settings.database_url();
        let database = url.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path).into());
        Self { settings, database, stamp: stamp(wall()) }
    }

    /// Files of a server that are there.
    fn there(&self) -> Vec<PathBuf> {
        let database = self.database.iter().flat_map(|path| COMPANIONS.map(|end| with_end(path, end)));
        let state = STATE_FILES.map(|name| self.settings.state_dir.join(name));
        database.chain(state).filter(|path| path.exists()).collect()
    }

    /// What the epoch must be beyond: that of what is there. It may be damaged, which is why it is replaced; then the clock
    /// alone says.
    async fn known(&self) -> Epoch {
        if self.database.as_ref().is_some_and(|path| !path.exists()) {
            return Epoch::default();
        }
        let epoch = match Store::reach_with(&self.settings.database_url(), 1).await {
            Ok(opened) => {
                let epoch = opened.epoch().await.ok().flatten();
                opened.close().await;
                epoch
            }
            Err(_) => None,
        };
        epoch.map(|epoch| Epoch(epoch.0.saturating_add(1))).unwrap_or_default()
    }

    /// PostgreSQL, which must have nobody else, and nothing of ours unless that is wanted.
    async fn reached(&self) -> Result<Option<Opened>, Refusal> {
        if self.database.is_some() {
            return Ok(None);
        }
        let unavailable = |error: store::OpenError| scratch::unavailable(&error);
        let opened = Store::reach_with(&self.settings.database_url(), 1).await.map_err(unavailable)?;
        if opened.others().await.map_err(unavailable)? > 0 {
            return Err(Refusal::new(Code::ServerRunning, "a server has the database open"));
        }
        if !opened.is_empty().await.map_err(unavailable)? && !self.settings.backup.force {
            return Err(Refusal::new(Code::TargetNotEmpty, "the database is not empty"));
        }
        Ok(Some(opened))
    }

    /// Everything that is new is on the disk before anything that is old gets another name.
    fn put(
        &self,
        there: &[PathBuf],
        scratch: &Path,
        filled: &Filled,
        report: &mut BackupReport,
    ) -> Result<(), Refusal> {
        let dir = &self.settings.state_dir;
        let mut moves = Vec::new();
        if let Some(database) = &self.database {
            moves.push((scratch.join(DATABASE), database.clone()));
        }
        for name in STATE_FILES {
            if let Some(bytes) = filled.files.get(&format!("{STATE}{name}")) {
                let made = scratch.join(name);
                write_secret(&made, bytes).map_err(|error| failed(&made, &error))?;
                moves.push((made, dir.join(name)));
            }
        }
        for (made, path) in &moves {
            let beside = with_end(path, RESTORED);
            bring(made, &beside)
                .and_then(|()| settle(&beside, dir))
                .map_err(|error| failed(&beside, &error))?;
        }
        for path in there {
            let aside = with_end(path, &format!(".before-{}", self.stamp));
            fs::rename(path, &aside).map_err(|error| failed(path, &error))?;
            report.moved_aside.push(aside.display().to_string());
        }
        for (_, path) in &moves {
            fs::rename(with_end(path, RESTORED), path).map_err(|error| failed(path, &error))?;
        }
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed(dir, &error))
    }

    /// Without it the mesh goes on: netd makes another key and the anchor states it. Plain peers have to be told.
    fn put_hub_key(&self, filled: &Filled, report: &mut BackupReport) {
        let Some(public) = filled.manifest.hub_key else {
            report.left_to_do.push(
                "the hub's WireGuard key was not in the backup: plain peers need the new one once netd made it".into(),
            );
            return;
        };
        let dir = &self.settings.backup.netd_state_dir;
        let placed = hub_key_file(filled).map_err(io::Error::other).and_then(|file| {
            let path = dir.join(HUB_KEY_FILE);
            let half = with_end(&path, RESTORED);
            if fs::read(&path).is_ok_and(|there| there == **file) {
                return Ok(());
            }
            write_secret(&half, &file)?;
            settle(&half, dir)?;
            if path.exists() {
                let aside = with_end(&path, &format!(".before-{}", self.stamp));
                fs::rename(&path, &aside)?;
                report.moved_aside.push(aside.display().to_string());
            }
            fs::rename(&half, &path)?;
            File::open(dir)?.sync_all()
        });
        if let Err(error) = placed {
            report.left_to_do.push(format!(
                "the hub's WireGuard key {public} is not in {}: {error}; restore as root, or name --netd-state-dir",
                dir.display()
            ));
        }
    }
}

/// To the disk of its place, which may be another.
fn bring(made: &Path, beside: &Path) -> io::Result<()> {
    match fs::rename(made, beside) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => fs::copy(made, beside).map(drop),
        done => done,
    }
}

fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// On the disk, for its owner alone, and that is who owns the directory.
fn settle(path: &Path, dir: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let owner = fs::metadata(dir)?;
    if nix::unistd::Uid::effective().is_root() {
        chown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    File::open(path)?.sync_all()
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn failed(path: &Path, error: &io::Error) -> Refusal {
    Refusal::new(Code::StoreUnavailable, format!("{}: {error}", path.display()))
}

//! Verifies and restores a backup, offline: nothing here runs beside serving.
//!
//! ```text
//! file ─ opened, checked ─▶ a database of its own in a scratch directory ─ looked at as a server would ─▶ report
//!                                                            restore only ─▶ old files aside, new ones in place
//! ```

mod examine;
mod mend;
mod place;
mod scratch;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use backup::{Key, Opener};
use model::api::Problem;
use model::api::backup::BackupReport;
use model::{Code, Epoch, Refusal};
use store::After;
use zeroize::Zeroizing;

use crate::accounts::random;
use crate::clock::wall;
use crate::config::Settings;

/// Epochs also follow the clock, so that two databases that are restored from one backup, on machines that do not know
/// of each other, are told apart: six hours each, and the 16 bits of a serial's epoch last until 2070.
const EPOCH_SECONDS: i64 = 6 * 3600;
/// 2026-01-01, in seconds since 1970.
const EPOCH_ZERO_SECONDS: i64 = 1_767_225_600;
/// Serials begin anew anywhere in the lower half of their 47 bits: certificates that the backup does not know have others.
const SERIALS_FROM_BITS: u32 = 46;

/// Restores a backup, for use or in a scratch directory to look at it, and says what came of it: one JSON object on standard
/// output, and the exit code.
pub fn run(settings: &Settings, for_use: bool) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return shell::service::refuse(&error.to_string()),
    };
    match runtime.block_on(done(settings, for_use)) {
        Ok(report) => {
            let code = if report.well { ExitCode::SUCCESS } else { ExitCode::from(DEGRADED) };
            print(&serde_json::to_string(&report).unwrap_or_default());
            code
        }
        Err(refusal) => {
            print(&serde_json::to_string(&Problem::new(&refusal, "")).unwrap_or_default());
            ExitCode::from(REFUSED)
        }
    }
}

/// As `warren` ends.
const REFUSED: u8 = 3;
const DEGRADED: u8 = 7;

fn print(line: &str) {
    // A closed pipe is the reader's wish.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

async fn done(settings: &Settings, for_use: bool) -> Result<BackupReport, Refusal> {
    let began = Instant::now();
    let file = settings.file.as_deref();
    let file = file.ok_or_else(|| Refusal::new(Code::BadRequest, "name the file of the backup"))?;
    let wish = Wish { file: file.to_owned(), opener: opener(settings)?, passphrase: passphrase(settings)? };
    let mut report = if for_use { place::restore(settings, wish).await? } else { verify(wish).await? };
    report.took_millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

/// A file, and what opens it and the keys in it.
struct Wish {
    file: PathBuf,
    opener: Opener,
    passphrase: Option<Zeroizing<String>>,
}

async fn verify(wish: Wish) -> Result<BackupReport, Refusal> {
    let scratch = scratch::Directory::new(&std::env::temp_dir())?;
    let filled = scratch::fill(&wish, scratch.path(), &after(Epoch::default())).await?;
    let report = examine::examine(&filled, wish.passphrase.as_deref().map(String::as_str)).await?;
    filled.store.close().await;
    Ok(report)
}

/// What the epoch must be beyond, besides the backup's.
pub fn after(known: Epoch) -> After {
    let seconds = wall().unix_micros() / 1_000_000 - EPOCH_ZERO_SECONDS;
    // A clock that is before Warren, or after the last epoch that a serial can say, is wrong.
    let by_clock = u16::try_from(seconds / EPOCH_SECONDS).unwrap_or_default();
    let serials_from = u64::from_le_bytes(random()) >> (u64::BITS - SERIALS_FROM_BITS);
    After { epoch_least: Epoch(known.0.max(by_clock.into())), serials_from }
}

fn opener(settings: &Settings) -> Result<Opener, Refusal> {
    let bad = |path: &Path, why: &dyn std::fmt::Display| {
        Refusal::new(Code::BadRequest, format!("{}: {why}", path.display()))
    };
    let wish = &settings.backup;
    if let Some(path) = &wish.backup_key {
        let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|e| bad(path, &e))?;
        return Ok(Opener::Keys(Key::of_file(&text).map_err(|e| bad(path, &e))?));
    }
    let from_file = wish.backup_passphrase_file.as_ref();
    let from_file = from_file.map(|path| std::fs::read_to_string(path).map_err(|e| bad(path, &e)));
    let passphrase = from_file.transpose()?.or_else(|| wish.backup_passphrase.clone());
    let passphrase = passphrase.ok_or_else(|| {
        Refusal::new(Code::BackupKeyWrong, "neither a key nor a passphrase to open it was given")
    })?;
    Ok(Opener::Passphrase(Zeroizing::new(passphrase.trim_end_matches(['\r', '\n']).to_owned())))
}

fn passphrase(settings: &Settings) -> Result<Option<Zeroizing<String>>, Refusal> {
    let passphrase = match &settings.backup.backup_ca_passphrase_file {
        Some(path) => crate::master_key::read_passphrase(path).map(Some),
        None => crate::master_key::passphrase(settings),
    };
    passphrase.map_err(|error| Refusal::new(Code::BadRequest, format!("{error:#}")))
}

/// Opens the file itself.
fn open(wish: &Wish) -> Result<backup::Opened, Refusal> {
    let file = File::open(&wish.file).map_err(backup::BackupError::Io)?;
    Ok(backup::open(std::io::BufReader::new(file), &wish.opener)?)
}

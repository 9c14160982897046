//! The master key of everything sealed: where it is, what opens it, and how that is changed.
//!
//! ```text
//! passphrase ─ Argon2id, salt ─▶ key ─ opens ─▶ master key, in the database   a replica needs the passphrase alone
//! seal.key, in the state directory: the master key itself                     a replica needs a copy
//! ```
//!
//! Whatever opens it, the master key stays: what it sealed need not be sealed anew, and servers that run go on.

use std::path::Path;

use anyhow::Context as _;
use backup::SealedBy;
use control::{Actor, AuditEntry, Loaded};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use store::Store;
use zeroize::Zeroizing;

use crate::accounts::{entry, random};
use crate::clock;
use crate::config::Settings;
use crate::first_start;
use crate::keys::Keys;
use crate::report;
use crate::seal::{self, SealError, Sealer};

/// Where the database has it.
const SETTING: &str = "seal";
/// What stands there where an operator took the passphrase away.
const KEY_FILE_CHOSEN: &str = "seal.key";
/// What a passphrase's key seals.
const OF_MASTER: &str = "master key";
/// 16 bytes at least (RFC 9106, section 3.1).
const SALT_BYTES: usize = 32;

/// The master key, sealed under a passphrase.
#[derive(Serialize, Deserialize)]
struct Wrapped {
    /// Base64.
    salt: String,
    /// Base64.
    key: String,
}

impl Wrapped {
    fn new(sealer: &Sealer, passphrase: &str) -> Result<Self, SealError> {
        let salt = random::<SALT_BYTES>();
        let sealed = Sealer::of_passphrase(passphrase, &salt)?.seal(OF_MASTER, sealer.expose_master()?)?;
        Ok(Self { salt: BASE64.encode(&salt), key: BASE64.encode(&sealed) })
    }

    fn open(&self, passphrase: &str) -> Result<Sealer, SealError> {
        let read = |text: &str| {
            BASE64.decode(text.as_bytes()).map_err(|_| SealError::Damaged("the sealed master key".into()))
        };
        let key = Sealer::of_passphrase(passphrase, &read(&self.salt)?)?;
        Sealer::of_key(&key.unseal(OF_MASTER, &read(&self.key)?)?)
    }

    fn read(text: &str) -> Result<Self, SealError> {
        serde_json::from_str(text).map_err(|_| SealError::Damaged("the sealed master key".into()))
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("two texts are JSON")
    }
}

/// The passphrase of the keys in the database, if there is one.
pub fn passphrase(settings: &Settings) -> anyhow::Result<Option<Zeroizing<String>>> {
    match &settings.ca_passphrase_file {
        Some(path) => read_passphrase(path).map(Some),
        None => settings.ca_passphrase.as_deref().map(trimmed).transpose(),
    }
}

/// The passphrase in a file.
pub fn read_passphrase(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.with_context(|| format!("passphrase file {} cannot be read", path.display()))?;
    trimmed(&text).with_context(|| format!("passphrase file {} cannot be used", path.display()))
}

fn trimmed(text: &str) -> anyhow::Result<Zeroizing<String>> {
    let text = text.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!text.is_empty(), "the passphrase is empty");
    Ok(Zeroizing::new(text.to_owned()))
}

/// What opens the keys of a database.
pub async fn sealed_by(store: &Store) -> Result<SealedBy, store::ReadError> {
    let wrapped = store.setting(SETTING).await?.filter(|row| row != KEY_FILE_CHOSEN);
    Ok(if wrapped.is_some() { SealedBy::Passphrase } else { SealedBy::KeyFile })
}

/// The master key, as the settings open it; the first time it is made. A closed one, and an error in the log, if they do not:
/// a sealed start keeps people, the audit log and backups, and withholds the tenants.
pub async fn open(settings: &Settings, store: &Store) -> anyhow::Result<Sealer> {
    let sealer = match (passphrase(settings)?, store.setting(SETTING).await?) {
        (passphrase, Some(row)) if row == KEY_FILE_CHOSEN => {
            if passphrase.is_some() {
                tracing::warn!("the passphrase is not used: warren-apid rewrap made seal.key open the keys");
            }
            let key = seal::read(&settings.state_dir, seal::KEY_FILE)?;
            let missing =
                || SealError::Closed("seal.key opens the keys, and is not in the state directory".into());
            key.ok_or_else(missing).and_then(|key| Sealer::of_key(&*key))
        }
        (Some(passphrase), Some(wrapped)) => {
            if seal::read(&settings.state_dir, seal::KEY_FILE)?.is_some() {
                tracing::warn!(
                    "seal.key is needed no more, and opens the keys to whoever copies it: remove it"
                );
            }
            Wrapped::read(&wrapped)?.open(&passphrase)
        }
        (Some(passphrase), None) => first(settings, store, &passphrase).await?,
        (None, Some(_)) => Err(SealError::Closed(
            "a passphrase seals the keys of this database: start with --ca-passphrase-file".into(),
        )),
        (None, None) => {
            tracing::info!(
                "keys are sealed by seal.key in the state directory; --ca-passphrase-file keeps them safer"
            );
            return Ok(Sealer::from_key_file(&settings.state_dir)?);
        }
    };
    Ok(sealer.unwrap_or_else(|error| {
        let why = report::chain(&error);
        tracing::error!(code = "signer-sealed", why, "the keys in the database stay sealed");
        Sealer::closed(why)
    }))
}

/// The one that a backup's database has, by a passphrase; `None`: a key file of before, or of the backup, has it.
pub async fn of_backup(store: &Store, passphrase: Option<&str>) -> Result<Option<Sealer>, String> {
    let wrapped = store.setting(SETTING).await.map_err(|error| report::chain(&error))?;
    let Some(wrapped) = wrapped.filter(|row| row != KEY_FILE_CHOSEN) else { return Ok(None) };
    let passphrase = passphrase.ok_or(
        "its keys are sealed by a passphrase: give it with --ca-passphrase-file to see that they open",
    )?;
    let opened = Wrapped::read(&wrapped).and_then(|wrapped| wrapped.open(passphrase));
    opened.map(Some).map_err(|error| report::chain(&error))
}

/// The first start with a passphrase: of a new server, of one that had a key file so far, or of one of before, whose
/// passphrase and `seal.salt` are the master key.
async fn first(
    settings: &Settings,
    store: &Store,
    passphrase: &str,
) -> anyhow::Result<Result<Sealer, SealError>> {
    let sealer = match found(settings, store, passphrase).await? {
        Ok(sealer) => sealer,
        Err(closed) => return Ok(Err(closed)),
    };
    let wrapped = Wrapped::new(&sealer, passphrase)?.text();
    let note = entry(Actor::Server, "server.keys-wrapped", "", None);
    if store.swap_setting(SETTING, None, Some(&wrapped), &note).await? {
        tracing::info!(
            "the passphrase opens the keys from now on; seal.key and seal.salt, if there are any, are needed no more"
        );
        return Ok(Ok(sealer));
    }
    // Another replica was quicker, with a master key of its own.
    let wrapped = store.setting(SETTING).await?.context("the master key was taken away meanwhile")?;
    Ok(Wrapped::read(&wrapped)?.open(passphrase))
}

/// The master key of a database that has none under a passphrase. Writes nothing.
async fn found(
    settings: &Settings,
    store: &Store,
    passphrase: &str,
) -> anyhow::Result<Result<Sealer, SealError>> {
    let loaded = store.load().await.context("the database cannot be read")?;
    let salted = seal::read(&settings.state_dir, seal::SALT_FILE)?;
    let salted = salted.map(|salt| Sealer::of_passphrase(passphrase, &*salt)).transpose()?;
    let filed = seal::read(&settings.state_dir, seal::KEY_FILE)?;
    let filed = filed.map(|key| Sealer::of_key(&*key)).transpose()?;
    let candidates = [salted, filed, Some(Sealer::of_key(&random::<32>())?)];
    let Some(sealer) = candidates.into_iter().flatten().find(|sealer| opens(sealer, &loaded)) else {
        let why = "neither the passphrase nor seal.key opens the keys of this database: give the passphrase that does, or copy \
                   seal.key of the server that made it";
        return Ok(Err(SealError::Closed(why.into())));
    };
    Ok(Ok(sealer))
}

/// Whether it opens what is sealed in a database, as far as anything is.
fn opens(sealer: &Sealer, loaded: &Loaded) -> bool {
    let mut sealed = loaded.tenants.iter().filter(|rows| !rows.sealed_anchor.is_empty()).peekable();
    sealed.peek().is_none() || sealed.any(|rows| Keys::fits(sealer, rows.tenant.id, &rows.sealed_anchor))
}

/// Gives the master key another passphrase, or a key file. Servers that run need not know.
pub async fn rewrap(settings: &Settings) -> anyhow::Result<()> {
    let _held = first_start::serving(&settings.state_dir)?;
    let store = first_start::store(settings).await?;
    let before = store.setting(SETTING).await?;
    let sealer = match (passphrase(settings)?, &before) {
        // What is written down is what is wanted, and nothing before it.
        (Some(passphrase), None) => found(settings, &store, &passphrase).await??,
        _ => open(settings, &store).await?,
    };
    let loaded = store.load().await.context("the database cannot be read")?;
    sealer.expose_master()?;
    if !opens(&sealer, &loaded) {
        let why = "what opens the keys now does not open them: nothing was changed";
        return Err(SealError::Closed(why.into()).into());
    }
    put(settings, &store, &sealer, before.as_deref()).await?;
    store.close().await;
    match &settings.new_ca_passphrase_file {
        Some(_) => {
            seal::forget(&settings.state_dir, &[seal::KEY_FILE, seal::SALT_FILE])?;
            tracing::info!(
                "the new passphrase opens the keys: start every replica with it, and remove their seal.key and seal.salt"
            );
        }
        None => {
            seal::forget(&settings.state_dir, &[seal::SALT_FILE])?;
            tracing::info!(
                "seal.key opens the keys: start without a passphrase, and copy it to every replica's state directory"
            );
        }
    }
    Ok(())
}

/// Writes down what opens the master key from now on, if nobody else did since `before` was read.
async fn put(
    settings: &Settings,
    store: &Store,
    sealer: &Sealer,
    before: Option<&str>,
) -> anyhow::Result<()> {
    let had_file = seal::read(&settings.state_dir, seal::KEY_FILE)?.is_some();
    let (after, way) = match &settings.new_ca_passphrase_file {
        Some(path) => {
            (Wrapped::new(sealer, &read_passphrase(path)?)?.text(), "a new passphrase opens the keys")
        }
        // Before the passphrase is taken away: nothing else would have the key then.
        None => {
            sealer.write_key_file(&settings.state_dir)?;
            (KEY_FILE_CHOSEN.to_owned(), "the passphrase is taken away: seal.key opens the keys")
        }
    };
    let note = entry(Actor::Server, "server.keys-wrapped", "", None);
    let note = AuditEntry { detail: way.into(), ..note };
    let swapped = store.swap_setting(SETTING, before, Some(&after), &note).await?;
    if !swapped && !had_file && settings.new_ca_passphrase_file.is_none() {
        seal::forget(&settings.state_dir, &[seal::KEY_FILE])?;
    }
    anyhow::ensure!(
        swapped,
        "it was changed by another meanwhile: look which passphrase opens it, and try again"
    );
    Ok(())
}

/// Makes another master key where the one that was is lost. What that one sealed stays sealed, and it stays beside: a passphrase
/// that was not lost after all opens it.
pub async fn replace(settings: &Settings, store: &Store) -> anyhow::Result<Sealer> {
    let before = store.setting(SETTING).await?;
    let passphrase = passphrase(settings)?.context("give the new passphrase with --ca-passphrase-file")?;
    let sealer = Sealer::of_key(&random::<32>())?;
    let wrapped = Wrapped::new(&sealer, &passphrase)?.text();
    let note = entry(Actor::Server, "server.keys-wrapped", "a new master key", None);
    let aside = format!("{SETTING}.before-{}", clock::wall().unix_micros());
    let swapped = match &before {
        Some(before) => store.swap_setting_aside(SETTING, (before, &aside), &wrapped, &note).await?,
        None => store.swap_setting(SETTING, None, Some(&wrapped), &note).await?,
    };
    anyhow::ensure!(swapped, "another master key was made meanwhile");
    Ok(sealer)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn the_right_passphrase_alone_opens_the_master_key() {
        let sealer = Sealer::of_key(&[7; 32]).expect("a key");
        let sealed = sealer.seal("anchor a", b"secret").expect("sealed");
        let wrapped = Wrapped::new(&sealer, "correct horse").expect("wrapped").text();
        let open = |phrase| Wrapped::read(&wrapped).and_then(|wrapped| wrapped.open(phrase));
        assert_eq!(
            open("correct horse").expect("opens").unseal("anchor a", &sealed).expect("unsealed")[..],
            *b"secret"
        );
        assert!(matches!(open("battery staple"), Err(SealError::Wrong(_))));
        assert!(matches!(Wrapped::read("{}"), Err(SealError::Damaged(_))));
    }

    #[tokio::test]
    async fn a_key_file_is_left_only_where_it_is_what_opens_the_keys() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_str().expect("text");
        let settings = Settings::parse_from(["warren-apid", "rewrap", "--to-key-file", "--state-dir", path]);
        let store = first_start::store(&settings).await.expect("a store");
        let sealer = Sealer::of_key(&[7; 32]).expect("a key");
        let file = || seal::read(dir.path(), seal::KEY_FILE).expect("reads").map(|key| *key);

        let lost = put(&settings, &store, &sealer, Some("what another took away")).await;
        assert!(lost.is_err_and(|error| error.to_string().contains("by another meanwhile")));
        assert_eq!(file(), None, "the passphrase stays, and the key is beside it for nobody");
        assert_eq!(sealed_by(&store).await.expect("reads"), SealedBy::KeyFile);
        assert_eq!(store.setting(SETTING).await.expect("reads"), None);

        put(&settings, &store, &sealer, None).await.expect("nobody else");
        assert_eq!(file(), Some([7; 32]));
        assert_eq!(store.setting(SETTING).await.expect("reads").as_deref(), Some(KEY_FILE_CHOSEN));
        let again = put(&settings, &store, &sealer, None).await;
        assert!(again.is_err());
        assert_eq!(file(), Some([7; 32]), "what was there before is not taken away");
    }
}

//! Puts keys back into a server that has lost what opened them: anchors and keys of SSH authorities out of a backup of
//! those alone, sealed anew by what seals the server's keys now. Everything else of the server stays as it is.

use std::os::unix::fs::{MetadataExt as _, chown};

use ca::KeyName;
use control::{Actor, Loaded};
use model::api::backup::BackupReport;
use model::{Code, Refusal};
use store::{SealedBack, Store};

use super::Wish;
use super::examine::sealer;
use super::scratch::{Filled, unavailable};
use crate::accounts::entry;
use crate::backup::STATE_FILES;
use crate::config::Settings;
use crate::keys::Keys;
use crate::master_key;
use crate::report::chain;
use crate::seal::{SealError, Sealer};

/// Mends the server of these settings.
pub async fn mend(
    settings: &Settings,
    wish: &Wish,
    filled: &Filled,
    report: &mut BackupReport,
) -> Result<(), Refusal> {
    let refused = |error: &dyn std::fmt::Display| Refusal::new(Code::BackupNotUsable, error.to_string());
    let kept = sealer(filled, wish.passphrase.as_deref().map(String::as_str)).await;
    let kept = Keys::new(kept.map_err(|why| refused(&why))?);
    let opened = Store::reach_with(&settings.database_url(), 1).await.map_err(|error| unavailable(&error))?;
    if opened.is_empty().await.map_err(|error| unavailable(&error))? {
        return Err(Code::BackupPartial.into());
    }
    if opened.others().await.map_err(|error| unavailable(&error))? > 0 {
        return Err(Refusal::new(Code::ServerRunning, "a server has the database open"));
    }
    let store = opened.migrate().await.map_err(|error| unavailable(&error))?;
    let now = Keys::new(
        opened_or_replaced(settings, &store).await.map_err(|error| refused(&format!("{error:#}")))?,
    );
    give(settings).map_err(|error| refused(&error))?;
    let back = lost(&store, &now, filled, &kept, report).await?;
    report.put_back = u32::try_from(back.anchors.len() + back.keys.len()).unwrap_or(u32::MAX);
    let restored = entry(Actor::Server, "server.keys-restored", &filled.manifest.made_at.to_string(), None);
    store.put_back(&back, &restored).await.map_err(|error| unavailable(&error))?;
    store.close().await;
    report.left_to_do.push("systemctl start warren-apid; warren server doctor".into());
    Ok(())
}

/// The server's master key, or another one where it is lost.
async fn opened_or_replaced(settings: &Settings, store: &Store) -> anyhow::Result<Sealer> {
    let sealer = master_key::open(settings, store).await?;
    match sealer.expose_master() {
        Err(_) if settings.backup.force => master_key::replace(settings, store).await,
        Err(why) => {
            anyhow::bail!(
                "{why}. If the server has another passphrase than the backup: --ca-passphrase-file is the server's, \
             --backup-ca-passphrase-file the backup's. Where it is lost: --force makes another master key, and people's \
             second factors are void"
            )
        }
        Ok(_) => Ok(sealer),
    }
}

/// What does not open here and does there.
async fn lost(
    store: &Store,
    now: &Keys,
    filled: &Filled,
    kept: &Keys,
    report: &mut BackupReport,
) -> Result<SealedBack, Refusal> {
    let here: Loaded = store.load().await.map_err(|error| unavailable(&error))?;
    let there = filled.store.load().await.map_err(|error| unavailable(&error))?;
    let (opens_here, opens_there) = (now.open_anchors(&here), kept.open_anchors(&there));
    let sealed = |error: SealError| Refusal::new(Code::Internal, chain(&error));
    let mut back = SealedBack::default();
    for rows in &here.tenants {
        let tenant = &rows.tenant;
        if !opens_here.contains_key(&tenant.id) {
            match opens_there.get(&tenant.id).filter(|secret| secret.public() == tenant.anchor) {
                Some(secret) => {
                    back.anchors.push((tenant.id, now.seal_anchor(tenant.id, secret).map_err(sealed)?));
                }
                None => report.left_to_do.push(format!("the anchor of {} is not in the backup", tenant.name)),
            }
        }
        for key in rows.ssh.keys.iter().filter(|key| key.erased_at.is_none()) {
            let name = KeyName { tenant: tenant.id, kind: key.kind, generation: key.generation };
            let fits = |secret: &ca::CaSecret| secret.public() == key.public;
            if secret_of(store, now, name).await?.is_some_and(|secret| fits(&secret)) {
                continue;
            }
            match secret_of(&filled.store, kept, name).await?.filter(fits) {
                Some(secret) => back.keys.push((name, now.seal_authority(name, &secret).map_err(sealed)?)),
                None => report.left_to_do.push(format!("SSH key {name} is not in the backup")),
            }
        }
    }
    Ok(back)
}

async fn secret_of(store: &Store, keys: &Keys, name: KeyName) -> Result<Option<ca::CaSecret>, Refusal> {
    let sealed = store.sealed_key(name.tenant, name.kind, name.generation).await;
    let sealed = sealed.map_err(|error| unavailable(&error))?;
    Ok(sealed.and_then(|sealed| keys.open_authority(name, &sealed).ok()))
}

/// A key that root made is the server's all the same.
fn give(settings: &Settings) -> std::io::Result<()> {
    let owner = std::fs::metadata(&settings.state_dir)?;
    if nix::unistd::Uid::effective().is_root() {
        for path in STATE_FILES.map(|name| settings.state_dir.join(name)) {
            if path.exists() {
                chown(&path, Some(owner.uid()), Some(owner.gid()))?;
            }
        }
    }
    Ok(())
}

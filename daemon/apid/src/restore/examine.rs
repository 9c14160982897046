//! Looks at a restored database as a server would: rows read, keys open and sign, the audit log is as it was written, the
//! hub's key is the hub's.

use std::collections::BTreeMap;

use backup::{Content, HUB_KEY, STATE, SealedBy};
use ca::{Caps, KeyName, KeyRing, LogLine, SignerLog};
use control::{Loaded, TenantRows};
use data_encoding::BASE64;
use model::api::SCHEMA_VERSION;
use model::api::backup::{AnchorFound, BackupReport};
use model::{AnchorSecret, PrivateKey, Refusal, Timestamp};
use zeroize::Zeroizing;

use super::scratch::{Filled, unavailable};
use crate::keys::Keys;
use crate::seal::{self, Sealer};
use crate::{master_key, report};

/// A self-test is no signature.
struct Unlogged;

impl SignerLog for Unlogged {
    fn note(&mut self, _: &LogLine) -> Result<(), String> {
        Ok(())
    }
}

/// What is in it, and what of it does not hold.
pub async fn examine(filled: &Filled, passphrase: Option<&str>) -> Result<BackupReport, Refusal> {
    let manifest = &filled.manifest;
    let loaded = filled.store.load().await.map_err(|error| unavailable(&error))?;
    let mut report = BackupReport {
        schema_version: SCHEMA_VERSION,
        made_at: manifest.made_at,
        made_by: manifest.made_by.clone(),
        server: manifest.server.clone(),
        content: match manifest.content {
            Content::Everything => model::api::backup::BackupContent::Everything,
            Content::SshCa => model::api::backup::BackupContent::SshCa,
        },
        format: manifest.format,
        schema: manifest.database.schema,
        database: manifest.database.engine.clone(),
        epoch: manifest.database.epoch,
        rows: filled.sums.rows.clone(),
        anchors: Vec::new(),
        ssh_keys_opened: 0,
        audit_entries: 0,
        hub_key: None,
        problems: Vec::new(),
        well: true,
        took_millis: 0,
        restored_epoch: None,
        moved_aside: Vec::new(),
        put_back: 0,
        left_to_do: Vec::new(),
    };
    let mut problems = Vec::new();
    match sealer(filled, passphrase).await {
        Ok(sealer) => {
            let keys = Keys::new(sealer);
            look_at_keys(filled, &loaded, &keys, &mut report, &mut problems).await?;
            if manifest.content == Content::Everything {
                look_at_audit(filled, &keys, &mut report, &mut problems).await?;
            }
        }
        Err(why) => problems.push(why),
    }
    match hub_key(filled) {
        Ok(key) => report.hub_key = key,
        Err(why) => problems.push(why),
    }
    report.well = problems.is_empty();
    report.problems = problems;
    Ok(report)
}

/// What opens the keys in it, or why nothing does.
pub async fn sealer(filled: &Filled, passphrase: Option<&str>) -> Result<Sealer, String> {
    if let Some(sealer) = master_key::of_backup(&filled.store, passphrase).await? {
        return Ok(sealer);
    }
    let file = |name: &str| filled.files.get(&format!("{STATE}{name}"));
    let made = match filled.manifest.sealed_by {
        SealedBy::KeyFile => {
            let key = file(seal::KEY_FILE).ok_or("seal.key is not in it: no key in the database opens")?;
            Sealer::of_key(key)
        }
        SealedBy::Passphrase => {
            let salt = file(seal::SALT_FILE).ok_or("seal.salt is not in it: no key in the database opens")?;
            let passphrase = passphrase.ok_or(
                "its keys are sealed by a passphrase: give it with --ca-passphrase-file to see that they open",
            )?;
            Sealer::of_passphrase(passphrase, salt)
        }
    };
    made.map_err(|error| report::chain(&error))
}

async fn look_at_keys(
    filled: &Filled,
    loaded: &Loaded,
    keys: &Keys,
    report: &mut BackupReport,
    problems: &mut Vec<String>,
) -> Result<(), Refusal> {
    let anchors: BTreeMap<_, AnchorSecret> = keys.open_anchors(loaded);
    let mut ring = KeyRing::new(Caps::default(), crate::accounts::random(), Unlogged);
    for TenantRows { tenant, ssh, .. } in &loaded.tenants {
        let opens = anchors.get(&tenant.id).is_some_and(|secret| secret.public() == tenant.anchor);
        if !opens {
            problems.push(format!("the anchor of tenant {} does not open", tenant.name));
        }
        let fingerprint = tenant.anchor.fingerprint();
        report.anchors.push(AnchorFound { tenant: tenant.name.clone(), fingerprint, opens });
        for key in ssh.keys.iter().filter(|key| key.erased_at.is_none()) {
            let name = KeyName { tenant: tenant.id, kind: key.kind, generation: key.generation };
            let sealed = filled.store.sealed_key(tenant.id, key.kind, key.generation).await;
            let secret = match sealed.map_err(|error| unavailable(&error))? {
                Some(sealed) => keys.open_authority(name, &sealed).map_err(|error| report::chain(&error)),
                None => Err("it is not there".into()),
            };
            // Opening it signs and checks the signature.
            let signs = secret.and_then(|secret| {
                ring.open(name, &secret).map_err(|refusal| refusal.to_string())?;
                if secret.public() == key.public { Ok(()) } else { Err("it is another key".into()) }
            });
            match signs {
                Ok(()) => report.ssh_keys_opened += 1,
                Err(why) => problems.push(format!("SSH key {name}: {why}")),
            }
        }
    }
    Ok(())
}

async fn look_at_audit(
    filled: &Filled,
    keys: &Keys,
    report: &mut BackupReport,
    problems: &mut Vec<String>,
) -> Result<(), Refusal> {
    let verdict = filled.store.verify_audit(keys).await.map_err(|error| unavailable(&error))?;
    report.audit_entries = verdict.entries;
    if let Some((at, why)) = verdict.broken {
        problems.push(format!("the audit log does not hold at entry {at}: {why}"));
    }
    Ok(())
}

/// The public half of the hub's key that is in it.
fn hub_key(filled: &Filled) -> Result<Option<model::PublicKey>, String> {
    let Some(said) = filled.manifest.hub_key else { return Ok(None) };
    let file = hub_key_file(filled)?;
    let mut bytes = Zeroizing::new([0; 32]);
    let decoded = BASE64.decode(file.trim_ascii_end()).map(Zeroizing::new);
    match decoded {
        Ok(decoded) if decoded.len() == bytes.len() => bytes.copy_from_slice(&decoded),
        _ => return Err("the hub's WireGuard key is none".into()),
    }
    let found = PrivateKey::from_bytes(*bytes).public();
    if found == said { Ok(Some(found)) } else { Err("the hub's WireGuard key is another".into()) }
}

/// `wg.key` as netd keeps it.
pub fn hub_key_file(filled: &Filled) -> Result<Zeroizing<Vec<u8>>, String> {
    let sealed = filled.files.get(HUB_KEY).ok_or("the hub's WireGuard key is not in it")?;
    backup::open_bytes(sealed, &filled.keys).map_err(|error| format!("the hub's WireGuard key: {error}"))
}

/// In the names of files: `20261122T170000Z`.
pub fn stamp(at: Timestamp) -> String {
    at.to_string().chars().filter(char::is_ascii_alphanumeric).take("20261122T170000".len()).collect()
}

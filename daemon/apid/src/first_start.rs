//! What a server needs before it can serve, and makes by itself the first time: certificate, administrator, tenant.

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use control::{Actor, Answer, Edit, HubInterface};
use link::ServerAddress;
use link::tls::Certificate;
use model::{Code, Label};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use store::{Role, Store};

use crate::audit::Written;
use crate::config::Settings;
use crate::desk::Desk;
use crate::people::Policy;
use crate::{accounts, certificate, clock, people};

/// What the state directory is held by.
const LOCK_FILE: &str = "lock";

/// The database, brought to the newest schema.
pub async fn store(settings: &Settings) -> anyhow::Result<Store> {
    let opened = Store::reach_with(&settings.database_url(), settings.database_connections).await;
    opened.context("the database cannot be used")?.migrate().await.context("the database cannot be used")
}

/// The TLS certificate: the files that were given, or one of our own making.
pub async fn certificate(settings: &Settings, public: &ServerAddress) -> anyhow::Result<Certificate> {
    if let (Some(cert), Some(key)) = (&settings.tls_cert, &settings.tls_key) {
        return Ok(Certificate::from_files(cert, key).await?);
    }
    let own = certificate::own(&settings.state_dir, &public.host_text())?;
    Ok(Certificate::from_pem(own.chain_pem.as_bytes(), own.key_pem.as_bytes())?)
}

/// Takes the state directory, for as long as the value lives: servers with each other, who restores alone (flock(2)).
/// `None`: others have it.
pub fn hold(state_dir: &Path, alone: bool) -> std::io::Result<Option<Flock<File>>> {
    let path = state_dir.join(LOCK_FILE);
    let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    if nix::unistd::Uid::effective().is_root() {
        let owner = std::fs::metadata(state_dir)?;
        std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid()))?;
    }
    let how = if alone { FlockArg::LockExclusiveNonblock } else { FlockArg::LockSharedNonblock };
    match Flock::lock(file, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

/// Takes the state directory to serve from it.
pub fn serving(state_dir: &Path) -> anyhow::Result<Flock<File>> {
    let held = hold(state_dir, false);
    let held = held.with_context(|| format!("{} cannot be used", state_dir.display()))?;
    held.context("a backup is being restored into the state directory")
}

/// Which passwords may be set.
pub fn policy(settings: &Settings) -> anyhow::Result<Policy> {
    let Some(path) = &settings.password_blocklist else { return Ok(Policy::default()) };
    let list = std::fs::read_to_string(path);
    Ok(Policy::from_list(
        &list.with_context(|| format!("the list of passwords {} cannot be read", path.display()))?,
    ))
}

/// The first administrator, by the password in the environment; else the secret of the one-time setup URL, as long as
/// there is no user.
pub async fn administrator(
    store: &Store,
    settings: &Settings,
    policy: &Policy,
) -> anyhow::Result<Option<String>> {
    if !store.users().await.context("the users cannot be read")?.is_empty() {
        return Ok(None);
    }
    let Some(password) = settings.admin_password.clone().filter(|password| !password.is_empty()) else {
        let secret = accounts::setup_secret();
        let offered = store.offer_setup(&accounts::setup_digest(&secret), clock::wall()).await?;
        return Ok(offered.then_some(secret));
    };
    let name: Label = "admin".parse().expect("a label");
    if let Err(refusal) = policy.judge(&password, name.as_str()) {
        tracing::warn!(detail = refusal.detail, "WARREN_ADMIN_PASSWORD is weak");
    }
    let hash = people::hash(password).await?;
    let user = accounts::new_user(name, Role::SuperAdmin, None, hash);
    store.create_user(&user, &accounts::entry(Actor::Server, "user.create", "admin", None)).await?;
    tracing::info!(user = "admin", "first administrator made from WARREN_ADMIN_PASSWORD");
    Ok(None)
}

/// The tenant that a new database starts with.
pub async fn tenant(desk: &Desk, settings: &Settings) -> anyhow::Result<()> {
    let none = desk
        .read_loaded(|control| control.directories().next().is_none() && control.withheld().next().is_none())
        .await?;
    if !none {
        return Ok(());
    }
    let edit = Edit::CreateTenant {
        name: settings.first_tenant.clone(),
        block: Some(settings.first_block),
        interface: HubInterface::Shared,
    };
    match desk.edit(None, edit, Actor::Server).await {
        Ok(Answer::TenantCreated(tenant)) => {
            tracing::info!(tenant = %tenant.name, block = %tenant.block.v4(), "first tenant made");
        }
        // Another replica was faster.
        Err(Written(refusal)) if matches!(refusal.code, Code::NameTaken | Code::Conflict) => {}
        Ok(_) => anyhow::bail!("the first tenant was answered with something else"),
        Err(Written(refusal)) => anyhow::bail!("the first tenant cannot be made: {refusal}"),
    }
    Ok(())
}

//! What follows by itself, looked for now and then: certificates of who is gone are taken back, roles mean those who
//! administer and name nobody who is gone, revocations that name nothing living are dropped. Every replica looks, the one that holds the lease more
//! often: nobody stays let in because nobody can have the lease. Decides nothing that an edit does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use control::{Actor, Edit};
use model::id::UserId;
use model::{CaKind, Code, Label, Refusal, TenantId};
use store::{CertificateRow, Role, Store, User};
use tokio::time::{MissedTickBehavior, interval};

use crate::audit::Written;
use crate::clock::wall;
use crate::desk::Desk;
use crate::lease::Lease;
use crate::withdrawn::withdrawn;

/// Whoever was disabled or removed is let in nowhere soon after.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);
/// What is no longer worth listing waits for one of so many sweeps: a quarter of an hour.
const SWEEPS_PER_PRUNING: u32 = 450;
/// A replica without the lease looks at one of so many.
const SWEEPS_WITHOUT_LEASE: u32 = 5;

/// Sweeps until it is aborted. What fails is tried with the next sweep; that the database is gone, its checks say.
pub async fn forever(desk: Desk, store: Store, lease: Lease) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for sweep in 0_u32.. {
        ticks.tick().await;
        if !lease.is_held() && sweep % SWEEPS_WITHOUT_LEASE != 0 {
            continue;
        }
        if let Err(refusal) = once(&desk, &store, sweep % SWEEPS_PER_PRUNING == 0).await {
            tracing::debug!(%refusal, "a sweep was not finished");
        }
    }
}

/// A person or a certificate is not what it was: what follows, follows at once. What fails follows with the next sweep.
pub async fn now(desk: &Desk, store: &Store) {
    if let Err(refusal) = once(desk, store, false).await {
        tracing::warn!(%refusal, "what follows of a person's change is not done yet; tried again soon");
    }
}

async fn once(desk: &Desk, store: &Store, prunes: bool) -> Result<(), Refusal> {
    let unavailable = |error: store::ReadError| Refusal::new(Code::StoreUnavailable, error.to_string());
    let users: Arc<[User]> = store.users().await.map_err(unavailable)?.into();
    let now = wall();
    let people = Arc::clone(&users);
    let owed = desk.read_loaded(move |control| {
        let live = control.directories().filter(|directory| directory.tenant().deleted_at.is_none());
        let owed = live.map(|directory| {
            let tenant = directory.tenant().id;
            let administrators = administrators(&people, tenant);
            let named = directory.people_of_roles().into_iter();
            Owed {
                tenant,
                administrators: (*directory.administrators() != administrators).then_some(administrators),
                strangers: named.filter(|name| !is_known(&people, name, tenant)).cloned().collect(),
                pruning: prunes && directory.has_prunable(now),
            }
        });
        owed.collect::<Vec<_>>()
    });
    for Owed { tenant, administrators, strangers, pruning } in owed.await? {
        forget(desk, store, tenant, strangers).await?;
        if let Some(names) = administrators {
            edit(desk, tenant, Edit::SetAdministrators(names)).await?;
        }
        if pruning {
            edit(desk, tenant, Edit::PruneRevocations).await?;
        }
    }
    let orphans = store.orphaned_certificates(now).await.map_err(unavailable)?;
    let by_id: BTreeMap<UserId, &User> = users.iter().map(|user| (user.id, user)).collect();
    let mut by_authority = BTreeMap::<(TenantId, CaKind), Vec<(&CertificateRow, bool)>>::new();
    for row in &orphans {
        // A device does not come back; a person may be there on others.
        let holder = row.user.and_then(|user| by_id.get(&user));
        let is_there = holder.is_some_and(|user| user.is_there(row.tenant));
        by_authority.entry((row.tenant, row.kind)).or_default().push((row, !is_there));
    }
    for ((tenant, kind), rows) in by_authority {
        if let Some((of, until)) = withdrawn(rows.into_iter()) {
            edit(desk, tenant, Edit::WithdrawCertificates { kind, of, until }).await?;
        }
    }
    Ok(())
}

/// What one tenant refuses keeps no other waiting.
async fn edit(desk: &Desk, tenant: TenantId, edit: Edit) -> Result<(), Refusal> {
    let action = edit.action();
    match desk.edit(Some(tenant), edit, Actor::Server).await {
        Err(Written(refusal)) if refusal.code == Code::Draining => Err(refusal),
        Err(Written(refusal)) => {
            tracing::warn!(%tenant, action, %refusal, "what follows by itself is refused; tried again");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// Takes names out of roles that nobody has who sees the tenant: those of former people, where that could not be done at once.
async fn forget(desk: &Desk, store: &Store, tenant: TenantId, names: Vec<Label>) -> Result<(), Refusal> {
    if names.is_empty() {
        return Ok(());
    }
    // Whoever is named now may have come after the people were read.
    let users = store.users().await;
    let users = users.map_err(|error| Refusal::new(Code::StoreUnavailable, error.to_string()))?;
    for name in names.into_iter().filter(|name| !is_known(&users, name, tenant)) {
        edit(desk, tenant, Edit::ForgetPerson(name)).await?;
    }
    Ok(())
}

/// Whether there is somebody of the name who sees the tenant, or would if she were not disabled.
fn is_known(users: &[User], name: &Label, tenant: TenantId) -> bool {
    users.iter().any(|user| user.name == *name && user.tenant.is_none_or(|only| only == tenant))
}

/// Who administers the tenant: people of it and of all tenants.
fn administrators(users: &[User], tenant: TenantId) -> BTreeSet<Label> {
    let administers = |user: &&User| user.is_there(tenant) && user.role >= Role::TenantAdmin;
    users.iter().filter(administers).map(|user| user.name.clone()).collect()
}

/// What a tenant's directory does not say yet.
struct Owed {
    tenant: TenantId,
    administrators: Option<BTreeSet<Label>>,
    /// Whom roles name, and the tenant is not theirs to see.
    strangers: Vec<Label>,
    pruning: bool,
}

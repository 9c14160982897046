//! What ends by itself: devices whose time is over, ephemeral ones that nobody hears any more, closed tenants after their
//! grace. One replica looks, the one that holds the lease; each end is an edit as any other, by the server.

use std::collections::BTreeMap;
use std::time::Duration;

use control::{Actor, Control, Directory, Edit};
use model::{Code, DeviceId, Refusal, Standing, TenantId, Timestamp};
use store::{Engine, Store};
use tokio::time::{MissedTickBehavior, interval};

use crate::audit::Written;
use crate::clock::wall;
use crate::desk::Desk;
use crate::lease::Lease;

/// How late an end may be. A look at a hundred thousand devices takes milliseconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// What another replica hears is known here as late as this: a heartbeat, and presence that is saved now and then.
const HEARD_LAG: Duration = model::limits::HEARTBEAT_INTERVAL
    .saturating_add(control::limits::PRESENCE_SAVE_INTERVAL)
    .saturating_mul(2);

/// Looks until it is aborted. What fails is tried with the next look; that the database is gone, its checks say.
pub async fn forever(desk: Desk, store: Store, mut lease: Lease) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looking_since = None;
    loop {
        ticks.tick().await;
        if !lease.is_held() {
            looking_since = None;
            lease.held().await;
        }
        // Whoever could not be heard while nobody listened gets the whole time again.
        let since = *looking_since.get_or_insert_with(wall);
        if let Err(refusal) = once(&desk, &store, since, wall()).await {
            tracing::debug!(%refusal, "a look at what ends was not finished");
        }
    }
}

async fn once(desk: &Desk, store: &Store, since: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    let lag = if store.engine() == Engine::Postgres { HEARD_LAG } else { Duration::ZERO };
    let (mut ends, silent) = desk.read_loaded(move |control| look(control, since, lag, now)).await?;
    if !silent.is_empty() {
        let heard = store.ephemeral_heard().await;
        let heard = heard.map_err(|error| Refusal::new(Code::StoreUnavailable, error.to_string()))?;
        ends.extend(silent.into_iter().filter(|one| one.is_silent(&heard, now)).map(Silent::end));
    }
    for (tenant, edit) in ends {
        let action = edit.action();
        tracing::info!(%tenant, action, target = edit.target(), "what ends by itself");
        match desk.edit(Some(tenant), edit, Actor::Server).await {
            Err(Written(refusal)) if refusal.code == Code::Draining => return Err(refusal),
            // What one tenant refuses keeps no other waiting.
            Err(Written(refusal)) => {
                tracing::warn!(%tenant, action, %refusal, "what ends is refused; tried again");
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// What ends now.
type End = (TenantId, Edit);

/// An ephemeral device that this replica has not heard for as long as it may be silent. Another may have.
struct Silent {
    tenant: TenantId,
    device: DeviceId,
    may: Duration,
}

impl Silent {
    fn is_silent(&self, heard: &BTreeMap<DeviceId, Timestamp>, now: Timestamp) -> bool {
        heard.get(&self.device).is_none_or(|at| *at + self.may <= now)
    }

    fn end(self) -> End {
        (self.tenant, Edit::RemoveIdle(self.device))
    }
}

fn look(control: &Control, since: Timestamp, lag: Duration, now: Timestamp) -> (Vec<End>, Vec<Silent>) {
    let (mut ends, mut silent) = (Vec::new(), Vec::new());
    for directory in control.directories().filter(|directory| directory.tenant().deleted_at.is_none()) {
        let tenant = directory.tenant().id;
        match directory.tenant().closing {
            Some(closing) if closing.erase_at <= now => ends.push((tenant, Edit::EraseTenant)),
            // Nobody is heard in a closed tenant, and it is to be restored as it was.
            Some(_) => {}
            None => {
                ends.extend(expired(directory, now).map(|device| (tenant, Edit::ExpireDevice(device))));
                silent.extend(quiet(control, directory, since, lag, now));
            }
        }
    }
    (ends, silent)
}

fn expired(directory: &Directory, now: Timestamp) -> impl Iterator<Item = DeviceId> {
    let is_over = move |device: &&control::Device| {
        device.is_live()
            && device.standing != Standing::Expired
            && device.expires_at.is_some_and(|at| at <= now)
    };
    directory.devices().filter(is_over).map(|device| device.id)
}

fn quiet(
    control: &Control,
    directory: &Directory,
    since: Timestamp,
    lag: Duration,
    now: Timestamp,
) -> impl Iterator<Item = Silent> {
    let tenant = directory.tenant().id;
    directory.devices().filter(|device| device.is_live()).filter_map(move |device| {
        let may = device.idle_max? + lag;
        let presence = control.presence(device.id);
        if presence.is_some_and(|presence| presence.link.is_some()) {
            return None;
        }
        let heard = presence.map_or(device.enrolled_at, |presence| presence.row.last_seen);
        (heard.max(since) + may <= now).then_some(Silent { tenant, device: device.id, may })
    })
}

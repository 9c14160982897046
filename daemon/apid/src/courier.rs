//! Carries device commands from the queue to the devices that are attached here, again and again until they are answered.
//! Those whose time is over end by whoever holds the lease. What a command does, the device knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use control::{Actor, AuditEntry, Input, LinkId, Trace};
use model::id::CommandId;
use model::wire::{Command, Remark};
use model::{Code, DeviceId, Refusal, Timestamp};
use store::{CommandRow, CommandState, Store};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::clock::wall;
use crate::desk::Desk;
use crate::lease::Lease;

/// What another replica queued is found as late as this.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A device that did not answer is told again after this: its program may have begun anew.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// By which link a command was sent lately, and when.
type Sent = BTreeMap<CommandId, (LinkId, Instant)>;

/// Carries until it is aborted. Whoever queues a command here stirs it.
pub async fn forever(desk: Desk, store: Store, lease: Lease, stirred: Arc<Notify>) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = Sent::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stirred.notified() => {}
        }
        let now = wall();
        let carried = carry(&desk, &store, &mut sent, now).await;
        let ended = if lease.is_held() { end(&store, now).await } else { Ok(()) };
        if let Err(refusal) = carried.and(ended) {
            tracing::debug!(%refusal, "device commands wait");
        }
    }
}

async fn carry(desk: &Desk, store: &Store, sent: &mut Sent, now: Timestamp) -> Result<(), Refusal> {
    sent.retain(|_, (_, at)| at.elapsed() < AGAIN_AFTER);
    let devices = store.devices_with_commands(now).await.map_err(|e| unavailable(&e))?;
    if devices.is_empty() {
        return Ok(());
    }
    // Whoever is not attached here keeps nobody waiting.
    let here = desk.read(move |control| {
        let link = |device: DeviceId| control.presence(device).and_then(|presence| presence.link);
        devices.into_iter().filter_map(|device| link(device).map(|link| (device, link))).collect::<Vec<_>>()
    });
    for (device, link) in here.await? {
        let waiting = store.waiting_commands(device, now).await.map_err(|e| unavailable(&e))?;
        for row in waiting {
            if sent.get(&row.id).is_some_and(|(by, _)| *by == link) {
                continue;
            }
            let command = Command { id: row.id, kind: Remark::new(row.kind.as_str()) };
            if !desk.tell(Input::Deliver { device, command }).await {
                return Err(Code::Draining.into());
            }
            sent.insert(row.id, (link, Instant::now()));
            if row.state == CommandState::Queued {
                store.command_sent(row.id, now).await.map_err(|e| unavailable(&e))?;
            }
        }
    }
    Ok(())
}

async fn end(store: &Store, now: Timestamp) -> Result<(), Refusal> {
    let entry = |row: &CommandRow| AuditEntry {
        at: now,
        tenant: Some(row.tenant),
        actor: Actor::Server,
        action: "device.command-expired".into(),
        target: row.id.to_string(),
        refused: None,
        detail: format!("{} for device {}", row.kind, row.device),
        trace: Trace::default(),
    };
    store.expire_commands(now, entry).await.map(drop).map_err(|e| unavailable(&e))
}

fn unavailable(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Code::StoreUnavailable, error.to_string())
}

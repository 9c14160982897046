//! Carries device commands from the queue to the devices that are attached here, again and again until they are answered.
//! Those whose time is over end by whoever holds the lease. What a command does, the device knows.

mod marks;

use std::sync::Arc;
use std::time::Duration;

use control::{Actor, AuditEntry, Input, LinkId, Trace};
use model::wire::{Command, Remark};
use model::{Code, DeviceId, Refusal, Timestamp};
use store::{CommandRow, CommandState, Store, WaitingDevice};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::clock::wall;
use crate::desk::Desk;
use crate::lease::Lease;
use marks::Marks;

/// What another replica queued is found as late as this.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Carries until it is aborted. Whoever queues a command here stirs it.
pub async fn forever(desk: Desk, store: Store, lease: Lease, stirred: Arc<Notify>) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut marks = Marks::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stirred.notified() => {}
        }
        let now = wall();
        let carried = carry(&desk, &store, &mut marks, now).await;
        let ended = if lease.is_held() { end(&store, now).await } else { Ok(()) };
        if let Err(refusal) = carried.and(ended) {
            tracing::debug!(%refusal, "device commands wait");
        }
    }
}

async fn carry(desk: &Desk, store: &Store, marks: &mut Marks, now: Timestamp) -> Result<(), Refusal> {
    marks.forget(Instant::now());
    let devices = store.devices_with_commands(now).await.map_err(|e| unavailable(&e))?;
    if devices.is_empty() {
        return Ok(());
    }
    // Whoever is not attached here keeps nobody waiting.
    let here = desk.read(move |control| {
        let link = |device: DeviceId| control.presence(device).and_then(|presence| presence.link);
        devices
            .into_iter()
            .filter_map(|waiting| link(waiting.device).map(|link| (waiting, link)))
            .collect::<Vec<_>>()
    });
    for (waiting, link) in here.await? {
        // Who was just told all of it costs the database nothing.
        if marks.is_due(&waiting, link) {
            send_queue(desk, store, marks, (&waiting, link), now).await?;
        }
    }
    Ok(())
}

/// Sends what waits for a device, but for what its link carried lately.
async fn send_queue(
    desk: &Desk,
    store: &Store,
    marks: &mut Marks,
    (waiting, link): (&WaitingDevice, LinkId),
    now: Timestamp,
) -> Result<(), Refusal> {
    let device = waiting.device;
    let queue = store.waiting_commands(device, now).await.map_err(|e| unavailable(&e))?;
    for row in queue.iter().filter(|row| marks.is_unsent(row.id, link)).collect::<Vec<_>>() {
        let command = Command { id: row.id, kind: Remark::new(row.kind.as_str()) };
        if !desk.tell(Input::Deliver { device, command }).await {
            return Err(Code::Draining.into());
        }
        marks.sent(row.id, link, Instant::now());
        if row.state == CommandState::Queued {
            store.command_sent(row.id, now).await.map_err(|e| unavailable(&e))?;
        }
    }
    let queue: Vec<_> = queue.iter().map(|row| row.id).collect();
    marks.read(waiting, link, &queue);
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

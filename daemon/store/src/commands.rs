//! The queue of device commands: durable, at least once, each with an end. Not part of any directory; sends none.
//!
//! ```text
//! queued ──sent──▶ sent ──answered──▶ done, failed
//!    └────────────────┴──its time is over──▶ expired
//! ```

use control::{Actor, AuditEntry};
use model::id::CommandId;
use model::wire::Remark;
use model::{CommandKind, DeviceId, TenantId, Timestamp};

use crate::audit::{self, AuditId};
use crate::error::{Corrupt, DatabaseError, ReadError};
use crate::fields::Fields;
use crate::sql::{Row, Transaction, values};
use crate::store::Store;

/// Commands that wait for one device at most: more are a script that does not look.
pub const COMMANDS_WAITING_MAX: u32 = 32;
/// Commands of one sweep, and of one list.
const COMMANDS_READ_MAX: u32 = 1_000;

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandState {
    /// Nobody has sent it yet.
    Queued,
    /// Sent, and not answered yet.
    Sent,
    /// The device did it.
    Done,
    /// The device could not do it.
    Failed,
    /// The device did not answer in time.
    Expired,
}

impl CommandState {
    const ALL: [Self; 5] = [Self::Queued, Self::Sent, Self::Done, Self::Failed, Self::Expired];

    /// As people and the API see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }
}

/// A device command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRow {
    /// Its id.
    pub id: CommandId,
    /// Whose device.
    pub tenant: TenantId,
    /// Which.
    pub device: DeviceId,
    /// What it is to do.
    pub kind: CommandKind,
    /// Where it stands.
    pub state: CommandState,
    /// When it was wanted.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: Actor,
    /// From then on it need not be done.
    pub expires_at: Timestamp,
    /// When it was sent first.
    pub sent_at: Option<Timestamp>,
    /// When it ended, however.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub detail: Remark,
}

/// A device that is still to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingDevice {
    /// Which.
    pub device: DeviceId,
    /// The newest of its commands.
    pub newest: CommandId,
    /// How many there are.
    pub count: u32,
}

/// Why a command is not queued.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Too many wait for the device.
    #[error("{COMMANDS_WAITING_MAX} commands wait for the device")]
    Full,
    /// The database did not do it.
    #[error("the database is unavailable")]
    Database(#[from] DatabaseError),
    /// A row does not read.
    #[error("the database is damaged")]
    Corrupt(#[from] Corrupt),
}

impl Store {
    /// Queues a command and writes down who wanted it, both or neither.
    pub async fn queue_command(&self, row: &CommandRow, entry: &AuditEntry) -> Result<(), QueueError> {
        let mut transaction = self.database.write().await?;
        let sql = "SELECT COUNT(*) AS waiting FROM device_commands WHERE device_id = $1 AND ended_at IS NULL";
        let counted = transaction.optional(sql, values![row.device.to_string()]).await?;
        let waiting = counted.map(|row| Fields::of_row("device_commands", "id", &row).number("waiting"));
        if waiting.transpose()?.is_some_and(|waiting: u32| waiting >= COMMANDS_WAITING_MAX) {
            return Err(QueueError::Full);
        }
        let sql = "INSERT INTO device_commands (id, tenant_id, device_id, kind, state, created_at, created_by, \
                   expires_at, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let arguments = values![
            row.id.to_string(),
            row.tenant.to_string(),
            row.device.to_string(),
            row.kind.as_str(),
            row.state.as_str(),
            row.created_at.unix_micros(),
            row.created_by.to_string(),
            row.expires_at.unix_micros(),
            row.detail.as_str(),
        ];
        transaction.execute(sql, arguments).await?;
        audit::append(&mut transaction, AuditId::new(entry.at), entry).await?;
        Ok(transaction.commit().await?)
    }

    /// Devices that are still to do something: one row each, however much it is.
    pub async fn devices_with_commands(&self, now: Timestamp) -> Result<Vec<WaitingDevice>, ReadError> {
        let sql = "SELECT device_id, MAX(id) AS newest, COUNT(*) AS waiting FROM device_commands \
                   WHERE ended_at IS NULL AND expires_at > $1 GROUP BY device_id";
        let found = self.database.read().await?.all(sql, values![now.unix_micros()]).await?;
        let read = |row| {
            let fields = Fields::of_row("device_commands", "device_id", row);
            let (device, newest) = (fields.parsed("device_id")?, fields.parsed("newest")?);
            Ok(WaitingDevice { device, newest, count: fields.number("waiting")? })
        };
        Ok(found.iter().map(read).collect::<Result<_, Corrupt>>()?)
    }

    /// What a device is still to do, oldest first.
    pub async fn waiting_commands(
        &self,
        device: DeviceId,
        now: Timestamp,
    ) -> Result<Vec<CommandRow>, ReadError> {
        let sql = "SELECT * FROM device_commands WHERE device_id = $1 AND ended_at IS NULL AND expires_at > $2 \
                   ORDER BY id LIMIT $3";
        let arguments = values![device.to_string(), now.unix_micros(), COMMANDS_WAITING_MAX];
        rows(&self.database.read().await?.all(sql, arguments).await?)
    }

    /// Commands of a device, newest first.
    pub async fn device_commands(&self, device: DeviceId) -> Result<Vec<CommandRow>, ReadError> {
        let sql = "SELECT * FROM device_commands WHERE device_id = $1 ORDER BY id DESC LIMIT $2";
        let arguments = values![device.to_string(), COMMANDS_READ_MAX];
        rows(&self.database.read().await?.all(sql, arguments).await?)
    }

    /// It was sent for the first time.
    pub async fn command_sent(&self, id: CommandId, now: Timestamp) -> Result<(), DatabaseError> {
        let sql =
            "UPDATE device_commands SET state = 'sent', sent_at = $2 WHERE id = $1 AND state = 'queued'";
        let mut transaction = self.database.write().await?;
        transaction.execute(sql, values![id.to_string(), now.unix_micros()]).await?;
        transaction.commit().await
    }

    /// The device answered. What it says again, or of another's command, or too late, changes nothing; false then.
    pub async fn command_done(
        &self,
        device: DeviceId,
        id: CommandId,
        failed: Option<&Remark>,
        entry: &AuditEntry,
    ) -> Result<bool, DatabaseError> {
        let sql = "UPDATE device_commands SET state = $3, ended_at = $4, detail = $5 \
                   WHERE id = $1 AND device_id = $2 AND ended_at IS NULL AND expires_at > $4";
        let state = if failed.is_some() { CommandState::Failed } else { CommandState::Done };
        let arguments = values![
            id.to_string(),
            device.to_string(),
            state.as_str(),
            entry.at.unix_micros(),
            failed.map_or("", Remark::as_str),
        ];
        let mut transaction = self.database.write().await?;
        if transaction.execute(sql, arguments).await? == 0 {
            return Ok(false);
        }
        audit::append(&mut transaction, AuditId::new(entry.at), entry).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Ends the commands whose time is over, each with the entry that `entry` makes of it. Says how many.
    pub async fn expire_commands(
        &self,
        now: Timestamp,
        entry: impl Fn(&CommandRow) -> AuditEntry,
    ) -> Result<usize, ReadError> {
        let mut transaction = self.database.write().await?;
        let sql =
            "SELECT * FROM device_commands WHERE ended_at IS NULL AND expires_at <= $1 ORDER BY id LIMIT $2";
        let overdue = transaction.all(sql, values![now.unix_micros(), COMMANDS_READ_MAX]).await?;
        let overdue = rows(&overdue)?;
        for row in &overdue {
            expire(&mut transaction, row, now, &entry(row)).await?;
        }
        transaction.commit().await?;
        Ok(overdue.len())
    }

    /// Forgets commands that ended before.
    pub async fn prune_commands(&self, before: Timestamp) -> Result<u64, DatabaseError> {
        let mut transaction = self.database.write().await?;
        let sql = "DELETE FROM device_commands WHERE ended_at < $1";
        let pruned = transaction.execute(sql, values![before.unix_micros()]).await?;
        transaction.commit().await?;
        Ok(pruned)
    }
}

async fn expire(
    transaction: &mut Transaction,
    row: &CommandRow,
    now: Timestamp,
    entry: &AuditEntry,
) -> Result<(), DatabaseError> {
    let sql =
        "UPDATE device_commands SET state = 'expired', ended_at = $2 WHERE id = $1 AND ended_at IS NULL";
    if transaction.execute(sql, values![row.id.to_string(), now.unix_micros()]).await? == 1 {
        audit::append(transaction, AuditId::new(entry.at), entry).await?;
    }
    Ok(())
}

fn rows(rows: &[Row]) -> Result<Vec<CommandRow>, ReadError> {
    Ok(rows.iter().map(from_row).collect::<Result<_, Corrupt>>()?)
}

fn from_row(row: &Row) -> Result<CommandRow, Corrupt> {
    let fields = Fields::of_row("device_commands", "id", row);
    let state = fields.text("state")?;
    let found = CommandState::ALL.into_iter().find(|known| known.as_str() == state);
    Ok(CommandRow {
        id: fields.parsed("id")?,
        tenant: fields.parsed("tenant_id")?,
        device: fields.parsed("device_id")?,
        kind: fields.parsed("kind")?,
        state: found.ok_or_else(|| fields.corrupt("state", format!("{state:?} is unknown")))?,
        created_at: fields.time("created_at")?,
        created_by: fields.parsed("created_by")?,
        expires_at: fields.time("expires_at")?,
        sent_at: fields.time_or_null("sent_at")?,
        ended_at: fields.time_or_null("ended_at")?,
        detail: Remark::new(&fields.text("detail")?),
    })
}

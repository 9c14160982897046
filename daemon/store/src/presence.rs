//! What was saved of the devices' presence. Not part of any directory: no generation, no change log, no audit.

use std::collections::BTreeMap;

use control::PresenceRow;
use model::wire::{Facts, Remark};
use model::{DeviceId, Epoch, Generation, Held, Timestamp, Version};
use serde_json::json;

use crate::dialect;
use crate::encoded::signed;
use crate::error::{Corrupt, DatabaseError, ReadError};
use crate::fields::Fields;
use crate::sql::{Row, Transaction, values};
use crate::store::Store;

/// Rows of one statement: about 300 kB of JSON, and the writer is free again in between.
const BATCH_ROWS_MAX: usize = 1_000;

impl Store {
    /// Saves what is newer than what the database has. A device that the database does not have is passed over.
    pub async fn save_presence(&self, rows: &[PresenceRow]) -> Result<(), DatabaseError> {
        for batch in rows.chunks(BATCH_ROWS_MAX) {
            let batch: serde_json::Value = batch.iter().map(to_json).collect();
            let mut transaction = self.database.write().await?;
            transaction.execute(dialect::SAVE_PRESENCE, values![batch.to_string()]).await?;
            transaction.commit().await?;
        }
        Ok(())
    }

    /// What was saved of every device.
    pub async fn presence(&self) -> Result<Vec<PresenceRow>, ReadError> {
        all(&mut self.database.read().await?).await
    }
}

impl Store {
    /// What was saved of devices that were heard after, by whichever replica.
    pub async fn presence_after(&self, after: Timestamp) -> Result<Vec<PresenceRow>, ReadError> {
        let sql = "SELECT presence.*, tenant_id FROM presence JOIN devices ON id = device_id \
                   WHERE last_seen > $1 ORDER BY device_id";
        let rows = self.database.read().await?.all(sql, values![after.unix_micros()]).await?;
        Ok(rows.iter().map(from_row).collect::<Result<_, Corrupt>>()?)
    }

    /// When ephemeral devices were heard last, as far as it was saved.
    pub async fn ephemeral_heard(&self) -> Result<BTreeMap<DeviceId, Timestamp>, ReadError> {
        let sql = "SELECT device_id, last_seen FROM presence JOIN devices ON id = device_id \
                   WHERE idle_seconds IS NOT NULL AND standing <> 'revoked' ORDER BY device_id";
        let rows = self.database.read().await?.all(sql, vec![]).await?;
        let read = |row: &Row| {
            let fields = Fields::of_row("presence", "device_id", row);
            Ok((fields.parsed("device_id")?, fields.time("last_seen")?))
        };
        Ok(rows.iter().map(read).collect::<Result<_, Corrupt>>()?)
    }
}

fn to_json(row: &PresenceRow) -> serde_json::Value {
    json!({
        "tenant_id": row.tenant.to_string(),
        "device_id": row.device.to_string(),
        "last_seen": row.last_seen.unix_micros(),
        "held_epoch": row.held.map(|held| held.version.epoch.0),
        "held_generation": row.held.map(|held| signed(held.version.generation.0)),
        "held_digest": row.held.map(|held| held.digest.to_string()),
        "settled": row.settled,
        "software": row.software.as_str(),
        "address": row.address.map(|address| address.to_string()),
        "attached": row.attached,
        "facts": row.facts.as_ref().map(|facts| json!(facts).to_string()),
    })
}

pub(crate) async fn all(transaction: &mut Transaction) -> Result<Vec<PresenceRow>, ReadError> {
    let sql = "SELECT presence.*, tenant_id FROM presence JOIN devices ON id = device_id ORDER BY device_id";
    let rows = transaction.all(sql, vec![]).await?;
    Ok(rows.iter().map(from_row).collect::<Result<_, _>>()?)
}

fn facts(fields: &Fields<'_>) -> Result<Option<Facts>, Corrupt> {
    let text = fields.text_or_null("facts")?;
    text.map(|text| serde_json::from_str(&text).map_err(|e| fields.corrupt("facts", e))).transpose()
}

fn from_row(row: &Row) -> Result<PresenceRow, Corrupt> {
    let fields = Fields::of_row("presence", "device_id", row);
    let held = match fields.number_or_null("held_epoch")? {
        None => None,
        Some(epoch) => Some(Held {
            version: Version {
                epoch: Epoch(epoch),
                generation: Generation(fields.number("held_generation")?),
            },
            digest: fields.parsed("held_digest")?,
        }),
    };
    Ok(PresenceRow {
        tenant: fields.parsed("tenant_id")?,
        device: fields.parsed("device_id")?,
        last_seen: fields.time("last_seen")?,
        held,
        settled: fields.bool("settled")?,
        software: Remark::new(&fields.text("software")?),
        address: fields.parsed_or_null("address")?,
        attached: fields.bool("attached")?,
        facts: facts(&fields)?,
    })
}

//! A database that is filled from a dump: in one transaction the schema as it was, the rows, the steps that came since, and
//! what a restored database must forget. Nothing of it stays before the end.

use std::collections::BTreeMap;

use control::AuditEntry;
use model::Epoch;

use crate::dialect;
use crate::error::{DatabaseError, OpenError, RefillError};
use crate::migrate::{self, MIGRATIONS};
use crate::portable::{self, Columns, Head, TABLES};
use crate::restore::{self, After};
use crate::sql::{Engine, Transaction, Value, values};
use crate::store::Opened;

/// Arguments of one statement: both engines take more.
const ARGUMENTS_MAX: usize = 4_000;

/// A database that is being filled.
pub struct Refill {
    transaction: Transaction,
    columns: BTreeMap<String, Columns>,
    rows: BTreeMap<String, u64>,
}

impl Opened {
    /// Whether nothing of ours is in the database.
    pub async fn is_empty(&self) -> Result<bool, OpenError> {
        let mut transaction = self.database.read().await?;
        Ok(transaction.optional(dialect::MIGRATIONS_TABLE, vec![]).await?.is_none())
    }

    /// Connections of ours to the database beside this one: of other programs, where this one was told to have one only.
    /// SQLite does not say.
    pub async fn others(&self) -> Result<u32, OpenError> {
        let mut transaction = self.database.read().await?;
        let row = transaction.optional(dialect::OTHERS, vec![]).await?;
        let count = row.and_then(|row| row.int("count").ok().flatten()).unwrap_or_default();
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// The epoch of a database as it is, if it says one.
    pub async fn epoch(&self) -> Result<Option<Epoch>, OpenError> {
        if self.is_empty().await? {
            return Ok(None);
        }
        let mut transaction = self.database.read().await?;
        let row = transaction.optional("SELECT epoch FROM server WHERE id = 1", vec![]).await?;
        let epoch = row.and_then(|row| row.int("epoch").ok().flatten());
        Ok(epoch.and_then(|epoch| u32::try_from(epoch).ok()).map(Epoch))
    }

    /// Begins to fill a database with rows of a schema. What is in it is moved into the schema `aside` first, where that is
    /// named: of PostgreSQL only.
    pub async fn refill(&self, schema: u32, aside: Option<&str>) -> Result<Refill, RefillError> {
        let newest = MIGRATIONS.last().map_or(0, |step| step.version);
        let steps = MIGRATIONS.get(..schema as usize).filter(|steps| !steps.is_empty());
        let steps = steps.ok_or(RefillError::Newer { found: schema, known: newest })?;
        let mut transaction = self.database.write().await?;
        transaction.all(dialect::MIGRATION_LOCK, vec![]).await?;
        if let (Some(aside), Engine::Postgres) = (aside, transaction.engine()) {
            move_aside(&mut transaction, aside).await?;
        }
        if transaction.optional(dialect::MIGRATIONS_TABLE, vec![]).await?.is_some() {
            return Err(RefillError::NotEmpty);
        }
        migrate::rehearse(&mut transaction, steps).await?;
        let mut refill = Refill { transaction, columns: BTreeMap::new(), rows: BTreeMap::new() };
        for table in TABLES.iter().rev() {
            let columns = portable::columns(&mut refill.transaction, table.name).await?;
            if !columns.is_empty() {
                // What the steps put there by themselves.
                refill.transaction.execute_built(format!("DELETE FROM {}", table.name), vec![]).await?;
                refill.columns.insert(table.name.to_owned(), columns);
            }
        }
        Ok(refill)
    }
}

impl Refill {
    /// Writes the rows of a page; returns how many.
    pub async fn page(&mut self, text: &[u8]) -> Result<u64, RefillError> {
        let (head, lines) = portable::lines(text)?;
        let known = self.columns.get(&head.table);
        let known = known.ok_or_else(|| RefillError::Page(format!("there is no table {}", head.table)))?;
        let holds = |name: &String| {
            let column = known.iter().find(|(column, _)| column == name);
            let absent = || RefillError::Page(format!("table {} has no column {name}", head.table));
            column.map(|(_, holds)| *holds).ok_or_else(absent)
        };
        let holds = head.columns.iter().map(holds).collect::<Result<Vec<_>, _>>()?;
        let bad = |why: &str| RefillError::Page(format!("a row of {}: {why}", head.table));
        let at_once = (ARGUMENTS_MAX / holds.len().max(1)).max(1);
        let (mut waiting, mut count) = (Vec::new(), 0);
        for line in lines {
            let row: Vec<serde_json::Value> =
                serde_json::from_slice(line).map_err(|error| bad(&error.to_string()))?;
            if row.len() != holds.len() {
                return Err(bad("another number of columns"));
            }
            for (value, holds) in row.into_iter().zip(&holds) {
                waiting
                    .push(portable::from_json(value, *holds).ok_or_else(|| bad("a value of another type"))?);
            }
            count += 1;
            if waiting.len() >= at_once * holds.len() {
                insert(&mut self.transaction, &head, std::mem::take(&mut waiting)).await?;
            }
        }
        insert(&mut self.transaction, &head, waiting).await?;
        *self.rows.entry(head.table).or_default() += count;
        Ok(count)
    }

    /// Rows that were written, by table.
    pub const fn rows(&self) -> &BTreeMap<String, u64> {
        &self.rows
    }

    /// Brings the schema forward, raises the epoch, and makes all of it true.
    pub async fn finish(mut self, after: &After, entry: &AuditEntry) -> Result<Epoch, RefillError> {
        migrate::rehearse(&mut self.transaction, MIGRATIONS).await?;
        // What the rows need, the steps that were just taken do not know.
        migrate::ask_for_what_is_there(&mut self.transaction).await?;
        let epoch = restore::raise(&mut self.transaction, after, entry).await?;
        self.transaction.commit().await?;
        Ok(epoch)
    }
}

async fn insert(transaction: &mut Transaction, head: &Head, row: Vec<Value>) -> Result<(), DatabaseError> {
    if row.is_empty() {
        return Ok(());
    }
    let width = head.columns.len();
    let group = |first: usize| {
        let marks: Vec<String> = (first..first + width).map(|n| format!("${}", n + 1)).collect();
        format!("({})", marks.join(", "))
    };
    let groups: Vec<String> = (0..row.len()).step_by(width).map(group).collect();
    let (table, columns) = (&head.table, head.columns.join(", "));
    let sql = format!("INSERT INTO {table} ({columns}) VALUES {}", groups.join(", "));
    transaction.execute_built(sql, row).await?;
    Ok(())
}

/// Every table that is there, ours or not, in a schema of its own: nothing of it is lost, and nothing of it is in the way.
async fn move_aside(transaction: &mut Transaction, aside: &str) -> Result<(), DatabaseError> {
    let tables = transaction.all(dialect::TABLES, vec![]).await?;
    let tables: Vec<String> = tables
        .iter()
        .map(|row| Ok(row.text("name")?.unwrap_or_default()))
        .collect::<Result<_, DatabaseError>>()?;
    if tables.is_empty() {
        return Ok(());
    }
    transaction.execute_built(format!("CREATE SCHEMA \"{aside}\""), values![]).await?;
    for table in tables {
        let sql = format!("ALTER TABLE \"{table}\" SET SCHEMA \"{aside}\"");
        transaction.execute_built(sql, values![]).await?;
    }
    Ok(())
}

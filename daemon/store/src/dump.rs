//! All rows of the database as of one moment, table after table, page by page: a page is all that is in memory.

use model::Epoch;

use crate::error::{DatabaseError, OpenError, ReadError};
use crate::migrate::{self, MIGRATIONS};
use crate::portable::{self, Columns, Head, TABLES, TABLES_OF_SSH_CA, Table};
use crate::sql::{Transaction, Value, values};
use crate::store::Store;

/// Rows of one page: some hundred kilobytes.
const PAGE_ROWS: u32 = 500;

/// Which tables are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpOf {
    /// All that a server needs.
    Everything,
    /// Sealed anchors and keys of SSH authorities.
    SshCa,
}

/// Rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Whose.
    pub table: &'static str,
    /// How many.
    pub rows: u64,
    /// They, as [`crate::Refill::page`] takes them.
    pub text: Vec<u8>,
}

/// The rows of one moment. While it lives the database keeps that moment.
pub struct Dump {
    transaction: Transaction,
    /// Newest step of the schema.
    pub schema: u32,
    /// Of the rows.
    pub epoch: Epoch,
    left: Vec<&'static Table>,
    at: Option<Place>,
}

/// Where it goes on in a table.
struct Place {
    table: &'static Table,
    columns: Columns,
    after: Option<Vec<Value>>,
}

impl Store {
    /// Begins to read.
    pub async fn dump(&self, of: DumpOf) -> Result<Dump, OpenError> {
        let mut transaction = self.database.read().await?;
        let schema = migrate::applied(&mut transaction, MIGRATIONS).await?;
        let row = transaction.optional("SELECT epoch FROM server WHERE id = 1", vec![]).await?;
        let epoch = row.and_then(|row| row.int("epoch").ok().flatten());
        let epoch = Epoch(epoch.and_then(|epoch| u32::try_from(epoch).ok()).unwrap_or_default());
        let wanted =
            |table: &&'static Table| of == DumpOf::Everything || TABLES_OF_SSH_CA.contains(&table.name);
        // From its end on, as the next one is taken from there.
        let left = TABLES.iter().rev().filter(wanted).collect();
        Ok(Dump { transaction, schema, epoch, left, at: None })
    }
}

impl Dump {
    /// The next rows; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Page>, ReadError> {
        loop {
            let mut place = match self.at.take() {
                Some(place) => place,
                None => {
                    let Some(table) = self.left.pop() else { return Ok(None) };
                    let columns = portable::columns(&mut self.transaction, table.name).await?;
                    Place { table, columns, after: None }
                }
            };
            let page = self.page(&mut place).await?;
            if page.rows > 0 {
                self.at = (page.rows == u64::from(PAGE_ROWS)).then_some(place);
                return Ok(Some(page));
            }
        }
    }

    async fn page(&mut self, place: &mut Place) -> Result<Page, DatabaseError> {
        let Place { table, columns, after } = place;
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let key = table.key.join(", ");
        let mut arguments = after.take().unwrap_or_default();
        let beyond = match arguments.len() {
            0 => String::new(),
            many => {
                let marks: Vec<String> = (1..=many).map(|n| format!("${n}")).collect();
                format!("WHERE ({key}) > ({}) ", marks.join(", "))
            }
        };
        let limit = arguments.len() + 1;
        let sql =
            format!("SELECT {} FROM {} {beyond}ORDER BY {key} LIMIT ${limit}", names.join(", "), table.name);
        arguments.extend(values![PAGE_ROWS]);
        let rows = self.transaction.all_built(sql, arguments).await?;
        let head = Head {
            table: table.name.to_owned(),
            columns: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut text = serde_json::to_vec(&head).unwrap_or_default();
        for row in &rows {
            text.push(b'\n');
            text.extend(portable::to_json(row, columns)?.to_string().into_bytes());
        }
        if let Some(last) = rows.last() {
            *after = Some(portable::key_of(last, columns, table.key)?);
        }
        Ok(Page { table: table.name, rows: rows.len() as u64, text })
    }
}

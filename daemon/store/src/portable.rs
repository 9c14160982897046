//! The rows of every table as text that both engines read, and the order in which they can be written. What a column is,
//! the database says itself.
//!
//! A page is lines of JSON: first the table and its columns, then an array for each row. Whole numbers and truths are
//! numbers, bytes are base64.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::dialect;
use crate::error::{DatabaseError, RefillError};
use crate::sql::{Row, Transaction, Value, values};

/// A table and its primary key.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [&'static str],
}

macro_rules! tables {
    ($($name:literal $($key:literal)+;)*) => {
        &[$(Table { name: $name, key: &[$($key),+] }),*]
    };
}

/// Every table that is kept, after those that its rows refer to. Not kept: sessions, the setup secret and answers
/// that may be asked for again, which end with a restore; the change log, which is of another history; the steps of the schema, which it notes itself.
pub(crate) const TABLES: &[Table] = tables! {
    "server" "id";
    "serials" "id";
    "lease" "id";
    "settings" "name";
    "directories" "tenant_id";
    "tenants" "id";
    "users" "id";
    "api_tokens" "id";
    "second_factors" "user_id";
    "recovery_codes" "user_id" "digest";
    "devices" "id";
    "device_commands" "id";
    "tokens" "id";
    "records" "tenant_id" "name" "kind" "value";
    "hubs" "tenant_id";
    "presence" "device_id";
    "authorities" "tenant_id" "kind";
    "authority_keys" "tenant_id" "kind" "generation";
    "authority_secrets" "tenant_id" "kind" "generation";
    "revocations" "tenant_id" "kind" "what";
    "certificates" "tenant_id" "kind" "serial";
    "ssh_roles" "tenant_id" "name";
    "ssh_administrators" "tenant_id";
    "ssh_host_keys" "tenant_id" "device_id";
    "ssh_installed" "device_id";
    "audit" "id";
    "audit_head" "id";
    "audit_classes" "class";
    "audit_forgotten" "sequence";
    "audit_sinks" "name";
};

/// What the SSH authorities and the anchors are: enough to put keys back that were lost.
pub(crate) const TABLES_OF_SSH_CA: &[&str] =
    &["server", "settings", "directories", "tenants", "authorities", "authority_keys", "authority_secrets"];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    Text,
    Int,
    Bool,
    Bytes,
}

/// The columns of a table as the database has it now.
pub(crate) type Columns = Vec<(String, Holds)>;

/// The head of a page.
#[derive(Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
}

/// What the database says of a table; nothing, if it has none of this name.
pub(crate) async fn columns(transaction: &mut Transaction, table: &str) -> Result<Columns, DatabaseError> {
    let rows = transaction.all(dialect::COLUMNS, values![table]).await?;
    let column = |row: &Row| -> Result<(String, Holds), DatabaseError> {
        let name = row.text("name")?.unwrap_or_default();
        let holds = match row.text("type")?.unwrap_or_default().to_ascii_lowercase().as_str() {
            "integer" | "bigint" => Holds::Int,
            "boolean" => Holds::Bool,
            "bytea" | "blob" => Holds::Bytes,
            _ => Holds::Text,
        };
        Ok((name, holds))
    };
    rows.iter().map(column).collect()
}

/// One row of a page.
pub(crate) fn to_json(row: &Row, columns: &Columns) -> Result<Json, DatabaseError> {
    let value = |(name, holds): &(String, Holds)| -> Result<Json, DatabaseError> {
        Ok(match holds {
            Holds::Text => row.text(name)?.into(),
            Holds::Int => row.int(name)?.into(),
            Holds::Bool => row.bool(name)?.map(i64::from).into(),
            Holds::Bytes => row.bytes(name)?.map(|bytes| BASE64.encode(&bytes)).into(),
        })
    };
    columns.iter().map(value).collect()
}

/// What a row has in these columns, to go on after it.
pub(crate) fn key_of(row: &Row, columns: &Columns, key: &[&str]) -> Result<Vec<Value>, DatabaseError> {
    let kinds: BTreeMap<&str, Holds> = columns.iter().map(|(name, holds)| (name.as_str(), *holds)).collect();
    let value = |name: &&str| {
        Ok(match kinds.get(name) {
            Some(Holds::Int) => Value::Int(row.int(name)?),
            Some(Holds::Bytes) => Value::Bytes(row.bytes(name)?),
            _ => Value::Text(row.text(name)?),
        })
    };
    key.iter().map(value).collect()
}

/// A value of a page, as the column takes it.
pub(crate) fn from_json(value: Json, holds: Holds) -> Option<Value> {
    Some(match (holds, value) {
        (Holds::Text, Json::Null) => Value::Text(None),
        (Holds::Int, Json::Null) => Value::Int(None),
        (Holds::Bytes, Json::Null) => Value::Bytes(None),
        (Holds::Text, Json::String(text)) => Value::Text(Some(text)),
        (Holds::Bytes, Json::String(text)) => Value::Bytes(Some(BASE64.decode(text.as_bytes()).ok()?)),
        (Holds::Int, Json::Number(number)) => Value::Int(Some(number.as_i64()?)),
        (Holds::Bool, Json::Number(number)) => Value::Bool(number.as_i64()? != 0),
        _ => return None,
    })
}

/// Reads a page: its head, and a line for each row.
pub(crate) fn lines(page: &[u8]) -> Result<(Head, impl Iterator<Item = &[u8]>), RefillError> {
    let mut lines = page.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let head = lines.next().ok_or(RefillError::Page("a page without a head".into()))?;
    let head = serde_json::from_slice(head).map_err(|error| RefillError::Page(error.to_string()))?;
    Ok((head, lines))
}

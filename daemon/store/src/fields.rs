//! The columns of one row, written as arguments or as JSON for the change log, and read back from both.
//!
//! A column that does not read as its type is [`Corrupt`] and names its table and row. Knows no table itself.

use std::fmt::Display;
use std::str::FromStr;

use model::{Digest, Timestamp};
use serde_json::Value as Json;

use crate::error::Corrupt;
use crate::sql::{Row, Value};

/// The columns of one row, to be written.
pub(crate) type Columns = Vec<(&'static str, Value)>;

/// A row as JSON, for the change log.
pub(crate) fn to_json(columns: &Columns) -> Json {
    let value = |value: &Value| match value {
        Value::Text(v) => Json::from(v.clone()),
        Value::Int(v) => Json::from(*v),
        Value::Bytes(v) => Json::from(v.clone()),
        Value::Bool(v) => Json::from(*v),
    };
    columns.iter().map(|(name, v)| ((*name).to_owned(), value(v))).collect()
}

/// The columns of one row, to be read.
pub(crate) struct Fields<'a> {
    table: &'static str,
    id: String,
    source: Source<'a>,
}

enum Source<'a> {
    Row(&'a Row),
    Json(&'a Json),
}

impl<'a> Fields<'a> {
    /// A row of a table whose key is `key`.
    pub(crate) fn of_row(table: &'static str, key: &'static str, row: &'a Row) -> Self {
        let id = row.text(key).ok().flatten().unwrap_or_default();
        Self { table, id, source: Source::Row(row) }
    }

    /// A fact of the change log; `id` says where it stands.
    pub(crate) fn of_json(table: &'static str, id: String, json: &'a Json) -> Self {
        Self { table, id, source: Source::Json(json) }
    }

    /// A complaint about a column.
    pub(crate) fn corrupt(&self, column: &'static str, why: impl Display) -> Corrupt {
        Corrupt { table: self.table, id: self.id.clone(), column, why: why.to_string() }
    }

    fn required<T>(&self, column: &'static str, value: Option<T>) -> Result<T, Corrupt> {
        value.ok_or_else(|| self.corrupt(column, "is NULL"))
    }

    pub(crate) fn text_or_null(&self, column: &'static str) -> Result<Option<String>, Corrupt> {
        match &self.source {
            Source::Row(row) => row.text(column).map_err(|e| self.corrupt(column, e)),
            Source::Json(json) => match json.get(column) {
                None | Some(Json::Null) => Ok(None),
                Some(Json::String(text)) => Ok(Some(text.clone())),
                Some(_) => Err(self.corrupt(column, "is no text")),
            },
        }
    }

    pub(crate) fn int_or_null(&self, column: &'static str) -> Result<Option<i64>, Corrupt> {
        match &self.source {
            Source::Row(row) => row.int(column).map_err(|e| self.corrupt(column, e)),
            Source::Json(json) => match json.get(column) {
                None | Some(Json::Null) => Ok(None),
                Some(value) => {
                    value.as_i64().map(Some).ok_or_else(|| self.corrupt(column, "is no whole number"))
                }
            },
        }
    }

    pub(crate) fn bool(&self, column: &'static str) -> Result<bool, Corrupt> {
        let value = match &self.source {
            Source::Row(row) => row.bool(column).map_err(|e| self.corrupt(column, e))?,
            Source::Json(json) => json.get(column).and_then(Json::as_bool),
        };
        self.required(column, value)
    }

    /// Bytes; only rows have them.
    pub(crate) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, Corrupt> {
        let value = match &self.source {
            Source::Row(row) => row.bytes(column).map_err(|e| self.corrupt(column, e))?,
            Source::Json(_) => None,
        };
        self.required(column, value)
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, Corrupt> {
        self.required(column, self.text_or_null(column)?)
    }

    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<T, Corrupt> {
        self.required(column, self.parsed_or_null(column)?)
    }

    pub(crate) fn parsed_or_null<T: FromStr<Err: Display>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, Corrupt> {
        let parse = |text: String| text.parse().map_err(|e: T::Err| self.corrupt(column, e));
        self.text_or_null(column)?.map(parse).transpose()
    }

    /// A whole number of any width.
    pub(crate) fn number<T: TryFrom<i64, Error: Display>>(&self, column: &'static str) -> Result<T, Corrupt> {
        self.required(column, self.number_or_null(column)?)
    }

    pub(crate) fn number_or_null<T: TryFrom<i64, Error: Display>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, Corrupt> {
        self.int_or_null(column)?.map(|n| T::try_from(n).map_err(|e| self.corrupt(column, e))).transpose()
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, Corrupt> {
        self.required(column, self.time_or_null(column)?)
    }

    pub(crate) fn time_or_null(&self, column: &'static str) -> Result<Option<Timestamp>, Corrupt> {
        Ok(self.int_or_null(column)?.map(Timestamp::from_unix_micros))
    }
}

/// A column of 32 bytes.
pub(crate) fn digest_of(fields: &Fields<'_>, column: &'static str) -> Result<Digest, Corrupt> {
    let bytes = fields.bytes(column)?;
    let length = bytes.len();
    let bytes =
        bytes.try_into().map_err(|_| fields.corrupt(column, format!("has {length} bytes, not 32")))?;
    Ok(Digest::from_bytes(bytes))
}

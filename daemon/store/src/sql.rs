//! Values, rows and transactions of both engines. Knows no table.
//!
//! Everything above speaks one set of types; the macro `on!` is the only place where the two drivers part.

use std::future::pending;
use std::panic::resume_unwind;

use sqlx::postgres::{PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{AssertSqlSafe, Pool, Row as _};
use tracing::Instrument as _;

use crate::error::DatabaseError;

/// Which database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// One file, one server.
    Sqlite,
    /// Several replicas.
    Postgres,
}

/// A statement. `$1` is the first argument on both engines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sql {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

impl Sql {
    pub(crate) const fn on(self, engine: Engine) -> &'static str {
        match engine {
            Engine::Sqlite => self.sqlite,
            Engine::Postgres => self.postgres,
        }
    }
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self { sqlite: text, postgres: text }
    }
}

/// An argument. PostgreSQL wants the type of a NULL, so each has its own.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    Bytes(Option<Vec<u8>>),
    Bool(bool),
}

macro_rules! value_from {
    ($($type:ty => |$v:ident| $value:expr;)*) => {
        $(impl From<$type> for Value {
            fn from($v: $type) -> Self {
                $value
            }
        })*
    };
}

value_from! {
    &str => |v| Self::Text(Some(v.into()));
    String => |v| Self::Text(Some(v));
    Option<String> => |v| Self::Text(v);
    Option<&str> => |v| Self::Text(v.map(Into::into));
    i64 => |v| Self::Int(Some(v));
    u32 => |v| Self::Int(Some(v.into()));
    Option<i64> => |v| Self::Int(v);
    &[u8] => |v| Self::Bytes(Some(v.into()));
    Option<&[u8]> => |v| Self::Bytes(v.map(Into::into));
    bool => |v| Self::Bool(v);
}

/// The arguments of a statement, in order.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::Value::from($value)),*] };
}
pub(crate) use values;

/// One row of an answer. NULL is `None`, never 0.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self::Sqlite(row)
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self::Postgres(row)
    }
}

macro_rules! column {
    ($name:ident, $type:ty) => {
        pub(crate) fn $name(&self, column: &str) -> Result<Option<$type>, sqlx::Error> {
            match self {
                Self::Sqlite(row) => row.try_get(column),
                Self::Postgres(row) => row.try_get(column),
            }
        }
    };
}

impl Row {
    column!(text, String);
    column!(int, i64);
    column!(bytes, Vec<u8>);
    column!(bool, bool);
}

/// Several statements that happen together or not at all. Dropped without [`Self::commit`], nothing happened.
pub(crate) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// The same lines for the driver at hand.
macro_rules! on {
    ($transaction:expr, $driver:ident => $body:expr) => {
        match $transaction {
            Transaction::Sqlite($driver) => $body,
            Transaction::Postgres($driver) => $body,
        }
    };
}

/// A query with its arguments bound, for whichever driver infers it.
macro_rules! bound {
    ($engine:expr, $text:expr, $values:expr) => {{
        // PostgreSQL's connections are told to remember none: named all the same, each would stay in its session for as long
        // as that lives, and in a shared session meet another of its name.
        let mut query = sqlx::query($text).persistent(matches!($engine, Engine::Sqlite));
        for value in $values {
            query = match value {
                Value::Text(v) => query.bind(v),
                Value::Int(v) => query.bind(v),
                Value::Bytes(v) => query.bind(v),
                Value::Bool(v) => query.bind(v),
            };
        }
        query
    }};
}

impl Transaction {
    pub(crate) const fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }

    /// Runs one statement and returns how many rows it touched.
    pub(crate) async fn execute(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<u64, DatabaseError> {
        let engine = self.engine();
        let text = sql.into().on(engine);
        let touched = on!(self, driver => bound!(engine, text, values).execute(&mut **driver).await.map(|done| done.rows_affected()));
        Ok(touched?)
    }

    /// The same for a statement that was put together from constants.
    pub(crate) async fn execute_built(
        &mut self,
        text: String,
        values: Vec<Value>,
    ) -> Result<u64, DatabaseError> {
        let (engine, text) = (self.engine(), AssertSqlSafe(text));
        let touched = on!(self, driver => bound!(engine, text, values).execute(&mut **driver).await.map(|done| done.rows_affected()));
        Ok(touched?)
    }

    /// All rows of one statement's answer.
    pub(crate) async fn all(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let engine = self.engine();
        let text = sql.into().on(engine);
        on!(self, driver => {
            let rows = bound!(engine, text, values).fetch_all(&mut **driver).await?;
            Ok(rows.into_iter().map(Row::from).collect())
        })
    }

    /// The same for a statement that was put together from constants and from what the database said of itself.
    pub(crate) async fn all_built(
        &mut self,
        text: String,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let (engine, text) = (self.engine(), AssertSqlSafe(text));
        on!(self, driver => {
            let rows = bound!(engine, text, values).fetch_all(&mut **driver).await?;
            Ok(rows.into_iter().map(Row::from).collect())
        })
    }

    /// The first row of one statement's answer, if there is one.
    pub(crate) async fn optional(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, DatabaseError> {
        let engine = self.engine();
        let text = sql.into().on(engine);
        on!(self, driver => Ok(bound!(engine, text, values).fetch_optional(&mut **driver).await?.map(Row::from)))
    }

    /// Runs a script of our own, several statements without arguments.
    pub(crate) async fn script(&mut self, text: String) -> Result<(), DatabaseError> {
        on!(self, driver => sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut **driver).await.map(drop))?;
        Ok(())
    }

    /// Makes it true, even if the caller goes away meanwhile: the driver would end once more what a dropped COMMIT had ended.
    pub(crate) async fn commit(self) -> Result<(), DatabaseError> {
        on!(self, driver => to_its_end(async { Ok(driver.commit().await?) }).await)
    }
}

/// Begins a transaction with these words. If the caller goes away meanwhile, it is ended: the driver would lend the
/// connection of a dropped BEGIN to the next, still in that transaction (<https://github.com/transact-rs/sqlx/issues/4393>).
pub(crate) async fn begin<D: sqlx::Database>(
    pool: &Pool<D>,
    begin: &'static str,
) -> Result<sqlx::Transaction<'static, D>, DatabaseError> {
    let pool = pool.clone();
    to_its_end(async move { Ok(pool.begin_with(begin).await?) }).await
}

/// Works on a task of its own, which nobody drops half way.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work.in_current_span()).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Nobody aborts it: the runtime ends, and with it the caller.
            Err(_) => pending().await,
        },
    }
}

//! What can go wrong with a database, sorted by who can mend it. Decides no retry.

use std::fmt;
use std::path::PathBuf;

use model::TenantId;
use sqlx::sqlite::SqliteError;

/// The database did not do what it was asked. `Display` names the kind; the source has the driver's words.
#[derive(Debug)]
pub struct DatabaseError {
    /// For `/healthz`, the metric and the decision to try again.
    pub kind: Kind,
    source: sqlx::Error,
}

/// What is wrong with a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No connection, or it broke.
    Unreachable,
    /// Somebody else holds it, for longer than we wait.
    Locked,
    /// Opened or mounted read-only, or a standby.
    ReadOnly,
    /// No room on its disk.
    Full,
    /// Its file is damaged, or is no database.
    Damaged,
    /// It chose another transaction over ours; the same again may well do.
    Raced,
    /// A row with that key exists.
    Taken,
    /// It understood and refused: a bug of ours, or somebody changed the schema.
    Statement,
}

impl Kind {
    /// As `/healthz` and the metric show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Locked => "locked",
            Self::ReadOnly => "read-only",
            Self::Full => "disk-full",
            Self::Damaged => "damaged",
            Self::Raced => "raced",
            Self::Taken => "taken",
            Self::Statement => "statement",
        }
    }

    fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(e) if e.is_unique_violation() => Self::Taken,
            sqlx::Error::Database(e) => {
                let code = e.code().unwrap_or_default();
                if e.try_downcast_ref::<SqliteError>().is_some() {
                    Self::of_sqlite(code.parse().unwrap_or_default())
                } else {
                    Self::of_postgres(&code)
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed => Self::Unreachable,
            _ => Self::Statement,
        }
    }

    /// https://www.sqlite.org/rescode.html
    const fn of_sqlite(code: u32) -> Self {
        /// No room for the index of the write-ahead log.
        const SQLITE_IOERR_SHMSIZE: u32 = 4874;
        if code == SQLITE_IOERR_SHMSIZE {
            return Self::Full;
        }
        // The low byte is the primary code.
        match code & 0xff {
            5 | 6 => Self::Locked,
            8 => Self::ReadOnly,
            10 | 14 => Self::Unreachable,
            11 | 26 => Self::Damaged,
            13 => Self::Full,
            _ => Self::Statement,
        }
    }

    /// PostgreSQL, appendix A.
    fn of_postgres(code: &str) -> Self {
        match code {
            "40001" | "40P01" => Self::Raced,
            "55P03" | "57014" | "25P03" => Self::Locked,
            "25006" => Self::ReadOnly,
            "53100" => Self::Full,
            "XX001" | "XX002" => Self::Damaged,
            "57P01" | "57P02" | "57P03" | "57P05" | "58030" => Self::Unreachable,
            _ if code.starts_with("08") || code.starts_with("53") => Self::Unreachable,
            _ => Self::Statement,
        }
    }
}

impl DatabaseError {
    /// The kind and the driver's words in one line.
    pub fn chain(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Unreachable => "the database does not answer",
            Kind::Locked => "the database is locked",
            Kind::ReadOnly => "the database is read-only",
            Kind::Full => "the disk of the database is full",
            Kind::Damaged => "the database is damaged",
            Kind::Raced => "another transaction came first",
            Kind::Taken => "a row with that key exists",
            Kind::Statement => "the database refused a statement",
        })
    }
}

impl std::error::Error for DatabaseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<sqlx::Error> for DatabaseError {
    fn from(source: sqlx::Error) -> Self {
        Self { kind: Kind::of(&source), source }
    }
}

/// A row that does not read as what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {id} of table {table} is corrupt: {column} {why}")]
pub struct Corrupt {
    /// The table.
    pub table: &'static str,
    /// The row's key as stored.
    pub id: String,
    /// The column.
    pub column: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A row.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// Of a tenant that was asked for.
    #[error("tenant {0} is not in the store")]
    TenantAbsent(TenantId),
}

/// Why a database would not work after its migrations.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// A migration.
    #[error(transparent)]
    Migration(#[from] OpenError),
    /// What is read afterwards.
    #[error("after the migrations the database cannot be read")]
    Read(#[from] ReadError),
}

/// Why a database could not be filled. Nothing of it stayed.
#[derive(Debug, thiserror::Error)]
pub enum RefillError {
    /// The database, or a step of its schema.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was to be read of it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something of ours is in it.
    #[error("the database is not empty")]
    NotEmpty,
    /// The rows are of a schema that this program does not know.
    #[error("the rows are of schema {found}, this program knows {known}")]
    Newer {
        /// Of the rows.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// The rows do not read.
    #[error("{0}")]
    Page(String),
}

impl From<DatabaseError> for RefillError {
    fn from(error: DatabaseError) -> Self {
        Self::Read(error.into())
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither `sqlite:PATH` nor `postgres://…`.
    #[error("a database URL is sqlite:PATH or postgres://USER@HOST/NAME?sslmode=verify-full, not {0:?}")]
    Url(String),
    /// The URL is of PostgreSQL, but not well-formed.
    #[error("the database URL cannot be read")]
    Options(#[source] DatabaseError),
    /// It cannot be reached or used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A file of the database cannot be made.
    #[error("{path} cannot be made")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A newer Warren changed the schema so that this one cannot use it.
    #[error(
        "the database has schema {found}, which needs a Warren that knows schema {needs}; this one knows {known}: \
         install the newer version, or restore the snapshot from before the update"
    )]
    Newer {
        /// The schema of the database.
        found: u32,
        /// The oldest that may use it.
        needs: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// A migration failed; nothing of it happened.
    #[error("migration {version} ({name}) failed; nothing of it happened")]
    Migration {
        /// Its number.
        version: u32,
        /// Its name.
        name: &'static str,
        /// Why.
        source: DatabaseError,
    },
}

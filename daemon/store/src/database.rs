//! The pools of one database: how to reach it, how many connections, how a transaction begins. Knows no table.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::dialect;
use crate::error::{DatabaseError, Kind, OpenError};
use crate::pooler;
use crate::sql::{Engine, Transaction, begin};

/// PostgreSQL connections of one replica, if nobody says otherwise: three replicas stay far below its default limit of
/// 100.
pub const CONNECTIONS_DEFAULT: u32 = 10;
/// One that listens, and one for the lease.
const ASIDE_CONNECTIONS_MAX: u32 = 2;
/// SQLite's readers; the writer is one more.
const SQLITE_READERS_MAX: u32 = 4;
/// How long a request waits for a free connection, or for a database to answer at all.
const ACQUIRE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long SQLite waits for a lock of another process, a backup say, in one attempt.
const BUSY_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two tries where SQLite itself does not wait.
const BUSY_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// How often a write is begun anew when the database is locked: six seconds in all, then the caller decides.
pub(crate) const WRITE_ATTEMPTS_MAX: u32 = 3;

/// How many connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolFigures {
    /// Open, in use or not.
    pub open: u32,
    /// In use now.
    pub in_use: u32,
    /// As many as may be open.
    pub max: u32,
}

/// The pools of one database.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    /// SQLite has one writer; the readers do not wait for it.
    Sqlite { path: PathBuf, readers: SqlitePool, writer: SqlitePool },
    /// PostgreSQL.
    Postgres {
        pool: PgPool,
        /// For the lease and for what others wrote: neither waits for the requests of people.
        aside: PgPool,
        /// A pooler gives each transaction another session.
        shares_sessions: bool,
    },
}

impl Database {
    /// Opens the pools and makes sure that a connection can be had.
    pub(crate) async fn connect(url: &str, connections_max: u32) -> Result<Self, OpenError> {
        let bad = || OpenError::Url(without_password(url));
        let database = match url.split_once(':').ok_or_else(bad)? {
            ("sqlite", path) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() || path.starts_with(':') {
                    return Err(bad());
                }
                Self::sqlite(Path::new(path))?
            }
            ("postgres" | "postgresql", _) => {
                let options = PgConnectOptions::from_str(url).map_err(|e| OpenError::Options(e.into()))?;
                // Poolers refuse a session with settings that they do not know; each transaction brings its own.
                let options = options.application_name("warren").extra_float_digits(None);
                // A statement that a connection remembers fails after another replica added a column.
                let options = options.statement_cache_capacity(0).disable_statement_logging();
                let pool = |connections| {
                    PgPoolOptions::new()
                        .max_connections(connections)
                        .acquire_timeout(ACQUIRE_TIME_MAX)
                        .acquire_slow_threshold(ACQUIRE_TIME_MAX)
                };
                let (pool, aside) = (
                    pool(connections_max).connect_lazy_with(options.clone()),
                    pool(ASIDE_CONNECTIONS_MAX).connect_lazy_with(options),
                );
                Self::Postgres { pool, aside, shares_sessions: false }
            }
            _ => return Err(bad()),
        };
        database.read_first().await?;
        Ok(database)
    }

    /// SQLite does not wait where two processes turn one file to WAL at once: the second asks again.
    async fn read_first(&self) -> Result<(), DatabaseError> {
        let until = Instant::now() + BUSY_TIME_MAX;
        loop {
            match self.read().await {
                Err(error) if error.kind == Kind::Locked && Instant::now() < until => {
                    tokio::time::sleep(BUSY_RETRY_INTERVAL).await;
                }
                done => return done.map(drop),
            }
        }
    }

    fn sqlite(path: &Path) -> Result<Self, OpenError> {
        make_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIME_MAX)
            .foreign_keys(true)
            .disable_statement_logging();
        // SQLite ends a transaction by itself where it finds no room or cannot write. The driver goes on counting it, and
        // would never begin another one on that connection.
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIME_MAX)
                .acquire_slow_threshold(ACQUIRE_TIME_MAX)
                .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
        };
        Ok(Self::Sqlite {
            path: path.to_owned(),
            readers: pool(SQLITE_READERS_MAX).connect_lazy_with(options.clone().pragma("query_only", "ON")),
            writer: pool(1).connect_lazy_with(options),
        })
    }

    /// Connections that know the schema as it is now, and who lends them. SQLite's keep the schema of before for their next
    /// statement, whose columns the driver then counts wrongly. Until here there is one connection, so that whoever restores
    /// can count those of others.
    pub(crate) async fn after_migration(self) -> Result<Self, OpenError> {
        match &self {
            Self::Sqlite { path, .. } => {
                let fresh = Self::sqlite(path)?;
                self.close().await;
                fresh.read().await?;
                Ok(fresh)
            }
            Self::Postgres { pool, aside, .. } => {
                let shares_sessions = pooler::shares_sessions(pool, aside).await?;
                let (pool, aside) = (pool.clone(), aside.clone());
                Ok(Self::Postgres { pool, aside, shares_sessions })
            }
        }
    }

    pub(crate) const fn engine(&self) -> Engine {
        match self {
            Self::Sqlite { .. } => Engine::Sqlite,
            Self::Postgres { .. } => Engine::Postgres,
        }
    }

    /// Begins a transaction whose reads see one moment.
    pub(crate) async fn read(&self) -> Result<Transaction, DatabaseError> {
        let words = dialect::BEGIN_READ.on(self.engine());
        Ok(match self {
            Self::Sqlite { readers, .. } => Transaction::Sqlite(begin(readers, words).await?),
            Self::Postgres { pool, .. } => Transaction::Postgres(begin(pool, words).await?),
        })
    }

    /// Begins a transaction that does not wait for the others of this process.
    pub(crate) async fn aside(&self) -> Result<Transaction, DatabaseError> {
        match self {
            Self::Sqlite { .. } => self.write().await,
            Self::Postgres { aside, .. } => {
                let words = dialect::BEGIN_ASIDE.on(Engine::Postgres);
                Ok(Transaction::Postgres(begin(aside, words).await?))
            }
        }
    }

    /// Begins a transaction that writes, again a few times while the database is locked.
    pub(crate) async fn write(&self) -> Result<Transaction, DatabaseError> {
        let mut attempts = 1;
        loop {
            match self.try_write().await {
                Err(e) if e.kind == Kind::Locked && attempts < WRITE_ATTEMPTS_MAX => attempts += 1,
                done => return done,
            }
        }
    }

    async fn try_write(&self) -> Result<Transaction, DatabaseError> {
        let words = dialect::BEGIN_WRITE.on(self.engine());
        Ok(match self {
            Self::Sqlite { writer, .. } => Transaction::Sqlite(begin(writer, words).await?),
            Self::Postgres { pool, .. } => Transaction::Postgres(begin(pool, words).await?),
        })
    }

    pub(crate) fn figures(&self) -> PoolFigures {
        let figures = |open: u32, idle: usize, max: u32| PoolFigures {
            open,
            max,
            in_use: open.saturating_sub(u32::try_from(idle).unwrap_or(u32::MAX)),
        };
        match self {
            Self::Sqlite { readers, writer, .. } => {
                let idle = readers.num_idle() + writer.num_idle();
                figures(readers.size() + writer.size(), idle, SQLITE_READERS_MAX + 1)
            }
            Self::Postgres { pool, aside, .. } => {
                let max = pool.options().get_max_connections() + ASIDE_CONNECTIONS_MAX;
                figures(pool.size() + aside.size(), pool.num_idle() + aside.num_idle(), max)
            }
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { readers, writer, .. } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres { pool, aside, .. } => {
                aside.close().await;
                pool.close().await;
            }
        }
    }
}

/// Makes the file, if it is not there, so that only its owner reads it; SQLite gives its companions the same mode.
pub(crate) fn make_private(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    made.map(drop).map_err(|source| OpenError::File { path: path.to_owned(), source })
}

/// The URL as it may be shown.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn urls_that_name_no_database_are_refused_without_their_password() {
        for bad in ["", "warren.db", "sqlite:", "sqlite::memory:", "mysql://u:secret@h/d"] {
            let error = Database::connect(bad, 1).await.expect_err(bad);
            assert!(matches!(&error, OpenError::Url(_)) && !error.to_string().contains("secret"), "{error}");
        }
    }
}

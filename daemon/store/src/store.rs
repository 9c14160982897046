//! A store: one database, brought to the newest schema. The people, the audit log and the directories each have
//! their own file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::database::{CONNECTIONS_DEFAULT, Database, PoolFigures};
use crate::error::{DatabaseError, Kind, OpenError};
use crate::migrate::{self, MIGRATIONS};
use crate::sql::Engine;

/// Takes half a MiB of PostgreSQL's disk for as long as the transaction lasts.
const TAKE_ROOM: &str = "CREATE TEMPORARY TABLE warren_room ON COMMIT DROP AS SELECT repeat('x', 2000) FROM generate_series(1, 256)";

/// A database that was reached, and whose schema may be old. Only [`Self::migrate`] makes a [`Store`] of it.
#[derive(Debug)]
pub struct Opened {
    pub(crate) database: Database,
}

impl Opened {
    /// The names of the migrations that are still to be made, for `/readyz`.
    pub async fn pending(&self) -> Result<Vec<&'static str>, OpenError> {
        let pending = migrate::pending(&self.database, MIGRATIONS).await?;
        Ok(pending.iter().map(|m| m.name).collect())
    }

    /// Closes every connection.
    pub async fn close(self) {
        self.database.close().await;
    }

    /// Makes them, or waits until another replica has.
    pub async fn migrate(self) -> Result<Store, OpenError> {
        migrate::run(&self.database, MIGRATIONS).await?;
        Ok(Store { database: self.database.after_migration().await?, lacked_room: Arc::default() })
    }
}

/// A database of the newest schema. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) database: Database,
    /// The last write that needed room found none.
    pub(crate) lacked_room: Arc<AtomicBool>,
}

impl Store {
    /// Reaches a database: `sqlite:PATH`, made if it is not there, or `postgres://USER@HOST/NAME`, with TLS as its
    /// `sslmode`, `sslrootcert`, `sslcert` and `sslkey` say (libpq's meanings).
    pub async fn reach(url: &str) -> Result<Opened, OpenError> {
        Self::reach_with(url, CONNECTIONS_DEFAULT).await
    }

    /// The same with another number of connections to PostgreSQL at most. Two more are for the lease and for what others
    /// write.
    pub async fn reach_with(url: &str, connections_max: u32) -> Result<Opened, OpenError> {
        Ok(Opened { database: Database::connect(url, connections_max).await? })
    }

    /// Reaches a database and brings it to the newest schema.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        Self::reach(url).await?.migrate().await
    }

    /// Which database it is.
    pub const fn engine(&self) -> Engine {
        self.database.engine()
    }

    /// Whether something before PostgreSQL gives each transaction another session, so that nobody can be heard there
    /// ([`Self::news`]).
    pub const fn shares_sessions(&self) -> bool {
        matches!(self.database, Database::Postgres { shares_sessions: true, .. })
    }

    /// Whether [`Self::pass`] tells anybody: replicas of one PostgreSQL, whose sessions are their own.
    pub const fn passes_hints(&self) -> bool {
        matches!(self.database, Database::Postgres { shares_sessions: false, .. })
    }

    /// Whether the database takes a write now: one row, counted up. PostgreSQL finds a place for that on a full disk, too;
    /// where a commit found no room, more is written until there is some.
    pub async fn probe(&self) -> Result<(), DatabaseError> {
        let mut transaction = self.database.write().await?;
        transaction.execute("UPDATE server SET probes = probes + 1 WHERE id = 1", vec![]).await?;
        if self.lacked_room.load(Ordering::Relaxed) && self.engine() == Engine::Postgres {
            transaction.execute(TAKE_ROOM, vec![]).await?;
        }
        transaction.commit().await?;
        self.lacked_room.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Notes a write that found no room, and passes the error on.
    pub(crate) fn noting_room(&self, error: DatabaseError) -> DatabaseError {
        if error.kind == Kind::Full {
            self.lacked_room.store(true, Ordering::Relaxed);
        }
        error
    }

    /// Whether the database answers at all.
    pub async fn answers(&self) -> Result<(), DatabaseError> {
        self.database.read().await.map(drop)
    }

    /// The newest step of the schema that the database has, and the newest that this program knows.
    pub async fn schema(&self) -> Result<(u32, u32), OpenError> {
        migrate::newest(&self.database, MIGRATIONS).await
    }

    /// Connections, for the metrics.
    pub fn figures(&self) -> PoolFigures {
        self.database.figures()
    }

    /// Closes every connection, after what is under way; SQLite folds its log into the file.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

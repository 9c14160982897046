//! Replicas tell each other that they wrote: LISTEN and NOTIFY of PostgreSQL. A word says only "look again", and may be
//! lost: whoever waits for one looks now and then all the same.

use sqlx::postgres::PgListener;

use crate::database::Database;
use crate::error::DatabaseError;
use crate::store::Store;

/// The channel of NOTIFY.
const CHANNEL: &str = "warren";
/// One message to the server: it needs no transaction of its own, whoever pools sessions.
const NOTIFY: &str = "NOTIFY warren";

impl Store {
    /// Tells other replicas to look again. Not in the transaction that wrote: commits that notify wait for each other, as
    /// they hold a lock of the whole database until they are on disk.
    pub async fn tell_others(&self) -> Result<(), DatabaseError> {
        if let Database::Postgres { pool, .. } = &self.database {
            sqlx::raw_sql(NOTIFY).execute(pool).await?;
        }
        Ok(())
    }

    /// Listens for what others wrote. `None`: there are no others, or sessions are shared and none could listen.
    pub async fn news(&self) -> Result<Option<News>, DatabaseError> {
        let Database::Postgres { aside, shares_sessions: false, .. } = &self.database else {
            return Ok(None);
        };
        let mut listener = PgListener::connect_with(aside).await?;
        // Whoever asks again learns of a connection that broke, and says so.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(Some(News { listener }))
    }
}

/// What others wrote, as long as the connection holds.
#[derive(Debug)]
pub struct News {
    listener: PgListener,
}

impl News {
    /// Waits until somebody wrote something. The writer hears of itself, too.
    ///
    /// # Errors
    /// The connection broke: words may have been lost.
    pub async fn next(&mut self) -> Result<(), DatabaseError> {
        match self.listener.try_recv().await? {
            Some(_) => Ok(()),
            None => Err(sqlx::Error::PoolClosed.into()),
        }
    }
}

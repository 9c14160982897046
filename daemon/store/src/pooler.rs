//! Whether something between us and PostgreSQL gives each transaction another session, as pgbouncer does in its mode
//! `transaction`. Knows no pooler by its name: two connections that meet in one session tell.

use sqlx::{PgConnection, PgPool};

use crate::error::DatabaseError;

/// How often each of the two says which session it has. A pooler gives an idle one out again at the first look; while
/// others take them, it is the same one each time only by chance.
const LOOKS: u32 = 4;

/// Whether two connections that are both open have ever the same session, or one of them changes its own.
pub(crate) async fn shares_sessions(one: &PgPool, other: &PgPool) -> Result<bool, DatabaseError> {
    let (mut one, mut other) = (one.acquire().await?, other.acquire().await?);
    let first = (session(&mut one).await?, session(&mut other).await?);
    let mut shares = first.0 == first.1;
    for _ in 1..LOOKS {
        shares |= (session(&mut one).await?, session(&mut other).await?) != first;
    }
    Ok(shares)
}

/// The process that serves this connection now. In one message, so that a shared session has nothing to keep.
async fn session(connection: &mut PgConnection) -> Result<i32, DatabaseError> {
    use sqlx::{Executor as _, Row as _};
    let row = connection.fetch_one(sqlx::raw_sql("SELECT pg_backend_pid()")).await?;
    Ok(row.try_get(0)?)
}

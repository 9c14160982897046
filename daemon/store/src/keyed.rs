//! Requests with a key of their sender's, so that who asks again is answered and nothing is done twice. Knows no request and no
//! answer: what it keeps is sealed.

use model::Timestamp;

use crate::error::{DatabaseError, ReadError};
use crate::fields::Fields;
use crate::sql::{Transaction, values};
use crate::store::Store;

/// Keys of one person or program that are remembered; of more, the newest. Answers are some kilobytes each.
pub const KEYED_REQUESTS_MAX: u32 = 1_000;

/// A request's name among those of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    /// Who asks, as no two do.
    pub holder: String,
    /// The sender's own key.
    pub key: String,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keyed {
    /// It was not seen before: the request is to be done, and [`Store::answer_keyed`] or [`Store::forget_keyed`] told.
    New,
    /// It was seen with what is sealed here.
    Known {
        /// What was asked.
        asked: Vec<u8>,
        /// Status and body, once it is done.
        answer: Option<(u16, Vec<u8>)>,
        /// Whoever began it is gone and did not say what came of it.
        abandoned: bool,
    },
}

impl Store {
    /// Takes a key, or says what is known of it. Keys from before `expired` are forgotten; what was begun before `abandoned` and
    /// is not answered was begun by a server that is gone, and nobody knows whether it was done.
    pub async fn begin_keyed(
        &self,
        request: &KeyedRequest,
        asked: &[u8],
        now: Timestamp,
        (expired, abandoned): (Timestamp, Timestamp),
    ) -> Result<Keyed, ReadError> {
        let mut transaction = self.database.write().await?;
        let KeyedRequest { holder, key } = request;
        let old = "DELETE FROM keyed_requests WHERE holder = $1 AND key = $2 AND asked_at < $3";
        transaction.execute(old, values![holder.as_str(), key.as_str(), expired.unix_micros()]).await?;
        let take = "INSERT INTO keyed_requests (holder, key, asked, asked_at) VALUES ($1, $2, $3, $4) \
                    ON CONFLICT (holder, key) DO NOTHING";
        let arguments = values![holder.as_str(), key.as_str(), asked, now.unix_micros()];
        if transaction.execute(take, arguments).await? == 1 {
            forget_oldest(&mut transaction, holder).await?;
            transaction.commit().await?;
            return Ok(Keyed::New);
        }
        let known = "SELECT * FROM keyed_requests WHERE holder = $1 AND key = $2";
        let row = transaction.optional(known, values![holder.as_str(), key.as_str()]).await?;
        transaction.commit().await?;
        // Whoever had it gave it back in between: the next try takes it.
        let Some(row) = row else {
            return Ok(Keyed::Known { asked: asked.into(), answer: None, abandoned: false });
        };
        let fields = Fields::of_row("keyed_requests", "key", &row);
        let status = fields.number_or_null::<u16>("status")?;
        let answer =
            status.map(|status| Ok::<_, ReadError>((status, fields.bytes("answer")?))).transpose()?;
        let abandoned = answer.is_none() && fields.time("asked_at")? < abandoned;
        Ok(Keyed::Known { asked: fields.bytes("asked")?, answer, abandoned })
    }

    /// It was done.
    pub async fn answer_keyed(
        &self,
        request: &KeyedRequest,
        status: u16,
        answer: &[u8],
    ) -> Result<(), DatabaseError> {
        let sql = "UPDATE keyed_requests SET status = $1, answer = $2 WHERE holder = $3 AND key = $4";
        let arguments = values![i64::from(status), answer, request.holder.as_str(), request.key.as_str()];
        let mut transaction = self.database.write().await?;
        transaction.execute(sql, arguments).await?;
        transaction.commit().await
    }

    /// Nothing was done: the key is free again.
    pub async fn forget_keyed(&self, request: &KeyedRequest) -> Result<(), DatabaseError> {
        let sql = "DELETE FROM keyed_requests WHERE holder = $1 AND key = $2 AND answer IS NULL";
        let mut transaction = self.database.write().await?;
        transaction.execute(sql, values![request.holder.as_str(), request.key.as_str()]).await?;
        transaction.commit().await
    }

    /// Forgets keys from before.
    pub async fn prune_keyed(&self, before: Timestamp) -> Result<u64, DatabaseError> {
        let mut transaction = self.database.write().await?;
        let sql = "DELETE FROM keyed_requests WHERE asked_at < $1";
        let pruned = transaction.execute(sql, values![before.unix_micros()]).await?;
        transaction.commit().await?;
        Ok(pruned)
    }
}

async fn forget_oldest(transaction: &mut Transaction, holder: &str) -> Result<(), DatabaseError> {
    let sql = "DELETE FROM keyed_requests WHERE holder = $1 AND asked_at <= \
               (SELECT asked_at FROM keyed_requests WHERE holder = $1 ORDER BY asked_at DESC LIMIT 1 OFFSET $2)";
    transaction.execute(sql, values![holder, KEYED_REQUESTS_MAX]).await?;
    Ok(())
}

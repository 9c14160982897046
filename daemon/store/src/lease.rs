//! The lease of replicas, a row that lasts by the clock of the database. Decides nothing for its holder.

use std::time::Duration;

use control::Term;

use crate::dialect;
use crate::encoded::signed;
use crate::error::{Corrupt, DatabaseError, ReadError};
use crate::fields::Fields;
use crate::sql::{Row, Transaction, values};
use crate::store::Store;

/// Who wants the lease, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The replica, by a name that no other has.
    pub holder: &'a str,
    /// The term that its process holds the lease in. A former process of the replica held it in another: that one's ends
    /// at once.
    pub known: Option<Term>,
    /// From when the database takes it.
    pub lasts: Duration,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// The claimant holds the lease, in this term.
    Held(Term),
    /// Another does.
    Others {
        /// Its term.
        term: Term,
        /// Its name.
        holder: String,
    },
}

impl Store {
    /// Takes the lease if it is expired or a former process's, and makes it last longer if it is the claimant's.
    pub async fn hold_lease(&self, claim: Claim<'_>) -> Result<Holding, ReadError> {
        let lasts = i64::try_from(claim.lasts.as_micros()).unwrap_or(i64::MAX);
        let known = claim.known.map(|term| signed(term.0));
        let mut transaction = self.database.aside().await?;
        let taken = transaction.optional(dialect::HOLD_LEASE, values![claim.holder, lasts, known]).await?;
        let holding = match taken {
            Some(row) => Holding::Held(term(&row)?),
            None => {
                let row = lease(&mut transaction).await?;
                let holder = Fields::of_row("lease", "holder", &row).text("holder")?;
                Holding::Others { term: term(&row)?, holder }
            }
        };
        transaction.commit().await?;
        Ok(holding)
    }

    /// The last term that began here.
    pub async fn last_term(&self) -> Result<Term, ReadError> {
        let mut transaction = self.database.aside().await?;
        Ok(term(&lease(&mut transaction).await?)?)
    }

    /// Begins a term of a lease that is kept elsewhere, so that nothing of former terms is committed any more. False: a
    /// later one has begun, or that one by another.
    pub async fn begin_term(&self, term: Term, holder: &str) -> Result<bool, DatabaseError> {
        let mut transaction = self.database.aside().await?;
        let sql = "UPDATE lease SET term = $1, holder = $2 \
                   WHERE id = 1 AND (term < $1 OR (term = $1 AND holder = $2))";
        let begun = transaction.execute(sql, values![signed(term.0), holder]).await?;
        transaction.commit().await?;
        Ok(begun == 1)
    }
}

async fn lease(transaction: &mut Transaction) -> Result<Row, DatabaseError> {
    let row = transaction.optional("SELECT holder, term FROM lease WHERE id = 1", vec![]).await?;
    Ok(row.ok_or(sqlx::Error::RowNotFound)?)
}

fn term(row: &Row) -> Result<Term, Corrupt> {
    Ok(Term(Fields::of_row("lease", "holder", row).number("term")?))
}

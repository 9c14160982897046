//! Second factors and recovery codes. Stores what is sealed and digests; knows no code and no clock.

use std::collections::BTreeSet;

use control::AuditEntry;
use model::Digest;
use model::id::UserId;

use crate::error::{DatabaseError, ReadError};
use crate::fields::Fields;
use crate::migrate;
use crate::people::{PeopleError, finish, one};
use crate::sql::{Transaction, values};
use crate::store::Store;

/// What codes are checked against.
#[derive(Clone, PartialEq, Eq)]
pub struct SecondFactor {
    /// The shared secret, sealed.
    pub sealed: Vec<u8>,
    /// Whether a code of it was seen: only then a login needs one.
    pub confirmed: bool,
    /// The last time step that a code was taken for.
    pub last_step: u64,
}

impl Store {
    /// Offers a second factor, in place of one that was never confirmed. `NotFound` where one is in force.
    pub async fn offer_second_factor(
        &self,
        user: UserId,
        sealed: &[u8],
        entry: &AuditEntry,
    ) -> Result<(), PeopleError> {
        let sql = "INSERT INTO second_factors (user_id, sealed, last_step, confirmed_at) VALUES ($1, $2, 0, NULL) \
                   ON CONFLICT (user_id) DO UPDATE SET sealed = excluded.sealed, last_step = 0 \
                   WHERE second_factors.confirmed_at IS NULL";
        self.change(sql, values![user.to_string(), sealed], entry).await
    }

    /// The second factor of a user, confirmed or not.
    pub async fn second_factor(&self, user: UserId) -> Result<Option<SecondFactor>, ReadError> {
        let sql = "SELECT * FROM second_factors WHERE user_id = $1";
        let row = self.database.read().await?.optional(sql, values![user.to_string()]).await?;
        let Some(row) = row else { return Ok(None) };
        let fields = Fields::of_row("second_factors", "user_id", &row);
        Ok(Some(SecondFactor {
            sealed: fields.bytes("sealed")?,
            confirmed: fields.time_or_null("confirmed_at")?.is_some(),
            last_step: fields.number("last_step")?,
        }))
    }

    /// Who has a second factor in force.
    pub async fn second_factors(&self) -> Result<BTreeSet<UserId>, ReadError> {
        let sql = "SELECT user_id FROM second_factors WHERE confirmed_at IS NOT NULL";
        let rows = self.database.read().await?.all(sql, vec![]).await?;
        let user = |row| Fields::of_row("second_factors", "user_id", row).parsed("user_id");
        Ok(rows.iter().map(user).collect::<Result<_, _>>()?)
    }

    /// A code of this time step was seen for the offered factor: it is in force, with these recovery codes. `NotFound` where
    /// none is offered. From then on no program may start that would not ask for it.
    pub async fn confirm_second_factor(
        &self,
        user: UserId,
        step: u64,
        recovery: &[Digest],
        entry: &AuditEntry,
    ) -> Result<(), PeopleError> {
        let mut transaction = self.database.write().await?;
        let sql = "UPDATE second_factors SET confirmed_at = $1, last_step = $2 \
                   WHERE user_id = $3 AND confirmed_at IS NULL";
        one(&mut transaction, sql, values![entry.at.unix_micros(), signed(step), user.to_string()]).await?;
        replace_codes(&mut transaction, user, recovery).await?;
        migrate::ask_for_second_factors(&mut transaction).await?;
        finish(transaction, entry).await
    }

    /// Takes a code of this time step; `false` if one of this or a later step was taken before.
    pub async fn take_step(&self, user: UserId, step: u64) -> Result<bool, DatabaseError> {
        let mut transaction = self.database.write().await?;
        let sql = "UPDATE second_factors SET last_step = $1 \
                   WHERE user_id = $2 AND last_step < $1 AND confirmed_at IS NOT NULL";
        let taken = transaction.execute(sql, values![signed(step), user.to_string()]).await? == 1;
        transaction.commit().await?;
        Ok(taken)
    }

    /// Takes a recovery code; `false` if it is none or was taken before.
    pub async fn take_recovery_code(
        &self,
        user: UserId,
        code: &Digest,
        entry: &AuditEntry,
    ) -> Result<bool, PeopleError> {
        let sql = "DELETE FROM recovery_codes WHERE user_id = $1 AND digest = $2";
        match self.change(sql, values![user.to_string(), &code.as_bytes()[..]], entry).await {
            Err(PeopleError::NotFound) => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// Other recovery codes in place of those before.
    pub async fn replace_recovery_codes(
        &self,
        user: UserId,
        recovery: &[Digest],
        entry: &AuditEntry,
    ) -> Result<(), PeopleError> {
        let mut transaction = self.database.write().await?;
        replace_codes(&mut transaction, user, recovery).await?;
        finish(transaction, entry).await
    }

    /// Removes the second factor and the recovery codes. `NotFound` where there is none.
    pub async fn remove_second_factor(&self, user: UserId, entry: &AuditEntry) -> Result<(), PeopleError> {
        let mut transaction = self.database.write().await?;
        replace_codes(&mut transaction, user, &[]).await?;
        let sql = "DELETE FROM second_factors WHERE user_id = $1";
        one(&mut transaction, sql, values![user.to_string()]).await?;
        finish(transaction, entry).await
    }
}

async fn replace_codes(
    transaction: &mut Transaction,
    user: UserId,
    codes: &[Digest],
) -> Result<(), DatabaseError> {
    let key = user.to_string();
    transaction.execute("DELETE FROM recovery_codes WHERE user_id = $1", values![key.as_str()]).await?;
    for code in codes {
        let sql = "INSERT INTO recovery_codes (user_id, digest) VALUES ($1, $2)";
        transaction.execute(sql, values![key.as_str(), &code.as_bytes()[..]]).await?;
    }
    Ok(())
}

fn signed(step: u64) -> i64 {
    i64::try_from(step).expect("steps of half a minute since 1970 stay below 2^63")
}

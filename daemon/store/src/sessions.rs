//! Sessions of people, known by the digest of their secret. Knows no cookie.

use std::net::IpAddr;
use std::time::Duration;

use control::AuditEntry;
use model::id::UserId;
use model::{Digest, Timestamp};

use crate::error::{DatabaseError, ReadError};
use crate::fields::{Fields, digest_of};
use crate::people::{PeopleError, User, user};
use crate::sql::values;
use crate::store::Store;

/// A session's or token's last use is written at most this often: being looked at costs no write each time.
pub(crate) const USED_AT_STEP: Duration = Duration::from_secs(60);

/// A login of a person, known by the digest of its cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Of the cookie's secret.
    pub digest: Digest,
    /// Whose.
    pub user: UserId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was used last, to about a minute.
    pub used_at: Timestamp,
    /// It ends then, used or not.
    pub expires_at: Timestamp,
    /// Where it came from.
    pub address: Option<IpAddr>,
}

impl Store {
    /// Begins a session.
    pub async fn create_session(&self, session: &Session, entry: &AuditEntry) -> Result<(), PeopleError> {
        let sql = "INSERT INTO sessions (digest, user_id, created_at, used_at, expires_at, address) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let arguments = values![
            &session.digest.as_bytes()[..],
            session.user.to_string(),
            session.created_at.unix_micros(),
            session.used_at.unix_micros(),
            session.expires_at.unix_micros(),
            session.address.map(|address| address.to_string()),
        ];
        self.change(sql, arguments, entry).await
    }

    /// The session of a cookie and its user, if the session is alive: not expired, used within `idle_max`, and its
    /// user not disabled. Notes the use.
    pub async fn session(
        &self,
        digest: &Digest,
        now: Timestamp,
        idle_max: Duration,
    ) -> Result<Option<(Session, User)>, ReadError> {
        let sql = "SELECT users.*, digest, user_id, sessions.created_at AS began_at, used_at, expires_at, address \
                   FROM sessions JOIN users ON users.id = user_id \
                   WHERE digest = $1 AND expires_at > $2 AND used_at > $3 AND disabled_at IS NULL";
        let key = &digest.as_bytes()[..];
        let arguments = values![key, now.unix_micros(), (now - idle_max).unix_micros()];
        let Some(row) = self.database.read().await?.optional(sql, arguments).await? else { return Ok(None) };
        let fields = Fields::of_row("sessions", "user_id", &row);
        let session = Session {
            digest: digest_of(&fields, "digest")?,
            user: fields.parsed("user_id")?,
            created_at: fields.time("began_at")?,
            used_at: fields.time("used_at")?,
            expires_at: fields.time("expires_at")?,
            address: fields.parsed_or_null("address")?,
        };
        if session.used_at < now - USED_AT_STEP {
            let sql = "UPDATE sessions SET used_at = $1 WHERE digest = $2 AND used_at < $1";
            self.note_use(sql, values![now.unix_micros(), key]).await;
        }
        Ok(Some((session, user(&row)?)))
    }

    /// Ends one session.
    pub async fn end_session(&self, digest: &Digest, entry: &AuditEntry) -> Result<(), PeopleError> {
        self.change("DELETE FROM sessions WHERE digest = $1", values![&digest.as_bytes()[..]], entry).await
    }

    /// Forgets sessions that expired.
    pub async fn prune_sessions(&self, now: Timestamp) -> Result<(), DatabaseError> {
        let mut transaction = self.database.write().await?;
        transaction
            .execute("DELETE FROM sessions WHERE expires_at <= $1", values![now.unix_micros()])
            .await?;
        transaction.commit().await
    }
}

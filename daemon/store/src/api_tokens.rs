//! API tokens of scripts, known by id and the digest of their secret. Compares no secret.

use control::AuditEntry;
use model::id::{ApiTokenId, UserId};
use model::{Digest, Role, TenantId, Timestamp};

use crate::error::{Corrupt, ReadError};
use crate::fields::{Fields, digest_of};
use crate::people::{PeopleError, User, user};
use crate::sessions::USED_AT_STEP;
use crate::sql::{Row, values};
use crate::store::Store;

/// What a script logs in with, known by its id and the digest of its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// On whose behalf.
    pub user: UserId,
    /// What it is for.
    pub label: String,
    /// See [`model::token::ApiToken::digest`].
    pub digest: Digest,
    /// What it may do, if its user may.
    pub role: Role,
    /// The one tenant that it is for; `None` is all that its user may see.
    pub tenant: Option<TenantId>,
    /// When it was created.
    pub created_at: Timestamp,
    /// It ends then.
    pub expires_at: Timestamp,
    /// When it was used last, to about a minute.
    pub used_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

impl Store {
    /// Adds an API token.
    pub async fn create_api_token(&self, token: &ApiToken, entry: &AuditEntry) -> Result<(), PeopleError> {
        let sql = "INSERT INTO api_tokens \
                   (id, user_id, label, digest, role, tenant_id, created_at, expires_at, used_at, revoked_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let arguments = values![
            token.id.to_string(),
            token.user.to_string(),
            token.label.as_str(),
            &token.digest.as_bytes()[..],
            token.role.as_str(),
            token.tenant.map(|tenant| tenant.to_string()),
            token.created_at.unix_micros(),
            token.expires_at.unix_micros(),
            token.used_at.map(|at| at.unix_micros()),
            token.revoked_at.map(|at| at.unix_micros()),
        ];
        self.change(sql, arguments, entry).await
    }

    /// The API token of an id and its user, if it is alive: not expired, not revoked, its user not disabled. The
    /// caller compares the digest, in constant time. Notes the use when `used` says that it fits.
    pub async fn api_token(
        &self,
        id: ApiTokenId,
        now: Timestamp,
        used: impl FnOnce(&Digest) -> bool + Send,
    ) -> Result<Option<(ApiToken, User)>, ReadError> {
        let sql = "SELECT * FROM api_tokens WHERE id = $1 AND expires_at > $2 AND revoked_at IS NULL";
        let mut transaction = self.database.read().await?;
        let row = transaction.optional(sql, values![id.to_string(), now.unix_micros()]).await?;
        let Some(token) = row.as_ref().map(api_token).transpose()? else { return Ok(None) };
        let sql = "SELECT * FROM users WHERE id = $1 AND disabled_at IS NULL";
        let row = transaction.optional(sql, values![token.user.to_string()]).await?;
        let Some(user) = row.as_ref().map(user).transpose()? else { return Ok(None) };
        drop(transaction);
        if !used(&token.digest) {
            return Ok(None);
        }
        if token.used_at.is_none_or(|at| at < now - USED_AT_STEP) {
            let sql = "UPDATE api_tokens SET used_at = $1 WHERE id = $2";
            self.note_use(sql, values![now.unix_micros(), id.to_string()]).await;
        }
        Ok(Some((token, user)))
    }

    /// The API tokens of a user, or of all, dead ones too.
    pub async fn api_tokens(&self, user: Option<UserId>) -> Result<Vec<ApiToken>, ReadError> {
        let sql = "SELECT * FROM api_tokens WHERE $1 IS NULL OR user_id = $1 ORDER BY id";
        let rows = self.database.read().await?.all(sql, values![user.map(|id| id.to_string())]).await?;
        Ok(rows.iter().map(api_token).collect::<Result<_, _>>()?)
    }

    /// Revokes an API token at the time of the entry.
    pub async fn revoke_api_token(&self, id: ApiTokenId, entry: &AuditEntry) -> Result<(), PeopleError> {
        let sql = "UPDATE api_tokens SET revoked_at = COALESCE(revoked_at, $1) WHERE id = $2";
        self.change(sql, values![entry.at.unix_micros(), id.to_string()], entry).await
    }
}

fn api_token(row: &Row) -> Result<ApiToken, Corrupt> {
    let fields = Fields::of_row("api_tokens", "id", row);
    Ok(ApiToken {
        id: fields.parsed("id")?,
        user: fields.parsed("user_id")?,
        label: fields.text("label")?,
        digest: digest_of(&fields, "digest")?,
        role: fields.parsed("role")?,
        tenant: fields.parsed_or_null("tenant_id")?,
        created_at: fields.time("created_at")?,
        expires_at: fields.time("expires_at")?,
        used_at: fields.time_or_null("used_at")?,
        revoked_at: fields.time_or_null("revoked_at")?,
    })
}

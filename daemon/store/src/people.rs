//! People and scripts: users, sessions, API tokens, the one-time setup secret, settings.
//!
//! Stores hashes and digests that the caller made; knows no password, cookie or policy. Every change is written with
//! its audit entry in one transaction.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use control::AuditEntry;
use model::id::{ApiTokenId, UserId};
use model::{Digest, Label, TenantId, Timestamp};

use crate::audit::{self, AuditId};
use crate::error::{Corrupt, DatabaseError, Kind, ReadError};
use crate::fields::Fields;
use crate::sql::{Row, Sql, Transaction, Value, values};
use crate::store::Store;

/// A session's or token's last use is written at most this often: being looked at costs no write each time.
const USED_AT_STEP: Duration = Duration::from_secs(60);

/// What a person or a script may do. Each may do what the ones before may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Approves devices, creates tokens, edits names.
    Operator,
    /// Everything in a tenant.
    TenantAdmin,
    /// Everything.
    SuperAdmin,
}

impl Role {
    /// Every role, least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::TenantAdmin, Self::SuperAdmin];

    /// As people and the API see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::TenantAdmin => "tenant-admin",
            Self::SuperAdmin => "super-admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is viewer, operator, tenant-admin or super-admin")]
pub struct BadRole;

impl FromStr for Role {
    type Err = BadRole;
    fn from_str(text: &str) -> Result<Self, BadRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(BadRole)
    }
}

/// A person.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Unique.
    pub name: Label,
    /// What it may do.
    pub role: Role,
    /// Argon2id in the PHC string form. `None` cannot log in with a password.
    pub password_hash: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was disabled, if it is.
    pub disabled_at: Option<Timestamp>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({}, {}, {})", self.id, self.name, self.role)
    }
}

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

/// Why a change of people did not happen.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// Another user has that name.
    #[error("a user with that name exists")]
    NameTaken,
    /// There is no such user, session or token.
    #[error("it is not there")]
    NotFound,
    /// The setup secret is wrong or was used, or there are users already.
    #[error("the setup secret is wrong, or setup is done")]
    SetupDone,
    /// The database.
    #[error(transparent)]
    Database(DatabaseError),
    /// A row.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

impl From<DatabaseError> for PeopleError {
    fn from(error: DatabaseError) -> Self {
        if error.kind == Kind::Taken { Self::NameTaken } else { Self::Database(error) }
    }
}

impl Store {
    /// Adds a user.
    pub async fn create_user(&self, user: &User, entry: &AuditEntry) -> Result<(), PeopleError> {
        let mut transaction = self.database.write().await?;
        insert_user(&mut transaction, user).await?;
        finish(transaction, entry).await
    }

    /// Every user by name.
    pub async fn users(&self) -> Result<Vec<User>, ReadError> {
        let rows = self.database.read().await?.all("SELECT * FROM users ORDER BY name", vec![]).await?;
        Ok(rows.iter().map(user).collect::<Result<_, _>>()?)
    }

    /// The user of a name.
    pub async fn user(&self, name: &Label) -> Result<Option<User>, ReadError> {
        let sql = "SELECT * FROM users WHERE name = $1";
        let row = self.database.read().await?.optional(sql, values![name.as_str()]).await?;
        Ok(row.as_ref().map(user).transpose()?)
    }

    /// Gives a user another password and ends all its sessions.
    pub async fn set_password(
        &self,
        user: UserId,
        hash: &str,
        entry: &AuditEntry,
    ) -> Result<(), PeopleError> {
        let mut transaction = self.database.write().await?;
        let sql = "UPDATE users SET password_hash = $1 WHERE id = $2";
        one(&mut transaction, sql, values![hash, user.to_string()]).await?;
        drop_sessions(&mut transaction, user).await?;
        finish(transaction, entry).await
    }

    /// Gives a user another role.
    pub async fn set_role(&self, user: UserId, role: Role, entry: &AuditEntry) -> Result<(), PeopleError> {
        let sql = "UPDATE users SET role = $1 WHERE id = $2";
        self.change(sql, values![role.as_str(), user.to_string()], entry).await
    }

    /// Disables a user, at the time of the entry, and ends all its sessions. Its API tokens sleep with it.
    pub async fn disable_user(&self, user: UserId, entry: &AuditEntry) -> Result<(), PeopleError> {
        let mut transaction = self.database.write().await?;
        let sql = "UPDATE users SET disabled_at = COALESCE(disabled_at, $1) WHERE id = $2";
        one(&mut transaction, sql, values![entry.at.unix_micros(), user.to_string()]).await?;
        drop_sessions(&mut transaction, user).await?;
        finish(transaction, entry).await
    }

    /// Lets a disabled user in again.
    pub async fn enable_user(&self, user: UserId, entry: &AuditEntry) -> Result<(), PeopleError> {
        self.change("UPDATE users SET disabled_at = NULL WHERE id = $1", values![user.to_string()], entry)
            .await
    }

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
            digest: digest_of(&fields)?,
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

    /// Ends all sessions of a user.
    pub async fn end_sessions(&self, user: UserId, entry: &AuditEntry) -> Result<(), PeopleError> {
        let mut transaction = self.database.write().await?;
        drop_sessions(&mut transaction, user).await?;
        finish(transaction, entry).await
    }

    /// Forgets sessions that expired.
    pub async fn prune_sessions(&self, now: Timestamp) -> Result<(), DatabaseError> {
        let mut transaction = self.database.write().await?;
        transaction
            .execute("DELETE FROM sessions WHERE expires_at <= $1", values![now.unix_micros()])
            .await?;
        transaction.commit().await
    }

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

    /// Offers a one-time secret for the first administrator, in place of one offered before. `false` where there are
    /// users already, and nothing happened.
    pub async fn offer_setup(&self, digest: &Digest, at: Timestamp) -> Result<bool, DatabaseError> {
        let mut transaction = self.database.write().await?;
        let sql = "INSERT INTO setup (id, digest, created_at) SELECT 1, $1, $2 WHERE NOT EXISTS (SELECT 1 FROM users) \
                   ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, created_at = excluded.created_at";
        let offered = transaction.execute(sql, values![&digest.as_bytes()[..], at.unix_micros()]).await? == 1;
        transaction.commit().await?;
        Ok(offered)
    }

    /// Uses the secret up and adds the first administrator, or neither.
    pub async fn set_up(&self, digest: &Digest, user: &User, entry: &AuditEntry) -> Result<(), PeopleError> {
        let mut transaction = self.database.write().await?;
        let sql = "DELETE FROM setup WHERE digest = $1 AND NOT EXISTS (SELECT 1 FROM users)";
        if transaction.execute(sql, values![&digest.as_bytes()[..]]).await? != 1 {
            return Err(PeopleError::SetupDone);
        }
        insert_user(&mut transaction, user).await?;
        finish(transaction, entry).await
    }

    /// What an administrator set.
    pub async fn setting(&self, name: &str) -> Result<Option<String>, ReadError> {
        let sql = "SELECT * FROM settings WHERE name = $1";
        let row = self.database.read().await?.optional(sql, values![name]).await?;
        Ok(row.map(|row| Fields::of_row("settings", "name", &row).text("value")).transpose()?)
    }

    /// Sets it.
    pub async fn set_setting(&self, name: &str, value: &str, entry: &AuditEntry) -> Result<(), PeopleError> {
        let sql = "INSERT INTO settings (name, value) VALUES ($1, $2) \
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.change(sql, values![name, value], entry).await
    }

    /// One statement that must touch one row, and its audit entry.
    async fn change(
        &self,
        sql: impl Into<Sql>,
        arguments: Vec<Value>,
        entry: &AuditEntry,
    ) -> Result<(), PeopleError> {
        let mut transaction = self.database.write().await?;
        one(&mut transaction, sql, arguments).await?;
        finish(transaction, entry).await
    }

    /// Notes that something was used. Who logged in stays logged in while the database takes no write.
    async fn note_use(&self, sql: &'static str, arguments: Vec<Value>) {
        let noted = async {
            let mut transaction = self.database.write().await?;
            transaction.execute(sql, arguments).await?;
            transaction.commit().await
        };
        if let Err(error) = noted.await {
            tracing::debug!(error = %error.chain(), "a use was not noted");
        }
    }
}

async fn one(
    transaction: &mut Transaction,
    sql: impl Into<Sql>,
    arguments: Vec<Value>,
) -> Result<(), PeopleError> {
    if transaction.execute(sql, arguments).await? == 1 { Ok(()) } else { Err(PeopleError::NotFound) }
}

async fn finish(mut transaction: Transaction, entry: &AuditEntry) -> Result<(), PeopleError> {
    audit::append(&mut transaction, AuditId::new(entry.at), entry).await?;
    Ok(transaction.commit().await?)
}

async fn drop_sessions(transaction: &mut Transaction, user: UserId) -> Result<(), DatabaseError> {
    transaction.execute("DELETE FROM sessions WHERE user_id = $1", values![user.to_string()]).await?;
    Ok(())
}

async fn insert_user(transaction: &mut Transaction, user: &User) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO users (id, name, role, password_hash, created_at, disabled_at) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    let arguments = values![
        user.id.to_string(),
        user.name.as_str(),
        user.role.as_str(),
        user.password_hash.as_deref(),
        user.created_at.unix_micros(),
        user.disabled_at.map(|at| at.unix_micros()),
    ];
    transaction.execute(sql, arguments).await?;
    Ok(())
}

fn user(row: &Row) -> Result<User, Corrupt> {
    let fields = Fields::of_row("users", "id", row);
    Ok(User {
        id: fields.parsed("id")?,
        name: fields.parsed("name")?,
        role: fields.parsed("role")?,
        password_hash: fields.text_or_null("password_hash")?,
        created_at: fields.time("created_at")?,
        disabled_at: fields.time_or_null("disabled_at")?,
    })
}

fn api_token(row: &Row) -> Result<ApiToken, Corrupt> {
    let fields = Fields::of_row("api_tokens", "id", row);
    Ok(ApiToken {
        id: fields.parsed("id")?,
        user: fields.parsed("user_id")?,
        label: fields.text("label")?,
        digest: digest_of(&fields)?,
        role: fields.parsed("role")?,
        tenant: fields.parsed_or_null("tenant_id")?,
        created_at: fields.time("created_at")?,
        expires_at: fields.time("expires_at")?,
        used_at: fields.time_or_null("used_at")?,
        revoked_at: fields.time_or_null("revoked_at")?,
    })
}

fn digest_of(fields: &Fields<'_>) -> Result<Digest, Corrupt> {
    let bytes = fields.bytes("digest")?;
    let length = bytes.len();
    let bytes =
        bytes.try_into().map_err(|_| fields.corrupt("digest", format!("has {length} bytes, not 32")))?;
    Ok(Digest::from_bytes(bytes))
}

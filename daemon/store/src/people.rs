//! People: users, the one-time setup secret, settings.
//!
//! Stores hashes and digests that the caller made; knows no password, cookie or policy. Every change is written with
//! its audit entry in one transaction.

use std::fmt;

use control::AuditEntry;
use model::id::UserId;
use model::{Digest, Label, Role, TenantId, Timestamp};

use crate::audit::{self, AuditId};
use crate::dialect;
use crate::error::{Corrupt, DatabaseError, Kind, ReadError};
use crate::fields::Fields;
use crate::migrate;
use crate::sql::{Row, Sql, Transaction, Value, values};
use crate::store::Store;

/// A person.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Unique.
    pub name: Label,
    /// What it may do.
    pub role: Role,
    /// The one tenant that it sees; `None` sees all.
    pub tenant: Option<TenantId>,
    /// Argon2id in the PHC string form. `None` cannot log in with a password.
    pub password_hash: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was disabled, if it is.
    pub disabled_at: Option<Timestamp>,
}

impl User {
    /// Whether the tenant is hers to see, now.
    pub fn is_there(&self, tenant: TenantId) -> bool {
        self.disabled_at.is_none() && self.tenant.is_none_or(|only| only == tenant)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({}, {}, {})", self.id, self.name, self.role)
    }
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
    /// Nobody would be left who may do everything.
    #[error("nobody would be left who may do everything")]
    LastAdministrator,
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
        if user.tenant.is_some() {
            migrate::ask_for_second_factors(&mut transaction).await?;
        }
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

    /// Writes role, tenant and whether it is disabled, and ends all its sessions if that is wished or it is disabled. Its
    /// API tokens sleep while it is. Refused if nobody would be left who may do everything.
    pub async fn update_user(
        &self,
        user: &User,
        end_sessions: bool,
        entry: &AuditEntry,
    ) -> Result<(), PeopleError> {
        let mut transaction = self.database.write().await?;
        let key = user.id.to_string();
        let sql = "UPDATE users SET role = $1, tenant_id = $2, disabled_at = $3 WHERE id = $4";
        let disabled = user.disabled_at.map(|at| at.unix_micros());
        let tenant = user.tenant.map(|tenant| tenant.to_string());
        let arguments = values![user.role.as_str(), tenant, disabled, key.as_str()];
        keep_an_administrator(&mut transaction, sql, arguments).await?;
        if end_sessions || user.disabled_at.is_some() {
            drop_sessions(&mut transaction, user.id).await?;
        }
        if user.tenant.is_some() {
            migrate::ask_for_second_factors(&mut transaction).await?;
        }
        finish(transaction, entry).await
    }

    /// Removes a user with its sessions, API tokens and second factor; what it did stays in the audit log. Refused if
    /// nobody would be left who may do everything.
    pub async fn delete_user(&self, user: UserId, entry: &AuditEntry) -> Result<(), PeopleError> {
        let mut transaction = self.database.write().await?;
        let sql = "DELETE FROM users WHERE id = $1";
        keep_an_administrator(&mut transaction, sql, values![user.to_string()]).await?;
        finish(transaction, entry).await
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

    /// Sets it, or takes it away, if it is what it was before. Says whether it was.
    pub async fn swap_setting(
        &self,
        name: &str,
        before: Option<&str>,
        after: Option<&str>,
        entry: &AuditEntry,
    ) -> Result<bool, ReadError> {
        let mut transaction = self.database.write().await?;
        let swapped = match (before, after) {
            (None, None) => {
                let sql = "SELECT name FROM settings WHERE name = $1";
                return Ok(transaction.optional(sql, values![name]).await?.is_none());
            }
            (None, Some(after)) => {
                let sql = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
                transaction.execute(sql, values![name, after]).await?
            }
            (Some(before), Some(after)) => {
                let sql = "UPDATE settings SET value = $3 WHERE name = $1 AND value = $2";
                transaction.execute(sql, values![name, before, after]).await?
            }
            (Some(before), None) => {
                let sql = "DELETE FROM settings WHERE name = $1 AND value = $2";
                transaction.execute(sql, values![name, before]).await?
            }
        };
        if swapped == 0 {
            return Ok(false);
        }
        audit::append(&mut transaction, AuditId::new(entry.at), entry).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The same, with what there was kept under another name: all of it or nothing, and one entry.
    pub async fn swap_setting_aside(
        &self,
        name: &str,
        (before, aside): (&str, &str),
        after: &str,
        entry: &AuditEntry,
    ) -> Result<bool, ReadError> {
        let mut transaction = self.database.write().await?;
        let sql = "UPDATE settings SET value = $3 WHERE name = $1 AND value = $2";
        if transaction.execute(sql, values![name, before, after]).await? == 0 {
            return Ok(false);
        }
        let sql = "INSERT INTO settings (name, value) VALUES ($1, $2)";
        transaction.execute(sql, values![aside, before]).await?;
        audit::append(&mut transaction, AuditId::new(entry.at), entry).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// One statement that must touch one row, and its audit entry.
    pub(crate) async fn change(
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
    pub(crate) async fn note_use(&self, sql: &'static str, arguments: Vec<Value>) {
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

/// Does one thing to one user, if that leaves an administrator of everything who is not disabled, or there was none before.
async fn keep_an_administrator(
    transaction: &mut Transaction,
    sql: &'static str,
    arguments: Vec<Value>,
) -> Result<(), PeopleError> {
    // Two changes that each leave the other's administrator come one after the other.
    transaction.all(dialect::LOCK_SERVER, vec![]).await?;
    let there = "SELECT 1 AS found FROM users WHERE role = 'super-admin' AND tenant_id IS NULL AND disabled_at IS NULL";
    let before = transaction.optional(there, vec![]).await?.is_some();
    one(transaction, sql, arguments).await?;
    match transaction.optional(there, vec![]).await? {
        None if before => Err(PeopleError::LastAdministrator),
        _ => Ok(()),
    }
}

pub(crate) async fn one(
    transaction: &mut Transaction,
    sql: impl Into<Sql>,
    arguments: Vec<Value>,
) -> Result<(), PeopleError> {
    if transaction.execute(sql, arguments).await? == 1 { Ok(()) } else { Err(PeopleError::NotFound) }
}

pub(crate) async fn finish(mut transaction: Transaction, entry: &AuditEntry) -> Result<(), PeopleError> {
    audit::append(&mut transaction, AuditId::new(entry.at), entry).await?;
    Ok(transaction.commit().await?)
}

pub(crate) async fn drop_sessions(transaction: &mut Transaction, user: UserId) -> Result<(), DatabaseError> {
    transaction.execute("DELETE FROM sessions WHERE user_id = $1", values![user.to_string()]).await?;
    Ok(())
}

async fn insert_user(transaction: &mut Transaction, user: &User) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO users (id, name, role, tenant_id, password_hash, created_at, disabled_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let arguments = values![
        user.id.to_string(),
        user.name.as_str(),
        user.role.as_str(),
        user.tenant.map(|tenant| tenant.to_string()),
        user.password_hash.as_deref(),
        user.created_at.unix_micros(),
        user.disabled_at.map(|at| at.unix_micros()),
    ];
    transaction.execute(sql, arguments).await?;
    Ok(())
}

pub(crate) fn user(row: &Row) -> Result<User, Corrupt> {
    let fields = Fields::of_row("users", "id", row);
    Ok(User {
        id: fields.parsed("id")?,
        name: fields.parsed("name")?,
        role: fields.parsed("role")?,
        tenant: fields.parsed_or_null("tenant_id")?,
        password_hash: fields.text_or_null("password_hash")?,
        created_at: fields.time("created_at")?,
        disabled_at: fields.time_or_null("disabled_at")?,
    })
}

//! Brings the schema forward at start: forward-only, one replica at a time, each migration all or nothing.
//!
//! ```text
//! begin ─▶ lock ─▶ which are there? ─▶ snapshot (SQLite) ─▶ next one ─▶ note it ─▶ commit ─▶ begin …
//!            ▲
//!            └ another replica waits here and then finds nothing to do
//! ```

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::database::{Database, make_private};
use crate::dialect;
use crate::error::{DatabaseError, OpenError};
use crate::sql::{Transaction, values};

/// One step of the schema.
pub(crate) struct Migration {
    pub(crate) version: u32,
    pub(crate) name: &'static str,
    /// The oldest program that works with the schema after this step, as the newest version that it knows. A step
    /// that only expands keeps that of the step before, so that during a rolling restart the previous program runs on.
    pub(crate) needs: u32,
    pub(crate) text: &'static str,
}

/// From here on a program asks for second factors and keeps people to their tenant.
const SECOND_FACTORS: u32 = 6;

/// From here on a program knows interfaces of tenants' own on the hub.
const HUB_PORTS: u32 = 15;

/// All steps in order, numbered from 1.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "directory",
        needs: 1,
        text: include_str!("migrations/0001_directory.sql"),
    },
    Migration { version: 2, name: "people", needs: 1, text: include_str!("migrations/0002_people.sql") },
    // Facts of authorities are in the change log: a program that does not know them cannot follow it.
    Migration {
        version: 3,
        name: "authorities",
        needs: 3,
        text: include_str!("migrations/0003_authorities.sql"),
    },
    // A program that does not know them has other snapshots of the same generation.
    Migration {
        version: 4,
        name: "abilities",
        needs: 4,
        text: include_str!("migrations/0004_abilities.sql"),
    },
    Migration { version: 5, name: "lease", needs: 4, text: include_str!("migrations/0005_lease.sql") },
    // Needs itself as soon as there is a second factor, or a person of one tenant: see [`ask_for_second_factors`].
    Migration {
        version: SECOND_FACTORS,
        name: "second-factors",
        needs: 4,
        text: include_str!("migrations/0006_second_factors.sql"),
    },
    Migration {
        version: 7,
        name: "audit-chain",
        needs: 4,
        text: include_str!("migrations/0007_audit_chain.sql"),
    },
    // Facts of roles and hosts are in the change log, too.
    Migration { version: 8, name: "hosts", needs: 8, text: include_str!("migrations/0008_hosts.sql") },
    // A program that does not know plain peers cannot read their rows.
    Migration {
        version: 9,
        name: "plain-peers",
        needs: 9,
        text: include_str!("migrations/0009_plain_peers.sql"),
    },
    // A program that passes a closed tenant or an expired device over has other snapshots of the same generation.
    Migration {
        version: 10,
        name: "device-life",
        needs: 10,
        text: include_str!("migrations/0010_device_life.sql"),
    },
    Migration {
        version: 11,
        name: "device-commands",
        needs: 10,
        text: include_str!("migrations/0011_device_commands.sql"),
    },
    Migration {
        version: 12,
        name: "presence-facts",
        needs: 10,
        text: include_str!("migrations/0012_presence_facts.sql"),
    },
    Migration {
        version: 13,
        name: "requests",
        needs: 10,
        text: include_str!("migrations/0013_requests.sql"),
    },
    Migration {
        version: 14,
        name: "revoked-by",
        needs: 10,
        text: include_str!("migrations/0014_revoked_by.sql"),
    },
    // Needs itself as soon as a tenant has an interface of its own: see [`ask_for_hub_ports`].
    Migration {
        version: HUB_PORTS,
        name: "hub-ports",
        needs: 10,
        text: include_str!("migrations/0015_hub_ports.sql"),
    },
    // A program of before goes on with the chain, but reads what this one chained as changed.
    Migration {
        version: 16,
        name: "audit-classes",
        needs: 10,
        text: include_str!("migrations/0016_audit_classes.sql"),
    },
];

/// There is a second factor, or a person of one tenant: a program that does not know of them would let people in without,
/// or everywhere, and may not start any more. Until then it may run on during a rolling restart.
pub(crate) async fn ask_for_second_factors(transaction: &mut Transaction) -> Result<(), DatabaseError> {
    needs(transaction, SECOND_FACTORS).await
}

/// A tenant has an interface of its own on the hub: a program that passes it over has other snapshots of the same generation.
pub(crate) async fn ask_for_hub_ports(transaction: &mut Transaction) -> Result<(), DatabaseError> {
    needs(transaction, HUB_PORTS).await
}

/// The same of a database whose rows came from elsewhere, and whose steps were taken anew.
pub(crate) async fn ask_for_what_is_there(transaction: &mut Transaction) -> Result<(), DatabaseError> {
    let with_factors = "SELECT id FROM users WHERE tenant_id IS NOT NULL \
                        OR id IN (SELECT user_id FROM second_factors WHERE confirmed_at IS NOT NULL) LIMIT 1";
    if !transaction.all(with_factors, values![]).await?.is_empty() {
        ask_for_second_factors(transaction).await?;
    }
    let with_ports = "SELECT id FROM tenants WHERE hub_port IS NOT NULL LIMIT 1";
    if !transaction.all(with_ports, values![]).await?.is_empty() {
        ask_for_hub_ports(transaction).await?;
    }
    Ok(())
}

async fn needs(transaction: &mut Transaction, version: u32) -> Result<(), DatabaseError> {
    transaction.execute("UPDATE migrations SET needs = $1 WHERE version = $1", values![version]).await?;
    Ok(())
}

/// Which steps the database lacks.
pub(crate) async fn pending(
    database: &Database,
    known: &'static [Migration],
) -> Result<Vec<&'static Migration>, OpenError> {
    let mut transaction = database.read().await?;
    let done = applied(&mut transaction, known).await?;
    Ok(known.iter().filter(|m| m.version > done).collect())
}

/// The newest step that the database has, and the newest that this program knows.
pub(crate) async fn newest(database: &Database, known: &[Migration]) -> Result<(u32, u32), OpenError> {
    let mut transaction = database.read().await?;
    Ok((applied(&mut transaction, known).await?, known.last().map_or(0, |step| step.version)))
}

/// Takes every step that the database lacks.
pub(crate) async fn run(database: &Database, known: &'static [Migration]) -> Result<(), OpenError> {
    while !pending(database, known).await?.is_empty() {
        step(database, known).await?;
    }
    Ok(())
}

/// Takes the first step that is missing once the lock is held; another replica may have taken it meanwhile.
async fn step(database: &Database, known: &'static [Migration]) -> Result<(), OpenError> {
    let mut transaction = database.write().await?;
    transaction.all(dialect::MIGRATION_LOCK, vec![]).await?;
    let done = applied(&mut transaction, known).await?;
    let Some(next) = known.iter().find(|m| m.version > done) else {
        return Ok(());
    };
    if let Database::Sqlite { path, .. } = database
        && done > 0
    {
        snapshot(path, next).await?;
    }
    let failed =
        |source: DatabaseError| OpenError::Migration { version: next.version, name: next.name, source };
    tracing::info!(version = next.version, name = next.name, "migrating the database");
    apply(&mut transaction, next).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// Takes every step that the database lacks in one transaction. The caller drops it and nothing of it stays, or goes on in
/// it. Gives what was taken.
pub(crate) async fn rehearse(
    transaction: &mut Transaction,
    known: &'static [Migration],
) -> Result<Vec<&'static Migration>, OpenError> {
    transaction.all(dialect::MIGRATION_LOCK, vec![]).await?;
    let done = applied(transaction, known).await?;
    let steps: Vec<_> = known.iter().filter(|m| m.version > done).collect();
    for step in &steps {
        let failed = |source| OpenError::Migration { version: step.version, name: step.name, source };
        apply(transaction, step).await.map_err(failed)?;
    }
    Ok(steps)
}

async fn apply(transaction: &mut Transaction, step: &Migration) -> Result<(), DatabaseError> {
    let engine = transaction.engine();
    if step.version == 1 {
        const TABLE: &str = "CREATE TABLE migrations (version BIGINT PRIMARY KEY NOT NULL, name TEXT NOT NULL, \
                             needs BIGINT NOT NULL, applied_at BIGINT NOT NULL) /* STRICT */";
        transaction.script(dialect::schema(TABLE, engine)).await?;
    }
    transaction.script(dialect::schema(step.text, engine)).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let note = values![step.version, step.name, step.needs, i64::try_from(now).unwrap_or(i64::MAX)];
    transaction
        .execute("INSERT INTO migrations (version, name, needs, applied_at) VALUES ($1, $2, $3, $4)", note)
        .await?;
    Ok(())
}

/// The newest step that the database has; refuses a schema that this program is too old for.
pub(crate) async fn applied(transaction: &mut Transaction, known: &[Migration]) -> Result<u32, OpenError> {
    if transaction.optional(dialect::MIGRATIONS_TABLE, vec![]).await?.is_none() {
        return Ok(0);
    }
    let sql = "SELECT COALESCE(MAX(version), 0) AS version, COALESCE(MAX(needs), 0) AS needs FROM migrations";
    let row = transaction.optional(sql, vec![]).await?;
    let number = |column| {
        let found = row.as_ref().and_then(|r| r.int(column).ok().flatten());
        found.and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX)
    };
    let (found, needs) = (number("version"), number("needs"));
    let newest = known.last().map_or(0, |m| m.version);
    if needs > newest { Err(OpenError::Newer { found, needs, known: newest }) } else { Ok(found) }
}

/// Where the database is kept as it was before a step.
pub(crate) fn snapshot_path(database: &Path, step: u32) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(format!(".before-{step:04}"));
    name.into()
}

/// Copies the database to a file beside it, as it is before a step. Its caller holds the write lock and has written
/// nothing, so a second connection reads what nobody changes: inside a transaction there is no VACUUM.
async fn snapshot(path: &Path, next: &Migration) -> Result<(), OpenError> {
    let target = snapshot_path(path, next.version);
    let mut half = target.as_os_str().to_owned();
    half.push(".half");
    let half = PathBuf::from(half);
    let failed = |source| OpenError::File { path: target.clone(), source };
    // Of a start that ended here.
    if half.exists() {
        std::fs::remove_file(&half).map_err(failed)?;
    }
    make_private(&half)?;
    copy(path, &half).await?;
    // The name appears only when the bytes are on the disk.
    let synced = std::fs::File::open(&half).and_then(|file| file.sync_all());
    synced.and_then(|()| std::fs::rename(&half, &target)).map_err(failed)?;
    tracing::info!(path = %target.display(), "kept the database as it was before the migration");
    Ok(())
}

async fn copy(from: &Path, to: &Path) -> Result<(), DatabaseError> {
    let options = SqliteConnectOptions::new().filename(from).disable_statement_logging();
    let mut connection = options.connect().await?;
    sqlx::query("VACUUM INTO $1").bind(to.display().to_string()).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

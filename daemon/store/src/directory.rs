//! Directories in the database: read whole, read since a generation, and written one commit at a time.
//!
//! Decides nothing: what is allowed was decided on the directory in memory. The compare-and-set of the generation
//! says whether that was still the directory; the conditional update of the token says whether a use was left.

use std::collections::BTreeMap;

use control::{
    Commit, CommitError, Device, DnsEntry, Fact, Hub, Loaded, Refresh, Since, SshRows, Standings, Tenant,
    TenantRows, Token,
};
use model::limits::OWN_INTERFACES_MAX;
use model::{Epoch, Generation, TenantId, Version};

use crate::audit::{self, AuditId};
use crate::authorities::{self, Sealed};
use crate::database::WRITE_ATTEMPTS_MAX;
use crate::dialect;
use crate::encoded::{self, Write, signed};
use crate::error::{Corrupt, DatabaseError, Kind, ReadError};
use crate::fields::{Fields, to_json};
use crate::migrate;
use crate::presence;
use crate::rows;
use crate::sql::{Row, Transaction, values};
use crate::ssh_rows;
use crate::store::Store;

/// Generations that the change log keeps of each tenant. A replica that polls every second misses this many only
/// after a quarter of an hour of edits without pause; then it reads the whole.
pub const GENERATIONS_KEPT: u64 = 1_000;

impl Store {
    /// Everything, as of one moment.
    pub async fn load(&self) -> Result<Loaded, ReadError> {
        everything(&mut self.database.read().await?).await
    }

    /// The version of every tenant: cheap enough to be asked every second.
    pub async fn standings(&self) -> Result<Standings, ReadError> {
        let mut transaction = self.database.read().await?;
        let epoch = epoch(&mut transaction).await?;
        let sql = "SELECT tenant_id, generation FROM directories ORDER BY tenant_id";
        let rows = transaction.all(sql, vec![]).await?;
        let read = |row: &Row| {
            let fields = Fields::of_row("directories", "tenant_id", row);
            Ok((fields.parsed("tenant_id")?, version(epoch, &fields)?))
        };
        Ok(Standings { epoch, versions: rows.iter().map(read).collect::<Result<_, Corrupt>>()? })
    }

    /// What was written to one tenant since a generation: its facts if the change log reaches back so far, else all
    /// of its rows.
    pub async fn refresh(&self, tenant: TenantId, since: Since) -> Result<Refresh, ReadError> {
        let mut transaction = self.database.read().await?;
        let epoch = epoch(&mut transaction).await?;
        if let Since::Generation(since) = since
            && let Some(facts) = facts_since(&mut transaction, epoch, tenant, since).await?
        {
            return Ok(facts);
        }
        let whole = tenant_rows(&mut transaction, epoch, Some(tenant)).await?.pop();
        whole.map(|rows| Refresh::Whole(Box::new(rows))).ok_or(ReadError::TenantAbsent(tenant))
    }

    /// Makes a commit true, all of it or nothing, its secrets as they were sealed.
    ///
    /// [`CommitError::Unavailable`] may mean that the connection broke while the database was asked to commit, and
    /// that it did: the next commit of the same version then ends as [`CommitError::Conflict`].
    pub async fn commit(&self, commit: &Commit, sealed: &Sealed) -> Result<(), CommitError> {
        let id = AuditId::new(commit.audit.at);
        let mut attempts = 1;
        loop {
            return match self.try_commit(commit, sealed, id).await {
                Ok(()) => Ok(()),
                Err(Failed::Database(e)) if e.kind == Kind::Raced && attempts < WRITE_ATTEMPTS_MAX => {
                    attempts += 1;
                    continue;
                }
                // The answer to COMMIT was lost: the audit row says whether it happened.
                Err(Failed::Database(e)) if e.kind == Kind::Unreachable && self.has_audit(id).await => {
                    tracing::info!(error = %e.chain(), "the database committed before its connection broke");
                    Ok(())
                }
                Err(Failed::Database(e)) if e.kind == Kind::Taken => {
                    tracing::debug!(error = %e.chain(), "a commit would break a uniqueness");
                    Err(CommitError::Conflict)
                }
                Err(Failed::Database(e)) => Err(CommitError::Unavailable(self.noting_room(e).chain())),
                Err(Failed::Corrupt(e)) => Err(CommitError::Unavailable(e.to_string())),
                Err(Failed::Conflict) => Err(CommitError::Conflict),
                Err(Failed::TokenUsed) => Err(CommitError::TokenUsed),
            };
        }
    }

    async fn try_commit(&self, commit: &Commit, sealed: &Sealed, id: AuditId) -> Result<(), Failed> {
        let mut transaction = self.database.write().await?;
        if commit.expect.generation == Generation::default() {
            found(&mut transaction, commit, sealed.anchor.as_deref()).await?;
        } else {
            advance(&mut transaction, commit).await?;
        }
        redeem(&mut transaction, commit).await?;
        if commit.facts.iter().any(|fact| matches!(fact, Fact::Tenant(tenant) if tenant.hub_port.is_some())) {
            // Of two that come at once, one waits here, and then counts the other.
            migrate::ask_for_hub_ports(&mut transaction).await?;
            room_for_hub_port(&mut transaction, commit.tenant).await?;
        }
        for (position, fact) in (0_i64..).zip(&commit.facts) {
            write_fact(&mut transaction, commit, position, fact).await?;
        }
        authorities::keep_keys(&mut transaction, commit, &sealed.keys).await?;
        prune_changes(&mut transaction, commit).await?;
        audit::append(&mut transaction, id, &commit.audit).await?;
        Ok(transaction.commit().await?)
    }

    async fn has_audit(&self, id: AuditId) -> bool {
        let Ok(mut transaction) = self.database.read().await else { return false };
        let row = transaction.optional("SELECT 1 FROM audit WHERE id = $1", values![id.to_string()]).await;
        matches!(row, Ok(Some(_)))
    }
}

/// All that a server reads at its start.
pub(crate) async fn everything(transaction: &mut Transaction) -> Result<Loaded, ReadError> {
    let epoch = epoch(transaction).await?;
    let tenants = tenant_rows(transaction, epoch, None).await?;
    let presence = presence::all(transaction).await?;
    Ok(Loaded { epoch, tenants, presence })
}

/// Why a transaction was given up.
enum Failed {
    Conflict,
    TokenUsed,
    Database(DatabaseError),
    Corrupt(Corrupt),
}

impl From<DatabaseError> for Failed {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<Corrupt> for Failed {
    fn from(error: Corrupt) -> Self {
        Self::Corrupt(error)
    }
}

/// Makes the directory of a new tenant, unless its block overlaps another's.
async fn found(
    transaction: &mut Transaction,
    commit: &Commit,
    sealed_anchor: Option<&[u8]>,
) -> Result<(), Failed> {
    let row = transaction.optional(dialect::LOCK_SERVER, vec![]).await?;
    let epoch = row.map(|row| Fields::of_row("server", "epoch", &row).number("epoch")).transpose()?;
    if epoch != Some(commit.expect.epoch.0) {
        return Err(Failed::Conflict);
    }
    let rows = transaction.all("SELECT * FROM tenants WHERE deleted_at IS NULL", vec![]).await?;
    for row in &rows {
        let other = rows::tenant(&Fields::of_row("tenants", "id", row))?;
        let overlaps = |fact: &Fact| matches!(fact, Fact::Tenant(new) if new.block.overlaps(&other.block));
        if commit.facts.iter().any(overlaps) {
            return Err(Failed::Conflict);
        }
    }
    let sql = "INSERT INTO directories (tenant_id, generation, devices_count, sealed_anchor) VALUES ($1, $2, $3, $4)";
    let generation = signed(commit.result().generation.0);
    transaction
        .execute(sql, values![commit.tenant.to_string(), generation, commit.devices_count, sealed_anchor])
        .await?;
    Ok(())
}

/// The compare-and-set, fenced by the term of whoever holds the lease. From here to the end of the transaction nobody else writes to the tenant.
async fn advance(transaction: &mut Transaction, commit: &Commit) -> Result<(), Failed> {
    let sql = "UPDATE directories SET generation = $1, devices_count = $2 WHERE tenant_id = $3 AND generation = $4 \
               AND EXISTS (SELECT 1 FROM server WHERE epoch = $5) \
               AND ($6 IS NULL OR EXISTS (SELECT 1 FROM lease WHERE term = $6))";
    let (from, to) = (commit.expect, commit.result());
    let arguments = values![
        signed(to.generation.0),
        commit.devices_count,
        commit.tenant.to_string(),
        signed(from.generation.0),
        from.epoch.0,
        commit.term.map(|term| signed(term.0)),
    ];
    if transaction.execute(sql, arguments).await? == 1 { Ok(()) } else { Err(Failed::Conflict) }
}

/// So many tenants have an interface of their own and no more, whichever replica gave it. Who has one keeps it.
async fn room_for_hub_port(transaction: &mut Transaction, tenant: TenantId) -> Result<(), Failed> {
    let rows = transaction.all("SELECT id FROM tenants WHERE hub_port IS NOT NULL", vec![]).await?;
    let id = |row: &Row| Fields::of_row("tenants", "id", row).parsed::<TenantId>("id");
    let with_ports = rows.iter().map(id).collect::<Result<Vec<_>, _>>()?;
    let has_room = with_ports.len() < OWN_INTERFACES_MAX || with_ports.contains(&tenant);
    if has_room { Ok(()) } else { Err(Failed::Conflict) }
}

/// Takes one use of the token, if one is left.
async fn redeem(transaction: &mut Transaction, commit: &Commit) -> Result<(), Failed> {
    let Some(token) = commit.redeems else { return Ok(()) };
    let sql = "UPDATE tokens SET uses = uses + 1 WHERE id = $1 AND tenant_id = $2 \
               AND uses < uses_max AND revoked_at IS NULL AND expires_at > $3";
    let arguments = values![token.to_string(), commit.tenant.to_string(), commit.audit.at.unix_micros()];
    if transaction.execute(sql, arguments).await? == 1 { Ok(()) } else { Err(Failed::TokenUsed) }
}

async fn write_fact(
    transaction: &mut Transaction,
    commit: &Commit,
    position: i64,
    fact: &Fact,
) -> Result<(), Failed> {
    let encoded = rows::encode(fact);
    let json = to_json(&encoded.columns).to_string();
    let kind = encoded.kind;
    let must_touch = matches!(encoded.write, Write::Set);
    let (sql, arguments) = encoded::statement(encoded, commit.tenant);
    let touched = transaction.execute_built(sql, arguments).await?;
    // A row of that key belongs to another tenant.
    if must_touch && touched != 1 {
        return Err(Failed::Conflict);
    }
    let sql = "INSERT INTO changes (tenant_id, generation, position, kind, fact) VALUES ($1, $2, $3, $4, $5)";
    let generation = signed(commit.result().generation.0);
    transaction.execute(sql, values![commit.tenant.to_string(), generation, position, kind, json]).await?;
    match fact {
        Fact::Ssh(fact) => Ok(authorities::follow(transaction, commit.tenant, fact, commit.audit.at).await?),
        _ => Ok(()),
    }
}

async fn prune_changes(transaction: &mut Transaction, commit: &Commit) -> Result<(), DatabaseError> {
    let oldest = commit.result().generation.0.saturating_sub(GENERATIONS_KEPT);
    let sql = "DELETE FROM changes WHERE tenant_id = $1 AND generation <= $2";
    transaction.execute(sql, values![commit.tenant.to_string(), signed(oldest)]).await?;
    Ok(())
}

async fn epoch(transaction: &mut Transaction) -> Result<Epoch, ReadError> {
    let row = transaction.optional("SELECT epoch FROM server WHERE id = 1", vec![]).await?;
    let absent = || Corrupt { table: "server", id: "1".into(), column: "epoch", why: "is not there".into() };
    let row = row.ok_or_else(absent)?;
    Ok(Epoch(Fields::of_row("server", "epoch", &row).number("epoch")?))
}

fn version(epoch: Epoch, fields: &Fields<'_>) -> Result<Version, Corrupt> {
    Ok(Version { epoch, generation: Generation(fields.number("generation")?) })
}

/// `None` where the change log does not say: the tenant is absent, ahead, or too far behind.
async fn facts_since(
    transaction: &mut Transaction,
    epoch: Epoch,
    tenant: TenantId,
    since: Generation,
) -> Result<Option<Refresh>, ReadError> {
    let id = tenant.to_string();
    let sql = "SELECT tenant_id, generation, devices_count FROM directories WHERE tenant_id = $1";
    let Some(row) = transaction.optional(sql, values![id.as_str()]).await? else { return Ok(None) };
    let fields = Fields::of_row("directories", "tenant_id", &row);
    let (version, devices_count) = (version(epoch, &fields)?, fields.number("devices_count")?);
    let Some(missed) = version.generation.0.checked_sub(since.0) else { return Ok(None) };
    let sql = "SELECT generation, position, kind, fact FROM changes WHERE tenant_id = $1 AND generation > $2 \
               ORDER BY generation, position";
    let rows = transaction.all(sql, values![id.as_str(), signed(since.0)]).await?;
    let mut facts = Vec::with_capacity(rows.len());
    let mut generations = 0;
    for row in &rows {
        let fields = Fields::of_row("changes", "kind", row);
        let place =
            format!("{tenant} {} {}", fields.number::<u64>("generation")?, fields.number::<u64>("position")?);
        generations += u64::from(fields.number::<u64>("position")? == 0);
        let corrupt = |why: String| Corrupt { table: "changes", id: place.clone(), column: "fact", why };
        let json = serde_json::from_str(&fields.text("fact")?).map_err(|e| corrupt(e.to_string()))?;
        let kind = fields.text("kind")?;
        facts.push(rows::decode(&kind, &Fields::of_json("changes", place, &json))?);
    }
    // Every generation has its facts, or the log does not reach back.
    let complete = generations == missed;
    Ok(complete.then_some(Refresh::Facts { version, devices_count, facts }))
}

/// All rows of one tenant, or of all.
async fn tenant_rows(
    transaction: &mut Transaction,
    epoch: Epoch,
    only: Option<TenantId>,
) -> Result<Vec<TenantRows>, ReadError> {
    let only = only.map(|tenant| tenant.to_string());
    let sql = "SELECT * FROM directories JOIN tenants ON id = tenant_id WHERE $1 IS NULL OR tenant_id = $1 ORDER BY id";
    let heads = transaction.all(sql, values![only.clone()]).await?;
    let sql = "SELECT * FROM devices WHERE $1 IS NULL OR tenant_id = $1 ORDER BY id";
    let mut devices: ByTenant<Device> = by_tenant(transaction, sql, &only, "devices", rows::device).await?;
    let sql = "SELECT * FROM tokens WHERE $1 IS NULL OR tenant_id = $1 ORDER BY id";
    let mut tokens: ByTenant<Token> = by_tenant(transaction, sql, &only, "tokens", rows::token).await?;
    let sql = "SELECT * FROM records WHERE $1 IS NULL OR tenant_id = $1 ORDER BY name, kind, value";
    let mut records: ByTenant<DnsEntry> = by_tenant(transaction, sql, &only, "records", rows::record).await?;
    let sql = "SELECT * FROM hubs WHERE $1 IS NULL OR tenant_id = $1";
    let mut hubs: ByTenant<Hub> = by_tenant(transaction, sql, &only, "hubs", rows::hub).await?;
    let mut ssh = ssh_rows_of(transaction, &only).await?;
    let mut tenants = Vec::with_capacity(heads.len());
    for row in &heads {
        let fields = Fields::of_row("tenants", "id", row);
        let tenant: Tenant = rows::tenant(&fields)?;
        let id = tenant.id;
        tenants.push(TenantRows {
            tenant,
            version: version(epoch, &fields)?,
            devices_count: fields.number("devices_count")?,
            sealed_anchor: fields.bytes("sealed_anchor")?,
            devices: devices.remove(&id).unwrap_or_default(),
            tokens: tokens.remove(&id).unwrap_or_default(),
            records: records.remove(&id).unwrap_or_default(),
            hub: hubs.remove(&id).unwrap_or_default().pop(),
            ssh: ssh.remove(&id).unwrap_or_default(),
        });
    }
    Ok(tenants)
}

async fn ssh_rows_of(
    transaction: &mut Transaction,
    only: &Option<String>,
) -> Result<BTreeMap<TenantId, SshRows>, ReadError> {
    let mut found = BTreeMap::<TenantId, SshRows>::new();
    let sql = "SELECT * FROM authorities WHERE $1 IS NULL OR tenant_id = $1 ORDER BY kind";
    for (tenant, rows) in by_tenant(transaction, sql, only, "authorities", ssh_rows::authority).await? {
        found.entry(tenant).or_default().authorities = rows;
    }
    let sql = "SELECT * FROM authority_keys WHERE $1 IS NULL OR tenant_id = $1 ORDER BY kind, generation";
    for (tenant, rows) in by_tenant(transaction, sql, only, "authority_keys", ssh_rows::key).await? {
        found.entry(tenant).or_default().keys = rows;
    }
    let sql = "SELECT * FROM revocations WHERE $1 IS NULL OR tenant_id = $1 ORDER BY kind, what";
    for (tenant, rows) in by_tenant(transaction, sql, only, "revocations", ssh_rows::revocation).await? {
        found.entry(tenant).or_default().revocations = rows;
    }
    let sql = "SELECT * FROM ssh_roles WHERE $1 IS NULL OR tenant_id = $1 ORDER BY name";
    for (tenant, rows) in by_tenant(transaction, sql, only, "ssh_roles", ssh_rows::role).await? {
        found.entry(tenant).or_default().roles = rows;
    }
    let sql = "SELECT * FROM ssh_administrators WHERE $1 IS NULL OR tenant_id = $1";
    let read = ssh_rows::administrators;
    for (tenant, rows) in by_tenant(transaction, sql, only, "ssh_administrators", read).await? {
        found.entry(tenant).or_default().administrators = rows.into_iter().flatten().collect();
    }
    let sql = "SELECT * FROM ssh_host_keys WHERE $1 IS NULL OR tenant_id = $1 ORDER BY device_id";
    for (tenant, rows) in by_tenant(transaction, sql, only, "ssh_host_keys", ssh_rows::host_key).await? {
        found.entry(tenant).or_default().host_keys = rows;
    }
    Ok(found)
}

type ByTenant<T> = BTreeMap<TenantId, Vec<T>>;

async fn by_tenant<T>(
    transaction: &mut Transaction,
    sql: &'static str,
    only: &Option<String>,
    table: &'static str,
    read: fn(&Fields<'_>) -> Result<T, Corrupt>,
) -> Result<ByTenant<T>, ReadError> {
    let rows = transaction.all(sql, values![only.clone()]).await?;
    let mut found = ByTenant::<T>::new();
    let key = match table {
        "records" | "ssh_roles" => "name",
        "hubs" | "authorities" | "authority_keys" | "ssh_administrators" => "tenant_id",
        "ssh_host_keys" => "device_id",
        "revocations" => "what",
        _ => "id",
    };
    for row in &rows {
        let fields = Fields::of_row(table, key, row);
        found.entry(fields.parsed("tenant_id")?).or_default().push(read(&fields)?);
    }
    Ok(found)
}

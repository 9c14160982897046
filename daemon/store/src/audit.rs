//! The audit log: written with the change that it tells of, read newest first. Never changed; numbered, chained and pruned
//! in [`crate::audit_chain`].

use std::fmt;
use std::str::FromStr;

use control::{AuditEntry, Trace};
use model::{Code, Digest, TenantId, Timestamp};

use crate::error::{Corrupt, DatabaseError, ReadError};
use crate::fields::{Fields, digest_of};
use crate::sql::{Row, Transaction, values};
use crate::store::Store;

/// Entries of one page at most.
pub const AUDIT_PAGE_MAX: u32 = 1_000;

/// The key of an entry: a UUIDv7, so that entries of one microsecond keep an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AuditId(model::id::AuditId);

impl AuditId {
    pub(crate) fn new(at: Timestamp) -> Self {
        let mut random = [0; 10];
        getrandom::fill(&mut random).expect("the kernel has random bytes");
        Self(model::id::AuditId::new(at, random))
    }
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a page of the audit log ended. Prints as one word and reads back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor {
    at: Timestamp,
    id: AuditId,
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.unix_micros(), self.id)
    }
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is what the page before gave")]
pub struct BadCursor;

impl FromStr for AuditCursor {
    type Err = BadCursor;
    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (at, id) = text.split_once('.').ok_or(BadCursor)?;
        Ok(Self {
            at: Timestamp::from_unix_micros(at.parse().map_err(|_| BadCursor)?),
            id: AuditId(id.parse().map_err(|_| BadCursor)?),
        })
    }
}

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Its key.
    pub id: model::id::AuditId,
    /// Its place in the chain and the chain's digest there, once it has one.
    pub link: Option<(u64, Digest)>,
    /// What it tells.
    pub entry: AuditEntry,
}

/// Some entries, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// At most as many as were asked for.
    pub rows: Vec<AuditRow>,
    /// Where the next page begins, if there are older ones.
    pub next: Option<AuditCursor>,
}

impl Store {
    /// Writes one entry alone: a refusal, a failed login.
    pub async fn append_audit(&self, entry: &AuditEntry) -> Result<(), DatabaseError> {
        let mut transaction = self.database.write().await?;
        append(&mut transaction, AuditId::new(entry.at), entry).await?;
        transaction.commit().await
    }

    /// The newest entries, of one tenant or of all, older than the cursor. `limit` is 1 to [`AUDIT_PAGE_MAX`].
    pub async fn audit_list(
        &self,
        tenant: Option<TenantId>,
        before: Option<AuditCursor>,
        limit: u32,
    ) -> Result<AuditPage, ReadError> {
        let limit = limit.clamp(1, AUDIT_PAGE_MAX);
        let sql = "SELECT * FROM audit WHERE ($1 IS NULL OR tenant_id = $1) \
                   AND ($2 IS NULL OR at < $2 OR (at = $2 AND id < $3)) ORDER BY at DESC, id DESC LIMIT $4";
        let arguments = values![
            tenant.map(|t| t.to_string()),
            before.map(|c| c.at.unix_micros()),
            before.map(|c| c.id.to_string()),
            // One more says whether there is a next page.
            limit + 1,
        ];
        let mut rows = self.database.read().await?.all(sql, arguments).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let last = rows.last().filter(|_| more).map(cursor).transpose()?;
        Ok(AuditPage { rows: rows.iter().map(row).collect::<Result<_, _>>()?, next: last })
    }
}

/// Writes one entry within the transaction of its change.
pub(crate) async fn append(
    transaction: &mut Transaction,
    id: AuditId,
    entry: &AuditEntry,
) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO audit (id, at, tenant_id, actor, action, target, refused, detail, source, request) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let arguments = values![
        id.to_string(),
        entry.at.unix_micros(),
        entry.tenant.map(|t| t.to_string()),
        entry.actor.to_string(),
        printable(&entry.action),
        printable(&entry.target),
        entry.refused.map(Code::as_str),
        printable(&entry.detail),
        entry.trace.source.map(|source| source.to_string()),
        entry.trace.request.as_deref().map(printable),
    ];
    transaction.execute(sql, arguments).await?;
    Ok(())
}

/// PostgreSQL stores no NUL, and an entry must not be lost for one that a stranger sent.
fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn cursor(row: &Row) -> Result<AuditCursor, Corrupt> {
    let fields = Fields::of_row("audit", "id", row);
    Ok(AuditCursor { at: fields.time("at")?, id: AuditId(fields.parsed("id")?) })
}

pub(crate) fn row(row: &Row) -> Result<AuditRow, Corrupt> {
    let fields = Fields::of_row("audit", "id", row);
    let link = match fields.number_or_null::<u64>("sequence")? {
        None => None,
        Some(sequence) => Some((sequence, digest_of(&fields, "hash")?)),
    };
    Ok(AuditRow { id: fields.parsed("id")?, link, entry: entry(row)? })
}

fn entry(row: &Row) -> Result<AuditEntry, Corrupt> {
    let fields = Fields::of_row("audit", "id", row);
    let refused = fields.text_or_null("refused")?;
    let code =
        |text: String| text.parse().map_err(|()| fields.corrupt("refused", format!("{text:?} is no code")));
    Ok(AuditEntry {
        at: fields.time("at")?,
        tenant: fields.parsed_or_null("tenant_id")?,
        actor: fields.parsed("actor")?,
        action: fields.text("action")?,
        target: fields.text("target")?,
        refused: refused.map(code).transpose()?,
        detail: fields.text("detail")?,
        trace: Trace { source: fields.parsed_or_null("source")?, request: fields.text_or_null("request")? },
    })
}

//! The links of the audit log's chain: what each digest is of, and whether one follows another.
//!
//! ```text
//! now      hash = H(before, number, at, class, content)   content = H(every column): enough is left of a forgotten entry
//! before   hash = H(before, number, at, every column)     such an entry is forgotten with all that came before it only
//! ```

use std::collections::BTreeMap;

use control::AuditClass;
use model::{Digest, Timestamp};

use crate::encoded::signed;
use crate::error::{Corrupt, DatabaseError};
use crate::fields::{Fields, digest_of};
use crate::sql::{Row, Transaction, values};

/// An entry, or what is left of it, is not what the chain says.
const CHANGED: &str = "an entry is not as it was written";
const TOO_EARLY: &str = "an entry was forgotten before its time";

/// A place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of the entry there; 0 before the first.
    pub(crate) sequence: u64,
    /// The chain's digest there.
    pub(crate) hash: Digest,
}

/// Of which number the entry is not what the chain says, and why.
pub(crate) type Broken = (u64, &'static str);

impl Place {
    /// The next place, if the row is what follows. `forgotten` is until when entries may be forgotten.
    pub(crate) fn next(self, row: &Row, forgotten: &BTreeMap<AuditClass, Timestamp>) -> Result<Self, Broken> {
        let sequence = self.sequence + 1;
        let fields = Fields::of_row("audit", "id", row);
        if fields.number("sequence") != Ok(sequence) {
            return Err((sequence, "an entry is missing"));
        }
        let hash = if is_there(row) {
            of_entry(&self.hash, sequence, row)
        } else {
            of_forgotten(&self.hash, sequence, row, forgotten)
        };
        let hash = hash.map_err(|why| (sequence, why))?;
        // What does not even read was not written so.
        let holds = digest_of(&fields, "hash").is_ok_and(|kept| kept == hash);
        holds.then_some(Self { sequence, hash }).ok_or((sequence, CHANGED))
    }
}

/// Whether of a link the entry is there, and not only what is left of it.
pub(crate) fn is_there(row: &Row) -> bool {
    row.text("id").is_ok_and(|id| id.is_some())
}

/// Links after a number: entries, and of those that are forgotten what is left, which have no id.
pub(crate) async fn links_after(
    transaction: &mut Transaction,
    sequence: u64,
    limit: u32,
) -> Result<Vec<Row>, DatabaseError> {
    let sql = "SELECT id, sequence, hash, at, class, content, tenant_id, actor, action, target, refused, detail, source, \
               request FROM audit WHERE sequence > $1 UNION ALL \
               SELECT NULL, sequence, hash, at, class, content, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
               FROM audit_forgotten WHERE sequence > $1 ORDER BY sequence LIMIT $2";
    transaction.all(sql, values![signed(sequence), limit]).await
}

/// What the chain holds of an entry, and goes on holding when it is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) at: Timestamp,
    pub(crate) class: AuditClass,
    /// Of all its columns.
    pub(crate) content: Digest,
}

impl Link {
    /// The chain's digest there.
    pub(crate) fn hash(&self, before: &Digest, sequence: u64) -> Digest {
        let at = self.at.unix_micros().to_be_bytes();
        let parts: [&[u8]; 5] = [
            before.as_bytes(),
            &sequence.to_be_bytes(),
            &at,
            self.class.as_str().as_bytes(),
            self.content.as_bytes(),
        ];
        Digest::of("warren audit 3", &parts)
    }

    /// As it is kept; `None` of an entry from before there were classes.
    fn kept(fields: &Fields<'_>) -> Result<Option<Self>, Corrupt> {
        let Some(class) = fields.parsed_or_null("class")? else { return Ok(None) };
        Ok(Some(Self { at: fields.time("at")?, class, content: digest_of(fields, "content")? }))
    }
}

/// The digest of an entry, of every column as it is kept.
pub(crate) fn content(row: &Row) -> Result<Digest, Corrupt> {
    let texts = texts(row, PLAIN.iter().chain(TRACED))?;
    Ok(Digest::of("warren audit entry", &texts.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// The chain's digest at an entry, or why it is none.
fn of_entry(before: &Digest, sequence: u64, row: &Row) -> Result<Digest, &'static str> {
    let kept = Link::kept(&Fields::of_row("audit", "id", row)).map_err(|_| CHANGED)?;
    match kept {
        None => of_whole(before, sequence, row).map_err(|_| CHANGED),
        Some(link) if content(row).is_ok_and(|content| content == link.content) => {
            Ok(link.hash(before, sequence))
        }
        Some(_) => Err(CHANGED),
    }
}

/// The chain's digest at an entry that was forgotten, or why it is none. `forgotten` is until when that may be.
fn of_forgotten(
    before: &Digest,
    sequence: u64,
    row: &Row,
    forgotten: &BTreeMap<AuditClass, Timestamp>,
) -> Result<Digest, &'static str> {
    let link = Link::kept(&Fields::of_row("audit_forgotten", "sequence", row));
    let link = link.ok().flatten().ok_or(CHANGED)?;
    if forgotten.get(&link.class).is_none_or(|until| link.at >= *until) {
        return Err(TOO_EARLY);
    }
    Ok(link.hash(before, sequence))
}

/// Columns of every entry.
const PLAIN: &[&str] = &["id", "tenant_id", "actor", "action", "target", "refused", "detail"];
/// Columns of an entry that says where it came from.
const TRACED: &[&str] = &["source", "request"];

/// The chain's digest at an entry from before there were classes.
fn of_whole(before: &Digest, sequence: u64, row: &Row) -> Result<Digest, Corrupt> {
    let fields = Fields::of_row("audit", "id", row);
    let traced = fields.text_or_null("source")?.is_some() || fields.text_or_null("request")?.is_some();
    let (domain, more) = if traced { ("warren audit 2", TRACED) } else { ("warren audit 1", &[][..]) };
    let at = fields.time("at")?.unix_micros().to_be_bytes();
    let number = sequence.to_be_bytes();
    let texts = texts(row, PLAIN.iter().chain(more))?;
    let parts: Vec<&[u8]> =
        [&before.as_bytes()[..], &number, &at].into_iter().chain(texts.iter().map(Vec::as_slice)).collect();
    Ok(Digest::of(domain, &parts))
}

fn texts<'a>(row: &Row, columns: impl Iterator<Item = &'a &'static str>) -> Result<Vec<Vec<u8>>, Corrupt> {
    let fields = Fields::of_row("audit", "id", row);
    let framed = |column: &&'static str| {
        let text = fields.text_or_null(column)?;
        // What is absent is not what is empty, and no text runs into the next.
        let length = text.as_ref().map_or(u64::MAX, |text| text.len() as u64);
        Ok([&length.to_be_bytes()[..], text.unwrap_or_default().as_bytes()].concat())
    };
    columns.map(framed).collect()
}

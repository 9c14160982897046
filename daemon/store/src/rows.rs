//! The rows of a directory as columns, both ways. What the columns mean, `control::rows` says.

use std::collections::BTreeSet;
use std::time::Duration;

use control::{Closing, Device, DnsEntry, Fact, Hub, Kind, Stay, Tenant, Token};
use model::wire::Remark;
use model::{Abilities, Block, Label, Name, RecordData, Standing};

use crate::encoded::{Encoded, Table, Write, signed};
use crate::error::Corrupt;
use crate::fields::{Columns, Fields};
use crate::labels::{labels, labels_value};
use crate::sql::Value;
use crate::ssh_rows;

/// What the column `lapse` says of a device that has expired.
const EXPIRED: &str = "expired";

const TENANTS: Table = Table { name: "tenants", key: &["id"], tenant: None, frozen: &[] };
const DEVICES: Table = Table { name: "devices", key: &["id"], tenant: Some("tenant_id"), frozen: &[] };
// Only a redemption raises the uses: no edit that was decided earlier can take one back.
const TOKENS: Table = Table { name: "tokens", key: &["id"], tenant: Some("tenant_id"), frozen: &["uses"] };
const RECORDS: Table = Table {
    name: "records",
    key: &["tenant_id", "name", "kind", "value"],
    tenant: Some("tenant_id"),
    frozen: &[],
};
const HUBS: Table = Table { name: "hubs", key: &["tenant_id"], tenant: Some("tenant_id"), frozen: &[] };

/// A fact as its table, its columns and its kind.
pub(crate) fn encode(fact: &Fact) -> Encoded {
    let set = |table, kind, columns| Encoded { table, kind, write: Write::Set, columns };
    match fact {
        Fact::Tenant(row) => set(&TENANTS, "tenant", tenant_columns(row)),
        Fact::Device(row) => set(&DEVICES, "device", device_columns(row)),
        Fact::Token(row) => set(&TOKENS, "token", token_columns(row)),
        Fact::Record(row) => {
            let mut columns = record_key(&row.name, &row.data);
            columns.push(("ttl", row.ttl.into()));
            set(&RECORDS, "record", columns)
        }
        Fact::RecordGone { name, data } => Encoded {
            table: &RECORDS,
            kind: "record-gone",
            write: Write::Remove,
            columns: record_key(name, data),
        },
        Fact::Hub(row) => set(&HUBS, "hub", hub_columns(row)),
        Fact::Ssh(fact) => ssh_rows::encode(fact),
    }
}

/// The inverse of [`encode`].
pub(crate) fn decode(kind: &str, fields: &Fields<'_>) -> Result<Fact, Corrupt> {
    Ok(match kind {
        "tenant" => Fact::Tenant(tenant(fields)?),
        "device" => Fact::Device(device(fields)?),
        "token" => Fact::Token(token(fields)?),
        "record" => Fact::Record(record(fields)?),
        "record-gone" => {
            let (name, data) = record_of_key(fields)?;
            Fact::RecordGone { name, data }
        }
        "hub" => Fact::Hub(hub(fields)?),
        _ => {
            let unknown = || fields.corrupt("kind", format!("{kind:?} is unknown"));
            Fact::Ssh(ssh_rows::decode(kind, fields)?.ok_or_else(unknown)?)
        }
    })
}

fn tenant_columns(row: &Tenant) -> Columns {
    vec![
        ("id", row.id.to_string().into()),
        ("name", row.name.to_string().into()),
        ("suffix", row.suffix.to_string().into()),
        ("block_v4", row.block.v4().to_string().into()),
        ("block_v6", row.block.v6().to_string().into()),
        ("anchor", row.anchor.to_string().into()),
        ("created_at", row.created_at.unix_micros().into()),
        ("quota", row.quota.map(i64::from).into()),
        ("hub_port", row.hub_port.map(i64::from).into()),
        ("closed_at", row.closing.map(|closing| closing.since.unix_micros()).into()),
        ("erase_at", row.closing.map(|closing| closing.erase_at.unix_micros()).into()),
        ("deleted_at", row.deleted_at.map(|t| t.unix_micros()).into()),
    ]
}

pub(crate) fn tenant(fields: &Fields<'_>) -> Result<Tenant, Corrupt> {
    let block = Block::from_nets(fields.parsed("block_v4")?, fields.parsed("block_v6")?);
    Ok(Tenant {
        id: fields.parsed("id")?,
        name: fields.parsed("name")?,
        suffix: fields.parsed("suffix")?,
        block: block.map_err(|e| fields.corrupt("block_v4", e))?,
        anchor: fields.parsed("anchor")?,
        created_at: fields.time("created_at")?,
        quota: fields.number_or_null("quota")?,
        hub_port: fields.number_or_null("hub_port")?,
        closing: closing(fields)?,
        deleted_at: fields.time_or_null("deleted_at")?,
    })
}

fn closing(fields: &Fields<'_>) -> Result<Option<Closing>, Corrupt> {
    let Some(since) = fields.time_or_null("closed_at")? else { return Ok(None) };
    Ok(Some(Closing { since, erase_at: fields.time("erase_at")? }))
}

fn seconds(duration: Option<Duration>) -> Value {
    duration.map(|duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)).into()
}

fn duration(fields: &Fields<'_>, column: &'static str) -> Result<Option<Duration>, Corrupt> {
    Ok(fields.number_or_null(column)?.map(Duration::from_secs))
}

fn device_columns(row: &Device) -> Columns {
    // The column `standing` takes three words. What reads no other sees a device that takes no part.
    let (standing, lapse) = match row.standing {
        Standing::Expired => (Standing::Pending, Some(EXPIRED)),
        standing => (standing, None),
    };
    // The columns were there before plain peers were: they are never NULL, and the first is unique.
    let (identity, token) = match &row.kind {
        Kind::Agent { identity, token } => (identity.to_string(), token.to_string()),
        Kind::Plain => (row.id.to_string(), String::new()),
    };
    vec![
        ("id", row.id.to_string().into()),
        ("name", row.name.to_string().into()),
        ("kind", row.kind.as_str().into()),
        ("identity", identity.into()),
        ("wireguard", row.wireguard.to_string().into()),
        ("number", row.number.into()),
        ("standing", standing.as_str().into()),
        ("lapse", lapse.into()),
        ("tags", tags_value(&row.tags)),
        ("labels", labels_value(&row.labels)),
        ("expires_at", row.expires_at.map(|t| t.unix_micros()).into()),
        ("idle_seconds", seconds(row.idle_max)),
        ("os", row.os.as_str().into()),
        ("abilities", row.abilities.bits().into()),
        ("enrolled_at", row.enrolled_at.unix_micros().into()),
        ("enrolled_by", token.into()),
        ("approved_at", row.approved_at.map(|t| t.unix_micros()).into()),
        ("revoked_at", row.revoked_at.map(|t| t.unix_micros()).into()),
    ]
}

pub(crate) fn device(fields: &Fields<'_>) -> Result<Device, Corrupt> {
    Ok(Device {
        id: fields.parsed("id")?,
        name: fields.parsed("name")?,
        kind: kind(fields)?,
        wireguard: fields.parsed("wireguard")?,
        number: fields.number("number")?,
        standing: standing(fields)?,
        tags: tags(fields)?,
        labels: labels(fields)?,
        expires_at: fields.time_or_null("expires_at")?,
        idle_max: duration(fields, "idle_seconds")?,
        os: Remark::new(&fields.text("os")?),
        // The change log has facts of before.
        abilities: Abilities::from_bits(fields.number_or_null("abilities")?.unwrap_or_default()),
        enrolled_at: fields.time("enrolled_at")?,
        approved_at: fields.time_or_null("approved_at")?,
        revoked_at: fields.time_or_null("revoked_at")?,
    })
}

/// The change log has facts of before there were kinds.
fn kind(fields: &Fields<'_>) -> Result<Kind, Corrupt> {
    match fields.text_or_null("kind")?.as_deref() {
        None | Some("agent") => {
            Ok(Kind::Agent { identity: fields.parsed("identity")?, token: fields.parsed("enrolled_by")? })
        }
        Some("plain") => Ok(Kind::Plain),
        Some(other) => Err(fields.corrupt("kind", format!("{other:?} is unknown"))),
    }
}

fn standing(fields: &Fields<'_>) -> Result<Standing, Corrupt> {
    let text = fields.text("standing")?;
    match fields.text_or_null("lapse")?.as_deref() {
        None => {}
        Some(EXPIRED) => return Ok(Standing::Expired),
        Some(other) => return Err(fields.corrupt("lapse", format!("{other:?} is unknown"))),
    }
    let all = [Standing::Pending, Standing::Active, Standing::Revoked];
    let found = all.into_iter().find(|standing| standing.as_str() == text);
    found.ok_or_else(|| fields.corrupt("standing", format!("{text:?} is unknown")))
}

fn token_columns(row: &Token) -> Columns {
    vec![
        ("id", row.id.to_string().into()),
        ("public_key", row.key.to_string().into()),
        ("created_at", row.created_at.unix_micros().into()),
        ("created_by", row.created_by.to_string().into()),
        ("expires_at", row.expires_at.unix_micros().into()),
        ("uses_max", row.uses_max.into()),
        ("uses", row.uses.into()),
        ("needs_approval", row.needs_approval.into()),
        ("tags", tags_value(&row.tags)),
        ("device_seconds", seconds(row.stay.expires_after)),
        ("idle_seconds", seconds(row.stay.idle_max)),
        ("revoked_at", row.revoked_at.map(|t| t.unix_micros()).into()),
    ]
}

pub(crate) fn token(fields: &Fields<'_>) -> Result<Token, Corrupt> {
    Ok(Token {
        id: fields.parsed("id")?,
        key: fields.parsed("public_key")?,
        created_at: fields.time("created_at")?,
        created_by: fields.parsed("created_by")?,
        expires_at: fields.time("expires_at")?,
        uses_max: fields.number("uses_max")?,
        uses: fields.number("uses")?,
        needs_approval: fields.bool("needs_approval")?,
        tags: tags(fields)?,
        stay: Stay {
            expires_after: duration(fields, "device_seconds")?,
            idle_max: duration(fields, "idle_seconds")?,
        },
        revoked_at: fields.time_or_null("revoked_at")?,
    })
}

fn record_key(name: &Name, data: &RecordData) -> Columns {
    vec![("name", name.to_string().into()), ("kind", data.kind().into()), ("value", data.to_string().into())]
}

fn record_of_key(fields: &Fields<'_>) -> Result<(Name, RecordData), Corrupt> {
    let data = RecordData::parse(&fields.text("kind")?, &fields.text("value")?);
    Ok((fields.parsed("name")?, data.map_err(|e| fields.corrupt("value", e))?))
}

pub(crate) fn record(fields: &Fields<'_>) -> Result<DnsEntry, Corrupt> {
    let (name, data) = record_of_key(fields)?;
    Ok(DnsEntry { name, data, ttl: fields.number("ttl")? })
}

fn hub_columns(row: &Hub) -> Columns {
    vec![
        ("wireguard", row.key.to_string().into()),
        ("serial", signed(row.serial).into()),
        ("endpoint", row.endpoint.to_string().into()),
        ("next", row.next.map(|key| key.to_string()).into()),
        ("retiring", row.retiring.map(|key| key.to_string()).into()),
    ]
}

pub(crate) fn hub(fields: &Fields<'_>) -> Result<Hub, Corrupt> {
    Ok(Hub {
        key: fields.parsed("wireguard")?,
        serial: fields.number("serial")?,
        endpoint: fields.parsed("endpoint")?,
        next: fields.parsed_or_null("next")?,
        retiring: fields.parsed_or_null("retiring")?,
    })
}

fn tags_value(tags: &BTreeSet<Label>) -> Value {
    let texts: Vec<&str> = tags.iter().map(Label::as_str).collect();
    serde_json::Value::from(texts).to_string().into()
}

fn tags(fields: &Fields<'_>) -> Result<BTreeSet<Label>, Corrupt> {
    serde_json::from_str(&fields.text("tags")?).map_err(|e| fields.corrupt("tags", e))
}

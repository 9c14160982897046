//! The rows of SSH authorities as columns, both ways. What the columns mean, `control::ssh` says.

use std::collections::BTreeSet;
use std::time::Duration;

use ca::{KeyGeneration, Rotation};
use control::{Authority, AuthorityKey, Revocation, SshFact, SshRole};
use model::{CaKind, DeviceId, HostKey, Label, Revoked};

use crate::encoded::{Encoded, Table, Write};
use crate::error::Corrupt;
use crate::fields::{Columns, Fields};
use crate::installed::list;
use crate::labels::{labels, labels_value};

const AUTHORITIES: Table =
    Table { name: "authorities", key: &["tenant_id", "kind"], tenant: Some("tenant_id"), frozen: &[] };
const KEYS: Table = Table {
    name: "authority_keys",
    key: &["tenant_id", "kind", "generation"],
    tenant: Some("tenant_id"),
    // What is trusted by hosts is never another.
    frozen: &["public_key"],
};
const REVOCATIONS: Table = Table {
    name: "revocations",
    key: &["tenant_id", "kind", "what"],
    tenant: Some("tenant_id"),
    frozen: &[],
};

const ROLES: Table =
    Table { name: "ssh_roles", key: &["tenant_id", "name"], tenant: Some("tenant_id"), frozen: &[] };
const ADMINISTRATORS: Table =
    Table { name: "ssh_administrators", key: &["tenant_id"], tenant: Some("tenant_id"), frozen: &[] };
const HOST_KEYS: Table =
    Table { name: "ssh_host_keys", key: &["tenant_id", "device_id"], tenant: Some("tenant_id"), frozen: &[] };

pub(crate) fn encode(fact: &SshFact) -> Encoded {
    let set = |table, kind, columns| Encoded { table, kind, write: Write::Set, columns };
    match fact {
        SshFact::Authority(row) => set(&AUTHORITIES, "authority", authority_columns(row)),
        SshFact::Key(row) => set(&KEYS, "authority-key", key_columns(row)),
        SshFact::Revocation(row) => {
            let mut columns = revocation_key(row.kind, &row.what);
            columns.push(("revoked_at", row.revoked_at.unix_micros().into()));
            columns.push(("until", row.until.unix_micros().into()));
            columns.push(("revoked_by", row.by.as_ref().map(ToString::to_string).into()));
            set(&REVOCATIONS, "revocation", columns)
        }
        SshFact::Role(row) => set(&ROLES, "role", role_columns(row)),
        SshFact::RoleGone { name } => Encoded {
            table: &ROLES,
            kind: "role-gone",
            write: Write::Remove,
            columns: vec![("name", name.to_string().into())],
        },
        SshFact::Administrators(names) => {
            set(&ADMINISTRATORS, "administrators", vec![("names", texts(names).into())])
        }
        SshFact::HostKey { device, key } => {
            let columns =
                vec![("device_id", device.to_string().into()), ("public_key", key.to_string().into())];
            set(&HOST_KEYS, "host-key", columns)
        }
        SshFact::RevocationGone { kind, what } => Encoded {
            table: &REVOCATIONS,
            kind: "revocation-gone",
            write: Write::Remove,
            columns: revocation_key(*kind, what),
        },
    }
}

/// The inverse of [`encode`]; `None` if the kind is none of these.
pub(crate) fn decode(kind: &str, fields: &Fields<'_>) -> Result<Option<SshFact>, Corrupt> {
    Ok(Some(match kind {
        "authority" => SshFact::Authority(authority(fields)?),
        "authority-key" => SshFact::Key(key(fields)?),
        "revocation" => SshFact::Revocation(revocation(fields)?),
        "revocation-gone" => {
            SshFact::RevocationGone { kind: fields.parsed("kind")?, what: fields.parsed("what")? }
        }
        "role" => SshFact::Role(role(fields)?),
        "role-gone" => SshFact::RoleGone { name: fields.parsed("name")? },
        "administrators" => SshFact::Administrators(administrators(fields)?),
        "host-key" => {
            let (device, key) = host_key(fields)?;
            SshFact::HostKey { device, key }
        }
        _ => return Ok(None),
    }))
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    serde_json::Value::from(texts).to_string()
}

fn role_columns(row: &SshRole) -> Columns {
    vec![
        ("name", row.name.to_string().into()),
        ("administrators", row.administrators.into()),
        ("identities", texts(&row.identities).into()),
        ("own_login", row.own_login.into()),
        ("logins", texts(&row.logins).into()),
        ("tags", texts(&row.tags).into()),
        ("labels", labels_value(&row.labels)),
        ("session_seconds", i64::try_from(row.session_max.as_secs()).unwrap_or(i64::MAX).into()),
        ("permits", texts(row.permits.iter().map(|permit| permit.as_str())).into()),
    ]
}

pub(crate) fn role(fields: &Fields<'_>) -> Result<SshRole, Corrupt> {
    Ok(SshRole {
        name: fields.parsed("name")?,
        administrators: fields.bool("administrators")?,
        identities: list(fields, "identities", &fields.text("identities")?)?,
        own_login: fields.bool("own_login")?,
        logins: list(fields, "logins", &fields.text("logins")?)?,
        tags: list(fields, "tags", &fields.text("tags")?)?,
        labels: labels(fields)?,
        session_max: Duration::from_secs(fields.number("session_seconds")?),
        permits: list(fields, "permits", &fields.text("permits")?)?,
    })
}

pub(crate) fn administrators(fields: &Fields<'_>) -> Result<BTreeSet<Label>, Corrupt> {
    list(fields, "names", &fields.text("names")?)
}

pub(crate) fn host_key(fields: &Fields<'_>) -> Result<(DeviceId, HostKey), Corrupt> {
    Ok((fields.parsed("device_id")?, fields.parsed("public_key")?))
}

fn authority_columns(row: &Authority) -> Columns {
    let rotation = &row.rotation;
    let exempt: Vec<String> = rotation.exempt.iter().map(DeviceId::to_string).collect();
    vec![
        ("kind", rotation.kind.as_str().into()),
        ("phase", rotation.phase.as_str().into()),
        ("active", rotation.active.0.into()),
        ("next", rotation.next.map(|key| i64::from(key.0)).into()),
        ("signs", rotation.signs().0.into()),
        ("since", rotation.since.unix_micros().into()),
        ("exempt", serde_json::Value::from(exempt).to_string().into()),
        ("keys_made", row.keys_made.into()),
    ]
}

pub(crate) fn authority(fields: &Fields<'_>) -> Result<Authority, Corrupt> {
    let exempt: BTreeSet<DeviceId> =
        serde_json::from_str(&fields.text("exempt")?).map_err(|e| fields.corrupt("exempt", e))?;
    let rotation = Rotation {
        kind: fields.parsed("kind")?,
        phase: fields.parsed("phase")?,
        active: KeyGeneration(fields.number("active")?),
        next: fields.number_or_null("next")?.map(KeyGeneration),
        since: fields.time("since")?,
        exempt,
    };
    Ok(Authority { rotation, keys_made: fields.number("keys_made")? })
}

fn key_columns(row: &AuthorityKey) -> Columns {
    vec![
        ("kind", row.kind.as_str().into()),
        ("generation", row.generation.0.into()),
        ("public_key", row.public.to_string().into()),
        ("created_at", row.created_at.unix_micros().into()),
        ("erased_at", row.erased_at.map(|t| t.unix_micros()).into()),
    ]
}

pub(crate) fn key(fields: &Fields<'_>) -> Result<AuthorityKey, Corrupt> {
    Ok(AuthorityKey {
        kind: fields.parsed("kind")?,
        generation: KeyGeneration(fields.number("generation")?),
        public: fields.parsed("public_key")?,
        created_at: fields.time("created_at")?,
        erased_at: fields.time_or_null("erased_at")?,
    })
}

fn revocation_key(kind: CaKind, what: &Revoked) -> Columns {
    vec![("kind", kind.as_str().into()), ("what", what.to_string().into())]
}

pub(crate) fn revocation(fields: &Fields<'_>) -> Result<Revocation, Corrupt> {
    Ok(Revocation {
        kind: fields.parsed("kind")?,
        what: fields.parsed("what")?,
        revoked_at: fields.time("revoked_at")?,
        until: fields.time("until")?,
        by: fields.parsed_or_null("revoked_by")?,
    })
}

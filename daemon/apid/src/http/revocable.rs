//! What may be revoked: what this server gave out, to whom it knows. Revokes nothing.

use std::collections::BTreeSet;

use model::{CaKind, CertificateId, Code, Label, Refusal, Revoked, SshIdentity, TenantId};
use store::{CertificatesOf, User};

use super::App;
use super::problem::unavailable;
use crate::clock::wall;

/// Refuses what names nothing: whoever mistyped it would think that it is taken back.
pub async fn check(
    app: &App,
    (tenant, name): (TenantId, &Label),
    kind: CaKind,
    what: &[Revoked],
) -> Result<(), Refusal> {
    for what in what {
        let known = match what {
            Revoked::Serial(serial) => {
                let row = app.store.certificate(tenant, kind, *serial).await;
                row.map_err(|e| unavailable(&e))?.is_some()
            }
            Revoked::Id(id) => {
                let (CertificateId::Identity(_, of) | CertificateId::Device(_, of)) = id;
                if of != name {
                    let detail = format!("{what} is of another tenant: it was asked of {name}");
                    return Err(Refusal::new(Code::RevocationUnknown, detail));
                }
                is_known(app, tenant, kind, id).await?
            }
        };
        if !known {
            let detail = format!("the {kind} authority of {name} gave out nothing called {what}");
            return Err(Refusal::new(Code::RevocationUnknown, detail));
        }
    }
    Ok(())
}

/// Whether an authority may give out such a certificate, or did: a person who was removed may have one yet.
async fn is_known(app: &App, tenant: TenantId, kind: CaKind, id: &CertificateId) -> Result<bool, Refusal> {
    match (kind, id) {
        (CaKind::User, CertificateId::Identity(identity, _)) => {
            if let SshIdentity::Person(person) = identity
                && app.store.user(person).await.map_err(|e| unavailable(&e))?.is_some()
            {
                return Ok(true);
            }
            Ok(living(app, tenant, kind, &[Revoked::Id(id.clone())]).await? > 0)
        }
        (CaKind::Host, CertificateId::Device(device, _)) => {
            let device = *device;
            let known = app.desk.read(move |control| {
                control.directory(tenant).is_some_and(|directory| directory.device(device).is_some())
            });
            known.await
        }
        (CaKind::User, CertificateId::Device(..)) | (CaKind::Host, CertificateId::Identity(..)) => Ok(false),
    }
}

/// Refuses to make a certificate good again whose device or person is gone, whoever took it back. Of what is named by id, the
/// people who are there.
pub async fn there(
    app: &App,
    tenant: TenantId,
    what: &[Revoked],
) -> Result<BTreeSet<CertificateId>, Refusal> {
    let users = app.store.users().await.map_err(|e| unavailable(&e))?;
    let there = users.iter().filter(|user| user.is_there(tenant));
    let mut found = BTreeSet::new();
    for what in what {
        let serial = match what {
            Revoked::Serial(serial) => *serial,
            Revoked::Id(id) => {
                let is_hers = |user: &User| matches!(id, CertificateId::Identity(SshIdentity::Person(name), _) if *name == user.name);
                found.extend(there.clone().any(is_hers).then(|| id.clone()));
                continue;
            }
        };
        for kind in CaKind::ALL {
            let row = app.store.certificate(tenant, kind, serial).await.map_err(|e| unavailable(&e))?;
            let Some(row) = row else { continue };
            let device = row.device;
            let is_live = app.desk.read(move |control| {
                let device = control.directory(tenant).and_then(|directory| directory.device(device));
                device.is_some_and(control::Device::is_live)
            });
            let is_hers = |user: &User| Some(user.id) == row.user;
            if !is_live.await? || (kind == CaKind::User && !there.clone().any(is_hers)) {
                let detail = format!("{what} is of a device or a person that is gone: it stays revoked");
                return Err(Refusal::new(Code::RevocationKept, detail));
            }
        }
    }
    Ok(found)
}

/// How many certificates live that are meant.
pub async fn living(app: &App, tenant: TenantId, kind: CaKind, what: &[Revoked]) -> Result<usize, Refusal> {
    let rows = app.store.living_certificates(tenant, CertificatesOf::Kind(kind), wall()).await;
    let rows = rows.map_err(|e| unavailable(&e))?;
    let meant = |row: &&store::CertificateRow| {
        what.iter().any(|what| match what {
            Revoked::Serial(serial) => row.serial == *serial,
            Revoked::Id(id) => row.id == *id,
        })
    };
    Ok(rows.iter().filter(meant).count())
}

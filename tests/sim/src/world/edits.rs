//! Which edit is drawn next: everything that a directory can be asked for by people, and what servers end by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control::{Actor, Device, Edit, HubInterface, SshRole, Stay, TenantRows};
use model::wire::Remark;
use model::{CaKind, Label, Name, PublicKey, RecordData, Revoked, SshIdentity, Standing};

use crate::dice::Dice;

const LABELS: [&str; 8] = ["alpha", "beta", "laptop", "hub", "www", "db", "laptop-2", "gamma"];
const LOGINS: [&str; 3] = ["root", "postgres", "deploy"];

/// The next edit of a tenant, and who wants it. `None`: there is nothing to which it could be done.
pub(super) fn draw(rows: &TenantRows, dice: &mut Dice) -> Option<(Edit, Actor)> {
    // Whoever closed a tenant seldom leaves it so: nothing happens in it.
    if rows.tenant.closing.is_some() && dice.chance(500) {
        return Some(by_alice(if dice.chance(800) { Edit::RestoreTenant } else { Edit::EraseTenant }));
    }
    match dice.below(160) {
        0..70 => devices(rows, dice).map(by_alice),
        70..95 => Some(by_alice(token(dice))),
        95..98 => Some(by_alice(Edit::RevokeToken(dice.pick(&rows.tokens)?.id))),
        98..118 => record(rows, dice).map(by_alice),
        118..128 => ssh(rows, dice).map(by_alice),
        128..148 => ends(rows, dice).map(|edit| (edit, Actor::Server)),
        _ => Some(by_alice(tenant(rows, dice))),
    }
}

fn by_alice(edit: Edit) -> (Edit, Actor) {
    (edit, Actor::User(Remark::new("alice")))
}

fn devices(rows: &TenantRows, dice: &mut Dice) -> Option<Edit> {
    let pending = rows.devices.iter().filter(|device| device.standing == Standing::Pending);
    let pending: Vec<_> = pending.map(|device| device.id).collect();
    let device = dice.pick(&rows.devices).map(|device: &Device| device.id);
    Some(match dice.below(70) {
        0..15 => Edit::ApproveDevice(*dice.pick(&pending)?),
        15..25 => Edit::RenameDevice { device: device?, name: label(dice) },
        25..35 => Edit::TagDevice { device: device?, tags: labels(dice) },
        35..43 => Edit::LabelDevice { device: device?, labels: values(dice) },
        43..53 => {
            let after = dice.chance(700).then(|| dice.millis(1_000, 120_000));
            Edit::SetExpiry { device: device?, after }
        }
        53..58 => Edit::AddPlain {
            name: label(dice),
            wireguard: PublicKey::from_bytes(dice.bytes()),
            tags: labels(dice),
        },
        _ => Edit::RevokeDevice(device?),
    })
}

/// A token; the devices of some expire, and of some go when they are silent.
fn token(dice: &mut Dice) -> Edit {
    let stay = Stay {
        expires_after: dice.chance(100).then(|| dice.millis(60_000, 600_000)),
        idle_max: dice.chance(100).then(|| dice.millis(30_000, 600_000)),
    };
    Edit::CreateToken {
        ttl: dice.millis(60_000, 3_600_000),
        uses: [1, 1, 3, 1000][dice.below(4)],
        tags: labels(dice),
        needs_approval: dice.chance(300),
        stay,
    }
}

fn record(rows: &TenantRows, dice: &mut Dice) -> Option<Edit> {
    if dice.chance(250) {
        let record = dice.pick(&rows.records)?;
        return Some(Edit::RemoveRecord { name: record.name.clone(), data: record.data.clone() });
    }
    let name: Name = label(dice).into();
    let data = if dice.chance(700) {
        RecordData::A([192, 0, 2, dice.bytes::<1>()[0]].into())
    } else {
        RecordData::Cname("www.example.org".parse().expect("a name"))
    };
    Some(Edit::AddRecord { name, data, ttl: None })
}

/// Roles, people, keys and what is revoked: devices that read of SSH hear of it.
fn ssh(rows: &TenantRows, dice: &mut Dice) -> Option<Edit> {
    let kind = *dice.pick(&CaKind::ALL)?;
    Some(match dice.below(10) {
        0..4 => {
            let login = LOGINS[dice.below(LOGINS.len())].parse().expect("a login");
            Edit::SetSshRole(SshRole {
                name: label(dice),
                administrators: dice.chance(300),
                identities: labels(dice).into_iter().map(SshIdentity::Person).collect(),
                own_login: dice.chance(300),
                logins: [login].into(),
                tags: labels(dice),
                labels: values(dice),
                ..SshRole::default_role()
            })
        }
        4 => Edit::DeleteSshRole(label(dice)),
        5 => Edit::SetAdministrators(labels(dice)),
        6 => Edit::FoundAuthorities,
        7 => Edit::RotateAuthority(kind),
        8 => Edit::ReplaceAuthority(kind),
        _ => {
            let serial = u64::from(dice.bytes::<1>()[0]) + 1;
            let what = [Revoked::Serial(serial.to_string().parse().ok()?)].into();
            Edit::RevokeCertificates { kind, what, until: rows.tenant.created_at + Duration::from_secs(60) }
        }
    })
}

/// What the server with the lease ends, or would: time and silence are judged by the directory's own clock.
fn ends(rows: &TenantRows, dice: &mut Dice) -> Option<Edit> {
    let expiring = rows.devices.iter().filter(|device| device.expires_at.is_some() && device.is_live());
    let expiring: Vec<_> = expiring.map(|device| device.id).collect();
    let ephemeral = rows.devices.iter().filter(|device| device.idle_max.is_some());
    let ephemeral: Vec<_> = ephemeral.map(|device| device.id).collect();
    Some(match dice.below(10) {
        0..7 => Edit::ExpireDevice(*dice.pick(&expiring)?),
        7..9 => Edit::RemoveIdle(*dice.pick(&ephemeral)?),
        _ => Edit::PruneRevocations,
    })
}

fn tenant(rows: &TenantRows, dice: &mut Dice) -> Edit {
    match dice.below(16) {
        // Two tenants may want one port.
        12..14 => Edit::SetInterface(HubInterface::Own(dice.chance(500).then_some(51_821))),
        14 => Edit::SetInterface(HubInterface::Own(None)),
        15 => Edit::SetInterface(HubInterface::Shared),
        0..5 => {
            let quota = rows.devices_count + u32::from(dice.bytes::<1>()[0] % 4);
            Edit::SetQuota(dice.chance(700).then_some(quota))
        }
        5..8 => {
            let grace = [Duration::ZERO, Duration::from_secs(30), Duration::from_secs(3600)][dice.below(3)];
            Edit::CloseTenant { grace }
        }
        8 => Edit::EraseTenant,
        _ => Edit::DeleteTenant,
    }
}

fn label(dice: &mut Dice) -> Label {
    LABELS[dice.below(LABELS.len())].parse().expect("a label")
}

fn labels(dice: &mut Dice) -> BTreeSet<Label> {
    (0..dice.below(3)).map(|_| label(dice)).collect()
}

fn values(dice: &mut Dice) -> BTreeMap<Label, Label> {
    (0..dice.below(3)).map(|_| (label(dice), label(dice))).collect()
}

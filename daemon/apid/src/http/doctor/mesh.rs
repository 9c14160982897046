//! What may be wrong with the mesh: the hub, devices that are silent, wait, disagree or are old, rotations that stand still.

use std::collections::BTreeMap;
use std::time::Duration;

use ca::due::Notice;
use control::Control;
use model::api::local::Finding;
use model::{CaKind, Label, Standing, Timestamp};

use crate::due;
use crate::http::server::own_ports;

/// A device that was silent so long is lost, or was put away.
const STALE_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);
/// Somebody waits for an approval; by the next day they should have it.
const PENDING_MAX: Duration = Duration::from_secs(24 * 3600);
/// Whoever is responsible for a device reads this once a week.
const EXPIRING_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// A phase of a rotation waits for certificates to end, which takes a week at most.
const PHASE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);
/// Of many devices the first few are named.
const NAMED_MAX: usize = 5;

/// What is looked at of one device.
pub(super) struct Seen {
    name: String,
    standing: Standing,
    enrolled_at: Timestamp,
    expires_at: Option<Timestamp>,
    last_seen: Option<Timestamp>,
    cloned: bool,
    problems: usize,
    /// Of its program; once it said so.
    version: Option<String>,
}

/// What is looked at of the mesh.
#[derive(Default)]
pub(super) struct Mesh {
    devices: Vec<Seen>,
    /// Whether the hub is attached, and as its snapshots say.
    hub: Option<bool>,
    rotations: Vec<(Label, CaKind, Timestamp)>,
    /// When keys of authorities are due to be replaced.
    due: Vec<(Label, CaKind, Timestamp)>,
    tenants: usize,
    /// UDP ports of interfaces that tenants have for themselves on the hub.
    own_ports: BTreeMap<Label, u16>,
}

/// A short look, as everybody waits for it.
pub(super) fn look(control: &Control, key_life: Duration) -> Mesh {
    let live = || control.directories().filter(|directory| directory.tenant().deleted_at.is_none());
    let seen = |directory: &control::Directory| {
        let tenant = directory.tenant().name.clone();
        // What has no agent says nothing of itself.
        let rows = directory.devices().filter(|device| device.is_live() && !device.is_plain());
        rows.map(|device| {
            let presence = control.presence(device.id);
            Seen {
                name: format!("{}.{tenant}", device.name),
                standing: directory.standing(device),
                enrolled_at: device.enrolled_at,
                expires_at: device.expires_at,
                last_seen: presence.map(|presence| presence.row.last_seen),
                cloned: presence.is_some_and(|presence| presence.cloned_at.is_some()),
                problems: presence.map_or(0, |presence| presence.problems.len()),
                version: presence.and_then(|presence| version(presence.row.software.as_str())),
            }
        })
        .collect::<Vec<_>>()
    };
    let hub = control.hub().map(|hub| {
        live().all(|directory| hub.holding.get(&directory.tenant().id).is_some_and(|(_, settled)| *settled))
    });
    let rotations = live().flat_map(|directory| {
        CaKind::ALL.into_iter().filter_map(|kind| {
            let rotation = &directory.authority(kind)?.rotation;
            rotation.next.map(|_| (directory.tenant().name.clone(), kind, rotation.since))
        })
    });
    Mesh {
        devices: live().flat_map(seen).collect(),
        hub,
        rotations: rotations.collect(),
        due: due::all(control, key_life),
        tenants: live().count(),
        own_ports: own_ports(control),
    }
}

/// Of `warren-agent 1.2.3` the last part.
fn version(software: &str) -> Option<String> {
    software.rsplit(' ').next().filter(|version| !version.is_empty()).map(str::to_owned)
}

/// What was found.
pub(super) fn findings(mesh: &Mesh, now: Timestamp) -> Vec<Finding> {
    let active = mesh.devices.iter().filter(|device| device.standing == Standing::Active);
    let mut found = vec![Finding::good(
        "devices",
        format!("active devices: {}; tenants: {}", active.count(), mesh.tenants),
    )];
    if !mesh.own_ports.is_empty() {
        let ports: Vec<String> =
            mesh.own_ports.iter().map(|(tenant, port)| format!("{port} for {tenant}")).collect();
        let what =
            format!("UDP ports that the firewall before the server lets in, too: {}", ports.join(", "));
        found.push(Finding::good("ports", what));
    }
    // A hub that is not attached is a finding of the checks.
    if mesh.hub == Some(false) {
        found.push(
            Finding::bad(
                "hub",
                "the hub is attached and not as its snapshots say",
                "warren server status; journalctl -u warren-netd",
            )
            .meaning("devices that it does not have as peers reach nothing through it"),
        );
    }
    found.extend(silent(mesh, now));
    found.extend(waiting(mesh, now));
    found.extend(expiring(mesh, now));
    found.extend(cloned(mesh));
    found.extend(troubled(mesh));
    found.extend(old(mesh));
    for (tenant, kind, due_at) in &mesh.due {
        if Notice::of(*due_at, now).is_some_and(|notice| notice >= Notice::Soon) {
            found.push(
                Finding::bad(
                    "rotation",
                    format!("the key of {tenant}'s {kind} authority is due to be replaced at {due_at}"),
                    format!("warren --tenant {tenant} ca rotate --type {kind}"),
                )
                .meaning("the longer a key lives, the more people had a chance to copy it"),
            );
        }
    }
    for (tenant, kind, since) in &mesh.rotations {
        if *since + PHASE_MAX < now {
            found.push(
                Finding::bad(
                    "rotation",
                    format!("the rotation of {tenant}'s {kind} authority stands still since {since}"),
                    format!("warren --tenant {tenant} ca status"),
                )
                .meaning("the former key still opens doors"),
            );
        }
    }
    found
}

fn silent(mesh: &Mesh, now: Timestamp) -> Option<Finding> {
    let stale = |device: &&Seen| {
        device.standing == Standing::Active
            && device.last_seen.unwrap_or(device.enrolled_at) + STALE_AFTER < now
    };
    let names = named(mesh.devices.iter().filter(stale))?;
    let what = format!("silent for 30 days: {names}");
    Some(
        Finding::bad("stale", &what, "warren device revoke NAME")
            .meaning("a lost device is a key that somebody may have"),
    )
}

fn waiting(mesh: &Mesh, now: Timestamp) -> Option<Finding> {
    let waits =
        |device: &&Seen| device.standing == Standing::Pending && device.enrolled_at + PENDING_MAX < now;
    let names = named(mesh.devices.iter().filter(waits))?;
    let what = format!("waiting for approval for a day: {names}");
    Some(
        Finding::bad("pending", &what, "warren device approve NAME, or revoke")
            .meaning("they reach nothing until then"),
    )
}

fn expiring(mesh: &Mesh, now: Timestamp) -> Option<Finding> {
    let soon = |device: &&Seen| {
        device.standing == Standing::Active && device.expires_at.is_some_and(|at| at < now + EXPIRING_WITHIN)
    };
    let names = named(mesh.devices.iter().filter(soon))?;
    let what = format!("expiring within a week: {names}");
    Some(
        Finding::bad("expiring", &what, "warren device set NAME --expires 30d")
            .meaning("they reach nothing from then on"),
    )
}

fn cloned(mesh: &Mesh) -> Option<Finding> {
    let names = named(mesh.devices.iter().filter(|device| device.cloned))?;
    let what = format!("two machines present one identity: {names}");
    Some(
        Finding::bad("cloned", &what, "warren logout, on the copy; then a new token")
            .meaning("each throws the other out"),
    )
}

fn troubled(mesh: &Mesh) -> Option<Finding> {
    let names = named(mesh.devices.iter().filter(|device| device.problems > 0))?;
    let what = format!("devices that report problems: {names}");
    Some(
        Finding::bad("problems", &what, "warren device show NAME")
            .meaning("something that they were told does not hold there"),
    )
}

fn old(mesh: &Mesh) -> Option<Finding> {
    let other = |device: &&Seen| {
        let known = device.version.as_deref();
        device.standing == Standing::Active && known.is_some_and(|known| known != env!("CARGO_PKG_VERSION"))
    };
    let names = named(mesh.devices.iter().filter(other))?;
    let what = format!("agents of another version than the server's {}: {names}", env!("CARGO_PKG_VERSION"));
    Some(
        Finding::bad("versions", &what, "upgrade them: see Upgrade in RUNBOOK.md")
            .meaning("what is new works between new ones only"),
    )
}

fn named<'a>(devices: impl Iterator<Item = &'a Seen>) -> Option<String> {
    let names: Vec<&str> = devices.map(|device| device.name.as_str()).collect();
    let more = names.len().saturating_sub(NAMED_MAX);
    let first = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    match (names.len(), more) {
        (0, _) => None,
        (_, 0) => Some(first),
        (_, more) => Some(format!("{first} and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn device(name: &str, now: Timestamp) -> Seen {
        Seen {
            name: name.into(),
            standing: Standing::Active,
            enrolled_at: now - DAY * 90,
            expires_at: None,
            last_seen: Some(now),
            cloned: false,
            problems: 0,
            version: Some(env!("CARGO_PKG_VERSION").into()),
        }
    }

    #[test]
    fn each_trouble_of_a_mesh_is_found_and_nothing_else() {
        let now = Timestamp::from_unix_micros(1_800_000_000_000_000);
        let well = || device("well.home", now);
        let check = |device: Seen, about: &str| {
            let mesh = Mesh { devices: vec![well(), device], hub: Some(true), tenants: 1, ..Mesh::default() };
            let found = findings(&mesh, now);
            let troubles: Vec<&str> =
                found.iter().filter(|finding| !finding.ok).map(|finding| finding.about.as_str()).collect();
            let expect: Vec<&str> = if about.is_empty() { Vec::new() } else { vec![about] };
            assert_eq!(troubles, expect, "{found:?}");
        };
        check(well(), "");
        check(Seen { last_seen: Some(now - DAY * 31), ..device("a.home", now) }, "stale");
        check(Seen { last_seen: None, ..device("a.home", now) }, "stale");
        check(Seen { last_seen: None, enrolled_at: now - DAY, ..device("a.home", now) }, "");
        check(Seen { standing: Standing::Pending, ..device("a.home", now) }, "pending");
        check(Seen { expires_at: Some(now + DAY * 6), ..device("a.home", now) }, "expiring");
        check(Seen { expires_at: Some(now + DAY * 8), ..device("a.home", now) }, "");
        check(Seen { standing: Standing::Pending, enrolled_at: now, ..device("a.home", now) }, "");
        check(Seen { cloned: true, ..device("a.home", now) }, "cloned");
        check(Seen { problems: 1, ..device("a.home", now) }, "problems");
        check(Seen { version: Some("0.0.1".into()), ..device("a.home", now) }, "versions");
        check(Seen { version: None, ..device("a.home", now) }, "");
    }

    #[test]
    fn hub_and_rotations_are_looked_at_and_many_devices_are_counted() {
        let now = Timestamp::from_unix_micros(1_800_000_000_000_000);
        let home: Label = "home".parse().expect("a label");
        let since = |days| (home.clone(), CaKind::User, now - DAY * days);
        let lost = |n| Seen { last_seen: None, ..device(&format!("d{n}.home"), now) };
        let mesh = Mesh {
            devices: (0..7).map(lost).collect(),
            hub: Some(false),
            rotations: vec![since(1), since(20)],
            due: vec![
                (home.clone(), CaKind::User, now + DAY * 80),
                (home.clone(), CaKind::Host, now + DAY * 20),
            ],
            tenants: 1,
            own_ports: [(home.clone(), 51_821)].into(),
        };
        let found = findings(&mesh, now);
        let of = |about: &str| found.iter().filter(|finding| finding.about == about).count();
        assert_eq!((of("hub"), of("rotation"), of("stale")), (1, 2, 1));
        assert!(
            found.iter().any(|finding| finding.ok && finding.what.ends_with("51821 for home")),
            "{found:?}"
        );
        assert!(found.iter().any(|finding| finding.what.ends_with("d4.home and 2 more")), "{found:?}");
    }
}

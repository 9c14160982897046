//! What may be wrong with the machine and its settings: database, disk, files, certificate, clock, ports, relays.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use model::Timestamp;
use model::api::local::Finding;
use model::relay::RelayPlace;
use nix::sys::resource::{Resource, getrlimit};
use store::Engine;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::backup::LastBackup;
use crate::http::health::OK;
use crate::room::Room;

/// A database that has less room, in percent, is about to stop taking edits.
const FREE_PERCENT_LEAST: u64 = 10;
/// Whoever renews certificates does it a month before their end; half of it gone is time to look.
const CERTIFICATE_NOTICE: Duration = Duration::from_secs(14 * 24 * 3600);
/// A backup is made every day; a week of silence is a timer that fails.
const BACKUP_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Tokens, sessions and SSH certificates bear a minute.
const CLOCK_JUMP_MAX: Duration = Duration::from_secs(60);
/// A relay that does not take a connection by then takes none.
const RELAY_TIME_MAX: Duration = Duration::from_secs(2);

/// A check of `/healthz`.
pub(super) fn check(name: &str, found: &str) -> Finding {
    if found == OK {
        return Finding::good(name, format!("{name}: ok"));
    }
    let (why, remedy) = match name {
        "database" => ("nothing can be edited and nobody enrols; tunnels go on", database_remedy(found)),
        "wireguard" => (
            "the hub forwards nothing new: plain peers and devices without a direct path depend on it",
            "systemctl status warren-netd",
        ),
        "ssh_ca" => (
            "nobody gets an SSH certificate; those that live are good until they end",
            "journalctl -u warren-apid --grep unseal",
        ),
        "directories" => (
            "devices of a withheld tenant keep what they hold and learn nothing new",
            "journalctl -u warren-apid --grep 'is not published'",
        ),
        "lease" => (
            "this replica cannot become the hub's server, nor stay it",
            if found.starts_with("lease-unclaimed") {
                "journalctl -u warren-apid --grep lease"
            } else {
                "kubectl auth can-i update leases, with --as the service account; docs/replicas.md has its Role"
            },
        ),
        _ => ("the server does not do all of its work", "journalctl -u warren-apid"),
    };
    // Some say the command themselves.
    let found = found.strip_suffix(remedy).map_or(found, |found| found.trim_end_matches([':', ' ']));
    Finding::bad(name, format!("{name}: {found}"), remedy).meaning(why)
}

/// The texts are those of the store's kinds of failures.
fn database_remedy(found: &str) -> &'static str {
    match found.split(':').next().unwrap_or_default() {
        "disk-full" => "df -h /var/lib/warren",
        "read-only" => "mount | grep warren; on PostgreSQL point --database at the primary",
        "locked" => "lsof /var/lib/warren/apid/warren.db; on PostgreSQL `select * from pg_stat_activity`",
        _ => "journalctl -u warren-apid --grep store",
    }
}

/// How many steps the schema has, and how many this program knows.
pub(super) fn migrations(schema: Result<(u32, u32), impl Display>) -> Finding {
    match schema {
        Ok((here, known)) if here == known => {
            Finding::good("migrations", format!("schema {here} is the newest"))
        }
        Ok((here, known)) if here > known => Finding::bad(
            "migrations",
            format!("the database has schema {here}, this program knows {known}"),
            "warren-apid --version, on every replica",
        )
        .meaning("it was upgraded by a newer warren-apid: this one works on, without what is new"),
        Ok((here, known)) => Finding::bad(
            "migrations",
            format!("the database has schema {here} of {known}"),
            "systemctl restart warren-apid; its log says which step fails",
        )
        .meaning("a migration is not done"),
        Err(error) => Finding::unchecked("migrations", error),
    }
}

/// Whether replicas hear of each other; SQLite has one.
pub(super) fn sessions(engine: Engine, shares: bool) -> Option<Finding> {
    let what = if shares {
        "a pooler lends sessions of PostgreSQL for a transaction each: other replicas' edits are asked for four times a \
         second, as nobody can LISTEN; devices at different replicas find each other only over a relay alone"
    } else {
        "sessions of PostgreSQL are our own: other replicas' edits are heard at once"
    };
    (engine == Engine::Postgres).then(|| Finding::good("sessions", what))
}

/// How old the last backup is; before the first one, how old the server is.
pub(super) fn backup(
    last: Result<Option<LastBackup>, impl Display>,
    set_up: Option<Timestamp>,
    now: Timestamp,
) -> Finding {
    let last = match last {
        Ok(last) => last,
        Err(error) => return Finding::unchecked("backup", error),
    };
    let what = match &last {
        Some(last) if last.has_hub_key => format!("the last backup was made {}", last.at),
        Some(last) => format!("the last backup was made {}, without the hub's WireGuard key", last.at),
        None => "no backup was ever made".to_owned(),
    };
    let since = last.map(|last| last.at).or(set_up).unwrap_or(now);
    if since + BACKUP_AGE_MAX > now {
        return Finding::good("backup", what);
    }
    Finding::bad(
        "backup",
        what,
        "warren backup create --to FILE --recipient AGE1…; systemctl enable --now warren-backup.timer",
    )
    .meaning("what was done since is lost with this machine's disk")
}

/// Whether anybody can log in.
pub(super) fn people(users: Result<usize, impl Display>) -> Finding {
    match users {
        Ok(0) => Finding::bad(
            "people",
            "there is no administrator yet",
            "journalctl -u warren-apid --grep 'no administrator yet'",
        )
        .meaning("whoever finds the setup URL in the log first becomes it"),
        Ok(1) => Finding::good("people", "1 user"),
        Ok(users) => Finding::good("people", format!("{users} users")),
        Err(error) => Finding::unchecked("people", error),
    }
}

/// Room for the database.
pub(super) fn disk(state_dir: &Path, room: nix::Result<Room>) -> Finding {
    let place = state_dir.display();
    match room {
        Ok(room) if room.free_bytes / (room.disk_bytes / 100).max(1) < FREE_PERCENT_LEAST => Finding::bad(
            "disk",
            format!("{} of {} are free at {place}", size(room.free_bytes), size(room.disk_bytes)),
            format!("df -h {place}; du -xsh {place}/* | sort -h"),
        )
        .meaning("a database without room takes no edits"),
        Ok(room) => Finding::good(
            "disk",
            format!("{} of {} are free at {place}", size(room.free_bytes), size(room.disk_bytes)),
        ),
        Err(error) => Finding::unchecked("disk", error),
    }
}

fn size(bytes: u64) -> String {
    let mebibytes = bytes >> 20;
    if mebibytes >= 10 << 10 { format!("{} GiB", mebibytes >> 10) } else { format!("{mebibytes} MiB") }
}

/// Files that may be open: a link needs one.
pub(super) fn files() -> Finding {
    let open = std::fs::read_dir("/proc/self/fd").map(|files| files.count() as u64);
    let may = getrlimit(Resource::RLIMIT_NOFILE);
    match (open, may) {
        (Ok(open), Ok((may, _))) if open > may / 5 * 4 => Finding::bad(
            "files",
            format!("{open} of {may} files are open"),
            "systemctl edit warren-apid, and there: [Service] LimitNOFILE=1048576",
        )
        .meaning("each link needs one: soon no device can attach"),
        (Ok(open), Ok((may, _))) => Finding::good("files", format!("{open} of {may} files are open")),
        (Err(error), _) => Finding::unchecked("files", error),
        (_, Err(error)) => Finding::unchecked("files", error),
    }
}

/// How long the certificate of HTTPS is good for.
pub(super) fn certificate(end: Timestamp, now: Timestamp) -> Finding {
    let what = format!("the certificate of HTTPS ends {end}");
    if end > now + CERTIFICATE_NOTICE {
        return Finding::good("certificate", &what);
    }
    let why = if end <= now {
        "browsers, scripts and devices behind a proxy refuse the server"
    } else {
        "after that browsers, scripts and devices behind a proxy refuse the server"
    };
    Finding::bad("certificate", &what, "renew the file of --tls-cert, then systemctl restart warren-apid")
        .meaning(why)
}

/// Whether somebody set the clock since the start.
pub(super) fn clock(started_at: Timestamp, uptime: Duration, now: Timestamp) -> Finding {
    let expected = started_at + uptime;
    let jump = (now.unix_micros() - expected.unix_micros()).unsigned_abs();
    let jump = Duration::from_secs(jump / 1_000_000);
    if jump <= CLOCK_JUMP_MAX {
        return Finding::good("clock", format!("the clock runs evenly; it is {now}"));
    }
    Finding::bad(
        "clock",
        format!("the clock jumped by {} since the start", humantime::format_duration(jump)),
        "timedatectl",
    )
    .meaning("tokens, sessions and SSH certificates begin and end by it")
}

/// Whether STUN is answered where it is to be.
pub(super) fn stun(ports: Option<&[u16]>) -> Finding {
    match ports {
        None => Finding::good("stun", "STUN is off: devices find direct paths by their own addresses alone"),
        Some([]) => Finding::bad(
            "stun",
            "STUN is not answered: its ports are taken or must not be bound",
            "ss -lunp 'sport = :3478'",
        )
        .meaning("devices behind NATs find direct paths less often, and are relayed"),
        Some(ports) => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            Finding::good("stun", format!("STUN is answered at UDP ports {}", ports.join(" and ")))
        }
    }
}

/// Whether relays on other machines take connections from here.
pub(super) async fn relays(places: &[RelayPlace]) -> Vec<Finding> {
    let mut asked = JoinSet::new();
    for place in places {
        let (id, name, endpoint) = (place.id, place.name.clone(), place.endpoint.to_string());
        asked.spawn(async move {
            let connected = timeout(RELAY_TIME_MAX, TcpStream::connect(&endpoint)).await;
            let trouble = match connected {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer".into()),
            };
            (id, relay(name.as_str(), &endpoint, trouble.as_deref()))
        });
    }
    let mut found = asked.join_all().await;
    found.sort_by_key(|(id, _)| *id);
    found.into_iter().map(|(_, finding)| finding).collect()
}

fn relay(name: &str, endpoint: &str, trouble: Option<&str>) -> Finding {
    match trouble {
        None => Finding::good("relay", format!("relay {name} takes connections at {endpoint}")),
        Some(trouble) => Finding::bad(
            "relay",
            format!("relay {name} at {endpoint} cannot be reached from here: {trouble}"),
            "systemctl status warren-apid, on the relay",
        )
        .meaning("devices that count on it are relayed by others, or not at all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn every_trouble_says_why_and_what_helps() {
        let now = Timestamp::from_unix_micros(1_800_000_000_000_000);
        let room = |free: u64, disk: u64| Ok(Room { free_bytes: free << 30, disk_bytes: disk << 30 });
        let state = Path::new("/var/lib/warren/apid");
        let check = |finding: Finding, well: bool, part: &str| {
            assert_eq!(finding.ok, well, "{finding:?}");
            assert!(finding.what.contains(part), "{finding:?}");
            assert_eq!((finding.why.is_empty(), finding.remedy.is_empty()), (well, well), "{finding:?}");
        };
        check(super::check("database", "ok"), true, "database");
        check(super::check("database", "disk-full: no room"), false, "disk-full");
        check(super::check("wireguard", "warren-netd is not attached"), false, "not attached");
        check(super::check("ssh_ca", "signer-sealed: x"), false, "sealed");
        check(super::check("lease", "lease-forbidden: x"), false, "forbidden");
        check(super::check("another", "trouble"), false, "trouble");
        check(migrations(Ok::<_, String>((4, 4))), true, "schema 4");
        check(migrations(Ok::<_, String>((5, 4))), false, "knows 4");
        check(migrations(Ok::<_, String>((3, 4))), false, "3 of 4");
        let made = |at, has_hub_key| Ok::<_, String>(Some(LastBackup { at, bytes: 1, has_hub_key }));
        check(backup(made(now - DAY * 6, true), None, now), true, "the last backup was made 2027");
        check(backup(made(now - DAY, false), None, now), true, "without the hub");
        check(backup(made(now - DAY * 8, true), Some(now - DAY), now), false, "2027");
        check(backup(Ok::<_, String>(None), Some(now - DAY * 6), now), true, "no backup was ever made");
        check(backup(Ok::<_, String>(None), Some(now - DAY * 8), now), false, "no backup was ever made");
        check(people(Ok::<_, String>(0)), false, "no administrator");
        check(people(Ok::<_, String>(1)), true, "1 user");
        check(disk(state, room(9, 100)), false, "9216 MiB of 100 GiB");
        check(disk(state, room(10, 100)), true, "10 GiB");
        check(files(), true, "files are open");
        check(certificate(now + DAY * 15, now), true, "ends 2027");
        check(certificate(now + DAY * 13, now), false, "ends 2027");
        check(certificate(now - DAY, now), false, "ends 2027");
        check(clock(now - DAY, DAY, now), true, "evenly");
        check(clock(now - DAY, DAY * 2, now), false, "1day");
        check(stun(None), true, "off");
        check(stun(Some(&[])), false, "not answered");
        check(stun(Some(&[3478, 3479])), true, "3478 and 3479");
        check(relay("fra1", "192.0.2.1:8443", None), true, "fra1");
        check(relay("fra1", "192.0.2.1:8443", Some("no answer")), false, "no answer");
    }

    #[test]
    fn what_nobody_could_look_at_is_not_called_well() {
        let finding = people(Err::<usize, _>("the database is locked"));
        assert!(finding.unchecked && finding.what.contains("locked"));
    }
}

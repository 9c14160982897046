//! A server is lost with its disk and comes back from its backup: devices return by themselves, what the backup does not
//! know stays outside.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!   beta  ── r-beta  ─┼─ inet ── server (apid, netd)
//!   gamma ── r-gamma ─┘            └ PostgreSQL, in one story
//! ```

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab::{Mesh, SERVER_URL, SOON, World, wait_for};
use serde_json::Value;

const PORT: u16 = 5432;
/// What was promised is a quarter of an hour; of a small mesh it is this.
const RESTORED_WITHIN: Duration = Duration::from_secs(60);

/// Everything that the server kept is gone.
fn lose(mesh: &Mesh) {
    for program in ["apid", "netd"] {
        let state = mesh.file("server", "lib/warren").join(program);
        for entry in fs::read_dir(&state).expect("a state directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.expect("removed");
        }
    }
}

/// A link that fell silent is given up after 13 seconds.
const BACK_WITHIN: Duration = Duration::from_secs(30);

struct Backup {
    file: PathBuf,
    key: PathBuf,
}

impl Backup {
    /// Made on the server, kept where the server's disk is not.
    fn make(mesh: &Mesh) -> Self {
        let folder = mesh.file("alpha", "lib");
        let (file, key) = (folder.join("server.backup"), folder.join("backup.key"));
        let server = mesh.on("server");
        let made = server.json(&["warren", "backup", "key", key.to_str().expect("text")]);
        let recipient = made["recipient"].as_str().expect("a recipient");
        let create = ["warren", "backup", "create", "--recipient", recipient, "--to"];
        let made = server.json(&[&create[..], &[file.to_str().expect("text")]].concat());
        assert_eq!(made["has_hub_key"], true, "netd sealed its key: {made}");
        Self { file, key }
    }

    fn offline(&self, mesh: &Mesh, verb: &str, flags: &[&str]) -> Value {
        let (file, key) = (self.file.to_str().expect("text"), self.key.to_str().expect("text"));
        mesh.on("server").json(&[&["warren", "backup", verb, file, "--key", key], flags].concat())
    }
}

/// The story on either database; `lost` takes what the server kept.
fn a_server_comes_back(mesh: &mut Mesh, flags: &[&str], restore: &[&str], lost: impl FnOnce(&Mesh)) {
    mesh.enrol(["alpha", "beta"]);
    mesh.on("alpha").reaches("beta", SOON);
    let unused = mesh.token(&[]);
    let hub_key = mesh.on("server").ok(&["wg", "show", "wg0", "public-key"]);
    let backup = Backup::make(mesh);
    let report = backup.offline(mesh, "verify", &[]);
    assert_eq!((&report["well"], &report["problems"]), (&true.into(), &Value::Array(Vec::new())));
    assert_eq!(report["hub_key"].as_str(), Some(hub_key.trim()), "{report}");

    // After the backup: a device that it does not know.
    mesh.enrol(["gamma"]);
    mesh.on("gamma").reaches("alpha", SOON);
    let gamma = mesh.device_field("gamma", "wireguard_key");
    for (program, part) in [("agent", "server"), ("agent", "refused"), ("netd", "server"), ("agent", "link")]
    {
        mesh.announce(program, part);
    }
    mesh.apid.kill();
    mesh.netd.kill();
    lost(mesh);

    let began = Instant::now();
    let report = backup.offline(mesh, "restore", restore);
    assert!(report["restored_epoch"].as_u64() > report["epoch"].as_u64(), "{report}");
    mesh.apid = mesh.daemon("server", "apid", flags);
    mesh.netd = mesh.daemon("server", "netd", &[]);
    mesh.server_is_ready(SOON);
    // A device notices only after some seconds that its server was another.
    let epoch = format!("{}.", report["restored_epoch"]);
    for device in ["alpha", "beta"] {
        wait_for(&format!("{device} holds what the restored server says"), BACK_WITHIN, || {
            mesh.status(device)["holds"].as_str().is_some_and(|version| version.starts_with(&epoch))
        });
        mesh.ready(device, SOON);
    }
    mesh.on("alpha").reaches("beta", SOON);
    let took = began.elapsed();
    assert!(took < RESTORED_WITHIN, "it took {took:?}");
    let key = ["wg", "show", "wg0", "public-key"];
    mesh.on("server").wait("plain peers go on", SOON, &key, |done| done.out == hub_key);

    assert!(mesh.device("gamma").is_none());
    let unknown =
        || mesh.status("gamma")["link"].as_str().is_some_and(|link| link.contains("device-unknown"));
    wait_for("gamma is told that it is not known", BACK_WITHIN, unknown);
    assert!(!mesh.wg_peers("server", "wg0").contains(&gamma), "and is nobody's peer");
    let join = ["warren", "up", "--server", SERVER_URL, "--hostname", "gamma", "--token"];
    mesh.on("gamma").ok(&["warren", "logout", "--yes"]);
    let refused = mesh.on("gamma").run(&[&join[..], &[&unused]].concat());
    assert!(refused.code == 3 && refused.err.contains("revoked"), "{}", refused.tell());
    mesh.join("gamma", &mesh.token(&[]));
    mesh.on("gamma").reaches("alpha", SOON);
    let doctor = mesh.on("server").run(&["warren", "audit", "verify"]);
    assert_eq!(doctor.code, 0, "{}", doctor.tell());
}

#[test]
fn a_server_that_lost_its_disk_comes_back() {
    a_server_comes_back(&mut Mesh::new(&["alpha", "beta", "gamma"]), &[], &[], lose);
}

#[test]
fn a_server_on_postgres_comes_back_and_what_was_there_is_kept() {
    let world = World::new(&["alpha", "beta", "gamma"]);
    let postgres = world.shared_postgres(PORT);
    let url = postgres.shared_url();
    let flags = ["--database", &url];
    let mut mesh = Mesh::in_world(world, &flags);
    mesh.announce("apid", "lease");
    let restore = [&flags[..], &["--force", "--yes"]].concat();
    a_server_comes_back(&mut mesh, &flags, &restore, lose);
    let kept = "SELECT count(*) FROM information_schema.tables WHERE table_schema LIKE 'warren_before_%' AND table_name = 'devices'";
    assert_eq!(postgres.sql(kept).trim(), "1");
}

#[test]
fn the_timer_keeps_the_newest_and_a_failure_keeps_all() {
    let mesh = Mesh::new(&["alpha"]);
    let folder = mesh.file("alpha", "lib").join("backups");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/backup-ssh-ca.sh");
    let (folder_text, script) = (folder.to_str().expect("text"), script.to_str().expect("text").to_owned());
    let run = |environment: &[&str]| {
        let command = [&["env"], environment, &[&*script, folder_text]].concat();
        mesh.on("server").run(&command)
    };
    let copies = || {
        let mut names: Vec<String> = fs::read_dir(&folder)
            .expect("there")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let passphrase = "WARREN_BACKUP_PASSPHRASE=seven tins of plums";
    assert_eq!(run(&[]).code, 2, "sealed for nobody is refused");
    for name in ["warren-ssh-ca-20200101T000000Z.age", "warren-ssh-ca-20200102T000000Z.age", "mine.age"] {
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), b"x").expect("written");
    }
    let keep = "WARREN_BACKUP_KEEP=2";
    let done = run(&[passphrase, keep]);
    assert_eq!(done.code, 0, "{}", done.tell());
    let (there, newest) = (copies(), done.out.lines().next().unwrap_or_default().to_owned());
    assert_eq!(there.len(), 3, "{there:?}");
    assert_eq!(there[..2], ["mine.age", "warren-ssh-ca-20200102T000000Z.age"]);
    let verify = ["env", passphrase, "warren", "backup", "verify", &newest];
    assert_eq!(mesh.on("server").json(&verify)["ssh_keys_opened"], 2);
    let everything = run(&[passphrase, keep, "WARREN_BACKUP_CONTENT=everything"]);
    assert_eq!((everything.code, copies().len()), (0, 4), "{}", everything.tell());

    for part in ["server", "link"] {
        mesh.announce("netd", part);
    }
    mesh.apid.stop();
    let failed = run(&[passphrase, "WARREN_BACKUP_KEEP=1"]);
    assert_eq!((failed.code, copies().len()), (4, 4), "nothing goes while nothing comes: {}", failed.tell());
}

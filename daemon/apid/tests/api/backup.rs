//! Backups from outside: who can open one, what is in it, what a damaged or foreign one is called, and what a restored
//! server knows and has forgotten.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use backup::{Anchor, Content, DatabaseFacts, FORMAT, Key, Manifest, SealedBy, Writer};
use link::https::{Method, Request, download, header};
use model::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::apid::{Apid, PATIENCE, ask, fresh, get, post, probe};
use crate::ssh::PASSWORD;

/// A backup of this server for a key.
async fn made(apid: &Apid, key: &Key, content: &str) -> Vec<u8> {
    let wish = json!({"recipient": key.recipient().to_string(), "content": content}).to_string();
    let request = Request::builder()
        .method(Method::POST)
        .uri("/api/v1/backup")
        .header(header::CONTENT_TYPE, "application/json")
        .body(wish.into())
        .expect("a request");
    let mut bytes = Vec::new();
    let socket = apid.socket();
    let taken = download(&socket, request, PATIENCE, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    let answer = taken.await.expect("an answer");
    assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(answer.body()));
    assert_eq!(answer.headers()["warren-hub-key"], "absent", "no netd is attached");
    bytes
}

/// A file of a backup, and the key that opens it.
struct Kept {
    dir: TempDir,
}

impl Kept {
    fn new(key: &Key, bytes: &[u8]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("key"), key.to_file().as_bytes()).expect("written");
        std::fs::write(dir.path().join("backup"), bytes).expect("written");
        Self { dir }
    }

    /// What `warren-apid` says of it: exit code, and a report or a problem.
    fn offline(&self, task: &str, more: &[&str]) -> (Option<i32>, Value) {
        let (file, key) = (self.dir.path().join("backup"), self.dir.path().join("key"));
        offline(&[&[task, text(&file), "--backup-key", text(&key)], more].concat())
    }
}

fn offline(arguments: &[&str]) -> (Option<i32>, Value) {
    let run = Command::new(env!("CARGO_BIN_EXE_warren-apid"))
        .args(arguments)
        .args(["--log-level", "warn"])
        .output()
        .expect("it runs");
    let said = serde_json::from_slice(&run.stdout);
    (run.status.code(), said.unwrap_or_else(|_| panic!("{run:?}")))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Every file of a directory.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).expect("readable").map(|entry| entry.expect("an entry"));
    let files = entries.filter(|entry| entry.path().is_file());
    let file = |entry: std::fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("readable"))
    };
    files.map(file).collect()
}

#[tokio::test]
async fn a_backup_holds_everything_and_shows_nothing() {
    let apid = Apid::start(
        tempfile::tempdir().expect("a directory"),
        &[("WARREN_ADMIN_PASSWORD", PASSWORD), ("WARREN_RATELIMIT_LOGIN_CAPACITY", "1000")],
    );
    let key = Key::generate();
    let (_, token) =
        post(&apid.socket(), "/api/v1/tokens", None, json!({"ttl_seconds": 60, "uses": 2})).await;
    let bytes = made(&apid, &key, "everything").await;
    let state = files(apid.dir.path());
    let tls = String::from_utf8(state["tls.key"].clone()).expect("PEM");
    let secrets = [&state["seal.key"][..], tls.lines().nth(1).expect("a line").as_bytes(), b"home.internal"];
    for secret in secrets {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{secret:?} can be read");
    }
    let secret = token["secret"].as_str().expect("a token");
    assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
    assert!(!state.contains_key("backup.half"), "nothing of it stays on the server");

    let (code, report) = Kept::new(&key, &bytes).offline("verify", &[]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["anchors"][0]["tenant"], "home");
    assert_eq!((&report["anchors"][0]["opens"], &report["ssh_keys_opened"]), (&json!(true), &json!(2)));
    assert_eq!((&report["rows"]["tokens"], &report["rows"]["users"]), (&json!(1), &json!(1)));
    assert_eq!((&report["database"], &report["problems"]), (&json!("sqlite"), &json!([])));

    let (code, report) = Kept::new(&key, &made(&apid, &key, "ssh-ca").await).offline("verify", &[]);
    assert_eq!(
        (code, &report["ssh_keys_opened"], &report["content"]),
        (Some(0), &json!(2), &json!("ssh-ca"))
    );
    assert!(report["rows"]["users"].is_null(), "keys alone: {report}");

    let (status, problem) = post(&apid.socket(), "/api/v1/backup", None, json!({"recipient": "age1x"})).await;
    assert_eq!((status, &problem["code"]), (400, &json!("bad-request")));
    let (_, log) = get(&apid.socket(), "/api/v1/audit", None).await;
    let entries = log["items"].as_array().expect("entries").iter();
    assert_eq!(entries.filter(|entry| entry["action"] == "backup.create").count(), 2, "{log}");
    let (_, doctor) = get(&apid.socket(), "/api/v1/doctor", None).await;
    let findings = doctor["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["about"] == "backup").expect("looked at");
    assert!(found["what"].as_str().is_some_and(|what| what.contains("without the hub")), "{found}");
    assert!(!probe(&apid, "/metrics").await.contains("warren_last_backup_timestamp_seconds 0\n"));
}

#[tokio::test]
async fn what_is_no_whole_backup_has_a_name_and_a_next_step() {
    let apid = fresh();
    let key = Key::generate();
    let bytes = made(&apid, &key, "everything").await;
    let check = |bytes: &[u8], codes: &[&str]| {
        let (code, problem) = Kept::new(&key, bytes).offline("verify", &[]);
        let said = problem["code"].as_str().unwrap_or_default();
        assert!(code == Some(3) && codes.contains(&said), "{problem}, not {codes:?}");
        assert!(!problem["hint"].as_str().unwrap_or_default().is_empty(), "{problem}");
    };
    // The head, which its code ends, names whom it is for: changed there, it looks like somebody else's.
    let end = bytes.windows(5).position(|part| part == b"\n--- ").expect("it has a head") + 60;
    let anywhere = ["backup-damaged", "backup-key-wrong", "backup-not-one"];
    for place in [0, 30, 60, 100, 150, 200, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[place] ^= 0x10;
        check(&changed, if place > end { &anywhere[..1] } else { &anywhere });
    }
    let more = [&bytes[..], b"more"].concat();
    for cut in [&bytes[..bytes.len() - 1], &bytes[..bytes.len() / 2], &bytes[..end + 40], &more] {
        check(cut, &["backup-damaged"]);
    }
    [&b""[..], b"SQLite format 3\0"].iter().for_each(|other| check(other, &["backup-not-one"]));

    let manifest = |format, schema| Manifest {
        format,
        made_by: "warren-apid 9".into(),
        made_at: Timestamp::from_unix_micros(0),
        content: Content::Everything,
        server: "https://192.0.2.1:8443".into(),
        anchors: Vec::<Anchor>::new(),
        database: DatabaseFacts { engine: "sqlite".into(), schema, epoch: 1 },
        sealed_by: SealedBy::KeyFile,
        hub_key: None,
    };
    let other = |manifest: &Manifest, page: Option<&str>| {
        let sealing = backup::seal(&key.recipient(), Vec::new()).expect("memory");
        let mut writer = Writer::new(sealing, manifest).expect("memory");
        if let Some(page) = page {
            writer.rows("database/1", "server", 1, page.as_bytes()).expect("memory");
        }
        writer.finish().and_then(backup::Sealing::finish).expect("memory")
    };
    let row = "{\"table\":\"server\",\"columns\":[\"id\",\"epoch\",\"probes\"]}\n[1,1,0]";
    check(&other(&manifest(FORMAT + 1, 1), Some(row)), &["backup-newer"]);
    check(&other(&manifest(FORMAT, 99), Some(row)), &["backup-newer"]);
    check(&other(&manifest(FORMAT, 1), None), &["backup-damaged"]);
    check(&other(&manifest(FORMAT, 1), Some("{\"table\":\"x\",\"columns\":[]}")), &["backup-damaged"]);

    let (code, problem) = Kept::new(&Key::generate(), &bytes).offline("verify", &[]);
    assert_eq!((code, &problem["code"]), (Some(3), &json!("backup-key-wrong")));
    let kept = Kept::new(&key, &bytes);
    let absent = kept.dir.path().join("nothing");
    let (code, problem) =
        offline(&["verify", text(&absent), "--backup-key", text(&kept.dir.path().join("key"))]);
    assert_eq!((code, &problem["code"]), (Some(3), &json!("backup-unreadable")));

    // Around a file for a key: a passphrase.
    let mut locked = backup::lock("seven tins of plums", &key, Vec::new()).expect("memory");
    locked.write_all(&bytes).expect("memory");
    std::fs::write(kept.dir.path().join("backup"), locked.finish().expect("memory")).expect("written");
    let file = kept.dir.path().join("backup");
    let with = |passphrase: &str| {
        let path = kept.dir.path().join("passphrase");
        std::fs::write(&path, passphrase).expect("written");
        offline(&["verify", text(&file), "--backup-passphrase-file", text(&path)])
    };
    assert_eq!(with("seven tins of plums\n").0, Some(0));
    assert_eq!(with("seven tins of pears").1["code"], "backup-key-wrong");
}

#[tokio::test]
async fn keys_behind_a_passphrase_are_looked_at_with_it_and_not_called_well_without() {
    let passphrase = [("WARREN_CA_PASSPHRASE", "harbour plum seven")];
    let apid = Apid::start(tempfile::tempdir().expect("a directory"), &passphrase);
    let key = Key::generate();
    let kept = Kept::new(&key, &made(&apid, &key, "everything").await);
    let (code, report) = kept.offline("verify", &[]);
    assert_eq!((code, &report["well"]), (Some(7), &json!(false)), "{report}");
    assert!(report["problems"][0].as_str().is_some_and(|p| p.contains("--ca-passphrase-file")), "{report}");
    for (words, expect) in [("harbour plum seven", 0), ("harbour plum eight", 7)] {
        let (code, report) = kept.offline("verify", &["--ca-passphrase", words]);
        assert_eq!(code, Some(expect), "{report}");
    }
}

#[tokio::test]
async fn a_restored_server_is_the_server_and_has_forgotten_who_was_logged_in() {
    let environment = [("WARREN_ADMIN_PASSWORD", PASSWORD)];
    let apid = Apid::start(tempfile::tempdir().expect("a directory"), &environment);
    let server = apid.https(apid.fingerprint());
    let login = json!({"user": "admin", "password": PASSWORD});
    let (_, session) = post(&server, "/api/v1/login", None, login.clone()).await;
    let session = session["secret"].as_str().expect("a session").to_owned();
    let wish = json!({"label": "ci", "ttl_seconds": 3600});
    let (_, script) = post(&server, "/api/v1/api-tokens", Some(&session), wish).await;
    let script = script["secret"].as_str().expect("a token").to_owned();
    post(&apid.socket(), "/api/v1/tokens", None, json!({"ttl_seconds": 600, "uses": 2})).await;
    let (_, before) = get(&apid.socket(), "/api/v1/tenants", None).await;

    let key = Key::generate();
    let kept = Kept::new(&key, &made(&apid, &key, "everything").await);
    let state = apid.dir.path().to_owned();
    let netd = tempfile::tempdir().expect("a directory");
    let places = ["--state-dir", text(&state), "--netd-state-dir", text(netd.path())];
    let (code, problem) = kept.offline("restore", &[&places[..], &["--force"]].concat());
    assert_eq!((code, &problem["code"]), (Some(3), &json!("server-running")), "{problem}");
    // Made after the backup, and lost with the restore.
    post(&apid.socket(), "/api/v1/tenants", None, json!({"name": "later"})).await;
    let fingerprint = apid.fingerprint();
    let dir = apid.stop();

    let there = files(dir.path());
    let (code, problem) = kept.offline("restore", &places);
    assert_eq!((code, &problem["code"]), (Some(3), &json!("target-not-empty")), "{problem}");
    let half = Kept::new(&key, &std::fs::read(kept.dir.path().join("backup")).expect("read")[..5000]);
    let (code, problem) = half.offline("restore", &[&places[..], &["--force"]].concat());
    assert_eq!((code, &problem["code"]), (Some(3), &json!("backup-damaged")), "{problem}");
    let after = files(dir.path());
    assert_eq!(after.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
    assert!(after == there, "whoever is refused changed nothing");

    let (code, report) = kept.offline("restore", &[&places[..], &["--force"]].concat());
    assert_eq!(code, Some(0), "{report}");
    assert!(report["restored_epoch"].as_u64() > report["epoch"].as_u64(), "{report}");
    for (name, bytes) in there.iter().filter(|(name, _)| ["seal.key", "warren.db"].contains(&name.as_str())) {
        let aside = files(dir.path());
        let aside = aside.iter().find(|(aside, _)| aside.starts_with(&format!("{name}.before-20")));
        assert!(aside.is_some_and(|(_, kept)| kept == bytes), "{name} is kept");
    }
    let again = Apid::start(dir, &environment);
    assert_eq!(again.fingerprint(), fingerprint, "who pinned its key knows it");
    let (_, tenants) = get(&again.socket(), "/api/v1/tenants", None).await;
    assert_eq!(tenants["items"][0]["anchor"], before["items"][0]["anchor"]);
    assert_eq!(tenants["items"].as_array().map(Vec::len), Some(1), "{tenants}");
    assert_ne!(tenants["items"][0]["version"], before["items"][0]["version"], "of another epoch");
    let server = again.https(fingerprint);
    for old in [&session, &script] {
        assert_eq!(get(&server, "/api/v1/tenants", Some(old)).await.0, 401);
    }
    assert_eq!(post(&server, "/api/v1/login", None, login).await.0, 200, "people log in as ever");
    let (_, tokens) = get(&again.socket(), "/api/v1/tokens", None).await;
    assert_eq!(tokens["items"][0]["state"], "revoked");
    let (_, log) = get(&again.socket(), "/api/v1/audit", None).await;
    assert!(log.to_string().contains("server.restored"), "{log}");
    let (_, verdict) =
        ask(&again.socket(), Method::GET, "/api/v1/audit/verification", None, Value::Null).await;
    assert_eq!(verdict["holds"], true, "{verdict}");

    // Once more from the same backup, on a machine that knows nothing of this one: other serials, whatever the epoch.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let places = ["--state-dir", text(elsewhere.path()), "--netd-state-dir", text(netd.path())];
    let (code, report) = kept.offline("restore", &places);
    assert_eq!((code, &report["moved_aside"]), (Some(0), &Value::Null), "{report}");
}

#[tokio::test]
async fn lost_keys_come_back_from_a_backup_of_the_keys_alone() {
    let apid = fresh();
    let key = Key::generate();
    let kept = Kept::new(&key, &made(&apid, &key, "ssh-ca").await);
    let later = post(&apid.socket(), "/api/v1/tenants", None, json!({"name": "later"})).await;
    assert_eq!(later.0, 201, "{later:?}");
    let dir = apid.stop();
    let nowhere = tempfile::tempdir().expect("a directory");
    let (code, problem) = kept.offline("restore", &["--state-dir", text(nowhere.path())]);
    assert_eq!((code, &problem["code"]), (Some(3), &json!("backup-partial")), "{problem}");

    std::fs::remove_file(dir.path().join("seal.key")).expect("removed");
    let (code, report) = kept.offline("restore", &["--state-dir", text(dir.path())]);
    assert_eq!((code, &report["put_back"]), (Some(0), &json!(3)), "an anchor and two keys: {report}");
    let left = report["left_to_do"].as_array().expect("a list");
    assert_eq!(
        left.iter().filter(|line| line.to_string().contains("is not in the backup")).count(),
        3,
        "{report}"
    );
    let (code, report) = kept.offline("restore", &["--state-dir", text(dir.path())]);
    assert_eq!((code, &report["put_back"]), (Some(0), &json!(0)), "what opens stays: {report}");

    let again = Apid::start(dir, &[("WARREN_LOG_FORMAT", "text")]);
    let (_, authorities) = get(&again.socket(), "/api/v1/ssh/authorities?tenant=home", None).await;
    assert_eq!(authorities["items"].as_array().map(Vec::len), Some(2), "{authorities}");
    let (_, log) = get(&again.socket(), "/api/v1/audit", None).await;
    assert!(log.to_string().contains("server.keys-restored"), "{log}");
    let sealed = again.logged("an anchor does not unseal");
    assert_eq!(sealed.matches("an anchor does not unseal").count(), 1, "of the later tenant alone: {sealed}");
}

#[tokio::test]
async fn a_backup_of_another_passphrase_is_opened_by_that_and_the_server_by_its_own() {
    let apid = Apid::start(
        tempfile::tempdir().expect("a directory"),
        &[("WARREN_CA_PASSPHRASE", "harbour plum seven")],
    );
    let key = Key::generate();
    let kept = Kept::new(&key, &made(&apid, &key, "ssh-ca").await);
    let dir = apid.stop();
    let file = |name: &str, words: &str| {
        let path = kept.dir.path().join(name);
        std::fs::write(&path, words).expect("written");
        path
    };
    let (old, new) = (file("old", "harbour plum seven"), file("new", "lantern moss eleven"));
    let rewrap = Command::new(env!("CARGO_BIN_EXE_warren-apid"))
        .args(["rewrap", "--allow-root", "--state-dir", text(dir.path())])
        .args(["--ca-passphrase-file", text(&old), "--new-ca-passphrase-file", text(&new)])
        .output()
        .expect("it runs");
    assert!(rewrap.status.success(), "{rewrap:?}");
    let restore =
        |more: &[&str]| kept.offline("restore", &[&["--state-dir", text(dir.path())], more].concat());
    let (code, problem) = restore(&["--ca-passphrase-file", text(&old)]);
    assert_eq!((code, &problem["code"]), (Some(3), &json!("backup-not-usable")), "{problem}");
    assert!(problem.to_string().contains("--backup-ca-passphrase-file"), "{problem}");
    let both = ["--ca-passphrase-file", text(&new), "--backup-ca-passphrase-file", text(&old)];
    let (code, report) = restore(&both);
    assert_eq!((code, &report["put_back"]), (Some(0), &json!(0)), "all of it opens: {report}");

    // A third one, and whoever knew the second is gone.
    let third = file("third", "gravel swan nineteen");
    let lost = ["--ca-passphrase-file", text(&third), "--backup-ca-passphrase-file", text(&old), "--force"];
    let (code, report) = restore(&lost);
    assert_eq!((code, &report["put_back"]), (Some(0), &json!(3)), "an anchor and two keys: {report}");
    let again = Apid::start(dir, &[("WARREN_CA_PASSPHRASE", "gravel swan nineteen")]);
    let (_, health) = get(&again.socket(), "/healthz", None).await;
    assert_eq!(health["checks"]["ssh_ca"], "ok", "{health}");
}

//! What opens the keys in the database: a key file, a passphrase, another one.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::apid::{Apid, fresh, get, post};

const OLD: &str = "harbour plum seven";
const NEW: &str = "lantern moss eleven";

fn with(dir: TempDir, passphrase: &str) -> Apid {
    Apid::start(dir, &[("WARREN_CA_PASSPHRASE", passphrase)])
}

/// The health check of signatures.
async fn signs(apid: &Apid) -> Value {
    get(&apid.socket(), "/healthz", None).await.1["checks"]["ssh_ca"].clone()
}

/// Makes another tenant, with keys of its own; the status of the answer.
async fn another_tenant(apid: &Apid, name: &str) -> u16 {
    post(&apid.socket(), "/api/v1/tenants", None, json!({"name": name})).await.0
}

fn rewrap(dir: &Path, passphrase: &str, to: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warren-apid"));
    command.args(["rewrap", "--allow-root", "--state-dir"]).arg(dir).env("WARREN_CA_PASSPHRASE", passphrase);
    if let Some(new) = to {
        let file = dir.join("new");
        std::fs::write(&file, format!("{new}\n")).expect("written");
        command.arg("--new-ca-passphrase-file").arg(file);
    } else {
        command.arg("--to-key-file");
    }
    command.output().expect("the binary runs")
}

#[tokio::test]
async fn a_passphrase_is_changed_while_the_server_serves_and_the_former_one_opens_nothing() {
    let apid = with(tempfile::tempdir().expect("a directory"), OLD);
    assert_eq!(signs(&apid).await, "ok");
    let done = rewrap(apid.dir.path(), OLD, Some(NEW));
    assert!(done.status.success(), "{done:?}");
    assert_eq!(another_tenant(&apid, "second").await, 201, "it goes on");
    let refused = rewrap(apid.dir.path(), OLD, Some("another"));
    assert!(
        refused.status.code() == Some(3)
            && String::from_utf8_lossy(&refused.stderr).contains("wrong passphrase")
    );

    let sealed = with(apid.stop(), OLD);
    assert!(signs(&sealed).await.as_str().is_some_and(|why| why.contains("wrong passphrase")));
    assert_eq!(another_tenant(&sealed, "third").await, 503, "no key is sealed by what nobody knows");
    says_that_it_is_sealed(&sealed).await;
    let open = with(sealed.stop(), NEW);
    assert_eq!((signs(&open).await, another_tenant(&open, "third").await), (json!("ok"), 201));
}

/// Nobody is told that there is no tenant, nor that the database fails.
async fn says_that_it_is_sealed(apid: &Apid) {
    let socket = apid.socket();
    for what in
        ["tenants", "tenants/home", "devices?tenant=home", "roles", "ssh/authorities", "ssh/revocations"]
    {
        let (status, problem) = get(&socket, &format!("/api/v1/{what}"), None).await;
        assert_eq!((status, &problem["code"]), (503, &json!("signer-sealed")), "{what}: {problem}");
    }
    for (what, form) in [("tenants", json!({"name": "third"})), ("ssh/authorities/user/rotate", json!({}))] {
        let (status, problem) = post(&socket, &format!("/api/v1/{what}"), None, form).await;
        assert_eq!((status, &problem["code"]), (503, &json!("signer-sealed")), "{what}: {problem}");
        assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("passphrase")), "{problem}");
    }
    let (_, absent) = get(&socket, "/api/v1/devices?tenant=nowhere", None).await;
    assert_eq!(absent["code"], json!("tenant-not-found"));
    let (status, found) = get(&socket, "/api/v1/status", None).await;
    let directories = found["checks"]["directories"].as_str().unwrap_or_default();
    assert!(status == 200 && directories.contains("signer-sealed"), "{found}");
}

#[tokio::test]
async fn a_passphrase_is_taken_away_only_by_who_says_so() {
    let apid = with(tempfile::tempdir().expect("a directory"), OLD);
    let dir = apid.dir.path();
    let mut bare = Command::new(env!("CARGO_BIN_EXE_warren-apid"));
    bare.args(["rewrap", "--allow-root", "--state-dir"]).arg(dir).env("WARREN_CA_PASSPHRASE", OLD);
    let refused = bare.output().expect("the binary runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("--to-key-file"), "{refused:?}");
    assert!(!dir.join("seal.key").exists());
    let empty = rewrap(dir, OLD, Some(""));
    let said = String::from_utf8_lossy(&empty.stderr);
    assert!(!empty.status.success() && said.contains(&dir.join("new").display().to_string()), "{empty:?}");
    assert!(rewrap(dir, OLD, Some(NEW)).status.success());
    assert!(rewrap(dir, NEW, None).status.success());
    let (_, log) = get(&apid.socket(), "/api/v1/audit?limit=10", None).await;
    let entries = log["items"].as_array().expect("entries");
    let wrapped = || entries.iter().filter(|entry| entry["action"] == "server.keys-wrapped");
    assert_eq!(wrapped().count(), 3, "the first start, and each that was not refused: {entries:?}");
    let details: Vec<&str> = wrapped().filter_map(|entry| entry["detail"].as_str()).collect();
    for way in ["a new passphrase opens the keys", "the passphrase is taken away: seal.key opens the keys"] {
        assert!(details.contains(&way), "{details:?}");
    }
}

#[tokio::test]
async fn a_replica_needs_the_passphrase_alone() {
    let apid = with(tempfile::tempdir().expect("a directory"), OLD);
    let (dir, other) = (apid.stop(), tempfile::tempdir().expect("a directory"));
    for name in ["warren.db", "tls.key"] {
        std::fs::copy(dir.path().join(name), other.path().join(name)).expect("copied");
    }
    let replica = with(other, OLD);
    assert_eq!(signs(&replica).await, "ok");
    for name in ["seal.key", "seal.salt"] {
        assert!(!replica.dir.path().join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn a_server_with_a_key_file_takes_a_passphrase_at_its_next_start_and_goes_back() {
    let dir = fresh().stop();
    let apid = with(dir, OLD);
    assert_eq!(signs(&apid).await, "ok");
    let dir = apid.stop();
    std::fs::remove_file(dir.path().join("seal.key")).expect("removed");
    let without = fresh_in(dir);
    assert!(signs(&without).await.as_str().is_some_and(|why| why.contains("--ca-passphrase-file")));
    let dir = without.stop();
    assert!(!dir.path().join("seal.key").exists(), "a sealed server makes no other key");
    let done = rewrap(dir.path(), OLD, None);
    assert!(done.status.success(), "{done:?}");
    let key = std::fs::read(dir.path().join("seal.key")).expect("it is there");
    let kept = rewrap(dir.path(), OLD, None);
    assert!(kept.status.success(), "{kept:?}");
    assert_eq!(std::fs::read(dir.path().join("seal.key")).expect("it is there"), key);
    let still = with(dir, OLD);
    assert_eq!(signs(&still).await, "ok");
    assert!(still.log.contains("the passphrase is not used"), "{}", still.log);
    let dir = still.stop();
    assert_eq!(std::fs::read(dir.path().join("seal.key")).expect("it is there"), key);
    assert_eq!(signs(&fresh_in(dir)).await, "ok");
}

fn fresh_in(dir: TempDir) -> Apid {
    Apid::start(dir, &[("WARREN_ADMIN_PASSWORD", "violet tram 9 opens")])
}

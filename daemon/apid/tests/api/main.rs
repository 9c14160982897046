//! The API process from outside: a real `warren-apid` on SQLite, asked over HTTPS, its unix socket and its probes.

mod access;
mod apid;
mod audit;
mod backup;
mod idempotency;
mod lapse;
mod limits;
mod observe;
mod people;
mod revocations;
mod roles;
mod seal;
mod ssh;
#[path = "../shared/started.rs"]
mod started;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use link::https::{Bounds, HttpsError, Method, Request, request};
use model::Fingerprint;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::apid::{Apid, PATIENCE, ask, fresh, get, post, probe};
use crate::started::free;

#[tokio::test]
async fn the_first_administrator_comes_by_the_secret_once_and_logs_in_for_ever() {
    let apid = fresh();
    let server = apid.https(apid.fingerprint());
    let form = |secret: &str, password: &str| json!({"secret": secret, "user": "ada", "password": password});
    let (url, good) = (apid.field("url"), "violet tram 9 opens");
    let (_, secret) = url.split_once("/setup?secret=").expect("the one-time URL");

    let (status, problem) = post(&server, "/api/v1/setup", None, form("wrong", good)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("setup-done")));
    let (status, problem) = post(&server, "/api/v1/setup", None, form(secret, "short")).await;
    assert_eq!((status, &problem["code"]), (400, &json!("password-invalid")));
    let (status, made) = post(&server, "/api/v1/setup", None, form(secret, good)).await;
    assert_eq!(status, 201, "{made}");
    let (status, _) = post(&server, "/api/v1/setup", None, form(secret, good)).await;
    assert_eq!(status, 409, "the secret works once");

    let (status, problem) =
        post(&server, "/api/v1/login", None, json!({"user": "ada", "password": "no"})).await;
    assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")));
    let (status, _) = post(&server, "/api/v1/login", None, json!({"user": "eve", "password": "no"})).await;
    assert_eq!(status, 401);
    let (status, login) =
        post(&server, "/api/v1/login", None, json!({"user": "ada", "password": good})).await;
    assert_eq!(status, 200, "{login}");
    let token = login["secret"].as_str().expect("a token");
    assert_eq!(get(&server, "/api/v1/tenants", Some(token)).await.0, 200);

    let wish = json!({"label": "ci", "ttl_seconds": 3600});
    let (status, script) = post(&server, "/api/v1/api-tokens", Some(token), wish).await;
    assert_eq!(status, 201, "{script}");

    let dir = apid.stop();
    let again = Apid::start(dir, &[("WARREN_LOG_FORMAT", "text")]);
    let server = again.https(again.fingerprint());
    let script = script["secret"].as_str().expect("a token");
    assert_eq!(get(&server, "/api/v1/devices", Some(script)).await.0, 200, "key and token outlive a restart");
}

#[tokio::test]
async fn a_client_notices_another_server() {
    let apid = fresh();
    let other = Fingerprint::from_bytes([7; 32]);
    let wish = Request::builder().uri("/api/version").body(Vec::new().into()).expect("a request");
    let error = request(&apid.https(other), wish, Bounds::default()).await.expect_err("another key");
    assert!(matches!(error, HttpsError::Pin(_)), "{error}");
}

#[tokio::test]
async fn local_administrators_make_tenants_tokens_and_names() {
    let apid = fresh();
    let socket = apid.socket();
    let (status, page) = get(&socket, "/api/v1/tenants", None).await;
    assert_eq!((status, &page["items"][0]["zone"]), (200, &json!("home.internal")));

    let (status, token) = post(&socket, "/api/v1/tokens", None, json!({"ttl_seconds": 60, "uses": 2})).await;
    assert_eq!(status, 201, "{token}");
    assert!(token["secret"].as_str().is_some_and(|t| t.parse::<model::token::OnboardingToken>().is_ok()));
    let path = format!("/api/v1/tokens/{}/revoke", token["id"].as_str().expect("an id"));
    let (_, revoked) = post(&socket, &path, None, Value::Null).await;
    assert_eq!(revoked["state"], "revoked");
    assert!(revoked.get("secret").is_none(), "a secret is shown once");

    let record = json!({"name": "www", "type": "A", "value": "100.64.0.9"});
    let (status, added) = post(&socket, "/api/v1/dns", None, record.clone()).await;
    assert_eq!((status, &added["name"]), (201, &json!("www.home.internal")));
    let (status, _) = post(&socket, "/api/v1/dns/remove", None, record.clone()).await;
    assert_eq!(status, 200);
    let (status, problem) = post(&socket, "/api/v1/dns/remove", None, record).await;
    assert_eq!((status, &problem["code"]), (404, &json!("record-not-found")));

    for (name, kind, value, whole) in [
        ("*.host", "A", "100.64.0.9", "*.host.home.internal"),
        ("_http._tcp", "SRV", "10 5 8080 host.home.internal", "_http._tcp.home.internal"),
    ] {
        let record = json!({"name": name, "type": kind, "value": value});
        let (status, added) = post(&socket, "/api/v1/dns", None, record.clone()).await;
        let expect = json!({"name": whole, "type": kind, "value": value, "ttl": 30});
        assert_eq!((status, &added), (201, &expect));
        let (_, listed) = get(&socket, "/api/v1/dns", None).await;
        assert!(listed["items"].as_array().is_some_and(|items| items.contains(&expect)), "{listed}");
        assert_eq!(post(&socket, "/api/v1/dns/remove", None, record).await.0, 200);
    }

    for last in 10..15 {
        let record = json!({"name": "many", "type": "A", "value": format!("100.64.0.{last}")});
        assert_eq!(post(&socket, "/api/v1/dns", None, record).await.0, 201);
    }
    let (mut path, mut values) = ("/api/v1/dns?limit=2".to_owned(), Vec::new());
    for expect in [2, 2, 1] {
        let (_, page) = get(&socket, &path, None).await;
        let items = page["items"].as_array().expect("items");
        assert_eq!((items.len(), page["next"].is_string()), (expect, expect == 2), "{page}");
        values.extend(items.iter().map(|item| item["value"].as_str().expect("text").to_owned()));
        path = format!("/api/v1/dns?limit=2&cursor={}", page["next"].as_str().unwrap_or_default());
    }
    assert_eq!(values, (10..15).map(|last| format!("100.64.0.{last}")).collect::<Vec<_>>());
    for bad in ["limit=0", "limit=1001", "cursor=!", "cursor=bm9uZQ"] {
        let path = format!("/api/v1/tokens?{bad}");
        assert_eq!(get(&socket, &path, None).await.0, 400, "{bad}");
    }

    let (status, lab) = post(&socket, "/api/v1/tenants", None, json!({"name": "lab"})).await;
    assert_eq!(status, 201, "{lab}");
    let (status, problem) = get(&socket, "/api/v1/devices", None).await;
    assert_eq!((status, &problem["code"]), (400, &json!("bad-request")), "which tenant?");
    assert_eq!(get(&socket, "/api/v1/devices?tenant=lab", None).await.0, 200);
    assert_eq!(ask(&socket, Method::DELETE, "/api/v1/tenants/lab", None, Value::Null).await.0, 204);
    assert_eq!(get(&socket, "/api/v1/devices", None).await.0, 200);
}

#[tokio::test]
async fn bad_input_is_refused_with_a_code_a_hint_and_a_request_id() {
    let apid = fresh();
    let socket = apid.socket();
    let check = async |method: Method, path: &str, body: Value, expect: (u16, &str)| {
        let (status, problem) = ask(&socket, method, path, None, body).await;
        assert_eq!((status, problem["code"].as_str().unwrap_or_default()), expect, "{path}: {problem}");
        assert!(!problem["hint"].as_str().unwrap_or_default().is_empty(), "{problem}");
        assert_eq!(problem["request_id"].as_str().map(str::len), Some(16), "{problem}");
    };
    check(Method::GET, "/nothing", Value::Null, (404, "not-found")).await;
    check(Method::PUT, "/api/v1/tenants", json!({}), (405, "method-not-allowed")).await;
    check(Method::GET, "/api/v1/devices?tenant=..", Value::Null, (400, "bad-request")).await;
    check(Method::GET, "/api/v1/devices?tenant=other", Value::Null, (404, "tenant-not-found")).await;
    check(Method::GET, "/api/v1/devices/nobody", Value::Null, (404, "device-not-found")).await;
    check(Method::POST, "/api/v1/tokens", json!({"ttl_seconds": 60, "uses": 0}), (400, "bad-request")).await;
    check(
        Method::POST,
        "/api/v1/tokens",
        json!({"ttl_seconds": 60, "uses": 1, "x": 1}),
        (400, "bad-request"),
    )
    .await;
    check(Method::POST, "/api/v1/tenants", json!({"name": "home"}), (409, "name-taken")).await;
    check(
        Method::POST,
        "/api/v1/tenants",
        json!({"name": "a", "block_v4": "100.64.4.0/24"}),
        (409, "block-overlap"),
    )
    .await;
    check(
        Method::POST,
        "/api/v1/tenants",
        json!({"name": "a", "block_v4": "127.0.0.0/8"}),
        (400, "block-invalid"),
    )
    .await;
    check(
        Method::POST,
        "/api/v1/dns",
        json!({"name": "a\nb", "type": "A", "value": "1.2.3.4"}),
        (400, "name-invalid"),
    )
    .await;
    check(
        Method::POST,
        "/api/v1/dns",
        json!({"name": "a", "type": "MX", "value": "1.2.3.4"}),
        (400, "record-invalid"),
    )
    .await;
    check(
        Method::POST,
        "/api/v1/dns",
        json!({"name": "a", "type": "A", "value": "1.2.3"}),
        (400, "record-invalid"),
    )
    .await;
    for (name, kind, value, code) in [
        ("a.*.b", "A", "1.2.3.4", "name-invalid"),
        ("_http._tcp", "SRV", "10 5 8080", "record-invalid"),
        ("_http._tcp", "SRV", "10 5 80800 host.home.internal", "record-invalid"),
        ("_http._tcp", "SRV", "10 5 8080 *.host.home.internal", "record-invalid"),
    ] {
        let record = json!({"name": name, "type": kind, "value": value});
        check(Method::POST, "/api/v1/dns", record, (400, code)).await;
    }
    let huge = json!({"name": "a".repeat(100_000), "type": "A", "value": "1.2.3.4"});
    check(Method::POST, "/api/v1/dns", huge, (400, "bad-request")).await;
}

#[tokio::test]
async fn probes_say_what_is_missing_and_metrics_are_not_public() {
    let apid = fresh();
    let ready = probe(&apid, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.0 200 "), "{ready}");
    let health = probe(&apid, "/healthz").await;
    assert!(
        health.contains("warren-netd is not attached") && health.starts_with("HTTP/1.0 503 "),
        "{health}"
    );
    let metrics = probe(&apid, "/metrics").await;
    assert!(metrics.contains("warren_db_open_connections"), "{metrics}");
    assert_eq!(get(&apid.https(apid.fingerprint()), "/metrics", None).await.0, 404);
}

#[tokio::test]
async fn a_weak_password_of_the_environment_is_taken_with_a_warning() {
    let dir = tempfile::tempdir().expect("a directory");
    let apid = Apid::start(dir, &[("WARREN_ADMIN_PASSWORD", "hunter2")]);
    assert!(apid.log.contains("WARREN_ADMIN_PASSWORD is weak"), "{}", apid.log);
    assert!(!apid.log.contains("hunter2"));
    let server = apid.https(apid.fingerprint());
    let (status, _) =
        post(&server, "/api/v1/login", None, json!({"user": "admin", "password": "hunter2"})).await;
    assert_eq!(status, 200);
}

#[test]
fn it_refuses_to_start_where_it_should_not() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_warren-apid"))
            .args(arguments)
            .output()
            .expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let dir = tempfile::tempdir().expect("a directory");
    let state: PathBuf = dir.path().into();
    let state = state.to_str().expect("text");
    if nix::unistd::Uid::effective().is_root() {
        let (code, text) = run(&["--state-dir", state]);
        assert!(code == Some(3) && text.contains("needs no privilege"), "{text}");
    }
    let probes = free().to_string();
    let (code, text) = run(&["--allow-root", "--state-dir", state, "--metrics-listen", &probes]);
    assert!(code == Some(1) && text.contains("--public-url"), "{text}");
    let (code, text) = run(&["--nonsense"]);
    assert!(code == Some(2) && text.contains("--nonsense"), "{text}");
}

#[tokio::test]
async fn links_that_come_and_go_leave_nothing_open() {
    let apid = fresh();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", apid.child.id())).expect("its files").count();
    let before = open();
    for _ in 0..100 {
        let mut stream =
            tokio::net::UnixStream::connect(apid.dir.path().join("apid.sock")).await.expect("a socket");
        // The first byte of a frame: a link, which then ends. Turned away where too many of those before still end, the
        // client cannot write it.
        let _ = stream.write_all(&[0]).await;
    }
    let end = Instant::now() + PATIENCE;
    while open() > before + 5 {
        assert!(Instant::now() < end, "{} files are open, {before} were", open());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn methods_of_anybodys_making_are_one_series() {
    let apid = fresh();
    for n in 0..20 {
        let method = Method::from_bytes(format!("X{n}").as_bytes()).expect("a token");
        ask(&apid.socket(), method, "/api/version", None, Value::Null).await;
    }
    assert!(!probe(&apid, "/metrics").await.contains("method=\"X"));
}

#[test]
fn a_restored_database_is_told_and_an_empty_password_is_none() {
    let dir = fresh().stop();
    let run = Command::new(env!("CARGO_BIN_EXE_warren-apid"))
        .args(["--allow-root", "--restored", "--state-dir"])
        .arg(dir.path())
        .output()
        .expect("the binary runs");
    assert!(
        run.status.success() && String::from_utf8_lossy(&run.stderr).contains("epoch is raised"),
        "{run:?}"
    );
    let again = Apid::start(dir, &[("WARREN_ADMIN_PASSWORD", "")]);
    assert!(!again.log.contains("first administrator made"), "{}", again.log);
}

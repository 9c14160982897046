//! The audit log from outside: who sees what, that it holds, and that a file and a webhook are told.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use hmac::{Hmac, Mac as _};
use link::tls::{ALPN_HTTP, Certificate};
use model::api::audit::{AuditCheckpoint, AuditVerdict};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::apid::{Apid, PATIENCE, get, post};
use crate::ssh::PASSWORD;

fn start(more: &[(&str, &str)]) -> Apid {
    let environment = [&[("WARREN_ADMIN_PASSWORD", PASSWORD)], more].concat();
    Apid::start(tempfile::tempdir().expect("a directory"), &environment)
}

async fn entries(apid: &Apid, query: &str) -> Vec<Value> {
    let (status, page) = get(&apid.socket(), &format!("/api/v1/audit?{query}"), None).await;
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().expect("a list").clone()
}

/// All entries once the newest have their numbers.
async fn chained(apid: &Apid) -> Vec<Value> {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let all = entries(apid, "limit=1000").await;
        if all.iter().all(|entry| entry["sequence"].is_u64()) {
            return all;
        }
        assert!(std::time::Instant::now() < end, "nobody chains: {all:?}");
        tokio::task::yield_now().await;
    }
}

/// By the network from its address, by the unix socket from none; each by a request, but for what the server did itself.
fn all_say_where_they_came_from(all: &[Value]) {
    for entry in all {
        let actor = entry["actor"].as_str().expect("text");
        let local = actor.starts_with("local:") || actor == "server";
        assert_eq!(entry["source"], if local { Value::Null } else { json!("127.0.0.1") }, "{entry}");
        let length = (actor != "server").then_some(16);
        assert_eq!(entry["request"].as_str().map(str::len), length, "{entry}");
    }
}

#[tokio::test]
async fn what_people_do_and_are_refused_is_written_and_seen_by_those_it_concerns() {
    let apid = start(&[]);
    let (socket, server) = (apid.socket(), apid.https(apid.fingerprint()));
    post(&socket, "/api/v1/tenants", None, json!({"name": "other"})).await;
    for (name, role, tenant) in [("tina", "tenant-admin", "home"), ("vera", "viewer", "home")] {
        let wish = json!({"name": name, "role": role, "tenant": tenant, "password": PASSWORD});
        assert_eq!(post(&socket, "/api/v1/users", None, wish).await.0, 201);
    }
    let token = json!({"ttl_seconds": 60, "uses": 1});
    post(&socket, "/api/v1/tokens?tenant=other", None, token.clone()).await;
    let log_in = async |name: &str, password: &str| {
        let form = json!({"user": name, "password": password});
        post(&server, "/api/v1/login", None, form).await.1["secret"].as_str().map(str::to_owned)
    };
    assert_eq!(log_in("vera", "no").await, None);
    let vera = log_in("vera", PASSWORD).await;
    assert_eq!(post(&server, "/api/v1/tokens", vera.as_deref(), token).await.0, 403);

    let all = chained(&apid).await;
    let find = |action: &str, actor: &str| {
        let found = all
            .iter()
            .find(|e| e["action"] == action && e["actor"].as_str().is_some_and(|a| a.starts_with(actor)));
        found.unwrap_or_else(|| panic!("no {action} of {actor} in {all:?}"))
    };
    assert_eq!(find("user.login", "network:127.0.0.1")["code"], "unauthenticated");
    assert_eq!(find("user.login", "user:vera")["outcome"], "done");
    for actor in ["network:127.0.0.1", "user:vera"] {
        assert_eq!(find("user.login", actor)["tenant"], "home", "her administrators see it");
    }
    let denied = find("api.call", "user:vera");
    assert_eq!((&denied["code"], &denied["target"]), (&json!("forbidden"), &json!("POST /api/v1/tokens")));
    assert_eq!((&denied["tenant"], &denied["outcome"]), (&json!("home"), &json!("refused")));
    assert_eq!(find("token.create", "local:")["tenant"], "other");
    all_say_where_they_came_from(&all);
    let numbers: Vec<_> = all.iter().rev().map(|entry| entry["sequence"].as_u64()).collect();
    assert_eq!(numbers, (1..=all.len() as u64).map(Some).collect::<Vec<_>>(), "newest first, each numbered");

    let tina = log_in("tina", PASSWORD).await;
    let (status, page) = get(&server, "/api/v1/audit", tina.as_deref()).await;
    let seen = page["items"].as_array().expect("a list");
    assert!(status == 200 && !seen.is_empty() && seen.iter().all(|e| e["tenant"] == "home"), "{page}");
    assert_eq!(get(&server, "/api/v1/audit?tenant=other", tina.as_deref()).await.0, 404);
    assert_eq!(get(&server, "/api/v1/audit", vera.as_deref()).await.0, 403);
    assert_eq!(
        get(&server, "/api/v1/audit/verification", tina.as_deref()).await.0,
        403,
        "it is of all tenants"
    );

    let (mut paged, mut query) = (Vec::new(), "limit=3".to_owned());
    loop {
        let (_, page) = get(&socket, &format!("/api/v1/audit?{query}"), None).await;
        paged.extend(page["items"].as_array().expect("a list").iter().map(|e| e["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=3&cursor={next}");
    }
    let ids: Vec<_> = entries(&apid, "limit=1000").await.iter().map(|e| e["id"].clone()).collect();
    assert_eq!(paged, ids, "pages hold every entry once");
    let after: Vec<_> =
        entries(&apid, "after=2&limit=2").await.iter().map(|e| e["sequence"].clone()).collect();
    assert_eq!(after, [json!(3), json!(4)]);
    assert_eq!(get(&socket, "/api/v1/audit?limit=0", None).await.0, 400);
    assert_eq!(get(&socket, "/api/v1/audit?cursor=x", None).await.0, 400);
}

#[tokio::test]
async fn an_entry_that_was_changed_in_the_database_is_found() {
    let apid = start(&[]);
    chained(&apid).await;
    let verdict = async |apid: &Apid| get(&apid.socket(), "/api/v1/audit/verification", None).await.1;
    assert_eq!(verdict(&apid).await["holds"], true);
    let database = apid.dir.path().join("warren.db");
    let store = store::Store::open(&format!("sqlite:{}", database.display())).await.expect("the database");
    store.close().await;
    let tampered = Command::new("sqlite3")
        .args(["-cmd", ".timeout 10000"])
        .arg(&database)
        .arg("UPDATE audit SET actor = 'user:somebody' WHERE sequence = 1")
        .status()
        .expect("apt-get install sqlite3");
    assert!(tampered.success());
    let verdict = verdict(&apid).await;
    assert_eq!((&verdict["holds"], &verdict["broken_at"]), (&json!(false), &json!(1)), "{verdict}");
}

/// One request as a webhook sees it: its head in lower case, and its body.
async fn one_request(
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
    answer: &str,
) -> (BTreeMap<String, String>, Vec<u8>) {
    // A server that was stopped may have left one that nobody speaks on.
    let stream = loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        if let Ok(stream) = acceptor.accept(stream).await {
            break stream;
        }
    };
    let mut stream = BufReader::new(stream);
    let mut head = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a line");
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            head.insert("request".into(), line.trim_end().to_owned());
            continue;
        };
        head.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; head["content-length"].parse().expect("a length")];
    stream.read_exact(&mut body).await.expect("the body");
    let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.expect("it reads");
    stream.shutdown().await.expect("closed");
    (head, body)
}

fn told(body: &[u8]) -> Vec<u64> {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    body["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| e["sequence"].as_u64().expect("a number"))
        .collect()
}

fn numbers_in(path: &Path) -> Vec<u64> {
    let entries = lines_in(path).into_iter().filter(|line| line["checkpoint"].is_null());
    entries.map(|entry| entry["sequence"].as_u64().expect("a number")).collect()
}

fn lines_in(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // It is being written: the last line may be half of one.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The signed end after the entry of this number, which is waited for.
async fn checkpoint_in(path: &Path, number: u64) -> AuditCheckpoint {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let lines = lines_in(path);
        let found = lines.iter().rev().find(|line| line["checkpoint"]["sequence"].as_u64() >= Some(number));
        if let Some(line) = found {
            return serde_json::from_value(line["checkpoint"].clone()).expect("a checkpoint");
        }
        assert!(std::time::Instant::now() < end, "no end of {number} is told: {lines:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_sink_holds_what_an_older_copy_of_the_database_contradicts() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("audit.jsonl");
    let environment =
        [("WARREN_ADMIN_PASSWORD", PASSWORD), ("WARREN_AUDIT_FILE", file.to_str().expect("text"))];
    let apid = Apid::start(tempfile::tempdir().expect("a directory"), &environment);
    let told = checkpoint_in(&file, 1).await;
    let verdict = async |apid: &Apid, number: u64| {
        let path = format!("/api/v1/audit/verification?sequence={number}");
        let (status, verdict) = get(&apid.socket(), &path, None).await;
        assert_eq!(status, 200, "{verdict}");
        serde_json::from_value::<AuditVerdict>(verdict).expect("a verdict")
    };
    let now = verdict(&apid, told.sequence).await;
    assert_eq!((now.holds, now.there), (true, Some(told.hash)));
    assert!(told.is_of(&now.key.expect("nothing is sealed")), "{told:?}");
    assert_eq!(verdict(&apid, now.newest + 1).await.there, None);
    assert_eq!(get(&apid.socket(), "/api/v1/audit/verification?sequence=0", None).await.0, 400);

    let state = apid.stop();
    let copy = dir.path().join("warren.db");
    std::fs::copy(state.path().join("warren.db"), &copy).expect("copied");
    let apid = Apid::start(state, &environment);
    post(&apid.socket(), "/api/v1/tenants", None, json!({"name": "later"})).await;
    let newest = chained(&apid).await.iter().filter_map(|entry| entry["sequence"].as_u64()).max();
    let told = checkpoint_in(&file, newest.expect("entries")).await;
    let state = apid.stop();
    for beside in ["warren.db-wal", "warren.db-shm"] {
        let _ = std::fs::remove_file(state.path().join(beside));
    }
    std::fs::copy(&copy, state.path().join("warren.db")).expect("copied");
    let apid = Apid::start(state, &environment);
    let end = std::time::Instant::now() + PATIENCE;
    let is_of_the_copy = |line: &Value| line["checkpoint"]["sequence"].as_u64() < Some(told.sequence);
    while !lines_in(&file).iter().rev().find(|line| !line["checkpoint"].is_null()).is_some_and(is_of_the_copy)
    {
        assert!(std::time::Instant::now() < end, "an end of the older copy is told, too");
        tokio::task::yield_now().await;
    }
    assert_eq!(checkpoint_in(&file, told.sequence).await, told, "what was told before stays in the file");
    let older = verdict(&apid, told.sequence).await;
    assert!(older.holds, "an older copy holds by itself: {older:?}");
    assert_ne!(older.there, Some(told.hash), "what the sink has says otherwise");
    assert!(told.is_of(&older.key.expect("nothing is sealed")));
}

#[tokio::test]
async fn a_file_and_a_webhook_are_told_everything_in_order_across_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (ca, secret, file) =
        (dir.path().join("ca.pem"), dir.path().join("secret"), dir.path().join("audit.jsonl"));
    std::fs::write(&ca, own.cert.pem()).expect("written");
    std::fs::write(&secret, "between us\n").expect("written");
    let key = own.signing_key.serialize_pem();
    let certificate = Certificate::from_pem(own.cert.pem().as_bytes(), key.as_bytes()).expect("a pair");
    let config = certificate.server_config(ALPN_HTTP).expect("a configuration");
    let acceptor = TlsAcceptor::from(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://localhost:{}/warren", listener.local_addr().expect("bound").port());
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let settings = [
        ("WARREN_ADMIN_PASSWORD", PASSWORD.to_owned()),
        ("WARREN_AUDIT_FILE", text(&file)),
        ("WARREN_AUDIT_WEBHOOK", url),
        ("WARREN_AUDIT_WEBHOOK_SECRET_FILE", text(&secret)),
        ("WARREN_AUDIT_WEBHOOK_CA_FILE", text(&ca)),
    ];
    let environment: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let apid = Apid::start(tempfile::tempdir().expect("a directory"), &environment);

    // Nobody takes the first batch: it comes again, by the same key.
    let (first, body) = one_request(&listener, &acceptor, "503 Busy").await;
    let (again, same) = one_request(&listener, &acceptor, "204 Fine").await;
    assert_eq!((&first["idempotency-key"], &body), (&again["idempotency-key"], &same));
    assert_eq!(again["request"], "POST /warren HTTP/1.1");
    let mut mac = Hmac::<Sha256>::new_from_slice(b"between us").expect("any length");
    mac.update(&same);
    let signature = data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes());
    assert_eq!(again["warren-signature"], format!("sha256={signature}"));
    let mut seen = told(&same);

    let apid = Apid::start(apid.stop(), &environment);
    post(&apid.socket(), "/api/v1/tenants", None, json!({"name": "later"})).await;
    let total = chained(&apid).await.len() as u64;
    while seen.last() < Some(&total) {
        // What was being told when the server stopped may come once more.
        let batch = told(&one_request(&listener, &acceptor, "200 OK").await.1);
        let newest = seen.last().copied();
        seen.extend(batch.into_iter().filter(|number| Some(*number) > newest));
    }
    // More may have happened since it was counted.
    let whole: Vec<u64> = (1..=total).collect();
    assert_eq!(seen[..whole.len()], whole);
    let end = std::time::Instant::now() + PATIENCE;
    while numbers_in(&file).last() < Some(&total) {
        assert!(std::time::Instant::now() < end, "the file is not told");
        tokio::task::yield_now().await;
    }
    // The webhook hears where it ends, too.
    let end = loop {
        let (head, body) = one_request(&listener, &acceptor, "200 OK").await;
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        if body["checkpoint"]["sequence"].as_u64() >= Some(total) {
            assert!(head["idempotency-key"].starts_with("warren-audit-end-"), "{head:?}");
            break body;
        }
    };
    assert_eq!(end["items"], json!([]));
    let mut in_file = numbers_in(&file);
    in_file.dedup();
    assert_eq!(in_file[..whole.len()], whole);
    drop(apid);
}

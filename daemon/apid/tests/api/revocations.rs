//! Taking certificates back from outside: what names nothing is refused, and a rotation waits for whom it names.

use std::time::{Duration, Instant};

use ca::KeyGeneration;
use control::{Actor, AuditEntry, Trace};
use link::https::Method;
use model::id::UserId;
use model::{CaKind, DeviceId, SshSerial, TenantId};
use serde_json::{Value, json};
use store::{CertificateRow, Store};

use crate::apid::{Apid, PATIENCE, ask, get, post};
use crate::ssh::{PASSWORD, form, identity, log_in, public_key, vouch, wall, with_devices};

/// What bob logs in with.
const BOBS: &str = "quiet heron walks the dam";

async fn issued(apid: &Apid, tenant: TenantId) -> Value {
    let (token, key) = (log_in(apid).await, public_key(apid, "ed25519"));
    let word = vouch(tenant, 1, &key, wall()).sign(&identity(1));
    let server = apid.https(apid.fingerprint());
    let (status, issued) = post(&server, "/api/v1/ssh/certificates", Some(&token), form(&key, &word)).await;
    assert_eq!(status, 201, "{issued}");
    issued
}

#[tokio::test]
async fn a_mistyped_revocation_is_refused_and_another_says_what_it_hit() {
    let (apid, tenant) = with_devices().await;
    let serial = issued(&apid, tenant).await["serial"].as_str().expect("a number").to_owned();
    let revoke = async |kind: &str, what: &str, unknown: bool| {
        let mut form = json!({"kind": kind, "what": [what]});
        if unknown {
            form["unknown"] = true.into();
        }
        post(&apid.socket(), "/api/v1/ssh/revocations", None, form).await
    };
    let host = DeviceId::from_bytes([1; 16]);
    for (kind, what) in [
        ("user", "serial:4242"),
        ("user", "id:u:nobody@home"),
        ("user", "id:u:admin@elsewhere"),
        ("user", "id:s:deploy@home"),
        ("host", "id:u:admin@home"),
        ("host", &format!("serial:{serial}")),
        ("user", &format!("id:h:{host}@home")),
        ("host", &format!("id:h:{}@home", DeviceId::from_bytes([7; 16]))),
    ] {
        let (status, problem) = revoke(kind, what, false).await;
        assert_eq!((status, &problem["code"]), (404, &json!("revocation-unknown")), "{kind} {what}");
    }
    let (_, listed) = get(&apid.socket(), "/api/v1/ssh/authorities/user/revoked", None).await;
    assert_eq!(listed["entries"], json!(0), "nothing of it was done");
    let (status, done) = revoke("user", "serial:4242", true).await;
    assert_eq!((status, &done["revoked"], &done["certificates"]), (200, &json!(1), &json!(0)));
    let (status, done) = revoke("host", &format!("id:h:{host}@home"), false).await;
    assert_eq!((status, &done["revoked"]), (200, &json!(1)), "{done}");
    let (status, done) = revoke("user", &format!("serial:{serial}"), false).await;
    assert_eq!((status, &done["revoked"], &done["certificates"]), (200, &json!(1), &json!(1)), "{done}");
    let (status, done) = revoke("user", "id:u:admin@home", false).await;
    assert_eq!((status, &done["certificates"]), (200, &json!(0)), "{done}");
    assert!(done["until"].as_str().is_some_and(|until| until > wall().to_string().as_str()), "{done}");
}

#[tokio::test]
async fn whoever_is_revoked_hears_until_when_and_is_given_back() {
    let (apid, tenant) = with_devices().await;
    let (token, key) = (log_in(&apid).await, public_key(&apid, "ed25519"));
    let serial = issued(&apid, tenant).await["serial"].as_str().expect("a number").to_owned();
    let (server, socket) = (apid.https(apid.fingerprint()), apid.socket());
    let issue = async || {
        let word = vouch(tenant, 1, &key, wall()).sign(&identity(1));
        post(&server, "/api/v1/ssh/certificates", Some(&token), form(&key, &word)).await
    };
    let give_back = async |what: &str| {
        post(&socket, "/api/v1/ssh/revocations/give-back", None, json!({"what": [what]})).await
    };
    let wish = json!({"kind": "user", "what": ["id:u:admin@home", format!("serial:{serial}")]});
    let (status, done) = post(&socket, "/api/v1/ssh/revocations", None, wish).await;
    assert_eq!((status, &done["revoked"]), (200, &json!(2)), "{done}");

    let (status, problem) = issue().await;
    assert_eq!((status, &problem["code"]), (403, &json!("holder-revoked")), "{problem}");
    let until = done["until"].as_str().expect("a time");
    let second = until.split('.').next().unwrap_or(until);
    let detail = problem["detail"].as_str().expect("says until when");
    assert!(detail.contains("u:admin@home until ") && detail.contains(&second[..16]), "{detail} {until}");

    let (status, listed) = get(&socket, "/api/v1/ssh/revocations", None).await;
    assert_eq!(status, 200, "{listed}");
    let lines = listed["items"].as_array().expect("lines");
    let what: Vec<_> = lines.iter().filter_map(|line| line["what"].as_str()).collect();
    assert_eq!(what, [format!("serial:{serial}"), "id:u:admin@home".to_owned()]);
    let told = |line: &Value| {
        line["kind"] == "user" && line["by"].as_str().is_some_and(|by| by.starts_with("local:"))
    };
    assert!(lines.iter().all(told), "{listed}");
    let (_, first) = get(&socket, "/api/v1/ssh/revocations?limit=1", None).await;
    let next = format!("/api/v1/ssh/revocations?cursor={}", first["next"].as_str().expect("more"));
    assert_eq!(get(&socket, &next, None).await.1["items"][0]["what"], json!("id:u:admin@home"));

    let (status, problem) = give_back("serial:4242").await;
    assert_eq!((status, &problem["code"]), (404, &json!("revocation-not-found")), "{problem}");
    let (status, done) = give_back("id:u:admin@home").await;
    assert_eq!((status, &done["given_back"]), (200, &json!(1)), "{done}");
    assert_eq!(issue().await.0, 201);
    let (_, log) = get(&socket, "/api/v1/audit?limit=100", None).await;
    let entries = log["items"].as_array().expect("entries");
    let given = entries.iter().find(|entry| entry["action"] == "certificate.give-back");
    let given = given.filter(|entry| entry["outcome"] == "done").expect("in the audit log");
    assert_eq!(given["target"], json!("id:u:admin@home"), "{given}");
}

#[tokio::test]
async fn what_went_with_a_device_stays_revoked() {
    let (apid, tenant) = with_devices().await;
    let serial = issued(&apid, tenant).await["serial"].as_str().expect("a number").to_owned();
    let path = format!("/api/v1/devices/{}/revoke", DeviceId::from_bytes([1; 16]));
    assert_eq!(post(&apid.socket(), &path, None, Value::Null).await.0, 200);
    let (_, listed) = get(&apid.socket(), "/api/v1/ssh/revocations", None).await;
    let line = &listed["items"][0];
    assert_eq!((&line["what"], &line["by"]), (&json!(format!("serial:{serial}")), &json!("server")));
    let wish = json!({"what": [format!("serial:{serial}")]});
    let (status, problem) = post(&apid.socket(), "/api/v1/ssh/revocations/give-back", None, wish).await;
    assert_eq!((status, &problem["code"]), (409, &json!("revocation-kept")), "{problem}");
}

#[tokio::test]
async fn what_was_revoked_before_its_device_went_is_not_given_back() {
    let (apid, tenant) = with_devices().await;
    let socket = apid.socket();
    let serial = issued(&apid, tenant).await["serial"].as_str().expect("a number").to_owned();
    let what = format!("serial:{serial}");
    let wish = json!({"kind": "user", "what": [what]});
    assert_eq!(post(&socket, "/api/v1/ssh/revocations", None, wish).await.0, 200);
    let path = format!("/api/v1/devices/{}/revoke", DeviceId::from_bytes([1; 16]));
    assert_eq!(post(&socket, &path, None, Value::Null).await.0, 200);
    let wish = json!({"what": [what]});
    let (status, problem) = post(&socket, "/api/v1/ssh/revocations/give-back", None, wish).await;
    assert_eq!((status, &problem["code"]), (409, &json!("revocation-kept")), "{problem}");
    let (_, listed) = get(&socket, "/api/v1/ssh/revocations", None).await;
    assert_eq!(listed["items"][0]["what"], json!(what), "{listed}");
}

#[tokio::test]
async fn whoever_is_disabled_has_lost_certificates_when_that_is_answered() {
    let (apid, tenant) = with_devices().await;
    let (server, socket) = (apid.https(apid.fingerprint()), apid.socket());
    let bob = json!({"name": "bob", "password": BOBS, "role": "tenant-admin", "tenant": "home"});
    assert_eq!(post(&socket, "/api/v1/users", None, bob).await.0, 201);
    let (_, login) = post(&server, "/api/v1/login", None, json!({"user": "bob", "password": BOBS})).await;
    let token = login["secret"].as_str().expect("a session");
    let key = public_key(&apid, "ed25519");
    // Roles follow who administers: at once, too.
    let word = vouch(tenant, 1, &key, wall()).sign(&identity(1));
    let (status, issued) = post(&server, "/api/v1/ssh/certificates", Some(token), form(&key, &word)).await;
    assert_eq!(status, 201, "{issued}");
    let wish = json!({"disabled": true});
    assert_eq!(ask(&socket, Method::PATCH, "/api/v1/users/bob", None, wish).await.0, 200);
    let (_, listed) = get(&socket, "/api/v1/ssh/revocations", None).await;
    let line = &listed["items"][0];
    let what = json!(format!("serial:{}", issued["serial"].as_str().expect("a number")));
    assert_eq!((&line["what"], &line["by"]), (&what, &json!("server")), "{listed}");
}

#[tokio::test]
async fn one_person_does_not_fill_the_lists_of_all_hosts() {
    let (apid, tenant) = with_devices().await;
    let dir = apid.stop();
    let url = format!("sqlite:{}", dir.path().join("warren.db").display());
    let store = Store::open(&url).await.expect("the server's database");
    let user = store.users().await.expect("people").first().expect("admin").id;
    for count in 1..=ca::limits::LIVING_PER_HOLDER_MAX {
        let row = row_of_admin(tenant, user, count);
        store.record_certificate(&row, &audited(tenant)).await.expect("recorded");
    }
    store.close().await;
    let apid = Apid::start(dir, &[("WARREN_ADMIN_PASSWORD", PASSWORD)]);
    let (token, key) = (log_in(&apid).await, public_key(&apid, "ed25519"));
    let server = apid.https(apid.fingerprint());
    let issue = async || {
        let word = vouch(tenant, 1, &key, wall()).sign(&identity(1));
        post(&server, "/api/v1/ssh/certificates", Some(&token), form(&key, &word)).await
    };
    let (status, problem) = issue().await;
    assert_eq!((status, &problem["code"]), (409, &json!("quota-reached")), "{problem}");
    let wish = json!({"kind": "user", "what": [format!("serial:{}", SERIAL_BASE + 1)]});
    assert_eq!(post(&apid.socket(), "/api/v1/ssh/revocations", None, wish).await.0, 200);
    assert_eq!(issue().await.0, 201, "there is room for one");

    // All of them are a single line once their person is gone.
    let admin = json!({"name": "eve", "role": "super-admin", "password": PASSWORD});
    assert_eq!(post(&apid.socket(), "/api/v1/users", None, admin).await.0, 201);
    let gone = ask(&apid.socket(), Method::DELETE, "/api/v1/users/admin", None, Value::Null).await;
    assert_eq!(gone.0, 204, "{}", gone.1);
    let begun = Instant::now();
    loop {
        let (_, listed) = get(&apid.socket(), "/api/v1/ssh/revocations", None).await;
        let lines = listed["items"].as_array().expect("lines").clone();
        if let Some(line) = lines.iter().find(|line| line["what"] == "id:u:admin@home") {
            assert_eq!((&line["by"], lines.len()), (&json!("server"), 2), "{lines:?}");
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{lines:?}");
        tokio::task::yield_now().await;
    }
}

const SERIAL_BASE: u64 = 1 << 60;

fn row_of_admin(tenant: TenantId, user: UserId, count: u64) -> CertificateRow {
    let hours = |n: u64| Duration::from_secs(3600 * n);
    CertificateRow {
        tenant,
        kind: CaKind::User,
        serial: SshSerial::from_number(SERIAL_BASE + count).expect("a serial"),
        generation: KeyGeneration(1),
        id: "u:admin@home".parse().expect("an id"),
        fingerprint: "SHA256:x".into(),
        principals: vec!["u:admin".into()],
        user: Some(user),
        device: DeviceId::from_bytes([1; 16]),
        issued_at: wall(),
        valid_from: wall(),
        valid_until: wall() + hours(8),
        revoked_at: None,
    }
}

fn audited(tenant: TenantId) -> AuditEntry {
    AuditEntry {
        at: wall(),
        tenant: Some(tenant),
        actor: Actor::Server,
        action: "certificate.issue".into(),
        target: String::new(),
        refused: None,
        detail: String::new(),
        trace: Trace::default(),
    }
}

#[tokio::test]
async fn a_rotation_names_whom_it_waits_for_and_takes_names() {
    let (apid, tenant) = with_devices().await;
    issued(&apid, tenant).await;
    let socket = apid.socket();
    let step = async |verb: &str, form: Value| {
        post(&socket, &format!("/api/v1/ssh/authorities/user/{verb}"), None, form).await
    };
    assert_eq!(step("rotate", json!({})).await.0, 200);
    let (status, problem) = step("advance", json!({"except": ["gamma"]})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("device-not-found")), "{problem}");
    let (status, phase) = step("advance", json!({"except": ["device1"]})).await;
    assert_eq!((status, &phase["phase"]), (200, &json!("update_clients")), "{phase}");
    let missing = phase["missing"][0].as_str().expect("the certificate");
    assert!(missing.ends_with(", of u:admin"), "{missing}");
    assert_eq!(phase["missing_devices"], json!([]));
    let (_, log) = get(&socket, "/api/v1/audit?limit=100", None).await;
    let without = |entry: &Value| {
        let target = entry["target"].as_str().unwrap_or_default();
        entry["action"] == "ca.advance" && entry["outcome"] == "done" && target.starts_with("user without ")
    };
    assert!(log["items"].as_array().expect("entries").iter().any(without), "who was left out: {log}");

    let (status, after) = step("rotate", json!({"emergency": true})).await;
    assert_eq!((status, &after["living"]), (200, &json!(0)), "of an erased key none lives: {after}");
}

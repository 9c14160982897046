//! People from outside: second factors, sessions, passwords, throttling, and what administrators may do to whom.

use std::time::SystemTime;

use data_encoding::BASE32_NOPAD;
use link::https::{Method, Server};
use serde_json::{Value, json};
use totp_rs::{Builder, Secret};

use crate::apid::{Apid, ask, get, post};
use crate::ssh::PASSWORD;

const OTHER: &str = "seven quiet lamps drift";

fn start() -> (Apid, Server) {
    let environment = [("WARREN_ADMIN_PASSWORD", PASSWORD)];
    let apid = Apid::start(tempfile::tempdir().expect("a directory"), &environment);
    let server = apid.https(apid.fingerprint());
    (apid, server)
}

async fn log_in(server: &Server, user: &str, password: &str, code: Option<&str>) -> (u16, Value) {
    let mut form = json!({"user": user, "password": password});
    if let Some(code) = code {
        form["code"] = code.into();
    }
    post(server, "/api/v1/login", None, form).await
}

fn secret(answer: &Value) -> &str {
    answer["secret"].as_str().expect("a secret")
}

pub(crate) fn code_at(shared: &str, seconds_ahead: u64) -> String {
    let bytes: [u8; 20] =
        BASE32_NOPAD.decode(shared.as_bytes()).expect("base32").try_into().expect("20 bytes");
    let totp = Builder::new().with_secret(Secret::new_stack(bytes)).build().expect("a secret");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    totp.generate(now + seconds_ahead).to_string()
}

#[tokio::test]
async fn a_second_factor_is_needed_each_time_and_each_code_once() {
    let (_apid, server) = start();
    let (_, login) = log_in(&server, "admin", PASSWORD, None).await;
    let session = secret(&login);
    let (status, offered) = post(&server, "/api/v1/me/second-factor", Some(session), json!({})).await;
    assert_eq!(status, 201, "{offered}");
    let shared = secret(&offered);
    assert!(offered["url"].as_str().is_some_and(|url| url.contains(shared)), "{offered}");
    assert_eq!(log_in(&server, "admin", PASSWORD, None).await.0, 200, "it is not in force yet");

    let confirm = "/api/v1/me/second-factor/confirm";
    let (status, problem) = post(&server, confirm, Some(session), json!({"code": "000000"})).await;
    assert_eq!((status, &problem["code"]), (401, &json!("second-factor-wrong")));
    let first = code_at(shared, 0);
    let (status, recovery) = post(&server, confirm, Some(session), json!({"code": first})).await;
    assert_eq!(status, 200, "{recovery}");
    let recovery: Vec<String> = serde_json::from_value(recovery["codes"].clone()).expect("codes");
    assert_eq!(recovery.len(), 10);

    let (status, problem) = log_in(&server, "admin", PASSWORD, None).await;
    assert_eq!((status, &problem["code"]), (401, &json!("second-factor-needed")));
    let (status, problem) = log_in(&server, "admin", "no", None).await;
    assert_eq!(
        (status, &problem["code"]),
        (401, &json!("unauthenticated")),
        "nobody learns that there is one"
    );
    let (status, problem) = log_in(&server, "admin", PASSWORD, Some(&first)).await;
    assert_eq!((status, &problem["code"]), (401, &json!("second-factor-wrong")), "it was used to confirm");
    let next = code_at(shared, 30);
    assert_eq!(log_in(&server, "admin", PASSWORD, Some(&next)).await.0, 200);
    assert_eq!(log_in(&server, "admin", PASSWORD, Some(&next)).await.0, 401, "replayed");
    assert_eq!(log_in(&server, "admin", PASSWORD, Some(&recovery[0].to_uppercase())).await.0, 200);

    let renew = "/api/v1/me/recovery-codes";
    let (status, fresh) = post(&server, renew, Some(session), json!({"code": recovery[1]})).await;
    assert_eq!(status, 200, "{fresh}");
    let (_, me) = get(&server, "/api/v1/me", Some(session)).await;
    assert_eq!((&me["name"], &me["second_factor"]), (&json!("admin"), &json!(true)));
    let off = "/api/v1/me/second-factor/remove";
    assert_eq!(post(&server, off, Some(session), json!({"code": recovery[2]})).await.0, 401, "void by now");
    assert_eq!(post(&server, off, Some(session), json!({"code": fresh["codes"][0]})).await.0, 204);
    assert_eq!(log_in(&server, "admin", PASSWORD, None).await.0, 200);
}

#[tokio::test]
async fn failed_logins_cost_more_each_time_and_the_right_one_still_works_elsewhere() {
    let (apid, server) = start();
    let mut wrong = 0;
    let problem = loop {
        for _ in 0..4 {
            assert_eq!(log_in(&server, "admin", "no", None).await.0, 401);
        }
        wrong += 4;
        let (status, problem) = log_in(&server, "admin", PASSWORD, None).await;
        if status == 429 {
            break problem;
        }
        assert!(wrong < 12, "the first wait of a second is over three times before anybody asks: {problem}");
    };
    assert_eq!(problem["code"], "rate-limited", "{problem}");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("wait")), "{problem}");
    assert_eq!(get(&server, "/api/version", None).await.0, 200, "others are served");
    let metrics = crate::apid::probe(&apid, "/metrics").await;
    assert!(metrics.contains("warren_login_failures_total{reason=\"throttled\"} 1"), "{metrics}");
    assert!(
        metrics.contains(&format!("warren_login_failures_total{{reason=\"password\"}} {wrong}")),
        "{metrics}"
    );
    let last = refusals(&apid).await.pop();
    assert_eq!(last, expected(&[("network:127.0.0.1", "user.login", "rate-limited")]).pop());
}

#[tokio::test]
async fn a_password_is_changed_with_the_one_before_and_ends_every_session() {
    let (_apid, server) = start();
    let (_, login) = log_in(&server, "admin", PASSWORD, None).await;
    let (_, elsewhere) = log_in(&server, "admin", PASSWORD, None).await;
    let change = async |current: &str, new: &str| {
        let wish = json!({"current": current, "new": new});
        let (status, answer) = post(&server, "/api/v1/me/password", Some(secret(&login)), wish).await;
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(change("no", OTHER).await, (401, "unauthenticated".into()));
    assert_eq!(change(PASSWORD, "passwordpassword").await, (400, "password-invalid".into()));
    assert_eq!(change(PASSWORD, OTHER).await, (204, String::new()));
    for ended in [&login, &elsewhere] {
        assert_eq!(get(&server, "/api/v1/me", Some(secret(ended))).await.0, 401);
    }
    assert_eq!(log_in(&server, "admin", PASSWORD, None).await.0, 401);
    assert_eq!(log_in(&server, "admin", OTHER, None).await.0, 200);
}

/// Who was refused what and why, as the audit log has it: each once.
async fn refusals(apid: &Apid) -> Vec<(String, String, String)> {
    let (status, page) = get(&apid.socket(), "/api/v1/audit?limit=1000", None).await;
    assert_eq!((status, &page["next"]), (200, &Value::Null), "{page}");
    let entries = page["items"].as_array().expect("a list").iter().filter(|e| e["outcome"] == "refused");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let shown = |entry: &Value| {
        let what = if entry["action"] == "api.call" { "target" } else { "action" };
        let actor = if entry["source"].is_null() { "local".into() } else { text(&entry["actor"]) };
        (actor, text(&entry[what]), text(&entry["code"]))
    };
    entries.map(shown).rev().collect()
}

fn expected(all: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    all.iter().map(|(who, what, code)| ((*who).into(), (*what).into(), (*code).into())).collect()
}

#[tokio::test]
async fn nobody_makes_more_of_anybody_than_it_is_itself() {
    let (apid, server) = start();
    let socket = apid.socket();
    let create = async |bearer: Option<&str>, name: &str, role: &str, tenant: Option<&str>| {
        let mut wish = json!({"name": name, "role": role, "password": PASSWORD});
        if let Some(tenant) = tenant {
            wish["tenant"] = tenant.into();
        }
        let at = if bearer.is_some() { &server } else { &socket };
        let (status, answer) = post(at, "/api/v1/users", bearer, wish).await;
        (status, answer)
    };
    assert_eq!(create(None, "tina", "tenant-admin", Some("home")).await.0, 201);
    assert_eq!(create(None, "sue", "super-admin", Some("home")).await.0, 400, "of one tenant, and of all");
    let (_, login) = log_in(&server, "tina", PASSWORD, None).await;
    let tina = Some(secret(&login));
    assert_eq!(create(tina, "eve", "super-admin", None).await.0, 403);
    let (status, bob) = create(tina, "bob", "operator", None).await;
    assert_eq!((status, &bob["tenant"]), (201, &json!("home")), "her own tenant");
    let patch = async |name: &str, wish: Value| {
        let (status, answer) =
            ask(&server, Method::PATCH, &format!("/api/v1/users/{name}"), tina, wish).await;
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(patch("bob", json!({"role": "super-admin"})).await, (403, "forbidden".into()));
    assert_eq!(patch("bob", json!({"all_tenants": true})).await, (403, "forbidden".into()));
    assert_eq!(patch("admin", json!({"disabled": true})).await, (404, "user-not-found".into()));
    assert_eq!(
        patch("tina", json!({"password": OTHER})).await,
        (400, "bad-request".into()),
        "not without the old"
    );
    let (_, of_bob) = log_in(&server, "bob", PASSWORD, None).await;
    assert_eq!(patch("bob", json!({"disabled": true})).await.0, 200);
    assert_eq!(get(&server, "/api/v1/me", Some(secret(&of_bob))).await.0, 401);
    assert_eq!(log_in(&server, "bob", PASSWORD, None).await.0, 401);
    assert_eq!(patch("bob", json!({"disabled": false, "password": OTHER})).await.0, 200);
    assert_eq!(log_in(&server, "bob", OTHER, None).await.0, 200);

    let (status, last) = ask(&socket, Method::DELETE, "/api/v1/users/admin", None, Value::Null).await;
    assert_eq!((status, &last["code"]), (409, &json!("last-administrator")));
    assert_eq!(ask(&server, Method::DELETE, "/api/v1/users/bob", tina, Value::Null).await.0, 204);
    let refused = expected(&[
        ("user:tina", "POST /api/v1/users", "forbidden"),
        ("user:tina", "PATCH /api/v1/users/bob", "forbidden"),
        ("user:tina", "PATCH /api/v1/users/bob", "forbidden"),
        ("user:tina", "PATCH /api/v1/users/admin", "user-not-found"),
        // Of a session that ended nobody knows whose it was.
        ("network:127.0.0.1", "GET /api/v1/me", "unauthenticated"),
        ("network:127.0.0.1", "user.login", "unauthenticated"),
        ("local", "DELETE /api/v1/users/admin", "last-administrator"),
    ]);
    assert_eq!(refusals(&apid).await, refused);
}

#[tokio::test]
async fn every_refusal_of_somebody_is_in_the_audit_log_once() {
    let (apid, server) = start();
    let socket = apid.socket();
    for (name, tenant) in [("shut", None), ("tina", Some("home")), ("carl", Some("shut"))] {
        let made = match tenant {
            None => post(&socket, "/api/v1/tenants", None, json!({"name": name})).await,
            Some(tenant) => {
                let wish =
                    json!({"name": name, "role": "tenant-admin", "tenant": tenant, "password": PASSWORD});
                post(&socket, "/api/v1/users", None, wish).await
            }
        };
        assert_eq!(made.0, 201, "{}", made.1);
    }
    let (_, tina) = log_in(&server, "tina", PASSWORD, None).await;
    let (_, carl) = log_in(&server, "carl", PASSWORD, None).await;
    let (tina, carl) = (Some(secret(&tina)), Some(secret(&carl)));
    let close = "/api/v1/tenants/shut?grace_seconds=3600";
    assert_eq!(ask(&socket, Method::DELETE, close, None, Value::Null).await.0, 204);

    let taken = json!({"name": "carl", "role": "viewer", "password": PASSWORD});
    assert_eq!(post(&server, "/api/v1/users", tina, taken).await.0, 409);
    let above = json!({"label": "x", "ttl_seconds": 60, "role": "super-admin"});
    assert_eq!(post(&server, "/api/v1/api-tokens", tina, above).await.0, 403);
    assert_eq!(get(&server, "/api/v1/devices?tenant=shut", tina).await.0, 404);
    assert_eq!(get(&server, "/api/v1/backup", tina).await.0, 405, "it asks for nothing");
    assert_eq!(get(&server, "/api/v1/nothing", tina).await.0, 404, "nor does this");
    assert_eq!(get(&server, "/api/v1/doctor", tina).await.0, 403);
    assert_eq!(get(&server, "/api/v1/me", carl).await.0, 403);
    assert_eq!(get(&server, "/api/v1/me", Some("ws1_x_y")).await.0, 401);
    assert_eq!(get(&server, "/api/v1/me", None).await.0, 401, "whoever says nothing is nobody");
    let absent = json!({"name": "www", "type": "A", "value": "100.64.0.9"});
    assert_eq!(post(&server, "/api/v1/dns/remove", tina, absent).await.0, 404);
    let again = json!({"secret": "x", "user": "eve", "password": OTHER});
    assert_eq!(post(&server, "/api/v1/setup", None, again).await.0, 409);
    let refused = expected(&[
        ("user:tina", "POST /api/v1/users", "name-taken"),
        ("user:tina", "POST /api/v1/api-tokens", "forbidden"),
        ("user:tina", "GET /api/v1/devices", "tenant-not-found"),
        ("user:tina", "GET /api/v1/doctor", "forbidden"),
        ("user:carl", "GET /api/v1/me", "tenant-closed"),
        ("network:127.0.0.1", "GET /api/v1/me", "unauthenticated"),
        ("user:tina", "record.remove", "record-not-found"),
        ("network:127.0.0.1", "user.set-up", "setup-done"),
    ]);
    assert_eq!(refusals(&apid).await, refused);
}

#[tokio::test]
async fn an_api_token_may_do_what_it_was_made_for_until_it_is_revoked() {
    let (_apid, server) = start();
    let (_, login) = log_in(&server, "admin", PASSWORD, None).await;
    let admin = Some(secret(&login));
    let wish = json!({"label": "ci", "ttl_seconds": 3600, "role": "viewer", "tenant": "home"});
    let (status, script) = post(&server, "/api/v1/api-tokens", admin, wish).await;
    assert_eq!(
        (status, &script["role"], &script["tenant"]),
        (201, &json!("viewer"), &json!("home")),
        "{script}"
    );
    let token = Some(secret(&script));
    assert_eq!(get(&server, "/api/v1/devices", token).await.0, 200);
    let onboarding = json!({"ttl_seconds": 60, "uses": 1});
    assert_eq!(post(&server, "/api/v1/tokens", token, onboarding).await.0, 403);
    let another = json!({"label": "for ever", "ttl_seconds": 3600});
    let (status, problem) = post(&server, "/api/v1/api-tokens", token, another).await;
    assert_eq!((status, &problem["code"]), (403, &json!("session-needed")), "no token outlives itself");

    let (_, listed) = get(&server, "/api/v1/api-tokens", admin).await;
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["state"]), (&script["id"], &json!("live")));
    assert!(listed["items"][0].get("secret").is_none(), "shown once");
    let path = format!("/api/v1/api-tokens/{}/revoke", script["id"].as_str().expect("an id"));
    let (status, revoked) = post(&server, &path, admin, Value::Null).await;
    assert_eq!((status, &revoked["state"]), (200, &json!("revoked")));
    assert_eq!(get(&server, "/api/v1/devices", token).await.0, 401);
}

#[tokio::test]
async fn lists_of_people_and_their_tokens_come_in_pages() {
    let (apid, server) = start();
    let socket = apid.socket();
    for name in ["ada", "bea", "cleo"] {
        let wish = json!({"name": name, "role": "viewer", "password": PASSWORD});
        assert_eq!(post(&socket, "/api/v1/users", None, wish).await.0, 201);
    }
    let (_, login) = log_in(&server, "admin", PASSWORD, None).await;
    let admin = Some(secret(&login));
    for label in ["one", "two", "three"] {
        let wish = json!({"label": label, "ttl_seconds": 60});
        assert_eq!(post(&server, "/api/v1/api-tokens", admin, wish).await.0, 201);
    }
    for (list, count) in [("/api/v1/users", 4), ("/api/v1/api-tokens", 3)] {
        let (mut path, mut seen, mut pages) =
            (format!("{list}?limit=2"), std::collections::BTreeSet::new(), 0);
        loop {
            let (status, page) = get(&server, &path, admin).await;
            assert_eq!(status, 200, "{page}");
            let items = page["items"].as_array().expect("a list");
            assert!(items.len() <= 2, "{page}");
            seen.extend(items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            path = format!("{list}?limit=2&cursor={next}");
        }
        assert_eq!((seen.len(), pages), (count, 2), "{list}");
        assert_eq!(get(&server, &format!("{list}?cursor=x"), admin).await.0, 400, "{list}");
    }
}

//! Requests that are sent again with the same key: done once, answered alike, each person's own.

use std::process::Command;

use link::https::{Bounds, Bytes, Method, Request, Response, Server, header, request};
use model::api::admin::Version;
use serde_json::{Value, json};

use crate::apid::{Apid, PATIENCE, ask, get, post};
use crate::ssh::PASSWORD;

async fn send(server: &Server, path: &str, bearer: Option<&str>, key: &str, body: &Value) -> Response<Bytes> {
    let mut builder = Request::builder().method(Method::POST).uri(path).header("idempotency-key", key);
    if let Some(bearer) = bearer {
        builder = builder.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
    }
    let builder = builder.header(header::CONTENT_TYPE, "application/json");
    let wish = builder.body(body.to_string().into_bytes().into()).expect("a request");
    request(server, wish, Bounds { time_max: PATIENCE, ..Bounds::default() }).await.expect("an answer")
}

fn json_of(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).expect("JSON")
}

fn start() -> Apid {
    let dir = tempfile::tempdir().expect("a directory");
    Apid::start(dir, &[("WARREN_ADMIN_PASSWORD", PASSWORD)])
}

async fn log_in(server: &Server, name: &str) -> String {
    let (_, login) = post(server, "/api/v1/login", None, json!({"user": name, "password": PASSWORD})).await;
    login["secret"].as_str().expect("a session").to_owned()
}

async fn tokens(apid: &Apid) -> usize {
    let (_, page) = get(&apid.socket(), "/api/v1/tokens", None).await;
    page["items"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn what_is_sent_again_with_its_key_is_done_once_and_answered_alike() {
    let apid = start();
    let (socket, path) = (apid.socket(), "/api/v1/tokens");
    let (_, version) = get(&socket, "/api/version", None).await;
    assert!(serde_json::from_value::<Version>(version).is_ok_and(|version| version.idempotency_keys));
    let wish = json!({"ttl_seconds": 60, "uses": 1});
    let first = send(&socket, path, None, "\"one\"", &wish).await;
    let again = send(&socket, path, None, "one", &wish).await;
    assert_eq!((first.status(), again.status()), (201.try_into().unwrap(), 201.try_into().unwrap()));
    assert_eq!(first.body(), again.body(), "the secret, too");
    assert_eq!(first.headers()[header::CONTENT_TYPE], again.headers()[header::CONTENT_TYPE]);
    assert!(!first.headers().contains_key("idempotency-replayed"));
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(tokens(&apid).await, 1);

    for (path, wish) in [
        (path, json!({"ttl_seconds": 61, "uses": 1})),
        ("/api/v1/tokens?tenant=home", wish.clone()),
        ("/api/v1/tenants", json!({"name": "lab"})),
    ] {
        let other = send(&socket, path, None, "one", &wish).await;
        assert_eq!(
            (other.status().as_u16(), &json_of(&other)["code"]),
            (422, &json!("idempotency-key-reused"))
        );
    }
    assert_eq!(send(&socket, path, None, "two", &wish).await.status(), 201);
    assert_eq!(tokens(&apid).await, 2, "another key is another request");
    for bad in ["\"\"", "a\"b", &"k".repeat(256)] {
        let refused = send(&socket, path, None, bad, &wish).await;
        assert_eq!(
            (refused.status().as_u16(), &json_of(&refused)["code"]),
            (400, &json!("bad-request")),
            "{bad}"
        );
    }

    let (secret, dir) = (json_of(&first)["secret"].clone(), apid.stop());
    let kept = std::fs::read(dir.path().join("warren.db")).expect("the database");
    let secret = secret.as_str().expect("a secret");
    assert!(!kept.windows(secret.len()).any(|part| part == secret.as_bytes()), "it is kept sealed");
    let apid = Apid::start(dir, &[("WARREN_ADMIN_PASSWORD", PASSWORD)]);
    let again = send(&apid.socket(), path, None, "one", &wish).await;
    assert_eq!(first.body(), again.body(), "over a restart");
    assert_eq!(tokens(&apid).await, 2);
}

#[tokio::test]
async fn a_refusal_frees_the_key_and_nobody_gets_another_persons_answer() {
    let apid = start();
    let (socket, server) = (apid.socket(), apid.https(apid.fingerprint()));
    let wish = json!({"name": "lab"});
    post(&socket, "/api/v1/tenants", None, wish.clone()).await;
    let path = "/api/v1/tenants";
    assert_eq!(send(&socket, path, None, "k", &wish).await.status(), 409);
    assert_eq!(ask(&socket, Method::DELETE, "/api/v1/tenants/lab", None, Value::Null).await.0, 204);
    assert_eq!(send(&socket, path, None, "k", &wish).await.status(), 201, "nothing was done before");

    for name in ["ada", "bob"] {
        let user = json!({"name": name, "role": "super-admin", "password": PASSWORD});
        assert_eq!(post(&socket, "/api/v1/users", None, user).await.0, 201);
    }
    let (ada, bob) = (log_in(&server, "ada").await, log_in(&server, "bob").await);
    let wish = json!({"label": "ci", "ttl_seconds": 3600});
    let make = async |who: &str| json_of(&send(&server, "/api/v1/api-tokens", Some(who), "k", &wish).await);
    let (of_ada, of_bob) = (make(&ada).await, make(&bob).await);
    assert_ne!(of_ada["secret"], of_bob["secret"]);
    assert_eq!(make(&ada).await["secret"], of_ada["secret"]);
    let script = of_ada["secret"].as_str().expect("a token").to_owned();
    let by_script = send(&server, "/api/v1/tenants", Some(&script), "k", &json!({"name": "other"})).await;
    assert_eq!(by_script.status(), 201, "a token is not its person");

    // Whoever is nobody has no key: a login is made each time.
    let form = json!({"user": "ada", "password": PASSWORD});
    let secret = async || json_of(&send(&server, "/api/v1/login", None, "k", &form).await)["secret"].clone();
    assert_ne!(secret().await, secret().await);
}

#[tokio::test]
async fn what_a_server_did_not_finish_is_not_done_again_but_said_to_be_unknown() {
    let apid = start();
    let wish = json!({"ttl_seconds": 60, "uses": 1});
    let path = "/api/v1/tokens";
    assert_eq!(send(&apid.socket(), path, None, "k", &wish).await.status(), 201);
    let dir = apid.stop();
    // As a server leaves it that dies in the midst, three minutes ago.
    let database = dir.path().join("warren.db");
    let sql = "UPDATE keyed_requests SET status = NULL, answer = NULL, asked_at = asked_at - 180000000";
    let changed = Command::new("sqlite3").arg(&database).arg(sql).status().expect("apt-get install sqlite3");
    assert!(changed.success());
    let apid = Apid::start(dir, &[("WARREN_ADMIN_PASSWORD", PASSWORD)]);
    let again = send(&apid.socket(), path, None, "k", &wish).await;
    let (status, problem) = (again.status().as_u16(), json_of(&again));
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency-outcome-unknown")));
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("another key")), "{problem}");
    assert_eq!(tokens(&apid).await, 1, "nothing was done again");
    assert_eq!(send(&apid.socket(), path, None, "other", &wish).await.status(), 201);
}

#[tokio::test]
async fn many_at_once_with_one_key_are_one() {
    let apid = start();
    let socket = apid.socket();
    let wish = json!({"ttl_seconds": 60, "uses": 1});
    let one = || send(&socket, "/api/v1/tokens", None, "k", &wish);
    let answers = tokio::join!(one(), one(), one(), one());
    let answers = [answers.0, answers.1, answers.2, answers.3];
    for answer in &answers {
        let (status, code) = (answer.status().as_u16(), json_of(answer)["code"].clone());
        assert!(status == 201 || (status == 409 && code == "idempotency-key-in-use"), "{status} {code}");
    }
    assert_eq!(tokens(&apid).await, 1);
}

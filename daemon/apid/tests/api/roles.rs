//! Roles from outside: whom they may name, and that a name is no more than the person who has it.

use std::path::Path;
use std::process::Command;

use link::https::Method;
use serde_json::{Value, json};

use crate::apid::{Apid, PATIENCE, ask, get, post};
use crate::ssh::PASSWORD;

fn started() -> Apid {
    Apid::start(tempfile::tempdir().expect("a directory"), &[("WARREN_ADMIN_PASSWORD", PASSWORD)])
}

async fn make(apid: &Apid, name: &str, tenant: Option<&str>) {
    let mut form = json!({"name": name, "role": "operator", "password": PASSWORD});
    if let Some(tenant) = tenant {
        form["tenant"] = tenant.into();
    }
    let (status, made) = post(&apid.socket(), "/api/v1/users", None, form).await;
    assert_eq!(status, 201, "{made}");
}

async fn set(apid: &Apid, role: &str, who: &[&str]) -> (u16, Value) {
    let wish = json!({"identities": who, "logins": ["www"], "max_session_ttl_seconds": 3600});
    ask(&apid.socket(), Method::PUT, &format!("/api/v1/roles/{role}?tenant=home"), None, wish).await
}

async fn named(apid: &Apid, role: &str) -> Value {
    let (_, roles) = get(&apid.socket(), "/api/v1/roles?tenant=home", None).await;
    let of_name = |item: &&Value| item["name"] == role;
    roles["items"].as_array().expect("roles").iter().find(of_name).expect("the role")["identities"].clone()
}

#[tokio::test]
async fn a_role_names_people_who_are_there() {
    let apid = started();
    assert_eq!(post(&apid.socket(), "/api/v1/tenants", None, json!({"name": "lab"})).await.0, 201);
    make(&apid, "bob", None).await;
    make(&apid, "eve", Some("lab")).await;
    for who in ["u:nobody", "u:eve", "s:deploy"] {
        let (status, problem) = set(&apid, "web", &["u:bob", who]).await;
        assert_eq!((status, &problem["code"]), (404, &json!("user-not-found")), "{who}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with(who)), "{problem}");
    }
    assert_eq!(set(&apid, "web", &["u:bob", "u:admin"]).await.0, 200);
}

#[tokio::test]
async fn whoever_gets_the_name_of_a_person_who_is_gone_gets_none_of_her_roles() {
    let apid = started();
    make(&apid, "bob", None).await;
    assert_eq!(set(&apid, "web", &["u:bob", "u:admin"]).await.0, 200);
    assert_eq!(set(&apid, "dba", &["u:bob"]).await.0, 200);
    let gone = ask(&apid.socket(), Method::DELETE, "/api/v1/users/bob", None, Value::Null).await;
    assert_eq!(gone.0, 204, "{}", gone.1);
    assert_eq!((named(&apid, "web").await, named(&apid, "dba").await), (json!(["u:admin"]), json!([])));
    make(&apid, "bob", None).await;
    assert_eq!(named(&apid, "dba").await, json!([]), "another bob");
    let wish = json!({"name": "admin", "role": "operator", "password": PASSWORD});
    assert_eq!(post(&apid.socket(), "/api/v1/users", None, wish).await.0, 409);
    assert_eq!(named(&apid, "web").await, json!(["u:admin"]), "who is there keeps what she has");
}

fn in_database(dir: &Path, sql: &str) {
    let ran = Command::new("sqlite3").arg(dir.join("warren.db")).arg(sql).status();
    assert!(ran.expect("apt-get install sqlite3").success(), "{sql}");
}

#[tokio::test]
async fn a_tenant_that_is_not_served_keeps_no_other_from_new_people() {
    let apid = started();
    assert_eq!(post(&apid.socket(), "/api/v1/tenants", None, json!({"name": "lab"})).await.0, 201);
    make(&apid, "bob", None).await;
    make(&apid, "rob", Some("home")).await;
    let tina = json!({"name": "tina", "role": "tenant-admin", "tenant": "home", "password": PASSWORD});
    assert_eq!(post(&apid.socket(), "/api/v1/users", None, tina).await.0, 201);
    assert_eq!(set(&apid, "web", &["u:bob", "u:rob", "u:admin"]).await.0, 200);
    let dir = apid.stop();
    let home = "(SELECT id FROM tenants WHERE name = 'home')";
    let keep = format!("CREATE TABLE kept AS SELECT * FROM directories WHERE tenant_id = {home}");
    in_database(dir.path(), &keep);
    let damage = format!("UPDATE directories SET sealed_anchor = x'00' WHERE tenant_id = {home}");
    in_database(dir.path(), &damage);
    let environment = [("WARREN_ADMIN_PASSWORD", PASSWORD)];
    let apid = Apid::start(dir, &environment);
    assert_eq!(get(&apid.socket(), "/api/v1/tenants/home", None).await.0, 503);
    let gone = ask(&apid.socket(), Method::DELETE, "/api/v1/users/bob", None, Value::Null).await;
    assert_eq!(gone.0, 204, "{}", gone.1);
    make(&apid, "bob", Some("lab")).await;
    let wish = json!({"name": "eve", "role": "operator", "password": PASSWORD});
    assert_eq!(
        post(&apid.socket(), "/api/v1/users", None, wish).await.0,
        503,
        "home's roles may name an eve"
    );
    let wider =
        ask(&apid.socket(), Method::PATCH, "/api/v1/users/bob", None, json!({"all_tenants": true})).await;
    assert_eq!(wider.0, 503, "home's roles name a former bob");
    let tina = another_of_its_own(&apid).await;

    let dir = apid.stop();
    in_database(
        dir.path(),
        "UPDATE directories SET sealed_anchor = (SELECT sealed_anchor FROM kept) WHERE tenant_id = (SELECT tenant_id FROM kept); DROP TABLE kept",
    );
    let apid = Apid::start(dir, &environment);
    let end = std::time::Instant::now() + PATIENCE;
    while named(&apid, "web").await != json!(["u:admin"]) {
        assert!(std::time::Instant::now() < end, "a former bob or rob is named for ever");
        tokio::task::yield_now().await;
    }
    let wider =
        ask(&apid.socket(), Method::PATCH, "/api/v1/users/bob", None, json!({"all_tenants": true})).await;
    assert_eq!(wider.0, 200, "{}", wider.1);
    let wish = json!({"name": "rob", "role": "operator", "password": PASSWORD});
    let server = apid.https(apid.fingerprint());
    let (status, made) = post(&server, "/api/v1/users", Some(&tina), wish).await;
    assert_eq!((status, &made["tenant"]), (201, &json!("home")), "{made}");
    assert_eq!(named(&apid, "web").await, json!(["u:admin"]), "another bob, and another rob");
}

/// Who administers a tenant alone that is not served lets rob go and makes another, whom its roles would take for him. Her session.
async fn another_of_its_own(apid: &Apid) -> String {
    let server = apid.https(apid.fingerprint());
    let form = json!({"user": "tina", "password": PASSWORD});
    let (status, login) = post(&server, "/api/v1/login", None, form).await;
    let tina = login["secret"].as_str().unwrap_or_else(|| panic!("{status} {login}")).to_owned();
    let gone = ask(&server, Method::DELETE, "/api/v1/users/rob", Some(&tina), Value::Null).await;
    assert_eq!(gone.0, 204, "{}", gone.1);
    let wish = json!({"name": "rob", "role": "operator", "password": PASSWORD});
    let (status, problem) = post(&server, "/api/v1/users", Some(&tina), wish).await;
    assert_eq!(status, 503, "home's roles name a former rob: {problem}");
    tina
}

#[tokio::test]
async fn a_life_that_no_role_may_give_is_named_with_its_bound() {
    let apid = started();
    let wish = json!({"max_session_ttl_seconds": 48 * 3600});
    let (status, problem) = ask(&apid.socket(), Method::PUT, "/api/v1/roles/web", None, wish).await;
    assert_eq!((status, &problem["code"]), (400, &json!("life-invalid")));
    let detail = problem["detail"].as_str().expect("what is wrong");
    assert!(detail.contains("--max-session-ttl") && detail.contains("24 h"), "{detail}");
}

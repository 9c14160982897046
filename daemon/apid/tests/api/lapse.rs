//! What ends by itself, from outside: devices that expire or are silent, tenants that are closed and erased.

use std::time::{Duration, Instant};

use link::https::{Method, Server};
use model::{DeviceId, Standing};
use serde_json::{Value, json};
use store::Store;

use crate::apid::{Apid, PATIENCE, ask, get, post};
use crate::ssh::{PASSWORD, device, put_devices, wall};

/// A server whose devices enrolled before it started.
async fn with(devices: Vec<control::Device>) -> Apid {
    let environment = [("WARREN_ADMIN_PASSWORD", PASSWORD)];
    let dir = Apid::start(tempfile::tempdir().expect("a directory"), &environment).stop();
    let url = format!("sqlite:{}", dir.path().join("warren.db").display());
    let store = Store::open(&url).await.expect("the server's database");
    put_devices(&store, &store.load().await.expect("loads").tenants[0], devices).await;
    store.close().await;
    Apid::start(dir, &environment)
}

async fn until(server: &Server, path: &str, what: &str, right: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    loop {
        looks.tick().await;
        let (_, shown) = get(server, path, None).await;
        if right(&shown) {
            return shown;
        }
        assert!(Instant::now() < end, "{what}: {shown}");
    }
}

async fn actions(server: &Server) -> Vec<(String, String)> {
    let (_, page) = get(server, "/api/v1/audit", None).await;
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    items.iter().map(|item| (text(item, "action"), text(item, "actor"))).collect()
}

#[tokio::test]
async fn devices_expire_and_ephemeral_ones_go_when_nobody_hears_them() {
    let soon = control::Device { expires_at: Some(wall()), ..device(1, Standing::Active) };
    let fleeting = control::Device {
        idle_max: Some(control::limits::IDLE_LEAST),
        enrolled_at: wall() - Duration::from_secs(3600),
        ..device(2, Standing::Active)
    };
    let apid = with(vec![soon, fleeting, device(3, Standing::Active)]).await;
    let server = apid.socket();
    let started = Instant::now();
    until(&server, "/api/v1/devices/device1", "it expires", |shown| shown["standing"] == "expired").await;
    let path = format!("/api/v1/devices/{}", DeviceId::from_bytes([2; 16]));
    let gone = until(&server, &path, "nobody hears it", |shown| shown["standing"] == "revoked").await;
    assert!(
        started.elapsed() >= Duration::from_secs(8),
        "who could not be heard has all of its time: {gone}"
    );
    let (_, stays) = get(&server, "/api/v1/devices/device3", None).await;
    assert_eq!(stays["standing"], "active", "{stays}");
    let known = actions(&server).await;
    for action in ["device.expire", "device.idle"] {
        assert!(known.contains(&(action.into(), "server".into())), "{action}: {known:?}");
    }

    let (status, changed) = ask(
        &server,
        Method::PATCH,
        "/api/v1/devices/device1",
        None,
        json!({"expires_after_seconds": 3600, "labels": {"env": "prod"}}),
    )
    .await;
    assert_eq!((status, &changed["standing"]), (200, &json!("active")), "{changed}");
    assert_eq!(changed["labels"], json!({"env": "prod"}));
    let both = json!({"expires_after_seconds": 3600, "never_expires": true});
    let (status, problem) = ask(&server, Method::PATCH, "/api/v1/devices/device1", None, both).await;
    assert_eq!((status, &problem["code"]), (400, &json!("bad-request")));
}

#[tokio::test]
async fn a_closed_tenant_lets_nobody_in_and_is_restored_or_erased() {
    let apid = with(vec![device(1, Standing::Active)]).await;
    let (server, https) = (apid.socket(), apid.https(apid.fingerprint()));
    let wish = json!({"name": "olga", "role": "tenant-admin", "tenant": "home", "password": PASSWORD});
    assert_eq!(post(&server, "/api/v1/users", None, wish).await.0, 201);
    let login = json!({"user": "olga", "password": PASSWORD});
    let (_, session) = post(&https, "/api/v1/login", None, login.clone()).await;
    let olga = session["secret"].as_str().expect("a session").to_owned();
    let (status, shown) =
        ask(&server, Method::PATCH, "/api/v1/tenants/home", None, json!({"quota": 3})).await;
    assert_eq!((status, &shown["quota"], &shown["devices"]), (200, &json!(3), &json!(1)));

    let closed = "/api/v1/tenants/home?grace_seconds=3600";
    assert_eq!(ask(&server, Method::DELETE, closed, None, Value::Null).await.0, 204);
    let (_, tenant) = get(&server, "/api/v1/tenants/home", None).await;
    assert_eq!(tenant["state"], "closed");
    assert!(tenant["erase_at"].is_string(), "{tenant}");
    for (path, bearer, wish) in
        [("/api/v1/login", None, login.clone()), ("/api/v1/tokens", Some(&olga), json!({}))]
    {
        let (status, problem) = post(&https, path, bearer.map(String::as_str), wish).await;
        assert_eq!((status, &problem["code"]), (403, &json!("tenant-closed")), "{path}: {problem}");
    }
    let token = json!({"ttl_seconds": 60, "uses": 1});
    let (status, problem) = post(&server, "/api/v1/tokens", None, token).await;
    assert_eq!((status, &problem["code"]), (403, &json!("tenant-closed")));

    let restore = ["/api/v1/tenants", "home", "restore"].join("/");
    assert_eq!(post(&server, &restore, None, Value::Null).await.0, 200);
    assert_eq!(get(&https, "/api/v1/me", Some(&olga)).await.0, 200, "as it was");
    let (_, again) = get(&server, "/api/v1/devices/device1", None).await;
    assert_eq!(again["standing"], "active", "{again}");

    let now = "/api/v1/tenants/home?grace_seconds=0";
    assert_eq!(ask(&server, Method::DELETE, now, None, Value::Null).await.0, 204);
    until(&server, "/api/v1/tenants/home", "it is erased", |shown| shown["code"] == "tenant-not-found").await;
    let erased = actions(&server).await;
    assert!(erased.contains(&("tenant.erase".into(), "server".into())), "{erased:?}");
    assert_eq!(get(&https, "/api/v1/me", Some(&olga)).await.0, 403, "its people are nobody's");
    let (status, made) = post(&server, "/api/v1/tenants", None, json!({"name": "home"})).await;
    assert_eq!(status, 201, "its name is free: {made}");
    assert_eq!(ask(&server, Method::DELETE, "/api/v1/tenants/home", None, Value::Null).await.0, 204);
    assert_eq!(get(&server, "/api/v1/tenants/home", None).await.0, 404, "an empty one goes at once");
}

#[tokio::test]
async fn a_tenant_gets_an_interface_of_its_own_and_gives_it_up() {
    let apid = Apid::start(tempfile::tempdir().expect("a directory"), &[]);
    let server = apid.socket();
    let change = async |wish| ask(&server, Method::PATCH, "/api/v1/tenants/work", None, wish).await;
    let wish = json!({"name": "work", "own_interface": true});
    let (status, work) = post(&server, "/api/v1/tenants", None, wish).await;
    assert_eq!((status, &work["hub_port"]), (201, &json!(51_821)));
    assert_eq!(change(json!({"own_interface": true, "hub_port": 40_000})).await.1["hub_port"], 40_000);
    assert_eq!(change(json!({"own_interface": true, "quota": 7})).await.1["hub_port"], 40_000);
    let (_, listed) = get(&server, "/api/v1/tenants", None).await;
    assert_eq!(listed["items"][1]["hub_port"], 40_000, "{listed}");
    for (path, wish, code) in [
        ("home", json!({"own_interface": true, "hub_port": 40_000}), "hub-port-taken"),
        ("home", json!({"own_interface": true, "hub_port": 1023}), "hub-port-invalid"),
        ("home", json!({"own_interface": true, "hub_port": 65_536}), "bad-request"),
        ("home", json!({"hub_port": 40_001}), "bad-request"),
        ("home", json!({"own_interface": false, "hub_port": 40_001}), "bad-request"),
        ("nobody", json!({"own_interface": true}), "tenant-not-found"),
    ] {
        let path = format!("/api/v1/tenants/{path}");
        let (status, problem) = ask(&server, Method::PATCH, &path, None, wish).await;
        assert!(status >= 400 && problem["code"] == code, "{status} {problem}");
    }
    let (_, given_up) = change(json!({"own_interface": false})).await;
    assert_eq!(given_up.get("hub_port"), None, "{given_up}");
    let (_, audit) = get(&server, "/api/v1/audit", None).await;
    let actions = audit["items"].as_array().expect("entries").iter();
    let targets: Vec<_> =
        actions.filter(|e| e["action"] == "tenant.interface").map(|e| &e["target"]).collect();
    assert!(targets.contains(&&json!("own 40000")) && targets.contains(&&json!("shared")), "{targets:?}");
}

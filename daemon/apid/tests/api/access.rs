//! Who may call what: every route, as everybody, and those that the server describes with what belongs to another tenant.

use link::https::{Method, Server};
use model::{PublicKey, Standing};
use serde_json::{Value, json};
use store::Store;

use crate::apid::{Apid, ask, get, post};
use crate::ssh::{PASSWORD, device, put_devices};

const ROLES: [&str; 4] = ["viewer", "operator", "tenant-admin", "super-admin"];
/// Somebody of a role.
#[derive(Clone)]
struct Who {
    role: &'static str,
    /// Sees all tenants, or `home` alone.
    everywhere: bool,
    bearer: String,
    /// Is logged in, or an API token of somebody who is.
    session: bool,
}

struct Operation {
    method: Method,
    path: String,
    id: String,
    role: Option<usize>,
    session: bool,
    all_tenants: bool,
    of_tenant: bool,
}

async fn operations(server: &Server) -> Vec<Operation> {
    let (status, document) = get(server, "/api/v1/openapi.json", None).await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    let paths = document["paths"].as_object().expect("paths").iter();
    let all = paths.flat_map(|(path, methods)| {
        methods.as_object().expect("methods").iter().map(move |(method, operation)| {
            let needs = &operation["x-warren-needs"];
            let role = needs["role"].as_str().map(|name| ROLES.iter().position(|role| *role == name));
            let asked = operation["parameters"].as_array().expect("a list");
            Operation {
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
                id: operation["operationId"].as_str().expect("an id").to_owned(),
                role: role.map(|role| role.expect("a role that there is")),
                session: needs["session"] == true,
                all_tenants: needs["all_tenants"] == true,
                of_tenant: asked.iter().any(|parameter| parameter["name"] == "tenant"),
            }
        })
    });
    all.collect()
}

async fn made(server: &Server, path: &str, bearer: Option<&str>, wish: Value) -> Value {
    let (status, made) = post(server, path, bearer, wish).await;
    assert!((200..300).contains(&status), "{path}: {status} {made}");
    made
}

async fn logged_in(apid: &Apid, user: &str) -> String {
    let server = apid.https(apid.fingerprint());
    let session = made(&server, "/api/v1/login", None, json!({"user": user, "password": PASSWORD})).await;
    session["secret"].as_str().expect("a session").to_owned()
}

/// Two tenants with a device each, and of `home` and of all tenants somebody of each role with an API token.
async fn two_tenants() -> (Apid, Vec<Who>) {
    // The walk asks more often than anybody.
    let pace = ["LOGIN", "API"].map(|name| format!("WARREN_RATELIMIT_{name}_CAPACITY"));
    let environment = [("WARREN_ADMIN_PASSWORD", PASSWORD), (&pace[0], "100000"), (&pace[1], "100000")];
    let apid = Apid::start(tempfile::tempdir().expect("a directory"), &environment);
    made(&apid.socket(), "/api/v1/tenants", None, json!({"name": "other"})).await;
    let dir = apid.stop();
    let store =
        Store::open(&format!("sqlite:{}/warren.db", dir.path().display())).await.expect("the database");
    for (n, rows) in (1..).zip(&store.load().await.expect("loads").tenants) {
        put_devices(&store, rows, vec![device(n, Standing::Active)]).await;
    }
    store.close().await;
    let apid = Apid::start(dir, &environment);
    let mut all = vec![("admin", ROLES[3], true)];
    for (names, everywhere) in [(["vera", "otto", "tina"], false), (["vic", "olaf", "tom"], true)] {
        for (name, role) in names.into_iter().zip(ROLES) {
            let mut wish = json!({"name": name, "role": role, "password": PASSWORD});
            if !everywhere {
                wish["tenant"] = "home".into();
            }
            made(&apid.socket(), "/api/v1/users", None, wish).await;
            all.push((name, role, everywhere));
        }
    }
    let server = apid.https(apid.fingerprint());
    let mut callers = Vec::new();
    for (name, role, everywhere) in all {
        let bearer = logged_in(&apid, name).await;
        let wish = json!({"label": role, "ttl_seconds": 600});
        let token = made(&server, "/api/v1/api-tokens", Some(&bearer), wish).await;
        let token = token["secret"].as_str().expect("a token").to_owned();
        callers.push(Who { role, everywhere, bearer, session: true });
        callers.push(Who { role, everywhere, bearer: token, session: false });
    }
    (apid, callers)
}

fn filled(path: &str, with: impl Fn(&str) -> String) -> String {
    let parts = path.split('/').map(|part| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
        Some(name) => with(name),
        None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

fn level(role: &str) -> Option<usize> {
    ROLES.iter().position(|known| *known == role)
}

const NO_ID: &str = "00000000-0000-7000-8000-000000000000";

#[tokio::test]
async fn every_route_lets_in_whom_it_declares_and_nobody_else() {
    let (apid, callers) = two_tenants().await;
    let server = apid.https(apid.fingerprint());
    let operations = operations(&server).await;
    assert!(operations.len() > 40, "the walk sees {} routes", operations.len());
    for operation in operations.iter().filter(|o| o.role.is_some()) {
        let Operation { method, path, id, .. } = operation;
        let mut path = filled(path, |name| match name {
            "id" => NO_ID.into(),
            "kind" => "host".into(),
            _ => "nobody".into(),
        });
        if operation.of_tenant {
            path.push_str("?tenant=home");
        }
        for bearer in [None, Some("wa1_x_y_z"), Some("ws1_x_y")] {
            let (status, problem) = ask(&server, method.clone(), &path, bearer, json!({})).await;
            assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")), "{id} as nobody");
        }
        for Who { role, everywhere, bearer, session } in &callers {
            let may = level(role) >= operation.role
                && (*session || !operation.session)
                && (*everywhere || !operation.all_tenants);
            // It would end what the others are asked with.
            if may && id == "logout" {
                continue;
            }
            let (status, answer) = ask(&server, method.clone(), &path, Some(bearer), json!({})).await;
            let code = answer["code"].as_str().unwrap_or_default();
            let refused = status == 403 && ["forbidden", "session-needed"].contains(&code);
            let who = format!("{id} as {role}, of all tenants {everywhere}, session {session}");
            assert_eq!(refused, !may, "{who}: {status} {answer}");
            assert!(status != 401 && status < 500, "{id} as {role}: {status} {answer}");
        }
    }
    no_form_is_anybodys(&server, &callers).await;
    for Who { bearer: session, .. } in callers.iter().filter(|who| who.session) {
        assert_eq!(ask(&server, Method::DELETE, "/api/v1/session", Some(session), Value::Null).await.0, 204);
        assert_eq!(get(&server, "/api/v1/me", Some(session)).await.0, 401, "a session that ended");
    }
}

/// What is no form is not described: a page and where a link begins. The server's own test of its table sees that there is no more.
async fn no_form_is_anybodys(server: &Server, callers: &[Who]) {
    let everybody = [None].into_iter().chain(callers.iter().map(|who| Some(who.bearer.as_str())));
    for bearer in everybody {
        for (method, path, expect) in
            [(Method::GET, "/setup", 200), (Method::POST, "/setup", 415), (Method::GET, "/link", 400)]
        {
            let (status, answer) = ask(server, method.clone(), path, bearer, json!({})).await;
            assert_eq!(status, expect, "{method} {path}: {answer}");
        }
    }
}

/// What would change something, if the tenant were one's own.
fn wish_for(id: &str) -> Value {
    match id {
        "token.create" => json!({"ttl_seconds": 60, "uses": 1}),
        "dns.add" | "dns.remove" => json!({"name": "www", "type": "A", "value": "100.64.0.9"}),
        "device.add-plain" => json!({"name": "phone", "wireguard_key": PublicKey::from_bytes([8; 32])}),
        "device.command" => json!({"kind": "report"}),
        "tenant.change" => json!({"quota": 5}),
        "device.change" => json!({"name": "mine"}),
        "ca.revoke" => json!({"kind": "user", "what": ["serial:1"]}),
        "ca.give-back" => json!({"what": ["serial:1"]}),
        "role.set" => json!({"max_session_ttl_seconds": 3600}),
        "user.change" => json!({"disabled": true}),
        _ => json!({}),
    }
}

#[tokio::test]
async fn another_tenant_is_not_there() {
    let (apid, callers) = two_tenants().await;
    let (server, socket) = (apid.https(apid.fingerprint()), apid.socket());
    let wish = json!({"name": "olga", "role": "viewer", "tenant": "other", "password": PASSWORD});
    made(&socket, "/api/v1/users", None, wish).await;
    let olga = logged_in(&apid, "olga").await;
    let wish = json!({"label": "of-olga", "ttl_seconds": 600});
    let api_token = made(&server, "/api/v1/api-tokens", Some(&olga), wish).await;
    let token =
        made(&socket, "/api/v1/tokens?tenant=other", None, json!({"ttl_seconds": 60, "uses": 1})).await;
    let record = json!({"name": "www", "type": "A", "value": "100.65.0.9"});
    made(&socket, "/api/v1/dns?tenant=other", None, record).await;
    let of_other = async |path: &str| get(&socket, path, None).await.1;
    let device = of_other("/api/v1/devices?tenant=other").await["items"][0].clone();
    let state = async || [of_other("/api/v1/tenants/other").await, of_other("/api/v1/users/olga").await];
    let before = state().await;

    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let of_home: Vec<&Who> = callers.iter().filter(|who| !who.everywhere).collect();
    assert_eq!(of_home.len(), 6);
    let hidden =
        [text(&token["id"]), text(&api_token["id"]), text(&device["id"]), "olga".into(), "other".into()];
    for operation in operations(&server).await.iter().filter(|o| o.role.is_some() && !o.session) {
        let Operation { method, path, id, .. } = operation;
        let into = |name: &str| match name {
            "id" if path.contains("api-tokens") => text(&api_token["id"]),
            "id" => text(&token["id"]),
            "device" => text(&device["id"]),
            "kind" => "user".into(),
            "name" if path.contains("users") => "olga".into(),
            // Roles are called alike in every tenant.
            "name" if path.contains("roles") => "mine".into(),
            _ => "other".into(),
        };
        let names_other = path.contains("{id}") || path.contains("{device}") || path.contains("{name}");
        let names_other = names_other && !path.contains("roles");
        let mut tries = vec![(filled(path, into), names_other)];
        if operation.of_tenant {
            tries.push((format!("{}?tenant=other", filled(path, into)), true));
        }
        let all_tries =
            tries.iter().flat_map(|(path, must_fail)| of_home.iter().map(move |who| (path, *must_fail, who)));
        for (path, must_fail, Who { role, bearer, session, .. }) in all_tries {
            let (status, mut answer) = ask(&server, method.clone(), path, Some(bearer), wish_for(id)).await;
            if id == "audit.list"
                && let Some(entries) = answer["items"].as_array_mut()
            {
                // What they asked for themselves, and did not get.
                entries.retain(|entry| entry["action"] != "api.call" || entry["tenant"] != "home");
            }
            if must_fail && id != "ca.issue" && !operation.all_tenants {
                let expect = if level(role) >= operation.role { 404 } else { 403 };
                assert_eq!(status, expect, "{method} {path} as {role}, session {session}: {answer}");
            }
            let leaked = hidden.iter().find(|id| !path.contains(*id) && answer.to_string().contains(*id));
            assert_eq!(leaked, None, "{method} {path} shows another tenant's: {answer}");
        }
    }
    for who in &of_home {
        in_a_form_neither(&server, who).await;
    }
    assert_eq!(state().await, before, "nothing of the other tenant changed");
    assert_eq!(get(&server, "/api/v1/me", Some(&olga)).await.0, 200, "nor is anybody of it logged out");
}

/// Another tenant is not there either where a form names it.
async fn in_a_form_neither(server: &Server, who: &Who) {
    let token = json!({"label": "x", "ttl_seconds": 60, "role": "viewer", "tenant": "other"});
    let user = json!({"name": "mallory", "role": "viewer", "tenant": "other", "password": PASSWORD});
    let of_tenant_admins = level(who.role) >= level("tenant-admin");
    for (method, path, wish, may) in [
        (Method::POST, "/api/v1/api-tokens", token, who.session),
        (Method::POST, "/api/v1/users", user, of_tenant_admins),
        (Method::PATCH, "/api/v1/users/vera", json!({"tenant": "other"}), of_tenant_admins),
        (Method::PATCH, "/api/v1/users/olga", json!({"tenant": "home"}), of_tenant_admins),
    ] {
        let (status, answer) = ask(server, method, path, Some(&who.bearer), wish).await;
        let expect = if may { 404 } else { 403 };
        assert_eq!(status, expect, "{path} as {}, session {}: {answer}", who.role, who.session);
    }
}

//! Taking certificates back from outside: what names nothing is refused, and a rotation waits for whom it names.

use model::{DeviceId, TenantId};
use serde_json::{Value, json};

use crate::apid::{Apid, get, post};
use crate::ssh::{form, identity, log_in, public_key, vouch, wall, with_devices};

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

    let (status, after) = step("rotate", json!({"emergency": true})).await;
    assert_eq!((status, &after["living"]), (200, &json!(0)), "of an erased key none lives: {after}");
}

//! SSH certificates from outside: who gets which, what is refused, rotations, and what goes with a device.

use control::{CommitId, Fact};
use link::https::Method;
use model::vouch::{SignedVouch, Vouch, key_digest};
use model::wire::Remark;
use model::{Abilities, DeviceId, IdentitySecret, PublicKey, Standing, TenantId, Timestamp, TokenId};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, SystemTime};
use store::{Sealed, Store};

use crate::apid::{Apid, ask, get, post};

pub(crate) const PASSWORD: &str = "violet tram 9 opens";

pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).expect("before 300 000"))
}

pub(crate) fn identity(n: u8) -> IdentitySecret {
    IdentitySecret::from_seed([n; 32])
}

pub(crate) fn device(n: u8, standing: Standing) -> control::Device {
    control::Device {
        id: DeviceId::from_bytes([n; 16]),
        name: format!("device{n}").parse().expect("a label"),
        kind: control::Kind::Agent { identity: identity(n).public(), token: TokenId::from_bytes([9; 16]) },
        wireguard: PublicKey::from_bytes([n; 32]),
        number: u32::from(n) + 2,
        standing,
        tags: [].into(),
        labels: [].into(),
        expires_at: None,
        idle_max: None,
        os: Remark::new("Debian"),
        abilities: Abilities::KNOWN,
        enrolled_at: wall(),
        approved_at: Some(wall()),
        revoked_at: None,
    }
}

/// As if they had enrolled.
pub(crate) async fn put_devices(store: &Store, rows: &control::TenantRows, devices: Vec<control::Device>) {
    let audit = control::AuditEntry {
        at: wall(),
        tenant: None,
        actor: control::Actor::Server,
        action: "device.enrol".into(),
        target: String::new(),
        refused: None,
        detail: String::new(),
        trace: control::Trace::default(),
    };
    let commit = control::Commit {
        id: CommitId(0),
        tenant: rows.tenant.id,
        expect: rows.version,
        term: None,
        devices_count: u32::try_from(devices.len()).expect("few"),
        facts: devices.into_iter().map(Fact::Device).collect(),
        redeems: None,
        audit,
        new_anchor: None,
        new_keys: Vec::new(),
    };
    store.commit(&commit, &Sealed::default()).await.expect("commits");
}

/// A server with an active and a pending device, as the database of one that ran has them.
pub(crate) async fn with_devices() -> (Apid, TenantId) {
    with_devices_and(&[]).await
}

/// And with these settings.
pub(crate) async fn with_devices_and(more: &[(&str, &str)]) -> (Apid, TenantId) {
    let environment = [&[("WARREN_ADMIN_PASSWORD", PASSWORD)], more].concat();
    let dir = Apid::start(tempfile::tempdir().expect("a directory"), &environment).stop();
    let url = format!("sqlite:{}", dir.path().join("warren.db").display());
    let store = Store::open(&url).await.expect("the server's database");
    let loaded = store.load().await.expect("loads");
    let rows = &loaded.tenants[0];
    put_devices(&store, rows, vec![device(1, Standing::Active), device(2, Standing::Pending)]).await;
    store.close().await;
    (Apid::start(dir, &environment), rows.tenant.id)
}

pub(crate) async fn log_in(apid: &Apid) -> String {
    let server = apid.https(apid.fingerprint());
    let form = json!({"user": "admin", "password": PASSWORD});
    let (status, login) = post(&server, "/api/v1/login", None, form).await;
    assert_eq!(status, 200, "{login}");
    login["secret"].as_str().expect("a token").to_owned()
}

/// A key of `ssh-keygen`, its public half.
pub(crate) fn public_key(apid: &Apid, kind: &str) -> String {
    let path = apid.dir.path().join(format!("key-{kind}"));
    if !path.exists() {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-N", "", "-C", "ada at home", "-t", kind, "-f"]).arg(&path);
        assert!(keygen.status().expect("apt-get install openssh-client").success());
    }
    std::fs::read_to_string(path.with_extension("pub")).expect("made")
}

pub(crate) fn vouch(tenant: TenantId, device: u8, key: &str, at: Timestamp) -> Vouch {
    Vouch { tenant, device: DeviceId::from_bytes([device; 16]), key: key_digest(key), at }
}

pub(crate) fn form(key: &str, vouch: &SignedVouch) -> Value {
    json!({"public_key": key, "vouch": vouch})
}

async fn code(apid: &Apid, token: &str, form: Value) -> (u16, String) {
    let server = apid.https(apid.fingerprint());
    let (status, problem) = post(&server, "/api/v1/ssh/certificates", Some(token), form).await;
    (status, problem["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_person_on_a_device_gets_a_certificate_and_nobody_else_does() {
    let (apid, tenant) = with_devices().await;
    let token = log_in(&apid).await;
    let key = public_key(&apid, "ed25519");
    let now = wall();
    let good = vouch(tenant, 1, &key, now).sign(&identity(1));
    let server = apid.https(apid.fingerprint());

    let (status, issued) = post(&server, "/api/v1/ssh/certificates", Some(&token), form(&key, &good)).await;
    assert_eq!((status, &issued["principal"]), (201, &json!("u:admin")), "{issued}");
    let path = apid.dir.path().join("shown-cert.pub");
    std::fs::write(&path, issued["certificate"].as_str().expect("a line")).expect("written");
    let shown = Command::new("ssh-keygen").arg("-L").arg("-f").arg(&path).output().expect("runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let serial = issued["serial"].as_str().expect("text: JSON has no whole numbers so large");
    for line in ["Key ID: \"u:admin@home\"", &format!("Serial: {serial}"), "source-address 100.64.0."] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let log = std::fs::read_to_string(apid.dir.path().join("signer.log")).expect("the signer's own");
    assert!(log.contains(&format!(" signed {tenant}/user/1 serial={serial} id=u:admin@home")), "{log}");

    let minutes = |n: u64| Duration::from_secs(60 * n);
    let refused = |detail: &str, vouch: Vouch, n: u8, expect: &'static str| {
        (detail.to_owned(), vouch.sign(&identity(n)), expect)
    };
    for (what, vouch, expect) in [
        refused("another identity", vouch(tenant, 1, &key, now), 2, "device-unproven"),
        refused("no device", vouch(tenant, 7, &key, now), 7, "device-unproven"),
        refused("another key", vouch(tenant, 1, "ssh-ed25519 AAAA", now), 1, "device-unproven"),
        refused("another tenant", vouch(TenantId::from_bytes([8; 16]), 1, &key, now), 1, "device-unproven"),
        refused("an old word", vouch(tenant, 1, &key, now - minutes(20)), 1, "device-unproven"),
        refused("a word of tomorrow", vouch(tenant, 1, &key, now + minutes(20)), 1, "device-unproven"),
        refused("a device that waits", vouch(tenant, 2, &key, now), 2, "device-pending"),
    ] {
        let (_, got) = code(&apid, &token, form(&key, &vouch)).await;
        assert_eq!(got, expect, "{what}");
    }
    let slow = vouch(tenant, 1, &key, now - minutes(10)).sign(&identity(1));
    assert_eq!(code(&apid, &token, form(&key, &slow)).await.0, 201, "clocks are ten minutes off");

    let rsa = public_key(&apid, "rsa");
    let of_rsa = vouch(tenant, 1, &rsa, now).sign(&identity(1));
    assert_eq!(code(&apid, &token, form(&rsa, &of_rsa)).await, (400, "key-type-refused".into()));
    let mut long = form(&key, &good);
    long["life_seconds"] = json!(90_000);
    assert_eq!(code(&apid, &token, long).await, (400, "life-invalid".into()));
    let mut other = form(&key, &good);
    other["principal"] = json!("u:root");
    assert_eq!(code(&apid, &token, other).await, (400, "bad-request".into()), "nobody asks for another");
    let (status, problem) = post(&apid.socket(), "/api/v1/ssh/certificates", None, form(&key, &good)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("person-unknown")));
    let (status, _) = post(&server, "/api/v1/ssh/certificates", None, form(&key, &good)).await;
    assert_eq!(status, 401);

    scripts_of_less_get_none(&apid, &token, &form(&key, &good)).await;
    let again = form(&key, &slow);
    let mut answers = Vec::new();
    while answers.len() < 200 && answers.last().is_none_or(|(status, _)| *status == 201) {
        answers.push(code(&apid, &token, again.clone()).await);
    }
    let limited = (429, "rate-limited".to_owned());
    assert_eq!(answers.last(), Some(&limited), "one person leaves the signer to the others");

    for _ in 0..20 {
        answers.push(code(&apid, &token, again.clone()).await);
    }

    refusals_are_written(&apid, &answers).await;
}

/// A script that was given less than the person is not the person.
async fn scripts_of_less_get_none(apid: &Apid, token: &str, form: &Value) {
    let server = apid.https(apid.fingerprint());
    for (role, expect) in [("viewer", 403), ("super-admin", 201)] {
        let wish = json!({"label": role, "role": role, "ttl_seconds": 600});
        let (status, made) = post(&server, "/api/v1/api-tokens", Some(token), wish).await;
        assert_eq!(status, 201, "{made}");
        let script = made["secret"].as_str().expect("a token");
        assert_eq!(code(apid, script, form.clone()).await.0, expect, "{role}");
    }
}

/// Every refusal is in the audit log with its tenant; of those for haste the first since the last certificate.
async fn refusals_are_written(apid: &Apid, answers: &[(u16, String)]) {
    let (_, log) = get(&apid.socket(), "/api/v1/audit?limit=1000", None).await;
    let refused = |entry: &&Value| entry["action"] == "certificate.issue" && entry["outcome"] == "refused";
    let refusals: Vec<&Value> = log["items"].as_array().expect("entries").iter().filter(refused).collect();
    assert!(refusals.iter().all(|entry| entry["tenant"] == "home"), "{refusals:?}");
    let count = |code: &str| refusals.iter().filter(|entry| entry["code"] == json!(code)).count();
    for (code, times) in [
        ("device-unproven", 6),
        ("device-pending", 1),
        ("key-type-refused", 1),
        ("life-invalid", 1),
        ("person-unknown", 1),
        ("session-needed", 1),
    ] {
        assert_eq!(count(code), times, "{code}: {refusals:?}");
    }
    let hasty = answers.windows(2).filter(|pair| pair[0].0 == 201 && pair[1].0 == 429).count();
    assert_eq!(count("rate-limited"), hasty, "{refusals:?}");
}

#[tokio::test]
async fn a_rotation_waits_for_certificates_and_a_removed_device_takes_its_own_along() {
    let (apid, tenant) = with_devices().await;
    let token = log_in(&apid).await;
    let key = public_key(&apid, "ed25519");
    let issue = || {
        let word = vouch(tenant, 1, &key, wall()).sign(&identity(1));
        code(&apid, &token, form(&key, &word))
    };
    assert_eq!(issue().await.0, 201);
    let socket = apid.socket();
    let user = |authorities: Value| authorities["items"][0].clone();
    let standby = user(get(&socket, "/api/v1/ssh/authorities", None).await.1);
    assert_eq!((&standby["kind"], &standby["phase"]), (&json!("user"), &json!("standby")));
    assert_eq!(standby["living"], json!(1));

    let step = async |verb: &str| {
        let path = format!("/api/v1/ssh/authorities/user/{verb}");
        let body = if verb == "rollback" { Value::Null } else { json!({}) };
        let (_, answer) = post(&socket, &path, None, body).await;
        answer.get("code").or(answer.get("phase")).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    assert_eq!(step("advance").await, "rotation-idle");
    let (status, answer) = ask(&socket, Method::DELETE, "/api/v1/roles/nobodys", None, Value::Null).await;
    assert_eq!((status, &answer["code"]), (404, &json!("role-not-found")), "{answer}");
    assert_eq!(step("rotate").await, "init");
    assert_eq!(step("rotate").await, "rotation-under-way");
    assert_eq!(step("advance").await, "update_clients");
    assert_eq!(issue().await.0, 201, "the next key signs");
    assert_eq!(step("advance").await, "rotation-blocked", "a certificate of the former key lives");
    let waiting = user(get(&socket, "/api/v1/ssh/authorities", None).await.1);
    let missing = waiting["missing"][0].as_str().expect("says what it waits for");
    assert!(missing.starts_with("certificates of the other key live until "), "{missing}");
    let signs = waiting["keys"].as_array().expect("two").iter().map(|key| key["signs"].clone());
    assert_eq!(signs.collect::<Vec<_>>(), [json!(false), json!(true)]);

    let path = format!("/api/v1/devices/{}/revoke", DeviceId::from_bytes([1; 16]));
    let (status, revoked) = post(&socket, &path, None, Value::Null).await;
    assert_eq!((status, &revoked["standing"]), (200, &json!("revoked")), "{revoked}");
    assert_eq!(user(get(&socket, "/api/v1/ssh/authorities", None).await.1)["living"], json!(0));
    assert_eq!(issue().await, (400, "device-revoked".into()));
    assert_eq!(step("advance").await, "update_servers");
    assert_eq!(step("advance").await, "standby");
    let done = user(get(&socket, "/api/v1/ssh/authorities", None).await.1);
    assert_eq!((done["keys"].as_array().map(Vec::len), &done["keys"][0]["generation"]), (Some(1), &json!(2)));

    let dir = apid.stop();
    let again = Apid::start(dir, &[("WARREN_ADMIN_PASSWORD", PASSWORD)]);
    let after = user(get(&again.socket(), "/api/v1/ssh/authorities", None).await.1);
    assert_eq!(after["keys"], done["keys"]);
    let (_, health) = get(&again.socket(), "/healthz", None).await;
    assert_eq!(health["checks"]["ssh_ca"], json!("ok"), "{health}");
}

#[tokio::test]
async fn a_stolen_key_is_replaced_at_once_and_an_old_one_is_said_to_be_due() {
    let (apid, tenant) = with_devices().await;
    let token = log_in(&apid).await;
    let key = public_key(&apid, "ed25519");
    let word = vouch(tenant, 1, &key, wall()).sign(&identity(1));
    assert_eq!(code(&apid, &token, form(&key, &word)).await.0, 201);
    let socket = apid.socket();
    let replace = json!({"emergency": true});
    let (status, after) = post(&socket, "/api/v1/ssh/authorities/user/rotate", None, replace).await;
    assert_eq!((status, &after["phase"]), (200, &json!("standby")), "{after}");
    assert_eq!(
        (after["keys"].as_array().map(Vec::len), &after["keys"][0]["generation"]),
        (Some(1), &json!(2))
    );
    assert_eq!(code(&apid, &token, form(&key, &word)).await.0, 201, "the new one signs");
    assert_eq!(after["keys"][0]["is_due"], json!(false));
    let (_, doctor) = get(&socket, "/api/v1/doctor", None).await;
    assert!(!doctor.to_string().contains("due to be replaced"), "{doctor}");

    let settings = [("WARREN_ADMIN_PASSWORD", PASSWORD), ("WARREN_SSH_CA_KEY_LIFE", "29d")];
    let again = Apid::start(apid.stop(), &settings);
    let (_, authorities) = get(&again.socket(), "/api/v1/ssh/authorities", None).await;
    assert_eq!(authorities["items"][1]["keys"][0]["is_due"], json!(true), "{authorities}");
    let (_, doctor) = get(&again.socket(), "/api/v1/doctor", None).await;
    assert!(
        doctor.to_string().contains("the key of home's user authority is due to be replaced at"),
        "{doctor}"
    );
}

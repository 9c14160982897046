//! What an operator sees: the log line of each request, what the doctor finds, what a support bundle holds and does not.

use link::https::{Method, Server};
use serde_json::{Value, json};

use crate::apid::{Apid, ask, fresh, get, post, probe};

/// A password that is no word of anything else.
const PASSWORD: &str = "quartz lantern 77 walks";
const PASSPHRASE: &str = "harbour plum 31 sings";

fn lines(log: &str) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?} is no JSON: {e}"));
    log.lines().map(read).collect()
}

#[tokio::test]
async fn each_request_is_one_line_of_json_with_its_id_and_no_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let apid = Apid::start(dir, &[("WARREN_LOG_FORMAT", "json"), ("WARREN_ADMIN_PASSWORD", PASSWORD)]);
    let socket = apid.socket();
    assert_eq!(get(&socket, "/api/v1/tenants/home", None).await.0, 200);
    let login = json!({"user": "admin", "password": PASSWORD});
    let (_, session) = post(&socket, "/api/v1/login", None, login).await;
    let secret = session["secret"].as_str().expect("a secret");
    get(&socket, "/healthz", None).await;
    let (_, problem) = get(&socket, "/api/v1/devices/nobody", None).await;
    let id = problem["request_id"].as_str().expect("an id");

    let log = apid.logged(id);
    for line in lines(&log) {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "no {field} in {line}");
        }
    }
    let of = |route: &str| {
        let all =
            lines(&log).into_iter().filter(|line| line["route"] == route && line["request"].is_string());
        all.collect::<Vec<_>>()
    };
    let [shown] = &of("/api/v1/tenants/{name}")[..] else { panic!("one line for one request: {log}") };
    assert_eq!(
        (&shown["method"], &shown["status"], &shown["level"]),
        (&json!("GET"), &json!(200), &json!("INFO"))
    );
    assert!(shown["actor"].as_str().is_some_and(|actor| actor.starts_with("local:")), "{shown}");
    assert!(shown["micros"].as_u64().is_some_and(|micros| micros > 0), "{shown}");
    let [refused] = &of("/api/v1/devices/{device}")[..] else { panic!("one line for one request: {log}") };
    assert_eq!(
        (&refused["request"], &refused["code"]),
        (&json!(id), &json!("device-not-found")),
        "{refused}"
    );
    assert_eq!(of("/healthz"), [] as [Value; 0], "probes are no news");
    assert!(!log.contains(secret) && !log.contains(PASSWORD), "{log}");
}

#[tokio::test]
async fn the_doctor_says_what_is_wrong_why_and_what_helps() {
    let apid = fresh();
    let (status, seen) = get(&apid.socket(), "/api/v1/doctor", None).await;
    assert_eq!(status, 200, "{seen}");
    assert_eq!(seen["public_url"], format!("https://{}", apid.at));
    let findings = seen["findings"].as_array().expect("a list").clone();
    let about = |what: &str| {
        let found = findings.iter().find(|finding| finding["about"] == what);
        found.unwrap_or_else(|| panic!("nothing about {what} in {findings:?}")).clone()
    };
    for well in ["database", "directories", "ssh_ca", "migrations", "files", "certificate", "clock", "stun"] {
        assert_eq!(about(well)["ok"], true, "{}", about(well));
    }
    for ill in ["wireguard", "people"] {
        let finding = about(ill);
        assert_eq!(finding["ok"], false, "nobody is attached, nobody is set up: {finding}");
        let says = |field: &str| finding[field].as_str().is_some_and(|text| !text.is_empty());
        assert!(says("what") && says("why") && says("remedy"), "{finding}");
    }
}

fn none_is_in(bundle: &Value, secrets: &[&str]) {
    for (name, text) in bundle["files"].as_object().expect("files") {
        let text = text.as_str().expect("text");
        for secret in secrets {
            // A secret that was cut short is one, too.
            let head: String = secret.chars().take(20).collect();
            assert!(!text.contains(&head), "{name} holds {secret}:\n{text}");
        }
        assert!(!text.contains("PRIVATE KEY"), "{name} holds a private key:\n{text}");
    }
}

async fn rows_are_as_exported(socket: &Server, bundle: &Value) {
    let (_, exported) = get(socket, "/api/v1/audit?limit=1000", None).await;
    let exported = exported["items"].as_array().expect("a list");
    let rows: Vec<Value> = lines(bundle["files"]["audit.jsonl"].as_str().expect("text"));
    assert!(
        rows.iter().any(|row| row["action"] == "user.set-up" && row["source"] == "127.0.0.1"),
        "{rows:?}"
    );
    for row in &rows {
        let same = exported.iter().find(|entry| entry["id"] == row["id"]).expect("an entry");
        let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        // It may have got its number meanwhile.
        let but_chain = |keys: Vec<String>| {
            keys.into_iter().filter(|key| !["sequence", "hash"].contains(&&**key)).collect::<Vec<_>>()
        };
        assert_eq!(but_chain(keys(row)), but_chain(keys(same)));
    }
    assert!(rows.iter().any(|row| row["sequence"].is_u64()), "{rows:?}");
}

/// Secrets that people never typed, and the URL that is one.
#[tokio::test]
async fn a_support_bundle_holds_no_secret_of_setup_second_factors_and_webhooks() {
    let dir = tempfile::tempdir().expect("a directory");
    let own = dir.path().join("hook");
    std::fs::write(&own, "between the two of us\n").expect("written");
    let closed = crate::started::free();
    let token = "QXpUc0RrVm9wbGFu";
    let url = format!("https://{closed}/services/T01/{token}?key=c2VjcmV0LW9mLWhvb2s");
    let environment = [
        ("WARREN_AUDIT_WEBHOOK", &*url),
        ("WARREN_AUDIT_WEBHOOK_SECRET_FILE", own.to_str().expect("text")),
        ("WARREN_LOG_LEVEL", "debug"),
    ];
    let apid = Apid::start(tempfile::tempdir().expect("a directory"), &environment);
    let (socket, server) = (apid.socket(), apid.https(apid.fingerprint()));
    let log = apid.logged("secret=");
    let (_, setup) = log.split_once("secret=").expect("a setup URL");
    let setup: String = setup.chars().take_while(char::is_ascii_alphanumeric).collect();
    let wish = json!({"secret": setup, "user": "admin", "password": PASSWORD});
    let (status, session) = post(&server, "/api/v1/setup", None, wish.clone()).await;
    assert_eq!(status, 201, "{session}");
    assert_eq!(post(&server, "/api/v1/setup", None, wish).await.0, 409);
    let session = session["secret"].as_str().expect("a secret");
    let (_, offered) = post(&server, "/api/v1/me/second-factor", Some(session), json!({})).await;
    let shared = offered["secret"].as_str().expect("a secret");
    let code = crate::people::code_at(shared, 0);
    let confirm = "/api/v1/me/second-factor/confirm";
    let (_, codes) = post(&server, confirm, Some(session), json!({"code": code})).await;
    let codes: Vec<String> = serde_json::from_value(codes["codes"].clone()).expect("codes");
    let login = json!({"user": "admin", "password": PASSWORD, "code": codes[0]});
    assert_eq!(post(&server, "/api/v1/login", None, login.clone()).await.0, 200);
    assert_eq!(post(&server, "/api/v1/login", None, login).await.0, 401, "it works once");

    let body = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAAB";
    let key = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n");
    for planted in [&*key, &*url, token, "c2VjcmV0LW9mLWhvb2s", "between the two of us"] {
        let body = json!({"ttl_seconds": 60, "uses": 1, planted: 1});
        post(&socket, "/api/v1/tokens", None, body).await;
        let record = json!({"name": planted, "type": "TXT", "value": planted});
        post(&socket, "/api/v1/dns", None, record).await;
        let as_in_path = [(" ", "%20"), ("\n", "%0A"), ("/", "%2F"), ("?", "%3F")];
        let path =
            as_in_path.iter().fold(planted.to_owned(), |path, (plain, code)| path.replace(plain, code));
        let path = format!("/api/v1/devices/{path}");
        get(&socket, &path, None).await;
    }
    let told = apid.logged("the audit log is not told");
    let told = told.lines().find(|line| line.contains("the audit log is not told")).expect("a line");
    assert!(told.contains(&closed.to_string()) && !told.contains("services"), "{told}");

    let (status, bundle) = get(&socket, "/api/v1/support-bundle", None).await;
    assert_eq!(status, 200, "{bundle}");
    let planted =
        [&*setup, shared, body, token, "c2VjcmV0LW9mLWhvb2s", "between the two of us", session, PASSWORD];
    none_is_in(&bundle, &planted.into_iter().chain(codes.iter().map(String::as_str)).collect::<Vec<_>>());
    rows_are_as_exported(&socket, &bundle).await;
}

#[tokio::test]
async fn a_support_bundle_holds_what_helps_and_no_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let environment = [
        ("WARREN_ADMIN_PASSWORD", PASSWORD),
        ("WARREN_CA_PASSPHRASE", PASSPHRASE),
        ("WARREN_LOG_LEVEL", "debug"),
    ];
    let apid = Apid::start(dir, &environment);
    let (socket, server) = (apid.socket(), apid.https(apid.fingerprint()));
    let (_, session) =
        post(&server, "/api/v1/login", None, json!({"user": "admin", "password": PASSWORD})).await;
    let session = session["secret"].as_str().expect("a secret").to_owned();
    let (_, onboarding) = post(&socket, "/api/v1/tokens", None, json!({"ttl_seconds": 60, "uses": 1})).await;
    let onboarding = onboarding["secret"].as_str().expect("a secret").to_owned();
    let wish = json!({"label": "ci", "ttl_seconds": 3600});
    let (_, script) = post(&server, "/api/v1/api-tokens", Some(&session), wish).await;
    let script = script["secret"].as_str().expect("a secret").to_owned();

    // People put secrets where none belong, and refusals and names repeat them.
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----";
    for planted in [&session, &onboarding, &script, PASSPHRASE, PASSWORD, key] {
        let label = json!({"label": planted.chars().take(60).collect::<String>(), "ttl_seconds": 3600});
        post(&server, "/api/v1/api-tokens", Some(&session), label).await;
        let path = format!("/api/v1/devices/{}", planted.replace(' ', "%20"));
        get(&socket, &path, None).await;
        let record = json!({"name": planted, "type": "TXT", "value": planted});
        post(&socket, "/api/v1/dns", None, record).await;
        let body = json!({"ttl_seconds": 60, "uses": 1, planted: 1});
        post(&socket, "/api/v1/tokens", None, body).await;
        ask(&server, Method::GET, "/api/v1/tenants", Some(planted), Value::Null).await;
    }
    apid.logged("bad-request");

    let (status, bundle) = get(&socket, "/api/v1/support-bundle", None).await;
    assert_eq!(status, 200, "{bundle}");
    let files = bundle["files"].as_object().expect("files");
    let text = |name: &str| files[name].as_str().unwrap_or_else(|| panic!("no {name}"));
    for (name, part) in [
        ("README", "***"),
        ("versions.json", env!("CARGO_PKG_VERSION")),
        ("settings.toml", "ca_passphrase"),
        ("status.json", "uptime_seconds"),
        ("doctor.json", "migrations"),
        ("state.json", "\"home\""),
        ("metrics.txt", "warren_http_requests_total"),
        ("log.txt", "request refused"),
        ("audit.jsonl", "api-token.create"),
    ] {
        assert!(text(name).contains(part), "{name} has no {part}:\n{}", text(name));
    }
    none_is_in(&bundle, &[&*session, &*onboarding, &*script, PASSWORD, PASSPHRASE]);
    let taken = text("audit.jsonl").lines().next().is_some_and(|line| line.contains("server.support-bundle"));
    assert!(taken, "that it was taken is in the audit log:\n{}", text("audit.jsonl"));
    assert!(probe(&apid, "/metrics").await.contains("route=\"/api/v1/support-bundle\""));
}

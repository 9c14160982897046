//! Who asks too often, too slowly or too much.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use link::https::{Bounds, Request, header, request};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::apid::{Apid, PATIENCE, get, post, probe};
use crate::ssh::{PASSWORD, form, identity, log_in, public_key, vouch, wall, with_devices_and};

fn start(limits: &[(&str, &str)]) -> Apid {
    let environment = [&[("WARREN_ADMIN_PASSWORD", PASSWORD)], limits].concat();
    Apid::start(tempfile::tempdir().expect("a directory"), &environment)
}

async fn retry_after(apid: &Apid, path: &str, body: Option<Value>) -> (u16, Option<u64>) {
    let mut wish = Request::builder().uri(path).header(header::CONTENT_TYPE, "application/json");
    if body.is_some() {
        wish = wish.method("POST");
    }
    let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let wish = wish.body(bytes.into()).expect("a request");
    let server = apid.https(apid.fingerprint());
    let bounds = Bounds { time_max: PATIENCE, ..Bounds::default() };
    let response = request(&server, wish, bounds).await.expect("an answer");
    let after = response.headers().get(header::RETRY_AFTER);
    let seconds = after.map(|value| value.to_str().expect("text").parse().expect("whole seconds"));
    (response.status().as_u16(), seconds)
}

#[tokio::test]
async fn each_asker_has_a_pace_and_is_told_when_to_come_back() {
    let apid = start(&[("WARREN_RATELIMIT_API_CAPACITY", "4")]);
    let server = apid.https(apid.fingerprint());
    let (_, login) =
        post(&server, "/api/v1/login", None, json!({"user": "admin", "password": PASSWORD})).await;
    let admin = login["secret"].as_str();
    for _ in 0..3 {
        assert_eq!(retry_after(&apid, "/api/version", None).await, (200, None));
    }
    let (status, after) = retry_after(&apid, "/api/version", None).await;
    assert!(status == 429 && after.is_some_and(|seconds| (1..=16).contains(&seconds)), "{status} {after:?}");
    for _ in 0..4 {
        assert_eq!(get(&server, "/api/v1/me", admin).await.0, 200, "a person at the same address");
    }
    let (status, problem) = get(&server, "/api/v1/me", admin).await;
    assert_eq!((status, &problem["code"]), (429, &json!("rate-limited")));
    for _ in 0..9 {
        assert_eq!(
            get(&apid.socket(), "/api/v1/tenants", None).await.0,
            200,
            "whoever is on the server itself"
        );
    }
    let metrics = probe(&apid, "/metrics").await;
    assert!(metrics.contains("warren_rate_limit_rejections_total{limiter=\"api\"} 2"), "{metrics}");
}

#[tokio::test]
async fn guesses_are_paced_before_they_cost_anything() {
    let apid = start(&[("WARREN_RATELIMIT_LOGIN_CAPACITY", "2")]);
    let form = |user: &str| Some(json!({"user": user, "password": "no"}));
    for user in ["ada", "bob"] {
        assert_eq!(retry_after(&apid, "/api/v1/login", form(user)).await.0, 401);
    }
    let (status, after) = retry_after(&apid, "/api/v1/login", form("eve")).await;
    assert!(status == 429 && after.is_some_and(|seconds| (1..=31).contains(&seconds)), "{status} {after:?}");
    let (status, _) = get(&apid.https(apid.fingerprint()), "/api/v1/me", Some("ws1_a_b")).await;
    assert_eq!(status, 429, "unknown sessions are guesses, too");
    let metrics = probe(&apid, "/metrics").await;
    assert!(metrics.contains("warren_rate_limit_rejections_total{limiter=\"login\"} 2"), "{metrics}");
}

#[tokio::test]
async fn a_flood_of_refusals_fills_no_audit_log() {
    let apid =
        start(&[("WARREN_RATELIMIT_AUDIT_CAPACITY", "5"), ("WARREN_RATELIMIT_LOGIN_CAPACITY", "1000")]);
    let server = apid.https(apid.fingerprint());
    let (_, login) =
        post(&server, "/api/v1/login", None, json!({"user": "admin", "password": PASSWORD})).await;
    for _ in 0..20 {
        assert_eq!(get(&server, "/api/v1/users/nobody", login["secret"].as_str()).await.0, 404);
        assert_eq!(get(&server, "/api/v1/me", Some("ws1_a_b")).await.0, 401);
    }
    let (_, page) = get(&apid.socket(), "/api/v1/audit?limit=1000", None).await;
    let of = |actor: &str| {
        let refused = page["items"].as_array().expect("a list").iter().filter(|e| e["outcome"] == "refused");
        refused.filter(|entry| entry["actor"] == actor).count()
    };
    // A busy machine may need so long that one more is in time.
    assert!((5..=7).contains(&of("user:admin")), "{page}");
    assert!((5..=7).contains(&of("network:127.0.0.1")), "{page}");
    let metrics = probe(&apid, "/metrics").await;
    let left = metrics
        .lines()
        .find_map(|l| l.strip_prefix("warren_rate_limit_rejections_total{limiter=\"audit\"} "));
    assert!(left.is_some_and(|n| (26..=30).contains(&n.parse::<u32>().expect("a number"))), "{metrics}");
}

/// Who was refused what, as the audit log has it once all so far is written: what is refused here comes after it.
async fn refused(apid: &Apid) -> Vec<(String, String)> {
    for status in [201, 409] {
        assert_eq!(post(&apid.socket(), "/api/v1/tenants", None, json!({"name": "last"})).await.0, status);
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let (_, page) = get(&apid.socket(), "/api/v1/audit?limit=1000", None).await;
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let entries = page["items"].as_array().expect("a list").iter().filter(|e| e["outcome"] == "refused");
        let (last, all): (Vec<&Value>, Vec<&Value>) = entries.partition(|entry| entry["target"] == "last");
        if !last.is_empty() {
            return all.iter().map(|entry| (text(&entry["actor"]), text(&entry["action"]))).collect();
        }
        assert!(Instant::now() < end, "it is not written: {page}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nor_does_a_flood_of_refused_edits_and_who_administers_the_server_is_written_down_always() {
    let apid = start(&[("WARREN_RATELIMIT_AUDIT_CAPACITY", "5")]);
    let server = apid.https(apid.fingerprint());
    let (_, login) =
        post(&server, "/api/v1/login", None, json!({"user": "admin", "password": PASSWORD})).await;
    for _ in 0..20 {
        let wish = json!({"name": "home"});
        assert_eq!(post(&server, "/api/v1/tenants", login["secret"].as_str(), wish.clone()).await.0, 409);
        assert_eq!(get(&server, "/api/v1/users/nobody", login["secret"].as_str()).await.0, 404);
        assert_eq!(post(&apid.socket(), "/api/v1/tenants", None, wish).await.0, 409);
    }
    let all = refused(&apid).await;
    let of = |who: &str| all.iter().filter(|(actor, _)| actor.starts_with(who)).count();
    assert!((5..=7).contains(&of("user:admin")), "edits and others are counted together: {all:?}");
    assert_eq!(of("local:"), 20, "{all:?}");
}

#[tokio::test]
async fn a_person_who_is_slowed_down_keeps_no_stranger_out_of_the_audit_log() {
    let apid = start(&[("WARREN_RATELIMIT_AUDIT_CAPACITY", "3"), ("WARREN_RATELIMIT_LOGIN_CAPACITY", "2")]);
    let server = apid.https(apid.fingerprint());
    let (_, login) =
        post(&server, "/api/v1/login", None, json!({"user": "admin", "password": PASSWORD})).await;
    let wrong = json!({"current": "no", "new": "seven quiet lamps drift"});
    for _ in 0..9 {
        post(&server, "/api/v1/me/password", login["secret"].as_str(), wrong.clone()).await;
    }
    get(&server, "/api/v1/me", Some("ws1_a_b")).await;
    let all = refused(&apid).await;
    let of = |who: &str, what: &str| all.iter().filter(|e| **e == (who.to_owned(), what.to_owned())).count();
    // Beside those that came too soon there are wrong ones.
    assert!((3..9).contains(&of("user:admin", "user.password")), "{all:?}");
    assert_eq!(of("network:127.0.0.1", "api.call"), 1, "{all:?}");
}

#[tokio::test]
async fn a_login_that_comes_too_soon_costs_no_database() {
    let apid = start(&[("WARREN_RATELIMIT_AUDIT_CAPACITY", "1"), ("WARREN_RATELIMIT_LOGIN_CAPACITY", "2")]);
    let log_in =
        async || retry_after(&apid, "/api/v1/login", Some(json!({"user": "ada", "password": "no"}))).await.0;
    let mut before = Vec::new();
    while before.last() != Some(&429) {
        before.push(log_in().await);
    }
    let hide = ["-cmd", ".timeout 10000", "warren.db", "ALTER TABLE users RENAME TO away"];
    let hidden = Command::new("sqlite3").current_dir(apid.dir.path()).args(hide).status();
    assert!(hidden.expect("apt-get install sqlite3").success());
    assert_eq!(log_in().await, 429, "nobody needs to know whose it is");
}

#[tokio::test]
async fn one_address_has_as_many_connections_as_the_settings_say_and_the_log_says_so_once() {
    let apid = start(&[("WARREN_CONNECTIONS_PER_ADDRESS", "3")]);
    let connect = async || TcpStream::connect(apid.at).await.expect("it listens");
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(connect().await);
    }
    for _ in 0..2 {
        let closed = connect().await.read(&mut [0]).await;
        assert!(closed.as_ref().map_or(true, |read| *read == 0), "told nothing, and let go: {closed:?}");
    }
    let metrics = probe(&apid, "/metrics").await;
    assert!(metrics.contains("warren_https_connections_refused_total 2"), "{metrics}");
    let log = apid.logged("--connections-per-address");
    assert!(log.contains("address=127.0.0.1") && log.contains("most=3"), "{log}");
    assert_eq!(log.matches("--connections-per-address").count(), 1, "{log}");
    held.clear();
    let end = Instant::now() + PATIENCE;
    loop {
        let wish = Request::builder().uri("/api/version").body(Vec::new().into()).expect("a request");
        match request(&apid.https(apid.fingerprint()), wish, Bounds::default()).await {
            Ok(answer) => break assert_eq!(answer.status(), 200),
            Err(error) => assert!(Instant::now() < end, "places come back: {error}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_dawdles_or_talks_too_much_is_cut() {
    let apid = start(&[]);
    let address = apid.probes;
    let mut slow = TcpStream::connect(address).await.expect("it listens");
    slow.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n").await.expect("it reads");
    let mut long = TcpStream::connect(address).await.expect("it listens");
    let head = format!("GET /readyz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(64 * 1024));
    // It may be cut while it talks.
    let _ = long.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let refused = long.read_to_end(&mut answer).await;
    assert!(refused.is_err() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    let ended = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "a head that never ends is waited for, and not for ever");
    assert!(probe(&apid, "/readyz").await.starts_with("HTTP/1.0 200 "), "others are served");
}

#[tokio::test]
async fn certificates_of_one_person_have_a_pace() {
    let (apid, tenant) = with_devices_and(&[("WARREN_RATELIMIT_SIGNING_CAPACITY", "2")]).await;
    let (token, key) = (log_in(&apid).await, public_key(&apid, "ed25519"));
    let good = form(&key, &vouch(tenant, 1, &key, wall()).sign(&identity(1)));
    let server = apid.https(apid.fingerprint());
    let issue = async || post(&server, "/api/v1/ssh/certificates", Some(&token), good.clone()).await;
    for _ in 0..2 {
        let (status, issued) = issue().await;
        assert_eq!(status, 201, "{issued}");
    }
    let (status, problem) = issue().await;
    assert_eq!((status, &problem["code"]), (429, &json!("rate-limited")), "{problem}");
    assert_eq!(get(&server, "/api/v1/me", Some(&token)).await.0, 200, "that alone");
    let metrics = probe(&apid, "/metrics").await;
    assert!(metrics.contains("warren_rate_limit_rejections_total{limiter=\"signing\"} 1"), "{metrics}");
}

/// A connection over TLS, on which nothing was said.
async fn connected(
    at: SocketAddr,
    own: &rcgen::CertifiedKey<rcgen::KeyPair>,
) -> (SocketAddr, TlsStream<TcpStream>) {
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("TLS 1.3").with_root_certificates(roots).with_no_client_auth();
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small one");
    let stream = socket.connect(at).await.expect("it listens");
    let here = stream.local_addr().expect("bound");
    let name = ServerName::try_from("localhost").expect("a name");
    (here, TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS"))
}

/// REQUEST_TIME_MAX is half a minute.
#[tokio::test]
async fn a_body_that_does_not_end_is_not_waited_for_for_ever() {
    let apid = start(&[]);
    let mut slow = UnixStream::connect(apid.dir.path().join("apid.sock")).await.expect("a socket");
    let head = "POST /api/v1/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 60\r\n\r\n{\"user\":";
    slow.write_all(head.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "a body that never ends is waited for, and not for ever");
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    assert!(String::from_utf8_lossy(&answer).contains("not complete in time"), "{answer:?}");
}

/// Whether the server has a connection from there, as the kernel says (proc_pid_net(5)).
fn is_connected(own: SocketAddr) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux")
        + &std::fs::read_to_string("/proc/net/tcp6").expect("Linux");
    let remote = format!(":{:04X}", own.port());
    let established = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(2).is_some_and(|peer| peer.ends_with(&remote)) && words.get(3) == Some(&"01")
    };
    table.lines().any(|line| established(&line))
}

/// UNREAD_TIME_MAX is half a minute.
#[tokio::test]
async fn a_client_that_reads_no_answer_is_cut() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let dir = tempfile::tempdir().expect("a directory");
    let (certificate, key) = (dir.path().join("own.pem"), dir.path().join("own.key"));
    std::fs::write(&certificate, own.cert.pem()).expect("written");
    std::fs::write(&key, own.signing_key.serialize_pem()).expect("written");
    let files = [certificate, key].map(|path| path.to_str().expect("text").to_owned());
    let pace = ("WARREN_RATELIMIT_API_CAPACITY", "100000");
    let apid = start(&[pace, ("WARREN_TLS_CERT", &files[0]), ("WARREN_TLS_KEY", &files[1])]);
    let (own, mut deaf) = connected(apid.at, &own).await;
    assert!(is_connected(own));
    let ask = b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
    // Until the buffers of both sides are full: then it takes no more questions either.
    while tokio::time::timeout(Duration::from_secs(3), deaf.write_all(ask))
        .await
        .is_ok_and(|sent| sent.is_ok())
    {}
    let begun = Instant::now();
    while is_connected(own) {
        assert!(begun.elapsed() < PATIENCE, "whoever reads nothing keeps its place for ever");
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&apid.https(apid.fingerprint()), "/api/version", None).await.0, 200, "others are served");
}

/// As listen.rs says: of 256 places one user has a quarter.
const PLACES_EACH: usize = 64;

#[tokio::test]
async fn one_local_user_never_has_every_place_at_the_socket() {
    let apid = start(&[]);
    let path = apid.dir.path().join("apid.sock");
    let mut held = Vec::new();
    for _ in 0..PLACES_EACH {
        held.push(UnixStream::connect(&path).await.expect("a socket"));
    }
    let mut further = UnixStream::connect(&path).await.expect("a socket");
    assert_eq!(further.read(&mut [0]).await.expect("it is closed"), 0, "told nothing, and let go");
    held.clear();
    let end = Instant::now() + PATIENCE;
    loop {
        let wish = Request::builder().uri("/api/version").body(Vec::new().into()).expect("a request");
        match request(&apid.socket(), wish, Bounds::default()).await {
            Ok(answer) => break assert_eq!(answer.status(), 200),
            Err(error) => assert!(Instant::now() < end, "places come back: {error}"),
        }
    }
}

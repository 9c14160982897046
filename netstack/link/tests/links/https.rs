//! Requests of the command line.

use std::time::Duration;

use bytes::Bytes;
use link::https::{Bounds, HttpsError, Method, Request, Server as Asked, StatusCode, request};
use link::tls::{Certificate, HttpsTrust, PinMismatch};
use model::Fingerprint;
use tokio::net::UnixListener;

use crate::support::{Server, Udp, certificate, serve_plain, soon};

fn get(path: &str) -> Request<Bytes> {
    Request::builder().method(Method::GET).uri(path).body(Bytes::new()).unwrap()
}

async fn asked(certificate: &Certificate, pin: Fingerprint) -> (Server, Asked) {
    let server = Server::with(Udp::Closed, certificate, |channel| channel).await;
    let asked = Asked::Https { address: server.address.clone(), trust: HttpsTrust::Pinned(pin) };
    (server, asked)
}

#[tokio::test]
async fn the_pinned_server_answers() {
    let certificate = certificate();
    let (server, asked) = asked(&certificate, certificate.fingerprint()).await;
    let answer = soon(request(&asked, get("/host"), Bounds::default())).await.unwrap();
    assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::OK, server.at.to_string().as_bytes()));
    let answer = soon(request(&asked, get("/none"), Bounds::default())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let answer = soon(request(&asked, get("/link"), Bounds::default())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "no upgrade");
}

#[tokio::test]
async fn another_key_is_refused_and_named() {
    let (certificate, other) = (certificate(), certificate());
    let (_server, asked) = asked(&certificate, other.fingerprint()).await;
    let error = soon(request(&asked, get("/host"), Bounds::default())).await.unwrap_err();
    let expect = PinMismatch { expected: other.fingerprint(), found: certificate.fingerprint() };
    assert!(matches!(error, HttpsError::Pin(mismatch) if mismatch == expect), "{error}");
}

#[tokio::test]
async fn nobody_vouches_for_a_certificate_of_ones_own_making() {
    let (server, _) = asked(&certificate(), Fingerprint::from_bytes([0; 32])).await;
    let trust = HttpsTrust::Authorities { extra_ca_file: None };
    let asked = Asked::Https { address: server.address.clone(), trust };
    let error = soon(request(&asked, get("/host"), Bounds::default())).await.unwrap_err();
    assert!(matches!(error, HttpsError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn answers_are_bounded_in_time_and_size() {
    let certificate = certificate();
    let (_server, asked) = asked(&certificate, certificate.fingerprint()).await;
    let ask = async |path, time_max, body_bytes_max| {
        soon(request(&asked, get(path), Bounds { time_max, body_bytes_max })).await
    };
    let answer = ask("/long", Duration::from_secs(10), 100_000).await.unwrap();
    assert_eq!(answer.body().len(), 100_000);
    let error = ask("/long", Duration::from_secs(10), 99_999).await.unwrap_err();
    assert!(matches!(error, HttpsError::TooLong(99_999)), "{error}");
    let error = ask("/never", Duration::from_millis(300), 1).await.unwrap_err();
    assert!(matches!(error, HttpsError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn a_program_of_this_machine_answers_on_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let asked = Asked::Unix(path.clone());
    let error = soon(request(&asked, get("/host"), Bounds::default())).await.unwrap_err();
    assert!(
        matches!(&error, HttpsError::Unreachable { server, .. } if server.ends_with("agent.sock")),
        "{error}"
    );
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve_plain(stream).await;
    });
    let answer = soon(request(&asked, get("/host"), Bounds::default())).await.unwrap();
    assert_eq!(answer.body().as_ref(), b"localhost");
}

#[test]
fn a_certificate_and_a_key_must_fit() {
    let (one, two) =
        (rcgen::generate_simple_self_signed(["a".into()]), rcgen::generate_simple_self_signed(["a".into()]));
    let (one, two) = (one.unwrap(), two.unwrap());
    let check = |chain: &str, key: &str, expect: Option<&str>| {
        let made = Certificate::from_pem(chain.as_bytes(), key.as_bytes());
        assert_eq!(made.err().map(|e| e.to_string()).as_deref(), expect);
    };
    let key = one.signing_key.serialize_pem();
    check(&one.cert.pem(), &key, None);
    check(&two.cert.pem(), &key, Some("the certificate or key cannot be used"));
    check("", &key, Some("a certificate in the certificate chain is not in PEM"));
    check(&one.cert.pem(), "", Some("the private key is not in PEM"));
}

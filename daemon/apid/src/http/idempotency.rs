//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): who is not sure whether a request was done sends it again with
//! the same key. What was done is answered again; a refusal (4xx) changed nothing, and frees the key. A failure (5xx) may have
//! changed something, and is answered again: who wants it done anew looks first, and takes another key. So does
//! who asks again after the server or its database went away meanwhile: nobody knows then whether it was done.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::{Code, Digest, Refusal};
use store::{Keyed, KeyedRequest};

use super::auth::Caller;
use super::observe::REQUEST_TIME_MAX;
use super::problem::{Refused, unavailable};
use super::{App, BODY_BYTES_MAX};
use crate::clock::wall;
use crate::keys::KeyedPart;
use crate::report;

/// The header of a request.
pub const KEY: &str = "idempotency-key";
/// The header of an answer that was given before.
const REPLAYED: &str = "idempotency-replayed";
/// A key is remembered for so long.
pub const KEY_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A request that is not answered after so long was begun by a server that is gone: a running one ends it sooner.
const ABANDONED_AFTER: Duration = Duration::from_secs(2 * 60);
/// A UUID fits many times.
const KEY_BYTES_MAX: usize = 255;
/// Whatever a request of a form is answered with is far below.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Does a request once for each key of whoever asks. Without a key, or of nobody, it is done as often as it comes.
pub async fn once(State(app): State<App>, request: Request, next: Next) -> Response {
    if app.keys.check().is_err() {
        // Nothing can be kept. What needs no key of the server's is done all the same.
        return next.run(request).await;
    }
    let named = name(request.headers(), request.extensions().get::<Caller>());
    match named {
        Ok(Some(named)) => answered(app, named, request, next).await.unwrap_or_else(Refused::into_response),
        Ok(None) => next.run(request).await,
        Err(refusal) => Refused::from(refusal).into_response(),
    }
}

/// A key is of one person, program or local administrator: nobody gets another one's answer.
fn name(headers: &HeaderMap, caller: Option<&Caller>) -> Result<Option<KeyedRequest>, Refusal> {
    let (Some(value), Some(caller)) = (headers.get(KEY), caller) else { return Ok(None) };
    let bad =
        || Refusal::new(Code::BadRequest, "Idempotency-Key is one string in quotes, of 1 to 255 characters");
    let text = value.to_str().map_err(|_| bad())?;
    // A string in quotes (RFC 8941, section 3.3.3); most programs send it bare.
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let printable = key.bytes().all(|byte| (0x20..0x7f).contains(&byte) && !b"\"\\".contains(&byte));
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !printable {
        return Err(bad());
    }
    let holder = match (&caller.token, &caller.user) {
        (Some(token), _) => format!("api-token:{token}"),
        (None, Some(user)) => format!("user:{}", user.id),
        (None, None) => caller.by.to_string(),
    };
    Ok(Some(KeyedRequest { holder, key: key.into() }))
}

async fn answered(app: App, named: KeyedRequest, request: Request, next: Next) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let too_long = |_| Refusal::new(Code::BadRequest, format!("a form has at most {BODY_BYTES_MAX} bytes"));
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(too_long)?;
    // Whoever asks may be gone before it is done: that is who will ask again. A server that stops waits for those that begun.
    let under_way = app.under_way.clone().read_owned().await;
    let asked = tokio::spawn(async move {
        let answer = asked(app, named, parts, body, next).await;
        drop(under_way);
        answer
    });
    asked.await.unwrap_or_else(|_| Err(Code::Internal.into()))
}

/// Does it or says what came of it before. Cut off between the two, the key would be in use until it is abandoned.
async fn asked(
    app: App,
    named: KeyedRequest,
    parts: Parts,
    body: Bytes,
    next: Next,
) -> Result<Response, Refused> {
    let question =
        [parts.method.as_str().as_bytes(), parts.uri.to_string().as_bytes(), &body].map(<[u8]>::to_vec);
    let digest = Digest::of("warren request 1", &question.each_ref().map(Vec::as_slice));
    let sealed =
        app.keys.seal_keyed(KeyedPart::Asked, &named, digest.as_bytes()).map_err(|e| unopened(&e))?;
    let now = wall();
    let times = (now - KEY_LIFE, now - ABANDONED_AFTER);
    let known = app.store.begin_keyed(&named, &sealed, now, times).await.map_err(|e| unavailable(&e))?;
    let Keyed::Known { asked, answer, abandoned } = known else {
        let request = Request::from_parts(parts, Body::from(body));
        return done(app, named, request, next).await;
    };
    let asked = app.keys.open_keyed(KeyedPart::Asked, &named, &asked).map_err(|e| unopened(&e))?;
    if *asked != digest.as_bytes() {
        let detail = "the key was used for another request";
        return Err(Refusal::new(Code::IdempotencyKeyReused, detail).into());
    }
    if abandoned {
        let detail = "the server ended before it said what came of the request";
        return Err(Refusal::new(Code::IdempotencyOutcomeUnknown, detail).into());
    }
    let Some((status, answer)) = answer else {
        return Err(Refusal::new(Code::IdempotencyKeyInUse, "the request is being done").into());
    };
    let body = app.keys.open_keyed(KeyedPart::Answer, &named, &answer).map_err(|e| unopened(&e))?;
    Ok(replayed(status, Bytes::copy_from_slice(&body)))
}

/// Does it, and remembers what came of it.
async fn done(app: App, named: KeyedRequest, request: Request, next: Next) -> Result<Response, Refused> {
    // What took longer is not known to be done or not: until it is abandoned the key is in use.
    let in_time = tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await;
    let response =
        in_time.map_err(|_| Refusal::new(Code::StoreUnavailable, "the request was not done in time"))?;
    if response.status().is_client_error() {
        if let Err(error) = app.store.forget_keyed(&named).await {
            tracing::warn!(error = error.chain(), "what came of a key will not be known");
        }
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, ANSWER_BYTES_MAX).await.map_err(|_| Refusal::from(Code::Internal))?;
    let sealed = app.keys.seal_keyed(KeyedPart::Answer, &named, &body).map_err(|e| unopened(&e))?;
    if let Err(error) = app.store.answer_keyed(&named, parts.status.as_u16(), &sealed).await {
        tracing::warn!(error = error.chain(), "an answer is not kept for who asks again");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn replayed(status: u16, body: Bytes) -> Response {
    let has_body = !body.is_empty();
    let mut response = body.into_response();
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    if has_body {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Another master key sealed it.
fn unopened(error: &crate::seal::SealError) -> Refusal {
    tracing::error!(error = %report::chain(error), "an answer that is asked for again does not unseal");
    Refusal::new(Code::SignerSealed, error.to_string())
}

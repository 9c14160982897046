//! What is the same for every request: an id, a metric, a log line. And the routes that are no forms.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control::{Actor, Origin};
use model::{Code, Refusal};
use prometheus_client::metrics::gauge::Gauge;

use super::App;
use super::auth::Peer;
use super::health::Readiness;
use super::problem::{Refused, Told, with_request_id};
use super::table::BACKUP;
use crate::metrics::{CONTENT_TYPE, Metrics};

/// From head to answer: an edit waits for the database, a slow client is cut.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// A backup is written to disk before its head is sent: some hundred gigabytes.
const BACKUP_TIME_MAX: Duration = Duration::from_secs(3600);

/// Asked every few seconds by machines: their answers are lines at level debug.
const OF_PROBES: [&str; 3] = ["/healthz", "/readyz", "/api/version"];

/// Counts, times, bounds, logs and names every request.
pub async fn request(State(metrics): State<Metrics>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let _under_way = UnderWay::begin(&metrics.requests_in_flight);
    let id = request_id();
    request.extensions_mut().insert(RequestTag(id.clone()));
    let method = known(request.method());
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".into(), |p| p.as_str().to_owned());
    let time_max = if route == BACKUP { BACKUP_TIME_MAX } else { REQUEST_TIME_MAX };
    let mut response = match tokio::time::timeout(time_max, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refused::from(Refusal::new(Code::BadRequest, "the request was not complete in time"))
            .into_response(),
    };
    let (status, took) = (response.status().as_u16(), started.elapsed());
    let actor = response.extensions().get::<Actor>().map(tracing::field::display);
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if let Some(told) = response.extensions().get::<Told>().cloned() {
        let Refusal { code, detail } = &told.0.refusal;
        tracing::info!(request = id, route, method, status, micros, actor, %code, detail, "request refused");
        // Which methods there are is the router's to say (RFC 9110, section 15.5.6).
        let allow = response.headers_mut().remove(header::ALLOW);
        response = with_request_id(&told, &id);
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    } else if OF_PROBES.contains(&&*route) {
        tracing::debug!(request = id, route, method, status, micros, actor, "request answered");
    } else {
        tracing::info!(request = id, route, method, status, micros, actor, "request answered");
    }
    metrics.request(&route, method, status, took);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// The id of a request, for who writes something down about it.
#[derive(Debug, Clone)]
pub struct RequestTag(pub String);

/// A request that is being answered; counted until it is dropped, as when its client goes.
struct UnderWay(Gauge);

impl UnderWay {
    fn begin(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Methods are anybody's text; a series for each would have no end.
fn known(method: &Method) -> &'static str {
    let all = [
        Method::GET,
        Method::POST,
        Method::PATCH,
        Method::DELETE,
        Method::PUT,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let names = ["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"];
    all.iter().position(|known| known == method).map_or("other", |at| names[at])
}

fn request_id() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the kernel has random bytes");
    format!("{:016x}", u64::from_be_bytes(random))
}

/// All series, for Prometheus.
pub async fn metrics(State((readiness, metrics)): State<(Readiness, Metrics)>) -> impl IntoResponse {
    readiness.measure(&metrics).await;
    ([("content-type", CONTENT_TYPE)], metrics.text())
}

/// A link over WebSocket begins.
pub async fn link(State(app): State<App>, mut request: Request) -> Result<Response, Refused> {
    let peer = request.extensions().get::<Peer>().cloned();
    let Some(Peer::Network { address, channel }) = peer else {
        return Err(Refusal::new(Code::NotFound, "a link over the unix socket needs no WebSocket").into());
    };
    let (response, connection) = link::websocket::upgrade(&mut request, channel, address)
        .map_err(|e| Refusal::new(Code::BadRequest, e.to_string()))?;
    tokio::spawn(async move {
        match connection.await {
            Ok(connection) => app.desk.serve(connection, Origin::Network(address.ip())).await,
            Err(error) => tracing::debug!(%error, %address, "no WebSocket after all"),
        }
    });
    Ok(response)
}

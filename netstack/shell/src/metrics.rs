//! A place on loopback for Prometheus to scrape: `GET /metrics`, and nothing else. Knows no figure.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::process::Process;

/// What every series begins with.
pub const PREFIX: &str = "warren";

/// Scrapers at once; whoever comes later waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 8;
/// A scraper says at once what it wants.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// When the machine is short of descriptors, or the like, accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const CONTENT: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Where metrics are, if anywhere.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Settings {
    /// Where Prometheus scrapes metrics, such as 127.0.0.1:8081; nowhere if absent. Loopback only.
    #[arg(long, env = "WARREN_METRICS_LISTEN")]
    pub metrics_listen: Option<Loopback>,
}

/// A port that only this machine reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loopback(SocketAddr);

/// Not such a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("metrics are for this machine only: 127.0.0.1:PORT or [::1]:PORT")]
pub struct NotLoopback;

impl FromStr for Loopback {
    type Err = NotLoopback;
    fn from_str(text: &str) -> Result<Self, NotLoopback> {
        let at: SocketAddr = text.parse().map_err(|_| NotLoopback)?;
        if at.ip().is_loopback() { Ok(Self(at)) } else { Err(NotLoopback) }
    }
}

/// All series of a program in the text format of OpenMetrics 1.0: its process, and whatever its figures are now.
pub fn text(process: &Process, figures: impl Collector) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(process.clone()));
    registry.register_collector(Box::new(figures));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

/// Listens, if that is set.
///
/// # Errors
/// The port is taken.
pub async fn listen(settings: &Settings) -> io::Result<Option<TcpListener>> {
    match settings.metrics_listen {
        Some(Loopback(at)) => TcpListener::bind(at).await.map(Some),
        None => Ok(None),
    }
}

/// Serves what `text` gives, anew for each scrape, for as long as it is polled.
pub async fn serve<F>(listener: TcpListener, text: impl Fn() -> F + Clone + Send + Sync + 'static)
where
    F: Future<Output = String> + Send,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let text = text.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, text).await {
                        tracing::debug!(%error, "a scraper's connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse<F>(stream: TcpStream, text: impl Fn() -> F) -> hyper::Result<()>
where
    F: Future<Output = String> + Send,
{
    let answer = |request: Request<Incoming>| {
        let wanted = (request.uri().path() == "/metrics" && request.method() == Method::GET).then(&text);
        async move {
            let mut response = Response::new(Full::new(Bytes::new()));
            match wanted {
                Some(text) => {
                    *response.body_mut() = Full::new(text.await.into());
                    response.headers_mut().insert(CONTENT_TYPE, CONTENT);
                }
                None => *response.status_mut() = StatusCode::NOT_FOUND,
            }
            Ok::<_, Infallible>(response)
        }
    };
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn fetch(at: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(at).await.expect("connected");
        let request = format!("{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("an answer");
        response
    }

    #[tokio::test]
    async fn metrics_are_scraped_and_nothing_else() {
        let settings = Settings { metrics_listen: "127.0.0.1:0".parse().ok() };
        let listener = listen(&settings).await.expect("a free port").expect("it is set");
        let at = listener.local_addr().expect("bound");
        let serving = tokio::spawn(serve(listener, || async { "warren_up 1\n".to_owned() }));
        let found = fetch(at, "GET /metrics").await;
        assert!(found.starts_with("HTTP/1.1 200") && found.ends_with("\r\n\r\nwarren_up 1\n"), "{found}");
        assert!(found.contains("content-type: application/openmetrics-text"), "{found}");
        for other in ["GET /", "POST /metrics", "GET /metrics/x"] {
            assert!(fetch(at, other).await.starts_with("HTTP/1.1 404"), "{other}");
        }
        serving.abort();
    }

    #[test]
    fn only_this_machine_scrapes() {
        let parse = |text: &str| text.parse::<Loopback>().is_ok();
        assert!(parse("127.0.0.1:8081") && parse("[::1]:8081"));
        assert!(!parse("0.0.0.0:8081") && !parse("100.64.0.1:8081") && !parse("[::]:1") && !parse("8081"));
    }
}

//! HTTP/1.1 for the command line and the agent's own socket: one request, one answer, one connection. Keeps no
//! connection, follows no redirect, reads no proxy setting.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use hyper::{Method, Request, Response, StatusCode, header};

use crate::address::ServerAddress;
use crate::dial::{resolve, staggered};
use crate::limits::{REQUEST_TIME_DEFAULT, RESPONSE_BYTES_DEFAULT};
use crate::tls::{HttpsTrust, PinMismatch, TlsError, pin_mismatch};
use crate::websocket::connect_tls;

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// A server over TLS.
    Https {
        /// Where.
        address: ServerAddress,
        /// Whom to trust.
        trust: HttpsTrust,
    },
    /// A program of this machine, by its unix socket.
    Unix(PathBuf),
}

impl Server {
    /// Where it is.
    pub fn place(&self) -> String {
        match self {
            Self::Https { address, .. } => address.to_string(),
            Self::Unix(path) => path.display().to_string(),
        }
    }
}

/// How much one request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// From the call to the last byte of the answer.
    pub time_max: Duration,
    /// Of the answer's body.
    pub body_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { time_max: REQUEST_TIME_DEFAULT, body_bytes_max: RESPONSE_BYTES_DEFAULT }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// Whom to trust cannot be loaded.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server has another key than the pinned one.
    #[error(transparent)]
    Pin(#[from] PinMismatch),
    /// No connection.
    #[error("cannot reach {server}")]
    Unreachable {
        /// Whom.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("{server} broke off")]
    Broken {
        /// Who.
        server: String,
        /// Why.
        source: hyper::Error,
    },
    /// What came could not be kept.
    #[error("what came cannot be kept")]
    Kept(#[source] io::Error),
    /// The answer is longer than [`Bounds::body_bytes_max`].
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// Not done within [`Bounds::time_max`].
    #[error("no answer from {server} in {} s", time_max.as_secs_f32())]
    TimedOut {
        /// Whom.
        server: String,
        /// How long.
        time_max: Duration,
    },
}

/// Sends one request and reads the whole answer, whatever its status. The URI is a path with a query; `Host` is filled
/// in.
///
/// # Errors
/// See [`HttpsError`].
pub async fn request(
    server: &Server,
    request: Request<Bytes>,
    bounds: Bounds,
) -> Result<Response<Bytes>, HttpsError> {
    let Bounds { time_max, body_bytes_max } = bounds;
    let exchange = async {
        match server {
            Server::Https { address, trust } => {
                let stream = connect(server, address, trust).await?;
                let (answer, _connection) = begin(server, stream, &address.authority(), request).await?;
                whole(server, answer, body_bytes_max).await
            }
            Server::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable_by(server))?;
                let (answer, _connection) = begin(server, stream, "localhost", request).await?;
                whole(server, answer, body_bytes_max).await
            }
        }
    };
    within(server, time_max, exchange).await
}

/// Sends one request. The body of an answer that says that it was done goes to `take`, piece by piece; of another answer
/// the beginning is given back.
///
/// # Errors
/// See [`HttpsError`]; [`HttpsError::Kept`] if `take` fails. What was taken until an error is not all of it.
pub async fn download(
    server: &Server,
    request: Request<Bytes>,
    time_max: Duration,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Response<Bytes>, HttpsError> {
    let exchange = async {
        let (answer, _connection) = match server {
            Server::Https { address, trust } => {
                let stream = connect(server, address, trust).await?;
                begin(server, stream, &address.authority(), request).await?
            }
            Server::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable_by(server))?;
                begin(server, stream, "localhost", request).await?
            }
        };
        if !answer.status().is_success() {
            return whole(server, answer, RESPONSE_BYTES_DEFAULT).await;
        }
        let (head, mut body) = answer.into_parts();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| HttpsError::Broken { server: server.place(), source })?;
            if let Some(piece) = frame.data_ref() {
                take(piece).map_err(HttpsError::Kept)?;
            }
        }
        Ok(Response::from_parts(head, Bytes::new()))
    };
    within(server, time_max, exchange).await
}

async fn within<T>(
    server: &Server,
    time_max: Duration,
    exchange: impl Future<Output = Result<T, HttpsError>>,
) -> Result<T, HttpsError> {
    timeout(time_max, Box::pin(exchange))
        .await
        .unwrap_or_else(|_| Err(HttpsError::TimedOut { server: server.place(), time_max }))
}

fn unreachable_by(server: &Server) -> impl FnOnce(io::Error) -> HttpsError + '_ {
    |source| HttpsError::Unreachable { server: server.place(), source }
}

async fn connect(
    server: &Server,
    address: &ServerAddress,
    trust: &HttpsTrust,
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, HttpsError> {
    let tls = trust.client_config().await?;
    let remotes = resolve(address).await.map_err(unreachable_by(server))?;
    let connected = staggered(&remotes, |remote| connect_tls(address, remote, tls.clone(), None)).await;
    connected.map_err(|(_, error)| match pin_mismatch(&error) {
        Some(mismatch) => mismatch.into(),
        None => unreachable_by(server)(error),
    })
}

/// Asks, up to the head of the answer. The set keeps the connection, and ends it when it is dropped.
async fn begin(
    server: &Server,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    request: Request<Bytes>,
) -> Result<(Response<Incoming>, JoinSet<Result<(), hyper::Error>>), HttpsError> {
    let broken = |source| HttpsError::Broken { server: server.place(), source };
    let mut request = request.map(Full::new);
    if let Ok(host) = HeaderValue::from_str(host) {
        request.headers_mut().entry(HOST).or_insert(host);
    }
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    Ok((sender.send_request(request).await.map_err(broken)?, tasks))
}

async fn whole(
    server: &Server,
    answer: Response<Incoming>,
    body_bytes_max: usize,
) -> Result<Response<Bytes>, HttpsError> {
    let broken = |source| HttpsError::Broken { server: server.place(), source };
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, body_bytes_max).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => broken(*error),
        // The only other error of a limited body is its limit.
        Err(_) => HttpsError::TooLong(body_bytes_max),
    })?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

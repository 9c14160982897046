//! The HTTP proxy: CONNECT (RFC 9110, section 9.3.6) and nothing else, so that it sees no request of a program.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use model::{Code, Refusal};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::{REQUEST_PATIENCE, Way, carry};

/// A CONNECT with all its headers.
const HEADERS_BYTES_MAX: usize = 16 * 1024;

type Answer = Response<Full<Bytes>>;

pub(super) async fn serve(stream: TcpStream, way: Way, seat: OwnedSemaphorePermit) -> io::Result<()> {
    let seat = Arc::new(seat);
    let service = service_fn(move |request| {
        let (way, seat) = (way.clone(), Arc::clone(&seat));
        async move { Ok::<_, Infallible>(respond(request, &way, seat).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(REQUEST_PATIENCE).max_buf_size(HEADERS_BYTES_MAX);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    connection.with_upgrades().await.map_err(io::Error::other)
}

async fn respond(request: Request<Incoming>, way: &Way, seat: Arc<OwnedSemaphorePermit>) -> Answer {
    if request.method() != Method::CONNECT {
        let mut answer =
            text(StatusCode::METHOD_NOT_ALLOWED, "this proxy knows CONNECT: curl --proxytunnel\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("CONNECT"));
        return answer;
    }
    let authority = request.uri().authority();
    let Some((host, port)) = authority.and_then(|a| Some((a.host().to_owned(), a.port_u16()?))) else {
        return text(StatusCode::BAD_REQUEST, "CONNECT wants HOST:PORT\n");
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match way.open(host, port).await {
        Ok(reached) => {
            tokio::spawn(async move {
                // The connection counts until it has ended.
                let _seat = seat;
                let carried = match hyper::upgrade::on(request).await {
                    Ok(program) => carry(TokioIo::new(program), reached).await,
                    Err(error) => Err(io::Error::other(error)),
                };
                if let Err(error) = carried {
                    tracing::debug!(%error, "a connection through the proxy broke");
                }
            });
            Response::new(Full::default())
        }
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Answer {
    tracing::debug!(code = %refusal.code, detail = refusal.detail, "a program's wish is refused");
    text(status_of(refusal.code), &format!("{refusal}\n{}\n", refusal.hint()))
}

/// As seen from a program that asks a proxy, not the agent.
const fn status_of(code: Code) -> StatusCode {
    match code {
        Code::OutsideMesh => StatusCode::FORBIDDEN,
        Code::NameUnknown | Code::ConnectionRefused => StatusCode::BAD_GATEWAY,
        Code::ConnectionTimedOut => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn text(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text.to_owned())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_status_that_programs_know() {
        let check = |code: Code, status: u16| assert_eq!(refused(&code.into()).status(), status, "{code}");
        check(Code::OutsideMesh, 403);
        check(Code::NameUnknown, 502);
        check(Code::ConnectionRefused, 502);
        check(Code::ConnectionTimedOut, 504);
        check(Code::NotEnrolled, 503);
        check(Code::QuotaReached, 503);
    }
}

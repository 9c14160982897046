//! The API, as an administrator uses it: over HTTPS with a token, or over the server's own unix socket.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use link::ServerAddress;
use link::https::header::HeaderValue;
use link::https::{self, Bounds, Bytes, HttpsError, Method, Request, Response, Server, StatusCode, header};
use link::tls::HttpsTrust;
use model::api::admin::Version;
use model::api::{Page, Problem};
use model::token::Bearer;
use model::{Code, Digest, Label};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::args::Args;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// An edit is answered when it is in the database, which may have to be waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(35);
/// A backup is written on the server's disk before it comes.
const DOWNLOAD_TIME_MAX: Duration = Duration::from_secs(2 * 3600);
/// A page of a list is far below.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

const BOUNDS: Bounds = Bounds { time_max: ANSWER_TIME_MAX, body_bytes_max: ANSWER_BYTES_MAX };
/// A request whose connection breaks is sent again for so long: a server restarts meanwhile.
const AGAIN_TIME_MAX: Duration = Duration::from_secs(60);
/// A server that is not there is looked for so long: it restarts meanwhile, or is gone.
const BACK_TIME_MAX: Duration = Duration::from_millis(6500);
/// A person who waits for longer is told for what.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// Between two tries, twice as long each time.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// By what a server knows a request that it did.
const KEY: &str = "idempotency-key";

/// What `warren login` remembers.
#[derive(Serialize, Deserialize)]
pub struct Remembered {
    /// Whom.
    pub server: String,
    /// The secret of the session; of an API token where an older `warren` logged in.
    pub token: String,
    /// Whether the server is known by its key; by the public authorities otherwise, as behind a proxy.
    pub pinned: bool,
}

/// A way to the API.
pub struct Admin {
    server: Server,
    bearer: Option<String>,
    tenant: Option<Label>,
    output: Output,
    /// Whether it was said that the server is waited for.
    said: AtomicBool,
}

impl Admin {
    /// By flags and environment, else by the server's own socket, else by what `warren login` remembers. A server that
    /// was named is the one, or it is an error: nothing is ever done on another.
    pub fn new(args: &Args) -> Result<Self, Failure> {
        let (tenant, output) = (args.tenant.clone(), Output::new(args.json, args.quiet));
        match (&args.admin_server, &args.api_token) {
            (Some(server), Some(token)) => return Self::remote(server, token, true, tenant, output),
            (None, Some(_)) => {
                return Err(Failure::usage("an API token without its server", "set WARREN_SERVER too"));
            }
            (Some(named), None) => {
                let named = address(named)?;
                let login =
                    remembered()?.filter(|login| address(&login.server).is_ok_and(|known| known == named));
                let Some(login) = login else {
                    let detail = format!("nobody is logged in to {named}");
                    return Err(Failure::usage(
                        detail,
                        format!("`warren login {named}`, or set WARREN_API_TOKEN"),
                    ));
                };
                return Self::remote(&login.server, &login.token, login.pinned, tenant, output);
            }
            (None, None) => {}
        }
        if args.apid_socket.exists() {
            return Ok(Self::of(Server::Unix(args.apid_socket.clone()), None, tenant, output));
        }
        if let Some(login) = remembered()? {
            return Self::remote(&login.server, &login.token, login.pinned, tenant, output);
        }
        Err(Failure::new(
            Exit::Unreachable,
            "no-server",
            format!("no server to administer: {} is not there", args.apid_socket.display()),
            "run it on the server, `warren login URL`, or set WARREN_SERVER and WARREN_API_TOKEN",
        ))
    }

    /// As a person: never by the server's own socket, whose administrators are nobody's name on another machine.
    pub fn person(args: &Args) -> Result<Self, Failure> {
        let named = args.admin_server.is_some() || args.api_token.is_some();
        match remembered()? {
            Some(login) if !named => {
                let output = Output::new(args.json, args.quiet);
                Self::remote(&login.server, &login.token, login.pinned, args.tenant.clone(), output)
            }
            None if !named => Err(Failure::usage("nobody is logged in to a server", "`warren login URL`")),
            _ => Self::new(args),
        }
    }

    fn remote(
        server: &str,
        token: &str,
        pinned: bool,
        tenant: Option<Label>,
        output: Output,
    ) -> Result<Self, Failure> {
        let address = address(server)?;
        let token: Bearer =
            token.parse().map_err(|e| Failure::usage(format!("{e}"), "see `warren login`"))?;
        let authorities = HttpsTrust::Authorities { extra_ca_file: None };
        let trust = if pinned { HttpsTrust::Pinned(token.server()) } else { authorities };
        let bearer = Some(token.expose().to_string());
        Ok(Self::of(Server::Https { address, trust }, bearer, tenant, output))
    }

    const fn of(server: Server, bearer: Option<String>, tenant: Option<Label>, output: Output) -> Self {
        Self { server, bearer, tenant, output, said: AtomicBool::new(false) }
    }

    /// Whoever is logged in where: another login has another. Nobody learns the login by it.
    pub fn session(&self) -> Digest {
        let server = self.place();
        let bearer = self.bearer.as_deref().unwrap_or_default();
        Digest::of("warren session 1", &[server.as_bytes(), &[0], bearer.as_bytes()])
    }

    /// Without a token yet: for a login.
    pub const fn anonymous(address: ServerAddress, trust: HttpsTrust, output: Output) -> Self {
        Self::of(Server::Https { address, trust }, None, None, output)
    }

    fn place(&self) -> String {
        match &self.server {
            Server::Https { address, .. } => address.to_string(),
            Server::Unix(path) => path.display().to_string(),
        }
    }

    /// Waits before the server is tried again. Whoever waits for long is told for what, once.
    async fn pause(&self, begun: Instant, pause: &mut Duration) {
        if begun.elapsed() >= SILENCE_MAX && !self.said.swap(true, Ordering::Relaxed) {
            self.output.waiting(&format!("waiting for the server at {}", self.place()));
        }
        tokio::time::sleep(*pause).await;
        *pause = PAUSE_MAX.min(*pause * 2);
    }

    /// The path with the tenant that the person named.
    pub fn of_tenant(&self, path: &str) -> String {
        match &self.tenant {
            Some(tenant) => format!("{path}?tenant={tenant}"),
            None => path.into(),
        }
    }

    /// A command of this program for the tenant that the person named.
    pub fn command(&self, words: &str) -> String {
        match &self.tenant {
            Some(tenant) => format!("warren --tenant {tenant} {words}"),
            None => format!("warren {words}"),
        }
    }

    /// Reads one form.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, None::<&()>).await
    }

    /// Reads all pages of a list.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failure> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page_path = match &cursor {
                Some(cursor) => format!("{path}{separator}cursor={cursor}"),
                None => path.to_owned(),
            };
            let page: Page<T> = self.get(&page_path).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
    }

    /// Makes or does something: once, even if the connection breaks before the answer is there and it is sent again.
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Failure> {
        let key = new_key()?;
        let begun = Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            let answer = self.exchange(self.keyed_request(path, body, &key)?).await;
            let may_again = match &answer {
                Err(HttpsError::Broken { .. }) => self.remembers_keys().await,
                // It is being done by the request whose connection broke.
                Ok(answer) => is_under_way(answer),
                Err(_) => false,
            };
            if !may_again || begun.elapsed() + pause > AGAIN_TIME_MAX {
                return read(answer);
            }
            self.pause(begun, &mut pause).await;
        }
    }

    /// Has something made by a request that has no key: of which a second one does no harm, such as a certificate, or for which a
    /// server knows none, such as a login. It is not sent again by itself.
    pub async fn post_again<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Has something be so from now on.
    pub async fn put<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Failure> {
        self.ask(Method::PUT, path, Some(body)).await
    }

    /// Changes a part of something.
    pub async fn patch<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Failure> {
        self.ask(Method::PATCH, path, Some(body)).await
    }

    /// Removes something.
    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.ask::<(), serde_json::Value>(Method::DELETE, path, None).await.map(drop)
    }

    /// Has something made that is no form; what succeeds is given to `take` piece by piece.
    pub async fn download<B: Serialize>(
        &self,
        path: &str,
        body: &B,
        take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<Response<()>, Failure> {
        let request = self.request(Method::POST, path, Some(body))?;
        let answer = https::download(&self.server, request, DOWNLOAD_TIME_MAX, take).await;
        let (head, body) = answer.map_err(|e| unanswered(&e))?.into_parts();
        if head.status.is_success() {
            Ok(Response::from_parts(head, ()))
        } else {
            Err(refused(head.status, &body))
        }
    }

    fn request<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Request<Bytes>, Failure> {
        let mut request =
            Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(|e| Failure::bug(e.to_string()))?
            }
            None => Vec::new(),
        };
        request.body(bytes.into()).map_err(|e| Failure::bug(e.to_string()))
    }

    async fn ask<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, Failure> {
        read(self.exchange(self.request(method, path, body)?).await)
    }

    fn keyed_request<B: Serialize>(
        &self,
        path: &str,
        body: &B,
        key: &HeaderValue,
    ) -> Result<Request<Bytes>, Failure> {
        let mut request = self.request(Method::POST, path, Some(body))?;
        request.headers_mut().insert(KEY, key.clone());
        Ok(request)
    }

    /// Whether the server knows a request that it did. One of before would do it twice.
    async fn remembers_keys(&self) -> bool {
        self.get::<Version>("/api/version").await.is_ok_and(|version| version.idempotency_keys)
    }

    /// Asks again for a while where the server had not heard it, or where hearing it twice does nothing.
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpsError> {
        let begun = Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            let answer = https::request(&self.server, request.clone(), BOUNDS).await;
            let may_again = match &answer {
                Err(HttpsError::Broken { .. }) => request.method() == Method::GET,
                Err(error) => is_absent(error),
                Ok(_) => false,
            };
            if !may_again || begun.elapsed() + pause > BACK_TIME_MAX {
                return answer;
            }
            self.pause(begun, &mut pause).await;
        }
    }
}

/// Whether nobody serves where a server was: it was asked nothing.
fn is_absent(error: &HttpsError) -> bool {
    let HttpsError::Unreachable { source, .. } = error else { return false };
    matches!(
        source.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
    )
}

/// Whether the request is being done, as it was sent before.
fn is_under_way(answer: &Response<Bytes>) -> bool {
    let problem = serde_json::from_slice::<Problem>(answer.body());
    problem.is_ok_and(|problem| problem.code == Code::IdempotencyKeyInUse.as_str())
}

/// A form, or why there is none.
fn read<T: DeserializeOwned>(answer: Result<Response<Bytes>, HttpsError>) -> Result<T, Failure> {
    let (head, body) = answer.map_err(|e| unanswered(&e))?.into_parts();
    if head.status.is_success() {
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        return serde_json::from_slice(body)
            .map_err(|e| Failure::bug(format!("the server's answer cannot be read: {e}")));
    }
    Err(refused(head.status, &body))
}

/// A key that no other request has.
fn new_key() -> Result<HeaderValue, Failure> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| Failure::bug(format!("the system has no random bytes: {e}")))?;
    HeaderValue::from_str(&format!("\"{:032x}\"", u128::from_be_bytes(random)))
        .map_err(|e| Failure::bug(e.to_string()))
}

/// What a server said that did not do it.
fn refused(status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.into(),
        Err(_) => Failure::new(
            Exit::Unreachable,
            "no-warren",
            format!("the answer is {status} and no Warren's"),
            "check the URL, and the proxy if there is one",
        ),
    }
}

fn address(server: &str) -> Result<ServerAddress, Failure> {
    server.parse().map_err(|e| Failure::usage(format!("{server:?}: {e}"), "see --admin-server"))
}

fn unanswered(error: &HttpsError) -> Failure {
    let mut detail = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        detail.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let (exit, code, hint) = match error {
        HttpsError::Pin(_) => (
            Exit::Refused,
            "server-key-changed",
            "if the server was set up anew, `warren login` again with its fingerprint",
        ),
        HttpsError::TimedOut { .. } => (Exit::TimedOut, "timed-out", "see the server's /healthz and log"),
        _ => (
            Exit::Unreachable,
            "server-unreachable",
            "check the URL and that warren-apid runs: `systemctl status warren-apid`",
        ),
    };
    Failure::new(exit, code, detail, hint)
}

/// The person's own directory.
pub fn config_dir() -> Result<PathBuf, Failure> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let base = base.ok_or_else(|| Failure::usage("HOME is not set", "set HOME, or use WARREN_API_TOKEN"))?;
    Ok(base.join("warren"))
}

/// Where `warren login` remembers.
pub fn memory() -> Result<PathBuf, Failure> {
    Ok(config_dir()?.join("login.json"))
}

fn remembered() -> Result<Option<Remembered>, Failure> {
    let Ok(path) = memory() else { return Ok(None) };
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| {
            Failure::usage(format!("{} is damaged", path.display()), "`warren login URL` writes it anew")
        }),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{UnixListener, UnixStream};

    use model::Refusal;

    use super::*;

    /// The request's line, and its key if it has one.
    async fn asked(stream: &mut BufReader<UnixStream>) -> (String, Option<String>) {
        let (mut first, mut key, mut length) = (String::new(), None, 0);
        stream.read_line(&mut first).await.expect("a request");
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.expect("a header");
            match line.trim().split_once(": ") {
                Some(("idempotency-key", value)) => key = Some(value.to_owned()),
                Some(("content-length", value)) => length = value.parse().expect("a number"),
                Some(_) => {}
                None => break,
            }
        }
        stream.read_exact(&mut vec![0; length]).await.expect("a body");
        (first.trim().to_owned(), key)
    }

    async fn answer(stream: &mut BufReader<UnixStream>, body: &Value) {
        answer_as(stream, "200 OK", body).await;
    }

    async fn answer_as(stream: &mut BufReader<UnixStream>, status: &str, body: &Value) {
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.expect("written");
    }

    /// What came of a request whose first connections break, and which is being done then, and the keys with which it was sent.
    async fn broken_once(version: Value) -> (Result<Value, Failure>, Vec<Option<String>>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        let serve = async move {
            let mut keys = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let mut stream = BufReader::new(stream);
                let (first, key) = asked(&mut stream).await;
                if first.starts_with("GET /api/version ") {
                    answer(&mut stream, &version).await;
                    continue;
                }
                keys.push(key);
                match keys.len() {
                    // Whoever waits for the answer hears that there is none.
                    1 | 2 => drop(stream),
                    3 => {
                        let refusal = Refusal::new(Code::IdempotencyKeyInUse, "it is being done");
                        let problem = json!(Problem::new(&refusal, String::new()));
                        answer_as(&mut stream, "409 Conflict", &problem).await;
                    }
                    _ => {
                        answer(&mut stream, &json!({"made": 1})).await;
                        return keys;
                    }
                }
                if version.get("idempotency_keys").is_none() {
                    // One more look at the version, and no second try.
                    let (stream, _) = listener.accept().await.expect("a connection");
                    let mut stream = BufReader::new(stream);
                    asked(&mut stream).await;
                    answer(&mut stream, &version).await;
                    return keys;
                }
            }
        };
        let admin = Admin::of(Server::Unix(path), None, None, Output::new(true, false));
        let form = json!({});
        tokio::join!(admin.post::<_, Value>("/api/v1/tokens", &form), serve)
    }

    /// A server that is not there at first, breaks off the first request, and answers the next one.
    async fn restarted(method: Method) -> Result<Value, Failure> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        // Its name stays where a server has ended.
        drop(UnixListener::bind(&path).expect("a socket"));
        let admin = Admin::of(Server::Unix(path.clone()), None, None, Output::new(true, false));
        let serve = async move {
            assert!(UnixStream::connect(&path).await.is_err(), "nobody serves");
            std::fs::remove_file(&path).expect("it is there");
            let listener = UnixListener::bind(&path).expect("a socket");
            for n in 0.. {
                let (stream, _) = listener.accept().await.expect("a connection");
                let mut stream = BufReader::new(stream);
                asked(&mut stream).await;
                if n > 0 {
                    answer(&mut stream, &json!({"n": n})).await;
                }
            }
        };
        let ask = admin.ask::<(), Value>(method, "/api/v1/tokens", None);
        tokio::select! {
            // Asked first, and answered at once that nobody is there.
            biased;
            answer = ask => answer,
            () = serve => unreachable!("it serves for ever"),
        }
    }

    #[tokio::test]
    async fn a_server_that_restarts_is_waited_for_and_changes_nothing_twice() {
        assert_eq!(restarted(Method::GET).await.ok(), Some(json!({"n": 1})));
        let broken = restarted(Method::DELETE).await.expect_err("it may have been done");
        assert!(broken.detail().contains("broke off"), "{}", broken.detail());
    }

    #[tokio::test]
    async fn what_is_made_is_asked_for_again_only_of_a_server_that_makes_it_once() {
        let version = json!({"schema_version": 1, "version": "1", "link_versions": [1, 1]});
        let (done, keys) = broken_once(version.clone()).await;
        assert!(done.is_err() && keys.len() == 1, "{keys:?}");
        let mut remembers = version;
        remembers["idempotency_keys"] = true.into();
        let (done, keys) = broken_once(remembers).await;
        assert_eq!(done.ok(), Some(json!({"made": 1})));
        assert!(keys.len() == 4 && keys[0].is_some(), "{keys:?}");
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }
}

//! The lease as an object of Kubernetes, `coordination.k8s.io/v1`: read, and replaced only as it was read. Its count of
//! transitions is the term, which begins in the database too: commits are fenced there.
//!
//! Whether another's lease is over, is judged by how long it did not change here; no clock of another is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::body::Bytes;
use control::Term;
use link::ServerAddress;
use link::https::{self, Bounds, Method, Request, Server, StatusCode, header};
use link::tls::HttpsTrust;
use model::Label;
use model::wire::Remark;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Claim, Holding, Store};

use super::{Keeper, Unclaimed};
use crate::clock::wall;
use crate::report;

/// Of one request to the API: two make a claim.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(1);
/// A lease with its managed fields is a few kilobytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The API of the cluster that this pod runs in.
pub struct Cluster {
    server: Server,
    /// Of the leases of the pod's namespace.
    path: String,
    name: Label,
    /// Kubernetes writes a new token there long before the old one ends.
    token: PathBuf,
    store: Store,
    /// The version of another's lease that was seen last, and since when.
    seen: Mutex<Option<(String, Instant)>>,
}

/// Fields that others have set are written as they were read, as every client of Kubernetes does it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lease {
    api_version: String,
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    holder_identity: Option<String>,
    #[serde(default)]
    lease_duration_seconds: Option<u64>,
    #[serde(default)]
    lease_transitions: Option<u64>,
    #[serde(default)]
    acquire_time: Option<String>,
    #[serde(default)]
    renew_time: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// What Kubernetes answers instead of an object.
#[derive(Deserialize)]
struct Status {
    message: String,
}

impl Lease {
    fn new(name: &Label) -> Self {
        let metadata = Metadata { name: name.to_string(), resource_version: None, others: BTreeMap::new() };
        Self {
            api_version: "coordination.k8s.io/v1".into(),
            kind: "Lease".into(),
            metadata,
            spec: Spec::default(),
        }
    }
}

impl Cluster {
    /// As the environment and the files of the pod's service account say.
    pub async fn of_pod(account: &Path, name: &Label, store: Store) -> anyhow::Result<Self> {
        let variable = |name: &str| {
            std::env::var(name).with_context(|| format!("{name} is not set: is this a pod of Kubernetes?"))
        };
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let address = format!("https://{host}:{}", variable("KUBERNETES_SERVICE_PORT")?);
        Self::at(address.parse().context("the API of Kubernetes")?, account, name, store).await
    }

    async fn at(address: ServerAddress, account: &Path, name: &Label, store: Store) -> anyhow::Result<Self> {
        let namespace = account.join("namespace");
        let namespace = tokio::fs::read_to_string(&namespace).await.with_context(|| {
            format!("{} cannot be read: give the pod a service account", namespace.display())
        })?;
        let trust = HttpsTrust::Authorities { extra_ca_file: Some(account.join("ca.crt")) };
        Ok(Self {
            server: Server::Https { address, trust },
            path: format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", namespace.trim()),
            name: name.clone(),
            token: account.join("token"),
            store,
            seen: Mutex::default(),
        })
    }

    /// One request. `None`: there is no such lease.
    async fn ask(
        &self,
        method: Method,
        path: String,
        lease: Option<&Lease>,
    ) -> Result<Option<Lease>, Unclaimed> {
        let token = tokio::fs::read_to_string(&self.token).await;
        let token = token.map_err(|e| format!("{} cannot be read: {e}", self.token.display()))?;
        let body = lease.map(|lease| serde_json::to_vec(lease).map_err(|e| e.to_string())).transpose()?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(body.unwrap_or_default()))
            .map_err(|e| e.to_string())?;
        let bounds = Bounds { time_max: REQUEST_TIME_MAX, body_bytes_max: ANSWER_BYTES_MAX };
        let answer = https::request(&self.server, request, bounds).await.map_err(|e| report::chain(&e))?;
        match answer.status() {
            StatusCode::OK | StatusCode::CREATED => {
                Ok(Some(serde_json::from_slice(answer.body()).map_err(|e| format!("no lease: {e}"))?))
            }
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::CONFLICT => Err("another replica was faster".into()),
            status => Err(refused(status, answer.body())),
        }
    }

    /// Whether another's lease has not changed for as long as it lasts.
    fn is_over(&self, lease: &Lease, lasts: Duration) -> bool {
        let lasts = lease.spec.lease_duration_seconds.map_or(lasts, Duration::from_secs);
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*seen {
            Some((before, since)) if *before == version => since.elapsed() >= lasts,
            _ => {
                *seen = Some((version, Instant::now()));
                false
            }
        }
    }

    /// Writes the lease as the claimant's, if it is still as it was read.
    async fn write(&self, claim: Claim<'_>, read: Option<Lease>, term: Term) -> Result<(), Unclaimed> {
        let now = micro_time();
        let (method, path) = match read {
            Some(_) => (Method::PUT, format!("{}/{}", self.path, self.name)),
            None => (Method::POST, self.path.clone()),
        };
        let mut lease = read.unwrap_or_else(|| Lease::new(&self.name));
        let before = lease.spec.acquire_time.take().filter(|_| claim.known == Some(term));
        lease.spec = Spec {
            holder_identity: Some(claim.holder.into()),
            lease_duration_seconds: Some(claim.lasts.as_secs()),
            lease_transitions: Some(term.0),
            acquire_time: Some(before.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            others: lease.spec.others,
        };
        let written = self.ask(method, path, Some(&lease)).await?;
        written.map(drop).ok_or_else(|| "the lease was deleted meanwhile".into())
    }
}

impl Keeper for Cluster {
    async fn claim(&self, claim: Claim<'_>) -> Result<Holding, Unclaimed> {
        let read = self.ask(Method::GET, format!("{}/{}", self.path, self.name), None).await?;
        let spec = read.as_ref().map(|lease| &lease.spec);
        let term = Term(spec.and_then(|spec| spec.lease_transitions).unwrap_or_default());
        let holder = spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        let is_mine = holder == claim.holder;
        if is_mine && claim.known == Some(term) {
            self.write(claim, read, term).await?;
            return Ok(Holding::Held(term));
        }
        let is_free = is_mine || holder.is_empty();
        if let Some(lease) = read.as_ref().filter(|_| !is_free)
            && !self.is_over(lease, claim.lasts)
        {
            return Ok(Holding::Others { term, holder });
        }
        let last = self.store.last_term().await.map_err(|e| report::chain(&e))?;
        let next = Term(term.max(last).0 + 1);
        self.write(claim, read, next).await?;
        match self.store.begin_term(next, claim.holder).await {
            Ok(true) => Ok(Holding::Held(next)),
            Ok(false) => Err("a later term has begun".into()),
            Err(error) => Err(error.chain().into()),
        }
    }
}

/// Why Kubernetes did not do it, in its own words, and what helps.
fn refused(status: StatusCode, body: &[u8]) -> Unclaimed {
    let said = serde_json::from_slice(body).map_or_else(|_| status.to_string(), |Status { message }| message);
    let said = Remark::new(&said);
    match status {
        StatusCode::FORBIDDEN => Unclaimed {
            code: "lease-forbidden",
            reason: format!("{said}: allow get, create and update of leases to the service account"),
        },
        StatusCode::UNAUTHORIZED => Unclaimed {
            code: "lease-unauthorized",
            reason: format!(
                "{said}: Kubernetes does not know the token; is its service account still there?"
            ),
        },
        _ => format!("Kubernetes answered {status}: {said}").into(),
    }
}

/// Now, as Kubernetes writes it: with six digits. Whole seconds will do, as nobody reads it but people.
fn micro_time() -> String {
    wall().to_string().replace('Z', ".000000Z")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::extract::{Path as UrlPath, State};
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use prometheus_client::metrics::counter::Counter;
    use serde_json::json;

    use super::*;
    use crate::places::Addresses;
    use crate::proxies::Proxies;

    /// What the API keeps: each object with the version that was written last.
    type Objects = Arc<Mutex<BTreeMap<String, (u64, Value)>>>;

    fn answer((version, object): &(u64, Value)) -> (StatusCode, Json<Value>) {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        (StatusCode::OK, Json(object))
    }

    async fn read(
        State(objects): State<Objects>,
        UrlPath(name): UrlPath<String>,
    ) -> (StatusCode, Json<Value>) {
        let objects = objects.lock().expect("no panic");
        objects.get(&name).map_or((StatusCode::NOT_FOUND, Json(Value::Null)), answer)
    }

    async fn create(State(objects): State<Objects>, Json(object): Json<Value>) -> (StatusCode, Json<Value>) {
        let mut objects = objects.lock().expect("no panic");
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        if objects.contains_key(&name) {
            return (StatusCode::CONFLICT, Json(Value::Null));
        }
        answer(objects.entry(name).or_insert((1, object)))
    }

    async fn replace(
        State(objects): State<Objects>,
        UrlPath(name): UrlPath<String>,
        Json(object): Json<Value>,
    ) -> (StatusCode, Json<Value>) {
        let mut objects = objects.lock().expect("no panic");
        let Some(kept) = objects.get_mut(&name) else { return (StatusCode::NOT_FOUND, Json(Value::Null)) };
        let version = kept.0.to_string();
        if object["metadata"]["resourceVersion"] != version.as_str() {
            return (StatusCode::CONFLICT, Json(Value::Null));
        }
        *kept = (kept.0 + 1, object);
        answer(kept)
    }

    /// An API server as far as leases go, and two replicas that ask it.
    struct Api {
        objects: Objects,
        replicas: [Cluster; 2],
        store: Store,
        _folder: tempfile::TempDir,
    }

    async fn api() -> Api {
        let folder = tempfile::tempdir().expect("a folder");
        let own = crate::certificate::own(folder.path(), "127.0.0.1").expect("a certificate");
        for (name, text) in
            [("ca.crt", own.chain_pem.as_str()), ("namespace", "mesh\n"), ("token", "secret\n")]
        {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let path = "/apis/coordination.k8s.io/v1/namespaces/mesh/leases";
        let objects = Objects::default();
        let router = Router::new()
            .route(path, post(create))
            .route(&format!("{path}/{{name}}"), get(read).put(replace))
            .with_state(objects.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: ServerAddress = listener.local_addr().expect("an address").into();
        let pem = (own.chain_pem.as_bytes(), own.key_pem.as_bytes());
        let certificate = link::tls::Certificate::from_pem(pem.0, pem.1).expect("a certificate");
        tokio::spawn(async move {
            let addresses = Addresses::new(Proxies::default(), 64, Counter::default());
            crate::listen::https(listener, &certificate, addresses, router).await
        });
        let url = format!("sqlite:{}", folder.path().join("warren.db").display());
        let store = Store::open(&url).await.expect("a store");
        let name = "warren-apid".parse().expect("a label");
        let replica = async || Cluster::at(address.clone(), folder.path(), &name, store.clone()).await;
        let replicas = [replica().await.expect("a pod"), replica().await.expect("a pod")];
        Api { objects, replicas, store, _folder: folder }
    }

    const LASTS: Duration = Duration::from_secs(1);

    async fn claim(cluster: &Cluster, holder: &str, known: Option<u64>) -> Result<Holding, Unclaimed> {
        cluster.claim(Claim { holder, known: known.map(Term), lasts: LASTS }).await
    }

    #[tokio::test]
    async fn one_holds_the_lease_until_it_does_not_change_any_more() {
        let api = api().await;
        let [a, b] = &api.replicas;
        assert_eq!(claim(a, "a", None).await, Ok(Holding::Held(Term(1))));
        assert_eq!(claim(a, "a", Some(1)).await, Ok(Holding::Held(Term(1))));
        let others = Ok(Holding::Others { term: Term(1), holder: "a".into() });
        assert_eq!(claim(b, "b", None).await, others, "it was not seen before");
        let seen = Instant::now();
        let mut held = claim(b, "b", None).await;
        while held == others && seen.elapsed() < LASTS * 10 {
            held = claim(b, "b", None).await;
        }
        assert!(seen.elapsed() >= LASTS, "{:?}", seen.elapsed());
        assert_eq!(held, Ok(Holding::Held(Term(2))));
        assert_eq!(claim(a, "a", Some(1)).await, Ok(Holding::Others { term: Term(2), holder: "b".into() }));
        assert_eq!(api.store.last_term().await.expect("a term"), Term(2), "commits are fenced by it");
    }

    #[tokio::test]
    async fn of_two_that_write_at_once_one_holds_the_lease() {
        let api = api().await;
        let [a, b] = &api.replicas;
        let (first, second) = tokio::join!(claim(a, "a", None), claim(b, "b", None));
        let held = [&first, &second].into_iter().filter(|c| matches!(c, Ok(Holding::Held(_)))).count();
        assert_eq!(held, 1, "{first:?} {second:?}");
    }

    #[tokio::test]
    async fn a_replica_that_was_restarted_holds_it_again_in_a_new_term() {
        let api = api().await;
        let [a, again] = &api.replicas;
        assert_eq!(claim(a, "a", None).await, Ok(Holding::Held(Term(1))));
        assert_eq!(claim(again, "a", None).await, Ok(Holding::Held(Term(2))));
    }

    #[tokio::test]
    async fn terms_go_on_where_the_database_is() {
        let api = api().await;
        assert!(api.store.begin_term(Term(40), "of before").await.expect("an answer"));
        assert_eq!(claim(&api.replicas[0], "a", None).await, Ok(Holding::Held(Term(41))));
        let objects = api.objects.lock().expect("no panic");
        let spec = &objects["warren-apid"].1["spec"];
        assert_eq!((&spec["leaseTransitions"], &spec["holderIdentity"]), (&41.into(), &"a".into()));
        assert_eq!(spec["leaseDurationSeconds"], 1);
        assert!(spec["renewTime"].as_str().is_some_and(|time| time.ends_with(".000000Z")), "{spec}");
    }
    #[tokio::test]
    async fn what_others_wrote_into_it_stays() {
        let api = api().await;
        let [a, _] = &api.replicas;
        assert_eq!(claim(a, "a", None).await, Ok(Holding::Held(Term(1))));
        {
            let mut objects = api.objects.lock().expect("no panic");
            let lease = &mut objects.get_mut("warren-apid").expect("it was made").1;
            lease["metadata"]["labels"] = json!({ "app": "warren" });
            lease["spec"]["strategy"] = json!("OldestEmulationVersion");
        }
        assert_eq!(claim(a, "a", Some(1)).await, Ok(Holding::Held(Term(1))));
        assert_eq!(claim(a, "a", None).await, Ok(Holding::Held(Term(2))));
        let objects = api.objects.lock().expect("no panic");
        let lease = &objects["warren-apid"].1;
        assert_eq!(lease["metadata"]["labels"]["app"], "warren");
        assert_eq!(lease["spec"]["strategy"], "OldestEmulationVersion");
        assert_eq!(lease["spec"]["leaseTransitions"], 2);
    }

    #[test]
    fn a_refusal_has_a_code_and_says_what_helps() {
        let check = |status: StatusCode, body: &str, parts: [&str; 3]| {
            let text = refused(status, body.as_bytes()).to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        };
        let forbidden = r#"{"kind": "Status", "message": "leases \"warren-apid\" is forbidden: cannot update", "code": 403}"#;
        check(
            StatusCode::FORBIDDEN,
            forbidden,
            ["lease-forbidden: ", "cannot update", "allow get, create and update"],
        );
        let unauthorized = r#"{"kind": "Status", "message": "Unauthorized", "code": 401}"#;
        check(
            StatusCode::UNAUTHORIZED,
            unauthorized,
            ["lease-unauthorized: ", "Unauthorized", "service account"],
        );
        check(StatusCode::TOO_MANY_REQUESTS, "", ["lease-unclaimed: ", "429", "Too Many"]);
        check(StatusCode::INTERNAL_SERVER_ERROR, "<html>", ["lease-unclaimed: ", "500", "Internal"]);
    }
}

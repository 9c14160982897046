//! A relay on its own machine: `warren-apid --role relay`. Has no database and no directory; who may relay, the anchors
//! that it serves have signed, and so it goes on while the server is gone.
//!
//! ```text
//! device                                    relay
//!  │ Hello, Welcome without an anchor         │  its TLS key is named in the snapshot
//!  │ AttachRelay {identity, pass, anchor}     │
//!  ├─────────────────────────────────────────▶│  one of its anchors? signed, in force, of this identity?
//!  │                                 Attached │  again with a later pass: it holds longer
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use link::{Connection, LinkError, Receiver, Sender};
use model::limits::{HANDSHAKE_TIME_MAX, HEARTBEAT_INTERVAL, LINK_SILENCE_MAX};
use model::relay::RelayPass;
use model::wire::{
    AttachRelay, Attached, Channel, Frame, Heard, Hello, Refused, Transcript, VERSION, Welcome,
};
use model::{Code, DeviceId, Fingerprint, Nonce, PrivateKey, Refusal, Timestamp};
use prometheus_client::metrics::gauge::Gauge;
use shell::service::{self, Wish, Wishes};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::Settings;
use crate::http::Peer;
use crate::metrics::Metrics;
use crate::relay::Switchboard;
use crate::{certificate, clock, first_start, listen};

/// Serves until told to stop.
pub async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut wishes = Wishes::listen().context("signals cannot be caught")?;
    anyhow::ensure!(
        !settings.serve_anchor.is_empty(),
        "say whom the relay serves: --serve-anchor FINGERPRINT, as `warren tenant show` prints it"
    );
    let public = settings.public()?;
    let metrics = Metrics::new(&settings.state_dir);
    let certificate = first_start::certificate(&settings, &public).await?;
    let fingerprint = certificate.fingerprint();
    metrics.certificate_expiry.set(certificate::end(certificate.own())?.unix_micros() / 1_000_000);
    let relay = Relay(Arc::new(Inner {
        anchors: settings.serve_anchor.iter().copied().collect(),
        switchboard: Switchboard::new(metrics.relay()),
        links: AtomicU64::new(0),
        open: metrics.links.clone(),
    }));
    let probes = crate::bind(settings.metrics_listen)?;
    let https = crate::bind(settings.listen)?;
    let limits = link::quic::Limits::default();
    let mut quic = link::quic::Listener::bind(settings.listen, &certificate, limits)?;
    let mut doors = JoinSet::new();
    let addresses = crate::addresses(&settings, &metrics);
    doors.spawn(listen::probes(probes, probe_routes(metrics)));
    let router = routes(relay.clone());
    doors.spawn(async move {
        if let Err(error) = listen::https(https, &certificate, addresses, router).await {
            tracing::error!(%error, "HTTPS cannot be served");
        }
    });
    doors.spawn(async move {
        while let Some(connection) = quic.accept().await {
            let relay = relay.clone();
            tokio::spawn(async move { relay.carry(connection).await });
        }
    });
    tracing::info!(url = %public, listen = %settings.listen, anchors = settings.serve_anchor.len(), %fingerprint, "serving as a relay");
    service::ready("serving as a relay");
    loop {
        tokio::select! {
            wish = wishes.next() => match wish {
                Wish::Stop => break,
                Wish::Reload => tracing::info!("nothing can be reloaded: restart to change settings"),
            },
            _ = doors.join_next() => anyhow::bail!("a listener ended by itself"),
        }
    }
    service::stopping();
    doors.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

fn routes(relay: Relay) -> Router {
    Router::new()
        .route("/healthz", get(|| async { StatusCode::OK }))
        .route(link::websocket::PATH, any(upgrade))
        .with_state(relay)
}

fn probe_routes(metrics: Metrics) -> Router {
    let text = move || {
        let text = metrics.text();
        async move { ([("content-type", crate::metrics::CONTENT_TYPE)], text) }
    };
    let ok = || async { StatusCode::OK };
    Router::new().route("/healthz", get(ok)).route("/readyz", get(ok)).route("/metrics", get(text))
}

async fn upgrade(
    State(relay): State<Relay>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Response {
    let Peer::Network { address, channel } = peer else { return StatusCode::NOT_FOUND.into_response() };
    let Ok((response, connection)) = link::websocket::upgrade(&mut request, channel, address) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    tokio::spawn(async move {
        match connection.await {
            Ok(connection) => relay.carry(connection).await,
            Err(error) => tracing::debug!(%error, %address, "no WebSocket after all"),
        }
    });
    response
}

/// All links of the relay. Clones share them.
#[derive(Clone)]
struct Relay(Arc<Inner>);

struct Inner {
    anchors: BTreeSet<Fingerprint>,
    switchboard: Switchboard,
    links: AtomicU64,
    open: Gauge,
}

/// Who may relay, and how long.
struct Admission {
    realm: Fingerprint,
    device: DeviceId,
    expires_at: Timestamp,
}

/// Why a link ends.
enum End {
    Refused(Refusal),
    Gone(LinkError),
    Silent,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        Self::Gone(error)
    }
}

impl Relay {
    async fn carry(&self, connection: Connection) {
        let link = self.0.links.fetch_add(1, Ordering::Relaxed);
        let (channel, remote) = (connection.channel(), connection.remote());
        let line = connection.datagrams().map(|datagrams| self.0.switchboard.open(link, datagrams));
        let (sender, mut receiver) = connection.split();
        // A device without datagrams has nothing to do here.
        let Some(line) = line else { return };
        tokio::spawn(async move { line.carry().await });
        self.0.open.inc();
        let end = match self.converse(link, channel, &sender, &mut receiver).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.0.open.dec();
        self.0.switchboard.dismiss(link);
        match end {
            End::Gone(error) => tracing::debug!(link, ?remote, %error, "link ended"),
            End::Silent => tracing::debug!(link, ?remote, "link ended: silent for too long"),
            End::Refused(refusal) => {
                tracing::info!(link, ?remote, code = %refusal.code, detail = refusal.detail, "device refused");
                // Whoever does not read why is not told.
                let _ = sender.close(Some(&Refused { refusal }.into())).await;
            }
        }
    }

    async fn converse(
        &self,
        link: u64,
        channel: Channel,
        sender: &Sender,
        receiver: &mut Receiver,
    ) -> Result<std::convert::Infallible, End> {
        let handshake = self.handshake(channel, sender, receiver);
        let (transcript, mut admission) =
            timeout(HANDSHAKE_TIME_MAX, handshake).await.map_err(|_| End::Silent)??;
        self.0.switchboard.admit(link, admission.realm, admission.device);
        tracing::info!(link, realm = %admission.realm, device = %admission.device, "device admitted");
        loop {
            let frame = timeout(LINK_SILENCE_MAX, receiver.recv()).await.map_err(|_| End::Silent)??;
            match frame {
                Frame::Heartbeat(beat) => {
                    sender.send(&Heard { sequence: beat.sequence, lease: None }.into()).await?;
                }
                Frame::AttachRelay(attach) => {
                    let renewed = admit(&self.0.anchors, &transcript, &attach, clock::wall())?;
                    if (renewed.realm, renewed.device) != (admission.realm, admission.device) {
                        return Err(Refusal::new(Code::PassInvalid, "the pass is another device's").into());
                    }
                    admission = renewed;
                }
                Frame::Unknown(_) => {}
                other => return Err(out_of_place(&other).into()),
            }
            // A heartbeat comes often enough to look.
            if admission.expires_at <= clock::wall() {
                return Err(Refusal::new(Code::PassInvalid, "the pass has expired").into());
            }
        }
    }

    async fn handshake(
        &self,
        channel: Channel,
        sender: &Sender,
        receiver: &mut Receiver,
    ) -> Result<(Transcript, Admission), End> {
        let hello = match receiver.recv().await? {
            Frame::Hello(hello) => hello,
            other => return Err(out_of_place(&other).into()),
        };
        let welcome = welcome(&hello)?;
        let transcript = Transcript::new(&hello, &welcome, &channel);
        sender.send(&welcome.into()).await?;
        let attach = match receiver.recv().await? {
            Frame::AttachRelay(attach) => attach,
            other => return Err(out_of_place(&other).into()),
        };
        let admission = admit(&self.0.anchors, &transcript, &attach, clock::wall())?;
        let heartbeat_seconds =
            u16::try_from(HEARTBEAT_INTERVAL.as_secs()).expect("a heartbeat interval is seconds");
        sender.send(&Attached { heartbeat_seconds, tenants: Vec::new(), key: None }.into()).await?;
        Ok((transcript, admission))
    }
}

fn welcome(hello: &Hello) -> Result<Welcome, Refusal> {
    if !(hello.version_min..=hello.version_max).contains(&VERSION) {
        let detail = format!(
            "the device speaks versions {} to {}, the relay {VERSION}",
            hello.version_min, hello.version_max
        );
        return Err(Refusal::new(Code::VersionUnsupported, detail));
    }
    let mut random = [[0; 32]; 2];
    random.iter_mut().for_each(|bytes| getrandom::fill(bytes).expect("the kernel has random bytes"));
    let ephemeral = PrivateKey::from_bytes(random[0]).public();
    Ok(Welcome { version: VERSION, nonce: Nonce::from_bytes(random[1]), ephemeral, anchor: None })
}

/// Checks that an anchor of ours lets this identity relay, and that the identity is there.
fn admit(
    anchors: &BTreeSet<Fingerprint>,
    transcript: &Transcript,
    attach: &AttachRelay,
    now: Timestamp,
) -> Result<Admission, Refusal> {
    let realm = attach.anchor.fingerprint();
    if !anchors.contains(&realm) {
        return Err(Refusal::new(
            Code::AnchorUnknown,
            format!("the relay does not serve the anchor {realm}"),
        ));
    }
    let invalid = |why: &str| Refusal::new(Code::PassInvalid, why);
    let pass: RelayPass = attach
        .pass
        .verify(&attach.anchor)
        .map_err(|_| invalid("the anchor did not sign the pass"))?
        .into_inner();
    if pass.expires_at <= now {
        return Err(invalid("the pass has expired"));
    }
    if pass.identity != attach.claim.identity {
        return Err(invalid("the pass names another identity"));
    }
    transcript
        .verify_attach(&attach.claim, &attach.signature)
        .map_err(|_| Refusal::new(Code::ProofInvalid, "the identity key is not proven"))?;
    Ok(Admission { realm, device: pass.device, expires_at: pass.expires_at })
}

fn out_of_place(frame: &Frame) -> Refusal {
    Refusal::new(Code::FrameInvalid, format!("{} is out of place", frame.name()))
}

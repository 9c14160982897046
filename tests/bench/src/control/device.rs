//! A node as the server sees it. It comes back as the engine does (`netstack/engine/src/session.rs`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use link::{PreferCarrier, Trust};
use model::key::Digest;
use model::token::OnboardingToken;
use model::wire::{Attach, AttachClaim, AttachHub, Enrol, EnrolClaim, Frame, HubClaim, Remark};
use model::{Abilities, IdentitySecret, Nonce, PrivateKey};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::sleep_until;

use super::fleet::{Fleet, News};
use super::link::{End, Link};
use super::snapshots::Snapshots;
use crate::server::ADDRESS;

/// The first wait after a link broke; it doubles.
const WAIT_FIRST: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The shortest wait when a server sends a device away, and as much again is chance.
const RETRY_WAIT_MIN: Duration = Duration::from_secs(1);
/// A link that held so long was a good one.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// A device with one link after the other.
pub struct Device {
    number: u32,
    token: Arc<OnboardingToken>,
    identity: IdentitySecret,
    wireguard: PrivateKey,
    instance: Nonce,
    enrolled: bool,
    snapshots: Snapshots,
    failures: u32,
    tries: u32,
    fleet: Arc<Fleet>,
    news: Option<mpsc::UnboundedSender<News>>,
    /// Given back once it is enrolled.
    turn: Option<OwnedSemaphorePermit>,
}

impl Device {
    /// One that will enrol. What it comes to hold is told to `news`.
    pub fn new(
        number: u32,
        token: Arc<OnboardingToken>,
        fleet: Arc<Fleet>,
        turn: OwnedSemaphorePermit,
        news: Option<mpsc::UnboundedSender<News>>,
    ) -> Self {
        let secret = |what: &str| *Digest::of(what, &[&number.to_be_bytes()]).as_bytes();
        Self {
            number,
            token,
            identity: IdentitySecret::from_seed(secret("bench identity")),
            wireguard: PrivateKey::from_bytes(secret("bench wireguard")),
            instance: Nonce::from_bytes(secret("bench instance")),
            enrolled: false,
            snapshots: Snapshots::default(),
            failures: 0,
            tries: 0,
            fleet,
            news,
            turn: Some(turn),
        }
    }

    /// Lives for ever.
    pub async fn live(mut self) {
        loop {
            let since = Instant::now();
            let end = self.one_link().await;
            if since.elapsed() >= STEADY_AFTER {
                self.failures = 0;
            }
            let wait = match end {
                End::Broken => self.wait(),
                End::Refused(why) => {
                    self.fleet.refused(&why);
                    self.wait()
                }
                End::Later(after) => {
                    let floor = RETRY_WAIT_MIN + self.part_of(RETRY_WAIT_MIN);
                    after.max(floor).max(self.wait())
                }
            };
            sleep_until((Instant::now() + wait).into()).await;
        }
    }

    async fn one_link(&mut self) -> End {
        let server = std::net::SocketAddr::from(ADDRESS).into();
        let Ok(connection) = link::dial(&server, &Trust::Anchor, PreferCarrier::OnlyQuic).await else {
            return End::Broken;
        };
        let link = match Link::greet(connection, Some(self.token.anchor)).await {
            Ok(link) => link,
            Err(end) => return end,
        };
        let Some((anchor, signature)) = link.welcome.anchor else { return End::Broken };
        let is_known = anchor.fingerprint() == self.token.anchor;
        if !is_known || link.transcript.verify_welcome(&anchor, &signature).is_err() {
            return End::Refused("the server proves another anchor".into());
        }
        self.snapshots.anchor = Some(anchor);
        let claim = if self.enrolled { self.attach(&link) } else { self.enrol(&link) };
        let Self { number, enrolled, snapshots, fleet, news, turn, .. } = self;
        let mut up = None;
        link.live(claim, snapshots, |frame| match frame {
            Frame::Attached(_) | Frame::Enrolled(_) => {
                (up, *enrolled, *turn) = (Some(fleet.up()), true, None);
            }
            Frame::Part(_) | Frame::Patched(_) => {
                if let Some(news) = &news {
                    // Nobody measures any more.
                    let _ = news.send(News { device: *number, at: Instant::now() });
                }
            }
            _ => {}
        })
        .await
    }

    fn enrol(&self, link: &Link) -> Frame {
        let (transcript, token) = (&link.transcript, &self.token);
        let claim = EnrolClaim {
            token: token.id,
            identity: self.identity.public(),
            wireguard: self.wireguard.public(),
            hostname: Remark::new(&format!("device-{}", self.number)),
            os: Remark::new("linux"),
        };
        let proof = transcript.prove_enrol(&claim, &self.wireguard, &link.welcome.ephemeral);
        let enrol = Enrol {
            token_signature: transcript.sign_enrol_token(&claim, &token.secret),
            identity_signature: transcript.sign_enrol_identity(&claim, &self.identity),
            wireguard_proof: proof.expect("the server's key is good"),
            abilities: Abilities::KNOWN,
            claim,
        };
        enrol.into()
    }

    fn attach(&self, link: &Link) -> Frame {
        let held = self.snapshots.held.values().next().copied();
        let claim = AttachClaim { identity: self.identity.public(), held, instance: self.instance };
        let signature = link.transcript.sign_attach(&claim, &self.identity);
        Attach { claim, signature, abilities: Abilities::KNOWN, key: None }.into()
    }

    /// After another failure: all of it is chance.
    fn wait(&mut self) -> Duration {
        let whole = WAIT_FIRST.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        self.part_of(whole.min(WAIT_MAX))
    }

    fn part_of(&mut self, whole: Duration) -> Duration {
        self.tries += 1;
        let chance = Digest::of("bench chance", &[&self.number.to_be_bytes(), &self.tries.to_be_bytes()]);
        let [a, b, ..] = *chance.as_bytes();
        whole * u32::from(u16::from_be_bytes([a, b])) / u32::from(u16::MAX)
    }
}

/// The hub, attached for as long as it is polled.
pub async fn hub(socket: PathBuf) {
    let wireguard = PrivateKey::from_bytes([77; 32]);
    let mut snapshots = Snapshots::default();
    loop {
        if let Ok(connection) = link::unix::dial(&socket).await
            && let Ok(link) = Link::greet(connection, None).await
        {
            let held = snapshots.held.iter().map(|(tenant, held)| (*tenant, *held)).collect();
            let claim = HubClaim { wireguard: wireguard.public(), listen_port: 51820, held };
            let proof = link.transcript.prove_hub(&claim, &wireguard, &link.welcome.ephemeral);
            let wireguard_proof = proof.expect("the server's key is good");
            let attach = AttachHub { claim, wireguard_proof, seals: false, own_interfaces: false };
            link.live(attach.into(), &mut snapshots, |_| {}).await;
        }
        sleep_until((Instant::now() + WAIT_FIRST).into()).await;
    }
}

//! Links to relays on other machines: which to keep, and how one is kept. Decides nothing about peers.
//!
//! A device keeps the nearest, where its peers find it, those over which peers are reached, and while the server is gone all of
//! them: two devices that have lost the server must have a relay in common. So it does while a peer is not reached over those that it has.
//! How far each is, is learnt now and then; of one that is connected it is told all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use engine::paths::RelayId;
use link::{Connection, Datagrams, LinkError, Receiver, Sender, ServerAddress, Trust};
use model::key::IdentitySecret;
use model::limits::{HANDSHAKE_TIME_MAX, HEARTBEAT_INTERVAL, LINK_SILENCE_MAX};
use model::relay::{RelayPass, RelayPlace};
use model::wire::{AttachClaim, AttachRelay, Channel, Frame, Heartbeat, Hello, Remark, Transcript, VERSION};
use model::{AnchorKey, Nonce, Refusal, Signed, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::relay::Relays;

/// After a relay was not reached, the first time; doubled each time up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
/// A relay that is down for long is asked no more often.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// All relays are kept for so long after a peer was not reached: until the server's link is given up, if it is that.
const DOUBT_LIFE: Duration = Duration::from_secs(30);
/// The nearest relay stays it while another is nearer by less than this, or by less than a fifth: links are not changed for nothing.
const GAIN_MIN: Duration = Duration::from_millis(3);
const GAIN_MIN_PART: u32 = 5;
/// Those that are not connected are measured this often: a link to each costs some ten kB, six times a day.
const MEASURE_INTERVAL: Duration = Duration::from_secs(4 * 3600);
/// And when one of them seems nearer than the nearest, but no more often: what slows that one, such as an upload, may slow all.
const MEASURE_AGAIN_MIN: Duration = Duration::from_secs(5 * 60);
/// Measurements that wait: one a relay.
const MEASURED_MAX: usize = model::limits::RELAYS_MAX;

/// Why a relay is not used.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it is not reached")]
    Dial(#[from] link::DialError),
    #[error("the link ended")]
    Link(#[from] LinkError),
    #[error("it refuses: {0}")]
    Refused(Refusal),
    #[error("it carries no datagrams")]
    NoDatagrams,
    #[error("it says what does not belong there")]
    Protocol,
    #[error("it is silent")]
    Silent,
}

/// What a device shows to relays.
pub struct Bearer {
    /// Proves that the pass is its own.
    pub identity: IdentitySecret,
    /// Signed the pass.
    pub anchor: AnchorKey,
    /// Of this life of the program.
    pub instance: Nonce,
    /// Program and version.
    pub software: Remark,
    /// Of the sockets to relays (`SO_MARK`, socket(7)).
    pub mark: Option<u32>,
}

/// What is wished of all links.
#[derive(Clone, Default)]
struct Wish {
    pass: Option<Signed<RelayPass>>,
}

struct Kept {
    place: RelayPlace,
    task: Option<JoinHandle<()>>,
    round_trip: Option<Duration>,
    /// It was not reached when that was tried last, or lost. It is tried again.
    failed: bool,
}

/// The relays that the snapshot names.
pub struct Places {
    relays: Relays,
    bearer: Arc<Bearer>,
    wish: watch::Sender<Wish>,
    kept: BTreeMap<u32, Kept>,
    server_up: bool,
    /// All are kept until then.
    doubt_until: Option<Instant>,
    nearest: Option<u32>,
    /// Peers are reached over these.
    needed: BTreeSet<u32>,
    measure_at: Instant,
    /// When that was done last.
    measured_at: Option<Instant>,
    report: mpsc::Sender<Measured>,
    measured: mpsc::Receiver<Measured>,
}

/// Which relay, and how far it is; `None`: it failed.
type Measured = (u32, Option<Duration>);

impl Places {
    /// None yet, and no pass.
    pub fn new(relays: Relays, bearer: Bearer) -> Self {
        let (report, measured) = mpsc::channel(MEASURED_MAX);
        let wish = watch::Sender::new(Wish::default());
        Self {
            relays,
            bearer: Arc::new(bearer),
            wish,
            kept: BTreeMap::new(),
            server_up: false,
            doubt_until: None,
            nearest: None,
            needed: BTreeSet::new(),
            measure_at: Instant::now() + MEASURE_INTERVAL,
            measured_at: None,
            report,
            measured,
        }
    }

    /// The snapshot names these. Links to others end. Needs a tokio runtime.
    pub fn set(&mut self, places: &[RelayPlace]) {
        let named = |kept: &Kept| places.contains(&kept.place);
        let gone: Vec<u32> = self.kept.iter().filter(|(_, kept)| !named(kept)).map(|(id, _)| *id).collect();
        for id in gone {
            self.leave(id);
            self.kept.remove(&id);
            self.nearest = self.nearest.filter(|nearest| *nearest != id);
        }
        for place in places {
            let kept = || Kept { place: place.clone(), task: None, round_trip: None, failed: false };
            self.kept.entry(place.id).or_insert_with(kept);
        }
        self.arrange();
    }

    /// Another pass from now on.
    pub fn set_pass(&mut self, pass: Signed<RelayPass>) {
        self.wish.send_replace(Wish { pass: Some(pass) });
        self.arrange();
    }

    /// The link to the server stands, or is gone.
    pub fn set_server_up(&mut self, up: bool) {
        self.server_up = up;
        self.arrange();
    }

    /// A peer is not reached over the relays that are connected: all are needed for a while.
    pub fn doubt(&mut self) {
        self.doubt_until = Some(Instant::now() + DOUBT_LIFE);
        self.arrange();
    }

    /// Peers are reached over these, or are to be.
    pub fn need(&mut self, relays: impl IntoIterator<Item = RelayId>) {
        self.needed = relays.into_iter().map(|relay| relay.0).collect();
        self.arrange();
    }

    #[cfg(test)]
    pub(super) fn needed(&self) -> Vec<RelayId> {
        self.needed.iter().copied().map(RelayId).collect()
    }

    /// The machine is on another network: which relay is the nearest is learnt anew.
    pub fn moved(&mut self) {
        self.nearest = None;
        let all: Vec<u32> = self.kept.keys().copied().collect();
        for id in all {
            self.leave(id);
        }
        self.kept.values_mut().for_each(|kept| (kept.round_trip, kept.failed) = (None, false));
        self.arrange();
    }

    /// Waits until a relay was reached, and keeps the nearest. Call it again and again. Cancel-safe.
    pub async fn run(&mut self) {
        let (doubt_until, measure_at) = (self.doubt_until, self.measure_at);
        let measured = tokio::select! {
            measured = self.measured.recv() => measured,
            () = super::due(doubt_until) => {
                self.doubt_until = None;
                return self.arrange();
            }
            () = sleep_until(measure_at) => return self.measure_anew(),
        };
        let Some((id, round_trip)) = measured else { return };
        if let Some(kept) = self.kept.get_mut(&id) {
            (kept.round_trip, kept.failed) = (round_trip, round_trip.is_none());
            self.choose();
            self.arrange();
        }
    }

    /// Those that are not connected may be nearer by now.
    fn measure_anew(&mut self) {
        let now = Instant::now();
        (self.measure_at, self.measured_at) = (now + MEASURE_INTERVAL, Some(now));
        let away = self.kept.values_mut().filter(|kept| kept.task.is_none());
        away.for_each(|kept| kept.round_trip = None);
        self.arrange();
    }

    /// How far each relay is, for people. `None`: not reached yet.
    pub fn measured(&self) -> impl Iterator<Item = (&RelayPlace, Option<Duration>)> {
        self.kept.values().map(|kept| (&kept.place, kept.round_trip))
    }

    /// Keeps the nearest. What was measured hours ago is not held against what was measured now: then all are measured anew, and the
    /// nearest stays it until each has answered or failed.
    fn choose(&mut self) {
        let of = |id: &u32| self.kept.get(id).and_then(|kept| kept.round_trip);
        let Some(best) = self.kept.keys().filter_map(|id| of(id).map(|time| (time, *id))).min() else {
            self.nearest = None;
            return;
        };
        if let Some(current) = self.nearest.as_ref().and_then(of) {
            if !is_gain(best.0, current) || !self.all_tried() {
                return;
            }
            if self.kept.get(&best.1).is_some_and(|kept| kept.task.is_none()) {
                if self.measured_at.is_none_or(|at| at.elapsed() >= MEASURE_AGAIN_MIN) {
                    self.measure_anew();
                }
                return;
            }
        }
        self.nearest = Some(best.1);
    }

    /// Whether each has answered or failed since all were measured last.
    fn all_tried(&self) -> bool {
        self.kept.values().all(|kept| kept.round_trip.is_some() || kept.failed)
    }

    /// Begins and ends links so that those stand that should.
    fn arrange(&mut self) {
        let all = !self.server_up || self.doubt_until.is_some() || !self.all_tried();
        let has_pass = self.wish.borrow().pass.is_some();
        let wanted = |id: &u32| {
            let failed = self.kept.get(id).is_some_and(|kept| kept.failed);
            has_pass && (all || failed || self.nearest == Some(*id) || self.needed.contains(id))
        };
        let (begin, end): (Vec<u32>, Vec<u32>) = self.kept.keys().partition(|id| wanted(id));
        for id in end {
            self.leave(id);
        }
        for id in begin {
            let Some(kept) = self.kept.get_mut(&id).filter(|kept| kept.task.is_none()) else { continue };
            let keeper = Keeper {
                place: kept.place.clone(),
                relays: self.relays.clone(),
                bearer: self.bearer.clone(),
                wish: self.wish.subscribe(),
                report: self.report.clone(),
            };
            kept.task = Some(tokio::spawn(keeper.keep()));
        }
    }

    fn leave(&mut self, id: u32) {
        if let Some(task) = self.kept.get_mut(&id).and_then(|kept| kept.task.take()) {
            task.abort();
        }
    }
}

/// Whether a relay that is so far is to take the place of one that is so far.
pub(super) fn is_gain(other: Duration, current: Duration) -> bool {
    other + GAIN_MIN.max(current / GAIN_MIN_PART) < current
}

impl Drop for Places {
    fn drop(&mut self) {
        let all: Vec<u32> = self.kept.keys().copied().collect();
        all.into_iter().for_each(|id| self.leave(id));
    }
}

/// Keeps one link.
struct Keeper {
    place: RelayPlace,
    relays: Relays,
    bearer: Arc<Bearer>,
    wish: watch::Receiver<Wish>,
    report: mpsc::Sender<Measured>,
}

/// A link that a relay admitted us to.
struct Admitted {
    sender: Sender,
    receiver: Receiver,
    transcript: Transcript,
    datagrams: Datagrams,
}

impl Keeper {
    async fn keep(mut self) {
        let mut wait = RETRY_MIN;
        loop {
            let began = Instant::now();
            let failed = match self.once().await {
                Ok(never) => match never {},
                Err(failed) => failed,
            };
            tracing::debug!(relay = %self.place.name, error = crate::chain(&failed), "relay not used");
            self.tell(None).await;
            if began.elapsed() > RETRY_MAX {
                wait = RETRY_MIN;
            }
            sleep(jittered(wait)).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// The one who asked is gone only with this task.
    async fn tell(&self, round_trip: Option<Duration>) {
        let _ = self.report.send((self.place.id, round_trip)).await;
    }

    async fn once(&mut self) -> Result<std::convert::Infallible, Failed> {
        let endpoint = &self.place.endpoint;
        let address = ServerAddress { host: endpoint.host.clone(), port: endpoint.port };
        let trust = Trust::Pinned(self.place.certificate);
        let connection = link::dial_relay(&address, &trust, self.bearer.mark).await?;
        let admitted = timeout(HANDSHAKE_TIME_MAX, self.attach(connection)).await;
        let Admitted { sender, mut receiver, transcript, datagrams } =
            admitted.map_err(|_| Failed::Silent)??;
        self.relays.connected(RelayId(self.place.id), datagrams.clone());
        tracing::info!(relay = %self.place.name, "relay connected");
        let mut sequence = 0;
        let mut heard_at = Instant::now();
        loop {
            tokio::select! {
                frame = receiver.recv() => match frame? {
                    Frame::Heard(_) => heard_at = Instant::now(),
                    Frame::Refused(refused) => return Err(Failed::Refused(refused.refusal)),
                    Frame::Unknown(_) => {}
                    _ => return Err(Failed::Protocol),
                },
                () = sleep(HEARTBEAT_INTERVAL) => {
                    if heard_at.elapsed() > LINK_SILENCE_MAX {
                        return Err(Failed::Silent);
                    }
                    sequence += 1;
                    sender.send(&heartbeat(sequence)).await?;
                    if let Some(round_trip) = datagrams.round_trip() {
                        self.tell(Some(round_trip)).await;
                    }
                }
                changed = self.wish.changed() => {
                    // Without a sender nobody wishes anything, and this task is about to be ended.
                    if changed.is_err() { return Err(LinkError::Closed.into()) }
                    if let Some(attach) = self.claim(&transcript) {
                        sender.send(&attach).await?;
                    }
                }
            }
        }
    }

    async fn attach(&mut self, connection: Connection) -> Result<Admitted, Failed> {
        let channel: Channel = connection.channel();
        let datagrams = connection.datagrams().ok_or(Failed::NoDatagrams)?;
        let (sender, mut receiver) = connection.split();
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).expect("the kernel has random bytes");
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            nonce: Nonce::from_bytes(nonce),
            anchor: Some(self.bearer.anchor.fingerprint()),
            software: self.bearer.software.clone(),
        };
        let asked_at = Instant::now();
        sender.send(&hello.clone().into()).await?;
        let welcome = match receiver.recv().await? {
            Frame::Welcome(welcome) => welcome,
            Frame::Refused(refused) => return Err(Failed::Refused(refused.refusal)),
            _ => return Err(Failed::Protocol),
        };
        let round_trip = asked_at.elapsed();
        let transcript = Transcript::new(&hello, &welcome, &channel);
        let claim = self.claim(&transcript).ok_or(Failed::Protocol)?;
        sender.send(&claim).await?;
        match receiver.recv().await? {
            Frame::Attached(_) => {}
            Frame::Refused(refused) => return Err(Failed::Refused(refused.refusal)),
            _ => return Err(Failed::Protocol),
        }
        self.tell(Some(round_trip)).await;
        Ok(Admitted { sender, receiver, transcript, datagrams })
    }

    fn claim(&mut self, transcript: &Transcript) -> Option<Frame> {
        let pass = self.wish.borrow_and_update().pass.clone()?;
        let Bearer { identity, anchor, instance, .. } = &*self.bearer;
        let claim = AttachClaim { identity: identity.public(), held: None, instance: *instance };
        let signature = transcript.sign_attach(&claim, identity);
        Some(AttachRelay { claim, signature, pass, anchor: *anchor }.into())
    }
}

/// Between half of it and all of it: devices that lost a relay at once do not come back at once.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0];
    getrandom::fill(&mut random).expect("the kernel has random bytes");
    wait / 2 + wait / 2 * u32::from(random[0]) / 255
}

fn heartbeat(sequence: u64) -> Frame {
    Heartbeat {
        sequence,
        holding: Vec::new(),
        drift_total: 0,
        problems: Vec::new(),
        wall: Timestamp::from_unix_micros(0),
        engine: None,
        facts: None,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use model::{AnchorSecret, DeviceId, Fingerprint, TenantId};

    use super::*;

    /// Relays that nobody reaches, beside a server that is up: what is told of them is the test's alone.
    struct Story {
        places: Places,
        report: mpsc::Sender<Measured>,
    }

    impl Story {
        fn with(ids: &[u32]) -> Self {
            let (news, _) = mpsc::channel(1);
            let (anchor, identity) = (AnchorSecret::from_seed([2; 32]), IdentitySecret::from_seed([1; 32]));
            let pass = RelayPass {
                tenant: TenantId::from_bytes([4; 16]),
                device: DeviceId::from_bytes([5; 16]),
                identity: identity.public(),
                expires_at: Timestamp::from_unix_micros(1),
            };
            let bearer = Bearer {
                identity,
                anchor: anchor.public(),
                instance: Nonce::from_bytes([3; 32]),
                software: Remark::new("test"),
                mark: None,
            };
            let mut places = Places::new(Relays::new(news, |_, _| {}), bearer);
            let report = std::mem::replace(&mut places.report, mpsc::channel(1).0);
            let place = |id: &u32| RelayPlace {
                id: *id,
                name: format!("relay-{id}").parse().expect("a label"),
                endpoint: "192.0.2.1:1".parse().expect("an endpoint"),
                certificate: Fingerprint::from_bytes([0; 32]),
            };
            places.set(&ids.iter().map(place).collect::<Vec<_>>());
            places.set_server_up(true);
            places.set_pass(Signed::new(&pass, &anchor));
            Self { places, report }
        }

        /// What is told of a relay; which is the nearest then, and which are connected.
        async fn told(&mut self, id: u32, millis: Option<u64>) -> (Option<u32>, Vec<u32>) {
            let told = (id, millis.map(Duration::from_millis));
            self.report.send(told).await.expect("it listens");
            self.places.run().await;
            (self.places.nearest, self.connected())
        }

        fn connected(&self) -> Vec<u32> {
            let kept = self.places.kept.iter().filter(|(_, kept)| kept.task.is_some());
            kept.map(|(id, _)| *id).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_home_that_fails_is_left_for_the_next_and_taken_again_when_it_is_back() {
        let mut story = Story::with(&[1, 2, 3]);
        assert_eq!(story.connected(), [1, 2, 3], "all are measured");
        story.told(1, Some(10)).await;
        story.told(2, Some(40)).await;
        assert_eq!(story.told(3, Some(30)).await, (Some(1), vec![1]));
        assert_eq!(story.told(1, None).await, (Some(3), vec![1, 3]), "it is tried again");
        let told: Vec<_> = story.places.measured().map(|(_, time)| time.is_some()).collect();
        assert_eq!(told, [false, true, true], "how far it is, nobody knows");
        assert_eq!(story.told(3, None).await, (Some(2), vec![1, 2, 3]));
        assert_eq!(story.told(2, None).await, (None, vec![1, 2, 3]));
        assert_eq!(story.told(1, Some(10)).await, (Some(1), vec![1, 2, 3]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_home_that_slows_is_left_for_one_that_is_nearer_now() {
        let mut story = Story::with(&[1, 2, 3]);
        story.told(1, Some(40)).await;
        story.told(2, Some(50)).await;
        assert_eq!(story.told(3, Some(55)).await, (Some(1), vec![1]));
        assert_eq!(story.told(1, Some(60)).await, (Some(1), vec![1]), "by a fifth at least");
        // An upload, which slows the others as well.
        assert_eq!(
            story.told(1, Some(700)).await,
            (Some(1), vec![1, 2, 3]),
            "they are asked how far they are"
        );
        assert_eq!(story.told(2, Some(680)).await, (Some(1), vec![1, 2, 3]));
        assert_eq!(
            story.told(3, None).await,
            (Some(1), vec![1, 3]),
            "one is not reached, and is tried again"
        );
        assert_eq!(story.told(1, Some(900)).await, (Some(1), vec![1, 3]), "they were asked just now");
        tokio::time::advance(MEASURE_AGAIN_MIN).await;
        assert_eq!(story.told(1, Some(900)).await, (Some(1), vec![1, 2, 3]));
        assert_eq!(story.told(3, Some(60)).await, (Some(1), vec![1, 2, 3]), "another may be nearer still");
        assert_eq!(story.told(2, Some(50)).await, (Some(2), vec![2]), "only the first has slowed");
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_not_connected_are_measured_now_and_then() {
        let mut story = Story::with(&[1, 2]);
        story.told(1, Some(40)).await;
        assert_eq!(story.told(2, Some(50)).await, (Some(1), vec![1]));
        tokio::time::advance(MEASURE_INTERVAL).await;
        story.places.run().await;
        assert_eq!(story.connected(), [1, 2]);
        assert_eq!(story.told(2, Some(10)).await, (Some(2), vec![2]));
    }

    #[tokio::test(start_paused = true)]
    async fn one_over_which_a_peer_is_reached_is_kept_for_as_long() {
        let mut story = Story::with(&[1, 2]);
        story.told(1, Some(40)).await;
        story.told(2, Some(50)).await;
        story.places.need([RelayId(2)]);
        assert_eq!(story.connected(), [1, 2]);
        story.places.need([]);
        assert_eq!(story.connected(), [1]);
    }
}

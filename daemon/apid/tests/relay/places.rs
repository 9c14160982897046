//! A device's own side: it finds relays by what the snapshot and its pass say, and its packets cross them.

use std::sync::Arc;

use engine::paths::{PathInput, RelayId};
use host::paths::places::{Bearer, Places};
use host::paths::relay::{RelayCarrier, Relays};
use model::relay::{RelayPass, RelayPlace};
use model::wire::Remark;
use model::{
    AnchorSecret, DeviceId, Endpoint, EndpointHost, Fingerprint, IdentitySecret, Nonce, PublicKey, Signed,
    TenantId, Timestamp,
};
use tokio::sync::mpsc;
use tunnel::Carrier as _;

use crate::apid::Apid;
use crate::soon;
use crate::started::free;

pub const DEVICES: [DeviceId; 2] = [DeviceId::from_bytes([1; 16]), DeviceId::from_bytes([2; 16])];

/// One device with the other as its peer.
struct Device {
    places: tokio::task::JoinHandle<()>,
    wish: mpsc::UnboundedSender<Wish>,
    relays: Relays,
    peer: Arc<RelayCarrier>,
    news: mpsc::Receiver<PathInput>,
    messages: mpsc::UnboundedReceiver<(DeviceId, Vec<u8>)>,
}

enum Wish {
    Places(Vec<RelayPlace>),
    ServerUp(bool),
}

impl Device {
    fn new(who: usize, anchor: &AnchorSecret) -> Self {
        let pass = pass(who, anchor);
        let (news_of, news) = mpsc::channel(64);
        let (message, messages) = mpsc::unbounded_channel();
        let relays = Relays::new(news_of, move |from, bytes| {
            // A test that ended reads nothing.
            let _ = message.send((from, bytes.to_vec()));
        });
        let peer = relays.carrier(PublicKey::from_bytes([7; 32]), DEVICES[1 - who]);
        let mut places = Places::new(relays.clone(), bearer(who, anchor));
        let (wish, mut wishes) = mpsc::unbounded_channel();
        let places = tokio::spawn(async move {
            places.set_pass(pass);
            loop {
                tokio::select! {
                    () = places.run() => {}
                    wish = wishes.recv() => match wish {
                        Some(Wish::Places(named)) => places.set(&named),
                        Some(Wish::ServerUp(up)) => places.set_server_up(up),
                        None => return,
                    },
                }
            }
        });
        Self { places, wish, relays, peer, news, messages }
    }

    fn wish(&self, wish: Wish) {
        self.wish.send(wish).unwrap_or_else(|_| panic!("it runs"));
    }

    /// Waits until just these relays are connected.
    async fn connected(&mut self, numbers: &[u32]) {
        let wanted: Vec<RelayId> = numbers.iter().copied().map(RelayId).collect();
        soon(async {
            loop {
                let Some(news) = self.news.recv().await else { panic!("it runs") };
                if let PathInput::Relays(relays) = news {
                    let mut relays: Vec<RelayId> = relays.into_iter().map(|relay| relay.id).collect();
                    relays.sort();
                    if relays == wanted {
                        return;
                    }
                }
            }
        })
        .await;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.places.abort();
    }
}

/// What a device shows.
pub fn bearer(who: usize, anchor: &AnchorSecret) -> Bearer {
    let seed = u8::try_from(who).expect("one of two") + 1;
    Bearer {
        identity: IdentitySecret::from_seed([seed; 32]),
        anchor: anchor.public(),
        instance: Nonce::from_bytes([seed; 32]),
        software: Remark::new("test 1"),
        mark: None,
    }
}

pub fn pass(who: usize, anchor: &AnchorSecret) -> Signed<RelayPass> {
    let pass = RelayPass {
        tenant: TenantId::from_bytes([9; 16]),
        device: DEVICES[who],
        identity: bearer(who, anchor).identity.public(),
        expires_at: Timestamp::from_unix_micros(i64::MAX),
    };
    Signed::new(&pass, anchor)
}

pub fn place(id: u32, relay: &Apid, certificate: Fingerprint) -> RelayPlace {
    let endpoint = Endpoint { host: relay.address.host.clone(), port: relay.address.port };
    RelayPlace { id, name: format!("r{id}").parse().expect("a label"), endpoint, certificate }
}

#[tokio::test]
async fn two_devices_meet_at_a_relay_and_again_when_it_comes_back() {
    let anchor = AnchorSecret::from_seed([1; 32]);
    let fingerprint = anchor.public().fingerprint().to_string();
    let relay = Apid::with(&["--role", "relay", "--serve-anchor", &fingerprint]);
    let named = vec![place(1, &relay, relay.fingerprint())];
    let (mut a, mut b) = (Device::new(0, &anchor), Device::new(1, &anchor));
    for device in [&mut a, &mut b] {
        device.wish(Wish::Places(named.clone()));
        device.connected(&[1]).await;
    }
    relay.wait_for("warren_relay_sessions", 2).await;

    // At first packets go to the server, which is not there; then to where they are steered.
    let message = vec![4; 1452];
    a.peer.send(&mut std::iter::once(message.as_slice()));
    a.peer.set_relay(RelayId(1), true);
    a.peer.send(&mut [message.as_slice(), &[1, 2]].into_iter());
    assert_eq!(soon(b.messages.recv()).await, Some((DEVICES[0], message.clone())));
    assert_eq!(soon(b.messages.recv()).await, Some((DEVICES[0], vec![1, 2])));
    let wanted = PathInput::Wanted(PublicKey::from_bytes([7; 32]));
    assert_eq!(soon(a.news.recv()).await, Some(wanted), "a packet begins the search");
    assert!(a.news.try_recv().is_err(), "and the next ones do not begin it anew");

    // What is not WireGuard's is for the paths.
    b.relays.send(RelayId(1), DEVICES[0], &[0xd7, 9]);
    let told = PathInput::Relayed { relay: RelayId(1), from: DEVICES[1], bytes: vec![0xd7, 9] };
    assert_eq!(soon(a.news.recv()).await, Some(told));

    let (dir, flags) = relay.kill();
    // It resets the links of its former life; until they are silent for long nobody else would.
    let relay = Apid::again(dir, &flags);
    for device in [&mut a, &mut b] {
        device.connected(&[]).await;
    }
    for device in [&mut a, &mut b] {
        device.connected(&[1]).await;
    }
    relay.wait_for("warren_relay_sessions", 2).await;
    a.peer.send(&mut std::iter::once(message.as_slice()));
    assert_eq!(soon(b.messages.recv()).await, Some((DEVICES[0], message)));
}

#[tokio::test]
async fn a_handshake_goes_again_over_each_relay_that_is_raced_and_is_answered_over_the_one_it_came_by() {
    let anchor = AnchorSecret::from_seed([1; 32]);
    let fingerprint = anchor.public().fingerprint().to_string();
    let relay = Apid::with(&["--role", "relay", "--serve-anchor", &fingerprint]);
    let named = vec![place(1, &relay, relay.fingerprint())];
    let mut b = Device::new(1, &anchor);
    b.wish(Wish::Places(named.clone()));
    b.connected(&[1]).await;
    // A handshake is as good as none after five seconds, which a busy machine may need for a connection.
    let mut tries = 0..;
    let mut a = loop {
        let (mut a, mut initiation) = (Device::new(0, &anchor), [1; 148]);
        initiation[147] = tries.next().expect("a few");
        let began = std::time::Instant::now();
        a.peer.send(&mut std::iter::once(initiation.as_slice()));
        a.peer.race(true);
        a.wish(Wish::Places(named.clone()));
        a.connected(&[1]).await;
        if began.elapsed() < std::time::Duration::from_secs(4) {
            while soon(b.messages.recv()).await != Some((DEVICES[0], initiation.to_vec())) {}
            break a;
        }
    };
    let response = vec![2; 92];
    b.peer.send(&mut std::iter::once(response.as_slice()));
    assert_eq!(soon(a.messages.recv()).await, Some((DEVICES[1], response)));
    a.peer.race(false);
    a.peer.set_relay(RelayId::SERVER, true);
    a.peer.send(&mut std::iter::once([4; 32].as_slice()));
    a.peer.set_relay(RelayId(1), true);
    a.peer.send(&mut std::iter::once([4; 48].as_slice()));
    assert_eq!(soon(b.messages.recv()).await, Some((DEVICES[0], vec![4; 48])), "none goes twice any more");
}

#[tokio::test]
async fn with_a_server_only_the_nearest_relay_is_kept_and_an_impostor_never() {
    let anchor = AnchorSecret::from_seed([1; 32]);
    let fingerprint = anchor.public().fingerprint().to_string();
    let flags = ["--role", "relay", "--serve-anchor", fingerprint.as_str()];
    let relays = [Apid::with(&flags), Apid::with(&flags)];
    let mut named: Vec<RelayPlace> =
        (1..).zip(&relays).map(|(id, relay)| place(id, relay, relay.fingerprint())).collect();
    let mut device = Device::new(0, &anchor);
    device.wish(Wish::Places(named.clone()));
    device.connected(&[1, 2]).await;
    device.wish(Wish::ServerUp(true));
    soon(async {
        while device.relays.relays().len() != 1 {
            device.news.recv().await;
        }
    })
    .await;
    device.wish(Wish::ServerUp(false));
    device.connected(&[1, 2]).await;
    named[1].certificate = Fingerprint::from_bytes([3; 32]);
    device.wish(Wish::Places(named));
    device.connected(&[1]).await;
    relays[1].wait_for("warren_relay_sessions", 0).await;
    // Nobody is where a relay should be: the others do.
    let gone = RelayPlace { id: 3, ..place(3, &relays[0], Fingerprint::from_bytes([4; 32])) };
    let nowhere = free();
    let endpoint = Endpoint { host: EndpointHost::Address(nowhere.ip()), port: nowhere.port() };
    let nobody = RelayPlace { endpoint, ..gone };
    device.wish(Wish::Places(vec![place(2, &relays[1], relays[1].fingerprint()), nobody]));
    device.connected(&[2]).await;
}

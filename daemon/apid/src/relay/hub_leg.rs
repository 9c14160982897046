//! The way to the hub's WireGuard for a device to which no UDP comes: a UDP socket for what it sends over its link. Sends nowhere
//! else, and reads of a message only whether it is WireGuard's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use control::HubPlace;
use model::EndpointHost;
use model::relay::PAYLOAD_BYTES_MAX;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::Dropped;

/// Legs at once, each with a socket: more are refused, and their devices are without the hub.
pub const LEGS_MAX: usize = 4096;
/// Messages that wait for the socket: two bursts.
const QUEUE_MAX: usize = 128;
/// After so long without a message of the device its session is over (Reject-After-Time, WireGuard paper, section 6.1).
const SILENCE_MAX: Duration = Duration::from_secs(180);
/// The machine's resolver tries its servers within this time.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(5);
/// The first of 8 million addresses of the loopback (RFC 1122, section 3.2.1.3), apart from those that programs use: each leg sends
/// from its own, because WireGuard counts handshakes by address.
const FIRST: u32 = u32::from_be_bytes([127, 128, 0, 1]);
const ADDRESSES: u32 = (1 << 23) - 2;

/// One device's. Dropped, it ends.
pub struct Leg {
    place: HubPlace,
    queue: mpsc::Sender<Vec<u8>>,
}

impl Leg {
    /// Opens the socket in the background; what is sent meanwhile waits for it. `deliver` is given what comes back, until it says
    /// that nobody wants it any more. Needs a tokio runtime.
    pub fn open(
        place: HubPlace,
        permit: OwnedSemaphorePermit,
        deliver: impl Fn(&[u8]) -> bool + Send + 'static,
    ) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let to = place.clone();
        tokio::spawn(async move {
            let _held = permit;
            if let Err(error) = carry(&to, messages, deliver).await {
                tracing::debug!(endpoint = %to.endpoint, %error, "a device does not reach the hub over its link");
            }
        });
        Self { place, queue }
    }

    /// Whether it leads there, and somebody carries.
    pub fn leads_to(&self, place: &HubPlace) -> bool {
        self.place == *place && !self.queue.is_closed()
    }

    /// Sends a message of WireGuard to the hub; says how long it is.
    pub fn send(&self, message: &[u8]) -> Result<usize, Dropped> {
        if !is_wireguard(message) {
            return Err(Dropped::Malformed);
        }
        self.queue.try_send(message.to_vec()).map(|()| message.len()).map_err(|_| Dropped::NoRoom)
    }
}

/// Whether a message has a type of WireGuard's and a length that goes with it (WireGuard paper, section 5.4).
fn is_wireguard(message: &[u8]) -> bool {
    let Some(([kind, 0, 0, 0], _)) = message.split_first_chunk::<4>() else { return false };
    match kind {
        1 => message.len() == 148,
        2 => message.len() == 92,
        3 => message.len() == 64,
        4 => message.len() >= 32,
        _ => false,
    }
}

async fn carry(
    place: &HubPlace,
    mut messages: mpsc::Receiver<Vec<u8>>,
    deliver: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let (from, to) = ends(place).await?;
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await?;
    socket.connect(to).await?;
    let mut buffer = [0; PAYLOAD_BYTES_MAX];
    let mut until = Instant::now() + SILENCE_MAX;
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Some(message) = message else { return Ok(()) };
                until = Instant::now() + SILENCE_MAX;
                // What meets a hub that is not up is lost, as in any network.
                let _ = socket.send(&message).await;
            }
            // An error is what the network said of a message that was sent.
            came = socket.recv(&mut buffer) => if let Ok(length) = came
                && !deliver(&buffer[..length])
            {
                return Ok(());
            },
            () = sleep_until(until) => return Ok(()),
        }
    }
}

/// The address to send from, and where the hub is. On its own machine it is asked there: a router before it need not lead its own
/// packets back.
async fn ends(place: &HubPlace) -> io::Result<(IpAddr, SocketAddr)> {
    static LEGS: AtomicU32 = AtomicU32::new(0);
    let port = place.endpoint.port;
    let hub = match (place.here, &place.endpoint.host) {
        (Some(here), _) => {
            let own = Ipv4Addr::from(FIRST + LEGS.fetch_add(1, Ordering::Relaxed) % ADDRESSES);
            return Ok((own.into(), SocketAddr::new(Ipv4Addr::LOCALHOST.into(), here)));
        }
        (None, EndpointHost::Address(ip)) => SocketAddr::new(*ip, port),
        (None, EndpointHost::Name(name)) => {
            let mut found = timeout(RESOLVE_TIME_MAX, lookup_host((name.to_string(), port))).await??;
            found.next().ok_or_else(|| io::Error::from(io::ErrorKind::HostUnreachable))?
        }
    };
    let any = if hub.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Ok((any, hub))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn message(kind: u8, length: usize) -> Vec<u8> {
        let mut message = vec![0; length];
        message[0] = kind;
        message
    }

    #[test]
    fn only_what_may_be_wireguards_is_given_on() {
        for (kind, length) in [(1, 148), (2, 92), (3, 64), (4, 32), (4, 1452)] {
            assert!(is_wireguard(&message(kind, length)), "{kind} {length}");
        }
        for (kind, length) in [(0, 148), (1, 147), (1, 149), (2, 64), (4, 31), (5, 148), (4, 3)] {
            assert!(!is_wireguard(&message(kind, length)), "{kind} {length}");
        }
        assert!(!is_wireguard(&[1; 148]) && !is_wireguard(&[]));
    }

    #[tokio::test]
    async fn messages_go_to_the_hub_and_come_back_and_nothing_else_goes() {
        let hub = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let port = hub.local_addr().expect("bound").port();
        let elsewhere = "192.0.2.1:443".parse().expect("an address");
        for (at, here) in [(elsewhere, Some(port)), (SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), None)]
        {
            let place = HubPlace { endpoint: at.into(), here };
            let permits = Arc::new(Semaphore::new(1));
            let permit = permits.clone().try_acquire_owned().expect("there is one");
            let (told, mut came) = mpsc::unbounded_channel();
            let leg = Leg::open(place, permit, move |bytes| told.send(bytes.to_vec()).is_ok());
            assert_eq!(leg.send(&[0xD7; 66]), Err(Dropped::Malformed), "a probe is not for it");
            assert_eq!(leg.send(&message(1, 148)), Ok(148));
            let mut buffer = [0; 200];
            let (length, from) =
                timeout(PATIENCE, hub.recv_from(&mut buffer)).await.expect("in time").expect("it comes");
            assert_eq!(buffer[..length], message(1, 148));
            assert_eq!(here.is_some(), from.ip() > IpAddr::from([127, 128, 0, 0]), "{from}");
            hub.send_to(&[2; 92], from).await.expect("sent");
            assert_eq!(timeout(PATIENCE, came.recv()).await.expect("in time"), Some(vec![2; 92]));
            drop(leg);
            let ended = timeout(PATIENCE, permits.acquire()).await.expect("in time");
            assert!(ended.is_ok(), "its socket is closed");
        }
    }

    #[tokio::test]
    async fn a_leg_whose_device_is_gone_ends_with_the_next_message_of_the_hub() {
        let hub = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let place = HubPlace { endpoint: hub.local_addr().expect("bound").into(), here: None };
        let permits = Arc::new(Semaphore::new(1));
        let permit = permits.clone().try_acquire_owned().expect("there is one");
        let leg = Leg::open(place.clone(), permit, |_| false);
        assert!(leg.leads_to(&place) && !leg.leads_to(&HubPlace { here: Some(1), ..place.clone() }));
        assert_eq!(leg.send(&message(4, 32)), Ok(32));
        let mut buffer = [0; 200];
        let came = timeout(PATIENCE, hub.recv_from(&mut buffer)).await.expect("in time");
        hub.send_to(&[4; 32], came.expect("it comes").1).await.expect("sent");
        let ended = timeout(PATIENCE, permits.acquire()).await.expect("in time");
        assert!(ended.is_ok() && !leg.leads_to(&place));
    }
}

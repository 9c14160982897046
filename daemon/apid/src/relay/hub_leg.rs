//! The way to the hub's WireGuard for a device to which no UDP comes: a UDP socket for what it sends over its link. Sends nowhere
//! else, and reads of a message only whether it is WireGuard's.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
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
/// Types of WireGuard's messages (section 5.4).
const WIREGUARD: RangeInclusive<u8> = 1..=4;

/// One device's. Dropped, it ends.
pub struct Leg {
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
        tokio::spawn(async move {
            let _held = permit;
            if let Err(error) = carry(&place, messages, deliver).await {
                tracing::debug!(endpoint = %place.endpoint, %error, "a device does not reach the hub over its link");
            }
        });
        Self { queue }
    }

    /// Nobody carries any more: another one is needed.
    pub fn is_over(&self) -> bool {
        self.queue.is_closed()
    }

    /// Sends a message of WireGuard to the hub; says how long it is.
    pub fn send(&self, message: &[u8]) -> Result<usize, Dropped> {
        if !message.first().is_some_and(|first| WIREGUARD.contains(first)) {
            return Err(Dropped::Malformed);
        }
        self.queue.try_send(message.to_vec()).map(|()| message.len()).map_err(|_| Dropped::NoRoom)
    }
}

async fn carry(
    place: &HubPlace,
    mut messages: mpsc::Receiver<Vec<u8>>,
    deliver: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let hub = find(place).await?;
    let any = if hub.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(hub).await?;
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

/// On its own machine the hub is asked there: a router before it need not lead its own packets back.
async fn find(place: &HubPlace) -> io::Result<SocketAddr> {
    let port = place.endpoint.port;
    match &place.endpoint.host {
        _ if place.here => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        EndpointHost::Address(ip) => Ok(SocketAddr::new(*ip, port)),
        EndpointHost::Name(name) => {
            let found = timeout(RESOLVE_TIME_MAX, lookup_host((name.to_string(), port))).await??;
            let mut found = found.into_iter();
            found.next().ok_or_else(|| io::Error::from(io::ErrorKind::HostUnreachable))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn messages_go_to_the_hub_and_come_back_and_nothing_else_goes() {
        let hub = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let elsewhere = "192.0.2.1".parse().expect("an address");
        for (host, here) in [(elsewhere, true), (Ipv4Addr::LOCALHOST.into(), false)] {
            let port = hub.local_addr().expect("bound").port();
            let place = HubPlace { endpoint: SocketAddr::new(host, port).into(), here };
            let permits = Arc::new(Semaphore::new(1));
            let permit = permits.clone().try_acquire_owned().expect("there is one");
            let (told, mut came) = mpsc::unbounded_channel();
            let leg = Leg::open(place, permit, move |bytes| told.send(bytes.to_vec()).is_ok());
            assert_eq!(leg.send(&[0xD7; 66]), Err(Dropped::Malformed), "a probe is not for it");
            assert_eq!(leg.send(&[1; 148]), Ok(148));
            let mut buffer = [0; 200];
            let (length, from) =
                timeout(PATIENCE, hub.recv_from(&mut buffer)).await.expect("in time").expect("it comes");
            assert_eq!(buffer[..length], [1; 148]);
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
        let place = HubPlace { endpoint: hub.local_addr().expect("bound").into(), here: false };
        let permits = Arc::new(Semaphore::new(1));
        let permit = permits.clone().try_acquire_owned().expect("there is one");
        let leg = Leg::open(place, permit, |_| false);
        assert_eq!(leg.send(&[4; 32]), Ok(32));
        let mut buffer = [0; 200];
        let came = timeout(PATIENCE, hub.recv_from(&mut buffer)).await.expect("in time");
        hub.send_to(&[4; 32], came.expect("it comes").1).await.expect("sent");
        let ended = timeout(PATIENCE, permits.acquire()).await.expect("in time");
        assert!(ended.is_ok() && leg.is_over());
    }
}

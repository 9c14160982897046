//! Side sockets: UDP sockets beside WireGuard's, to each of which a NAT gives a port of its own, until a peer is met at one of them.
//! Chooses none, and knows no path.
//!
//! ```text
//!   WireGuard ── By(BySide) ─┐                        ┌── probes ─────▶ the engine
//!   probes ──── place ───────┴─▶ side socket ◀── NAT ─┴── the rest ───▶ WireGuard
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use engine::paths::SideId;
use model::PublicKey;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tunnel::Carrier;

use crate::paths::raw;

/// The longest that UDP carries (RFC 768).
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Descriptors that are left to the rest of the program: what it opens at once for links, files and questions.
const DESCRIPTORS_LEFT_MIN: u64 = 128;

/// Those that are open.
#[derive(Default)]
pub(super) struct Sides(Mutex<BTreeMap<PublicKey, Opened>>);

/// Those of one peer.
struct Opened {
    sides: BTreeMap<SideId, Arc<Side>>,
    /// `None` for a moment while it is replaced.
    hearing: Option<JoinHandle<()>>,
    heard: Arc<Heard>,
}

/// Is given what comes to which, and from where.
type Heard = dyn Fn(&Arc<Side>, &[u8], SocketAddr) + Send + Sync;

/// One of them.
pub(super) struct Side {
    pub(super) id: SideId,
    socket: UdpSocket,
}

impl Sides {
    /// Opens so many for a peer, all or none; those that it had are closed. Needs a tokio runtime.
    pub(super) fn open(
        &self,
        peer: &PublicKey,
        ids: impl ExactSizeIterator<Item = SideId>,
        mark: Option<u32>,
        heard: impl Fn(&Arc<Side>, &[u8], SocketAddr) + Send + Sync + 'static,
    ) -> io::Result<()> {
        has_room(ids.len())?;
        let open = |id| Ok((id, Arc::new(Side { id, socket: bind(mark)? })));
        let sides = ids.map(open).collect::<io::Result<BTreeMap<_, _>>>()?;
        let heard: Arc<Heard> = Arc::new(heard);
        let opened = Opened { hearing: hear(&sides, &heard, None), sides, heard };
        self.lock().insert(*peer, opened);
        Ok(())
    }

    /// Closes those of a peer but one, and says how many there were.
    pub(super) fn close(&self, peer: &PublicKey, but: Option<SideId>) -> usize {
        let mut all = self.lock();
        let Some(opened) = all.get_mut(peer) else { return 0 };
        let before = opened.sides.len();
        opened.sides.retain(|id, _| Some(*id) == but);
        if opened.sides.is_empty() {
            all.remove(peer);
        } else {
            opened.hearing = hear(&opened.sides, &opened.heard, opened.hearing.take());
        }
        before
    }

    /// What sends from one of them to an address, for as long as it is open.
    pub(super) fn carrier(&self, id: SideId, to: SocketAddr) -> Option<BySide> {
        let side = self.lock().values().find_map(|opened| opened.sides.get(&id).map(Arc::downgrade))?;
        Some(BySide { side, to })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PublicKey, Opened>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.hearing.iter().for_each(JoinHandle::abort);
    }
}

impl Side {
    /// Gives on what is there, and has the task woken by what comes.
    fn drain(self: &Arc<Self>, buffer: &mut [u8], heard: &Heard, context: &mut Context<'_>) {
        let mut buffer = ReadBuf::new(buffer);
        while let Poll::Ready(came) = self.socket.poll_recv_from(context, &mut buffer) {
            // What the network says of a datagram that was sent is read by it, and is no answer.
            if let Ok(from) = came {
                heard(self, buffer.filled(), from);
            }
            buffer.clear();
        }
    }
}

/// One task for all, in place of the one before. That has ended when it begins: a socket wakes only whom it was polled by last.
fn hear(
    sides: &BTreeMap<SideId, Arc<Side>>,
    heard: &Arc<Heard>,
    before: Option<JoinHandle<()>>,
) -> Option<JoinHandle<()>> {
    let (sides, heard): (Vec<_>, _) = (sides.values().cloned().collect(), Arc::clone(heard));
    before.iter().for_each(JoinHandle::abort);
    Some(tokio::spawn(async move {
        if let Some(before) = before {
            // It was ended just now, and nothing else comes of it.
            let _ = before.await;
        }
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        std::future::poll_fn(|context| {
            sides.iter().for_each(|side| side.drain(&mut buffer, &*heard, context));
            Poll::<()>::Pending
        })
        .await;
    }))
}

fn bind(mark: Option<u32>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    // In fragments if they must, as WireGuard's packets are sent.
    raw::set(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    UdpSocket::from_std(socket.into())
}

/// Whether the program may have so many descriptors more (RLIMIT_NOFILE in getrlimit(2)).
fn has_room(count: usize) -> io::Result<()> {
    let (may, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let used = std::fs::read_dir("/proc/self/fd")?.count();
    match used as u64 + count as u64 + DESCRIPTORS_LEFT_MIN <= may {
        true => Ok(()),
        false => Err(io::Error::other(format!("{used} of {may} descriptors are in use"))),
    }
}

/// Sends from a side socket to whom it met.
pub(super) struct BySide {
    side: Weak<Side>,
    to: SocketAddr,
}

impl BySide {
    pub(super) fn new(side: &Arc<Side>, to: SocketAddr) -> Self {
        Self { side: Arc::downgrade(side), to }
    }
}

impl Carrier for BySide {
    fn send(&self, messages: &mut dyn Iterator<Item = &[u8]>) {
        let Some(side) = self.side.upgrade() else { return };
        for message in messages {
            // What there is no room for is lost, as in any network.
            let _ = SockRef::from(&side.socket).send_to(message, &self.to.into());
        }
    }

    fn name(&self) -> &str {
        "direct"
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn ids(first: u32, count: u32) -> impl ExactSizeIterator<Item = SideId> {
        (first..first + count).map(SideId)
    }

    #[tokio::test]
    async fn each_has_a_port_of_its_own_and_only_the_one_that_is_needed_stays() {
        let there = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let to = there.local_addr().expect("bound");
        let peer = PublicKey::from_bytes([1; 32]);
        let (told, mut heard) = mpsc::unbounded_channel();
        let sides = Sides::default();
        let tell =
            move |side: &Arc<Side>, bytes: &[u8], from| drop(told.send((side.id, bytes.to_vec(), from)));
        sides.open(&peer, ids(7, 64), None, tell).expect("they can be opened");
        let mut ports = BTreeMap::new();
        for id in ids(7, 64) {
            let carrier = sides.carrier(id, to).expect("it is open");
            carrier.send(&mut [&[5_u8, 6][..]].into_iter());
            let mut buffer = [0; 10];
            let came = timeout(PATIENCE, there.recv_from(&mut buffer)).await.expect("in time");
            let (length, from) = came.expect("it comes");
            assert_eq!(length, 2);
            assert!(ports.insert(from, id).is_none(), "{from} is of two");
            there.send_to(&[9], from).await.expect("sent");
            assert_eq!(timeout(PATIENCE, heard.recv()).await.expect("in time"), Some((id, vec![9], to)));
        }
        assert_eq!(sides.close(&peer, Some(SideId(8))), 64);
        for (from, id) in &ports {
            // Nobody is there any more, which the loopback says.
            let _ = there.send_to(&[10], from).await;
            assert_eq!(sides.carrier(*id, to).is_some(), *id == SideId(8));
        }
        assert_eq!(timeout(PATIENCE, heard.recv()).await.expect("in time"), Some((SideId(8), vec![10], to)));
        let carrier = sides.carrier(SideId(8), to).expect("it is open");
        assert_eq!((sides.close(&peer, None), sides.close(&peer, None)), (1, 0));
        carrier.send(&mut [&[5_u8][..]].into_iter());
        assert_eq!(timeout(PATIENCE, heard.recv()).await.expect("in time"), None, "all are closed");
    }

    #[tokio::test]
    async fn what_would_leave_the_program_without_descriptors_is_not_opened() {
        let (may, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        let peer = PublicKey::from_bytes([1; 32]);
        let sides = Sides::default();
        let all = u32::try_from(may).unwrap_or(u32::MAX).saturating_sub(100);
        let error = sides.open(&peer, ids(0, all), None, |_, _, _| {}).expect_err("they are too many");
        assert!(error.to_string().contains("descriptors are in use"), "{error}");
        assert_eq!(sides.close(&peer, None), 0);
    }
}

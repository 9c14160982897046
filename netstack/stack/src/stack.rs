//! The stack as its owner holds it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::core::Shared;
use crate::driver;
use crate::echo;
use crate::incoming::Incoming;
use crate::limits::{CONNECT_PATIENCE, KNOCKS_MAX};
use crate::stream::TcpStream;
use crate::udp::UdpSocket;

/// A way to a stack; clones are the same one. It ends with the last of them, and every connection with it.
#[derive(Clone)]
pub struct Stack(Arc<Owner>);

struct Owner {
    shared: Arc<Shared>,
    driver: AbortHandle,
}

impl Stack {
    /// Starts a stack without descriptor and addresses. Call it on a tokio runtime, which it runs on from then on; all
    /// that is not `async` may be called from anywhere.
    pub fn start() -> (Self, Incoming) {
        let (knocks, arrivals) = mpsc::channel(KNOCKS_MAX);
        let shared = Arc::new(Shared::new(knocks));
        let driver = tokio::spawn(driver::run(Arc::clone(&shared))).abort_handle();
        let incoming = Incoming { arrivals, shared: Arc::clone(&shared) };
        (Self(Arc::new(Owner { shared, driver })), incoming)
    }

    /// Takes one end of a [`crate::pair`], or the like, instead of any before. The MTU is 576 to 65535 bytes, at least
    /// 1280 where there is IPv6. Connections over a descriptor before end.
    pub fn attach(&self, fd: OwnedFd, mtu: u16) {
        let mut core = self.0.shared.lock();
        core.attach(fd);
        core.set_mtu(mtu);
        drop(core);
        self.0.shared.stirred.notify_one();
    }

    /// Closes the descriptor. Every connection ends, and there are no new ones.
    pub fn detach(&self) {
        self.0.shared.lock().detach();
        self.0.shared.stirred.notify_one();
    }

    /// Changes the MTU, within the bounds of [`Self::attach`].
    pub fn set_mtu(&self, mtu: u16) {
        self.0.shared.lock().set_mtu(mtu);
        self.0.shared.stirred.notify_one();
    }

    /// Has these addresses from now on, eight at most. Connections from one that is gone end.
    pub fn set_addresses(&self, addresses: &[IpNet]) {
        self.0.shared.lock().set_addresses(addresses);
        self.0.shared.stirred.notify_one();
    }

    /// The addresses that it has.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.0.shared.lock().addresses().to_vec()
    }

    /// Connects to a peer.
    ///
    /// # Errors
    /// There is no descriptor or address to send from; the peer refused; there was no answer in a minute; or there are
    /// [`crate::FLOWS_MAX`] connections already.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let handle = self.0.shared.lock().connect(to)?;
        self.0.shared.stirred.notify_one();
        let stream = TcpStream::new(Arc::clone(&self.0.shared), handle, to);
        timeout(CONNECT_PATIENCE, stream.established()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(stream)
    }

    /// A socket for datagrams to and from one peer.
    ///
    /// # Errors
    /// There is no descriptor or address to send from, or there are too many such sockets.
    pub fn udp(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::open(Arc::clone(&self.0.shared), None, to)
    }

    /// As [`Self::udp`], from a port that the caller chooses.
    ///
    /// # Errors
    /// As [`Self::udp`].
    pub fn udp_on(&self, port: u16, to: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::open(Arc::clone(&self.0.shared), Some(port), to)
    }

    /// Sends one echo (RFC 792, RFC 4443) and waits for its reply; `None` if there was none in time.
    ///
    /// # Errors
    /// There is no descriptor or address to send from, or there are too many questions at once.
    pub async fn echo(&self, to: IpAddr, patience: Duration) -> io::Result<Option<Duration>> {
        echo::echo(Arc::clone(&self.0.shared), to, patience).await
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lock().end();
        self.driver.abort();
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stack({:?})", self.addresses())
    }
}

//! Connections that peers ask for: each is taken or turned away, and until then its first segment waits.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::core::Shared;
use crate::limits::ACCEPT_PATIENCE;
use crate::packet::Arrival;
use crate::stream::TcpStream;

/// All connections that peers ask for, on any port. Once it is dropped, each is turned away at once.
pub struct Incoming {
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
    pub(crate) shared: Arc<Shared>,
}

impl Incoming {
    /// The next one; `None` when the stack has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Knock> {
        let arrival = self.arrivals.recv().await?;
        Some(Knock { arrival, shared: Arc::clone(&self.shared), answered: false })
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Incoming")
    }
}

/// A connection that a peer asks for. Dropped, it is turned away: the peer sees "connection refused".
pub struct Knock {
    arrival: Arrival,
    shared: Arc<Shared>,
    answered: bool,
}

impl Knock {
    /// Who asks.
    pub const fn from(&self) -> SocketAddr {
        self.arrival.from
    }

    /// Which of our addresses and ports.
    pub const fn to(&self) -> SocketAddr {
        self.arrival.to
    }

    /// Takes the connection.
    ///
    /// # Errors
    /// The peer has gone away, or there are [`crate::FLOWS_MAX`] connections already.
    pub async fn accept(mut self) -> io::Result<TcpStream> {
        self.answered = true;
        let handle = self.shared.lock().admit(self.arrival)?;
        self.shared.stirred.notify_one();
        let stream = TcpStream::new(Arc::clone(&self.shared), handle, self.arrival.from);
        timeout(ACCEPT_PATIENCE, stream.established()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(stream)
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.lock().turn_away(self.arrival);
            self.shared.stirred.notify_one();
        }
    }
}

impl fmt::Debug for Knock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Knock({} -> {})", self.arrival.from, self.arrival.to)
    }
}

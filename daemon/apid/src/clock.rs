//! The clocks of the machine, read in one place and handed to the machines as arguments.

use std::time::{Duration, SystemTime};

use model::{Mono, Now, Timestamp};
use tokio::time::Instant;

/// Monotonic time since the process started, and wall time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now { mono: Mono::from_micros(micros), wall: wall() }
    }

    /// When the runtime's clock shows this.
    pub fn instant(&self, at: Mono) -> Instant {
        self.origin + Duration::from_micros(at.as_micros())
    }

    /// Since the process started.
    pub fn uptime(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// The wall clock alone. Before 1970 it is 1970.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

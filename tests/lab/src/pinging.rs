//! A ping that goes on beside a story, until the story asks what was lost.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::process::Process;
use crate::wait::{SOON, wait_for};
use crate::world::World;

/// Between two packets: short enough to notice a gap of 100 ms.
const INTERVAL: Duration = Duration::from_millis(100);

/// A running `ping`.
#[derive(Debug)]
pub struct Pinging {
    process: Rc<Process>,
    target: String,
}

impl Pinging {
    /// Starts to ping, and waits for the first answer.
    ///
    /// # Panics
    /// If there is none.
    pub fn start(world: &World, from: &str, target: &str) -> Self {
        Self::every(world, INTERVAL, from, target)
    }

    /// The same, with so much time between two packets.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn every(world: &World, interval: Duration, from: &str, target: &str) -> Self {
        let interval = interval.as_secs_f32().to_string();
        let args = ["ping", "-n", "-i", &interval, "-W", "1", target];
        let process = world.plain(&format!("ping-{from}-{target}"), from, &args);
        let pinging = Self { process, target: target.into() };
        wait_for(&format!("the first answer of {target}"), SOON, || !pinging.answered().is_empty());
        pinging
    }

    /// How many packets were lost until now, and that it still pings: it ends only here.
    ///
    /// # Panics
    /// If it has ended by itself, or nothing that is sent from now on is answered.
    pub fn lost(self) -> usize {
        let last = |answered: &BTreeSet<usize>| answered.last().copied().unwrap_or(0);
        let before = last(&self.answered());
        // One of them may be on its way already; what comes after it is sent from now on.
        let after = || last(&self.answered()) > before + 1;
        wait_for(&format!("further answers of {}", self.target), SOON, after);
        assert!(self.process.ended().is_none(), "the ping has ended:\n{}", self.process.output());
        self.process.kill();
        let answered = self.answered();
        last(&answered) - answered.len()
    }

    /// The numbers of the packets that were answered, from 1 on.
    fn answered(&self) -> BTreeSet<usize> {
        let output = self.process.output();
        // The last line may be half written.
        let lines =
            output.split_inclusive('\n').filter(|line| line.contains(" bytes from ") && line.ends_with('\n'));
        lines.filter_map(|line| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok()).collect()
    }
}

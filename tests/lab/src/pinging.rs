//! A ping that goes on beside a story and must not lose anything.

use std::rc::Rc;
use std::time::Duration;

use crate::process::Process;
use crate::wait::wait_for;
use crate::world::World;

/// Packets a second: one every tenth of a second notices a gap of 100 ms.
const PER_SECOND: u32 = 10;

/// A running `ping` of a fixed length.
#[derive(Debug)]
pub struct Pinging {
    process: Rc<Process>,
    target: String,
    seconds: u32,
}

impl Pinging {
    /// Starts to ping for so many seconds.
    pub fn start(world: &World, from: &str, target: &str, seconds: u32) -> Self {
        let count = (seconds * PER_SECOND).to_string();
        let interval = (1.0 / f64::from(PER_SECOND)).to_string();
        let args = ["ping", "-n", "-c", &count, "-i", &interval, "-W", "1", target];
        let process = world.plain(&format!("ping-{from}-{target}"), from, &args);
        Self { process, target: target.into(), seconds }
    }

    /// Waits for its end and says how many packets were lost.
    ///
    /// # Panics
    /// If it does not end, or sent nothing.
    pub fn lost(self) -> u32 {
        let deadline = Duration::from_secs(u64::from(self.seconds) + 10);
        wait_for(&format!("the end of ping {}", self.target), deadline, || self.process.ended().is_some());
        let output = self.process.output();
        let summary = output.lines().find(|line| line.contains("packets transmitted")).unwrap_or_default();
        let mut numbers = summary.split(' ').filter_map(|word| word.parse::<u32>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(sent), Some(received)) if sent > 0 => sent - received,
            _ => panic!("ping {} sent nothing:\n{output}", self.target),
        }
    }
}

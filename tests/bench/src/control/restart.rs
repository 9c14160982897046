//! The server is restarted in order, and then killed, while ten thousand devices hold links: when all are back, and what people
//! who ask meanwhile get.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::until;
use link::https::Method;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::fleet::Population;
use super::work::Work;
use crate::series::{Bound, Series, Unit};
use crate::server::{Apid, alone, program};
use crate::usage::{memory, milliseconds, process_cpu};

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    devices: u32,
}

/// As promised.
pub const FULL: Scale = Scale { devices: 10_000 };
/// To see that it works.
pub const CHECK: Scale = Scale { devices: 30 };

const BACK: Bound = Bound::AllBelow(30_000.0);
/// When no device will come any more.
const PATIENCE: Duration = Duration::from_secs(180);

/// Restarts, then kills.
pub fn measure(scale: &'static Scale) -> Vec<Series> {
    alone(move |runtime, mut apid| {
        let mut population = Population::new(runtime, &apid);
        population.grow(&apid, scale.devices);
        Work::settled();
        let ways = [("restarted", Signal::SIGTERM), ("killed", Signal::SIGKILL)];
        let rounds = ways.map(|(what, signal)| once(scale, what, signal, runtime, &mut apid, &population));
        rounds.into_iter().flatten().collect()
    })
}

/// What a person runs, one after the other.
struct Commands {
    over: Arc<AtomicBool>,
    person: JoinHandle<(Vec<Duration>, u32)>,
}

impl Commands {
    fn start(socket: PathBuf) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let enough = Arc::clone(&over);
        let person = std::thread::spawn(move || {
            let (mut took, mut failed) = (Vec::new(), 0);
            while !enough.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let done = Command::new(program("warren"))
                    .args(["tenant", "list", "--apid-socket"])
                    .arg(&socket)
                    .output()
                    .expect("it is built");
                took.push(begun.elapsed());
                failed += u32::from(!done.status.success());
            }
            (took, failed)
        });
        Self { over, person }
    }

    /// How long each took, and how many failed.
    fn stop(self) -> (Vec<Duration>, u32) {
        self.over.store(true, Ordering::Relaxed);
        self.person.join().expect("it only waits for programs")
    }
}

fn once(
    scale: &Scale,
    what: &str,
    signal: Signal,
    runtime: &Runtime,
    apid: &mut Apid,
    population: &Population<'_>,
) -> Vec<Series> {
    let named = |text: &str| format!("{what} with {} devices: {text}", scale.devices);
    let (all, refused) = (scale.devices as usize, population.fleet.refusals());
    let commands = Commands::start(apid.socket());
    population.fleet.begin_round();
    let begun = Instant::now();
    apid.restart(runtime, signal);
    let serving = begun.elapsed();
    let mut asked = Series::new(named("a request meanwhile"), Unit::Milliseconds);
    let mut failed = 0.0;
    let back = until(PATIENCE, || {
        let ask = Instant::now();
        let answer = runtime.block_on(apid.try_ask(Method::GET, "/api/v1/status", &Value::Null));
        asked.push(milliseconds(ask.elapsed()));
        failed += if answer.is_some() { 0.0 } else { 1.0 };
        (population.fleet.back() == all).then(|| begun.elapsed())
    });
    let (back, _) = back.expect("all devices come back");
    let (took, broken) = commands.stop();
    let mut command = Series::new(named("a command of a person meanwhile"), Unit::Milliseconds);
    took.into_iter().for_each(|took| command.push(milliseconds(took)));
    let cpu = milliseconds(process_cpu(apid.id()));
    let refused = (population.fleet.refusals() - refused) as f64;
    let work = Work::now();
    let each = memory(apid.id()).resident * 1024.0 * 1024.0 / f64::from(scale.devices);
    let one = |text: &str, unit, value| Series::one(named(text), unit, value);
    vec![
        one("all are back", Unit::Milliseconds, milliseconds(back)).must(BACK),
        one("the server serves", Unit::Milliseconds, milliseconds(serving)),
        command,
        one("commands of a person that failed", Unit::Count, f64::from(broken)).must(Bound::AllAre(0.0)),
        asked,
        one("requests that failed", Unit::Count, failed).must(Bound::AllAre(0.0)),
        one("devices that were refused", Unit::Count, refused).must(Bound::AllAre(0.0)),
        one("snapshots sent", Unit::Count, work.sent).must(Bound::AllAre(0.0)),
        one("processor time of warren-apid", Unit::Milliseconds, cpu),
        one("all memory of warren-apid for each", Unit::Bytes, each).must(Bound::AllBelow(40_000.0)),
    ]
}

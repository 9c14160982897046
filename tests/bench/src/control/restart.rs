//! The server is restarted in order, and then killed, while ten thousand devices hold links: when all are back, and what people
//! who ask meanwhile get.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lab::until;
use link::https::{Bounds, Method, Request, Server, request};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::{MissedTickBehavior, interval};

use super::fleet::Population;
use super::work::Work;
use crate::series::{Bound, Series, Unit};
use crate::server::{Apid, alone};
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
/// Between two questions of who asks all the time.
const ASK_INTERVAL: Duration = Duration::from_millis(20);
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

/// Asks all the time, and notes the longest time without an answer.
async fn silent(socket: PathBuf, longest: Arc<Mutex<Duration>>) {
    let mut answered = Instant::now();
    let mut pause = interval(ASK_INTERVAL);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pause.tick().await;
        let wish = Request::builder().uri("/api/v1/status").body(Vec::new().into()).expect("well-formed");
        let answer = request(&Server::Unix(socket.clone()), wish, Bounds::default()).await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            let mut longest = longest.lock().unwrap_or_else(PoisonError::into_inner);
            *longest = answered.elapsed().max(*longest);
            answered = Instant::now();
        }
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
    let silence = Arc::new(Mutex::new(Duration::ZERO));
    let asking = runtime.spawn(silent(apid.socket(), Arc::clone(&silence)));
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
    asking.abort();
    let silence = milliseconds(*silence.lock().unwrap_or_else(PoisonError::into_inner));
    let cpu = milliseconds(process_cpu(apid.id()));
    let refused = (population.fleet.refusals() - refused) as f64;
    let work = Work::now();
    let each = memory(apid.id()).resident * 1024.0 * 1024.0 / f64::from(scale.devices);
    let one = |text: &str, unit, value| Series::one(named(text), unit, value);
    vec![
        one("all are back", Unit::Milliseconds, milliseconds(back)).must(BACK),
        one("the server serves", Unit::Milliseconds, milliseconds(serving)),
        one("people who ask all the time get no answer for", Unit::Milliseconds, silence),
        asked,
        one("requests that failed", Unit::Count, failed).must(Bound::AllAre(0.0)),
        one("devices that were refused", Unit::Count, refused).must(Bound::AllAre(0.0)),
        one("snapshots sent", Unit::Count, work.sent).must(Bound::AllAre(0.0)),
        one("processor time of warren-apid", Unit::Milliseconds, cpu),
        one("all memory of warren-apid for each", Unit::Bytes, each).must(Bound::AllBelow(40_000.0)),
    ]
}

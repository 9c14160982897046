//! `sim`: runs seeds. Knows what the command line means; the library knows the rest.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::key::Digest;
use sim::mesh::{self, MeshOutcome};
use sim::{Outcome, Scenario, Verbosity, Violation, clock, run};

const USAGE: &str = "usage: sim --seed N [--trace]      replays one seed and tells its story
       sim --seeds N | A..B          runs seeds 0 to N-1, or A to B-1
       sim --minutes M [--from N]    runs seeds from N on for so long
       sim --mesh …                  the same for paths between devices behind NATs
       sim --hard N                  how often a port of a symmetric NAT is met, in N runs of each kind";

/// What to do.
enum Task {
    Replay { seed: u64, verbosity: Verbosity },
    Range { from: u64, to: u64 },
    Soak { from: u64, minutes: u64 },
    Hard { runs: u64 },
}

/// Which world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Nodes and servers.
    Servers,
    /// Devices and NATs.
    Mesh,
}

/// How a run of either world ended.
struct Ended {
    violation: Option<Violation>,
    story: String,
    digest: Digest,
    events: u64,
}

impl Of {
    fn run(self, seed: u64, verbosity: Verbosity) -> Ended {
        match self {
            Self::Servers => {
                let Outcome { violation, story, digest, events, .. } = run(Scenario::new(seed), verbosity);
                Ended { violation, story, digest, events }
            }
            Self::Mesh => {
                let MeshOutcome { violation, story, digest, events, .. } = mesh::run(seed, verbosity);
                Ended { violation, story, digest, events }
            }
        }
    }

    const fn flag(self) -> &'static str {
        match self {
            Self::Servers => "",
            Self::Mesh => "--mesh ",
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (of, words) = match words.split_first() {
        Some((first, rest)) if first == "--mesh" => (Of::Mesh, rest),
        _ => (Of::Servers, &*words),
    };
    match parse(words) {
        Some(Task::Replay { seed, verbosity }) => replay(of, seed, verbosity),
        Some(Task::Range { from, to }) => many(of, from, to, None),
        Some(Task::Soak { from, minutes }) => {
            many(of, from, u64::MAX, Some(Instant::now() + Duration::from_secs(60 * minutes)))
        }
        Some(Task::Hard { runs }) => hard(runs),
        None => {
            complain(USAGE);
            ExitCode::from(2)
        }
    }
}

fn parse(words: &[String]) -> Option<Task> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().ok();
    Some(match words.as_slice() {
        ["--seed", seed] => Task::Replay { seed: number(seed)?, verbosity: Verbosity::Story },
        ["--seed", seed, "--trace"] | ["--trace", "--seed", seed] => {
            Task::Replay { seed: number(seed)?, verbosity: Verbosity::All }
        }
        ["--seeds", range] => match range.split_once("..") {
            Some((from, to)) => Task::Range { from: number(from)?, to: number(to)? },
            None => Task::Range { from: 0, to: number(range)? },
        },
        ["--hard", runs] => Task::Hard { runs: number(runs)?.max(1) },
        ["--minutes", minutes] => Task::Soak { from: 0, minutes: number(minutes)? },
        ["--minutes", minutes, "--from", from] => {
            Task::Soak { from: number(from)?, minutes: number(minutes)? }
        }
        _ => return None,
    })
}

fn replay(of: Of, seed: u64, verbosity: Verbosity) -> ExitCode {
    let outcome = of.run(seed, verbosity);
    say(outcome.story.trim_end());
    say(&format!("digest {}", outcome.digest));
    report(of, seed, &outcome)
}

/// Counts how often hard pairs become direct.
fn hard(runs: u64) -> ExitCode {
    let share = |won: usize| won as f64 * 100.0 / runs as f64;
    say("ports            others' a second   direct in 2 s   in 7 s   in 15 s   in 100 s");
    for (ports, stride) in [("one by one", 1), ("two by two", 2), ("by chance", 0)] {
        for crowd in [0, 100, 300, 1000] {
            let after: Vec<_> = (0..runs).filter_map(|seed| mesh::met_after(seed, stride, crowd)).collect();
            let within = |seconds| share(after.iter().filter(|after| after.as_secs() < seconds).count());
            let [soon, early, later, late] = [2, 7, 15, 101].map(within);
            let shares = format!("{soon:>13.1} % {early:>6.1} % {later:>7.1} % {late:>8.1} %");
            say(&format!("{ports:<16} {crowd:>17} {shares}"));
        }
    }
    ExitCode::SUCCESS
}

/// Runs seeds on all processors; each run is alone on its thread.
fn many(of: Of, from: u64, to: u64, until: Option<Instant>) -> ExitCode {
    let began = Instant::now();
    let (next, done, events, failed) =
        (AtomicU64::new(from), AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= to || until.is_some_and(|until| Instant::now() >= until) {
            return;
        }
        let outcome = of.run(seed, Verbosity::Silent);
        done.fetch_add(1, Ordering::Relaxed);
        events.fetch_add(outcome.events, Ordering::Relaxed);
        if report(of, seed, &outcome) != ExitCode::SUCCESS {
            failed.store(true, Ordering::Relaxed);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (done, events) = (done.into_inner(), events.into_inner());
    say(&format!("{done} seeds, {events} events, {:.1} s", began.elapsed().as_secs_f64()));
    if failed.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One line for a run that failed, none for another.
fn report(of: Of, seed: u64, outcome: &Ended) -> ExitCode {
    let Some(violation) = &outcome.violation else { return ExitCode::SUCCESS };
    complain(&format!(
        "seed {seed} failed: {} at {}; replay: cargo run -p sim -- {}--seed {seed}",
        violation.invariant,
        clock(violation.at),
        of.flag()
    ));
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "a program's own output")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "a program's own complaints")]
fn complain(line: &str) {
    eprintln!("{line}");
}

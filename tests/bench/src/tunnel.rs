//! What WireGuard engines cost beside each other: both ends of a tunnel on this machine, every contender in every round,
//! so that the machine's moods meet all of them. Knows the contenders by their names; lab::wg knows how they start.

mod flood;
mod peers;
mod rows;
mod rules;
mod small;
mod table;
mod traffic;
mod trips;

use std::panic::{AssertUnwindSafe, catch_unwind};

use clap::{Args as ClapArgs, ValueEnum};
use lab::wg::{Engine, Pair};

use self::rows::Rows;
use self::table::Table;
use crate::report::{Figures, load, say};

/// The wire itself: what the machine can do without an engine.
const WIRE: &str = "no tunnel";
/// Engines of others, as far as they are at hand.
const OTHERS: [&str; 4] = ["wireguard-go", "wireguard-go-gso", "boringtun-cli", "gotatun"];

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    figures: Figures<Figure>,
    /// Every contender is measured so often; the table has the medians.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// One more contender, NAME=COMMAND: it takes the interface's name as its last argument, in the foreground.
    #[arg(long = "with", value_name = "NAME=COMMAND")]
    with: Vec<String>,
    /// Only contenders with these names, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// TCP streams, processor time for each GiB, memory.
    Tcp,
    /// Round trips, idle and under load.
    Trips,
    /// The rate of 64-byte packets.
    Small,
    /// Ten thousand peers.
    Peers,
    /// Handshakes answered, and a flood of bogus ones beside a transfer.
    Flood,
}

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Seconds of each transfer.
    transfer: u64,
    /// Seconds of each trial of a packet rate.
    trial: f64,
    /// Trials after the first that fails.
    halvings: u32,
    /// Round trips that are timed.
    trips: u32,
    peers: u32,
    /// `wg set` of one peer more.
    sets: u32,
    /// Seconds without anything to do.
    idle: u64,
    initiations: u32,
    /// Bogus initiations a second: 73 Mbit/s.
    flood: f64,
}

const FULL: Scale = Scale {
    transfer: 5,
    trial: 0.8,
    halvings: 5,
    trips: 1_500,
    peers: 10_000,
    sets: 20,
    idle: 5,
    initiations: 5_000,
    flood: 50_000.0,
};
const CHECK: Scale = Scale {
    transfer: 1,
    trial: 0.3,
    halvings: 1,
    trips: 100,
    peers: 300,
    sets: 3,
    idle: 1,
    initiations: 200,
    flood: 5_000.0,
};

/// An engine on both ends, or none.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    name: String,
    engine: Option<Engine>,
}

impl Contender {
    fn new(engine: Engine) -> Self {
        Self { name: engine.name().to_owned(), engine: Some(engine) }
    }

    /// A session between two of the same kind.
    fn pair(&self) -> Pair {
        match &self.engine {
            Some(engine) => Pair::joined(engine, engine),
            None => Pair::apart(None, None),
        }
    }
}

impl Figure {
    fn measure(self, contender: &Contender, scale: &Scale, rows: &mut Rows) {
        match (self, &contender.engine) {
            (Self::Tcp, _) => traffic::measure(&contender.pair(), scale, rows),
            (Self::Small, _) => small::measure(&contender.pair(), scale, rows),
            (Self::Trips, _) => trips::measure(&contender.pair(), scale, rows),
            (Self::Peers, Some(engine)) => peers::measure(engine, scale, rows),
            (Self::Flood, Some(engine)) => flood::measure(engine, scale, rows),
            (Self::Peers | Self::Flood, None) => {}
        }
    }
}

/// Measures, and says whether every bound holds.
pub fn run(args: &Args) -> bool {
    let run = &args.figures.run;
    let (scale, rounds) = if run.check { (&CHECK, 1) } else { (&FULL, args.rounds) };
    let figures = args.figures.wanted();
    let contenders = contenders(args);
    let (folder, head) = (run.folder(), run.head());
    say(&format!("{head}\n{}\n", names(&contenders)));
    let mut rows = Rows::kept_in(&folder.join("tunnel.csv"));
    for round in 1..=rounds {
        for figure in &figures {
            for at in 0..contenders.len() {
                // Another one begins in each round.
                let contender = &contenders[(at + round as usize) % contenders.len()];
                rows.begin(round, &contender.name);
                say(&format!("round {round}, {figure:?}: {} … (load {:.2})\n", contender.name, load()));
                let measured = catch_unwind(AssertUnwindSafe(|| figure.measure(contender, scale, &mut rows)));
                if measured.is_err() {
                    say(&format!("{} failed: its figure is missing\n", contender.name));
                }
            }
        }
    }
    let names: Vec<&str> = contenders.iter().map(|contender| contender.name.as_str()).collect();
    let table = Table::new(&rows, &names);
    let verdicts = rules::judge(&rows);
    let text = format!("{}\n{}", table.text(), rules::text(&verdicts, !run.check));
    std::fs::write(folder.join("summary.md"), format!("{head}\n\n{text}"))
        .expect("the folder can be written");
    say(&format!("\n{text}\nrows: {}\n", folder.display()));
    run.check || verdicts.iter().all(|verdict| verdict.holds != Some(false))
}

fn contenders(args: &Args) -> Vec<Contender> {
    let with = args.with.iter().map(|text| {
        let (name, command) = text.split_once('=').expect("--with NAME=COMMAND");
        Engine::other(name, command)
    });
    let others = OTHERS.iter().filter_map(|name| Engine::named(name));
    let ours = [Engine::ours()].into_iter().chain(Engine::ours_with_reference_cipher());
    let wire = Contender { name: WIRE.into(), engine: None };
    let all = ours.chain(with).chain(others).map(Contender::new).chain([wire]);
    let wanted = |name: &String| args.only.is_empty() || args.only.contains(name);
    all.filter(|contender| wanted(&contender.name)).collect()
}

/// Who takes part, and who cannot.
fn names(contenders: &[Contender]) -> String {
    let there: Vec<&str> = contenders.iter().map(|contender| contender.name.as_str()).collect();
    let missing: Vec<&str> = OTHERS.into_iter().filter(|name| !there.contains(name)).collect();
    format!("contenders: {}; not at hand or not asked for: {}", there.join(", "), missing.join(", "))
}

//! What a name server answers, costs and holds, beside a bare echo and the name servers of others, in slices that
//! alternate, so that the machine's moods meet all of them. Servers on one processor, the load on another.

mod bounds;
mod change;
mod dataset;
mod echo;
mod load;
mod rounds;
mod rows;
mod servers;
mod table;
mod tcp;
mod warren;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use self::rounds::Field;
use self::rows::Rows;
use self::servers::LOAD_PROCESSOR;
use crate::report::{Run, load, say};

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Every server is measured so often; the table has the medians.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Records of the zones.
    #[arg(long, value_delimiter = ',', default_values_t = RECORDS)]
    records: Vec<u32>,
    /// An empty folder for files of the servers.
    #[arg(long)]
    work: PathBuf,
    #[command(flatten)]
    run: Run,
}

const RECORDS: [u32; 3] = [10_000, 100_000, 1_000_000];

/// What is a process of its own.
#[derive(Debug, Subcommand)]
pub enum Process {
    /// The echo that name servers are held against.
    Echo { at: SocketAddrV4 },
    /// Our name server with so many records.
    Serve { at: SocketAddrV4, records: u32 },
    /// Our name server, which asks another one.
    Forward { at: SocketAddrV4, upstream: SocketAddrV4 },
}

impl Process {
    pub fn run(&self) {
        match *self {
            Self::Echo { at } => echo::serve(at),
            Self::Serve { at, records } => warren::serve(at, records),
            Self::Forward { at, upstream } => warren::forward(at, upstream),
        }
    }
}

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Of each load, and how often each server has it in a round.
    slice: Duration,
    turns: u32,
    /// Of each load that comes once in a round.
    steady: Duration,
    /// Of each load over TCP, its connections open.
    streams: Duration,
    connections: usize,
    /// Names that are changed, for each count of records.
    changes: u32,
}

const FULL: Scale = Scale {
    slice: Duration::from_millis(100),
    turns: 5,
    steady: Duration::from_millis(500),
    streams: Duration::from_secs(1),
    connections: tcp::CONNECTIONS,
    changes: 100,
};
const QUICK: Scale = Scale {
    slice: Duration::from_millis(50),
    turns: 2,
    steady: Duration::from_millis(100),
    streams: Duration::from_millis(200),
    connections: 100,
    changes: 10,
};

/// Measures, and says whether every bound holds.
pub fn run(args: &Args) -> bool {
    let check = args.run.check;
    let (scale, rounds) = if check { (&QUICK, 2) } else { (&FULL, args.rounds) };
    let records = if check { &RECORDS[..1] } else { &args.records };
    let mut processors = CpuSet::new();
    processors.set(LOAD_PROCESSOR).expect("a small number");
    sched_setaffinity(Pid::from_raw(0), &processors).expect("one processor is not enough");
    let (folder, head) = (args.run.folder(), args.run.head());
    say(&format!("{head}\n"));
    let mut rows = Rows::kept_in(&folder.join("dns.csv"));
    let mut field = Field::new(records, &args.work);
    for round in 1..=rounds {
        say(&format!("round {round} of {rounds} (load {:.2})\n", load()));
        rows.round = round;
        field.round(scale, &mut rows);
    }
    drop(field);
    rows.put_ratios();
    let verdicts = bounds::judge(&rows);
    let text = format!("{}\n{}", table::text(&rows), bounds::text(&verdicts, !check));
    std::fs::write(folder.join("summary.md"), format!("{head}\n\n{text}"))
        .expect("the folder can be written");
    say(&format!("\n{text}\nrows: {}\n", folder.display()));
    // A quick run judges nothing but that there was an answer to everything.
    if check {
        verdicts.len() == verdicts.iter().flat_map(|verdict| verdict.holds).count()
    } else {
        verdicts.iter().all(|verdict| verdict.holds == Some(true))
    }
}

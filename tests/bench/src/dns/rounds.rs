//! All servers at the same time, and a round of everything that is measured of them: one at a time, another one first
//! each time, those who are not asked asleep.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use super::Scale;
use super::change;
use super::dataset::{Mix, Questions};
use super::load::{Load, Outcome};
use super::rows::{Figure, Of, Rows};
use super::servers::{Content, Kind, Server};
use super::tcp;
use crate::report::say;

const ASKER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
const MIXES: [Mix; 3] = [Mix::Mostly, Mix::NoData, Mix::NxDomain];
const ZONES: [Kind; 5] = [Kind::Echo, Kind::Warren, Kind::Nsd, Kind::Knot, Kind::Unbound];
const STREAMS: [Kind; 4] = [Kind::Warren, Kind::Nsd, Kind::Knot, Kind::Unbound];
const FORWARDERS: [Kind; 2] = [Kind::Warren, Kind::Unbound];
const FIRST_PORT: u16 = 5_301;
/// Questions a second at which round trips are timed.
const STEADY: f64 = 20_000.0;
/// Records that forwarders ask for and keep.
const KEPT: u32 = 10_000;
const WARM_MAX: Duration = Duration::from_secs(20);

/// Servers with equally many records.
#[derive(Debug)]
struct Group {
    records: u32,
    servers: Vec<Server>,
}

/// All servers.
#[derive(Debug)]
pub(crate) struct Field {
    groups: Vec<Group>,
    /// Those that keep another one's answers.
    forwarders: Group,
    _upstream: Server,
}

impl Field {
    /// Starts them; a million records take a while.
    pub(crate) fn new(records: &[u32], work: &Path) -> Self {
        let mut ports = FIRST_PORT..;
        let mut start = |kind: Kind, content| {
            let port = ports.next().expect("there are many");
            say(&format!("starting {}: {content:?}\n", kind.name()));
            Server::start(kind, content, port, work)
        };
        let groups = records.iter().map(|&records| {
            let servers = ZONES.map(|kind| start(kind, Content::Records(records)));
            Group { records, servers: servers.into() }
        });
        let groups = groups.collect();
        let upstream = start(Kind::Nsd, Content::Records(KEPT));
        let servers = FORWARDERS.map(|kind| start(kind, Content::Forwarded(upstream.at)));
        Self { groups, forwarders: Group { records: KEPT, servers: servers.into() }, _upstream: upstream }
    }

    /// Measures everything once.
    pub(crate) fn round(&mut self, scale: &Scale, rows: &mut Rows) {
        for group in &mut self.groups {
            for mix in MIXES {
                let mut questions = Questions::new(group.records, mix);
                group.rates(mix, &mut questions, scale, rows);
                if mix == Mix::Mostly {
                    group.trips(&mut questions, scale, rows);
                }
            }
            group.changes(scale, rows);
        }
        if let Some(group) = self.groups.first() {
            group.streams(scale, rows);
        }
        self.forwarders.kept(scale, rows);
    }
}

impl Group {
    fn of(&self, figure: Figure, mix: Mix) -> Of {
        Of { figure, records: self.records, mix: mix.name() }
    }

    /// Each server once, another one first in each round.
    fn in_turn<'g>(&'g self, kinds: &'g [Kind], round: u32) -> impl Iterator<Item = &'g Server> {
        let servers: Vec<&Server> =
            self.servers.iter().filter(|server| kinds.contains(&server.kind)).collect();
        let count = servers.len();
        (0..count).map(move |at| servers[(at + round as usize) % count])
    }

    /// All of them several times, so that what else the machine does meets each of them alike.
    fn rates(&self, mix: Mix, questions: &mut Questions, scale: &Scale, rows: &mut Rows) {
        let mut sums: Vec<(&Server, Outcome, Duration)> = Vec::new();
        for turn in 0..scale.turns {
            for server in self.in_turn(&ZONES, rows.round + turn) {
                let before = server.cpu();
                let outcome = load(server, questions).closed(scale.slice);
                let cpu = server.cpu() - before;
                match sums.iter_mut().find(|(other, ..)| other.at == server.at) {
                    Some((_, sum, all)) => {
                        sum.add(&outcome);
                        *all += cpu;
                    }
                    None => sums.push((server, outcome, cpu)),
                }
            }
        }
        for (server, outcome, cpu) in sums {
            let name = server.kind.name();
            checked(server, self.of(Figure::Rate, mix), &outcome);
            let in_use = 100.0 * cpu.as_secs_f64() / outcome.took.as_secs_f64();
            rows.put(name, self.of(Figure::Rate, mix), outcome.rate() / 1e3);
            rows.put(name, self.of(Figure::BusyCpu, mix), by_answer(cpu, &outcome));
            rows.put(name, self.of(Figure::Utilised, mix), in_use);
        }
    }

    fn trips(&self, questions: &mut Questions, scale: &Scale, rows: &mut Rows) {
        for server in self.in_turn(&ZONES, rows.round) {
            let before = server.cpu();
            let outcome = load(server, questions).paced(STEADY, scale.steady);
            let cpu = server.cpu() - before;
            checked(server, self.of(Figure::Trip99, Mix::Mostly), &outcome);
            let asked = outcome.right + outcome.wrong + outcome.lost;
            for (figure, value) in [
                (Figure::Trip50, outcome.percentile(50)),
                (Figure::Trip99, outcome.percentile(99)),
                (Figure::SteadyCpu, by_answer(cpu, &outcome)),
                (Figure::Answered, 100.0 * outcome.right as f64 / asked.max(1) as f64),
            ] {
                rows.put(server.kind.name(), self.of(figure, Mix::Mostly), value);
            }
        }
    }

    /// Changes of ours, and the memory of all.
    fn changes(&mut self, scale: &Scale, rows: &mut Rows) {
        let (records, count) = (self.records, scale.changes);
        let (p50, p99) = (self.of(Figure::Change50, Mix::Hits), self.of(Figure::Change99, Mix::Hits));
        for server in self.servers.iter_mut().filter(|server| server.kind == Kind::Warren) {
            let times = change::measure(ASKER, server, records, count);
            rows.put(server.kind.name(), p50, times[times.len() / 2]);
            rows.put(server.kind.name(), p99, times[(times.len() * 99).div_ceil(100) - 1]);
        }
        for server in self.servers.iter().filter(|server| server.kind != Kind::Echo) {
            rows.put(server.kind.name(), self.of(Figure::Resident, Mix::Hits), server.resident());
        }
    }

    fn streams(&self, scale: &Scale, rows: &mut Rows) {
        let mut questions = Questions::new(self.records, Mix::Mostly);
        for server in self.in_turn(&STREAMS, rows.round) {
            let outcome = tcp::load(server.at, &mut questions, scale.connections, scale.streams);
            let of = self.of(Figure::TcpRate, Mix::Mostly);
            checked(server, of, &outcome);
            rows.put(server.kind.name(), of, outcome.rate() / 1e3);
        }
    }

    /// Everything is asked for once, and then again and again.
    fn kept(&self, scale: &Scale, rows: &mut Rows) {
        let mut every = Questions::every(self.records);
        let mut questions = Questions::new(self.records, Mix::Hits);
        for server in self.in_turn(&FORWARDERS, rows.round) {
            let count = every.count() as u64;
            load(server, &mut every).all(count, WARM_MAX);
            let before = server.cpu();
            let outcome = load(server, &mut questions).closed(scale.steady);
            let cpu = server.cpu() - before;
            let of = self.of(Figure::CachedRate, Mix::Hits);
            checked(server, of, &outcome);
            rows.put(server.kind.name(), of, outcome.rate() / 1e3);
            rows.put(server.kind.name(), self.of(Figure::CachedCpu, Mix::Hits), by_answer(cpu, &outcome));
        }
    }
}

fn load<'q>(server: &Server, questions: &'q mut Questions) -> Load<'q> {
    Load::new(ASKER, server.at, questions, server.kind == Kind::Echo)
}

/// Microseconds of a processor for each right answer.
fn by_answer(cpu: Duration, outcome: &Outcome) -> f64 {
    cpu.as_secs_f64() * 1e6 / outcome.right.max(1) as f64
}

/// Tells of what was wrong or lost: a rate with many of them is none.
fn checked(server: &Server, of: Of, outcome: &Outcome) {
    if outcome.wrong > 0 || outcome.lost > 0 {
        let (name, what) = (server.kind.name(), of.figure.words().0);
        say(&format!(
            "{name}, {what}, {} records, {}: {} right, {} wrong, {} lost\n",
            of.records, of.mix, outcome.right, outcome.wrong, outcome.lost
        ));
    }
}

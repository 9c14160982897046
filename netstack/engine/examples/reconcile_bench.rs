//! What one added peer costs a hub with ten thousand: everything in the node, from the patch to the acknowledgement.
//!
//! `cargo run --release -p engine --example reconcile_bench [PEERS] [ROUNDS]` prints one JSON line. Host, disk and
//! server answer at once and are not counted.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a benchmark reads the clock")]

use std::time::{Duration, Instant};

use engine::{Guard, Input, Ledger, Node, NodeConfig, Observed, Output, Role};
use model::wire::{Channel, Frame, Remark};
use model::{Mono, NodeId, Now, PrivateKey, Timestamp};
use server::{Server, Tenant};

#[path = "../tests/engine/server.rs"]
#[expect(dead_code, reason = "the stories need more of it")]
mod server;

const NOW: Now = Now { mono: Mono::from_micros(1), wall: Timestamp::from_unix_micros(1) };

struct Bench {
    node: Node,
    server: Server,
    changes: u64,
    persisted_bytes: usize,
    /// Time spent in the node.
    spent: Duration,
}

impl Bench {
    /// A hub that holds so many peers, on a host that has them.
    fn new(peers: u32) -> Self {
        let guard = Guard {
            blocks: ["100.64.0.0/10", "fd00::/8"].map(|net| net.parse().expect("a net")).into(),
            suffixes: vec!["internal".parse().expect("a name")],
        };
        let config = NodeConfig {
            role: Role::Hub { listen_port: 51820, guard },
            wireguard: PrivateKey::from_bytes([77; 32]),
            software: Remark::new("bench"),
        };
        let mut tenant = Tenant::new(1, NodeId::Hub);
        (0..peers).for_each(|number| tenant.add_device(number));
        let mut bench = Self {
            node: Node::new(config, Ledger::new(), [1; 32]),
            server: Server::new(vec![tenant]),
            changes: 0,
            persisted_bytes: 0,
            spent: Duration::ZERO,
        };
        bench.node.handle_timeout(NOW);
        bench.drain();
        bench
    }

    /// One more peer: how long the node works on it.
    fn add(&mut self, number: u32) -> Duration {
        let frame = self.server.tenant().edit(|tenant| tenant.add_device(number));
        (self.spent, self.changes) = (Duration::ZERO, 0);
        self.give(Input::Received(frame));
        self.drain();
        assert_eq!(self.changes, 1, "one added peer is one change");
        self.spent
    }

    fn give(&mut self, input: Input) {
        let begin = Instant::now();
        self.node.handle(input, NOW);
        self.spent += begin.elapsed();
    }

    fn drain(&mut self) {
        loop {
            let begin = Instant::now();
            let output = self.node.poll_output();
            self.spent += begin.elapsed();
            let Some(output) = output else { return };
            self.answer(output);
        }
    }

    fn answer(&mut self, output: Output) {
        match output {
            Output::Dial => self.give(Input::LinkUp { channel: Channel::Local }),
            Output::Send(frame) => {
                for answer in self.server.take(frame, &Channel::Local) {
                    self.give(Input::Received(answer));
                }
            }
            Output::Persist(bytes) => {
                self.persisted_bytes = bytes.len();
                self.give(Input::Persisted(Ok(())));
            }
            Output::Observe(seat) => self.give(Input::Observed(seat, Ok(Observed::default()))),
            Output::Apply(seat, change) => {
                self.changes += 1;
                self.give(Input::Applied { seat, change, result: Ok(()) });
            }
            Output::Hangup
            | Output::Names(_)
            | Output::Path(_)
            | Output::Ssh(_)
            | Output::Seal { .. }
            | Output::Resolve(_)
            | Output::Event(_) => {}
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let (peers, rounds) = (arguments.next().unwrap_or(10_000), arguments.next().unwrap_or(101));
    let mut bench = Bench::new(peers);
    assert!(bench.node.status().settled && bench.server.received.iter().any(is_holding));
    let mut times: Vec<_> = (0..rounds).map(|round| bench.add(peers + round)).collect();
    times.sort_unstable();
    println!(
        "{{\"peers\":{peers},\"rounds\":{rounds},\"median_micros\":{},\"max_micros\":{},\"ledger_bytes\":{}}}",
        times[times.len() / 2].as_micros(),
        times[times.len() - 1].as_micros(),
        bench.persisted_bytes,
    );
}

fn is_holding(frame: &Frame) -> bool {
    matches!(frame, Frame::Holding(_))
}

//! Handshakes in numbers: how many valid ones an engine answers, and what bogus ones do to a transfer beside them.

use std::fmt::Write as _;
use std::net::{SocketAddrV4, UdpSocket};

use lab::wg::{Bogus, Engine, Flood, Initiator, Pair, Side, numbered_public};

use super::Scale;
use super::rows::{Row, Rows};
use super::traffic::{Iperf, Server};
use crate::usage::process_cpu;

pub(crate) fn measure(engine: &Engine, scale: &Scale, rows: &mut Rows) {
    answered(engine, scale, rows);
    beside(engine, scale, rows);
}

/// One handshake of each of many peers, begun as fast as they are answered.
fn answered(engine: &Engine, scale: &Scale, rows: &mut Rows) {
    let pair = Pair::apart(None, Some(engine));
    let Some(id) = pair.b.process_id() else { return };
    let mut config = format!("[Interface]\nPrivateKey = {}\nListenPort = {}\n", pair.b.private(), Side::PORT);
    for number in 0..scale.initiations {
        let _ = writeln!(config, "[Peer]\nPublicKey = {}", numbered_public(number));
    }
    pair.b.wg("setconf", &[&pair.file("peers.conf", &config)]);
    let initiator = Initiator::new(&pair.a, &pair.b, scale.initiations);
    assert!(initiator.is_well_formed(), "the first MAC is right");
    let before = process_cpu(id);
    let done = initiator.run();
    let used = (process_cpu(id) - before).as_secs_f64();
    rows.put(Row::HandshakesPerCore, f64::from(done.responses) / used.max(1e-9));
    rows.put(Row::HandshakesAnswered, 100.0 * f64::from(done.responses) / f64::from(scale.initiations));
}

/// A transfer alone, beside a flood that is no engine's business, and beside both kinds of bogus initiations.
fn beside(engine: &Engine, scale: &Scale, rows: &mut Rows) {
    let pair = Pair::joined(engine, engine);
    let _server = Server::start(&pair.b);
    let speed = || Iperf::start(&pair, 1, scale.transfer, false).finish().gigabits;
    let alone = speed();
    // Nobody reads from it: the flood ends where the engine's work would begin.
    let outer = pair.b.outer();
    let sink = pair.b.within(move || UdpSocket::bind((outer, 0)).expect("a port"));
    let elsewhere = SocketAddrV4::new(outer, sink.local_addr().expect("is bound").port());
    let flood = Flood::start_against(&pair.a, &pair.b, elsewhere, Bogus::WithMac, scale.flood);
    let others = speed();
    flood.finish();
    rows.put(Row::FloodElsewhere, 100.0 * others / alone);
    for (row, bogus) in [(Row::FloodWithMac, Bogus::WithMac), (Row::FloodWithoutMac, Bogus::WithoutMac)] {
        let flood = Flood::start(&pair.a, &pair.b, bogus, scale.flood);
        let speed = speed();
        flood.finish();
        rows.put(row, 100.0 * speed / others);
    }
}

//! Ten thousand peers: setting them, one more, and what they cost while nothing happens.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::until;
use lab::wg::{Engine, Pair, Side, numbered_public};

use super::Scale;
use super::rows::{Row, Rows};
use crate::usage::{memory, milliseconds, process_cpu};

/// What `wg` and the engine take when something is wrong; nobody would wait for more.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn measure(engine: &Engine, scale: &Scale, rows: &mut Rows) {
    let pair = Pair::apart(None, Some(engine));
    let Some(id) = pair.b.process_id() else { return };
    let path = pair.file("peers.conf", &config(&pair.b.private(), scale.peers));
    let setconf = wg(&["setconf", pair.b.interface(), &path]);
    rows.put(Row::SetConf, setconf.as_secs_f64());
    let shown = pair.b.wg("show", &["peers"]);
    assert_eq!(shown.lines().count(), scale.peers as usize, "every peer is there");
    let _ = until(Duration::from_secs(1), || None::<()>);
    let (before, began) = (process_cpu(id), Instant::now());
    let _ = until(Duration::from_secs(scale.idle), || None::<()>);
    let used = (process_cpu(id) - before).as_secs_f64() / began.elapsed().as_secs_f64();
    rows.put(Row::IdleCpuManyPeers, 100.0 * used);
    rows.put(Row::MemoryManyPeers, memory(id).resident);
    let mut sets: Vec<f64> =
        (0..scale.sets).map(|more| milliseconds(add(&pair.b, scale.peers + more))).collect();
    sets.sort_by(f64::total_cmp);
    rows.put(Row::Set, sets[sets.len() / 2]);
}

fn config(private: &str, peers: u32) -> String {
    let mut config = format!("[Interface]\nPrivateKey = {private}\nListenPort = {}\n", Side::PORT);
    for number in 0..peers {
        let [_, a, b, c] = number.to_be_bytes();
        let key = numbered_public(number);
        let _ = writeln!(
            config,
            "[Peer]\nPublicKey = {key}\nAllowedIPs = 100.{}.{b}.{c}/32, fd64::{number:x}/128\nEndpoint = 192.0.2.1:51820",
            64 + a
        );
    }
    config
}

fn add(side: &Side, number: u32) -> Duration {
    let (key, [_, a, b, c]) = (numbered_public(number), number.to_be_bytes());
    let allowed = format!("100.{}.{b}.{c}/32", 64 + a);
    wg(&["set", side.interface(), "peer", &key, "allowed-ips", &allowed])
}

/// Runs `wg`, which finds the engine by its socket, and says how long it took, its own start included.
fn wg(words: &[&str]) -> Duration {
    let began = Instant::now();
    let output = Command::new("wg").args(words).output().expect("wg starts");
    let took = began.elapsed();
    assert!(output.status.success(), "wg {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(took < PATIENCE, "wg {words:?} took {took:?}");
    took
}

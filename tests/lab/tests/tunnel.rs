//! Our WireGuard engine with itself: bad paths, changes in the middle of a transfer, and many hours in a few seconds.
//! `scripts/soak tunnel` runs the same for longer: `WARREN_SOAK_SECONDS`, `WARREN_SOAK_PACKETS`.
//!
//! ```text
//!   a: 10.9.0.1, in the tunnel 10.77.0.1 ─── (relay beside a) ─── b: 10.9.0.2, in the tunnel 10.77.0.2
//! ```

#![allow(clippy::print_stdout)] // Shown when a story fails, and in a soak.

use std::fs;
use std::time::{Duration, Instant};

use lab::wg::{Engine, Faults, Numbered, Pair, Relay, Shape, Side, Transfer};
use lab::{SOON, until, wait_for};

const MIB: u64 = 1 << 20;
/// A session is replaced after two minutes (WireGuard paper, section 6.1); a soak of this length has seen it.
const SEES_A_REKEY: Duration = Duration::from_secs(130);
/// What memory may grow by between the middle and the end of a soak: an allocator's noise, not a leak.
const GROWTH_BYTES: u64 = 512 << 10;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn ours() -> Pair {
    Pair::joined(&Engine::ours(), &Engine::ours())
}

#[test]
fn packets_on_a_bad_path_arrive_unchanged_and_never_twice() {
    let count = number("WARREN_SOAK_PACKETS", 50_000);
    let pair = Pair::new(&Engine::ours(), &Engine::ours());
    let faults = Faults { lost: 50, doubled: 50, late: 50, damaged: 10 };
    let relay = Relay::start(&pair.a, pair.b.endpoint(), faults, 11);
    pair.a.point_at_port(&pair.b, &relay.address().to_string());
    wait_for("a session over the bad path", Duration::from_secs(40), || pair.a.pings("10.77.0.2"));
    let shape = Shape { count, per_second: 12_000.0, bytes: 8..=1392 };
    let got = Numbered::between(&pair.a, &pair.b).run(&shape);
    let [out, _] = relay.finish();
    println!("{got:?}, relay: {out:?}");
    assert_eq!((got.sent, got.changed, got.twice), (count, 0, 0), "{got:?}");
    assert!([out.lost, out.doubled, out.late].into_iter().all(|some| some * 50 > count), "{out:?}");
    // The relay tells what came to it and what it took; on a busy machine the queue before an engine overflows too.
    let passed_on = out.came - out.lost - out.damaged;
    assert!(out.came * 2 > count && got.arrived * 20 >= passed_on * 19, "{got:?}, relay: {out:?}");
}

/// Changes that an operator or a network makes while bytes flow; the other side may be changed too.
fn change_everything(changed: &Side, other: &Side, pair: &Pair, transfer: &Transfer) {
    let goes_on = |what: &str| transfer.goes_on(4 * MIB, what);
    let same = pair.file("same.conf", &changed.wg("showconf", &[]));
    changed.wg("syncconf", &[&same]);
    goes_on("wg syncconf with the same");
    let fields =
        format!("{}\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.5.0.0/16\n", changed.wg("showconf", &[]), {
            lab::wg::public_of(&lab::wg::random_key())
        });
    changed.wg("syncconf", &[&pair.file("more.conf", &fields)]);
    goes_on("wg syncconf with a peer more");
    changed.wg("syncconf", &[&same]);
    goes_on("wg syncconf with that peer gone");
    changed.wg_set(&format!("listen-port {}", changed.port() + 7));
    goes_on("another port");
    changed.move_away();
    goes_on("another place");
    pair.share_a_key();
    changed.remove_peer(other);
    changed.add_peer(other);
    changed.keep_alive(other, 1);
    changed.point_at(other, &endpoint_host(other));
    pair.share_a_key();
    goes_on("another session, with another preshared key");
}

fn endpoint_host(side: &Side) -> String {
    let shown = side.run(&["ip", "-4", "-o", "addr", "show", "veth"]);
    let net = shown.split_whitespace().find(|word| word.starts_with("10.9.")).expect("an address");
    net.split('/').next().expect("a net").to_owned()
}

#[test]
fn a_transfer_survives_every_change_in_its_middle() {
    let pair = ours();
    // Who only receives would not be heard from a new place.
    for (side, other) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
        side.keep_alive(other, 1);
    }
    let there = Transfer::start(&pair.a, &pair.b, 21);
    there.goes_on(4 * MIB, "its beginning");
    change_everything(&pair.a, &pair.b, &pair, &there);
    change_everything(&pair.b, &pair.a, &pair, &there);
    assert!(there.finish() > 40 * MIB);
}

fn resident_bytes(side: &Side) -> u64 {
    let id = side.process_id().expect("a program");
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[test]
fn memory_is_flat_while_a_transfer_goes_on() {
    let length = Duration::from_secs(number("WARREN_SOAK_SECONDS", 6));
    let pair = ours();
    let first = pair.b.peer(&pair.a).handshake;
    let transfers = [Transfer::start(&pair.a, &pair.b, 31), Transfer::start(&pair.b, &pair.a, 32)];
    for transfer in &transfers {
        transfer.goes_on(32 * MIB, "its beginning");
    }
    let every = (length / 60).max(Duration::from_millis(50));
    let (began, mut samples) = (Instant::now(), Vec::new());
    while began.elapsed() < length {
        let next = every.mul_f64(f64::from(u32::try_from(samples.len() + 1).expect("few")));
        let _ = until(next.saturating_sub(began.elapsed()), || None::<()>);
        samples.push(resident_bytes(&pair.a).max(resident_bytes(&pair.b)));
        for (number, transfer) in transfers.iter().enumerate() {
            transfer.goes_on(MIB, &format!("{:?}, transfer {number}", began.elapsed()));
        }
    }
    let third = samples.len() / 3;
    let (middle, end) = (median(&samples[third..2 * third]), median(&samples[2 * third..]));
    println!("resident: {} KiB in the middle, {} KiB at the end", middle >> 10, end >> 10);
    assert!(end <= middle + GROWTH_BYTES, "memory grows: {samples:?}");
    let moved: u64 = transfers.into_iter().map(Transfer::finish).sum();
    println!("{} MiB in {:?}", moved / MIB, began.elapsed());
    if length >= SEES_A_REKEY {
        wait_for("a later handshake", SOON, || pair.b.peer(&pair.a).handshake > first);
    }
}

/// Ours and wireguard-go, on either side: with a soak's length the session is replaced by its age under load.
#[test]
fn another_engine_replaces_its_sessions_with_ours_under_load() {
    let length = SEES_A_REKEY.min(Duration::from_secs(number("WARREN_SOAK_SECONDS", 2)));
    let go = Engine::named("wireguard-go").expect("Debian has it");
    for (a, b) in [(Engine::ours(), go.clone()), (go, Engine::ours())] {
        let pair = Pair::joined(&a, &b);
        let first = pair.b.peer(&pair.a).handshake;
        let transfer = Transfer::start(&pair.a, &pair.b, 41);
        let began = Instant::now();
        while began.elapsed() < length {
            transfer.goes_on(4 * MIB, &format!("{:?}", began.elapsed()));
        }
        if length >= SEES_A_REKEY {
            wait_for("a later handshake", SOON, || pair.b.peer(&pair.a).handshake > first);
        }
        assert!(transfer.finish() > 0);
    }
}

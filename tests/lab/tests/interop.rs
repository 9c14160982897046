//! Our WireGuard engine and those of others understand each other, whoever begins. `WARREN_WG_PEERS` names the others:
//! Debian's wireguard-go if nothing is said, more of them in `scripts/interop`, the kernel in `scripts/test-kernel`.
//!
//! ```text
//!   a: 10.9.0.1, in the tunnel 10.77.0.1 ─── b: 10.9.0.2, in the tunnel 10.77.0.2     ours is a, then b
//! ```

#![allow(clippy::print_stdout)] // Shown when a story fails.

use std::time::Duration;

use lab::wg::{Bogus, Crowd, Engine, Flood, Pair, Side, Transfer};
use lab::{SOON, wait_for};

const PEERS: &str = "WARREN_WG_PEERS";
const MIB: u64 = 1 << 20;

/// The others, of which every one must be there.
fn others() -> Vec<Engine> {
    let names = std::env::var(PEERS).unwrap_or_else(|_| "wireguard-go".into());
    let known = |name: &str| Engine::named(name).unwrap_or_else(|| panic!("{name} is not there ({PEERS})"));
    names.split_whitespace().map(known).collect()
}

/// Ours with each of the others, on either side.
fn both_ways(story: impl Fn(&Engine, &Engine)) {
    let ours = Engine::ours();
    for other in others() {
        for (a, b) in [(&ours, &other), (&other, &ours)] {
            println!("{a} knows where {b} is");
            story(a, b);
        }
    }
}

/// Seconds since 1970 of the last handshake as ours tells it: boringtun tells how long ago it was.
fn handshake(pair: &Pair, engine_of_a: &Engine) -> u64 {
    let a_is_ours = *engine_of_a == Engine::ours();
    let (ours, other) = if a_is_ours { (&pair.a, &pair.b) } else { (&pair.b, &pair.a) };
    ours.peer(other).handshake
}

#[test]
fn packets_of_every_length_pass_over_both_families() {
    both_ways(|a, b| {
        let pair = Pair::new(a, b);
        for host in ["10.9.0.2", "[fd09::2]"] {
            pair.a.point_at(&pair.b, host);
            pair.a.reaches(&pair.b);
            pair.b.all_come_back(&["-c", "3", "fd77::1"]);
        }
        for bytes in ["0", "1", "15", "16", "17", "1000", "1391", "1392", "4000"] {
            pair.a.all_come_back(&["-c", "2", "-s", bytes, "10.77.0.2"]);
        }
        assert!(handshake(&pair, a) > 0);
    });
}

#[test]
fn bytes_arrive_as_they_were_sent_in_both_directions_at_once() {
    both_ways(|a, b| {
        let pair = Pair::joined(a, b);
        let there = Transfer::start(&pair.a, &pair.b, 1);
        let back = Transfer::start(&pair.b, &pair.a, 2);
        there.goes_on(32 * MIB, "its beginning");
        back.goes_on(32 * MIB, "its beginning");
        assert!(there.finish() >= 32 * MIB && back.finish() >= 32 * MIB);
        let (at_a, at_b) = (pair.a.peer(&pair.b), pair.b.peer(&pair.a));
        assert!(at_a.received > 32 * MIB && at_b.received > 32 * MIB, "{at_a:?} {at_b:?}");
    });
}

#[test]
fn a_preshared_key_is_needed_by_both_or_none() {
    both_ways(|a, b| {
        let pair = Pair::new(a, b);
        pair.share_a_key();
        pair.a.point_at(&pair.b, "10.9.0.2");
        pair.a.reaches(&pair.b);
        let pair = Pair::new(a, b);
        let key = pair.file("other", &lab::wg::random_key());
        pair.b.preshare(&pair.a, &key);
        pair.a.point_at(&pair.b, "10.9.0.2");
        assert!(!pair.a.pings("10.77.0.2"), "only one of them has the key");
        assert_eq!(handshake(&pair, a), 0);
    });
}

/// The side moves while bytes flow to it, and away from it.
fn roam(pair: &Pair, mover: &Side, stays: &Side, also_port: bool) {
    for (from, to) in [(mover, stays), (stays, mover)] {
        let transfer = Transfer::start(from, to, 3);
        transfer.goes_on(MIB, "its beginning");
        let place = mover.move_away();
        if also_port {
            mover.wg_set(&format!("listen-port {}", mover.port() + 1));
        }
        transfer.goes_on(4 * MIB, "a move");
        transfer.finish();
        let seen = || stays.peer(mover).endpoint.starts_with(&format!("{place}:"));
        wait_for("the new place is known", SOON, seen);
        pair.a.all_come_back(&["-c", "3", "10.77.0.2"]);
    }
}

#[test]
fn whoever_moves_is_followed_in_the_middle_of_a_transfer() {
    // Who only receives would not be heard from its new place.
    let pair = |a: &Engine, b: &Engine| {
        let pair = Pair::new(a, b);
        pair.a.keep_alive(&pair.b, 1);
        pair.b.keep_alive(&pair.a, 1);
        pair.a.point_at(&pair.b, "10.9.0.2");
        pair.a.reaches(&pair.b);
        pair
    };
    // Debian's wireguard-go, and boringtun with its connected sockets, go on to send from an address that they no longer
    // have, until their socket is another.
    let also_port = |engine: &Engine| matches!(engine.name(), "wireguard-go" | "boringtun-cli");
    both_ways(|a, b| {
        let first = pair(a, b);
        roam(&first, &first.b, &first.a, also_port(b));
        let second = pair(a, b);
        roam(&second, &second.a, &second.b, also_port(a));
    });
}

/// New handshakes while bytes flow: by a peer that is taken away and given back, and by a new preshared key.
#[test]
fn sessions_are_replaced_in_the_middle_of_a_transfer() {
    both_ways(|a, b| {
        let pair = Pair::joined(a, b);
        let transfer = Transfer::start(&pair.a, &pair.b, 4);
        transfer.goes_on(4 * MIB, "its beginning");
        for _ in 0..3 {
            let before = handshake(&pair, a);
            // Two handshakes within a second have the same time stamp in `wg show`.
            wait_for("another second", SOON, || seconds() > before);
            pair.a.remove_peer(&pair.b);
            pair.a.add_peer(&pair.b);
            pair.a.point_at(&pair.b, "10.9.0.2");
            wait_for("another session", Duration::from_secs(20), || handshake(&pair, a) > before);
            transfer.goes_on(4 * MIB, "another session");
        }
        transfer.finish();
    });
}

fn seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// Ours takes the new key: gotatun refuses one.
#[test]
fn another_private_key_is_followed_in_the_middle_of_a_transfer() {
    both_ways(|a, b| {
        let pair = Pair::joined(a, b);
        let (ours, other) = if *a == Engine::ours() { (&pair.a, &pair.b) } else { (&pair.b, &pair.a) };
        let transfer = Transfer::start(&pair.a, &pair.b, 5);
        transfer.goes_on(4 * MIB, "its beginning");
        other.remove_peer(ours);
        ours.renew_key();
        other.add_peer(ours);
        pair.a.point_at(&pair.b, "10.9.0.2");
        transfer.goes_on(4 * MIB, "another key");
        transfer.finish();
    });
}

/// Enough to have every engine ask for cookies; they answer a handshake that brings one all the same.
#[test]
fn a_handshake_gets_through_a_flood_by_its_cookie() {
    both_ways(|a, b| {
        let pair = Pair::new(a, b);
        let flood = Flood::start(&pair.a, &pair.b, Bogus::WithMac, 20_000.0);
        pair.a.point_at(&pair.b, "10.9.0.2");
        wait_for("a handshake in the flood", Duration::from_secs(40), || pair.a.pings("10.77.0.2"));
        assert!(flood.finish() > 0);
        pair.a.all_come_back(&["-c", "5", "10.77.0.2"]);
    });
}

#[test]
fn a_hundred_peers_have_their_sessions_whoever_begins() {
    for hub_begins in [false, true] {
        let pair = Pair::apart(None, Some(&Engine::ours()));
        pair.b.renew_key();
        pair.b.wg_set(&format!("listen-port {}", Side::PORT));
        let mut crowd = Crowd::new(&pair.a, &pair.b, 100, hub_begins);
        assert_eq!(crowd.all_ping(!hub_begins, Duration::from_secs(30)), 100);
        let shown = pair.b.wg("show", &["latest-handshakes"]);
        assert_eq!(shown.lines().filter(|line| !line.ends_with("\t0")).count(), 100, "{shown}");
    }
}

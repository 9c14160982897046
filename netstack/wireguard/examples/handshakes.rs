//! Prints how many handshakes one core answers in a second: `cargo run --release -p wireguard --example handshakes`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures, so it has a clock")]
#![allow(clippy::print_stdout, reason = "it is there to print")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use model::PrivateKey;
use wireguard::Tai64n;
use wireguard::cookie::{mac1_is_valid, stamp};
use wireguard::noise::{Claimed, Local, Remote, initiate};

const RUNS: u32 = 100;
const RUN: Duration = Duration::from_millis(20);

fn main() {
    let ours = Local::new(&PrivateKey::from_bytes([1; 32]));
    let theirs = Local::new(&PrivateKey::from_bytes([2; 32]));
    let us = Remote::new(&theirs, ours.public()).expect("a made key is not of low order");
    let them = Remote::new(&ours, theirs.public()).expect("a made key is not of low order");
    let begin = || {
        let mut begun = initiate(&theirs, &us, 1, Tai64n::from_wall(Duration::ZERO), &[3; 32]);
        stamp(&mut begun.1, &us, None);
        begun
    };
    let answer = |message: &[u8; 148]| {
        let verified = Claimed::open(&ours, message)?.verify(&them)?;
        let (mut response, keys) = verified.respond(&them, &[0; 32], 2, &[4; 32]);
        stamp(&mut response, &them, None);
        Some((response, keys))
    };
    let (initiator, message) = begin();
    let (response, _) = answer(&message).expect("the peer is known");
    let mut forged = message;
    forged[116] ^= 1;

    print("begun", || drop(black_box(begin())));
    print("answered", || drop(black_box(answer(black_box(&message)))));
    print("finished", || drop(black_box(initiator.finish(&theirs, &[0; 32], black_box(&response)))));
    print("claims opened", || drop(black_box(Claimed::open(&ours, black_box(&message)))));
    print("forgeries refused", || {
        black_box(mac1_is_valid(&ours, black_box(&forged)));
    });
}

/// The best of many short runs: a busy machine disturbs some of them, not all.
fn print(what: &str, mut once: impl FnMut()) {
    let best = (0..RUNS).map(|_| {
        let start = Instant::now();
        let mut count = 0_u32;
        while start.elapsed() < RUN {
            (0..10).for_each(|_| once());
            count += 10;
        }
        f64::from(count) / start.elapsed().as_secs_f64()
    });
    println!("{what:<20} {:>10.0} a second", best.fold(0.0, f64::max));
}

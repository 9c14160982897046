//! How fast each cipher of this machine is: Gbit/s of text, sealed and opened, by length and by packets at once.
//!
//! The ciphers take turns, so that a busy moment of the machine meets all of them; each figure is the median of its
//! rounds. Arguments: how many rounds; then, for one line only, a length and a batch.

#![allow(clippy::print_stdout, reason = "it is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use chacha::{Cipher, Job, Key, TAG_BYTES};

const LENGTHS: [usize; 4] = [64, 256, 1420, 1452];
const BATCHES: [usize; 11] = [1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64];
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(2);

fn main() {
    let arguments: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let rounds = arguments.first().copied().unwrap_or(ROUNDS);
    let ciphers = Cipher::available();
    print!("{:>6} {:>6}", "bytes", "batch");
    for cipher in &ciphers {
        print!(" {:>15} {:>6}", format!("{cipher} seal"), "open");
    }
    println!();
    for length in LENGTHS.into_iter().filter(|length| arguments.get(1).is_none_or(|only| only == length)) {
        for batch in BATCHES.into_iter().filter(|batch| arguments.get(2).is_none_or(|only| only == batch)) {
            print!("{length:>6} {batch:>6}");
            for (seal, open) in medians(&ciphers, length, batch, rounds) {
                print!(" {seal:>15.2} {open:>6.2}");
            }
            println!();
        }
    }
    if arguments.len() < 2 {
        mixed(&ciphers, rounds);
    }
}

/// Gbit/s of each cipher, sealing and opening.
fn medians(ciphers: &[Cipher], length: usize, batch: usize, rounds: usize) -> Vec<(f64, f64)> {
    let mut figures = vec![(Vec::new(), Vec::new()); ciphers.len()];
    let mut packets = Packets::new(&vec![length; batch]);
    for _ in 0..rounds {
        for (cipher, (seals, opens)) in ciphers.iter().zip(&mut figures) {
            seals.push(packets.seal(*cipher));
            opens.push(packets.open(*cipher));
        }
    }
    figures.into_iter().map(|(seals, opens)| (median(seals), median(opens))).collect()
}

/// What a queue holds where bulk and acknowledgements meet.
fn mixed(ciphers: &[Cipher], rounds: usize) {
    let shapes: [(&str, Vec<usize>); 4] = [
        ("one long among 15 short", (0..16).map(|n| if n == 7 { 1420 } else { 64 }).collect()),
        ("long and short by turns", (0..16).map(|n| if n % 2 == 0 { 1420 } else { 64 }).collect()),
        ("15 long, one short", (0..16).map(|n| if n == 7 { 64 } else { 1420 }).collect()),
        ("evenly spread", (0..16).map(|n| n * 90 + 64).collect()),
    ];
    for (name, lengths) in shapes {
        let mut figures = vec![Vec::new(); ciphers.len()];
        let mut packets = Packets::new(&lengths);
        for _ in 0..rounds {
            for (cipher, seals) in ciphers.iter().zip(&mut figures) {
                seals.push(packets.seal(*cipher));
            }
        }
        print!("{name}:");
        for (cipher, seals) in ciphers.iter().zip(figures) {
            print!(" {cipher} {:.2}", median(seals));
        }
        println!();
    }
}

struct Packets {
    key: Key,
    bits: usize,
    bytes: Vec<Vec<u8>>,
    sealed: Vec<Vec<u8>>,
}

impl Packets {
    fn new(lengths: &[usize]) -> Self {
        let bytes = lengths.iter().map(|length| vec![0; length + TAG_BYTES]).collect();
        let mut packets = Self {
            key: Key::new(&[7; 32]),
            bits: lengths.iter().sum::<usize>() * 8,
            bytes,
            sealed: Vec::new(),
        };
        Cipher::Reference.seal(jobs(&packets.key, &mut packets.bytes));
        packets.sealed = packets.bytes.clone();
        packets
    }

    fn seal(&mut self, cipher: Cipher) -> f64 {
        let bits = self.bits;
        speed(bits, || cipher.seal(jobs(&self.key, &mut self.bytes)))
    }

    /// With the time that it takes to put the sealed bytes back, which is taken off again.
    fn open(&mut self, cipher: Cipher) -> f64 {
        let bits = self.bits;
        let copies = speed(bits, || restore(&mut self.bytes, &self.sealed));
        let both = speed(bits, || {
            restore(&mut self.bytes, &self.sealed);
            cipher.open(jobs(&self.key, &mut self.bytes), |_, right| assert!(right));
        });
        1.0 / (1.0 / both - 1.0 / copies)
    }
}

fn restore(bytes: &mut [Vec<u8>], sealed: &[Vec<u8>]) {
    for (bytes, sealed) in bytes.iter_mut().zip(sealed) {
        black_box(&mut *bytes).copy_from_slice(sealed);
    }
}

fn jobs<'a>(key: &'a Key, bytes: &'a mut [Vec<u8>]) -> impl Iterator<Item = Job<'a>> {
    bytes.iter_mut().enumerate().map(move |(counter, bytes)| Job { key, counter: counter as u64, bytes })
}

/// Gbit/s over one round.
fn speed(bits: usize, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut runs = 0;
    while start.elapsed() < ROUND {
        for _ in 0..16 {
            work();
        }
        runs += 16;
    }
    (bits * runs) as f64 / start.elapsed().as_nanos() as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

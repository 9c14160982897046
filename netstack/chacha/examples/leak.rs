//! Whether time tells secrets: two classes of inputs take turns by chance, and Welch's t-test says whether their times
//! differ (the method of dudect: Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?", 2017).
//!
//! A control that must differ shows that the measurement sees anything at all. Ends with code 1 if a cipher seems to
//! leak in every one of its tries, or if the control is not seen. An argument is the number of measurements a try.

#![allow(clippy::print_stdout, reason = "it is what it is for")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use chacha::{Cipher, Job, Key, TAG_BYTES};

const BATCH: usize = 16;
const LENGTH: usize = 96;
const MEASUREMENTS: usize = 60_000;
/// dudect's: above it, a leak is all but certain.
const T_MAX: f64 = 10.0;
/// A busy machine may fool one try.
const TRIES: usize = 3;
/// The slowest part of the measurements met an interrupt and says nothing.
const KEPT: f64 = 0.9;

/// What differs between the two classes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Question {
    /// Sealing: always the same keys, or others each time.
    Keys,
    /// Sealing: a text of zeros, or another each time.
    Texts,
    /// Opening: always the same packets, or others each time.
    Packets,
    /// Refusing: the first byte of each tag is wrong, or the last.
    Tags,
    /// The control: right tags, or wrong ones. The verdict is public, and refusing is less work.
    Verdicts,
}

const QUESTIONS: [Question; 4] = [Question::Keys, Question::Texts, Question::Packets, Question::Tags];

fn main() -> ExitCode {
    let measurements = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(MEASUREMENTS);
    let mut sound = true;
    for cipher in Cipher::available() {
        for question in QUESTIONS {
            let tries: Vec<f64> = tries(cipher, question, measurements, |t| t < T_MAX);
            let passed = tries.iter().any(|t| *t < T_MAX);
            // ring is the measure of the others, not what is tested here.
            sound &= passed || cipher == Cipher::Reference;
            report(cipher, question, &tries, if passed { "no leak seen" } else { "LEAKS" });
        }
        let tries = tries(cipher, Question::Verdicts, measurements, |t| t > T_MAX);
        let seen = tries.iter().any(|t| *t > T_MAX);
        sound &= seen;
        report(cipher, Question::Verdicts, &tries, if seen { "seen, as it must be" } else { "BLIND" });
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(cipher: Cipher, question: Question, tries: &[f64], verdict: &str) {
    let tries: Vec<String> = tries.iter().map(|t| format!("{t:.1}")).collect();
    println!(
        "{cipher:>10} {:<9} |t| {:<20} {verdict}",
        format!("{question:?}").to_lowercase(),
        tries.join(", ")
    );
}

/// |t| of each try, until one is good enough.
fn tries(cipher: Cipher, question: Question, measurements: usize, enough: impl Fn(f64) -> bool) -> Vec<f64> {
    let mut tries = Vec::new();
    while tries.len() < TRIES && !tries.last().is_some_and(|t| enough(*t)) {
        tries.push(once(cipher, question, measurements, tries.len() as u64));
    }
    tries
}

fn once(cipher: Cipher, question: Question, measurements: usize, seed: u64) -> f64 {
    let mut numbers = Numbers(seed);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..measurements {
        let class = numbers.next() % 2;
        times[class as usize].push(measure(cipher, question, class == 1, &mut numbers));
    }
    let mut all: Vec<f64> = times.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let limit = all[(all.len() as f64 * KEPT) as usize];
    let [first, second] = times.map(|times| Sample::of(times.into_iter().filter(|time| *time <= limit)));
    (first.mean - second.mean).abs() / (first.error + second.error).sqrt()
}

/// Nanoseconds for one batch. All is made anew, for both classes by the same writes; for `second`, a mask makes some of
/// it zeros.
fn measure(cipher: Cipher, question: Question, second: bool, numbers: &mut Numbers) -> f64 {
    let kept = |questions: [Question; 2]| if second && questions.contains(&question) { 0 } else { u64::MAX };
    let mut keys = [[0; 32]; BATCH];
    let mask = kept([Question::Keys, Question::Packets]);
    keys.iter_mut().for_each(|key| numbers.fill(key, mask));
    let mut packets = [[0; LENGTH + TAG_BYTES]; BATCH];
    let mask = kept([Question::Texts, Question::Packets]);
    packets.iter_mut().for_each(|packet| numbers.fill(packet, mask));
    let keys = keys.map(|key| Key::new(&key));
    let opens = matches!(question, Question::Packets | Question::Tags | Question::Verdicts);
    if opens {
        Cipher::Reference.seal(jobs(&keys, &mut packets));
    }
    for packet in &mut packets {
        let (first, last) = match question {
            Question::Tags => (u8::from(!second), u8::from(second)),
            Question::Verdicts => (u8::from(second), 0),
            _ => (0, 0),
        };
        packet[LENGTH] ^= first;
        packet[LENGTH + TAG_BYTES - 1] ^= last;
    }
    let packets = black_box(&mut packets);
    let start = Instant::now();
    if opens {
        cipher.open(jobs(&keys, packets), |_, right| {
            black_box(right);
        });
    } else {
        cipher.seal(jobs(&keys, packets));
    }
    let time = start.elapsed().as_nanos() as f64;
    black_box(packets);
    time
}

fn jobs<'a>(
    keys: &'a [Key; BATCH],
    packets: &'a mut [[u8; LENGTH + TAG_BYTES]; BATCH],
) -> impl Iterator<Item = Job<'a>> {
    keys.iter().zip(packets).map(|(key, bytes)| Job { key, counter: 1, bytes })
}

/// The mean of times, and the square of its standard error.
struct Sample {
    mean: f64,
    error: f64,
}

impl Sample {
    fn of(times: impl Iterator<Item = f64>) -> Self {
        let times: Vec<f64> = times.collect();
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let squares: f64 = times.iter().map(|time| (time - mean).powi(2)).sum();
        Self { mean, error: squares / (count - 1.0) / count }
    }
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fill(&mut self, bytes: &mut [u8], mask: u64) {
        for bytes in bytes.as_chunks_mut().0 {
            *bytes = (self.next() & mask).to_le_bytes();
        }
    }
}

//! What a table of names weighs and how fast it is: memory, one change, hits, NODATA, NXDOMAIN.
//!
//! ```text
//! cargo run --release -p dns --example weigh [RECORDS…]      10 000, 100 000 and 1 000 000 if nothing is said
//! ```
//!
//! Each size in a process of its own, so that one does not weigh in the next. Names come in patches, as they would over
//! time: a whole zone is its own weight beside the table while it is compiled.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "an example is a program: it measures and prints"
)]

use std::hint::black_box;
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use dns::{Answer, HOT_BUFFER_BYTES, Hot, Names, Transport};
use model::patch::ZonePatch;
use model::{Block, Generation, Name, Record, RecordData, RecordSet, TenantId, Zone};

const TENANT: TenantId = TenantId::from_bytes([1; 16]);
const ASKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
/// Names of one patch while the table is filled.
const STEP: u32 = 1_000;
const QUESTIONS: u32 = 200_000;
const ROUNDS: u32 = 10;
const CHANGES: u64 = 2_000;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [what, count] = arguments.as_slice()
        && let (Some(devices), Ok(count)) = (devices(what), count.parse())
    {
        return weigh(devices, count);
    }
    let sizes = if arguments.is_empty() {
        vec!["10000".into(), "100000".into(), "1000000".into()]
    } else {
        arguments
    };
    println!(
        "records   of        MiB  bytes/record  change us (p99)   hit  other type  missing  wild  alias  PTR  slow hit   ns each"
    );
    let own = env::current_exe().expect("this program");
    for size in &sizes {
        for what in ["addresses", "devices"] {
            let status = Command::new(&own).args([what, size]).status().expect("this program runs");
            assert!(status.success(), "{what} {size}");
        }
    }
}

fn devices(what: &str) -> Option<bool> {
    match what {
        "addresses" => Some(false),
        "devices" => Some(true),
        _ => None,
    }
}

/// `devices`: names with both addresses, which answer PTR: four records each. Otherwise one A record each.
fn weigh(devices: bool, records: u32) {
    let names = Names::new([7; 32]);
    let block = Block::from_nets("10.0.0.0/8".parse().expect("a net"), "fd00::/48".parse().expect("a net"));
    let (block, origin): (Block, Name) = (block.expect("a block"), "home.internal".parse().expect("a name"));
    let empty = resident();
    names.whole(TENANT, Generation(1), &Zone::new(origin.clone(), block)).expect("alone");
    let owner = |n: u32| origin.below(&format!("host-{n}").parse().expect("a name")).expect("short");
    let one = |n: u32| Record { data: RecordData::A((0x0b00_0000 + n).into()), ttl: 30 };
    let set = |n: u32| match devices {
        true => RecordSet::of_node(block.host(n + 2).expect("in the block")),
        false => RecordSet { records: vec![one(n)], reverse: false },
    };
    let count = if devices { records / 4 } else { records };
    for first in (0..count).step_by(STEP as usize) {
        let set = (first..count.min(first + STEP)).map(|n| (owner(n), set(n))).collect();
        let patch = ZonePatch { set, ..ZonePatch::default() };
        names.patch(TENANT, Generation(2), &patch).expect("known");
    }
    let full = resident();
    let (median, worst) = changes(&names, &owner, &set, count);
    let extra = [("*.wild", "A", "192.0.2.1"), ("alias", "CNAME", "host-7.home.internal")].map(
        |(name, kind, value)| {
            let data = RecordData::parse(kind, value).expect("a record");
            let name = origin.below(&name.parse().expect("a name")).expect("short");
            (name, RecordSet { records: vec![Record { data, ttl: 30 }], reverse: false })
        },
    );
    let patch = ZonePatch { set: extra.into(), ..ZonePatch::default() };
    names.patch(TENANT, Generation(3), &patch).expect("known");

    let time = |kind: u16, name: &dyn Fn(u32) -> String| hot(&names, kind, &|n| name(n % count));
    let spread =
        |n: u32| u32::try_from(u64::from(n) * 7_919 % u64::from(count)).expect("less than the count");
    let hit = time(1, &|n| format!("host-{}.home.internal", spread(n)));
    let other = time(16, &|n| format!("host-{}.home.internal", spread(n)));
    let missing = time(1, &|n| format!("none-{}.home.internal", spread(n)));
    let wild = time(1, &|n| format!("any-{}.wild.home.internal", spread(n)));
    let alias = time(1, &|_| "alias.home.internal".into());
    let pointer = time(12, &|n| {
        let [a, b, c, d] = (0x0a00_0002 + spread(n)).to_be_bytes();
        format!("{d}.{c}.{b}.{a}.in-addr.arpa")
    });
    let slow = slow(&names, &|n| format!("host-{}.home.internal", spread(n)));
    println!(
        "{records:>7}   {:<9} {:>4.1}  {:>12.1}  {:>7.1} ({:>5.1})  {hit:>4}  {other:>10}  {missing:>7}  {wild:>4}  {alias:>5}  {pointer:>3}  {slow:>8}",
        if devices { "devices" } else { "addresses" },
        full as f64 / 1_048_576.0,
        full.saturating_sub(empty) as f64 / f64::from(records),
        median.as_secs_f64() * 1e6,
        worst.as_secs_f64() * 1e6,
    );
}

/// Bytes of this process that are in memory (proc(5)).
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/statm").expect("proc is there");
    let pages: usize = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// From a change to its first answer: median and 99th of a hundred.
fn changes(
    names: &Names,
    owner: &dyn Fn(u32) -> Name,
    set: &dyn Fn(u32) -> RecordSet,
    count: u32,
) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..CHANGES)
        .map(|n| {
            let at = u32::try_from(n * 7_919 % u64::from(count)).expect("less than the count");
            let changed = ZonePatch { set: vec![(owner(at), set(at + 1))], ..ZonePatch::default() };
            let asked = query(&owner(at).to_string(), 1);
            let begun = Instant::now();
            names.patch(TENANT, Generation(10 + n), &changed).expect("known");
            black_box(ask(names, &asked, &mut [0; HOT_BUFFER_BYTES]));
            let taken = begun.elapsed();
            let back = ZonePatch { set: vec![(owner(at), set(at))], ..ZonePatch::default() };
            names.patch(TENANT, Generation(10 + n), &back).expect("known");
            taken
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Nanoseconds for a question on the hot path, without making it: the least of some rounds.
fn hot(names: &Names, kind: u16, name: &dyn Fn(u32) -> String) -> u64 {
    let asked: Vec<Vec<u8>> = (0..QUESTIONS).map(|n| query(&name(n), kind)).collect();
    let mut buffer = [0; HOT_BUFFER_BYTES];
    least(&mut || asked.iter().for_each(|query| _ = black_box(ask(names, query, &mut buffer))))
}

fn slow(names: &Names, name: &dyn Fn(u32) -> String) -> u64 {
    let asked: Vec<Vec<u8>> = (0..QUESTIONS).map(|n| query(&name(n), 1)).collect();
    least(&mut || {
        for query in &asked {
            assert!(matches!(black_box(names.answer(query, ASKER, Transport::Udp)), Answer::Reply { .. }));
        }
    })
}

fn least(round: &mut dyn FnMut()) -> u64 {
    let time = |_| {
        let begun = on_processor();
        round();
        (on_processor() - begun) / u64::from(QUESTIONS)
    };
    (0..ROUNDS).map(time).min().expect("a round")
}

/// Nanoseconds that this thread had the processor, whatever others had meanwhile (proc(5), schedstat).
fn on_processor() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("proc is there");
    text.split(' ').next().and_then(|first| first.parse().ok()).expect("a number")
}

fn ask(names: &Names, query: &[u8], buffer: &mut [u8; HOT_BUFFER_BYTES]) -> usize {
    buffer[..query.len()].copy_from_slice(query);
    match names.answer_in_place(buffer, query.len(), ASKER) {
        Hot::Reply { length, .. } => length,
        other => panic!("{other:?} to {query:02x?}"),
    }
}

/// With EDNS, as resolvers ask.
fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut query = b"\x42\x42\x01\0\0\x01\0\0\0\0\0\x01".to_vec();
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("a short label"));
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(b"\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0");
    query
}

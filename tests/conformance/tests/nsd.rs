//! Ours beside NSD: codes, flags, sections and TTLs are the same, but for what is listed with its reason.
//!
//! `WARREN_DNS_QUERIES` says how many questions are asked (5 000 if nothing is said), `WARREN_DNS_SEED` which.

use std::collections::BTreeMap;
use std::net::IpAddr;

use conformance::{Asker, Home, Nsd, Said, TC, level};
use dns::{HOT_BUFFER_BYTES, Hot, Names, Transport};

/// Questions that are on their way at once: few enough for a socket's queue.
const AT_ONCE: usize = 64;
const QUERIES: u64 = 5_000;
/// Shown of what differs.
const SHOWN: usize = 10;

fn set_to(variable: &str, otherwise: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Our answer to a datagram, by the hot path where it knows one, which is then the slow path's to the last bit.
fn ours(names: &Names, query: &[u8], source: IpAddr, hot: &mut usize) -> Vec<u8> {
    let (slow, _) = names.answer(query, source, Transport::Udp).into_reply().expect("a query is answered");
    let mut buffer = [0; HOT_BUFFER_BYTES];
    buffer[..query.len()].copy_from_slice(query);
    if let Hot::Reply { length, .. } = names.answer_in_place(&mut buffer, query.len(), source) {
        *hot += 1;
        assert_eq!(buffer[..length], slow, "both paths say the same to {query:02x?}");
    }
    slow
}

#[derive(Default)]
struct Tally {
    differences: Vec<String>,
    excused: BTreeMap<&'static str, usize>,
    codes: BTreeMap<u16, usize>,
    hot: usize,
    by_stream: usize,
}

impl Tally {
    fn compare(&mut self, query: &[u8], ours: &[u8], theirs: &[u8]) -> bool {
        let (mut ours, mut theirs) = (Said::read(ours), Said::read(theirs));
        assert_eq!(ours.question, query[12..12 + ours.question.len()], "the question comes back as it was");
        *self.codes.entry(ours.code).or_default() += 1;
        for excuse in level(query, &mut ours, &mut theirs) {
            *self.excused.entry(excuse.reason).or_default() += 1;
        }
        if ours != theirs {
            self.differences.push(format!("  ours {ours:?}\n  NSD  {theirs:?}"));
        }
        ours.has(TC) || theirs.has(TC)
    }
}

#[test]
fn answers_are_those_of_nsd() {
    let (queries, first) = (set_to("WARREN_DNS_QUERIES", QUERIES), set_to("WARREN_DNS_SEED", 0));
    let mut tally = Tally::default();
    for seed in [first, first + 1] {
        let home = Home::new(seed);
        let nsd = Nsd::start(&home);
        let mut asker = Asker::new(&home, seed);
        let asked: Vec<Vec<u8>> = (0..queries / 2).map(|n| asker.query(n as u32)).collect();
        for some in asked.chunks(AT_ONCE) {
            for (query, theirs) in some.iter().zip(nsd.ask(some)) {
                let answer = ours(&home.names, query, home.asker(), &mut tally.hot);
                if tally.compare(query, &answer, &theirs) {
                    tally.by_stream += 1;
                    let answer = home.names.answer(query, home.asker(), Transport::Tcp).into_reply();
                    let (answer, _) = answer.expect("a query is answered");
                    tally.compare(query, &answer, &nsd.ask_by_stream(query));
                }
            }
        }
    }
    println!("{queries} questions, {} by the hot path, {} again over TCP", tally.hot, tally.by_stream);
    println!("codes {:?}", tally.codes);
    for (reason, count) in &tally.excused {
        println!("{count:>7} differ, and may: {reason}");
    }
    let shown: Vec<&str> = tally.differences.iter().take(SHOWN).map(String::as_str).collect();
    assert!(shown.is_empty(), "{} differ, from seed {first}:\n{}", tally.differences.len(), shown.join("\n"));
    // What was compared is what there is to compare.
    assert!(tally.hot as u64 > queries / 2 && tally.by_stream > 0);
    for code in [0, 3, 4, 5, 16] {
        assert!(tally.codes.contains_key(&code), "no answer had the code {code}");
    }
}

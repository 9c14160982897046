//! Paths between devices behind NATs: one seed is one run, and every run holds.

use sim::Verbosity;
use sim::mesh::{MeshSabotage, lost_by_kernel, met_after, run, run_with};

#[test]
fn one_seed_is_one_run() {
    let [first, again] = [Verbosity::Silent, Verbosity::All].map(|verbosity| run(5, verbosity));
    assert_eq!((first.digest, first.events), (again.digest, again.events));
    assert_ne!(first.digest, run(6, Verbosity::Silent).digest);
}

#[test]
fn paths_are_found_kept_and_left_as_nats_allow() {
    let (mut must, mut are, mut hard) = (0, 0, [0, 0]);
    for seed in 0..60 {
        let outcome = run(seed, Verbosity::Silent);
        if let Some(violation) = outcome.violation {
            let told = run(seed, Verbosity::Story);
            panic!("seed {seed}: {}: {}\n{}", violation.invariant, violation.detail, told.story);
        }
        must += outcome.pairs[1];
        are += outcome.pairs[2];
        hard = [hard[0] + outcome.hard[0], hard[1] + outcome.hard[1]];
    }
    // NATs that count are half of them.
    assert!(hard[1] * 5 > hard[0], "of {} pairs that need a guess, {} are direct", hard[0], hard[1]);
    assert!(must > 50 && are >= must, "{must} must be direct, {are} are");
}

#[test]
fn a_kernel_that_is_held_loses_less_where_only_its_own_packets_are_lost() {
    let lost = |holds| {
        let each = (0..24).map(|seed| lost_by_kernel(seed, holds).as_millis());
        (each.clone().sum::<u128>() / 24, each.max().expect("some runs"))
    };
    let (held, strays) = (lost(true), lost(false));
    assert!(held.1 < 500 && held.0 + 50 < strays.0, "mean and worst: {held:?}, {strays:?}");
}

/// Each breach has this many to be found in: it shows only where what is broken is needed.
const RUNS: u64 = 120;

#[track_caller]
fn check(sabotage: MeshSabotage, expect: &[&str]) {
    for seed in 0..RUNS {
        if let Some(violation) = run_with(seed, Verbosity::Silent, Some(sabotage)).violation {
            let found = violation.invariant;
            assert!(expect.contains(&found), "{sabotage:?}, seed {seed}: {found}: {}", violation.detail);
            return;
        }
    }
    panic!("{sabotage:?} was not found in {RUNS} runs");
}

#[test]
fn a_model_that_is_broken_on_purpose_is_found_out() {
    let not_found = ["a-path-that-must-be-there-is-found", "a-path-that-is-there-again-is-found"];
    check(MeshSabotage::HintsAreLost, &not_found);
    let lied_to = [&not_found[..], &["what-nats-remember-is-learnt"]].concat();
    check(MeshSabotage::ServerLies, &lied_to);
    check(MeshSabotage::NobodyRaces, &["who-talks-is-heard"]);
    check(MeshSabotage::NobodyDoubles, &["a-path-that-ends-costs-a-probe-interval"]);
    check(MeshSabotage::RelayEatsPackets, &["who-talks-is-heard", "long-packets-are-heard"]);
    check(
        MeshSabotage::PingsAreLost,
        &["ways-do-not-flap", "a-path-is-found-soon", "a-path-that-must-be-there-is-found"],
    );
    check(MeshSabotage::TrafficNeverEnds, &["silence-costs-nothing"]);
    check(MeshSabotage::LongPingsPass, &["long-packets-are-heard", "narrow-paths-are-left"]);
}

/// A NAT that gives each remote another port, against one that lets in only who was talked to: where the next port cannot be guessed,
/// many sockets meet many guesses.
#[test]
fn what_chance_decides_is_won_soon() {
    const SEEDS: u64 = 40;
    let check = |stride, crowd| {
        let won = (0..SEEDS).filter_map(|seed| met_after(seed, stride, crowd));
        let soon = won.filter(|after| after.as_secs() < 15).count();
        assert!(
            soon * 10 >= 9 * SEEDS as usize,
            "{soon} of {SEEDS}, ports {stride} apart, {crowd} for others"
        );
    };
    check(0, 0);
    check(1, 300);
    check(1, 1000);
}

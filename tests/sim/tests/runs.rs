//! The simulator itself: one seed is one run, a few runs hold, and a model that is broken on purpose is found out.

use sim::{Betrayal, Sabotage, Scenario, Verbosity, run};

/// Seeds are tried until one run meets the broken part: not every run has, say, two edits of one version.
const TRIES: u64 = 12;

#[track_caller]
fn check(sabotage: Sabotage, expect: &[&str]) {
    for seed in 0..TRIES {
        let scenario = Scenario::new(seed).with(sabotage);
        if let Some(violation) = run(scenario, Verbosity::Silent).violation {
            let found = violation.invariant;
            assert!(expect.contains(&found), "{sabotage:?}, seed {seed}: {found}: {}", violation.detail);
            return;
        }
    }
    panic!("{sabotage:?} was not found in {TRIES} runs");
}

#[test]
fn one_seed_is_one_run() {
    let [first, again, told] = [Verbosity::Silent, Verbosity::Silent, Verbosity::All].map(|verbosity| {
        let outcome = run(Scenario::new(3), verbosity);
        (outcome.digest, outcome.events)
    });
    assert_eq!(first, again);
    assert_eq!(first, told, "what is told changes nothing");
    assert_ne!(first.0, run(Scenario::new(4), Verbosity::Silent).digest);
}

#[test]
fn a_few_runs_hold() {
    for seed in 0..8 {
        let outcome = run(Scenario::new(seed), Verbosity::Silent);
        assert_eq!(outcome.violation, None, "seed {seed}");
        assert!(outcome.events > 100, "seed {seed} had {} events", outcome.events);
    }
}

#[test]
fn a_store_that_forks_is_found() {
    check(
        Sabotage::Store(Betrayal::Forks),
        &[
            "generations-only-grow",
            "edits-touch-what-they-name",
            "live-devices-differ",
            "generations-never-fork",
        ],
    );
}

#[test]
fn a_store_that_lets_tokens_in_forever_is_found() {
    check(
        Sabotage::Store(Betrayal::TokensForever),
        &["tokens-let-in-no-more-than-their-uses", "edits-touch-what-they-name"],
    );
}

#[test]
fn a_store_that_forgets_is_found() {
    check(
        Sabotage::Store(Betrayal::Forgets),
        &["acknowledged-edits-are-stored", "generations-only-grow", "published-is-stored"],
    );
}

#[test]
fn a_hub_that_drops_peers_is_found() {
    check(Sabotage::HostDropsPeers, &["settles"]);
}

#[test]
fn a_firewall_that_lacks_a_tenant_is_found() {
    check(Sabotage::FirewallLacksTenant, &["settles"]);
}

#[test]
fn names_that_outlive_their_device_are_found() {
    check(Sabotage::NamesLag, &["nothing-is-answered-for-the-revoked"]);
}

#[test]
fn a_disk_that_lies_is_found() {
    check(Sabotage::DisksLie, &["acknowledged-is-on-disk"]);
}

#[test]
fn a_private_key_on_the_wire_is_found() {
    check(Sabotage::LeaksKey, &["private-keys-stay"]);
}

#[test]
fn programs_that_begin_anew_again_and_again_are_found() {
    check(Sabotage::RestartsForget, &["restarts-are-done-once"]);
}

#[test]
fn a_host_that_is_never_left_alone_is_found() {
    check(Sabotage::HumanNeverRests, &["quiet-hour", "settles"]);
}

#[test]
fn rotations_that_wait_for_nobody_are_found() {
    check(Sabotage::GatesOpen, &["a-key-signs-if-all-trust-it", "a-key-goes-if-nothing-needs-it"]);
}

#[test]
fn hosts_that_say_more_than_they_installed_are_found() {
    check(Sabotage::HostsBoast, &["a-key-signs-if-all-trust-it", "connected-hosts-follow-in-time"]);
}

#[test]
fn an_sshd_that_lags_is_found() {
    check(Sabotage::SshdLags, &["connected-hosts-follow-in-time"]);
}

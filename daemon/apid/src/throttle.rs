//! How long somebody whose logins fail has to wait: longer each time, and never for ever. Knows no account, no network and
//! no clock.
//!
//! Who is refused is an address, alone or with the account that it tries: an account is never closed to other addresses.
//! Where many addresses try one account, each of its logins is made slower, and none is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use link::listening::network_of;
use model::{Label, Mono};

/// Mistakes that cost nothing: people mistype.
const PAIR_FREE: u32 = 3;
/// An address may be a whole office's.
const ADDRESS_FREE: u32 = 20;
/// An account that fails from everywhere.
const ACCOUNT_FREE: u32 = 10;
/// The first wait; it doubles.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest: five guesses an hour and more would be worth nothing, and a person comes back after a coffee.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// The longest that an account's logins are made slower.
const SLOW_MAX: Duration = Duration::from_secs(2);
/// After so long without a failure everything is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// Entries kept: some megabytes. Beyond, the one that failed longest ago is forgotten.
const ENTRIES_MAX: usize = 16_384;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Pair(IpAddr, Label),
    Address(IpAddr),
    Account(Label),
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Mono,
}

/// The failures of late.
#[derive(Debug, Default)]
pub struct Throttle {
    failures: BTreeMap<Key, Failures>,
    /// The same by age.
    by_age: BTreeSet<(Mono, Key)>,
}

/// What a login has to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// After this long, which is nothing where all is well.
    Go(Duration),
    /// Not before this long.
    Wait(Duration),
}

impl Throttle {
    /// Whether somebody may try to log in now.
    pub fn ask(&self, account: &Label, from: IpAddr, now: Mono) -> Verdict {
        let from = network_of(from);
        let pair = self.left(&Key::Pair(from, account.clone()), PAIR_FREE, now);
        let wait = pair.max(self.left(&Key::Address(from), ADDRESS_FREE, now));
        if !wait.is_zero() {
            return Verdict::Wait(wait);
        }
        let slow = self.count(&Key::Account(account.clone()), now).saturating_sub(ACCOUNT_FREE);
        Verdict::Go((WAIT_FIRST / 10).saturating_mul(slow).min(SLOW_MAX))
    }

    /// A login failed.
    pub fn failed(&mut self, account: &Label, from: IpAddr, now: Mono) {
        let from = network_of(from);
        for key in [Key::Pair(from, account.clone()), Key::Address(from), Key::Account(account.clone())] {
            let count = self.count(&key, now).saturating_add(1);
            if let Some(before) = self.failures.insert(key.clone(), Failures { count, last: now }) {
                self.by_age.remove(&(before.last, key.clone()));
            }
            self.by_age.insert((now, key));
        }
        while self.failures.len() > ENTRIES_MAX {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.failures.remove(&oldest);
        }
    }

    /// A login succeeded: its mistakes are forgiven. What others did to the account is not.
    pub fn succeeded(&mut self, account: &Label, from: IpAddr) {
        let key = Key::Pair(network_of(from), account.clone());
        if let Some(before) = self.failures.remove(&key) {
            self.by_age.remove(&(before.last, key));
        }
    }

    fn count(&self, key: &Key, now: Mono) -> u32 {
        let fresh = self.failures.get(key).filter(|f| now.since(f.last) < FORGET_AFTER);
        fresh.map_or(0, |f| f.count)
    }

    /// How much of the wait after the last failure is left.
    fn left(&self, key: &Key, free: u32, now: Mono) -> Duration {
        let Some(failures) = self.failures.get(key) else { return Duration::ZERO };
        let over = self.count(key, now).saturating_sub(free);
        if over == 0 {
            return Duration::ZERO;
        }
        let wait = WAIT_FIRST.saturating_mul(1 << (over - 1).min(16)).min(WAIT_MAX);
        wait.saturating_sub(now.since(failures.last))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn second(n: u64) -> Mono {
        Mono::from_micros(n * 1_000_000)
    }

    fn address(n: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, n, 1, 2, 3, 4).into()
    }

    fn ada() -> Label {
        "ada".parse().expect("a label")
    }

    #[test]
    fn each_mistake_after_the_third_costs_more_and_success_forgives() {
        let mut throttle = Throttle::default();
        let mut waits = Vec::new();
        for _ in 0..6 {
            throttle.failed(&ada(), address(1), second(0));
            waits.push(throttle.ask(&ada(), address(1), second(0)));
        }
        let wait = |n| Verdict::Wait(Duration::from_secs(n));
        let go = Verdict::Go(Duration::ZERO);
        assert_eq!(waits, [go, go, go, wait(1), wait(2), wait(4)]);
        assert_eq!(throttle.ask(&ada(), address(1), second(3)), wait(1));
        assert_eq!(throttle.ask(&ada(), address(1), second(4)), go);
        for _ in 0..1000 {
            throttle.failed(&ada(), address(1), second(4));
        }
        assert_eq!(throttle.ask(&ada(), address(1), second(4)), Verdict::Wait(WAIT_MAX), "never for ever");
        let later = second(4 + FORGET_AFTER.as_secs());
        assert_eq!(throttle.ask(&ada(), address(1), later), go);

        let mut throttle = Throttle::default();
        (0..5).for_each(|_| throttle.failed(&ada(), address(1), second(0)));
        throttle.succeeded(&ada(), address(1));
        assert_eq!(throttle.ask(&ada(), address(1), second(0)), go);
    }

    #[test]
    fn an_account_is_slowed_down_and_never_closed_to_others() {
        let mut throttle = Throttle::default();
        for n in 0..500 {
            throttle.failed(&ada(), address(n), second(0));
        }
        assert_eq!(throttle.ask(&ada(), address(9_999), second(0)), Verdict::Go(SLOW_MAX));
        let other = "bob".parse().expect("a label");
        assert_eq!(throttle.ask(&other, address(9_999), second(0)), Verdict::Go(Duration::ZERO));
    }

    #[test]
    fn a_network_that_tries_many_accounts_waits_for_all() {
        let mut throttle = Throttle::default();
        for n in 0..30u16 {
            let account = format!("user{n}").parse().expect("a label");
            let mut within = address(1).to_string();
            within.push_str(&n.to_string());
            throttle.failed(&account, within.parse().unwrap_or(address(1)), second(0));
        }
        assert!(matches!(throttle.ask(&ada(), address(1), second(0)), Verdict::Wait(_)));
        assert_eq!(throttle.ask(&ada(), address(2), second(0)), Verdict::Go(Duration::ZERO));
    }

    #[test]
    fn a_flood_of_names_fills_no_memory() {
        let mut throttle = Throttle::default();
        for n in 0..u16::MAX {
            throttle.failed(&format!("u{n}").parse().expect("a label"), address(n), second(u64::from(n)));
        }
        assert_eq!((throttle.failures.len(), throttle.by_age.len()), (ENTRIES_MAX, ENTRIES_MAX));
    }
}

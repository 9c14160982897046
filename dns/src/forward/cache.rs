//! Answers by question, in bounded memory. Told the time, never asks for it; knows neither servers nor askers.
//!
//! ```text
//! absent ──put──▶ fresh ──its time ends──▶ ended ──a day──▶ gone
//!                   ▲ │ wanted, a tenth left: refresh        │
//!                   └─┘                     no server: stale ┘ (given for 30 s, then a server is tried again)
//! ```
//!
//! A part of the memory is a table of fixed size, the rest holds the answers. Where room is wanted, a hand goes round
//! the table and takes what was not asked for since it last came by.

use std::hash::{BuildHasher as _, RandomState};
use std::mem::size_of;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Mono;

use super::kept::{Age, Kept};
use super::limits::{
    ANSWER_BYTES_KEPT_MAX, ANSWER_BYTES_USUAL, CACHE_SHARDS, PREFETCH_HITS_MIN, PREFETCH_SHARE, STALE_MAX,
    STALE_RECHECK,
};

/// All answers.
#[derive(Debug)]
pub(super) struct Cache {
    shards: Box<[Mutex<Shard>]>,
    hashes: RandomState,
}

/// An answer, found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) kept: &'a Kept,
    pub(super) age: Age,
    /// It is wanted and ends soon: a fresh one is to be fetched. Said once.
    pub(super) refresh: bool,
}

/// What the cache holds and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheReport {
    /// Answers that are held, ended ones included.
    pub answers: usize,
    /// Memory in use, in bytes.
    pub bytes: usize,
    /// Fresh answers given.
    pub hits: u64,
    /// Ended answers given because no server could be had.
    pub stale: u64,
    /// Answers that had to go before they ended, for want of room.
    pub evicted: u64,
}

impl Cache {
    /// An empty one, which takes `bytes` at most, however much is put into it; 64 KiB at least.
    pub(super) fn new(bytes: usize) -> Self {
        let of_shard = bytes.max(64 * 1024) / CACHE_SHARDS;
        Self {
            shards: (0..CACHE_SHARDS).map(|_| Mutex::new(Shard::new(of_shard))).collect(),
            hashes: RandomState::new(),
        }
    }

    /// Gives `take` the answer that may be given now without asking anybody.
    pub(super) fn find<T>(&self, key: &[u8], now: Mono, take: impl FnOnce(&Found<'_>) -> T) -> Option<T> {
        let (mut shard, hash) = self.shard(key);
        shard.find(hash, key, now).map(|found| take(&found))
    }

    /// Whether there is an answer that has not ended.
    pub(super) fn has_fresh(&self, key: &[u8], now: Mono) -> bool {
        let (shard, hash) = self.shard(key);
        shard.place(hash, key).is_some_and(|at| shard.slots[at].is_fresh(now))
    }

    /// Whether there is an answer that would do if no server could be had.
    pub(super) fn has_stale(&self, key: &[u8], now: Mono) -> bool {
        let (shard, hash) = self.shard(key);
        shard.place(hash, key).is_some_and(|at| shard.slots[at].serves_stale(now))
    }

    /// No server could be had: an ended answer that there is may be given for a while. Says whether there is one.
    pub(super) fn settle_for_stale(&self, key: &[u8], now: Mono) -> bool {
        let (mut shard, hash) = self.shard(key);
        shard.settle_for_stale(hash, key, now)
    }

    /// Keeps an answer, in place of the one that was there.
    pub(super) fn put(&self, kept: Kept, now: Mono) {
        let (mut shard, hash) = self.shard(kept.key());
        shard.put(hash, kept, now);
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            lock(shard).clear();
        }
    }

    pub(super) fn report(&self) -> CacheReport {
        let mut sum = CacheReport::default();
        for shard in &self.shards {
            let shard = lock(shard);
            sum.answers += shard.used;
            sum.bytes += shard.table_bytes() + shard.bytes;
            sum.hits += shard.hits;
            sum.stale += shard.stale;
            sum.evicted += shard.evicted;
        }
        sum
    }

    fn shard(&self, key: &[u8]) -> (MutexGuard<'_, Shard>, u64) {
        let hash = self.hashes.hash_one(key);
        // The low bits choose the place within the shard.
        let shard = usize::try_from(hash >> 32).unwrap_or_default() % CACHE_SHARDS;
        (lock(&self.shards[shard]), hash)
    }
}

/// A look-up that panicked left nothing half done that another could not bear.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No place.
const NONE: u32 = u32::MAX;
/// What the allocator takes for itself with each answer.
const ALLOCATION_BYTES: usize = 16;

/// A part of the answers.
#[derive(Debug)]
struct Shard {
    /// The first place of each chain.
    heads: Box<[u32]>,
    slots: Vec<Slot>,
    slots_max: usize,
    /// The first empty place; empty ones are chained.
    empty: u32,
    hand: usize,
    used: usize,
    bytes: usize,
    bytes_max: usize,
    hits: u64,
    stale: u64,
    evicted: u64,
}

/// A place of the table.
#[derive(Debug)]
struct Slot {
    hash: u64,
    next: u32,
    hits: u8,
    /// It was asked for since the hand last came by.
    is_wanted: bool,
    /// A fresh one is on its way.
    is_refreshing: bool,
    kept: Option<Kept>,
    since: Mono,
    /// Until then it is given though it has ended.
    stale_until: Mono,
}

impl Slot {
    fn ends_at(&self) -> Mono {
        let seconds = self.kept.as_ref().map_or(0, |kept| kept.seconds);
        self.since + Duration::from_secs(seconds.into())
    }

    fn is_fresh(&self, now: Mono) -> bool {
        now < self.ends_at()
    }

    /// Whether it is ended, but better than nothing.
    fn serves_stale(&self, now: Mono) -> bool {
        self.kept.as_ref().is_some_and(Kept::is_answer)
            && !self.is_fresh(now)
            && now < self.ends_at() + STALE_MAX
    }

    /// Whether nobody will be given it any more.
    fn is_gone(&self, now: Mono) -> bool {
        !self.is_fresh(now) && !self.serves_stale(now)
    }

    /// Whether a fresh one is to be fetched, now that it was given.
    fn is_due(&self, now: Mono) -> bool {
        let seconds = self.kept.as_ref().map_or(0, |kept| kept.seconds);
        let left = self.ends_at().since(now);
        !self.is_refreshing
            && self.hits >= PREFETCH_HITS_MIN
            && self.kept.as_ref().is_some_and(Kept::is_answer)
            && left * PREFETCH_SHARE <= Duration::from_secs(seconds.into())
    }
}

impl Shard {
    fn new(bytes: usize) -> Self {
        let of_slot = size_of::<Slot>() + size_of::<u32>();
        let slots_max = bytes / (of_slot + ALLOCATION_BYTES + ANSWER_BYTES_USUAL);
        let mut shard = Self {
            heads: vec![NONE; slots_max.next_power_of_two() / 2].into(),
            slots: Vec::new(),
            slots_max,
            empty: NONE,
            hand: 0,
            used: 0,
            bytes: 0,
            bytes_max: 0,
            hits: 0,
            stale: 0,
            evicted: 0,
        };
        shard.bytes_max = bytes - slots_max * size_of::<Slot>() - size_of_val(&*shard.heads);
        shard
    }

    fn table_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + size_of_val(&*self.heads)
    }

    fn clear(&mut self) {
        self.heads.fill(NONE);
        self.slots.clear();
        (self.empty, self.hand, self.used, self.bytes) = (NONE, 0, 0, 0);
    }

    fn chain(&self, hash: u64) -> usize {
        usize::try_from(hash).unwrap_or(usize::MAX) & (self.heads.len() - 1)
    }

    fn place(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let mut at = self.heads[self.chain(hash)];
        while let Some(slot) = self.slots.get(at as usize) {
            if slot.hash == hash && slot.kept.as_ref().is_some_and(|kept| kept.key() == key) {
                return Some(at as usize);
            }
            at = slot.next;
        }
        None
    }

    fn find(&mut self, hash: u64, key: &[u8], now: Mono) -> Option<Found<'_>> {
        let at = self.place(hash, key)?;
        let slot = &mut self.slots[at];
        let age = if slot.is_fresh(now) {
            self.hits += 1;
            Age::Seconds(u32::try_from(now.since(slot.since).as_secs()).unwrap_or(u32::MAX))
        } else if now < slot.stale_until && slot.serves_stale(now) {
            self.stale += 1;
            Age::Stale
        } else {
            return None;
        };
        slot.is_wanted = true;
        slot.hits = slot.hits.saturating_add(1);
        let refresh = age != Age::Stale && slot.is_due(now);
        slot.is_refreshing |= refresh;
        slot.kept.as_ref().map(|kept| Found { kept, age, refresh })
    }

    fn settle_for_stale(&mut self, hash: u64, key: &[u8], now: Mono) -> bool {
        let Some(at) = self.place(hash, key) else { return false };
        let slot = &mut self.slots[at];
        if slot.is_fresh(now) {
            return true;
        }
        slot.stale_until = now + STALE_RECHECK;
        slot.serves_stale(now)
    }

    fn put(&mut self, hash: u64, kept: Kept, now: Mono) {
        if let Some(old) = self.place(hash, kept.key()) {
            self.remove(old);
        }
        let cost = cost(&kept);
        if kept.seconds == 0 || kept.bytes() > ANSWER_BYTES_KEPT_MAX || cost > self.bytes_max {
            return;
        }
        while self.bytes + cost > self.bytes_max || self.used == self.slots_max {
            self.make_room(now);
        }
        let chain = self.chain(hash);
        let slot = Slot {
            hash,
            next: self.heads[chain],
            hits: 0,
            is_wanted: false,
            is_refreshing: false,
            kept: Some(kept),
            since: now,
            stale_until: Mono::default(),
        };
        let at = self.empty as usize;
        if let Some(empty) = self.slots.get_mut(at) {
            self.empty = empty.next;
            *empty = slot;
            self.heads[chain] = u32::try_from(at).expect("it came from a u32");
        } else {
            self.grow();
            self.heads[chain] = u32::try_from(self.slots.len()).expect("far fewer places than 2^32");
            self.slots.push(slot);
        }
        self.used += 1;
        self.bytes += cost;
    }

    /// Doubling would take more than the table was given.
    fn grow(&mut self) {
        let length = self.slots.len();
        if length == self.slots.capacity() {
            let more = length.max(16).min(self.slots_max - length);
            self.slots.reserve_exact(more);
        }
    }

    /// Takes the first answer that the hand finds unwanted. All are after one round.
    fn make_room(&mut self, now: Mono) {
        loop {
            let at = self.hand;
            self.hand = (at + 1) % self.slots.len();
            let slot = &mut self.slots[at];
            if slot.kept.is_none() {
                continue;
            }
            // One that has ended is asked for again anyhow.
            if !std::mem::take(&mut slot.is_wanted) || !slot.is_fresh(now) {
                self.evicted += u64::from(!self.slots[at].is_gone(now));
                return self.remove(at);
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let place = u32::try_from(at).expect("places are numbered by u32");
        let chain = self.chain(self.slots[at].hash);
        let next = self.slots[at].next;
        if self.heads[chain] == place {
            self.heads[chain] = next;
        } else {
            let mut before = self.heads[chain] as usize;
            while self.slots[before].next != place {
                before = self.slots[before].next as usize;
            }
            self.slots[before].next = next;
        }
        let slot = &mut self.slots[at];
        self.bytes -= slot.kept.take().as_ref().map_or(0, cost);
        slot.next = self.empty;
        self.empty = place;
        self.used -= 1;
    }
}

fn cost(kept: &Kept) -> usize {
    kept.bytes() + ALLOCATION_BYTES
}

#[cfg(test)]
mod tests {
    use super::super::kept::Parts;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(seconds: u64) -> Mono {
        Mono::from_micros(seconds * 1_000_000)
    }

    fn answer(key: &str, value: u8, seconds: u32, length: usize) -> Kept {
        answer_of(key, value, seconds, length, 0)
    }

    fn answer_of(key: &str, value: u8, seconds: u32, length: usize, code: u8) -> Kept {
        let records = vec![value; length];
        Kept::new(&Parts {
            key: key.as_bytes(),
            records: &records,
            ttls: &[],
            counts: [1, 0, 0],
            code,
            seconds,
            extended_error: None,
        })
    }

    /// The answer that is given now, its age, and whether it is to be refreshed.
    fn given(cache: &Cache, key: &str, now: Mono) -> Option<(Kept, Age, bool)> {
        cache.find(key.as_bytes(), now, |found| (found.kept.clone(), found.age, found.refresh))
    }

    #[test]
    fn an_answer_ages_and_ends() {
        let cache = Cache::new(1 << 20);
        let kept = answer("a", 1, 60, 10);
        cache.put(kept.clone(), at(100));
        let age = |now: u64| given(&cache, "a", at(now)).map(|(_, age, _)| age);
        assert_eq!(age(100), Some(Age::Seconds(0)));
        assert_eq!(age(159), Some(Age::Seconds(59)));
        assert_eq!(age(160), None);
        assert_eq!(given(&cache, "b", at(100)), None);
        cache.put(answer("a", 2, 0, 10), at(101));
        assert_eq!(given(&cache, "a", at(101)), None, "what may not be kept takes the old one with it");
        cache.put(kept, at(200));
        cache.clear();
        assert_eq!(cache.report().answers, 0);
        assert_eq!(age(200), None);
    }

    #[test]
    fn without_a_server_an_ended_answer_serves_for_a_day() {
        let cache = Cache::new(1 << 20);
        cache.put(answer("a", 1, 60, 10), at(0));
        let age = |now: u64| given(&cache, "a", at(now)).map(|(_, age, _)| age);
        assert!(
            cache.has_fresh(b"a", at(59)) && !cache.has_fresh(b"a", at(60)) && !cache.has_fresh(b"b", at(0))
        );
        assert!(!cache.has_stale(b"a", at(59)), "it is fresh");
        assert!(cache.has_stale(b"a", at(61)) && !cache.has_stale(b"b", at(61)));
        assert_eq!(age(61), None, "a server is asked first");
        assert!(cache.settle_for_stale(b"a", at(61)));
        assert_eq!((age(62), age(90)), (Some(Age::Stale), Some(Age::Stale)));
        assert_eq!(age(91), None, "a server is asked again");
        let day = 86_400 + 60;
        assert!(cache.settle_for_stale(b"a", at(day - 1)));
        assert_eq!((age(day - 1), age(day)), (Some(Age::Stale), None));
        assert!(!cache.settle_for_stale(b"a", at(day)) && !cache.settle_for_stale(b"b", at(day)));
        let failure = answer_of("f", 0, 5, 0, 2);
        cache.put(failure, at(0));
        assert_eq!(given(&cache, "f", at(4)).map(|(_, age, _)| age), Some(Age::Seconds(4)));
        assert!(!cache.settle_for_stale(b"f", at(5)), "a failure serves nobody later");
    }

    #[test]
    fn what_is_wanted_is_fetched_before_it_ends_and_once() {
        let refreshed = |times: &[u64]| -> Vec<u64> {
            let cache = Cache::new(1 << 20);
            cache.put(answer("a", 1, 100, 10), at(0));
            let due = |now: &u64| given(&cache, "a", at(*now)).is_some_and(|(_, _, refresh)| refresh);
            times.iter().copied().filter(due).collect()
        };
        assert!(refreshed(&[1, 50, 89]).is_empty(), "its end is far");
        assert!(refreshed(&[95]).is_empty(), "nobody else wants it");
        assert_eq!(refreshed(&[1, 90, 95, 99]), [90]);
        assert_eq!(refreshed(&[95, 96, 97]), [96]);
    }

    #[test]
    fn what_is_asked_for_stays_when_room_is_wanted() {
        let cache = Cache::new(64 * 1024);
        cache.put(answer("wanted", 1, 600, 100), at(0));
        for number in 0..5_000 {
            cache.put(answer(&format!("n{number}"), 1, 600, 100), at(1));
            assert!(given(&cache, "wanted", at(1)).is_some(), "after {number}");
        }
        let report = cache.report();
        assert!(report.evicted > 4_000 && report.answers > 100, "{report:?}");
        assert!(report.bytes <= 64 * 1024, "{report:?}");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put { key: u8, value: u8, seconds: u32, length: usize },
        Ask { key: u8 },
        Fail { key: u8 },
        Wait { seconds: u64 },
        Clear,
    }

    fn step(keys: u8) -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..keys, any::<u8>(), prop_oneof![Just(0u32), 1..300u32], 0..600usize)
                .prop_map(|(key, value, seconds, length)| Step::Put { key, value, seconds, length }),
            8 => (0..keys).prop_map(|key| Step::Ask { key }),
            2 => (0..keys).prop_map(|key| Step::Fail { key }),
            4 => (0..200u64).prop_map(|seconds| Step::Wait { seconds }),
            1 => Just(Step::Clear),
        ]
    }

    /// What a cache without bounds would do, written down as plainly as possible.
    #[derive(Default)]
    struct Model {
        answers: BTreeMap<u8, (Kept, u64, u64)>,
    }

    impl Model {
        fn given(&self, key: u8, now: u64) -> Option<(Kept, Age)> {
            let (kept, since, stale_until) = self.answers.get(&key)?;
            let end = since + u64::from(kept.seconds);
            if now < end {
                let age = u32::try_from(now - since).unwrap();
                Some((kept.clone(), Age::Seconds(age)))
            } else if now < *stale_until && now < end + 86_400 {
                Some((kept.clone(), Age::Stale))
            } else {
                None
            }
        }
    }

    /// Runs the steps on a cache of so many bytes and on the model. Gives back how many answers were missed.
    fn run(steps: &[Step], bytes: usize) -> Result<usize, TestCaseError> {
        let (cache, mut model, mut now, mut missed) = (Cache::new(bytes), Model::default(), 0, 0);
        let name = |key: u8| format!("key{key}");
        for step in steps {
            match *step {
                Step::Put { key, value, seconds, length } => {
                    let kept = answer(&name(key), value, seconds, length);
                    cache.put(kept.clone(), at(now));
                    model.answers.remove(&key);
                    if seconds > 0 {
                        model.answers.insert(key, (kept, now, 0));
                    }
                }
                Step::Ask { key } => {
                    let ours = given(&cache, &name(key), at(now)).map(|(kept, age, _)| (kept, age));
                    let theirs = model.given(key, now);
                    missed += usize::from(ours.is_none() && theirs.is_some());
                    prop_assert!(ours.is_none() || ours == theirs, "{ours:?} is not {theirs:?}");
                }
                Step::Fail { key } => {
                    cache.settle_for_stale(name(key).as_bytes(), at(now));
                    if let Some((kept, since, stale_until)) = model.answers.get_mut(&key)
                        && now >= *since + u64::from(kept.seconds)
                    {
                        *stale_until = now + 30;
                    }
                }
                Step::Wait { seconds } => now += seconds,
                Step::Clear => {
                    cache.clear();
                    model.answers.clear();
                }
            }
            check(&cache, bytes)?;
        }
        Ok(missed)
    }

    /// Counts everything anew.
    fn check(cache: &Cache, bytes: usize) -> Result<(), TestCaseError> {
        prop_assert!(cache.report().bytes <= bytes);
        for shard in &cache.shards {
            let shard = lock(shard);
            let held = || shard.slots.iter().filter_map(|slot| slot.kept.as_ref());
            prop_assert_eq!(held().count(), shard.used);
            prop_assert_eq!(held().map(cost).sum::<usize>(), shard.bytes);
            prop_assert!(shard.slots.capacity() <= shard.slots_max && shard.bytes <= shard.bytes_max);
            for slot in &shard.slots {
                let Some(kept) = &slot.kept else { continue };
                prop_assert!(shard.place(slot.hash, kept.key()).is_some(), "it can be found");
            }
            let mut empty = 0;
            let mut at = shard.empty;
            while let Some(slot) = shard.slots.get(at as usize) {
                (empty, at) = (empty + 1, slot.next);
            }
            prop_assert_eq!(empty + shard.used, shard.slots.len());
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn with_room_it_does_what_a_map_would_do(steps in prop::collection::vec(step(20), 1..200)) {
            prop_assert_eq!(run(&steps, 1 << 20)?, 0);
        }

        #[test]
        fn without_room_it_may_forget_but_never_errs_or_grows(steps in prop::collection::vec(step(255), 200..600)) {
            run(&steps, 64 * 1024)?;
        }
    }
}

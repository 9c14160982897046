//! The two rules of a rotation, with devices that come, go, sleep and lag, and administrators who press every button.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const DEVICES: u8 = 5;

fn device(number: u8) -> DeviceId {
    DeviceId::from_bytes([number; 16])
}

/// What happens.
#[derive(Debug, Clone)]
enum Step {
    Rotate,
    Advance,
    Rollback,
    /// A device comes, and installs what is trusted at once, or never does.
    Come(u8, bool),
    Go(u8),
    /// A device is online: it installs what is trusted, and its host certificate is renewed.
    Sync(u8),
    /// A host is given a certificate, and its word that it is installed is lost.
    Lag(u8),
    /// A certificate of so many minutes is issued.
    Issue(u64),
    /// So many minutes pass.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Rotate),
        3 => Just(Step::Advance),
        1 => Just(Step::Rollback),
        1 => (0..DEVICES, any::<bool>()).prop_map(|(n, installs)| Step::Come(n, installs)),
        1 => (0..DEVICES).prop_map(Step::Go),
        4 => (0..DEVICES).prop_map(Step::Sync),
        2 => (0..DEVICES).prop_map(Step::Lag),
        3 => (1u64..600).prop_map(Step::Issue),
        3 => (1u64..900).prop_map(Step::Wait),
    ]
}

struct World {
    rotation: Rotation,
    ground: Ground,
    /// All certificates that somebody may need: of which key, until when, of which host.
    issued: Vec<(KeyGeneration, Timestamp, Option<u8>)>,
    keys: u32,
    now: Timestamp,
}

impl World {
    fn new(kind: CaKind) -> Self {
        let now = Timestamp::from_unix_micros(1);
        let rotation = Rotation::first(kind, now);
        Self { rotation, ground: Ground::default(), issued: Vec::new(), keys: 1, now }
    }

    fn minutes(&self, minutes: u64) -> Timestamp {
        self.now + Duration::from_secs(60 * minutes)
    }

    fn issue(&mut self, until: Timestamp, host: Option<u8>) {
        self.issued.push((self.rotation.signs(), until, host));
        self.count();
    }

    /// As the server counts: a host that shows a certificate of another key needs those before it no more.
    fn count(&mut self) {
        let ground = &mut self.ground;
        let shows = |host: &u8| ground.devices.get(&device(*host)).and_then(|verifier| verifier.presents);
        self.issued.retain(|(key, _, host)| host.as_ref().and_then(shows).is_none_or(|shown| shown == *key));
        ground.certificates_until.clear();
        for (key, until, _) in &self.issued {
            let last = ground.certificates_until.entry(*key).or_insert(*until);
            *last = (*last).max(*until);
        }
    }

    fn sync(&mut self, number: u8) {
        let trusted = self.rotation.trusted();
        let now = self.now;
        let signs = self.rotation.signs();
        let until = self.minutes(7 * 24 * 60);
        let Some(verifier) = self.ground.devices.get_mut(&device(number)) else { return };
        verifier.trusts = Some(trusted);
        verifier.said_at = Some(now);
        if self.rotation.kind == CaKind::Host {
            verifier.presents = Some(signs);
            self.issue(until, Some(number));
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Rotate => {
                if self.rotation.rotate(KeyGeneration(self.keys + 1), self.now).is_ok() {
                    self.keys += 1;
                }
            }
            Step::Advance => drop(self.rotation.advance(&self.ground, self.now)),
            Step::Rollback => drop(self.rotation.rollback(self.now)),
            Step::Come(number, installs) => {
                self.ground.devices.entry(device(number)).or_default();
                if installs {
                    self.sync(number);
                }
            }
            Step::Go(number) => drop(self.ground.devices.remove(&device(number))),
            Step::Sync(number) => self.sync(number),
            Step::Issue(minutes) => {
                let until = self.minutes(minutes);
                self.issue(until, None);
            }
            Step::Lag(number) => {
                let until = self.minutes(7 * 24 * 60);
                if self.rotation.kind == CaKind::Host && self.ground.devices.contains_key(&device(number)) {
                    self.issue(until, Some(number));
                }
            }
            Step::Wait(minutes) => self.now = self.minutes(minutes),
        }
    }

    fn check(&self) {
        let (signs, trusted) = (self.rotation.signs(), self.rotation.trusted());
        assert!(trusted.contains(&signs), "{:?}", self.rotation);
        for (id, verifier) in &self.ground.devices {
            let shown = verifier.presents.is_none_or(|key| trusted.contains(&key));
            assert!(shown, "{id} shows what nobody trusts: {:?}, {verifier:?}", self.rotation);
            let trusts = verifier.trusts.as_ref().is_none_or(|keys| keys.contains(&signs));
            assert!(trusts, "{id} lets nobody in: {:?}, {verifier:?}", self.rotation);
        }
        for (key, until, _) in &self.issued {
            let dead = *until <= self.now;
            assert!(dead || trusted.contains(key), "{key:?} lives until {until}: {:?}", self.rotation);
        }
    }
}

proptest! {
    #[test]
    fn a_key_signs_if_all_trust_it_and_goes_if_nothing_needs_it(
        kind in prop_oneof![Just(CaKind::User), Just(CaKind::Host)],
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(kind);
        for step in steps {
            world.take(&step);
            world.check();
        }
    }
}

#[test]
fn a_rotation_with_everybody_there_comes_to_its_end() {
    for kind in [CaKind::User, CaKind::Host] {
        let mut world = World::new(kind);
        (0..DEVICES).for_each(|number| world.take(&Step::Come(number, true)));
        world.take(&Step::Rotate);
        for _ in 0..3 {
            world.check();
            assert_ne!(world.rotation.phase, Phase::Standby);
            (0..DEVICES).for_each(|number| world.take(&Step::Sync(number)));
            world.take(&Step::Wait(8 * 24 * 60));
            (0..DEVICES).for_each(|number| world.take(&Step::Sync(number)));
            assert_eq!(world.rotation.missing(&world.ground, world.now), [], "{:?}", world.rotation);
            world.take(&Step::Advance);
        }
        assert_eq!(world.rotation.phase, Phase::Standby, "{kind:?}");
        assert_eq!(world.rotation.active, KeyGeneration(2));
        assert_eq!(world.rotation.trusted(), [KeyGeneration(2)].into());
    }
}

#[test]
fn who_is_missing_is_named_and_may_be_left_out() {
    let mut world = World::new(CaKind::User);
    world.take(&Step::Come(1, true));
    world.take(&Step::Come(2, true));
    world.take(&Step::Come(3, false));
    world.take(&Step::Rotate);
    world.take(&Step::Sync(1));
    let key = KeyGeneration(2);
    let said_at = Some(Timestamp::from_unix_micros(1));
    let missing = vec![Missing::Trust { device: device(2), key, said_at }];
    assert_eq!(world.rotation.advance(&world.ground, world.now), Err(StepRefused::Missing(missing)));
    world.rotation.exempt.insert(device(2));
    assert_eq!(world.rotation.advance(&world.ground, world.now), Ok(None));
    assert_eq!(world.rotation.signs(), key);
}

#[test]
fn a_rollback_waits_for_what_the_next_key_signed() {
    let mut world = World::new(CaKind::User);
    world.take(&Step::Rotate);
    world.take(&Step::Advance);
    world.take(&Step::Issue(60));
    world.take(&Step::Rollback);
    assert_eq!(world.rotation.signs(), KeyGeneration(1));
    let refused = world.rotation.advance(&world.ground, world.now);
    assert!(matches!(refused, Err(StepRefused::Missing(_))), "{refused:?}");
    world.take(&Step::Wait(61));
    assert_eq!(world.rotation.advance(&world.ground, world.now), Ok(Some(KeyGeneration(2))));
    assert_eq!(world.rotation.rollback(world.now), Err(StepRefused::Idle));
}

#[test]
fn a_stolen_key_is_replaced_in_every_phase_at_once() {
    let phases: [&[Step]; 5] = [
        &[],
        &[Step::Rotate],
        &[Step::Rotate, Step::Advance],
        &[Step::Rotate, Step::Advance, Step::Advance],
        &[Step::Rotate, Step::Rollback],
    ];
    for steps in phases {
        let mut world = World::new(CaKind::User);
        steps.iter().for_each(|step| world.take(step));
        world.take(&Step::Issue(60));
        let (before, stolen) = (world.rotation.clone(), world.rotation.trusted());
        assert_eq!(world.rotation.replace(KeyGeneration(9), world.now), stolen, "{before:?}");
        let (phase, signs) = (world.rotation.phase, world.rotation.signs());
        assert_eq!((phase, signs), (Phase::Standby, KeyGeneration(9)), "{before:?}");
        assert_eq!(world.rotation.trusted(), [KeyGeneration(9)].into(), "{before:?}");
        assert_eq!(world.rotation.rotate(KeyGeneration(10), world.now), Ok(()), "the next one is as ever");
    }
}

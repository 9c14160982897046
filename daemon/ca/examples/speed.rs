//! How fast the signer is on one core, and what a long list of revocations costs: `scripts/bench ca`.
#![expect(clippy::print_stdout, clippy::disallowed_types, clippy::disallowed_methods, reason = "it measures")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use ca::profile::{self, Basis, Person};
use ca::{
    Caps, KeyGeneration, KeyName, KeyRing, LogLine, OfAuthority, RevocationList, Signer as _, SignerLog,
};
use model::{Block, CaKind, Epoch, Mono, Now, SshSerial, TenantId, Timestamp};

/// What was promised.
const CERTIFICATES_PER_SECOND_MIN: f64 = 2_000.0;
const SERIALS: u64 = 100_000;
const LIST_BYTES_MAX: usize = 1_000_000;
const LIST_TIME_MAX: Duration = Duration::from_secs(1);
/// Enough for a second figure behind the point.
const CERTIFICATES: u64 = 10_000;

/// Counts lines, and keeps them from being optimised away.
struct Counted(usize);

impl SignerLog for Counted {
    fn note(&mut self, line: &LogLine) -> Result<(), String> {
        self.0 += line.to_string().len();
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kept = [signs()?, lists()?].iter().all(|kept| *kept);
    if kept { Ok(()) } else { Err("not as promised".into()) }
}

fn signs() -> Result<bool, Box<dyn std::error::Error>> {
    let tenant = TenantId::from_bytes([1; 16]);
    let key = KeyName { tenant, kind: CaKind::User, generation: KeyGeneration(1) };
    let caps = Caps { burst: u32::MAX, per_second: u32::MAX, ..Caps::default() };
    let mut ring = KeyRing::new(caps, [7; 32], Counted(0));
    ring.open(key, &ca::CaSecret::from_seed([9; 32]))?;
    let subject: ca::Subject = ca::CaSecret::from_seed([5; 32]).public().to_string().parse()?;
    let device = Block::new("100.64.0.0/16".parse()?, tenant)?.host(2).ok_or("no host")?;
    let wall = Timestamp::from_unix_micros(1_700_000_000_000_000);
    let began = Instant::now();
    for counter in 1..=CERTIFICATES {
        let serial = SshSerial::new(Epoch(1), counter).ok_or("no serial")?;
        let basis = Basis { key, tenant: "home".parse()?, serial, subject: subject.clone() };
        let person = Person {
            identity: "u:ada".parse()?,
            device,
            life: None,
            life_max: ca::limits::ROLE_LIFE_DEFAULT,
            permits: BTreeSet::new(),
        };
        let order = profile::user(basis, person, wall)?;
        ring.sign(&order, Now { mono: Mono::from_micros(counter), wall })?;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = CERTIFICATES as f64 / began.elapsed().as_secs_f64();
    println!("user certificates a second, one core  {rate:>10.0}  at least {CERTIFICATES_PER_SECOND_MIN}");
    Ok(rate >= CERTIFICATES_PER_SECOND_MIN)
}

/// No two serials in a row: the longest that a list of so many can be.
fn lists() -> Result<bool, Box<dyn std::error::Error>> {
    let serials = (0..SERIALS).map(|n| (1 << 47) + 1 + n * 2).collect();
    let of = OfAuthority { serials, ..OfAuthority::default() };
    let list = RevocationList {
        version: 1,
        authorities: [(ca::CaSecret::from_seed([9; 32]).public().wire(), of)].into(),
        ..RevocationList::default()
    };
    let path: PathBuf = std::env::temp_dir().join(format!("warren-krl-{}", std::process::id()));
    let began = Instant::now();
    let bytes = list.to_bytes(Timestamp::default());
    std::fs::write(&path, &bytes)?;
    let checked = Command::new("ssh-keygen").args(["-Q", "-l", "-f"]).arg(&path).output();
    let took = began.elapsed();
    std::fs::remove_file(&path)?;
    let good = checked?.status.success() && bytes.len() < LIST_BYTES_MAX && took < LIST_TIME_MAX;
    println!("bytes of a list of {SERIALS} serials      {:>10}  below {LIST_BYTES_MAX}", bytes.len());
    println!(
        "written and checked by ssh-keygen, ms {:>10}  below {}",
        took.as_millis(),
        LIST_TIME_MAX.as_millis()
    );
    Ok(good)
}

//! Passwords: how they are hashed, checked and judged. Knows no database.

use std::collections::BTreeSet;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use model::{Code, Refusal};
use tokio::sync::{Semaphore, SemaphorePermit};
use zxcvbn::Score;

/// Characters that a password has at least, set by anybody but the environment.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Bytes that a password has at most: hashing cost grows with it.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Hashes at once: each takes 64 MiB.
const HASHES_AT_ONCE: usize = 2;

/// How hard a password must be to guess, from 0 to 4: 3 is beyond 10^8 guesses (zxcvbn).
const SCORE_MIN: Score = Score::Three;

/// Hashes that wait for one of those: the last waits for some seconds. More are refused.
const HASHES_WAITING_MAX: usize = 32;

static SEATS: Semaphore = Semaphore::const_new(HASHES_AT_ONCE + HASHES_WAITING_MAX);
static GATE: Semaphore = Semaphore::const_new(HASHES_AT_ONCE);

/// A place among those who wait for a hash. To be taken before the database is asked for somebody: a flood of logins must not
/// wait there in front of everybody else.
pub struct Seat {
    _permit: SemaphorePermit<'static>,
}

impl Seat {
    /// One of the places that are left.
    pub fn take() -> Result<Self, Refusal> {
        let permit = SEATS.try_acquire();
        let full = |_| Refusal::new(Code::RateLimited, "too many people log in at once");
        Ok(Self { _permit: permit.map_err(full)? })
    }
}

/// Which passwords may be set. Clones share the list.
#[derive(Clone, Default)]
pub struct Policy {
    blocked: Arc<BTreeSet<String>>,
}

impl Policy {
    /// With a list of passwords that nobody may have, one a line, in whatever case.
    pub fn from_list(list: &str) -> Self {
        let lines = list.lines().map(|line| line.trim().to_lowercase()).filter(|line| !line.is_empty());
        Self { blocked: Arc::new(lines.collect()) }
    }

    /// Whether a password may be set. The one in the environment may be weak; the caller warns then.
    pub fn judge(&self, password: &str, user: &str) -> Result<(), Refusal> {
        let weak = |why: &str| Err(Refusal::new(Code::PasswordInvalid, why));
        if password.len() > PASSWORD_BYTES_MAX {
            return weak("the password is longer than a kilobyte");
        }
        if password.chars().count() < PASSWORD_CHARS_MIN {
            return weak("the password is shorter than twelve characters");
        }
        if self.blocked.contains(&password.to_lowercase()) {
            return weak("the password is on the server's list of those that nobody may have");
        }
        let judged = zxcvbn::zxcvbn(password, &[user, "warren", "wireguard"]);
        if judged.score() >= SCORE_MIN {
            return Ok(());
        }
        let why =
            judged.feedback().and_then(|feedback| feedback.warning()).map(|warning| warning.to_string());
        let why = why.unwrap_or_else(|| "a few words that do not belong together are better".into());
        weak(&format!("the password is easily guessed: {}", why.trim_end_matches('.')))
    }
}

/// Hashes a password: Argon2id, 64 MiB, 3 passes, as a PHC string.
pub async fn hash(password: String) -> Result<String, Refusal> {
    on_a_thread(Seat::take()?, move || {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|e| internal(&e))?;
        Ok(argon2()?
            .hash_password_with_salt(password.as_bytes(), &salt)
            .map_err(|e| internal(&e))?
            .to_string())
    })
    .await
}

/// Checks a password against a hash. Without a hash it takes as long and says no: an unknown user costs what a wrong
/// password costs.
pub async fn check(seat: Seat, password: String, hash: Option<String>) -> Result<bool, Refusal> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Ok(false);
    }
    on_a_thread(seat, move || match hash {
        Some(hash) => {
            let hash = PasswordHash::new(&hash).map_err(|e| internal(&e))?;
            Ok(argon2()?.verify_password(password.as_bytes(), &hash).is_ok())
        }
        None => {
            argon2()?.hash_password_with_salt(password.as_bytes(), &[0; 16]).map_err(|e| internal(&e))?;
            Ok(false)
        }
    })
    .await
}

fn argon2() -> Result<Argon2<'static>, Refusal> {
    let params = Params::new(64 * 1024, 3, 1, None).map_err(|e| internal(&e))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

async fn on_a_thread<T: Send + 'static>(
    _seat: Seat,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let _permit = GATE.acquire().await.map_err(|e| internal(&e))?;
    tokio::task::spawn_blocking(work).await.map_err(|e| internal(&e))?
}

fn internal(error: &impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("passwords cannot be hashed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_passwords_are_named() {
        let policy = Policy::from_list("Company Name 2026\n\n");
        let check = |password: &str, ok: bool| {
            assert_eq!(policy.judge(password, "admin").is_ok(), ok, "{password}");
        };
        check("short", false);
        check("aaaaaaaaaaaaaaaa", false);
        check("Administrator", false);
        check("passwordpassword", false);
        check("adminadminadmin1", false);
        check("company name 2026", false);
        check("violet tram 9 opens", true);
        check(&"x1".repeat(600), false);
        let refusal = policy.judge("passwordpassword", "admin").expect_err("known");
        assert!(refusal.detail.contains("guessed: ") && !refusal.detail.ends_with('.'), "{refusal}");
    }

    #[tokio::test]
    async fn hashes_check_and_unknown_users_take_the_same_way() {
        let hash = hash("violet tram 9 opens".into()).await.expect("hashed");
        let check = async |password: &str, hash| check(Seat::take()?, password.into(), hash).await;
        assert_eq!(check("violet tram 9 opens", Some(hash.clone())).await, Ok(true));
        assert_eq!(check("violet tram 9 open", Some(hash)).await, Ok(false));
        assert_eq!(check("violet tram 9 opens", None).await, Ok(false));
    }
}

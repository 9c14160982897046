//! Second factors: one-time passwords (RFC 6238: SHA-1, six digits, half a minute) and recovery codes. Knows no database.

use data_encoding::BASE32_NOPAD;
use model::id::UserId;
use model::{Digest, Label, Timestamp};
use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;

use crate::accounts::random;

/// As RFC 4226, section 4, recommends.
pub const SECRET_BYTES: usize = 20;
/// As many as people print on one card.
const RECOVERY_CODES: usize = 10;
/// 80 random bits: their digests may be stolen with the database and need no slow hash.
const RECOVERY_BYTES: usize = 10;
/// Letters of a recovery code between two hyphens.
const RECOVERY_GROUP: usize = 4;

/// The shared secret as it is typed in.
pub fn printed(secret: &[u8; SECRET_BYTES]) -> String {
    BASE32_NOPAD.encode(secret)
}

/// What authenticators read from a QR code (Google's "Key Uri Format"). Labels need no escaping; a server's name may be an
/// address with colons.
pub fn url(secret: &[u8; SECRET_BYTES], user: &Label, server: &str) -> String {
    let place: String = server
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'.' || b == b'-' { char::from(b) } else { '-' })
        .collect();
    format!("otpauth://totp/Warren:{user}@{place}?secret={}&issuer=Warren", printed(secret))
}

/// The time step that a code is of: this one, the one before or the next, as clocks differ.
pub fn step(secret: &[u8; SECRET_BYTES], code: &str, now: Timestamp) -> Option<u64> {
    totp(secret)?.check(code.trim(), now.unix_millis() / 1000)
}

fn totp(secret: &[u8; SECRET_BYTES]) -> Option<Totp> {
    Builder::new().with_secret(Secret::new_stack(*secret)).build().ok()
}

/// Whether this is what an authenticator shows, and no recovery code.
pub fn is_one_time(code: &str) -> bool {
    code.trim().bytes().all(|b| b.is_ascii_digit())
}

/// Fresh recovery codes, as they are shown.
pub fn recovery_codes() -> Vec<String> {
    let code = |_| {
        let text = BASE32_NOPAD.encode(&*Zeroizing::new(random::<RECOVERY_BYTES>())).to_ascii_lowercase();
        let groups: Vec<&str> =
            (0..text.len()).step_by(RECOVERY_GROUP).map(|at| &text[at..at + RECOVERY_GROUP]).collect();
        groups.join("-")
    };
    (0..RECOVERY_CODES).map(code).collect()
}

/// What a recovery code is stored as. Hyphens, spaces and case are people's.
pub fn recovery_digest(user: UserId, code: &str) -> Digest {
    let plain: String =
        code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    Digest::of("warren recovery code 1", &[user.as_bytes(), plain.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros(seconds * 1_000_000)
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, SHA-1, the last six of eight digits.
        let secret = b"12345678901234567890";
        assert_eq!(step(secret, "287082", at(59)), Some(1));
        assert_eq!(step(secret, "081804", at(1_111_111_109)), Some(37_037_036));
        assert_eq!(step(secret, " 287082 ", at(59 + 30)), Some(1), "a slow clock");
        assert_eq!(step(secret, "287082", at(59 + 60)), None, "too old");
        for bad in ["", "28708", "2870820", "abcdef"] {
            assert_eq!(step(secret, bad, at(59)), None, "{bad}");
        }
    }

    #[test]
    fn recovery_codes_are_read_as_people_type_them() {
        let codes = recovery_codes();
        assert_eq!(codes.len(), RECOVERY_CODES);
        let (one, code) = (UserId::from_bytes([1; 16]), &codes[0]);
        assert_eq!(code.len(), 19, "{code}");
        assert!(!is_one_time(code) && is_one_time("123456"));
        let typed = format!(" {}", code.replace('-', " ").to_uppercase());
        assert_eq!(recovery_digest(one, code), recovery_digest(one, &typed));
        assert_ne!(recovery_digest(one, code), recovery_digest(one, &codes[1]));
        assert_ne!(recovery_digest(one, code), recovery_digest(UserId::from_bytes([2; 16]), code));
    }

    #[test]
    fn authenticators_get_a_name_that_is_a_name() {
        let text = url(&[7; SECRET_BYTES], &"ada".parse().expect("a label"), "[::1]:8443&x=1");
        assert!(text.starts_with("otpauth://totp/Warren:ada@---1--8443-x-1?secret="), "{text}");
    }
}

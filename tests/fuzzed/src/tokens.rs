//! Tokens as people paste them.

use model::token::{ApiToken, OnboardingToken};

/// A token that was accepted reads back as itself, and its secret is in no message.
pub(crate) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(token) = text.parse::<OnboardingToken>() {
        let exposed = token.expose();
        let again: OnboardingToken = exposed.parse().expect("what was accepted is accepted again");
        assert_eq!((again.id, again.key(), again.anchor), (token.id, token.key(), token.anchor));
        let seed = exposed.split('_').nth(2).expect("a token has four parts");
        assert!(!format!("{token:?}").contains(seed));
    }
    if let Ok(token) = text.parse::<ApiToken>() {
        let exposed = token.expose();
        let again: ApiToken = exposed.parse().expect("what was accepted is accepted again");
        assert_eq!((again.id, again.digest(), again.server), (token.id, token.digest(), token.server));
        let secret = exposed.split('_').nth(2).expect("a token has four parts");
        assert!(!format!("{token:?}").contains(secret));
    }
}

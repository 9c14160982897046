//! Secrets as people paste them: onboarding tokens for devices, API tokens for scripts, sessions. Stores nothing.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD_NOCASE as BASE32;
use zeroize::Zeroizing;

use crate::id::{ApiTokenId, TokenId};
use crate::key::{Digest, Fingerprint, TokenKey, TokenSecret};

/// How tokens begin: what they are, and their version.
pub mod head {
    /// An onboarding token.
    pub const ONBOARDING: &str = "wt1_";
    /// An API token.
    pub const API: &str = "wa1_";
    /// A session.
    pub const SESSION: &str = "ws1_";
}

/// The text is no token of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadToken(&'static str);

/// Lets devices enrol: `wt1_<token id>_<Ed25519 seed>_<anchor fingerprint>`, parts in base32 (RFC 4648, lower
/// case, unpadded). The seed signs the enrolment and never crosses the wire; the server keeps its public half.
#[derive(Debug, Clone)]
pub struct OnboardingToken {
    /// Which row.
    pub id: TokenId,
    /// Signs the enrolment transcript.
    pub secret: TokenSecret,
    /// The anchor that the server must prove.
    pub anchor: Fingerprint,
}

impl OnboardingToken {
    /// The whole secret text, to be shown once.
    pub fn expose(&self) -> Zeroizing<String> {
        let [id, seed, anchor] =
            [&self.id.as_bytes()[..], &self.secret.expose_seed()[..], &self.anchor.as_bytes()[..]].map(lower);
        Zeroizing::new(format!("{}{id}_{}_{anchor}", head::ONBOARDING, *Zeroizing::new(seed)))
    }

    /// What the server stores.
    pub fn key(&self) -> TokenKey {
        self.secret.public()
    }
}

impl FromStr for OnboardingToken {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let bad =
            BadToken("an onboarding token looks like wt1_…_…_…; copy it whole from `warren token create`");
        let mut parts = text.trim().strip_prefix(head::ONBOARDING).ok_or(bad)?.split('_');
        let (Some(id), Some(seed), Some(anchor), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad);
        };
        Ok(Self {
            id: TokenId::from_bytes(fixed(id).ok_or(bad)?),
            secret: TokenSecret::from_seed(fixed(seed).ok_or(bad)?),
            anchor: anchor.parse().map_err(|_| bad)?,
        })
    }
}

/// Lets a script administer: `wa1_<id>_<secret>_<fingerprint of the server's TLS key>`. The server keeps a digest of
/// the secret; the fingerprint pins a certificate of the server's own making.
#[derive(Clone)]
pub struct ApiToken {
    /// Which row.
    pub id: ApiTokenId,
    secret: Zeroizing<[u8; 32]>,
    /// SHA-256 of the server certificate's SubjectPublicKeyInfo (RFC 7469, section 2.4).
    pub server: Fingerprint,
}

impl ApiToken {
    /// A token from 32 random bytes.
    pub fn new(id: ApiTokenId, secret: [u8; 32], server: Fingerprint) -> Self {
        Self { id, secret: Zeroizing::new(secret), server }
    }

    /// The whole secret text, to be shown once and to be sent as the bearer.
    pub fn expose(&self) -> Zeroizing<String> {
        let [id, secret, server] =
            [&self.id.as_bytes()[..], &self.secret[..], &self.server.as_bytes()[..]].map(lower);
        Zeroizing::new(format!("{}{id}_{}_{server}", head::API, *Zeroizing::new(secret)))
    }

    /// What the server stores; 256 random bits need no slow hash.
    pub fn digest(&self) -> Digest {
        Digest::of("warren api token 1", &[&self.secret[..]])
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiToken({}, ..)", self.id)
    }
}

impl FromStr for ApiToken {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let bad = BadToken("an API token looks like wa1_…_…_…; copy it whole");
        let mut parts = text.trim().strip_prefix(head::API).ok_or(bad)?.split('_');
        let (Some(id), Some(secret), Some(server), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad);
        };
        Ok(Self::new(
            ApiTokenId::from_bytes(fixed(id).ok_or(bad)?),
            fixed(secret).ok_or(bad)?,
            server.parse().map_err(|_| bad)?,
        ))
    }
}

/// A person's session: `ws1_<secret>_<fingerprint of the server's TLS key>`. The server keeps a digest of the secret.
#[derive(Clone)]
pub struct SessionToken {
    secret: Zeroizing<[u8; 32]>,
    /// As of [`ApiToken::server`].
    pub server: Fingerprint,
}

impl SessionToken {
    /// A session from 32 random bytes.
    pub fn new(secret: [u8; 32], server: Fingerprint) -> Self {
        Self { secret: Zeroizing::new(secret), server }
    }

    /// The whole secret text, to be sent as the bearer.
    pub fn expose(&self) -> Zeroizing<String> {
        let [secret, server] = [&self.secret[..], &self.server.as_bytes()[..]].map(lower);
        Zeroizing::new(format!("{}{}_{server}", head::SESSION, *Zeroizing::new(secret)))
    }

    /// What the server stores; 256 random bits need no slow hash.
    pub fn digest(&self) -> Digest {
        Digest::of("warren session 1", &[&self.secret[..]])
    }
}

impl FromStr for SessionToken {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let bad = BadToken("a session looks like ws1_…_…");
        let mut parts = text.trim().strip_prefix(head::SESSION).ok_or(bad)?.split('_');
        let (Some(secret), Some(server), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad);
        };
        Ok(Self::new(fixed(secret).ok_or(bad)?, server.parse().map_err(|_| bad)?))
    }
}

/// What is sent to prove who asks: a script's token or a person's session.
#[derive(Clone)]
pub enum Bearer {
    /// A script, or a person's program.
    ApiToken(ApiToken),
    /// A person who logged in.
    Session(SessionToken),
}

impl Bearer {
    /// Of the server's TLS key.
    pub const fn server(&self) -> Fingerprint {
        match self {
            Self::ApiToken(token) => token.server,
            Self::Session(session) => session.server,
        }
    }

    /// The whole secret text.
    pub fn expose(&self) -> Zeroizing<String> {
        match self {
            Self::ApiToken(token) => token.expose(),
            Self::Session(session) => session.expose(),
        }
    }
}

impl FromStr for Bearer {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        if text.trim().starts_with(head::SESSION) {
            return text.parse().map(Self::Session);
        }
        text.parse().map(Self::ApiToken)
    }
}

fn lower(bytes: &[u8]) -> String {
    BASE32.encode(bytes).to_ascii_lowercase()
}

fn fixed<const N: usize>(text: &str) -> Option<[u8; N]> {
    Zeroizing::new(BASE32.decode(text.as_bytes()).ok()?).as_slice().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_being_pasted() {
        let token = OnboardingToken {
            id: TokenId::from_bytes([1; 16]),
            secret: TokenSecret::from_seed([2; 32]),
            anchor: Fingerprint::from_bytes([3; 32]),
        };
        let text = token.expose();
        let again: OnboardingToken = format!(" {}\n", *text).parse().expect("the token");
        assert_eq!((again.id, again.key(), again.anchor), (token.id, token.key(), token.anchor));
        assert!(!format!("{token:?}").contains(text.split('_').nth(2).expect("a seed")));
    }

    #[test]
    fn a_session_and_an_api_token_are_told_apart() {
        let server = Fingerprint::from_bytes([3; 32]);
        let session = SessionToken::new([2; 32], server);
        let again: Bearer = session.expose().parse().expect("a session");
        assert!(matches!(&again, Bearer::Session(s) if s.digest() == session.digest()));
        assert_eq!((again.server(), again.expose()), (server, session.expose()));
        let script = ApiToken::new(ApiTokenId::from_bytes([1; 16]), [2; 32], server);
        assert_ne!(script.digest(), session.digest(), "one secret, two purposes");
        assert!(matches!(script.expose().parse(), Ok(Bearer::ApiToken(_))));
        for bad in ["ws1__", "ws1_a_b", "ws1_a", "wx1_a_b_c"] {
            assert!(bad.parse::<Bearer>().is_err(), "{bad}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let whole = ApiToken::new(ApiTokenId::from_bytes([1; 16]), [2; 32], Fingerprint::from_bytes([3; 32]))
            .expose();
        assert!(whole.parse::<ApiToken>().is_ok());
        for bad in
            ["", "wt1", "wt1___", &whole, &whole[..whole.len() - 1], "wt1_a_b_c", "wt2_a_b_c", "wt1_é_é_é"]
        {
            assert!(bad.parse::<OnboardingToken>().is_err(), "{bad}");
        }
    }
}

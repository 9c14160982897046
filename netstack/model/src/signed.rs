//! Statements of an anchor: bytes, a signature, and the proof that it was checked.

use std::marker::PhantomData;

use minicbor::{Decode, Encode};

use crate::key::{AnchorKey, AnchorSecret, BadSignature, Signature};

/// Something that an anchor signs. The domain keeps one kind of statement from being taken for another.
pub trait Statement: Encode<()> + for<'b> Decode<'b, ()> {
    /// A string that no other statement has.
    const DOMAIN: &'static str;
}

/// A statement as it travels and is stored: the very bytes that were signed, and the signature.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Signed<T> {
    #[cbor(n(0), with = "minicbor::bytes")]
    bytes: Vec<u8>,
    #[n(1)]
    signature: Signature,
    #[cbor(skip)]
    what: PhantomData<T>,
}

/// A statement whose signature was verified. Only [`Signed::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted<T>(T);

impl<T> Trusted<T> {
    /// What the anchor said.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> std::ops::Deref for Trusted<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Why a statement is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Signed by somebody else, or not at all.
    #[error("the anchor that is pinned did not sign it")]
    Signature,
    /// Signed, but not of a form that this program knows.
    #[error("it was signed, but cannot be read")]
    Unreadable,
}

impl From<BadSignature> for Untrusted {
    fn from(_: BadSignature) -> Self {
        Self::Signature
    }
}

impl<T: Statement> Signed<T> {
    /// Signs a statement.
    pub fn new(statement: &T, anchor: &AnchorSecret) -> Self {
        let bytes = minicbor::to_vec(statement).expect("writing to memory cannot fail");
        let signature = anchor.sign(T::DOMAIN, &bytes);
        Self { bytes, signature, what: PhantomData }
    }

    /// Checks the signature, then reads the statement.
    pub fn verify(&self, anchor: &AnchorKey) -> Result<Trusted<T>, Untrusted> {
        anchor.verify(T::DOMAIN, &self.bytes, &self.signature)?;
        minicbor::decode(&self.bytes).map(Trusted).map_err(|_| Untrusted::Unreadable)
    }
}

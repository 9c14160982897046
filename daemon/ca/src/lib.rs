//! The SSH certificate authorities of a tenant: which key signs and is trusted, what is in a certificate, what is revoked.
//! Sans-IO: knows no store, no sshd and no clock.
//!
//! ```text
//! who asks ─▶ profile ─▶ Order ─▶ Signer: own caps, own pace, own log ─▶ certificate
//!                                    ▲
//! rotation: which key ───────────────┘          krl: what is taken back
//! ```

mod certificate;
pub mod due;
pub mod krl;
pub mod limits;
pub mod order;
mod pace;
pub mod profile;
pub mod ring;
pub mod rotation;
pub mod secret;
pub mod signer;
pub mod subject;

pub use certificate::{BadCertificate, HostCertificate};
pub use krl::{OfAuthority, RevocationList};
pub use order::{BadPermit, Holder, KeyName, Order, Permit};
pub use pace::Paces;
pub use ring::KeyRing;
pub use rotation::{Ground, KeyGeneration, Missing, Phase, Rotation, Step, StepRefused, Verifier};
pub use secret::CaSecret;
pub use signer::{Caps, Certificate, LogLine, Signer, SignerLog};
pub use subject::{KeyType, Subject};

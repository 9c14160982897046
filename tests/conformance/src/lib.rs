//! Magic DNS beside a name server that nobody here wrote: NSD with the same zones, asked the same questions.
//!
//! [`Home`] is a zone from a seed, as Warren holds it and as a zone file; [`Asker`] makes questions about it, plain and
//! odd; [`Nsd`] is the other server; [`Said`] is what an answer says, whatever its bytes; [`level`] knows where the two may
//! differ.

mod asker;
mod dice;
mod excuses;
mod home;
mod nsd;
mod said;
mod words;

pub use asker::Asker;
pub use excuses::{Excuse, level};
pub use home::Home;
pub use nsd::Nsd;
pub use said::{Said, TC};

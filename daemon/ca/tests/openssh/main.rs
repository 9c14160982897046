//! What OpenSSH's own `ssh-keygen` says of our certificates and revocation lists. Runs no sshd.

mod certificates;
mod keygen;
mod lists;

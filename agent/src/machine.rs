//! What this machine calls itself. Trusts none of it: the server makes a name of it, people read the rest.

/// The host name, as it is.
pub fn hostname() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

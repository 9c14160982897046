//! What this machine calls itself. Trusts none of it: the server makes a name of it, people read the rest.

use std::fs;

/// The host name, as it is.
pub fn hostname() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The operating system for people, such as `Debian GNU/Linux 12 (bookworm), x86_64` (os-release(5)).
pub fn operating_system() -> String {
    let text =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(path).ok());
    let name = text.as_deref().and_then(pretty_name).unwrap_or("Linux");
    format!("{name}, {}", std::env::consts::ARCH)
}

fn pretty_name(text: &str) -> Option<&str> {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let value = value.trim().trim_matches(|c| c == '"' || c == '\'');
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pretty_name_is_found() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(pretty_name(text), expect, "{text}");
        check(
            "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
            Some("Debian GNU/Linux 12 (bookworm)"),
        );
        check("PRETTY_NAME=Alpine", Some("Alpine"));
        check("PRETTY_NAME=\"\"", None);
        check("", None);
    }
}

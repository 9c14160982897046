//! Which sources programs of the C library ask for a name, in which order (`nsswitch.conf(5)`).

/// Where it stands.
pub const NSSWITCH: &str = "/etc/nsswitch.conf";
/// Without a line of its own.
const DEFAULT: [&str; 2] = ["files", "dns"];

/// The sources, such as `files`, `resolve` and `dns`. What is to be done after each (`[!UNAVAIL=return]`) is left out.
pub fn sources(text: &str) -> Vec<String> {
    let line = text.lines().filter_map(|line| line.trim_start().strip_prefix("hosts:")).next_back();
    let Some(line) = line else { return DEFAULT.map(str::to_owned).into() };
    let line = line.split('#').next().unwrap_or_default();
    let (mut sources, mut in_action) = (Vec::new(), false);
    for word in line.split_whitespace() {
        in_action |= word.starts_with('[');
        if !in_action {
            sources.push(word.to_owned());
        }
        in_action &= !word.ends_with(']');
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_in_order_without_actions() {
        let check = |text: &str, expect: &[&str]| assert_eq!(sources(text), expect, "{text:?}");
        check("", &["files", "dns"]);
        check("passwd: files\n#hosts: x\n", &["files", "dns"]);
        check("hosts:\tfiles dns\n", &["files", "dns"]);
        check(
            "hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns # all\n",
            &["mymachines", "resolve", "files", "myhostname", "dns"],
        );
        check("hosts: files [ NOTFOUND=return SUCCESS=return ] dns\n", &["files", "dns"]);
        check("hosts: files mdns4_minimal [NOTFOUND=return]\n", &["files", "mdns4_minimal"]);
    }
}

//! What `sshd_config` says of drop-ins, and what `sshd -T` says is in force. Runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The directory of drop-ins that a configuration reads before any `Match`: sshd takes the first value of a keyword, and
/// what comes after a `Match` is within it.
pub(super) fn drop_ins(text: &str, config: &Path) -> Option<PathBuf> {
    let folder = config.parent()?;
    for line in text.lines() {
        let (keyword, value) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        if keyword.eq_ignore_ascii_case("match") {
            return None;
        }
        if !keyword.eq_ignore_ascii_case("include") {
            continue;
        }
        let patterns = value.split_whitespace().map(|word| word.trim_matches('"'));
        let directory = patterns.filter_map(|pattern| pattern.strip_suffix("/*.conf")).next();
        if let Some(directory) = directory {
            return Some(folder.join(directory));
        }
    }
    None
}

/// What is in force for one connection: every line of `sshd -T`, by its keyword.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct InForce(BTreeMap<String, BTreeSet<String>>);

impl InForce {
    pub(super) fn read(text: &str) -> Self {
        let mut lines: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in text.lines() {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            lines.entry(keyword.to_ascii_lowercase()).or_default().insert(value.trim().to_owned());
        }
        Self(lines)
    }

    /// The values of a keyword; `none` is none.
    pub(super) fn values(&self, keyword: &str) -> impl Iterator<Item = &str> {
        self.0.get(keyword).into_iter().flatten().map(String::as_str).filter(|value| *value != "none")
    }

    /// Keywords that are otherwise in `after`.
    pub(super) fn changed<'a>(&'a self, after: &'a Self) -> BTreeSet<&'a str> {
        let keywords = self.0.keys().chain(after.0.keys());
        keywords.filter(|key| self.0.get(*key) != after.0.get(*key)).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_are_where_the_first_include_says() {
        let check = |text: &str, expect: Option<&str>| {
            let found = drop_ins(text, Path::new("/etc/ssh/sshd_config"));
            assert_eq!(found.as_deref(), expect.map(Path::new), "{text:?}");
        };
        check("# x\nInclude /etc/ssh/sshd_config.d/*.conf\nPort 22\n", Some("/etc/ssh/sshd_config.d"));
        check("  include sshd_config.d/*.conf", Some("/etc/ssh/sshd_config.d"));
        check("Include \"/a b\" /c/*.conf", Some("/c"));
        check("Port 22\n", None);
        check("#Include /etc/ssh/sshd_config.d/*.conf\n", None);
        check("Include /etc/ssh/other.conf\n", None);
        check("Match User git\nInclude /etc/ssh/sshd_config.d/*.conf\n", None);
    }

    #[test]
    fn what_is_in_force_is_compared_by_keyword() {
        let before = InForce::read("port 22\ntrustedusercakeys none\nhostkey /a\nhostkey /b\n");
        let after =
            InForce::read("port 22\ntrustedusercakeys /x\nhostkey /b\nhostkey /a\nhostcertificate /c\n");
        assert_eq!(before.changed(&after), ["trustedusercakeys", "hostcertificate"].into());
        assert_eq!(before.values("trustedusercakeys").count(), 0);
        assert_eq!(after.values("hostkey").collect::<Vec<_>>(), ["/a", "/b"]);
    }
}

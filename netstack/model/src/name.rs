//! DNS names: a label for a device or tenant, and a whole name. Lower case always (RFC 4343).

use std::fmt;
use std::str::FromStr;

use crate::limits::{LABEL_BYTES_MAX, NAME_BYTES_MAX};
use crate::text::{cbor_as_text, serde_as_text};

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing there, or two dots in a row.
    #[error("a label is empty")]
    Empty,
    /// Longer than RFC 1035 section 2.3.4 allows.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// A byte outside letters, digits and hyphen (RFC 1123 section 2.1).
    #[error("only letters, digits and inner hyphens are allowed")]
    BadByte,
    /// A byte that not even the names of services have.
    #[error(
        "only letters, digits, underscores and inner hyphens are allowed, and * as the whole first label"
    )]
    BadNameByte,
    /// A wildcard in the wrong place (RFC 4592 section 2.1.1).
    #[error("an asterisk can only be the whole first label, as in *.host")]
    Asterisk,
}

/// One label: 1 to 63 bytes of `a-z`, `0-9` and inner hyphens (RFC 1123).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Box<str>);

impl Label {
    /// What a host calls itself, made into a label: the first label, lower-cased, other bytes to hyphens, cut
    /// at 63. `None` if nothing usable is left.
    pub fn from_hostname(hostname: &str) -> Option<Self> {
        let first = hostname.split('.').next().unwrap_or_default();
        let mut out = String::with_capacity(first.len().min(LABEL_BYTES_MAX));
        for c in first.chars() {
            let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
            if out.len() == LABEL_BYTES_MAX {
                break;
            }
            if c != '-' || (!out.is_empty() && !out.ends_with('-')) {
                out.push(c);
            }
        }
        out.trim_end_matches('-').parse().ok()
    }

    /// The same label with `-2`, `-3`, … at the end, shortened so that it fits: for collisions.
    pub fn with_suffix(&self, number: u32) -> Self {
        let suffix = format!("-{number}");
        let keep = self.0.len().min(LABEL_BYTES_MAX - suffix.len());
        Self(format!("{}{suffix}", self.0[..keep].trim_end_matches('-')).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        check_label(text, |b| b.is_ascii_alphanumeric() || b == b'-')?;
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

fn check_label(text: &str, allowed: impl Fn(u8) -> bool) -> Result<(), BadName> {
    if text.is_empty() {
        return Err(BadName::Empty);
    }
    if text.len() > LABEL_BYTES_MAX {
        return Err(BadName::TooLong(LABEL_BYTES_MAX));
    }
    let good = text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-');
    if good { Ok(()) } else { Err(BadName::BadByte) }
}

/// A whole domain name without the final dot: labels of letters, digits, hyphens and, for service names,
/// underscores. The first may be `*`, which only the owner of a record means. At most 253 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// `label.self`.
    pub fn child(&self, label: &Label) -> Result<Self, BadName> {
        format!("{label}.{self}").parse()
    }

    /// `prefix.self`, where the prefix is itself a name.
    pub fn below(&self, prefix: &Self) -> Result<Self, BadName> {
        format!("{prefix}.{self}").parse()
    }

    /// The name without its first label; `None` at a top-level name.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, rest)| Self(rest.into()))
    }

    /// Whether the name is `origin` or ends in `.origin`.
    pub fn is_within(&self, origin: &Self) -> bool {
        self.0.strip_suffix(&*origin.0).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// Whether the first label is `*` (RFC 4592): of use as the owner of records and nowhere else.
    pub fn is_wildcard(&self) -> bool {
        &*self.0 == "*" || self.0.starts_with("*.")
    }

    /// The labels, leftmost first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// The text, without the final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > NAME_BYTES_MAX {
            return Err(BadName::TooLong(NAME_BYTES_MAX));
        }
        for (at, label) in text.split('.').enumerate() {
            if at > 0 || label != "*" {
                if label.contains('*') {
                    return Err(BadName::Asterisk);
                }
                let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                check_label(label, is_allowed).map_err(|bad| match bad {
                    BadName::BadByte => BadName::BadNameByte,
                    other => other,
                })?;
            }
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl From<Label> for Name {
    fn from(label: Label) -> Self {
        Self(label.0)
    }
}

macro_rules! prints_as_text {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        cbor_as_text!($type);
        serde_as_text!($type);
    };
}

prints_as_text!(Label);
prints_as_text!(Name);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_become_labels_or_nothing() {
        let check = |hostname: &str, expect: Option<&str>| {
            assert_eq!(Label::from_hostname(hostname).as_ref().map(Label::as_str), expect, "{hostname:?}");
        };
        check("Laptop", Some("laptop"));
        check("my laptop.local", Some("my-laptop"));
        check("--x--", Some("x"));
        check("Ünïcode", Some("n-code"));
        check("\u{0}\n; rm -rf /", Some("rm-rf"));
        check("日本", None);
        check("", None);
        check(&"a".repeat(300), Some(&"a".repeat(63)));
    }

    #[test]
    fn labels_refuse_what_dns_refuses() {
        for bad in ["", "-a", "a-", "a.b", "a_b", "a b", &"a".repeat(64)] {
            assert!(bad.parse::<Label>().is_err(), "{bad:?}");
        }
        assert_eq!("A-1".parse::<Label>().map(|l| l.to_string()), Ok("a-1".into()));
    }

    #[test]
    fn suffixes_keep_the_length() {
        let long: Label = "a".repeat(63).parse().expect("63 bytes are a label");
        assert_eq!(long.with_suffix(12).as_str().len(), 63);
        assert!(long.with_suffix(12).as_str().ends_with("-12"));
    }

    #[test]
    fn names_know_their_zone() {
        let name = |t: &str| t.parse::<Name>().expect("a name");
        assert!(name("a.home.internal").is_within(&name("home.internal")));
        assert!(name("home.internal.").is_within(&name("home.internal")));
        assert!(!name("ahome.internal").is_within(&name("home.internal")));
        assert!("a..b".parse::<Name>().is_err());
        assert!("a.*.b".parse::<Name>().is_err());
        assert!(format!("{}.x", ["a"; 127].join(".")).parse::<Name>().is_err());
        assert_eq!(name("*.Dev._tcp.x").as_str(), "*.dev._tcp.x");
    }

    #[test]
    fn only_the_first_label_may_be_an_asterisk() {
        let check = |text: &str, expect: Option<bool>| {
            assert_eq!(text.parse::<Name>().ok().map(|name| name.is_wildcard()), expect, "{text:?}");
        };
        check("*", Some(true));
        check("*.", Some(true));
        check("*.host", Some(true));
        check("a.host", Some(false));
        for bad in ["a.*", "a.*.b", "*.*.b", "**", "*a.b", "a*.b", ".*", "*..b"] {
            check(bad, None);
        }
        assert_eq!("a.*.b".parse::<Name>(), Err(BadName::Asterisk));
        assert_eq!("a b.c".parse::<Name>(), Err(BadName::BadNameByte), "a name may have more than a label");
        assert_eq!("a_b".parse::<Label>(), Err(BadName::BadByte));
    }
}

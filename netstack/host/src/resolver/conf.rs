//! `resolv.conf(5)` as bytes: what it says, our lines in it, and what it was without them. Touches no file.
//!
//! ```text
//! # Warren: begin. …               ┐
//! # warren servers=… domain=…      │ ours: the setting as a remark, so that it reads back whole
//! nameserver 100.64.0.2            │
//! search home.internal corp.test   │ ours first, then what was searched before
//! # Warren: interface wg0          │
//! # Warren: end.                   ┘
//! nameserver 192.0.2.1               the rest as it was, to the byte,
//! #warren# search corp.test          but for lines that would undo ours: they stand behind a mark
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use engine::ResolverSetting;
use model::Name;

const BEGIN: &[u8] = b"# Warren: begin. Taken away again when Warren stops; edit what is below the end.";
const END: &[u8] = b"# Warren: end.";
const REMARK: &str = "# warren ";
const HOLDER: &str = "# Warren: interface ";
/// Before a line of others that would undo ours. Taken away again with our lines.
const MARK: &[u8] = b"#warren# ";
/// The C library reads no more servers of a file.
pub const SERVERS_MAX: usize = 3;

/// What a file says to the C library.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// In the order in which they are asked; the library reads the first [`SERVERS_MAX`].
    pub servers: Vec<IpAddr>,
    /// What is appended to short names. Of several lines the last counts.
    pub search: Vec<String>,
    /// All options of all lines.
    pub options: Vec<String>,
}

impl Said {
    /// Whether questions go to the servers in turn instead of to the first one first.
    pub fn rotates(&self) -> bool {
        self.options.iter().any(|option| option == "rotate")
    }
}

/// Reads a file as the C library does.
pub fn said(text: &[u8]) -> Said {
    let mut said = Said::default();
    for line in lines(text) {
        let Some((keyword, values)) = keyword(line) else { continue };
        match keyword {
            b"nameserver" => said.servers.extend(values.first().and_then(|value| address(value))),
            b"search" => said.search = values.iter().map(|value| lossy(value)).collect(),
            b"domain" => said.search = values.iter().take(1).map(|value| lossy(value)).collect(),
            b"options" => said.options.extend(values.iter().map(|value| lossy(value))),
            _ => {}
        }
    }
    said
}

/// The servers as they are written, those after the [`SERVERS_MAX`]th too.
pub(super) fn written_servers(text: &[u8]) -> impl Iterator<Item = &str> {
    let values = lines(text).filter_map(keyword).filter(|(keyword, _)| keyword == b"nameserver");
    values.filter_map(|(_, values)| std::str::from_utf8(values.first()?).ok())
}

/// What our lines are to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) interface: &'a str,
    pub(crate) setting: &'a ResolverSetting,
    /// What the C library searches when no line says it: the domain of the machine's own name.
    pub(crate) implied: Option<&'a str>,
}

impl Wish<'_> {
    /// The whole file, from what it was without us. The inverse of [`original`].
    pub(crate) fn render(&self, original: &[u8]) -> Vec<u8> {
        let said = said(original);
        let mut text = BEGIN.to_vec();
        text.extend_from_slice(format!("\n{}", remark(self.setting)).as_bytes());
        if let Some(server) = self.setting.servers.first() {
            text.extend_from_slice(format!("nameserver {server}\n").as_bytes());
        }
        if said.servers.is_empty() {
            // What a file without servers means: the name server of this machine.
            text.extend_from_slice(format!("nameserver {}\n", Ipv4Addr::LOCALHOST).as_bytes());
        }
        text.extend_from_slice(&self.search(original));
        if said.rotates() {
            let kept: Vec<&str> =
                said.options.iter().map(String::as_str).filter(|option| *option != "rotate").collect();
            if !kept.is_empty() {
                text.extend_from_slice(format!("options {}\n", kept.join(" ")).as_bytes());
            }
        }
        text.extend_from_slice(format!("{HOLDER}{}\n", self.interface).as_bytes());
        text.extend_from_slice(END);
        text.push(b'\n');
        for line in lines(original) {
            if undoes(line, said.rotates()) {
                text.extend_from_slice(MARK);
            }
            text.extend_from_slice(line);
        }
        text
    }

    fn search(&self, original: &[u8]) -> Vec<u8> {
        let own: Vec<&str> =
            std::iter::once(&self.setting.domain).chain(&self.setting.search).map(Name::as_str).collect();
        let mut line = format!("search {}", own.join(" ")).into_bytes();
        for domain in
            searched(original).unwrap_or_else(|| self.implied.map(str::as_bytes).into_iter().collect())
        {
            if !own.iter().any(|own| domain.eq_ignore_ascii_case(own.as_bytes())) {
                line.push(b' ');
                line.extend_from_slice(domain);
            }
        }
        line.push(b'\n');
        line
    }
}

/// A second search list takes the place of ours; options of several lines add up; a line with our mark would lose it
/// on the way back.
fn undoes(line: &[u8], rotates: bool) -> bool {
    let undone = match keyword(line) {
        Some((b"search" | b"domain", _)) => true,
        Some((b"options", _)) => rotates,
        _ => false,
    };
    undone || line.starts_with(MARK)
}

/// Whether our lines are the first: nobody else wrote since, but perhaps an administrator below them.
pub(crate) fn begins_with_ours(text: &[u8]) -> bool {
    lines(text).next().is_some_and(|line| trimmed(line) == BEGIN)
}

/// Whether our lines are in it.
pub(crate) fn has_ours(text: &[u8]) -> bool {
    lines(text).any(|line| trimmed(line) == BEGIN)
}

/// Whether our lines are in it from begin to end.
pub(crate) fn is_whole(text: &[u8]) -> bool {
    let mut ours = lines(text).skip_while(|line| trimmed(line) != BEGIN);
    ours.any(|line| trimmed(line) == END)
}

/// Whose lines of ours these are: the interface of a mesh.
pub(crate) fn holder(text: &[u8]) -> Option<String> {
    ours(text).find_map(|line| lossy(trimmed(line)).strip_prefix(HOLDER).map(str::to_owned))
}

/// What our lines say.
pub(crate) fn setting(text: &[u8]) -> Option<ResolverSetting> {
    ours(text).find_map(|line| parse_remark(&lossy(trimmed(line))))
}

/// What the file is without our lines, with what others wrote around them. A file without them is as it is.
pub(crate) fn original(text: &[u8]) -> Vec<u8> {
    if !has_ours(text) {
        return text.to_vec();
    }
    let (cut, setting) = (!is_whole(text), setting(text));
    let (mut rest, mut inside, mut after) = (Vec::with_capacity(text.len()), false, false);
    for line in lines(text) {
        let bare = trimmed(line);
        if bare == BEGIN {
            inside = true;
        } else if inside && bare == END {
            (inside, after) = (false, true);
        } else if !inside || cut && !may_be_ours(bare, setting.as_ref()) {
            // Where somebody took the end away, what cannot be ours is not.
            inside = false;
            rest.extend_from_slice(line.strip_prefix(MARK).filter(|_| after || cut).unwrap_or(line));
        }
    }
    rest
}

fn may_be_ours(line: &[u8], setting: Option<&ResolverSetting>) -> bool {
    let line = lossy(line);
    let own = setting.is_some_and(|setting| {
        let mut servers = setting.servers.iter();
        servers.any(|server| line == format!("nameserver {server}"))
            || line.starts_with(&format!("search {}", setting.domain))
    });
    own || line.starts_with(HOLDER) || line.starts_with(REMARK)
}

/// The lines between our begin and our end.
fn ours(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ours = lines(text).skip_while(|line| trimmed(line) != BEGIN);
    ours.take_while(|line| trimmed(line) != END)
}

/// The setting as a comment.
fn remark(setting: &ResolverSetting) -> String {
    let join = |values: Vec<String>| values.join(",");
    let servers = join(setting.servers.iter().map(ToString::to_string).collect());
    let reverse = join(setting.reverse.iter().map(ToString::to_string).collect());
    let search = join(setting.search.iter().map(ToString::to_string).collect());
    format!("{REMARK}servers={servers} domain={} reverse={reverse} search={search}\n", setting.domain)
}

/// The inverse of [`remark`].
fn parse_remark(line: &str) -> Option<ResolverSetting> {
    let mut words = line.strip_prefix(REMARK)?.split(' ').filter(|word| !word.is_empty());
    fn list<T: FromStr>(word: Option<&str>, key: &str) -> Option<Vec<T>> {
        let values = word?.strip_prefix(key)?;
        values.split(',').filter(|v| !v.is_empty()).map(|v| v.parse().ok()).collect()
    }
    let servers = list(words.next(), "servers=")?;
    let domain = words.next()?.strip_prefix("domain=")?.parse().ok()?;
    let reverse = list(words.next(), "reverse=")?;
    // What an agent before this one wrote has no more words.
    let search = words.next().map_or(Some(Vec::new()), |word| list(Some(word), "search="))?;
    Some(ResolverSetting { servers, domain, search, reverse })
}

/// The domains of the last line that has any. `None`: no line says it.
fn searched(text: &[u8]) -> Option<Vec<&[u8]>> {
    lines(text).filter_map(keyword).fold(None, |last, (keyword, values)| match keyword {
        b"search" => Some(values),
        b"domain" => Some(values.into_iter().take(1).collect()),
        _ => last,
    })
}

/// The keyword and what follows it; a keyword begins its line, and without values it says nothing.
fn keyword(line: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let line = trimmed(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if matches!(line.first(), None | Some(b'#' | b';' | b' ' | b'\t')) {
        return None;
    }
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let keyword = words.next()?;
    Some((keyword, words.collect())).filter(|(_, values): &(_, Vec<_>)| !values.is_empty())
}

/// A scoped address (`fe80::1%eth0`) is one, too.
fn address(value: &[u8]) -> Option<IpAddr> {
    let value = std::str::from_utf8(value).ok()?;
    value.split('%').next()?.parse().ok()
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGINAL: &[u8] =
        b"# mine\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch corp.example lan\noptions edns0\n";

    fn setting_of(domain: &str) -> ResolverSetting {
        ResolverSetting {
            servers: vec!["100.64.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            domain: domain.parse().unwrap(),
            search: Vec::new(),
            reverse: vec!["100.64.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()],
        }
    }

    fn render(original: &[u8], implied: Option<&str>) -> Vec<u8> {
        Wish { interface: "wg0", setting: &setting_of("home.internal"), implied }.render(original)
    }

    fn check(original: &[u8], servers: &[&str], search: &[&str], options: &[&str]) {
        let text = render(original, Some("implied.test"));
        let said = said(&text);
        let parsed: Vec<IpAddr> = servers.iter().map(|s| s.parse().unwrap()).collect();
        assert_eq!(
            (said.servers, said.search, said.options),
            (
                parsed,
                search.iter().map(ToString::to_string).collect(),
                options.iter().map(ToString::to_string).collect()
            )
        );
        assert_eq!(super::original(&text), original);
        assert_eq!(setting(&text), Some(setting_of("home.internal")));
        assert_eq!(holder(&text).as_deref(), Some("wg0"));
    }

    #[test]
    fn our_server_comes_first_and_the_original_stays_below() {
        let (own, home) = ("100.64.0.2", "home.internal");
        let all = [own, "192.0.2.1", "192.0.2.2"];
        check(ORIGINAL, &all, &[home, "corp.example", "lan"], &["edns0"]);
        check(b"", &[own, "127.0.0.1"], &[home, "implied.test"], &[]);
        check(b"nameserver 192.0.2.1", &[own, "192.0.2.1"], &[home, "implied.test"], &[]);
        check(b"domain a.test\ndomain b.test c.test\n", &[own, "127.0.0.1"], &[home, "b.test"], &[]);
        check(b"search HOME.internal x.test\n", &[own, "127.0.0.1"], &[home, "x.test"], &[]);
    }

    #[test]
    fn servers_in_turn_would_pass_ours_by() {
        let text = b"options rotate timeout:1\nnameserver 192.0.2.1\noptions edns0\n";
        let servers = ["100.64.0.2", "192.0.2.1"];
        check(text, &servers, &["home.internal", "implied.test"], &["timeout:1", "edns0"]);
        check(b"options rotate\nnameserver 192.0.2.1\n", &servers, &["home.internal", "implied.test"], &[]);
    }

    #[test]
    fn what_others_write_around_ours_is_kept() {
        let text = render(ORIGINAL, None);
        let edited = [b"nameserver 198.51.100.1\n".as_slice(), &text, b"search theirs.test\n"].concat();
        assert!(has_ours(&edited) && !begins_with_ours(&edited) && begins_with_ours(&text));
        let rest = original(&edited);
        assert_eq!(
            rest,
            [b"nameserver 198.51.100.1\n".as_slice(), ORIGINAL, b"search theirs.test\n"].concat()
        );
        let again = said(&render(&rest, None));
        assert_eq!(
            again.search,
            ["home.internal", "theirs.test"],
            "the last list of theirs counted before, too"
        );
    }

    #[test]
    fn a_file_whose_end_was_taken_away_loses_only_what_is_ours() {
        let text = render(b"nameserver 192.0.2.1\nsearch lan\n", None);
        let cut: Vec<&[u8]> = lines(&text).filter(|line| trimmed(line) != END).collect();
        assert!(!is_whole(&cut.concat()));
        assert_eq!(original(&cut.concat()), b"nameserver 192.0.2.1\nsearch lan\n");
    }

    #[test]
    fn a_damaged_remark_is_no_setting() {
        let whole = remark(&setting_of("a.internal"));
        assert_eq!(parse_remark(whole.trim_end()), Some(setting_of("a.internal")));
        for bad in [
            "# warren",
            "# warren servers=x domain=a reverse=",
            "# warren servers= domain= reverse=",
            "nameserver 1",
        ] {
            assert_eq!(parse_remark(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_that_end_as_on_windows_are_read_and_come_back_to_the_byte() {
        let text = b"nameserver 203.0.113.53\r\nsearch corp.example lan\r\noptions rotate\r\n\r\n";
        let read = said(text);
        assert_eq!(read.servers, ["203.0.113.53".parse::<IpAddr>().unwrap()]);
        assert_eq!(
            (read.search.as_slice(), read.rotates()),
            (["corp.example", "lan"].map(String::from).as_slice(), true)
        );
        check(text, &["100.64.0.2", "203.0.113.53"], &["home.internal", "corp.example", "lan"], &[]);
    }

    #[test]
    fn files_are_read_as_the_c_library_reads_them() {
        let text = b"; no\n#no\n nameserver 192.0.2.9\nnameserver\t192.0.2.1\nnameserver fe80::1%eth0\nnameserver x\n\
            search a b\nsearch\noptions ndots:2  rotate\noptions edns0\nsortlist 1\n\xff\xfe\n";
        let said = said(text);
        assert_eq!(said.servers, ["192.0.2.1".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
        assert!(said.rotates());
        assert_eq!(said.search, ["a", "b"]);
        assert_eq!(said.options, ["ndots:2", "rotate", "edns0"]);
    }

    proptest! {
        #[test]
        fn whatever_it_was_comes_back_to_the_byte(
            parts in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..20),
                    prop::sample::select(vec![
                        b"nameserver 192.0.2.1".to_vec(), b"search a b".to_vec(), b"options rotate x".to_vec(),
                        MARK.to_vec(), b"#warren# search x".to_vec(), END.to_vec(), b"# warren servers=".to_vec(),
                        b"\n".to_vec(),
                    ]),
                ],
                0..12,
            ),
            newlines in any::<bool>(),
        ) {
            let was = parts.join(if newlines { b"\n".as_slice() } else { b"" });
            prop_assume!(!has_ours(&was));
            let text = render(&was, None);
            prop_assert_eq!(&original(&text), &was);
        }
    }
}

//! Takes secrets out of texts that leave the server: those that it knows, and whatever looks like one.

use model::token::head;
use zeroize::Zeroizing;

/// What stands where a secret was.
const MASK: &str = "***";
/// A shorter secret would tear up ordinary words, and is no secret.
const SECRET_BYTES_MIN: usize = 6;
/// How tokens begin.
const TOKENS: [&str; 3] = [head::ONBOARDING, head::API, head::SESSION];
/// Names whose value is a secret, with what stands between.
const NAMES: [&str; 6] = ["secret", "password", "passphrase", "passwd", "authorization", "private_key"];
/// A private key in PEM lies between lines with these parts (RFC 7468).
const PEM: (&str, &str) = ("-----BEGIN ", "-----END ");

/// Knows the server's own secrets.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Vec<Zeroizing<String>>,
}

impl Redactor {
    /// These are secrets, whatever they look like.
    pub fn new(known: Vec<Zeroizing<String>>) -> Self {
        let known = known.into_iter().filter(|secret| secret.len() >= SECRET_BYTES_MIN);
        Self { known: known.collect() }
    }

    /// The text without them.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.known {
            text = text.replace(secret.as_str(), MASK);
        }
        let text = without_private_keys(&text);
        let lines = text.split('\n').map(|line| without_passwords(&without_values(&without_tokens(line))));
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The head of a token says what it was; the rest goes.
fn without_tokens(line: &str) -> String {
    TOKENS.iter().fold(line.to_owned(), |line, head| {
        let mut parts = line.split(head);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            out.push_str(head);
            out.push_str(MASK);
            out.push_str(part.trim_start_matches(of_token));
        }
        out
    })
}

/// `password=x`, `"secret": "x"`, `Authorization: Bearer x` and the like.
fn without_values(line: &str) -> String {
    NAMES.iter().fold(line.to_owned(), |line, name| {
        let lower = line.to_ascii_lowercase();
        let (mut out, mut from) = (String::new(), 0);
        while let Some(at) = lower[from..].find(name).map(|at| from + at + name.len()) {
            out.push_str(&line[from..at]);
            let rest = &line[at..];
            let gap = rest.len() - rest.trim_start_matches(['"', '\'', '\\', ' ', ':', '=']).len();
            let separates = rest[..gap].contains(['=', ':']);
            let value = if separates { value_bytes(&rest[gap..]) } else { 0 };
            out.push_str(&rest[..gap]);
            if value > 0 {
                out.push_str(MASK);
            }
            from = at + gap + value;
        }
        out.push_str(&line[from..]);
        out
    })
}

/// A value goes to the next blank or quote; a scheme such as `Bearer` belongs to it.
fn value_bytes(text: &str) -> usize {
    let word = |text: &str| text.find([' ', '"', '\'', '\\', '&', ',', '}']).unwrap_or(text.len());
    let first = word(text);
    match &text[..first] {
        "Bearer" | "Basic" if text.len() > first => first + 1 + word(&text[first + 1..]),
        _ => first,
    }
}

/// `scheme://user:password@host` keeps scheme and host.
fn without_passwords(line: &str) -> String {
    let mut parts = line.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("://");
        let authority = part.find(['/', ' ', '"', '\'']).unwrap_or(part.len());
        match part[..authority].rfind('@') {
            Some(at) => {
                out.push_str(MASK);
                out.push_str(&part[at..]);
            }
            None => out.push_str(part),
        }
    }
    out
}

fn without_private_keys(text: &str) -> String {
    let mut out = Vec::new();
    let mut inside = false;
    for line in text.split('\n') {
        let private = line.contains("PRIVATE KEY");
        if let Some((before, _)) = line.split_once(PEM.0).filter(|_| private) {
            out.push(format!("{before}{MASK}"));
            // In one line, with its ends escaped, all of it goes.
            inside = !line.contains(PEM.1);
        } else if inside {
            inside = !(line.contains(PEM.1) && private);
        } else {
            out.push(line.to_owned());
        }
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(text: &str) -> String {
        let known = ["violet tram 9 opens", "short"].map(|secret| Zeroizing::new(secret.to_owned()));
        Redactor::new(known.into()).redact(text)
    }

    #[test]
    fn secrets_of_every_kind_go_and_the_rest_stays() {
        let check = |text: &str, expect: &str| assert_eq!(redact(text), expect);
        check("a violet tram 9 opens b", "a *** b");
        check("in short: nothing", "in short: nothing");
        check("token wt1_abc_def_ghi.", "token wt1_***.");
        check("wa1_a_b_c, ws1_x_y wa1_d", "wa1_***, ws1_*** wa1_***");
        check("https://h/setup?secret=abc&x=1", "https://h/setup?secret=***&x=1");
        check(r#"{"password": "hunter2", "user": "ada"}"#, r#"{"password": "***", "user": "ada"}"#);
        check(r#"{\"secret\":\"x\"}"#, r#"{\"secret\":\"***\"}"#);
        check("Authorization: Bearer abc.def x", "Authorization: *** x");
        check("database = \"postgres://u:p@ss@db/warren\"", "database = \"postgres://***@db/warren\"");
        check("url=https://vpn.example.org:8443/ x@y", "url=https://vpn.example.org:8443/ x@y");
        check("the password is wrong", "the password is wrong");
        check("PASSPHRASE=x y", "PASSPHRASE=*** y");
        let pem = "a\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\nz";
        check(pem, "a\n***\nz");
        check("x -----BEGIN PRIVATE KEY-----\\nabc\\n-----END PRIVATE KEY----- y", "x ***");
        check("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----");
    }
}

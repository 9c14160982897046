//! Settings from flags over environment over a TOML file over defaults, all declared once, as clap arguments.
//!
//! The file is flat: `public_url = "https://…"` sets what `--public-url` and `WARREN_PUBLIC_URL` set. Keys that no
//! argument has are refused. Values of arguments whose environment value is hidden are secrets and print as `***`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, Parser};

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was named cannot be read.
    #[error("configuration file {path} cannot be read")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("configuration file {path} is not TOML: {source}")]
    NotToml {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The file has a key that no argument has.
    #[error("configuration file {path}: unknown setting {key:?}; see --help")]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// The file has a table or a date where a plain value belongs.
    #[error("configuration file {path}: {key:?} must be a text, a number, true or false, or a list of texts")]
    BadValue {
        /// Which file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A setting does nothing beside another one.
    #[error(transparent)]
    WithoutEffect(#[from] WithoutEffect),
    /// The command line, the environment or a value in the file is wrong, or only help was asked for.
    #[error(transparent)]
    Usage(#[from] clap::Error),
}

/// A setting that would be passed over in silence: whoever sets it wants something else than they get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("setting-without-effect: --{setting} does nothing {because}: leave it out, or {instead}")]
pub struct WithoutEffect {
    /// Its name, as a flag without dashes.
    pub setting: &'static str,
    /// Beside what: `in mode kernel`.
    pub because: &'static str,
    /// What would give it an effect, as an order.
    pub instead: &'static str,
}

impl ConfigError {
    /// Prints it as clap would and gives the exit code: 0 for help and version, else 2.
    pub fn report(&self) -> std::process::ExitCode {
        match self {
            Self::Usage(error) => {
                // Nothing is left to do if the terminal is gone.
                let _ = error.print();
                if error.use_stderr() { 2.into() } else { 0.into() }
            }
            other => {
                use std::io::Write as _;
                let _ = writeln!(std::io::stderr(), "error: {other}");
                2.into()
            }
        }
    }
}

/// Reads the settings of a daemon. `default_file` is read if it is there; a file named by `--config` or `WARREN_CONFIG`
/// must be. Returns the settings, and all of them as text for `--print-config`.
pub fn read<A: Parser>(default_file: &str) -> Result<(A, String), ConfigError> {
    read_from(default_file, std::env::args_os().collect(), std::env::var_os("WARREN_CONFIG"))
}

/// The file that [`read`] reads, whether it is there or not.
pub fn file_in_use(default_file: &str) -> PathBuf {
    let args: Vec<OsString> = std::env::args_os().collect();
    named_file(&args)
        .or_else(|| std::env::var_os("WARREN_CONFIG"))
        .map_or_else(|| default_file.into(), PathBuf::from)
}

fn read_from<A: Parser>(
    default_file: &str,
    args: Vec<OsString>,
    env: Option<OsString>,
) -> Result<(A, String), ConfigError> {
    let command = A::command().arg(
        Arg::new("config")
            .long("config")
            .env("WARREN_CONFIG")
            .value_name("FILE")
            .help("Configuration file [TOML]"),
    );
    let named = named_file(&args).or(env).map(PathBuf::from);
    let table = file(named.as_deref(), Path::new(default_file))?;
    let path = named.unwrap_or_else(|| default_file.into());
    let command = with_defaults(command, table, &path)?;
    let matches = command.clone().try_get_matches_from(args)?;
    let settings = A::from_arg_matches(&matches)?;
    Ok((settings, print(&command, &matches)))
}

fn named_file(args: &[OsString]) -> Option<OsString> {
    args.iter().enumerate().find_map(|(i, arg)| match arg.to_str()?.strip_prefix("--config")? {
        "" => args.get(i + 1).cloned(),
        rest => rest.strip_prefix('=').map(OsString::from),
    })
}

fn file(named: Option<&Path>, default: &Path) -> Result<toml::Table, ConfigError> {
    let path = named.unwrap_or(default);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(toml::Table::new());
        }
        Err(source) => return Err(ConfigError::Unreadable { path: path.into(), source }),
    };
    text.parse().map_err(|e| ConfigError::NotToml { path: path.into(), source: Box::new(e) })
}

fn with_defaults(mut command: Command, table: toml::Table, path: &Path) -> Result<Command, ConfigError> {
    for (key, value) in table {
        let known =
            command.get_arguments().any(|arg| arg.get_id() == key.as_str() && arg.get_long().is_some());
        if !known || key == "config" {
            return Err(ConfigError::UnknownKey { path: path.into(), key });
        }
        let values =
            texts(&value).ok_or_else(|| ConfigError::BadValue { path: path.into(), key: key.clone() })?;
        command = command.mut_arg(&key, |arg| arg.default_values(values));
    }
    Ok(command)
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(flag) => Some(vec![flag.to_string()]),
        toml::Value::Array(items) => items.iter().map(|item| item.as_str().map(Into::into)).collect(),
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// The settings in force, as the file would have them.
fn print(command: &Command, matches: &ArgMatches) -> String {
    let mut table = toml::Table::new();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        let printed =
            !matches!(id, "help" | "version" | "config" | "print_config") && arg.get_long().is_some();
        let Some(raw) = printed.then(|| matches.get_raw(id)).flatten() else { continue };
        let hide = |text: String| if arg.is_hide_env_values_set() { "***".to_owned() } else { text };
        let mut values: Vec<toml::Value> =
            raw.map(|v| toml::Value::String(hide(v.to_string_lossy().into()))).collect();
        let list = matches!(arg.get_action(), ArgAction::Append);
        let value = if list {
            toml::Value::Array(values)
        } else {
            values.pop().unwrap_or(toml::Value::Boolean(true))
        };
        table.insert(id.into(), value);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Settings {
        #[arg(long, default_value = "built-in")]
        state_dir: String,
        #[arg(long)]
        endpoint: Vec<String>,
        #[arg(long, hide_env_values = true, default_value = "hunter2")]
        password: String,
        #[arg(long)]
        proxied: bool,
    }

    fn read_with(file: Option<&str>, args: &[&str]) -> Result<(Settings, String), ConfigError> {
        let dir = std::env::temp_dir().join(format!(
            "warren-config-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let path = dir.join("c.toml");
        if let Some(text) = file {
            std::fs::create_dir_all(&dir).expect("a directory");
            std::fs::write(&path, text).expect("a file");
        }
        let args = [&["program"], args].concat().into_iter().map(OsString::from).collect();
        let result = read_from(path.to_str().expect("a path"), args, None);
        // It may not be there.
        let _ = std::fs::remove_dir_all(&dir);
        result
    }

    #[test]
    fn flags_stand_over_the_file_over_defaults() {
        let get = |file, args: &[&str]| read_with(file, args).expect("settings").0;
        assert_eq!(get(None, &[]).state_dir, "built-in");
        assert_eq!(get(Some("state_dir = \"file\"\nproxied = true"), &[]).state_dir, "file");
        assert!(get(Some("proxied = true"), &[]).proxied);
        assert_eq!(get(Some("state_dir = \"file\""), &["--state-dir", "flag"]).state_dir, "flag");
        assert_eq!(get(Some("endpoint = [\"a\", \"b\"]"), &[]).endpoint, ["a", "b"]);
    }

    #[test]
    fn unknown_keys_and_odd_values_are_refused() {
        assert!(matches!(read_with(Some("nonsense = 1"), &[]), Err(ConfigError::UnknownKey { .. })));
        assert!(matches!(read_with(Some("state_dir = 1.5"), &[]), Err(ConfigError::BadValue { .. })));
        assert!(matches!(read_with(Some("= ="), &[]), Err(ConfigError::NotToml { .. })));
        assert!(matches!(
            read_with(None, &["--config", "/nonexistent/x"]),
            Err(ConfigError::Unreadable { .. })
        ));
    }

    #[test]
    fn printed_settings_hide_secrets() {
        let (_, text) = read_with(None, &["--endpoint", "a", "--endpoint", "b"]).expect("settings");
        assert!(text.contains("password = \"***\"") && !text.contains("hunter2"), "{text}");
        assert!(text.contains("endpoint = [\"a\", \"b\"]"), "{text}");
    }
}

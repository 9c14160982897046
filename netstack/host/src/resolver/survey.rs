//! How this machine resolves names, all of it, for people. Changes nothing and never fails: what cannot be read is told.

use std::fs;
use std::path::PathBuf;

use crate::files;

use super::conf::{self, Said};
use super::writer::{Writer, writer};
use super::{CONF_BYTES_MAX, Owner, ResolverConfig, bus, detect, networkmanager, nss, resolved};

/// What was found.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Who owns the machine's resolver.
    pub owner: Owner,
    /// The file.
    pub file: FileView,
    /// Whom programs of the C library ask, in order: see [`nss::sources`].
    pub sources: Vec<String>,
    /// systemd-resolved, where it runs.
    pub resolved: Option<resolved::View>,
    /// NetworkManager, where it runs.
    pub network_manager: Option<networkmanager::View>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// The resolver's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileView {
    /// Where it is.
    pub path: PathBuf,
    /// Where it leads to, if it is a symbolic link.
    pub link: Option<PathBuf>,
    /// Who wrote what is not ours.
    pub writer: Option<Writer>,
    /// What it says, ours with it.
    pub said: Said,
    /// What it says without ours.
    pub original: Said,
    /// The interface of the mesh whose lines are in it.
    pub holder: Option<String>,
}

/// Looks at everything.
pub async fn survey(config: &ResolverConfig) -> Survey {
    let mut unread = Vec::new();
    let text = files::read_up_to(&config.file, CONF_BYTES_MAX).unwrap_or_else(|error| {
        unread.push(crate::chain(&error));
        None
    });
    let text = text.unwrap_or_default();
    let original = conf::original(&text);
    let file = FileView {
        path: config.file.clone(),
        link: fs::read_link(&config.file).ok(),
        writer: writer(&original),
        said: conf::said(&text),
        original: conf::said(&original),
        holder: conf::holder(&text),
    };
    let sources = nss::sources(&fs::read_to_string(nss::NSSWITCH).unwrap_or_default());
    let mut survey =
        Survey { owner: detect(&config.file), file, sources, resolved: None, network_manager: None, unread };
    match bus::connect().await {
        // A machine without a bus has neither of them.
        Err(error) if resolved::is_here() => survey.unread.push(crate::chain(&error)),
        Err(_) => {}
        Ok(connection) => {
            if resolved::is_here() {
                match bus::bounded(resolved::view(&connection)).await {
                    Ok(view) => survey.resolved = Some(view),
                    Err(error) => survey.unread.push(crate::chain(&error)),
                }
            }
            match bus::bounded(networkmanager::view(&connection)).await {
                Ok(view) => survey.network_manager = view,
                Err(error) => survey.unread.push(crate::chain(&error)),
            }
        }
    }
    survey
}

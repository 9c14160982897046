//! Who resolves names on this machine, and what of that is in the way.

use host::resolver::survey::Survey;
use host::resolver::{Owner, programs, resolved};
use model::api::local::Finding;

use crate::profile::Profile;

use super::Own;

/// Who owns it.
pub(super) fn owner(profile: &Profile, owner: Owner, survey: &Survey) -> Finding {
    match owner {
        Owner::Off if profile.leaves_resolver() => Finding::bad(
            "owner",
            "the machine's resolver is left alone, as --resolver none says",
            "start warren-agent with --resolver auto, or ask its server by hand: dig @ADDRESS NAME",
        ),
        Owner::Off => Finding::bad(
            "owner",
            "/etc/resolv.conf has room for one mesh, and another profile has it",
            "install systemd-resolved, which has room for several",
        ),
        owner => {
            Finding::good("owner", format!("this machine resolves names by {}", described(owner, survey)))
        }
    }
}

fn described(owner: Owner, survey: &Survey) -> String {
    let mut text = owner.to_string();
    match owner {
        Owner::File => match &survey.file.writer {
            Some(writer) => text.push_str(&format!(", which {} writes", writer.name)),
            None => text.push_str(", which no program is known to write"),
        },
        Owner::Resolved => {
            if let Some(link) = &survey.file.link {
                text.push_str(&format!("; {} leads to {}", survey.file.path.display(), link.display()));
            }
        }
        Owner::Resolvconf | Owner::Off => {}
    }
    if let Some(manager) = &survey.network_manager {
        text.push_str(&format!(
            " (NetworkManager {}, dns {}, rc-manager {})",
            manager.version, manager.mode, manager.rc_manager
        ));
    }
    text
}

/// Whom programs ask, and what could not be looked at.
pub(super) fn sources(survey: &Survey) -> Vec<Finding> {
    let has = |source: &str| survey.sources.iter().any(|s| s == source);
    let line = survey.sources.join(" ");
    let mut findings = Vec::new();
    if !has("dns") && !has("resolve") {
        findings.push(Finding::bad(
            "sources",
            format!("programs ask no name server: hosts: in /etc/nsswitch.conf says {line}"),
            "add dns: sed -i '/^hosts:/s/$/ dns/' /etc/nsswitch.conf",
        ));
    } else if !has("dns") && survey.resolved.is_none() {
        findings.push(Finding::bad(
            "sources",
            format!("programs ask systemd-resolved alone, and it does not run: hosts: in /etc/nsswitch.conf says {line}"),
            "systemctl enable --now systemd-resolved",
        ));
    } else {
        findings.push(Finding::good("sources", format!("programs look for names in: {line}")));
    }
    if passes_resolved_by(survey) && !has("resolve") {
        findings.push(Finding::bad(
            "sources",
            "/etc/resolv.conf leads programs past systemd-resolved, to servers that do not know the mesh",
            "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
        ));
    }
    let unread = survey.unread.iter();
    findings.extend(unread.map(|why| {
        Finding::bad("sources", format!("not all could be looked at: {why}"), "systemctl status dbus")
    }));
    findings
}

/// systemd-resolved's own list of other servers instead of itself.
fn passes_resolved_by(survey: &Survey) -> bool {
    let asks_it = survey.file.said.servers.iter().any(|server| resolved::STUBS.contains(server));
    survey.owner == Owner::Resolved && !asks_it
}

/// A resolver of this machine's own that is asked after us and could know the mesh.
pub(super) fn advice(own: &Own, survey: &Survey, owner: Owner) -> Option<Finding> {
    let managed = survey.network_manager.as_ref().is_some_and(|manager| manager.mode == "dnsmasq");
    let local = survey.file.original.servers.iter().any(|s| s.is_loopback() && !resolved::STUBS.contains(s));
    let answers = || managed || local && !programs::running(&["dnsmasq"]).is_empty();
    if owner != Owner::File || !answers() {
        return None;
    }
    let server = own.addresses.v4;
    let lines = format!("server=/{}/{server}\\nrev-server={},{server}\\n", own.zone, own.block.v4());
    let (file, then) = match managed {
        true => ("/etc/NetworkManager/dnsmasq.d/warren.conf", "systemctl restart NetworkManager"),
        false => ("/etc/dnsmasq.d/warren.conf", "systemctl restart dnsmasq"),
    };
    let what = "dnsmasq answers on this machine and does not know the mesh: programs that ask it past /etc/resolv.conf, and \
                other machines that ask it, do not find names";
    let finding = Finding::good("dnsmasq", what);
    Some(Finding { remedy: format!("printf '{lines}' > {file}; {then}"), ..finding })
}

//! `warren role`: who may be whom on which hosts by an SSH certificate.

use model::api::ssh::{Role, RoleWish};

use crate::admin::Admin;
use crate::args::Role as Command;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Row};

const PATH: &str = "/api/v1/roles";

impl Row for Role {
    const HEADS: &'static [&'static str] = &["NAME", "WHO", "LOGINS", "ON", "AT MOST", "PERMITS"];

    fn cells(&self) -> Vec<String> {
        let role = &self.wish;
        let who = role.administrators.then(|| "administrators".to_owned());
        let who = who.into_iter().chain(role.identities.iter().map(ToString::to_string));
        let logins = role.own_login.then(|| "own".to_owned());
        let logins = logins.into_iter().chain(role.logins.iter().map(ToString::to_string));
        let tags = role.tags.iter().map(ToString::to_string);
        let labels = role.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let tags: Vec<String> = tags.chain(labels).collect();
        let hours = humantime::format_duration(std::time::Duration::from_secs(role.max_session_ttl_seconds));
        vec![
            self.name.to_string(),
            who.collect::<Vec<_>>().join(","),
            logins.collect::<Vec<_>>().join(","),
            if tags.is_empty() { "all".into() } else { tags.join("+") },
            hours.to_string(),
            role.permits.join(","),
        ]
    }

    fn id(&self) -> String {
        self.name.to_string()
    }
}

pub(super) async fn run(admin: &Admin, command: &Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::List => {
            let roles = admin.list::<Role>(&admin.of_tenant(PATH)).await?;
            output.list(roles, "no role: nobody is let in by certificate");
        }
        Command::Set {
            name,
            administrators,
            identities,
            own_login,
            logins,
            tags,
            labels,
            session,
            permits,
        } => {
            let wish = RoleWish {
                administrators: *administrators,
                identities: identities.clone(),
                own_login: *own_login,
                logins: logins.clone(),
                tags: tags.clone(),
                labels: labels.iter().cloned().collect(),
                max_session_ttl_seconds: session.as_secs(),
                permits: permits.clone(),
            };
            let path = admin.of_tenant(&format!("{PATH}/{name}"));
            let role: Role = admin.put(&path, &wish).await?;
            if output.json() {
                output.object(&role);
            }
            output.say(format!("{} says so from now on", role.name));
            if let Some(why) = lets_nobody_in(&role.wish) {
                output.warning(why);
            }
        }
        Command::Delete { name, yes } => {
            super::confirm(
                &format!("Delete the role {name}? Whoever has it by nothing else is let in no more."),
                *yes,
            )?;
            admin.delete(&admin.of_tenant(&format!("{PATH}/{name}"))).await?;
            output.say(format!("{name} is gone"));
        }
    }
    Ok(Exit::Done)
}

/// Why a role opens nothing.
fn lets_nobody_in(wish: &RoleWish) -> Option<&'static str> {
    if !wish.administrators && wish.identities.is_empty() {
        return Some("nobody has it: name somebody with --who or --administrators");
    }
    let nobody = wish.logins.is_empty() && !wish.own_login;
    nobody.then_some("whoever has it may be nobody: name a login with --login or --own-login")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_opens_nothing_is_said_to() {
        let wish = |administrators, own_login, identities: &[&str], logins: &[&str]| RoleWish {
            administrators,
            identities: identities.iter().map(|text| text.parse().expect("an identity")).collect(),
            own_login,
            logins: logins.iter().map(|text| text.parse().expect("a login")).collect(),
            tags: Vec::new(),
            labels: Default::default(),
            max_session_ttl_seconds: 3600,
            permits: Vec::new(),
        };
        let why = |wish: RoleWish| lets_nobody_in(&wish).unwrap_or_default();
        assert!(why(wish(false, true, &[], &["root"])).starts_with("nobody has it"));
        assert!(why(wish(false, false, &["u:bob"], &[])).starts_with("whoever has it"));
        assert_eq!(why(wish(true, true, &[], &[])), "");
        assert_eq!(why(wish(false, false, &["u:bob"], &["www"])), "");
    }
}

//! `warren token`.

use std::time::Duration;

use model::api::admin::{CreatedToken, NewToken, Token};

use crate::admin::Admin;
use crate::args::Token as Command;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Row};

impl Row for Token {
    const HEADS: &'static [&'static str] = &["ID", "STATE", "USES", "APPROVE", "EXPIRES", "TAGS"];

    fn cells(&self) -> Vec<String> {
        let tags: Vec<&str> = self.tags.iter().map(model::Label::as_str).collect();
        vec![
            self.id.to_string(),
            self.state.clone(),
            format!("{}/{}", self.uses, self.uses_max),
            if self.approve { "yes" } else { "no" }.into(),
            self.expires_at.to_string(),
            tags.join(","),
        ]
    }

    fn id(&self) -> String {
        self.id.to_string()
    }
}

pub(super) async fn run(admin: &Admin, command: &Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::Create { ttl, uses, tags, approve, expires, ephemeral, idle } => {
            let wish = NewToken {
                ttl_seconds: ttl.as_secs(),
                uses: *uses,
                approve: *approve,
                tags: tags.clone(),
                device_ttl_seconds: expires.map(|expires| expires.as_secs()),
                device_idle_seconds: ephemeral.then(|| idle.as_secs()),
            };
            created(&admin.post(&admin.of_tenant("/api/v1/tokens"), &wish).await?, output);
        }
        Command::List => {
            let tokens = admin.list::<Token>(&admin.of_tenant("/api/v1/tokens")).await?;
            output.list(tokens, "no token: `warren token create`");
        }
        Command::Show { id } => {
            show(&admin.get(&admin.of_tenant(&format!("/api/v1/tokens/{id}"))).await?, output);
        }
        Command::Revoke { id } => {
            let token: Token =
                admin.post(&admin.of_tenant(&format!("/api/v1/tokens/{id}/revoke")), &()).await?;
            if output.json() {
                output.object(&token);
            }
            output.say(format!("token {id} is revoked; devices that used it stay"));
        }
    }
    Ok(Exit::Done)
}

fn created(created: &CreatedToken, output: &Output) {
    if output.json() {
        return output.object(created);
    }
    // The secret alone goes to standard output, so that `warren token create | …` and $(…) just work.
    output.line(&created.secret);
}

fn show(token: &Token, output: &Output) {
    if output.json() {
        return output.object(token);
    }
    if output.quiet() {
        return output.line(&token.id());
    }
    let tags: Vec<&str> = token.tags.iter().map(model::Label::as_str).collect();
    let mut facts = vec![
        ("token", token.id.to_string()),
        ("tenant", token.tenant.to_string()),
        ("state", token.state.clone()),
        ("uses", format!("{} of {}", token.uses, token.uses_max)),
        (
            "approve",
            if token.approve { "devices wait for an administrator" } else { "devices come in at once" }
                .into(),
        ),
        ("tags", tags.join(", ")),
        ("created", format!("{} by {}", token.created_at, token.created_by)),
        ("expires", token.expires_at.to_string()),
    ];
    let time = |seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string();
    facts
        .extend(token.device_ttl_seconds.map(|life| ("its devices", format!("expire after {}", time(life)))));
    let silent = |idle| ("ephemeral", format!("gone when silent for {}", time(idle)));
    facts.extend(token.device_idle_seconds.map(silent));
    output.facts(&facts);
}

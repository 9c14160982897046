//! `warren api-token`.

use model::api::people::{ApiToken, CreatedApiToken, NewApiToken};

use crate::admin::Admin;
use crate::args::{ApiToken as Command, Args};
use crate::failure::{Exit, Failure};
use crate::output::{Output, Row};

impl Row for ApiToken {
    const HEADS: &'static [&'static str] = &["ID", "STATE", "USER", "ROLE", "TENANT", "EXPIRES", "LABEL"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.state.clone(),
            self.user.to_string(),
            self.role.to_string(),
            self.tenant.as_ref().map_or("all".into(), ToString::to_string),
            self.expires_at.to_string(),
            self.label.clone(),
        ]
    }

    fn id(&self) -> String {
        self.id.to_string()
    }
}

pub(super) async fn run(args: &Args, command: &Command, output: &Output) -> Result<Exit, Failure> {
    match command {
        Command::Create { label, ttl, role, only_tenant } => {
            let admin = Admin::person(args)?;
            let wish = NewApiToken {
                label: label.clone(),
                ttl_seconds: ttl.as_secs(),
                role: *role,
                tenant: only_tenant.clone(),
            };
            let created: CreatedApiToken = admin.post("/api/v1/api-tokens", &wish).await?;
            if output.json() {
                output.object(&created);
            } else {
                // Alone on standard output, for $(…).
                output.line(&created.secret);
            }
        }
        Command::List => {
            let tokens = Admin::new(args)?.list::<ApiToken>("/api/v1/api-tokens").await?;
            output.list(tokens, "no API token: `warren api-token create LABEL`");
        }
        Command::Revoke { id } => {
            let token: ApiToken =
                Admin::new(args)?.post(&format!("/api/v1/api-tokens/{id}/revoke"), &()).await?;
            if output.json() {
                output.object(&token);
            }
            output.say(format!("API token {id} is revoked"));
        }
    }
    Ok(Exit::Done)
}

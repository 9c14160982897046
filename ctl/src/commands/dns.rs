//! `warren dns list|add|remove`.

use model::api::admin::Record;
use model::zone::quoted;

use crate::admin::Admin;
use crate::args::Dns as Command;
use crate::failure::{Exit, Failure};
use crate::output::{Output, Row};

impl Row for Record {
    const HEADS: &'static [&'static str] = &["NAME", "TYPE", "VALUE", "TTL"];

    fn cells(&self) -> Vec<String> {
        let ttl = self.ttl.map(|ttl| ttl.to_string()).unwrap_or_default();
        vec![self.name.clone(), self.kind.clone(), value(self), ttl]
    }

    fn id(&self) -> String {
        self.name.clone()
    }
}

/// The value as zone files have it.
fn value(record: &Record) -> String {
    if record.kind == "TXT" { quoted(record.value.as_bytes()) } else { record.value.clone() }
}

pub(super) async fn run(admin: &Admin, command: &Command, output: &Output) -> Result<Exit, Failure> {
    let path = admin.of_tenant("/api/v1/dns");
    match command {
        Command::List => output.list(
            admin.list::<Record>(&path).await?,
            "no record of your own: `warren dns add NAME TYPE VALUE`",
        ),
        Command::Add { record, ttl } => {
            let added: Record = admin.post(&path, &form(record, *ttl)).await?;
            if output.json() {
                output.object(&added);
            }
            output.say(format!("{} {} {}", added.name, added.kind, value(&added)));
        }
        Command::Query { .. } => return Err(Failure::bug("this command is for the agent")),
        Command::Remove { record } => {
            let removed: Record =
                admin.post(&admin.of_tenant("/api/v1/dns/remove"), &form(record, None)).await?;
            if output.json() {
                output.object(&removed);
            }
            output.say(format!("{} {} {} is gone", removed.name, removed.kind, value(&removed)));
        }
    }
    Ok(Exit::Done)
}

fn form(record: &crate::args::Record, ttl: Option<u32>) -> Record {
    Record { name: record.name.clone(), kind: record.kind.clone(), value: record.value.clone(), ttl }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_in_the_list() {
        let text = |kind: &str, text: &str| Record {
            name: "note.home.internal".into(),
            kind: kind.into(),
            value: text.into(),
            ttl: None,
        };
        assert_eq!(value(&text("TXT", "x\nb A 192.0.2.1")), r#""x\010b A 192.0.2.1""#);
        assert_eq!(value(&text("A", "192.0.2.1")), "192.0.2.1");
    }
}

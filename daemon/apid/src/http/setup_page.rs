//! The page behind the one-time setup URL: a form without a script, for the first administrator.

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use control::Trace;
use model::Refusal;
use model::api::people::Setup;
use serde::Deserialize;

use super::App;
use super::auth::Peer;
use super::login::first_administrator;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:10vh auto;padding:0 1rem;color:#1b2430;\
background:#fafbfc}h1{font-size:1.4rem}label{display:block;margin:1rem 0 .25rem}input{font:inherit;width:100%;\
box-sizing:border-box;padding:.5rem;border:1px solid #b6bfca;border-radius:6px}button{font:inherit;margin-top:1.5rem;\
padding:.5rem 1.25rem;border:0;border-radius:6px;background:#1f5eff;color:#fff}.bad{color:#a40000}\
code{display:block;overflow-wrap:anywhere;background:#eef1f5;padding:.75rem;border-radius:6px}";

/// The form as the browser sends it.
#[derive(Deserialize)]
pub struct Fields {
    secret: String,
    user: String,
    password: String,
}

/// What the one-time URL carries. It works once, so that its traces in a history or a log open nothing afterwards.
#[derive(Default, Deserialize)]
pub struct Carried {
    #[serde(default)]
    secret: String,
}

/// The form, with the secret of the URL in it.
pub async fn page(query: Result<Query<Carried>, QueryRejection>) -> Response {
    let Query(carried) = query.unwrap_or_default();
    render(StatusCode::OK, &form("", &carried.secret))
}

/// Makes the administrator.
pub async fn submit(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Extension(trace): Extension<Trace>,
    Form(fields): Form<Fields>,
) -> Response {
    let user = match fields.user.parse() {
        Ok(user) => user,
        Err(error) => {
            return render(StatusCode::BAD_REQUEST, &form(&format!("The name: {error}."), &fields.secret));
        }
    };
    let setup = Setup { secret: fields.secret.trim().into(), user, password: fields.password };
    match first_administrator(&app, setup, &peer, trace).await {
        Ok(created) => render(StatusCode::CREATED, &done(&created.user.to_string(), &app)),
        Err(refusal) => refused(&refusal, &fields.secret),
    }
}

fn refused(refusal: &Refusal, secret: &str) -> Response {
    let status =
        StatusCode::from_u16(model::api::problem::status_of(refusal.code)).unwrap_or(StatusCode::BAD_REQUEST);
    render(status, &form(&format!("{} ({}): {}.", refusal.detail, refusal.code, refusal.hint()), secret))
}

fn form(problem: &str, secret: &str) -> String {
    let secret = escaped(secret);
    let problem = if problem.is_empty() {
        String::new()
    } else {
        format!("<p class=bad role=alert>{}</p>", escaped(problem))
    };
    format!(
        "<h1>First administrator</h1>{problem}<form method=post action=/setup>\
         <label for=secret>Setup secret, from the server's log</label><input id=secret name=secret value=\"{secret}\" required autocomplete=off>\
         <label for=user>Name</label><input id=user name=user required value=admin autocomplete=username>\
         <label for=password>Password, twelve characters at least</label>\
         <input id=password name=password type=password required minlength=12 autocomplete=new-password>\
         <button>Create</button></form>"
    )
}

fn done(user: &str, app: &App) -> String {
    format!(
        "<h1>Welcome, {}</h1><p>On your own machine:</p><code>warren login {} --user {} --fingerprint {}</code>",
        escaped(user),
        escaped(&app.public.to_string()),
        escaped(user),
        app.fingerprint
    )
}

fn render(status: StatusCode, body: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Warren</title><style>{STYLE}</style><main>{body}</main></html>"
    );
    let mut response = (status, Html(page)).into_response();
    let policy = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    );
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_no_markup() {
        assert!(form("<script>\"&", "\"><b>").contains("&lt;script&gt;&quot;&amp;"));
        assert!(!form("", "\"><b>").contains("<b>"));
    }
}

//! Which refusals become entries of the audit log: those that nobody wrote down yet, as often as whoever asks may fill it.
//! Knows nothing of what was asked.

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use control::By;
use model::api::problem::status_of;
use model::{Code, Refusal, TenantId};
use percent_encoding::percent_decode_str;

use super::App;
use super::problem::{Refused, Told, unavailable};
use crate::accounts::entry;
use crate::limiters::Asker;

/// Of a path so much is written down: it is anybody's text.
const TARGET_CHARS_MAX: usize = 256;

/// Whoever asks for something, and may be refused.
pub struct Attempt {
    /// For the audit log.
    pub by: By,
    /// The one tenant that it may see, if there is only one.
    pub tenant: Option<TenantId>,
    /// Whose entries are counted together; nobody's who administers on the server itself.
    pub asker: Option<Asker>,
    target: String,
}

impl Attempt {
    /// What this request asks for.
    pub fn new(request: &Request, by: By, tenant: Option<TenantId>, asker: Option<Asker>) -> Self {
        // As it was meant, so that it is found, and a secret in it is known as one.
        let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
        let target = format!("{} {path}", request.method());
        let shown = target.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self { by, tenant, asker, target: shown.take(TARGET_CHARS_MAX).collect() }
    }
}

/// The answer, once its refusal is in the audit log, unless there are too many of whoever asks. One that cannot be written is a
/// failure.
pub async fn written_down(app: &App, attempt: Attempt, response: Response) -> Response {
    let Some(Told(refused)) = response.extensions().get::<Told>() else { return response };
    let Refusal { code, detail } = &refused.refusal;
    if refused.is_written() || !says_no(*code) {
        return response;
    }
    let Attempt { by, tenant, asker, target } = attempt;
    if !app.limiters.may_write(asker) {
        return response;
    }
    let mut denied = entry(by, "api.call", &target, Some(*code));
    (denied.tenant, denied.detail) = (tenant, detail.clone());
    match app.store.append_audit(&denied).await {
        Ok(()) => response,
        Err(error) => Refused::from(unavailable(&error)).into_response(),
    }
}

/// Whether somebody was not let do something. A form or path that means nothing asks for nothing, a failure of the server says no to
/// nobody, and a code that is still to come is no guess.
fn says_no(code: Code) -> bool {
    let unasked = [Code::BadRequest, Code::NotFound, Code::MethodNotAllowed, Code::SecondFactorNeeded];
    status_of(code) < 500 && !unasked.contains(&code)
}

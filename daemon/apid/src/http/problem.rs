//! Every answer that is no success, as RFC 9457 problem details.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::api::Problem;
use model::{Code, Refusal};
use store::PeopleError;

use crate::audit::Written;
use crate::report;

/// Whoever asks too often and is not told when to come back comes back then.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// A refusal as an answer.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// When it may be otherwise.
    retry_after: Option<Duration>,
    /// Whether the audit log has it.
    written: bool,
}

impl Refused {
    /// Too often: it may be asked again after this long.
    pub fn later(detail: &str, after: Duration) -> Self {
        Self { refusal: Refusal::new(Code::RateLimited, detail), retry_after: Some(after), written: false }
    }

    /// The audit log has it.
    pub fn written(self) -> Self {
        Self { written: true, ..self }
    }

    /// Whether it has.
    pub const fn is_written(&self) -> bool {
        self.written
    }
}

impl<T: Into<Refusal>> From<T> for Refused {
    fn from(refusal: T) -> Self {
        let refusal = refusal.into();
        let retry_after = (refusal.code == Code::RateLimited).then_some(RETRY_AFTER_DEFAULT);
        Self { refusal, retry_after, written: false }
    }
}

impl From<Written> for Refused {
    fn from(Written(refusal): Written) -> Self {
        Self { written: true, ..refusal.into() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        answer(&self, String::new())
    }
}

/// A failure of the store as a refusal; logged here, with its causes.
pub fn unavailable(error: &(dyn std::error::Error + 'static)) -> Refusal {
    tracing::error!(error = %report::chain(error), "store is unavailable");
    Refusal::new(Code::StoreUnavailable, error.to_string())
}

/// Why a change of people did not happen.
pub fn of_people(error: &PeopleError) -> Refusal {
    let code = match error {
        PeopleError::NameTaken => Code::NameTaken,
        PeopleError::NotFound => Code::NotFound,
        PeopleError::LastAdministrator => Code::LastAdministrator,
        PeopleError::SetupDone => Code::SetupDone,
        PeopleError::Database(_) | PeopleError::Corrupt(_) => return unavailable(error),
    };
    Refusal::new(code, error.to_string())
}

/// A form that cannot be read.
pub fn bad_form(rejection: &JsonRejection) -> Refused {
    Refusal::new(Code::BadRequest, rejection.body_text()).into()
}

/// A query that cannot be read.
pub fn bad_query(rejection: &QueryRejection) -> Refused {
    Refusal::new(Code::BadRequest, rejection.body_text()).into()
}

/// The answer of a path that leads nowhere.
pub async fn no_such_route() -> Refused {
    Refusal::new(Code::NotFound, "there is nothing at this path").into()
}

/// The answer of a method that a path does not have.
pub async fn no_such_method() -> Refused {
    Refusal::new(Code::MethodNotAllowed, "this path does not have that method").into()
}

/// The answer of a refusal. [`super::observe::request`] writes the request id into it.
fn answer(refused: &Refused, request_id: String) -> Response {
    let problem = Problem::new(&refused.refusal, request_id);
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(&problem)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(after) = refused.retry_after {
        // Whole seconds (RFC 9110, section 10.2.3), and not a moment too early.
        headers.insert(header::RETRY_AFTER, (after.as_secs() + 1).into());
    }
    response.extensions_mut().insert(Told(refused.clone()));
    response
}

/// Stays with the answer, so that it can be completed and logged.
#[derive(Clone)]
pub struct Told(pub Refused);

/// The same answer with the request's id in it.
pub fn with_request_id(told: &Told, request_id: &str) -> Response {
    answer(&told.0, request_id.into())
}

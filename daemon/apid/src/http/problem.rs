//! Every answer that is no success, as RFC 9457 problem details.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::api::Problem;
use model::{Code, Refusal};

/// A refusal as an answer.
#[derive(Debug)]
pub struct Refused(pub Refusal);

impl<T: Into<Refusal>> From<T> for Refused {
    fn from(refusal: T) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        answer(&self.0, String::new())
    }
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
    Refusal::new(Code::NotFound, "this path does not have that method").into()
}

/// The answer of a refusal. [`super::observe::request`] writes the request id into it.
fn answer(refusal: &Refusal, request_id: String) -> Response {
    let problem = Problem::new(refusal, request_id);
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(&problem)).into_response();
    let problem_json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, problem_json);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.extensions_mut().insert(Told(refusal.clone()));
    response
}

/// Stays with the answer, so that it can be completed and logged.
#[derive(Clone)]
pub struct Told(pub Refusal);

/// The same answer with the request's id in it.
pub fn with_request_id(told: &Told, request_id: &str) -> Response {
    answer(&told.0, request_id.into())
}

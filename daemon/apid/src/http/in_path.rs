//! A word of the path as what it stands for. What it does not stand for is refused as any bad request is.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use model::{Code, Refusal};
use serde::de::DeserializeOwned;

use super::problem::Refused;

/// The word of the path.
pub struct InPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let Path(word) =
            Path::from_request_parts(parts, state).await.map_err(|rejection| bad_path(&rejection))?;
        Ok(Self(word))
    }
}

fn bad_path(rejection: &PathRejection) -> Refused {
    Refusal::new(Code::BadRequest, rejection.body_text()).into()
}

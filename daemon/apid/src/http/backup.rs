//! `/api/v1/backup`: all that the server is, for whoever holds the key that it is sealed for.

use std::io;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::stream;
use model::api::backup::{HUB_KEY_HEADER, NewBackup};
use model::{Code, Refusal};
use tokio::io::AsyncReadExt as _;

use super::App;
use super::auth::Caller;
use super::problem::{Refused, bad_form};

/// Of one piece of the answer.
const PIECE_BYTES: usize = 64 * 1024;

/// Makes a backup and gives it.
pub async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<NewBackup>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(wish) = body.map_err(|rejection| bad_form(&rejection))?;
    let recipient = wish.recipient.parse();
    let recipient = recipient
        .map_err(|e: backup::BadRecipient| Refusal::new(Code::BadRequest, format!("recipient: {e}")))?;
    let content = match wish.content {
        model::api::backup::BackupContent::Everything => backup::Content::Everything,
        model::api::backup::BackupContent::SshCa => backup::Content::SshCa,
    };
    let made = app.backups.make(&recipient, content, caller.by).await?;
    let head = [
        (CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
        (CONTENT_LENGTH.as_str(), made.bytes.to_string()),
        (HUB_KEY_HEADER, if made.has_hub_key { "sealed" } else { "absent" }.to_owned()),
    ];
    let pieces = stream::try_unfold(tokio::fs::File::from_std(made.file), |mut file| async move {
        let mut piece = vec![0; PIECE_BYTES];
        let length = file.read(&mut piece).await?;
        piece.truncate(length);
        Ok::<_, io::Error>((length > 0).then(|| (Bytes::from(piece), file)))
    });
    Ok((head, Body::from_stream(pieces)).into_response())
}

//! The table of routes: path, who may call it, what it asks and gives. The router and the API's own description are both
//! made from it, so that there is no route that says nothing of itself.

use std::ops::RangeInclusive;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::handler::Handler;
use axum::middleware::Next;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use model::{Code, Refusal, Role};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::paging::PAGE_ITEMS_MAX;
use super::problem::Refused;
use super::{App, BODY_BYTES_MAX, auth, idempotency};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anybody.
    Nothing,
    /// Whoever has at least this role, in the tenants that it sees.
    Role(Role),
    /// Whoever has at least this role and sees all tenants.
    Everywhere(Role),
    /// A person who logged in, and no token: nobody else may change what it logs in with.
    Person,
}

/// A form as the description shows it.
pub struct Form {
    /// The form itself.
    pub schema: Value,
    /// The forms in it.
    pub parts: Vec<(String, RefOr<Schema>)>,
}

impl Form {
    fn of<T: ToSchema>() -> Self {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        let schema = serde_json::to_value(T::schema()).expect("a schema is JSON");
        Self { schema, parts }
    }
}

/// One route.
pub struct Route {
    /// In lower case.
    pub method: &'static str,
    /// With `{names}`.
    pub path: &'static str,
    /// Its name in the description.
    pub id: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Who may call it.
    pub needs: Needs,
    /// What its query may say, and what that means.
    pub query: Vec<(&'static str, &'static str, Value)>,
    /// Its body.
    pub asks: Option<Form>,
    /// Whether its answer is bytes.
    pub bytes: bool,
    /// Its answer, with the status.
    pub gives: (u16, Option<Form>),
    /// The same form is its answer with this status, too.
    pub gives_also: Option<u16>,
    /// Whether the description shows it.
    pub described: bool,
    handler: MethodRouter<App>,
}

macro_rules! methods {
    ($($name:ident $method:ident;)*) => {
        $(/// A route of this method.
        pub fn $name<H, T>(path: &'static str, needs: Needs, id: &'static str, about: &'static str, handler: H) -> Route
        where
            H: Handler<T, App>,
            T: 'static,
        {
            Route {
                method: stringify!($name),
                path,
                id,
                about,
                needs,
                query: Vec::new(),
                asks: None,
                bytes: false,
                gives: (204, None),
                gives_also: None,
                described: true,
                handler: on(MethodFilter::$method, handler),
            }
        })*
    };
}

methods! {
    get GET;
    post POST;
    put PUT;
    patch PATCH;
    delete DELETE;
}

impl Route {
    /// It is no form: a page for people, or where a link begins.
    pub fn undescribed(self) -> Self {
        Self { described: false, ..self }
    }

    /// Its body is this form.
    pub fn asks<T: ToSchema>(mut self) -> Self {
        self.asks = Some(Form::of::<T>());
        self
    }

    /// It answers with this form.
    pub fn gives<T: ToSchema>(mut self, status: u16) -> Self {
        self.gives = (status, Some(Form::of::<T>()));
        self
    }

    /// The same form comes with this status, too, which is no refusal.
    pub fn also(mut self, status: u16) -> Self {
        self.gives_also = Some(status);
        self
    }

    /// It answers with bytes, which no form describes.
    pub fn gives_bytes(mut self, status: u16) -> Self {
        self.gives = (status, None);
        self.bytes = true;
        self
    }

    /// It is of the tenant that the query names.
    pub fn of_tenant(self) -> Self {
        self.query("tenant", "Name of the tenant; needed only where several are seen")
    }

    /// It gives pages, as its query says.
    pub fn paged(self) -> Self {
        self.query_number("limit", "Items of the page", 1..=PAGE_ITEMS_MAX as u64)
            .query("cursor", "What `next` of the page before said")
    }

    /// Its query may say this.
    pub fn query(self, name: &'static str, about: &'static str) -> Self {
        self.query_of(name, about, json!({"type": "string"}))
    }

    /// Its query may say this, a number of this range.
    pub fn query_number(self, name: &'static str, about: &'static str, range: RangeInclusive<u64>) -> Self {
        let (least, most) = range.into_inner();
        self.query_of(name, about, json!({"type": "integer", "minimum": least, "maximum": most}))
    }

    fn query_of(mut self, name: &'static str, about: &'static str, schema: Value) -> Self {
        self.query.push((name, about, schema));
        self
    }

    /// Whether it does something that is done once for each key of whoever asks. Bytes are not kept.
    pub fn is_keyed(&self) -> bool {
        self.method == "post" && self.needs != Needs::Nothing && !self.bytes
    }

    /// Into the router, behind what it needs.
    pub fn into_router(self, router: Router<App>, app: &App) -> Router<App> {
        let (needs, is_keyed) = (self.needs, self.is_keyed());
        let declare = move |mut request: Request, next: Next| {
            request.extensions_mut().insert(needs);
            next.run(request)
        };
        let once = from_fn_with_state(app.clone(), idempotency::once);
        let handler = if is_keyed { self.handler.route_layer(once) } else { self.handler };
        let handler = if self.asks.is_some() { handler.route_layer(from_fn(objects_alone)) } else { handler };
        let guarded = handler.route_layer(from_fn(auth::require));
        router.route(self.path, guarded.route_layer(from_fn(declare)))
    }
}

/// Forms are objects. A list in their place would be read field by field (serde reads both), and an empty one as a wish for nothing.
async fn objects_alone(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        let detail = format!("a form has at most {BODY_BYTES_MAX} bytes");
        return Refused::from(Refusal::new(Code::BadRequest, detail)).into_response();
    };
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Refused::from(Refusal::new(Code::BadRequest, "a form is an object")).into_response();
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

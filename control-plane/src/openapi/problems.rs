//! What any call can answer instead of what it is for.

use axum::http::StatusCode;
use utoipa::{
    ToSchema,
    openapi::{
        Content, Header, HeaderBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
        path::{Operation, ParameterBuilder, ParameterIn, PathItem},
        schema::{Components, ObjectBuilder, Type},
    },
};

use crate::{
    admin::second_factor,
    http::problem::{Code, MEDIA_TYPE, ProblemBody},
};

const JSON_BODY: &[StatusCode] = &[
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
];
const ANY: &[StatusCode] = &[
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::SERVICE_UNAVAILABLE,
];

/// Fills in what no entry says for itself.
pub(super) fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    add_schemas(components);
    components.headers.insert(REQUEST_ID.to_owned(), RefOr::T(request_id()));
    for status in statuses() {
        components.responses.insert(name(status), RefOr::T(any_of(status)));
    }
    for operation in document.paths.paths.values_mut().flat_map(changes) {
        add_second_factor(operation);
    }
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        // An entry of its own says that no key is needed.
        if operation.security.is_none() {
            add_problems(operation);
        }
        for (status, response) in &mut operation.responses.responses {
            if let RefOr::T(response) = response {
                let is_problem = status.starts_with(['4', '5']);
                if is_problem && response.content.is_empty() {
                    response.content.insert(MEDIA_TYPE.to_owned(), RefOr::T(body()));
                }
                name_the_request(response);
            }
        }
    }
}

fn add_schemas(components: &mut Components) {
    let mut schemas = Vec::new();
    <ProblemBody<'_> as ToSchema>::schemas(&mut schemas);
    schemas.push((
        ProblemBody::name().into_owned(),
        <ProblemBody<'_> as utoipa::PartialSchema>::schema(),
    ));
    components.schemas.extend(schemas);
}

/// Every status that a problem has.
fn statuses() -> Vec<StatusCode> {
    let mut all: Vec<_> = Code::ALL.iter().map(|code| code.status()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// As components are called: `NotFound`.
fn name(status: StatusCode) -> String {
    status
        .canonical_reason()
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect()
}

/// The problems of one status.
fn any_of(status: StatusCode) -> Response {
    let codes = Code::ALL.iter().filter(|code| code.status() == status);
    let described: Vec<_> =
        codes.map(|code| format!("- `{}`: {}", code.as_str(), code.meaning())).collect();
    let mut response = ResponseBuilder::new()
        .description(described.join("\n"))
        .content(MEDIA_TYPE, body())
        .build();
    match status {
        StatusCode::UNAUTHORIZED => header(
            &mut response,
            "WWW-Authenticate",
            "How to show a credential.",
            ObjectBuilder::new().schema_type(Type::String),
        ),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => header(
            &mut response,
            "Retry-After",
            "Seconds to wait.",
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)),
        ),
        _ => {}
    }
    name_the_request(&mut response);
    response
}

fn body() -> Content {
    Content::new(Some(Ref::from_schema_name(ProblemBody::name())))
}

fn header(response: &mut Response, name: &str, about: &str, schema: ObjectBuilder) {
    let header = HeaderBuilder::new().description(Some(about)).schema(Some(schema.build())).build();
    response.headers.insert(name.to_owned(), RefOr::T(header));
}

const REQUEST_ID: &str = "X-Request-Id";

fn request_id() -> Header {
    let schema =
        ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9a-fA-F-]{1,36}$"));
    HeaderBuilder::new()
        .description(Some("The request, as the log names it."))
        .schema(Some(schema.build()))
        .build()
}

fn name_the_request(response: &mut Response) {
    let reference = Ref::new(format!("#/components/headers/{REQUEST_ID}"));
    response.headers.insert(REQUEST_ID.to_owned(), RefOr::Ref(reference));
}

fn add_problems(operation: &mut Operation) {
    let in_path = |parameter: &RefOr<utoipa::openapi::path::Parameter>| matches!(parameter, RefOr::T(it) if it.parameter_in == ParameterIn::Path);
    let mut common = ANY.to_vec();
    if operation.parameters.iter().flatten().any(in_path) {
        common.push(StatusCode::NOT_FOUND);
    }
    if operation.request_body.is_some() {
        common.extend(JSON_BODY);
    }
    for status in common {
        let reference = RefOr::Ref(Ref::from_response_name(name(status)));
        operation.responses.responses.entry(status.as_u16().to_string()).or_insert(reference);
    }
}

/// Calls that take a key and no second factor: how one gets a factor, and what changes nothing.
const WITHOUT_SECOND_FACTOR: &[&str] = &["enrol_totp", "verify_totp", "check_policy"];

/// The second factor, where it is needed if the key has one.
fn add_second_factor(operation: &mut Operation) {
    let too_many = StatusCode::TOO_MANY_REQUESTS;
    let reference = RefOr::Ref(Ref::from_response_name(name(too_many)));
    operation.responses.responses.entry(too_many.as_u16().to_string()).or_insert(reference);
    let id = operation.operation_id.as_deref().unwrap_or_default();
    if WITHOUT_SECOND_FACTOR.contains(&id) {
        return;
    }
    let parameter = ParameterBuilder::new()
        .name(second_factor::HEADER)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The code that the authenticator shows, or a recovery code: needed if the key has a \
             second factor, and not looked at otherwise.",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()));
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter.build()));
}

fn changes(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch]
        .into_iter()
        .flatten()
}

//! Query strings and paths, refused with the parameter that is wrong.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use serde::de::DeserializeOwned;

use crate::error::{ApiError, Code};
use crate::rest::json::{field_error, path_text};

/// The query string, as a struct that names its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = Ready<Result<Query<T>, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse(request.query_string()).map(Query))
    }
}

/// Parses a query string (`application/x-www-form-urlencoded`).
pub fn parse<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let parser = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(parser).map_err(|error| {
        let field = field_error(&path_text(error.path()), &error.inner().to_string());
        ApiError::fields(vec![field]).with_code(Code::InvalidQuery)
    })
}

/// The parts of the path in braces. What does not parse is answered 400 `invalid_path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Path<T> {
    type Error = ApiError;
    type Future = Ready<Result<Path<T>, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let path = web::Path::<T>::from_request(request, payload).into_inner();
        ready(path.map(|path| Path(path.into_inner())).map_err(|error| {
            ApiError::because(Code::InvalidPath, "a part of the address is not what it must be")
                .caused_by(error.to_string())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Search {
        q: String,
        limit: Option<u8>,
    }

    #[test]
    fn a_query_is_read_or_its_parameter_named() {
        let search = Search { q: "a b".to_owned(), limit: Some(3) };
        assert_eq!(parse::<Search>("q=a+b&limit=3").expect("parses"), search);
        for (query, field) in [
            ("", "q"),
            ("q=a&limit=x", "limit"),
            ("q=a&limit=300", "limit"),
            ("q=a&page=2", "page"),
            ("q=a&q=b", "q"),
        ] {
            let error = parse::<Search>(query).expect_err(query);
            assert_eq!(error.code(), Code::InvalidQuery, "{query}");
            assert_eq!(
                error.problem("").errors.first().map(|e| e.field.as_str()),
                Some(field),
                "{query}: {error}"
            );
        }
    }
}

//! Objects in JSON, and nothing else: what serde derives takes a list too, for the values of the fields in
//! the order in which they happen to be declared.

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData};

/// What an object was read as.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

/// A field that is an object or null.
///
/// # Errors
/// When it is another kind of value, or not what the object has to be.
pub(super) fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let read = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(read.map(|Object(value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        #[serde(default, deserialize_with = "or_null")]
        inner: Option<Inner>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        number: u32,
    }

    fn read(text: &str) -> Result<Outer, String> {
        let read = serde_json::from_str::<Object<Outer>>(text);
        read.map(|Object(outer)| outer).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_is_not_taken_for_an_object() {
        let outer = |inner| Ok(Outer { name: "a".to_owned(), inner });
        assert_eq!(read(r#"{"name":"a"}"#), outer(None));
        assert_eq!(read(r#"{"name":"a","inner":null}"#), outer(None));
        assert_eq!(read(r#"{"name":"a","inner":{"number":1}}"#), outer(Some(Inner { number: 1 })));
        for text in [r#"["a"]"#, r#"["a",null]"#, r#"{"name":"a","inner":[1]}"#, "1", "null"] {
            let error = read(text).expect_err(text);
            assert!(error.contains("expected an object"), "{text}: {error}");
        }
        assert!(
            read(r#"{"name":"a","x":1}"#).expect_err("no such field").contains("unknown field")
        );
    }
}

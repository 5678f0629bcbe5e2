//! A key as it stands in a body or on a line of input.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, SchemaFormat, Type},
};

use super::digest::MAX_PRESENTED_BYTES;

/// A key that someone has sent us. It is wiped from memory when dropped, and does not print.
#[derive(Clone)]
pub struct KeyText(SecretString);

impl KeyText {
    /// Its bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }

    /// Whether a text holds the key.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        let key = self.0.expose_secret();
        !key.is_empty() && text.contains(key)
    }
}

impl From<String> for KeyText {
    fn from(text: String) -> Self {
        Self(SecretString::from(text))
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What serde says of a value of another type repeats the value; whoever answers takes it
        // out again (`wording::without_input`).
        String::deserialize(deserializer).map(Self::from)
    }
}

impl KeyText {
    fn described() -> ObjectBuilder {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .write_only(true)
            .description(Some("The key itself. It is neither stored nor logged."))
    }

    /// One that could be verified, as far as its length goes.
    pub(super) fn verifiable() -> Schema {
        let format = SchemaFormat::Custom("api-key".to_owned());
        let text = Self::described().format(Some(format));
        text.min_length(Some(1)).max_length(Some(MAX_PRESENTED_BYTES)).build().into()
    }
}

impl PartialSchema for KeyText {
    fn schema() -> RefOr<Schema> {
        Self::described().into()
    }
}

impl ToSchema for KeyText {}

//! Texts of a form, as the description has them.

use std::borrow::Cow;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema, SchemaFormat, Type, schema::AnyOfBuilder, schema::SchemaType,
    },
};

/// No control characters, and not only spaces.
const LINE_PATTERN: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$";
/// No control characters.
const TEXT_PATTERN: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";
/// What survives as a header's value.
const OWNER_PATTERN: &str = "^[!-~]([ -~]*[!-~])?$";
/// What is in a cursor is nobody's business but ours.
const CURSOR_PATTERN: &str = "^[A-Za-z0-9_-]{1,128}$";
/// Entity tags as ours are, or any.
const ENTITY_TAGS_PATTERN: &str = r#"^(\*|"[1-9][0-9]{0,18}"(, "[1-9][0-9]{0,18}")*)$"#;

fn string(pattern: &str, max_chars: usize) -> ObjectBuilder {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    text.min_length(Some(1)).max_length(Some(max_chars))
}

fn or_null(text: ObjectBuilder) -> RefOr<Schema> {
    text.schema_type(SchemaType::from_iter([Type::String, Type::Null])).into()
}

/// A line for people, of at most `MAX` characters: no control characters, and not only spaces.
pub(crate) struct Line<const MAX: usize>;

impl<const MAX: usize> PartialSchema for Line<MAX> {
    fn schema() -> RefOr<Schema> {
        string(LINE_PATTERN, MAX).into()
    }
}

impl<const MAX: usize> ToSchema for Line<MAX> {}

/// A text for people, of at most `MAX` characters: no control characters.
pub(crate) struct Text<const MAX: usize>;

impl<const MAX: usize> Text<MAX> {
    /// One, or none.
    pub(crate) fn or_null() -> RefOr<Schema> {
        or_null(string(TEXT_PATTERN, MAX))
    }
}

impl<const MAX: usize> PartialSchema for Text<MAX> {
    fn schema() -> RefOr<Schema> {
        string(TEXT_PATTERN, MAX).into()
    }
}

impl<const MAX: usize> ToSchema for Text<MAX> {}

/// What can be sent to an upstream in a header.
pub(crate) struct Owner<const MAX: usize>;

impl<const MAX: usize> PartialSchema for Owner<MAX> {
    fn schema() -> RefOr<Schema> {
        string(OWNER_PATTERN, MAX).into()
    }
}

impl<const MAX: usize> ToSchema for Owner<MAX> {}

impl<const MAX: usize> Owner<MAX> {
    /// One, or none.
    pub(crate) fn or_null() -> RefOr<Schema> {
        or_null(string(OWNER_PATTERN, MAX).examples(["team-billing"]))
    }
}

/// Where a list goes on.
pub(crate) struct CursorText;

impl PartialSchema for CursorText {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(CURSOR_PATTERN)).into()
    }
}

impl ToSchema for CursorText {
    fn name() -> Cow<'static, str> {
        "Cursor".into()
    }
}

/// The longest word, in characters.
pub(crate) const MAX_WORD_CHARS: usize = 64;

/// A name that is compared and nothing else.
pub(crate) struct WordText;

impl PartialSchema for WordText {
    fn schema() -> RefOr<Schema> {
        string("^[!-~]+$", MAX_WORD_CHARS).into()
    }
}

impl ToSchema for WordText {}

/// An address.
pub(crate) struct AddressText;

impl PartialSchema for AddressText {
    fn schema() -> RefOr<Schema> {
        let of = |format: &str| {
            let text = ObjectBuilder::new().schema_type(Type::String);
            text.format(Some(SchemaFormat::Custom(format.to_owned())))
        };
        AnyOfBuilder::new().item(of("ipv4")).item(of("ipv6")).into()
    }
}

impl ToSchema for AddressText {}

/// What `If-Match` holds.
pub(crate) struct EntityTags;

impl PartialSchema for EntityTags {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        text.pattern(Some(ENTITY_TAGS_PATTERN)).examples(["\"1\"", "*"]).into()
    }
}

impl ToSchema for EntityTags {}

/// A key's public name.
pub(crate) struct KeyIdText;

impl PartialSchema for KeyIdText {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A key's public name. It stands in the key itself."))
            .pattern(Some("^[0-9a-f]{16}$"))
            .examples(["3c5588afe5b04bdd"])
            .into()
    }
}

impl ToSchema for KeyIdText {
    fn name() -> Cow<'static, str> {
        "KeyId".into()
    }
}

/// An address or a network.
pub(crate) struct NetworkText;

impl PartialSchema for NetworkText {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::Custom("ip-network".to_owned())))
            .description(Some(
                "An IPv4 or IPv6 address, or a network of such (CIDR). Host bits are cleared.",
            ))
            .examples(["203.0.113.0/24", "2001:db8::/32", "192.0.2.7"])
            .into()
    }
}

impl ToSchema for NetworkText {
    fn name() -> Cow<'static, str> {
        "Network".into()
    }
}

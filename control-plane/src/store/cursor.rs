//! Where a list goes on. Clients get cursors as opaque text, and may not build on what is in it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use key_policy::KeyId;

use super::key_filter::KeyFilter;

/// The text is no cursor of that list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor that this list has given")]
pub struct InvalidCursor;

/// The last key of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCursor {
    /// When it was created.
    pub created_at: Timestamp,
    /// Its public name, which tells keys of the same moment apart.
    pub key_id: KeyId,
}

impl KeyCursor {
    /// As clients get it, for the list that this filter makes.
    #[must_use]
    pub fn encode(self, filter: &KeyFilter) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(format!(
            "k2:{}:{}:{}",
            filter.fingerprint(),
            self.created_at.as_millisecond(),
            self.key_id
        ))
    }

    /// Reads what [`Self::encode`] wrote for the same filter.
    ///
    /// # Errors
    /// When it did not.
    pub fn decode(text: &str, filter: &KeyFilter) -> Result<Self, InvalidCursor> {
        let plain = plain(text)?;
        let (millis, key_id) = plain
            .strip_prefix("k2:")
            .and_then(|rest| rest.strip_prefix(&filter.fingerprint()))
            .and_then(|rest| rest.strip_prefix(':'))
            .and_then(|rest| rest.split_once(':'))
            .ok_or(InvalidCursor)?;
        let millis = millis.parse().map_err(|_| InvalidCursor)?;
        Ok(Self {
            created_at: Timestamp::from_millisecond(millis).map_err(|_| InvalidCursor)?,
            key_id: key_id.parse().map_err(|_| InvalidCursor)?,
        })
    }
}

/// The id of the last audit row of a page, as clients get it.
#[must_use]
pub fn encode_audit(id: i64) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("a1:{id}"))
}

/// Reads what [`encode_audit`] wrote.
///
/// # Errors
/// When it did not.
pub fn decode_audit(text: &str) -> Result<i64, InvalidCursor> {
    plain(text)?.strip_prefix("a1:").and_then(|id| id.parse().ok()).ok_or(InvalidCursor)
}

fn plain(text: &str) -> Result<String, InvalidCursor> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
    String::from_utf8(bytes).map_err(|_| InvalidCursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_cursor_comes_back_as_it_went(millis in 0_i64..4_102_444_800_000, id in any::<u64>()) {
            let cursor = KeyCursor {
                created_at: Timestamp::from_millisecond(millis).expect("in range"),
                key_id: format!("{id:016x}").parse().expect("a key id"),
            };
            let none = KeyFilter::default();
            let text = cursor.encode(&none);
            prop_assert_eq!(KeyCursor::decode(&text, &none), Ok(cursor));
            // A cursor of one list is none of another.
            let other = KeyFilter { owner: Some("a".to_owned()), ..none };
            prop_assert!(KeyCursor::decode(&text, &other).is_err());
            prop_assert!(decode_audit(&text).is_err());
        }

        #[test]
        fn an_audit_cursor_comes_back_as_it_went(id in any::<i64>()) {
            prop_assert_eq!(decode_audit(&encode_audit(id)), Ok(id));
            prop_assert!(KeyCursor::decode(&encode_audit(id), &KeyFilter::default()).is_err());
        }

        #[test]
        fn any_other_text_is_refused_quietly(text in ".{0,80}") {
            let _ = KeyCursor::decode(&text, &KeyFilter::default());
            let _ = decode_audit(&text);
        }
    }
}

//! Where lists go on.

use jiff::Timestamp;
use keygate::store::cursor::{KeyCursor, decode_audit, encode_audit};
use keygate::store::key_filter::KeyFilter;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let all = KeyFilter::default();
    let of_one = KeyFilter { owner: Some(text.to_owned()), ..KeyFilter::default() };
    for (filter, other) in [(&all, &of_one), (&of_one, &all)] {
        if let Ok(cursor) = KeyCursor::decode(text, filter) {
            let printed = cursor.encode(filter);
            assert_eq!(KeyCursor::decode(&printed, filter), Ok(cursor));
            assert!(KeyCursor::decode(&printed, other).is_err(), "a cursor of another list");
            assert!(decode_audit(&printed).is_err());
        }
    }
    if let Ok(id) = decode_audit(text) {
        assert_eq!(decode_audit(&encode_audit(id)), Ok(id));
        assert!(KeyCursor::decode(text, &all).is_err());
    }
    // Any moment and any name.
    if let Some(bytes) = data.first_chunk::<16>() {
        let bits = u128::from_le_bytes(*bytes);
        let (millis, id) = (i64::try_from(bits >> 64).unwrap_or(-1), bits & u128::from(u64::MAX));
        if let Ok(created_at) = Timestamp::from_millisecond(millis) {
            let key_id = format!("{id:016x}").parse().expect("a key's id");
            let cursor = KeyCursor { created_at, key_id };
            assert_eq!(KeyCursor::decode(&cursor.encode(&all), &all), Ok(cursor));
        }
    }
}

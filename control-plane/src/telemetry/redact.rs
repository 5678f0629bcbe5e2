//! Taking out of a text what might be a secret. Nothing of ours writes one; this is for the words
//! of libraries and of panics, which nobody has read before they leave the machine.

/// What stands in its place.
const REMOVED: &str = "[removed]";
/// A word of letters and digits that is as long as this may be a key, a token or a hash.
const SUSPICIOUS_CHARS: usize = 20;
/// Ids of requests and keys are hex digits and dashes, and no longer than a UUID.
const ID_CHARS: usize = 36;

/// The text without long words of letters and digits, and without the credentials of URLs.
pub(super) fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        clean.push_str(if is_suspicious(word) { REMOVED } else { word });
        rest = after;
        if let Some(after) = after.strip_prefix("://") {
            clean.push_str("://");
            rest = after;
            let authority = after.find(|c: char| c == '/' || c.is_whitespace());
            let authority = after.split_at(authority.unwrap_or(after.len())).0;
            if let Some((credentials, _)) = authority.rsplit_once('@') {
                clean.push_str(REMOVED);
                rest = after.split_at(credentials.len()).1;
            }
        } else if let Some(other) = after.chars().next() {
            clean.push(other);
            rest = after.split_at(other.len_utf8()).1;
        }
    }
    clean
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '~')
}

fn is_suspicious(word: &str) -> bool {
    let is_id = word.len() <= ID_CHARS && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    word.len() >= SUSPICIOUS_CHARS
        && !is_id
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && word.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tokens_and_credentials_are_taken_out_wherever_they_stand() {
        let secrets = [
            "kg_live_3c5588afe5b04bdd_0123456789abcdefghijklmnopqrstuv012345",
            "3f9a1c77e0d25b8846f1029c6be87d145aa3c2e9178f604db35e7891f2ac0d66",
            "b2bVq0Zr8yV7m0m5X3qk1tq9c1sV4xg0R2w6n8u5e7A=",
        ];
        for secret in secrets {
            for text in [
                secret.to_owned(),
                format!("the key {secret} is bad"),
                format!("x-api-key: \"{secret}\","),
                format!("Some(\"{secret}\")"),
            ] {
                let clean = redact(&text);
                assert!(!clean.contains(secret) && clean.contains(REMOVED), "{clean}");
            }
        }
        assert_eq!(
            redact("connect to postgres://keygate:p4ss@db:5432/keygate failed"),
            "connect to postgres://[removed]@db:5432/keygate failed"
        );
    }

    #[test]
    fn what_helps_to_find_the_fault_stays() {
        for text in [
            "the database failed: database: pool timed out while waiting for an open connection",
            "control-plane/src/lifecycle/start.rs:42:7",
            "urn:keygate:request:0d2a5f7e-93c1-4b6e-8f00-5a1c3e9b7d42",
            "key_id=3c5588afe5b04bdd at 2026-11-26T13:24:58.123Z",
            "https://collector.example:4318/v1/traces: größer als 7",
            "",
        ] {
            assert_eq!(redact(text), text);
        }
    }
}

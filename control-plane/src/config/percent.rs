//! Percent-encoding (RFC 3986, section 2.1).

/// What is meant by `text`; none, when a `%` is not followed by two hexadecimal digits, or what they
/// spell is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|it| char::from(it).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn two_digits_of_hexadecimal_are_a_byte_and_nothing_else_is() {
        assert_eq!(decode("p%40ss%2Fw%c3%b6rd").as_deref(), Some("p@ss/wörd"));
        for broken in ["%4", "%", "%zz", "%+a", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}

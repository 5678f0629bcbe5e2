//! What is presented as a second factor.

use zeroize::Zeroizing;

use super::{recovery::RecoveryCode, time_code};

/// A code, by its form.
pub enum PresentedCode {
    /// Six digits from an authenticator.
    Time(Zeroizing<String>),
    /// One of the codes that were shown when the factor was enrolled.
    Recovery(RecoveryCode),
}

impl PresentedCode {
    /// Reads a code as people write it: capitals, spaces and hyphens do not matter. None: it is
    /// neither kind.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Longer than any code with a separator after each character.
        if text.len() > 48 {
            return None;
        }
        let bare: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        let bare = Zeroizing::new(bare);
        if time_code::is_well_formed(&bare) {
            return Some(Self::Time(bare));
        }
        RecoveryCode::parse(&bare).map(Self::Recovery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_are_told_apart_by_their_form() {
        for text in ["123456", "123 456", " 123-456 "] {
            assert!(
                matches!(PresentedCode::parse(text), Some(PresentedCode::Time(code)) if *code == "123456")
            );
        }
        for text in ["abcd-efgh-jkmn-pqrs", "ABCDEFGHJKMNPQRS", "abcd efgh jkmn pqrs"] {
            assert!(matches!(PresentedCode::parse(text), Some(PresentedCode::Recovery(_))));
        }
        for text in ["", "12345", "1234567", "١٢٣٤٥٦", "abcd-efgh-jkmn-pqr", "abcd-efgh-jkmn-pqru"]
        {
            assert!(PresentedCode::parse(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,64}") {
            let _ = PresentedCode::parse(&text);
        }
    }
}

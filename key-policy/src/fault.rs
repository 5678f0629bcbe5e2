//! Why a key is refused. None of these carries any part of the key.

use core::fmt;

/// What is wrong with a key's bytes or form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FormatFault {
    /// A byte outside printable ASCII, or a space.
    NotPrintable,
    /// A comma: several header values joined into one.
    Comma,
    /// Longer than `max_length`.
    TooLong,
    /// Shorter than `min_length`.
    TooShort,
    /// Fewer than `min_kinds` of lower case, upper case, digit, other.
    TooFewKinds,
    /// Less Shannon entropy than `min_entropy_bits`.
    TooLittleEntropy,
    /// Begins with our prefix and has not our structure.
    Malformed,
    /// Has our structure and the wrong checksum.
    Checksum,
}

impl FormatFault {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::NotPrintable,
        Self::Comma,
        Self::TooLong,
        Self::TooShort,
        Self::TooFewKinds,
        Self::TooLittleEntropy,
        Self::Malformed,
        Self::Checksum,
    ];

    /// A stable name for logs, metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotPrintable => "not_printable",
            Self::Comma => "comma",
            Self::TooLong => "too_long",
            Self::TooShort => "too_short",
            Self::TooFewKinds => "too_few_kinds",
            Self::TooLittleEntropy => "too_little_entropy",
            Self::Malformed => "malformed",
            Self::Checksum => "checksum",
        }
    }
}

impl fmt::Display for FormatFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotPrintable => "a key consists of printable ASCII characters without spaces",
            Self::Comma => "a key contains no comma: send exactly one key",
            Self::TooLong => "the key is longer than the policy allows",
            Self::TooShort => "the key is shorter than the policy allows",
            Self::TooFewKinds => {
                "the key mixes too few of lower case, upper case, digits and other characters"
            }
            Self::TooLittleEntropy => "the key is too regular: it has too little entropy",
            Self::Malformed => {
                "the key begins like one of ours and is cut off, too long or otherwise malformed"
            }
            Self::Checksum => "the key's checksum is wrong: it was mistyped or altered",
        })
    }
}

impl core::error::Error for FormatFault {}

/// The weak pattern that a key is refused for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weakness {
    /// Eight or more characters in alphabetical, numerical or keyboard order.
    Sequence,
    /// Eight or more characters that repeat one another.
    Repeat,
    /// Nothing but sequences, repeats and common words.
    OnlyFragments,
    /// Too little entropy once each sequence, repeat and common word counts as one character.
    TooLittleLeft,
}

impl Weakness {
    /// All there are.
    pub const ALL: [Self; 4] =
        [Self::Sequence, Self::Repeat, Self::OnlyFragments, Self::TooLittleLeft];

    /// A stable name for logs, metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Repeat => "repeat",
            Self::OnlyFragments => "only_fragments",
            Self::TooLittleLeft => "too_little_left",
        }
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sequence => {
                "the key contains a long alphabetical, numerical or keyboard sequence"
            }
            Self::Repeat => "the key contains a long repetition",
            Self::OnlyFragments => {
                "the key is made of nothing but common words, sequences and repetitions"
            }
            Self::TooLittleLeft => {
                "too little of the key is left besides common words, sequences and repetitions"
            }
        })
    }
}

impl core::error::Error for Weakness {}

/// Why a key cannot be issued or imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Its bytes or form are wrong.
    Format(FormatFault),
    /// It is easy to guess.
    Weak(Weakness),
}

impl Fault {
    /// Whether no setting of any filter lets such a key pass: its bytes, its length beyond every
    /// bound, or the structure and checksum of a key that claims to be one of ours.
    #[must_use]
    pub const fn is_hard(self) -> bool {
        match self {
            Self::Format(fault) => matches!(
                fault,
                FormatFault::NotPrintable
                    | FormatFault::Comma
                    | FormatFault::TooLong
                    | FormatFault::Malformed
                    | FormatFault::Checksum
            ),
            Self::Weak(_) => false,
        }
    }

    /// A stable name for logs, metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Format(fault) => fault.as_str(),
            Self::Weak(weakness) => weakness.as_str(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(fault) => fault.fmt(formatter),
            Self::Weak(weakness) => weakness.fmt(formatter),
        }
    }
}

impl core::error::Error for Fault {}

impl From<FormatFault> for Fault {
    fn from(fault: FormatFault) -> Self {
        Self::Format(fault)
    }
}

impl From<Weakness> for Fault {
    fn from(weakness: Weakness) -> Self {
        Self::Weak(weakness)
    }
}

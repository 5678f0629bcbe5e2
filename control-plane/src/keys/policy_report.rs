//! What the policy says of a key, as the API and the command line show it. Nothing in it tells
//! the key.

use edge_protocol::KeyEnvironment;
use key_policy::{Environment, Fault, Form, FormatFault, Fragment, Policy, Report};
use serde::Serialize;

/// The word on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PolicyVerdict)]
pub enum Verdict {
    /// It keeps every rule.
    Passes,
    /// It breaks rules that can be overridden.
    Overridable,
    /// It breaks a rule that no filter can be told to leave out.
    Refused,
}

impl Verdict {
    /// As answers have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Overridable => "overridable",
            Self::Refused => "refused",
        }
    }

    fn of(faults: &[Fault]) -> Self {
        match faults {
            [] => Self::Passes,
            faults if faults.iter().any(|fault| fault.is_hard()) => Self::Refused,
            _ => Self::Overridable,
        }
    }
}

/// A rule that a key breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = PolicyFault)]
pub struct FaultView {
    /// Which rule; it never changes.
    #[schema(example = "too_little_entropy")]
    pub code: &'static str,
    /// Which of the filter's layers refuses the key for it: 0 (bytes), 3 (format) or 4 (weak patterns).
    #[schema(minimum = 0, maximum = 4)]
    pub layer: u8,
    /// Whether an import may override it.
    pub overridable: bool,
    /// The rule, for people.
    #[schema(example = "the key is too regular: it has too little entropy")]
    pub message: String,
}

impl From<Fault> for FaultView {
    fn from(fault: Fault) -> Self {
        let layer = match fault {
            Fault::Format(
                FormatFault::NotPrintable | FormatFault::Comma | FormatFault::TooLong,
            ) => 0,
            Fault::Format(_) => 3,
            Fault::Weak(_) => 4,
        };
        Self {
            code: fault.as_str(),
            layer,
            overridable: !fault.is_hard(),
            message: fault.to_string(),
        }
    }
}

/// A part of a key that is easy to guess, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = PolicyFragment)]
pub struct FragmentView {
    /// The place of its first character, from 0.
    pub start: usize,
    /// How many characters it has.
    pub length: usize,
    /// `sequence`, `repeat` or `word`.
    #[schema(example = "sequence")]
    pub kind: &'static str,
}

impl From<Fragment> for FragmentView {
    fn from(fragment: Fragment) -> Self {
        let Fragment { start, length, kind } = fragment;
        Self { start, length, kind: kind.as_str() }
    }
}

/// Who made the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyForm {
    /// A Keygate with this prefix.
    Own,
    /// Somebody else.
    Foreign,
}

/// What keys are measured by here. Each filter has a policy of its own, in its configuration.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = Policy)]
pub struct PolicyView {
    /// The word that keys made here begin with.
    pub prefix: String,
    /// Fewest characters.
    pub min_length: usize,
    /// Most characters.
    pub max_length: usize,
    /// Least Shannon entropy, in bits.
    pub min_entropy_bits: f64,
    /// How many of lower case, upper case, digit and other there must be.
    pub min_kinds: u8,
    /// Whether weak patterns are looked for.
    pub weak_patterns: bool,
}

impl From<&Policy> for PolicyView {
    fn from(policy: &Policy) -> Self {
        Self {
            prefix: policy.prefix.as_str().to_owned(),
            min_length: policy.min_length,
            max_length: policy.max_length,
            min_entropy_bits: policy.min_entropy_bits,
            min_kinds: policy.min_kinds,
            weak_patterns: policy.weak_patterns,
        }
    }
}

/// All that the policy has to say of a key.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = PolicyReport)]
pub struct PolicyReportView {
    /// The word on it.
    pub verdict: Verdict,
    /// Every rule that is broken; of weak patterns the first.
    pub faults: Vec<FaultView>,
    /// Who made it; null when its form is not in order.
    #[schema(required)]
    pub form: Option<KeyForm>,
    /// Which environment a key of our own form says it is for.
    #[schema(required)]
    pub environment: Option<KeyEnvironment>,
    /// How many bytes it has.
    pub length: usize,
    /// How many of lower case, upper case, digit and other occur in what is judged: of a key of our
    /// own form its secret part, of others all.
    #[schema(minimum = 0, maximum = 4)]
    pub kinds: u8,
    /// The Shannon entropy of what is judged, in bits.
    pub entropy_bits: f64,
    /// The same with each fragment counted as a single character.
    pub remaining_bits: f64,
    /// Sequences, repeats and common words, by place.
    pub fragments: Vec<FragmentView>,
    /// What it was measured by.
    pub policy: PolicyView,
}

impl PolicyReportView {
    /// Judges a key.
    #[must_use]
    pub fn of(policy: &Policy, key: &[u8]) -> Self {
        Self::new(policy, &policy.report(key))
    }

    fn new(policy: &Policy, report: &Report) -> Self {
        let (form, environment) = match report.form {
            Some(Form::Own { environment, .. }) => {
                (Some(KeyForm::Own), Some(stored_environment(environment)))
            }
            Some(Form::Foreign) => (Some(KeyForm::Foreign), None),
            None => (None, None),
        };
        Self {
            verdict: Verdict::of(&report.faults),
            faults: report.faults.iter().copied().map(FaultView::from).collect(),
            form,
            environment,
            length: report.length,
            kinds: report.kinds,
            entropy_bits: tenths(report.entropy_bits),
            remaining_bits: tenths(report.remaining_bits),
            fragments: report.fragments.iter().copied().map(FragmentView::from).collect(),
            policy: PolicyView::from(policy),
        }
    }
}

/// The environment that a key's text speaks of, as records have it.
pub(super) fn stored_environment(environment: Environment) -> KeyEnvironment {
    match environment {
        Environment::Live => KeyEnvironment::Live,
        Environment::Test => KeyEnvironment::Test,
    }
}

/// More digits would say nothing, and tell more of the key than its report has to.
fn tenths(bits: f64) -> f64 {
    (bits * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(key: &str) -> PolicyReportView {
        PolicyReportView::of(&Policy::default(), key.as_bytes())
    }

    #[test]
    fn a_verdict_tells_what_an_import_could_do_about_it() {
        let good = report("p9X-mQ2v_Lr7Tz4Wk8Hc3Yb6Nf1Js5Dg0");
        assert_eq!(
            (good.verdict, good.form),
            (Verdict::Passes, Some(KeyForm::Foreign)),
            "{good:?}"
        );
        assert_eq!(report("short").verdict, Verdict::Overridable);
        // One that cannot be overridden outweighs those that can.
        assert_eq!(report("short, and a list").verdict, Verdict::Refused);
        assert_eq!(report("kg_live_nonsense").verdict, Verdict::Refused);
    }

    #[test]
    fn each_fault_names_its_layer() {
        let layers = |key: &str| {
            report(key).faults.into_iter().map(|it| (it.code, it.layer)).collect::<Vec<_>>()
        };
        assert_eq!(
            layers("aB3,x y"),
            [("comma", 0), ("too_short", 3), ("too_little_entropy", 3), ("too_little_left", 4)]
        );
    }

    #[test]
    fn a_report_does_not_tell_the_key() {
        let key = "x9K-password-Q7v-bcdefg-m3T-zz8zz8-Wq";
        let text = serde_json::to_string(&report(key)).expect("JSON");
        for part in key.split('-').filter(|part| part.len() > 3 && *part != "word") {
            assert!(!text.contains(part), "{part} in {text}");
        }
    }
}

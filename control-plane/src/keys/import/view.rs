//! What is shown of a key that was just imported.

use key_policy::{Fault, FormatFault, Report};
use serde::Serialize;

use super::Imported;
use crate::keys::view::KeyView;

/// What the `policy` of a filter's configuration must be, at most, for a key to pass. Fields that
/// are left out may be as they are by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = FilterPolicy)]
pub struct FilterPolicyView {
    /// The filter's `policy.min_length`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub min_length: Option<usize>,
    /// The filter's `policy.min_kinds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub min_kinds: Option<u8>,
    /// The filter's `policy.min_entropy_bits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub min_entropy_bits: Option<f64>,
    /// The filter's `policy.weak_patterns`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub weak_patterns: Option<bool>,
}

impl FilterPolicyView {
    /// What it takes for the key of that report; nothing, when it keeps every rule.
    #[must_use]
    pub fn of(report: &Report) -> Option<Self> {
        let mut policy = Self::default();
        for fault in &report.faults {
            match fault {
                Fault::Format(FormatFault::TooShort) => policy.min_length = Some(report.length),
                Fault::Format(FormatFault::TooFewKinds) => policy.min_kinds = Some(report.kinds),
                Fault::Format(FormatFault::TooLittleEntropy) => {
                    policy.min_entropy_bits = Some(report.entropy_bits.floor());
                }
                Fault::Weak(_) => policy.weak_patterns = Some(false),
                // Nothing helps against these, and they are never overridden.
                Fault::Format(_) => {}
            }
        }
        (!report.passes()).then_some(policy)
    }
}

/// A key that was just imported.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ImportedKey)]
pub struct ImportedKeyView {
    /// What is known about it.
    #[serde(flatten)]
    pub key: KeyView,
    /// What every filter's `policy` must allow before this key passes there; null when the policy
    /// was not overridden.
    #[schema(required)]
    pub filter_policy: Option<FilterPolicyView>,
}

impl From<Imported> for ImportedKeyView {
    fn from(imported: Imported) -> Self {
        let filter_policy = FilterPolicyView::of(&imported.report);
        Self { key: KeyView::from(imported.key), filter_policy }
    }
}

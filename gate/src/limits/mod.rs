//! Rate limits, exact across all workers of one Envoy.
//!
//! Counts live in slots of a store that the workers share, and change by compare-and-swap only.
//! The number of slots is fixed, and so is what each can hold ([`bucket`]): the store of Envoy
//! never gives memory back, so a slot for each address would be a leak that anyone can open.

mod algorithm;
mod bucket;
mod counter;
mod entry;
mod lease;
mod recollection;
mod report;
mod slots;
mod subject;

pub(crate) use algorithm::{seconds, seconds_after};
pub(crate) use counter::{Counters, Outcome, Place, RuleHash, Spent, Verdict};
pub(crate) use entry::{Fields, FieldsMut};
pub(crate) use lease::Lease;
pub use recollection::Recollection;
pub use report::{LimitReport, RateLimitHeaders};
pub use slots::{MAX_SLOT_BYTES, SharedSlots, SlotName, Version};
pub(crate) use subject::Subject;

/// The limits that keys bring along, where they are counted. What is counted beside the limits of the
/// configuration goes by names that none of those can have.
pub(crate) const OWN_LIMIT: &str = "!key";
/// Failed attempts, likewise.
pub(crate) const FAILED_ATTEMPTS: &str = "!failed-attempts";
/// And which keys are real.
const REAL_KEY: &str = "!real-key";

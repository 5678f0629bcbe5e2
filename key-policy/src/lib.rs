//! What an API key is: its form, its strength, how one is made.
//!
//! Pure code: no I/O, no clock, no random source of its own. The checks neither allocate nor
//! panic, and take time linear in the key, because whoever sends a request decides what they see.
//!
//! ```text
//! kg_live_3c5588afe5b04bdd_<32 base62 characters><6 base62 digits of CRC-32>
//! │  │    │                │                     └ over all before it
//! │  │    │                └ the secret: 190 bits
//! │  │    └ key id: 16 hex digits, public
//! │  └ environment: live or test
//! └ prefix, configurable
//! ```
//!
//! A key in this form ([`Form::Own`]) proves by its checksum that it is no typo and no noise. Any
//! other text ([`Form::Foreign`], an imported key) is accepted too, if it passes the same
//! [`Policy`].
//!
//! **What is judged.** Of a foreign key everything. Of an own key the length of the whole, and
//! kinds, entropy and weak patterns of the 32 secret characters only: prefix, environment and key
//! id are public and the checksum follows from the rest, so none of them makes a key harder to
//! guess.

mod base62;
mod checksum;
mod entropy;
mod environment;
mod fault;
mod form;
mod generate;
mod id;
mod kinds;
mod policy;
mod prefix;
mod report;
mod validate;
mod weakness;

pub use checksum::checksum;
pub use entropy::shannon_bits;
pub use environment::{Environment, EnvironmentFault};
pub use fault::{Fault, FormatFault, Weakness};
pub use form::Form;
pub use generate::NewKey;
pub use id::{KeyId, KeyIdFault};
pub use policy::Policy;
pub use prefix::{Prefix, PrefixFault};
pub use report::{Fragment, FragmentKind, Report};
pub use validate::{LONGEST_KEY, PolicyFault};

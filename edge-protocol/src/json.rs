//! Messages as JSON, for filters.
//!
//! Serde's code for a type is made in the crate that asks for it. It is asked for here, so that
//! what reads and writes messages is compiled for size (`[profile.wasm]`), and the gate is not.

use crate::leases::{LeaseAnswer, LeaseCall};
use crate::{ChangesAnswer, EventAck, EventBatch, VerifyAnswer, VerifyRequest};

/// What a filter sends.
pub trait ToJson {
    /// The message as JSON.
    fn to_json(&self) -> Vec<u8>;
}

/// What a filter is answered.
pub trait FromJson: Sized {
    /// The message, if that is what the bytes are.
    fn from_json(json: &[u8]) -> Option<Self>;
}

macro_rules! sent {
    ($($message:ty),+) => {
        $(impl ToJson for $message {
            #[inline(never)]
            fn to_json(&self) -> Vec<u8> {
                // Writing to memory, of types whose keys are strings, cannot fail.
                serde_json::to_vec(self).unwrap_or_default()
            }
        })+
    };
}

macro_rules! answered {
    ($($message:ty),+) => {
        $(impl FromJson for $message {
            #[inline(never)]
            fn from_json(json: &[u8]) -> Option<Self> {
                serde_json::from_slice(json).ok()
            }
        })+
    };
}

sent!(VerifyRequest, EventBatch, LeaseCall);
answered!(VerifyAnswer, ChangesAnswer, EventAck, LeaseAnswer);

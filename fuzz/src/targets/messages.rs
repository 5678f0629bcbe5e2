//! The messages between filter and control plane.

use std::fmt::Debug;

use edge_protocol::leases::{LeaseAnswer, LeaseCall};
use edge_protocol::{
    ChangesAnswer, ChangesQuery, EventAck, EventBatch, KeyRecord, VerifyAnswer, VerifyRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn run(data: &[u8]) {
    reads::<VerifyRequest>(data);
    reads::<VerifyAnswer>(data);
    reads::<KeyRecord>(data);
    reads::<ChangesQuery>(data);
    reads::<ChangesAnswer>(data);
    reads::<EventBatch>(data);
    reads::<EventAck>(data);
    reads::<LeaseCall>(data);
    reads::<LeaseAnswer>(data);
}

fn reads<T: DeserializeOwned + Serialize + PartialEq + Debug>(data: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(data) {
        let printed = serde_json::to_vec(&message).expect("what was read is printed");
        let again = serde_json::from_slice::<T>(&printed).expect("what is printed is read");
        assert_eq!(again, message);
    }
}

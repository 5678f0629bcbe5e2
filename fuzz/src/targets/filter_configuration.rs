//! The filter's configuration document.

use gate::{ClientAddress, Config, Decision};
use serde_json::Value;

use super::worker::{Worker, key};

pub(crate) fn run(data: &[u8]) {
    match Config::parse(data) {
        Err(fault) => {
            assert!(fault.to_string().starts_with("configuration refused: "));
        }
        Ok(config) => {
            let document: Value = serde_json::from_slice(data).expect("what is accepted is JSON");
            assert_eq!(document["version"], 1);
            let printed = serde_json::to_vec(&document).unwrap();
            assert!(Config::parse(&printed).is_ok(), "what is printed is accepted");
            decides(config);
        }
    }
}

fn decides(config: Config) {
    let mut worker = Worker::new(config);
    let client = ClientAddress::parse(b"192.0.2.1");
    let good = key(1);
    for path in [&b"/"[..], b"/admin/x?y", b"/public", b"*", b""] {
        for key in [None, Some(good.as_bytes()), Some(&b"short"[..])] {
            let (_, decision) = worker.ask(b"GET", path, key, client);
            if let Decision::Refuse(refusal) = decision {
                assert!(serde_json::from_str::<Value>(refusal.body()).is_ok());
                assert!((400..=503).contains(&refusal.status()));
            }
        }
    }
}

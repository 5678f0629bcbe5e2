//! The list of targets.

use crate::targets::{
    addresses, admin_calls, backup, cursors, edge_calls, filter_configuration, fleet, gate_answers,
    header_pairs, key_text, limits, messages, networks, paths, settings, slots, urls,
};

/// Something that takes bytes from outside, and what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line, and of its corpus.
    pub name: &'static str,
    /// What must hold, beside that it neither panics nor takes long.
    pub property: &'static str,
    /// Panics when it does not hold.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:literal $module:ident: $property:literal),+ $(,)?) => {
        /// All of them.
        pub const TARGETS: &[Target] =
            &[$(Target { name: $name, property: $property, run: $module::run }),+];
    };
}

targets! {
    "key-text" key_text:
        "the whole check is its layers, a report agrees with it, what was generated passes and no mistyped key does",
    "filter-configuration" filter_configuration:
        "what is accepted is JSON, is accepted again when it is printed, and makes a gate that decides",
    "gate-answers" gate_answers:
        "whatever the control plane answers, a key passes only if it was told to be good, and each request is decided once",
    "limits" limits:
        "decisions and what is left are those of a simple count by client and window",
    "fleet" fleet:
        "a fleet never lets more through than its limit, whatever becomes of its clocks, its calls and its Envoys",
    "slots" slots:
        "any bytes in the shared slots leave the gate deciding, and what it writes is no longer than a slot",
    "paths" paths:
        "a path that passes is the same once it is normalised, and no reading of an upstream leads below a protected prefix",
    "addresses" addresses:
        "gate and control plane read an address alike, and it is read as it is printed",
    "networks" networks:
        "the networks that the control plane takes let exactly those addresses pass the gate that they are made of",
    "header-pairs" header_pairs:
        "pairs are read as they were written, and a broken list ends",
    "messages" messages:
        "what is read of the protocol between filter and control plane is read again when it is printed",
    "cursors" cursors:
        "a cursor of one list is read as it was written, and is none of another list",
    "urls" urls:
        "names and passwords are read as they were encoded, and no password is shown",
    "settings" settings:
        "a TOML file makes settings or a fault that names its place, and shows no secret",
    "backup" backup:
        "no backup with a byte changed, added or missing is taken for good",
    "edge-calls" edge_calls:
        "no call of a filter makes an error of the server, every answer is stamped, a batch is stored once",
    "admin-calls" admin_calls:
        "no call of an administrator makes an error of the server, and every refusal is a problem with a code",
}

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

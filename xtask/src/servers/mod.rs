//! Servers that are not ours, for the tests: real ones, on free ports, in temporary folders, gone
//! with the value that owns them.

pub mod postgres;
pub mod redis;

//! The `keygate` command as its users meet it: the real binary, on databases of its own.

#![expect(clippy::disallowed_methods, reason = "these tests watch real processes, in real time")]

#[cfg(test)]
mod audit_chain;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod foreign_keys;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod process;
#[cfg(test)]
mod receiver;
#[cfg(test)]
mod redis;
#[cfg(test)]
mod service;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod totp;

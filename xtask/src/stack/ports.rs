//! Ports on the loopback interface.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// Below the range from which the kernel takes ports for outgoing connections, so that no
/// connection sits on a port between its choice and its use.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// The ports that this process has taken, each with the lock that keeps others from taking it.
static GIVEN: Mutex<BTreeMap<u16, File>> = Mutex::new(BTreeMap::new());

/// A port on which nothing listens, never the same twice, in this process or in others that ask
/// here while it runs: between its choice and its use a port looks free to all of them.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    let folder = std::env::temp_dir().join("keygate-ports");
    std::fs::create_dir_all(&folder)?;
    let start = getrandom::u32().context("the system gives no random numbers")?;
    for step in 0..u32::from(COUNT) {
        let offset = u16::try_from(start.wrapping_add(step) % u32::from(COUNT))?;
        let port = FIRST + offset;
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if given.contains_key(&port) {
            continue;
        }
        // Locked before it is tried: trying listens on it for a moment, in which its owner could not.
        let lock = File::create(folder.join(port.to_string()))?;
        if lock.try_lock().is_ok() && is_free(port) {
            given.insert(port, lock);
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Fails when something listens on `port`, on any interface. Asked before Envoy starts: two
/// Envoys of one user would share a port without a word (`SO_REUSEPORT`).
///
/// # Errors
/// When the port is taken; the message says what for and what to do.
pub fn require_free(port: u16, what: &str, option: &str) -> Result<()> {
    if !is_free(port) {
        bail!(
            "port {port} ({what}) is taken; choose another with {option}, or end what listens there"
        );
    }
    Ok(())
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{free_port, require_free};

    #[test]
    fn no_port_is_given_twice() {
        let ports: std::collections::BTreeSet<_> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn a_taken_port_is_told_with_the_option_to_change_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = require_free(port, "gateway", "--gateway-port").unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--gateway-port"), "{error}");
        drop(listener);
        assert!(require_free(port, "gateway", "--gateway-port").is_ok());
    }
}

//! A primary, a replica, and three Sentinels that watch them.

use anyhow::{Context, Result};

use super::{PATIENCE, RedisOptions, RedisServer};
use crate::stack::free_port;
use crate::wait;

/// What the Sentinels call the primary.
const SERVICE: &str = "keygate";
/// Without an answer for so long a primary counts as gone. Short, for tests.
const DOWN_AFTER_MS: u32 = 500;

/// The whole set. Dropping it ends it.
#[derive(Debug)]
pub struct RedisSentinels {
    sentinels: Vec<RedisServer>,
    /// The two servers, one of them the primary.
    pub servers: [RedisServer; 2],
    password: Option<String>,
}

impl RedisSentinels {
    /// Starts all of them and waits until the Sentinels know of each other and of the replica.
    /// With a password, the servers ask for it; the Sentinels do not.
    ///
    /// # Errors
    /// When a server does not come up, or they do not find each other.
    pub fn start(password: Option<&str>) -> Result<Self> {
        let (first, second) = (free_port()?, free_port()?);
        let password = password.map(str::to_owned);
        let server = |port, more: Vec<String>| {
            let mut settings = more;
            settings.extend(password.iter().map(|it| format!("masterauth {it}")));
            let options =
                RedisOptions { password: password.clone(), settings, ..RedisOptions::default() };
            RedisServer::start_at(port, options)
        };
        let primary = server(first, Vec::new())?;
        let replica = server(second, vec![format!("replicaof 127.0.0.1 {first}")])?;
        let mut settings = vec![
            format!("sentinel monitor {SERVICE} 127.0.0.1 {first} 2"),
            format!("sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}"),
            format!("sentinel failover-timeout {SERVICE} 5000"),
        ];
        settings.extend(password.iter().map(|it| format!("sentinel auth-pass {SERVICE} {it}")));
        let sentinels = (0..3)
            .map(|_| {
                let options = RedisOptions {
                    sentinel: true,
                    settings: settings.clone(),
                    ..RedisOptions::default()
                };
                RedisServer::start(options)
            })
            .collect::<Result<Vec<_>>>()?;
        let set = Self { sentinels, servers: [primary, replica], password };
        set.wait_agreed()?;
        Ok(set)
    }

    fn wait_agreed(&self) -> Result<()> {
        let agreed = wait::until(PATIENCE, || {
            let all = self.sentinels.iter().all(|sentinel| {
                let about = sentinel.cli(&["SENTINEL", "MASTER", SERVICE]).unwrap_or_default();
                field(&about, "num-slaves") == Some("1")
                    && field(&about, "num-other-sentinels") == Some("2")
            });
            Ok(all.then_some(()))
        })?;
        agreed.context("the Sentinels do not find each other")
    }

    /// The URL as Keygate takes it.
    #[must_use]
    pub fn url(&self) -> String {
        let user = self.password.as_ref().map(|it| format!(":{it}@")).unwrap_or_default();
        let hosts: Vec<_> =
            self.sentinels.iter().map(|it| format!("127.0.0.1:{}", it.port())).collect();
        format!("redis+sentinel://{user}{}/{SERVICE}", hosts.join(","))
    }

    /// The port of the primary, as the Sentinels see it now.
    ///
    /// # Errors
    /// When they do not say.
    pub fn primary_port(&self) -> Result<u16> {
        let sentinel = self.sentinels.first().context("a Sentinel")?;
        let said = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])?;
        let port = said.lines().nth(1).context("a port")?;
        Ok(port.trim().parse()?)
    }

    /// The primary, to kill or freeze it.
    ///
    /// # Errors
    /// As [`primary_port`](Self::primary_port).
    pub fn primary_mut(&mut self) -> Result<&mut RedisServer> {
        let port = self.primary_port()?;
        self.servers.iter_mut().find(|it| it.port() == port).context("an unknown primary")
    }

    /// Makes the replica the primary while both run, and waits until it is.
    ///
    /// # Errors
    /// When it does not happen.
    pub fn fail_over(&self) -> Result<()> {
        let before = self.primary_port()?;
        let sentinel = self.sentinels.first().context("a Sentinel")?;
        // Refused while an earlier fail-over is not over yet.
        let begun = wait::until(PATIENCE, || {
            let said = sentinel.cli(&["SENTINEL", "FAILOVER", SERVICE])?;
            Ok((said.trim() == "OK").then_some(()))
        })?;
        begun.context("the Sentinels refuse to fail over")?;
        self.wait_for_another_primary(before)
    }

    /// Waits until another server than the one at `before` is the primary.
    ///
    /// # Errors
    /// When it does not happen.
    pub fn wait_for_another_primary(&self, before: u16) -> Result<()> {
        // A sentinel that a busy machine has stopped for two seconds does nothing for the next 30 (its TILT mode).
        let changed =
            wait::until(3 * PATIENCE, || Ok((self.primary_port()? != before).then_some(())))?;
        changed.context("no other primary")
    }
}

/// A field of what `redis-cli` prints: names and values, one a line.
fn field<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = said.lines();
    lines.find(|line| *line == name).and_then(|_| lines.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replica_takes_over() {
        let set = RedisSentinels::start(Some("a-word")).unwrap();
        let before = set.primary_port().unwrap();
        assert_eq!(before, set.servers[0].port());
        set.fail_over().unwrap();
        assert_eq!(set.primary_port().unwrap(), set.servers[1].port());
    }
}

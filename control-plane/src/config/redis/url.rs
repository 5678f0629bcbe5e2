//! The forms of `KEYGATE_REDIS_URL`.

use secrecy::SecretString;
use std::{fmt, num::NonZeroU16};

use super::{
    super::{ConfigError, percent, wrong},
    SETTING,
};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

const FORMS: &str = "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], \
     redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/SERVICE[/DATABASE] or \
     redis+cluster://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]; with TLS: rediss://, \
     rediss+sentinel://, rediss+cluster://";

/// What Redis is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// A primary that Sentinels know.
    Sentinel {
        /// What the Sentinels call it.
        service: String,
        /// What the Sentinels themselves ask for.
        login: RedisLogin,
    },
    /// A Cluster.
    Cluster,
}

/// A name and a password, either of which may be missing.
#[derive(Clone, Default)]
pub struct RedisLogin {
    /// The user's name; none: Redis' default user.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<SecretString>,
}

impl PartialEq for RedisLogin {
    fn eq(&self, other: &Self) -> bool {
        use secrecy::ExposeSecret;
        let text = |it: &Self| it.password.as_ref().map(|it| it.expose_secret().to_owned());
        self.user == other.user && text(self) == text(other)
    }
}

impl Eq for RedisLogin {}

impl fmt::Debug for RedisLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "[redacted]");
        write!(f, "RedisLogin({:?}, {password:?})", self.user)
    }
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// What it is made of.
    pub topology: Topology,
    /// The server, the Sentinels, or some nodes of the Cluster. There is one at least.
    pub servers: Vec<(String, u16)>,
    /// What the servers with the data ask for.
    pub login: RedisLogin,
    /// The database's number.
    pub database: i64,
}

impl fmt::Display for RedisUrl {
    // Without the login: this is for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> =
            self.servers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let servers = servers.join(",");
        match &self.topology {
            Topology::Single => write!(f, "{servers}"),
            Topology::Sentinel { service, .. } => write!(f, "{service} of Sentinels {servers}"),
            Topology::Cluster => write!(f, "Cluster {servers}"),
        }
    }
}

/// A URL holds a password, so no message repeats any of it.
fn refuse(problem: &str) -> ConfigError {
    wrong(SETTING, format!("{problem}; it must look like {FORMS}"))
}

impl RedisUrl {
    /// Reads a URL; tells too whether it asks for TLS.
    ///
    /// # Errors
    /// When it is of no form that is known; the message shows the forms, and none of the URL.
    pub fn parse(url: &str) -> Result<(Self, bool), ConfigError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("has no `://`"))?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let secure = match base {
            "redis" => false,
            "rediss" => true,
            _ => return Err(refuse("begins neither with redis nor with rediss")),
        };
        if rest.contains('#') {
            return Err(refuse("has a `#`, which in a password is written %23"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold an `@` that nobody wrote as %40; a host or a path cannot.
        let (login, rest) =
            rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let login = login.map_or_else(|| Ok(RedisLogin::default()), user_and_password)?;
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut path = path.split('/').filter(|part| !part.is_empty());
        let default_port = if kind == "sentinel" { SENTINEL_PORT } else { REDIS_PORT };
        let servers: Vec<_> =
            hosts.split(',').map(|host| server(host, default_port)).collect::<Result<_, _>>()?;
        let topology = match kind {
            "" if servers.len() > 1 => {
                return Err(refuse("names several servers, but neither sentinel nor cluster"));
            }
            "" => Topology::Single,
            "cluster" => Topology::Cluster,
            "sentinel" => {
                let service =
                    path.next().ok_or_else(|| refuse("names no service of the Sentinels"))?;
                Topology::Sentinel { service: decoded(service)?, login: login_of_sentinels(query)? }
            }
            _ => return Err(refuse("has something else than sentinel or cluster after the `+`")),
        };
        if kind != "sentinel" && !query.is_empty() {
            return Err(refuse("has a `?`, which in a password is written %3F"));
        }
        let database = database(path.next(), &topology)?;
        if path.next().is_some() {
            return Err(refuse("has too many parts after the hosts"));
        }
        Ok((Self { topology, servers, login, database }, secure))
    }
}

fn user_and_password(text: &str) -> Result<RedisLogin, ConfigError> {
    // As Redis' own tools have it: a word alone is a user's name.
    let (user, password) =
        text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    let password = password.filter(|password| !password.is_empty());
    let user = if user.is_empty() { None } else { Some(decoded(user)?) };
    if user.is_some() && password.is_none() {
        return Err(refuse(
            "has a user without a password (a password alone is written :PASSWORD@)",
        ));
    }
    let password = password.map(decoded).transpose()?.map(SecretString::from);
    Ok(RedisLogin { user, password })
}

fn login_of_sentinels(query: &str) -> Result<RedisLogin, ConfigError> {
    let mut login = RedisLogin::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "sentinel_user" => login.user = Some(decoded(value)?),
            "sentinel_password" => login.password = Some(SecretString::from(decoded(value)?)),
            _ => {
                return Err(refuse(
                    "has another parameter than sentinel_user and sentinel_password after the `?`",
                ));
            }
        }
    }
    Ok(login)
}

fn database(number: Option<&str>, topology: &Topology) -> Result<i64, ConfigError> {
    match (number, topology) {
        (None, _) => Ok(0),
        (Some(_), Topology::Cluster) => Err(refuse("names a database, and a Cluster has only one")),
        (Some(number), _) => number
            .parse::<u16>()
            .map(i64::from)
            .map_err(|_| refuse("has no number as its database")),
    }
}

/// A host and a port; an IPv6 address stands in brackets.
fn server(text: &str, default_port: u16) -> Result<(String, u16), ConfigError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) =
            rest.split_once(']').ok_or_else(|| refuse("has a `[` without its `]`"))?;
        host.parse::<std::net::Ipv6Addr>()
            .map_err(|_| refuse("has no IPv6 address between the brackets"))?;
        (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("")))
    } else {
        text.split_once(':').map_or((text, Some("")), |(host, port)| (host, Some(port)))
    };
    let wrong_host = host.is_empty() || host.chars().any(|c| c.is_whitespace() || c == '%');
    let port = port.filter(|_| !wrong_host).ok_or_else(|| refuse("has an empty or broken host"))?;
    let port = if port.is_empty() {
        default_port
    } else {
        port.parse::<NonZeroU16>().map_err(|_| refuse("has no port of 1 to 65535"))?.get()
    };
    Ok((host.to_owned(), port))
}

fn decoded(text: &str) -> Result<String, ConfigError> {
    let broken = "has a `%` that is not followed by two hexadecimal digits of UTF-8";
    percent::decode(text).ok_or_else(|| refuse(broken))
}

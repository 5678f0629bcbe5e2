//! The fields that a key is given, and may be given anew.

use edge_protocol::{KeyLimit, Scope};
use ipnet::IpNet;
use jiff::Timestamp;
use std::net::IpAddr;

use super::{
    FieldError, LimitRequest, MAX_ALLOWED_IPS, MAX_DESCRIPTION_CHARS, MAX_METADATA_BYTES,
    MAX_NAME_CHARS, MAX_OWNER_CHARS, MAX_REQUESTS, MAX_WINDOW_SECONDS,
};

/// The fields, as someone asks for them.
pub(in crate::keys) struct AskedFields {
    pub(in crate::keys) name: String,
    pub(in crate::keys) description: Option<String>,
    pub(in crate::keys) owner: Option<String>,
    pub(in crate::keys) scope: Scope,
    pub(in crate::keys) allowed_ips: Vec<String>,
    pub(in crate::keys) rate_limit: Option<LimitRequest>,
    pub(in crate::keys) metadata: serde_json::Map<String, serde_json::Value>,
}

/// The fields, as they must be.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::keys) struct Fields {
    pub(in crate::keys) name: String,
    pub(in crate::keys) description: Option<String>,
    pub(in crate::keys) owner: Option<String>,
    pub(in crate::keys) scope: Scope,
    pub(in crate::keys) allowed_ips: Vec<IpNet>,
    pub(in crate::keys) rate_limit: Option<KeyLimit>,
    pub(in crate::keys) metadata: serde_json::Map<String, serde_json::Value>,
}

impl AskedFields {
    /// Checks all of them. What is given counts only when there are no errors.
    pub(in crate::keys) fn check(self, errors: &mut Vec<FieldError>) -> Fields {
        let mut keep = |result: Result<(), FieldError>| errors.extend(result.err());
        let name = self.name.trim().to_owned();
        keep(text("name", &name, MAX_NAME_CHARS));
        keep(
            self.description
                .as_deref()
                .map_or(Ok(()), |it| text("description", it, MAX_DESCRIPTION_CHARS)),
        );
        keep(self.owner.as_deref().map_or(Ok(()), owner));
        keep(metadata(&self.metadata));
        let rate_limit = self.rate_limit.map(|limit| KeyLimit {
            requests: limit.requests,
            window_seconds: limit.window_seconds,
            algorithm: limit.algorithm,
            reach: limit.reach,
            on_outage: limit.on_outage,
        });
        errors.extend(rate_limit.iter().flat_map(limit_errors));
        let allowed_ips = networks(&self.allowed_ips, errors);
        Fields {
            name,
            description: self.description,
            owner: self.owner,
            scope: self.scope,
            allowed_ips,
            rate_limit,
            metadata: self.metadata,
        }
    }
}

/// What is right; what is not is among the errors then.
pub(in crate::keys) fn kept<T>(
    field: Option<Result<T, FieldError>>,
    errors: &mut Vec<FieldError>,
) -> Option<T> {
    match field? {
        Ok(value) => Some(value),
        Err(error) => {
            errors.push(error);
            None
        }
    }
}

fn text(field: &str, value: &str, max_chars: usize) -> Result<(), FieldError> {
    let fits = (1..=max_chars).contains(&value.chars().count());
    if fits && !value.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(FieldError::new(
            field,
            format!("must be 1 to {max_chars} characters, without control characters"),
        ))
    }
}

/// It is sent to the upstream as a header's value, so it must survive as one.
pub(crate) fn owner(value: &str) -> Result<(), FieldError> {
    let printable = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let fits = (1..=MAX_OWNER_CHARS).contains(&value.len());
    if printable && fits && value.trim() == value {
        Ok(())
    } else {
        Err(FieldError::new(
            "owner",
            format!(
                "must be 1 to {MAX_OWNER_CHARS} printable ASCII characters, without spaces at the ends"
            ),
        ))
    }
}

fn metadata(value: &serde_json::Map<String, serde_json::Value>) -> Result<(), FieldError> {
    let bytes = serde_json::to_vec(value).map_or(usize::MAX, |text| text.len());
    if bytes <= MAX_METADATA_BYTES {
        Ok(())
    } else {
        Err(FieldError::new(
            "metadata",
            format!("must take at most {MAX_METADATA_BYTES} bytes as JSON"),
        ))
    }
}

fn limit_errors(limit: &KeyLimit) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !(1..=MAX_REQUESTS).contains(&limit.requests) {
        errors.push(FieldError::new("rate_limit.requests", format!("must be 1 to {MAX_REQUESTS}")));
    }
    if !(1..=MAX_WINDOW_SECONDS).contains(&limit.window_seconds) {
        errors.push(FieldError::new(
            "rate_limit.window_seconds",
            format!("must be 1 to {MAX_WINDOW_SECONDS}"),
        ));
    }
    errors
}

/// Reads addresses and networks. An address is a network of its own; host bits are cleared, so
/// that what is stored is what is meant.
pub(super) fn networks(texts: &[String], errors: &mut Vec<FieldError>) -> Vec<IpNet> {
    if texts.len() > MAX_ALLOWED_IPS {
        errors.push(FieldError::new(
            "allowed_ips",
            format!("must be at most {MAX_ALLOWED_IPS} entries"),
        ));
        return Vec::new();
    }
    let mut networks: Vec<IpNet> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match network(text) {
            Some(net) if networks.contains(&net) => {}
            Some(net) => networks.push(net),
            None => errors.push(FieldError::new(
                format!("allowed_ips[{index}]"),
                "must be an IP address or a network such as 10.0.0.0/8 or 2001:db8::/32",
            )),
        }
    }
    networks
}

fn network(text: &str) -> Option<IpNet> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().ok()?,
    };
    // Clients are matched by their IPv4 address when they have one, so an IPv4-mapped network
    // must be one of IPv4.
    if let IpNet::V6(six) = net
        && let Some(four) = six.addr().to_ipv4_mapped()
        && let Some(prefix) = six.prefix_len().checked_sub(96)
    {
        return ipnet::Ipv4Net::new(four, prefix).ok().map(|net| IpNet::V4(net.trunc()));
    }
    Some(net.trunc())
}

/// When a key ends, in the future.
pub(in crate::keys) fn future(text: &str, now: Timestamp) -> Result<Timestamp, FieldError> {
    let end = time(text)?;
    if end <= now {
        return Err(FieldError::new("expires_at", "must be in the future"));
    }
    Ok(end)
}

/// When a key ends, or ended.
pub(in crate::keys) fn time(text: &str) -> Result<Timestamp, FieldError> {
    let end: Timestamp = text.parse().map_err(|_| {
        FieldError::new("expires_at", "must be an RFC 3339 time such as 2027-01-31T00:00:00Z")
    })?;
    // Whole milliseconds, as it is stored.
    Timestamp::from_millisecond(end.as_millisecond())
        .map_err(|_| FieldError::new("expires_at", "is too far away"))
}

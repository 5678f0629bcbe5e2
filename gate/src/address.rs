//! Client addresses.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};

/// A client's address in one canonical form: an IPv4-mapped IPv6 address is the IPv4 address
/// that it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// From any address.
    #[must_use]
    pub fn new(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }

    /// Reads an address as proxies write it: `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1` or
    /// `[2001:db8::1]:4711`. Anything else, such as the path of a Unix socket, is no address.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        // What nearly all clients have.
        if let Ok(socket) = text.parse::<SocketAddrV4>() {
            return Some(Self::new((*socket.ip()).into()));
        }
        text.parse::<IpAddr>()
            .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
            .ok()
            .map(Self::new)
    }

    /// The address itself.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// Whose requests count together: an IPv4 address is one client, and so is an IPv6 /64,
    /// since whoever has one address of it has them all.
    #[must_use]
    pub fn subject(self) -> u128 {
        match self.0 {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits() & (u128::MAX << 64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ClientAddress;
    use wasm_bindgen_test::wasm_bindgen_test;

    fn parsed(text: &str) -> Option<String> {
        ClientAddress::parse(text.as_bytes()).map(|a| a.ip().to_string())
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn every_spelling_of_an_address_is_the_same_client() {
        for text in ["192.0.2.7", "192.0.2.7:80", "::ffff:192.0.2.7", "[::ffff:192.0.2.7]:80"] {
            assert_eq!(parsed(text).as_deref(), Some("192.0.2.7"), "{text}");
        }
        assert_eq!(parsed("[2001:db8::1]:443").as_deref(), Some("2001:db8::1"));
        for text in [
            "",
            "/run/envoy.sock",
            "192.0.2.256",
            "192.0.2.1, 192.0.2.2",
            "192.0.2.1:+1",
            "192.0.2.1:",
            "unknown",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_whole_ipv6_64_counts_as_one_client() {
        let subject = |text: &str| ClientAddress::parse(text.as_bytes()).unwrap().subject();
        assert_eq!(subject("2001:db8:1:2::1"), subject("2001:db8:1:2:ffff::9"));
        assert_ne!(subject("2001:db8:1:2::1"), subject("2001:db8:1:3::1"));
        assert_ne!(subject("192.0.2.1"), subject("192.0.2.2"));
        assert_eq!(subject("192.0.2.1"), subject("::ffff:192.0.2.1"));
    }
}

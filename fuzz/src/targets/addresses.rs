//! Client addresses: the gate reads them as proxies write them, the control plane as the gate
//! prints them in events.

use std::net::{IpAddr, SocketAddr};

use edge_protocol::{Event, EventKind};
use gate::ClientAddress;
use keygate::http::Peer;

pub(crate) fn run(data: &[u8]) {
    let Some(address) = ClientAddress::parse(data) else {
        let text = str::from_utf8(data).unwrap_or_default();
        assert!(text.parse::<IpAddr>().is_err(), "an address that the gate does not read");
        return;
    };
    let printed = address.ip().to_string();
    assert_eq!(ClientAddress::parse(printed.as_bytes()), Some(address), "read as it is printed");

    // The control plane sees the same client by its own connection, and by an event.
    let text = str::from_utf8(data).expect("addresses are text");
    let socket = text.parse::<SocketAddr>().ok();
    let ip = socket.map_or_else(|| text.parse().expect("an address"), |it| it.ip());
    assert_eq!(Peer(SocketAddr::new(ip, 1)).address(), address.ip());
    let event = Event {
        at_ms: 0,
        kind: EventKind::MissingApiKey,
        key_hash: None,
        key_id: None,
        client_ip: Some(address.ip()),
        details: String::new(),
        shadow: false,
    };
    let wire = serde_json::to_vec(&event).unwrap();
    assert_eq!(serde_json::from_slice::<Event>(&wire).unwrap(), event);

    // Whoever has one address of a /64 has them all; an IPv4 address is one client.
    let neighbour = match address.ip() {
        IpAddr::V4(four) => IpAddr::V4((four.to_bits() ^ 1).into()),
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() ^ 1).into()),
    };
    let same = ClientAddress::new(neighbour).subject() == address.subject();
    // ::ffff:0:0/96 is IPv4, whatever the neighbour is written as.
    assert_eq!(same, address.ip().is_ipv6() && neighbour.is_ipv6());
}

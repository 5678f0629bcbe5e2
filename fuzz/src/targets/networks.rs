//! Lists of networks: taken by the control plane, sent on to filters, matched by the gate; against
//! the bits that they are made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::{Result, Unstructured};
use axum::body::Body;
use gate::{ClientAddress, Decision, Problem};
use http::Request;
use serde_json::{Value, json};

use super::service::with;
use super::worker::{Worker, key};

pub(crate) fn run(data: &[u8]) {
    let _ = compare(&mut Unstructured::new(data));
}

/// A network, as someone writes it: an address, or one with the length of its prefix, host bits and
/// all.
struct Written {
    address: IpAddr,
    prefix: Option<u8>,
}

fn address(input: &mut Unstructured<'_>) -> Result<IpAddr> {
    // From few, so that some lie within others.
    Ok(match input.int_in_range(0..=3u8)? {
        0 => IpAddr::V4(Ipv4Addr::from_bits(input.arbitrary()?)),
        1 => IpAddr::V4(Ipv4Addr::new(10, 0, input.arbitrary()?, input.arbitrary()?)),
        2 => IpAddr::V6(Ipv4Addr::new(10, 0, input.arbitrary()?, 1).to_ipv6_mapped()),
        _ => {
            let high = 0x2001_0db8 << 96 | u128::from(input.arbitrary::<u16>()?) << 64;
            IpAddr::V6(Ipv6Addr::from_bits(high | u128::from(input.arbitrary::<u16>()?)))
        }
    })
}

fn compare(input: &mut Unstructured<'_>) -> Result<()> {
    let count = input.int_in_range(1..=4)?;
    let mut list = Vec::new();
    for _ in 0..count {
        let address = address(input)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = if input.arbitrary()? { Some(input.int_in_range(0..=longest)?) } else { None };
        list.push(Written { address, prefix });
    }
    let texts: Vec<_> = list.iter().map(Written::text).collect();
    let Some(taken) = take(&texts) else { panic!("{texts:?} are refused") };

    let record = json!({
        "key_id": "0123456789abcdef", "scope": "read", "environment": "live", "is_active": true,
        "allowed_ips": taken,
    });
    let mut worker = Worker::of(r#"{"version":1,"limits":[]}"#);
    worker.learn(&key(1), &record.to_string());
    for _ in 0..4 {
        let client = address(input)?.to_canonical();
        let wanted = list.iter().any(|it| it.contains(client));
        let found = match worker.ask(
            b"GET",
            b"/",
            Some(key(1).as_bytes()),
            Some(ClientAddress::new(client)),
        ) {
            (_, Decision::Pass(_)) => true,
            (_, Decision::Refuse(refusal)) if refusal.problem == Problem::Address => false,
            (_, other) => panic!("{other:?}"),
        };
        assert_eq!(found, wanted, "{client} and {texts:?}, taken as {taken}");
    }
    Ok(())
}

/// What the control plane makes of a list.
fn take(texts: &[String]) -> Option<Value> {
    let body = json!({"name": "networks", "allowed_ips": texts}).to_string();
    with(|control_plane| {
        let request = Request::post("/api/v1/admin/api-keys/")
            .header("x-api-key", &control_plane.admin_key)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .expect("a request");
        let answer = control_plane.call_admin(request).expect("an answer in time");
        (answer.status == 201).then(|| answer.json()["allowed_ips"].take())
    })
}

impl Written {
    fn text(&self) -> String {
        match self.prefix {
            Some(prefix) => format!("{}/{prefix}", self.address),
            None => self.address.to_string(),
        }
    }

    /// Bit by bit. A client that has an IPv4 address is matched by it, also where the network is
    /// written as one of IPv6; a network of IPv6 that is wider than all of IPv4 is none of IPv4.
    fn contains(&self, client: IpAddr) -> bool {
        let (own, length, mapped) = match self.address {
            IpAddr::V4(four) => {
                (four.to_ipv6_mapped(), self.prefix.map_or(128, |it| it + 96), true)
            }
            IpAddr::V6(six) => {
                let length = self.prefix.unwrap_or(128);
                (six, length, six.to_ipv4_mapped().is_some() && length >= 96)
            }
        };
        let client = match client {
            IpAddr::V4(_) if !mapped => return false,
            IpAddr::V6(_) if mapped => return false,
            IpAddr::V4(four) => four.to_ipv6_mapped(),
            IpAddr::V6(six) => six,
        };
        let rest = 128 - u32::from(length);
        let top = |bits: u128| bits.checked_shr(rest).unwrap_or(0);
        top(own.to_bits()) == top(client.to_bits())
    }
}

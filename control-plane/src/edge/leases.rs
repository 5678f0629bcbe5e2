//! `POST /edge/v1/leases`: who lives in a fleet, and its limits in parts.

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
};
use edge_protocol::leases::{
    ALL_SHARES, Ask, LeaseAnswer, LeaseCall, MAX_ASKS, MAX_NAME_BYTES, Presence,
};
use std::sync::Arc;

use super::{fault::Fault, verify::unreadable};
use crate::{
    http::wording::without_input, keys::new_key::MAX_WINDOW_SECONDS, limits::fleet::EnvoyId,
    service::Service,
};

/// Numbers of calls, slices and times: what JSON's readers and Redis' scripts hold exactly.
const MAX_WHOLE: u64 = 1 << 53;

pub(super) async fn handler(
    State(service): State<Arc<Service>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<LeaseAnswer>, Fault> {
    let body = body.map_err(|rejection| unreadable(&rejection))?;
    let call: LeaseCall = serde_json::from_slice(&body)
        .map_err(|error| Fault::Malformed(without_input(&error.to_string())))?;
    let envoy = check(&call).map_err(Fault::Invalid)?;
    Ok(Json(service.fleet.answer(envoy, call.presence.as_ref(), &call.asks).await))
}

fn check(call: &LeaseCall) -> Result<EnvoyId, String> {
    let envoy = EnvoyId::parse(&call.envoy).ok_or("envoy: must be 16 lower-case hex digits")?;
    if let Some(presence) = &call.presence {
        check_presence(presence)
            .map_err(|(field, problem)| format!("presence.{field}: {problem}"))?;
    }
    if call.asks.len() > MAX_ASKS {
        return Err(format!("asks: must be at most {MAX_ASKS}"));
    }
    for (index, ask) in call.asks.iter().enumerate() {
        check_ask(ask).map_err(|(field, problem)| format!("asks[{index}].{field}: {problem}"))?;
    }
    Ok(envoy)
}

type Wrong = (&'static str, &'static str);

fn check_presence(presence: &Presence) -> Result<(), Wrong> {
    if presence.holds > ALL_SHARES {
        return Err(("holds", "is more than there is"));
    }
    for (field, number) in [("number", presence.number), ("now_ms", presence.now_ms)] {
        if number > MAX_WHOLE {
            return Err((field, "is too great"));
        }
    }
    Ok(())
}

fn check_ask(ask: &Ask) -> Result<(), Wrong> {
    for (field, name) in [("limit", &ask.limit), ("subject", &ask.subject)] {
        let printable = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !printable {
            return Err((field, "must be 1 to 128 printable ASCII characters"));
        }
    }
    for (field, number) in [("requests", ask.requests), ("want", ask.want)] {
        if number == 0 {
            return Err((field, "must be 1 or more"));
        }
    }
    if !(1..=MAX_WINDOW_SECONDS).contains(&ask.window_seconds) {
        return Err(("window_seconds", "must be 1 to 2678400 (31 days)"));
    }
    if ask.slice > MAX_WHOLE {
        return Err(("slice", "is too great"));
    }
    if ask.holds > ALL_SHARES {
        return Err(("holds", "is more than there is"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock, unix_ms},
        testing::{Answer, EDGE_TOKEN, TestService, send},
    };
    use axum::{
        body::Body,
        http::{Request, StatusCode},
    };
    use edge_protocol::{Algorithm, leases::Standing};
    use serde_json::{Value, json};

    async fn post(it: &TestService, body: String) -> Answer {
        let request = Request::post("/edge/v1/leases")
            .header("authorization", format!("Bearer {EDGE_TOKEN}"))
            .body(Body::from(body))
            .expect("a request");
        send(&it.edge, request).await
    }

    fn call(it: &TestService) -> LeaseCall {
        let now_ms = unix_ms(it.clock.now());
        LeaseCall {
            envoy: "00000000000000ab".to_owned(),
            presence: Some(Presence { number: 7, holds: 0, now_ms }),
            asks: vec![Ask {
                limit: "per-address".to_owned(),
                subject: "address:2001:db8::/64".to_owned(),
                algorithm: Algorithm::FixedWindow,
                requests: 100,
                window_seconds: 60,
                slice: now_ms / 60_000,
                epoch: 1,
                granted: 0,
                used: 0,
                want: 10,
                holds: 0,
            }],
        }
    }

    #[tokio::test]
    async fn an_envoy_is_told_how_it_stands_and_what_it_is_granted() {
        let it = TestService::start().await;
        let mut call = call(&it);
        let second = Ask { subject: "key:0123456789abcdef".to_owned(), ..call.asks[0].clone() };
        call.asks.push(Ask { slice: 0, ..second });
        let answer = post(&it, serde_json::to_string(&call).expect("JSON")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.header("x-keygate-edge"), Some("1"));
        let answer: LeaseAnswer = serde_json::from_slice(&answer.body).expect("an answer");
        let standing = Standing { number: 7, parts: 0, envoys: 1, counted: false, valid_ms: 5000 };
        assert_eq!(answer.standing, Some(standing));
        // A new table of members: no share counts yet, so all of the limit is there, and one Envoy
        // gets half of what is left.
        let [first, second] = answer.grants[..] else { panic!("{answer:?}") };
        assert_eq!((first.granted, first.left, first.again), (50, 50, None));
        assert_eq!((second.granted, second.left), (0, 0));
        assert_eq!(second.again, Some(call.asks[0].slice));
        // It says only that it lives; then it only asks.
        let only = LeaseCall { asks: Vec::new(), ..call.clone() };
        let answer = post(&it, serde_json::to_string(&only).expect("JSON")).await.json();
        assert_eq!(answer["grants"], Value::Null);
        let only = LeaseCall { presence: None, ..call };
        let answer = post(&it, serde_json::to_string(&only).expect("JSON")).await.json();
        assert_eq!(
            (&answer["standing"], &answer["grants"][0]["granted"]),
            (&Value::Null, &json!(50))
        );
    }

    #[tokio::test]
    async fn what_cannot_be_meant_is_refused_and_said_so() {
        let it = TestService::start().await;
        let good = serde_json::to_value(call(&it)).expect("JSON");
        for (pointer, bad, words) in [
            ("/envoy", json!("ab"), "envoy: must be 16 lower-case hex digits"),
            ("/envoy", json!("00000000000000AB"), "envoy"),
            ("/envoy", json!("+0000000000000ab"), "envoy"),
            ("/presence/holds", json!(65537), "presence.holds: is more than there is"),
            ("/presence/now_ms", json!(u64::MAX), "presence.now_ms: is too great"),
            ("/presence/number", json!(u64::MAX), "presence.number: is too great"),
            ("/asks/0/limit", json!(""), "asks[0].limit: must be 1 to 128"),
            ("/asks/0/limit", json!("a\u{7f}"), "asks[0].limit"),
            ("/asks/0/subject", json!("a\nb"), "asks[0].subject"),
            ("/asks/0/subject", json!("é"), "asks[0].subject"),
            ("/asks/0/subject", json!("x".repeat(129)), "asks[0].subject"),
            ("/asks/0/want", json!(0), "asks[0].want: must be 1 or more"),
            ("/asks/0/requests", json!(0), "asks[0].requests"),
            ("/asks/0/window_seconds", json!(0), "asks[0].window_seconds"),
            ("/asks/0/window_seconds", json!(2_678_401), "31 days"),
            ("/asks/0/slice", json!(u64::MAX), "asks[0].slice"),
            ("/asks/0/holds", json!(65537), "asks[0].holds"),
        ] {
            let mut call = good.clone();
            *call.pointer_mut(pointer).expect("a field") = bad;
            let answer = post(&it, call.to_string()).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{call}");
            assert!(
                answer.json()["detail"].as_str().is_some_and(|it| it.contains(words)),
                "{call}"
            );
        }
        for bad in ["", "{", "{}", r#"{"envoy":1}"#, r#"{"envoy":"ab","asks":[{}]}"#] {
            assert_eq!(post(&it, bad.to_owned()).await.status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_full_call_fits_and_a_larger_one_does_not() {
        let it = TestService::start().await;
        let mut call = call(&it);
        let long = "\"".repeat(MAX_NAME_BYTES);
        let ask = Ask { limit: long.clone(), subject: long, ..call.asks[0].clone() };
        call.asks = vec![ask; MAX_ASKS];
        let body = serde_json::to_string(&call).expect("JSON");
        assert_eq!(post(&it, body).await.status, StatusCode::OK);
        call.asks.push(call.asks[0].clone());
        let answer = post(&it, serde_json::to_string(&call).expect("JSON")).await;
        assert_eq!(answer.json()["detail"], "asks: must be at most 256");
        let answer = post(&it, "x".repeat(256 * 1024 + 1)).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}

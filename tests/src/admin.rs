//! The control plane's admin API and its metrics, as an administrator sees them.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::keys::Key;
use crate::wait::{eventually, rfc3339, unix_ms};

const KEYS: &str = "/api/v1/admin/api-keys/";

/// An administrator.
#[derive(Clone, Debug)]
pub struct Admin {
    server: SocketAddr,
    key: String,
}

impl Admin {
    pub(crate) fn new(server: SocketAddr, key: &str) -> Self {
        Self { server, key: key.to_owned() }
    }

    /// Any call, still without a key: `admin.request("GET", "/health").send()`.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.server, method, path)
    }

    /// Makes a key; `fields` as in the API, `name` may be left out.
    #[must_use]
    pub fn create_key(&self, mut fields: Value) -> Key {
        let answer = self.ask_for_key(&mut fields);
        assert_eq!(answer.status, 201, "{fields} was refused: {answer:?}");
        Key::read(answer.json())
    }

    fn ask_for_key(&self, fields: &mut Value) -> Answer {
        let fields_mut = fields.as_object_mut().expect("fields of a key are an object");
        fields_mut.entry("name").or_insert_with(|| json!("of a test"));
        self.call("POST", KEYS, Some(fields))
    }

    /// A key of this scope, and nothing else said of it.
    #[must_use]
    pub fn key_of_scope(&self, scope: &str) -> Key {
        self.create_key(json!({"scope": scope}))
    }

    /// A key that has expired; `fields` as for [`create_key`](Self::create_key).
    #[must_use]
    pub fn expired_key(&self, mut fields: Value) -> Key {
        let (key, ends_at) = eventually("a key that ends soon is made in time", || {
            let ends_at = unix_ms() + 1500;
            fields["expires_at"] = json!(rfc3339(ends_at));
            let answer = self.ask_for_key(&mut fields);
            if answer.status == 201 {
                return Some((Key::read(answer.json()), ends_at));
            }
            // On a busy machine its time may be over before it is made.
            assert!(answer.text().contains("must be in the future"), "{fields}: {answer:?}");
            None
        });
        eventually("the key has expired", || (unix_ms() > ends_at).then_some(()));
        key
    }

    /// What is known of a key.
    #[must_use]
    pub fn get_key(&self, id: &str) -> Value {
        self.call("GET", &format!("{KEYS}{id}"), None).json()
    }

    /// Changes a key, whatever its version.
    pub fn update(&self, id: &str, fields: &Value) {
        let request = self.request("PUT", &format!("{KEYS}{id}")).header("If-Match", "*");
        let answer = self.send(&request, Some(fields));
        assert_eq!(answer.status, 200, "{id} was not changed to {fields}: {answer:?}");
    }

    /// Ends a key.
    pub fn revoke(&self, id: &str) {
        let answer = self.call("DELETE", &format!("{KEYS}{id}"), None);
        assert!((200..300).contains(&answer.status), "{id} was not revoked: {answer:?}");
    }

    /// All keys, newest first.
    #[must_use]
    pub fn keys(&self) -> Vec<Value> {
        self.pages(KEYS)
    }

    /// The whole audit log, newest first. Rows have `event`, `key_id`, `key_hash`, `client_ip`,
    /// `actor`, `details`, `shadow`, `source`, `timestamp`, `id`. The filter's events come up to a
    /// second late: see [`Gate::audited`](crate::Gate::audited).
    #[must_use]
    pub fn audit_log(&self) -> Vec<Value> {
        self.pages("/api/v1/admin/audit-log")
    }

    /// The audit log's rows of one kind of event, newest first.
    #[must_use]
    pub fn audit_events(&self, event: &str) -> Vec<Value> {
        self.pages(&format!("/api/v1/admin/audit-log?event={event}"))
    }

    /// How often a key was used: `requests`, `by_method`, `by_outcome`. The filter's counts come
    /// up to two seconds late.
    #[must_use]
    pub fn usage(&self, id: &str) -> Value {
        let path = format!("{KEYS}{id}/usage?interval=day");
        let answer = self.call("GET", &path, None);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()["total"].clone()
    }

    /// The control plane's metrics, as Prometheus reads them.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.request("GET", "/metrics").send().text()
    }

    /// The sum of a metric over all its series that have every one of these parts in their labels:
    /// `admin.metric("keygate_http_requests_total", &["route=\"/edge/v1/verify\""])`.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.metrics();
        let of_name = metrics.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let rest = series.strip_prefix(name)?;
            let is_it = rest.is_empty() || rest.starts_with('{');
            (is_it && labels.iter().all(|label| rest.contains(label))).then_some(value)
        });
        // The sum of no floats is -0.
        of_name.map(|value| value.parse::<f64>().unwrap()).fold(0.0, |sum, value| sum + value)
    }

    /// How many keys filters have asked the control plane about.
    #[must_use]
    pub fn verify_calls(&self) -> u64 {
        let calls =
            self.metric("keygate_http_requests_total", &["listener=\"edge\"", "/edge/v1/verify"]);
        format!("{calls:.0}").parse().unwrap()
    }

    /// A call with the administrator's key. One that a busy machine has no time for is not carried out:
    /// it is made again, as every client is told to.
    #[must_use]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.send(&self.request(method, path), body)
    }

    fn send(&self, request: &Request, body: Option<&Value>) -> Answer {
        eventually("there is time for it", || {
            let request = request.clone().key(&self.key);
            let answer = match body {
                Some(body) => {
                    request.header("Content-Type", "application/json").body(body.to_string()).send()
                }
                None => request.send(),
            };
            let busy = answer.status == 503 && answer.text().contains("overloaded");
            (!busy).then_some(answer)
        })
    }

    fn pages(&self, path: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let mut page = format!("{path}{join}limit=200");
            if let Some(cursor) = &cursor {
                page.push_str(&format!("&cursor={cursor}"));
            }
            let answer = self.call("GET", &page, None);
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            let body = answer.json();
            all.extend(body["items"].as_array().expect("a page has items").iter().cloned());
            match body["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return all,
            }
        }
    }
}

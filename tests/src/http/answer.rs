//! An answer.

use std::fmt;

use serde_json::Value;

/// Header fields, names in lower case, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, Vec<u8>)>);

impl Fields {
    /// All values of a field, in order.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<String> {
        let of_name = self.0.iter().filter(|(n, _)| n == name);
        of_name.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The value of a field that is there once, or not at all.
    #[must_use]
    pub fn one(&self, name: &str) -> Option<String> {
        let mut values = self.all(name);
        assert!(values.len() < 2, "{name} came {} times: {values:?}", values.len());
        values.pop()
    }

    /// Names and values without those that differ from answer to answer (`date`, request ids),
    /// sorted: what is left must be the same for answers that nobody may tell apart.
    #[must_use]
    pub fn comparable(&self) -> Vec<(String, String)> {
        let varies = ["date", "x-request-id"];
        let kept = self.0.iter().filter(|(name, _)| !varies.contains(&name.as_str()));
        let mut fields: Vec<_> = kept
            .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        fields.sort();
        fields
    }
}

/// What came back.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: Fields,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header field; fails the test when it came more than once.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.one(name)
    }

    /// The value of a header field as a number.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        let value = self.header(name).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}, no number"))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The `code` of a problem document; empty when the body is none.
    #[must_use]
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Fails the test unless this is a refusal in the documented form: a problem document of this
    /// status and code, `application/problem+json` once, not to be stored.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{self:?}");
        assert_eq!(self.headers.all("content-type"), ["application/problem+json"], "{self:?}");
        assert_eq!(self.headers.all("cache-control"), ["no-store"], "{self:?}");
        assert_eq!(self.headers.all("content-length"), [self.body.len().to_string()], "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], status, "{self:?}");
        for member in ["type", "title", "detail"] {
            assert!(body[member].is_string(), "no {member}: {self:?}");
        }
    }

    /// Fails the test unless the request reached the echo upstream; tells what that saw.
    #[track_caller]
    pub fn upstream(&self) -> Seen {
        assert_eq!(self.status, 200, "it did not reach the upstream: {self:?}");
        let body = self.json();
        assert!(body["headers"].is_object(), "no answer of the echo upstream: {self:?}");
        Seen(body)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.headers.0 {
            writeln!(f, "  {name}: {}", String::from_utf8_lossy(value))?;
        }
        write!(f, "  {}", self.text())
    }
}

/// What the echo upstream saw of a request.
#[derive(Clone, Debug)]
pub struct Seen(pub Value);

impl Seen {
    /// All values of a header field.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<String> {
        let values = self.0["headers"][name].as_array().into_iter().flatten();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }

    /// The names of all header fields.
    #[must_use]
    pub fn header_names(&self) -> Vec<String> {
        let headers = self.0["headers"].as_object().unwrap();
        headers.keys().cloned().collect()
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0["path"].as_str().unwrap()
    }
}

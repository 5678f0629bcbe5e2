//! How a limit stands, in the words of HTTP headers.

use crate::Now;

/// Which headers tell a client about its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitHeaders {
    /// `X-RateLimit-*`.
    pub x_ratelimit: bool,
    /// `RateLimit-Policy` and `RateLimit`, draft-ietf-httpapi-ratelimit-headers-10.
    pub ietf: bool,
}

/// How the limit nearest to its end stands for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReport {
    /// Which limit: its place in the configuration, or none for a key's own.
    pub(crate) rule: Option<u8>,
    /// Requests in a window.
    pub limit: u32,
    /// The window's length in seconds.
    pub window_seconds: u32,
    /// Requests left in this window.
    pub remaining: u32,
    /// When the window ends, in seconds since the Unix epoch.
    pub ends: u32,
}

impl LimitReport {
    /// Whether this one is nearer to its end than `other`.
    pub(crate) fn binds_before(&self, other: &Self) -> bool {
        (self.remaining, u32::MAX - self.ends) < (other.remaining, u32::MAX - other.ends)
    }

    /// Seconds until the window ends, at least 1: `Retry-After` (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn seconds_left(&self, now: Now) -> u32 {
        let now = u32::try_from(now.unix_seconds()).unwrap_or(u32::MAX);
        self.ends.saturating_sub(now).max(1)
    }

    /// Writes the headers, name and value, without allocating.
    pub fn write_headers(
        &self,
        name: &str,
        headers: RateLimitHeaders,
        now: Now,
        mut header: impl FnMut(&'static str, &[u8]),
    ) {
        let mut text = HeaderText::new();
        if headers.x_ratelimit {
            header("x-ratelimit-limit", text.number(self.limit).bytes());
            header("x-ratelimit-remaining", text.clear().number(self.remaining).bytes());
            header("x-ratelimit-reset", text.clear().number(self.ends).bytes());
        }
        if headers.ietf {
            text.clear().text("\"").text(name).text("\";q=").number(self.limit);
            header("ratelimit-policy", text.text(";w=").number(self.window_seconds).bytes());
            text.clear().text("\"").text(name).text("\";r=").number(self.remaining);
            header("ratelimit", text.text(";t=").number(self.seconds_left(now)).bytes());
        }
    }
}

/// A header value in the making. What does not fit is cut off; 128 bytes hold a name of 64 and
/// all the numbers.
struct HeaderText {
    bytes: [u8; 128],
    len: usize,
}

impl HeaderText {
    /// An empty value.
    fn new() -> Self {
        Self { bytes: [0; 128], len: 0 }
    }

    /// Starts over.
    fn clear(&mut self) -> &mut Self {
        self.len = 0;
        self
    }

    /// Adds text.
    fn text(&mut self, text: &str) -> &mut Self {
        self.push(text.as_bytes())
    }

    /// Adds a number in decimal digits.
    fn number(&mut self, number: u32) -> &mut Self {
        let mut digits = [b'0'; 10];
        let mut rest = number;
        let mut begin = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            begin -= 1;
            if rest == 0 {
                break;
            }
        }
        self.push(digits.get(begin..).unwrap_or_default())
    }

    /// What has been written.
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, more: &[u8]) -> &mut Self {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let fits = more.len().min(room.len());
        if let (Some(place), Some(more)) = (room.get_mut(..fits), more.get(..fits)) {
            place.copy_from_slice(more);
            self.len += fits;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    #[wasm_bindgen_test(unsupported = test)]
    fn numbers_are_written_as_people_write_them() {
        for number in [0, 7, 10, 100, 1_000_000_000, u32::MAX] {
            assert_eq!(HeaderText::new().number(number).bytes(), number.to_string().as_bytes());
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_report_speaks_both_the_old_and_the_new_headers() {
        let report =
            LimitReport { rule: Some(0), limit: 100, window_seconds: 60, remaining: 42, ends: 180 };
        let mut seen = Vec::new();
        let both = RateLimitHeaders { x_ratelimit: true, ietf: true };
        report.write_headers("address-get", both, Now::from_unix_ms(150_999), |name, value| {
            seen.push(format!("{name}: {}", String::from_utf8_lossy(value)));
        });
        assert_eq!(
            seen,
            [
                "x-ratelimit-limit: 100",
                "x-ratelimit-remaining: 42",
                "x-ratelimit-reset: 180",
                "ratelimit-policy: \"address-get\";q=100;w=60",
                "ratelimit: \"address-get\";r=42;t=30",
            ]
        );
    }
}

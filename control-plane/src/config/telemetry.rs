//! Where traces and reports of errors go.

use reqwest::Url;
use secrecy::ExposeSecret;
use sentry::types::Dsn;

use super::{ConfigError, Settings, settings::SecretText, text_or_file, wrong};

/// The part of the requests that are traced unless Envoy has decided.
const SAMPLE_RATIO: f64 = 0.1;

/// Where traces go.
#[derive(Clone, Debug)]
pub struct TraceConfig {
    /// The collector's address for traces.
    pub endpoint: Url,
    /// The part of the requests that are traced, 0 to 1, where no caller has decided.
    pub ratio: f64,
}

/// The settings of traces and reports, checked.
#[derive(Debug)]
pub struct TelemetryConfig {
    /// Where traces go; none: nowhere.
    pub traces: Option<TraceConfig>,
    /// Where errors are reported; none: nowhere. It is a secret, though its type prints it.
    pub sentry_dsn: Option<Dsn>,
}

impl TelemetryConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let ratio = ratio(settings.otlp_sample_ratio.as_deref())?;
        let endpoint = settings.otlp_endpoint.as_deref().map(endpoint).transpose()?;
        Ok(Self {
            traces: endpoint.map(|endpoint| TraceConfig { endpoint, ratio }),
            sentry_dsn: sentry_dsn(settings)?,
        })
    }
}

/// `http://collector:4318` and its like; OTLP over HTTP has one path for each signal.
fn endpoint(text: &str) -> Result<Url, ConfigError> {
    const SETTING: &str = "KEYGATE_OTLP_ENDPOINT";
    let unusable = || wrong(SETTING, "is no URL such as http://127.0.0.1:4318");
    let base = Url::parse(text).map_err(|_| unusable())?;
    if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
        return Err(unusable());
    }
    if !base.username().is_empty() || base.password().is_some() {
        // It is shown in errors, and it is no place for a secret.
        return Err(wrong(
            SETTING,
            "must hold no credentials; put them into OTEL_EXPORTER_OTLP_HEADERS",
        ));
    }
    let base = base.as_str().trim_end_matches('/');
    Url::parse(&format!("{base}/v1/traces")).map_err(|_| unusable())
}

fn ratio(text: Option<&str>) -> Result<f64, ConfigError> {
    let Some(text) = text else { return Ok(SAMPLE_RATIO) };
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| {
        wrong("KEYGATE_OTLP_SAMPLE_RATIO", format!("`{text}` is no number from 0 to 1"))
    })
}

fn sentry_dsn(settings: &Settings) -> Result<Option<Dsn>, ConfigError> {
    const SETTING: &str = "KEYGATE_SENTRY_DSN";
    let text = text_or_file(
        SETTING,
        settings.sentry_dsn.as_ref().map(SecretText::expose),
        settings.sentry_dsn_file.as_deref(),
    )?;
    let dsn = text.map(|text| text.expose_secret().parse::<Dsn>()).transpose();
    // Its own words might repeat it.
    dsn.map_err(|_| wrong(SETTING, "is no DSN such as https://<public key>@<host>/<project>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_its_base_address() {
        for base in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/"] {
            let url = endpoint(base).expect("a URL");
            assert_eq!(url.as_str(), "http://127.0.0.1:4318/v1/traces");
        }
        assert_eq!(endpoint("https://a.example/b").expect("a URL").path(), "/b/v1/traces");
        for bad in ["127.0.0.1:4318", "ftp://a.example", "http://", "http://user:word@a.example"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ratio_is_a_number_from_zero_to_one() {
        for (text, value) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0)] {
            assert!((ratio(Some(text)).expect("a ratio") - value).abs() < f64::EPSILON);
        }
        for bad in ["-0.1", "1.1", "NaN", "", "ten"] {
            assert!(ratio(Some(bad)).is_err(), "{bad}");
        }
    }
}

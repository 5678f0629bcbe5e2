//! `keygate doctor`

use anyhow::bail;
use std::fmt::Write as _;

use super::output::{answer, answer_json};
use crate::{
    clock::SystemClock,
    config::{ConfigError, Flags, Settings},
    doctor::{
        Asked, examine,
        finding::{Report, Status},
    },
};

#[expect(clippy::doc_markdown, reason = "clap shows it as it stands")]
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// URL of Envoy's admin interface, such as http://127.0.0.1:9901
    #[arg(long, value_name = "URL", env = "KEYGATE_ENVOY_ADMIN")]
    envoy_admin: Option<String>,
    /// Exit with 1 for warnings too
    #[arg(long)]
    strict: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Settings that cannot be read are something to be told, not to stop at.
pub(super) async fn run(
    arguments: Arguments,
    settings: Result<Settings, ConfigError>,
    flags: &Flags,
) -> anyhow::Result<()> {
    let named = std::env::var_os("KEYGATE_CONFIG").filter(|it| !it.is_empty());
    let toml = flags.config.clone().or_else(|| named.map(Into::into));
    let asked = Asked { toml, envoy_admin: arguments.envoy_admin };
    let report = examine(settings, &asked, &SystemClock).await;
    if arguments.json {
        answer_json(&report)?;
    } else {
        answer(&text(&report))?;
    }
    let (failed, warnings) = (report.count(Status::Failed), report.count(Status::Warning));
    if failed > 0 {
        bail!("{failed} finding(s) to be mended");
    }
    if arguments.strict && warnings > 0 {
        bail!("{warnings} warning(s)");
    }
    Ok(())
}

/// A line for what was found, and one for how to mend it.
fn text(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let (status, check) = (finding.status, finding.check.as_str());
        let _ = writeln!(text, "{status:8} {check:13}  {}", finding.what);
        if let Some(mend) = &finding.mend {
            let _ = writeln!(text, "{:8} {:13}  -> {mend}", "", "");
        }
    }
    let count = |status| report.count(status);
    let _ = writeln!(
        text,
        "\n{} ok, {} warning(s), {} failed, {} skipped",
        count(Status::Ok),
        count(Status::Warning),
        count(Status::Failed),
        count(Status::Skipped)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::{Check, Finding};

    #[test]
    fn each_finding_is_a_line_and_how_to_mend_it_another() {
        let report = Report::new(vec![
            Finding::ok(Check::Clock, "it agrees"),
            Finding::failed(Check::Database, "it is not there", "keygate migrate"),
        ]);
        let expected = "\
FAILED   database       it is not there
                        -> keygate migrate
ok       clock          it agrees

1 ok, 0 warning(s), 1 failed, 0 skipped
";
        assert_eq!(text(&report), expected);
    }
}

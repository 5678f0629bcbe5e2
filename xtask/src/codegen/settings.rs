//! The page of the control plane's settings, from the struct that they are read into.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};

use crate::workspace;

const SOURCE: &str = "control-plane/src/config/settings.rs";

const HEAD: &str = "\
<!-- Made by `cargo xtask codegen` from control-plane/src/config/settings.rs. Change it there. -->

# Settings of the control plane

Each can be a variable of the environment, as it is named here; or stand in a TOML file (`--config FILE` or \
`KEYGATE_CONFIG`), in lower case and without `KEYGATE_`; and some are flags (`keygate serve --help`). The file wins \
over the environment, a flag over both. In the file an unknown setting is refused; an empty variable counts as not \
set. A secret is given either as it is or in a file, not both, and is shown by nothing.

`keygate doctor` looks at all of them. A setting that cannot be used ends a command with exit code 2 (`doctor`: 1), and the \
message names it.

| setting | kind | default | meaning |
|---|---|---|---|
";

/// A setting.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    name: String,
    kind: &'static str,
    default: String,
    meaning: String,
}

/// The page.
///
/// # Errors
/// When the source is not as the generator expects.
pub(super) fn page() -> Result<String> {
    let file = workspace::root().join(SOURCE);
    let source = fs::read_to_string(&file).with_context(|| format!("cannot read {SOURCE}"))?;
    let mut page = HEAD.to_owned();
    for Setting { name, kind, default, meaning } in read(&source)? {
        let name = name.to_ascii_uppercase();
        writeln!(
            page,
            "| `KEYGATE_{name}` | {kind} | {default} | {} |",
            meaning.replace('|', "\\|")
        )?;
    }
    Ok(page)
}

/// The fields of `Settings`, with what their attributes and comments say.
fn read(source: &str) -> Result<Vec<Setting>> {
    let (_, body) = source.split_once("pub struct Settings {").context("no struct Settings")?;
    let (body, _) = body.split_once("\n}").context("the struct does not end")?;
    let mut settings = Vec::new();
    let (mut comment, mut attributes) = (Vec::new(), String::new());
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push(text.trim());
        } else if line.starts_with("pub ") {
            let field = line.trim_start_matches("pub ").trim_end_matches(',');
            let (name, of) = field.split_once(": ").context("a field without a type")?;
            let (meaning, told) = meaning(name, &comment.join(" "));
            let default = match told {
                Some(told) => told,
                None => default(source, &attributes, of)?,
            };
            settings.push(Setting {
                name: name.to_owned(),
                kind: kind(name, of),
                default,
                meaning,
            });
            comment.clear();
            attributes.clear();
        } else {
            attributes.push_str(line);
        }
    }
    Ok(settings)
}

/// What a comment says of a setting, and of what holds without it.
fn meaning(name: &str, comment: &str) -> (String, Option<String>) {
    if let Some(base) = name.strip_suffix("_file").filter(|_| comment.starts_with("A file that")) {
        let base = base.to_ascii_uppercase();
        return (format!("A file that holds `KEYGATE_{base}`, in the place of that one."), None);
    }
    let told = comment.split_once(" unless set").and_then(|(before, after)| {
        let (before, value) = before.rsplit_once("; ")?;
        Some((format!("{before}{after}"), format!("`{value}`")))
    });
    match told {
        Some((meaning, value)) => (meaning, Some(value)),
        None => (comment.to_owned(), None),
    }
}

fn kind(name: &str, of: &str) -> &'static str {
    match of.trim_start_matches("Option<").trim_end_matches('>') {
        "SecretText" => "secret",
        "PathBuf" => "file",
        "u16" | "u32" | "u64" | "usize" => "whole number",
        "f64" => "number",
        "bool" => "`true` or `false`",
        "Deployment" => "`development`, `testing`, `staging`, `production`",
        "LogFormat" => "`text`, `json`",
        _ if name.ends_with("listen") => "address and port",
        _ => "text",
    }
}

/// What holds when the setting is not set. A default that depends on other settings is told by the
/// comment.
fn default(source: &str, attributes: &str, of: &str) -> Result<String> {
    let Some((_, after)) = attributes.split_once("default = \"") else {
        return Ok(match of {
            "bool" => "`false`".to_owned(),
            "Deployment" => "`production`".to_owned(),
            "LogFormat" => "`text`".to_owned(),
            _ => "–".to_owned(),
        });
    };
    let function = after.split('"').next().unwrap_or_default();
    let (_, body) = source
        .split_once(&format!("fn {function}("))
        .with_context(|| format!("no function {function}"))?;
    let value = body.lines().nth(1).unwrap_or_default().trim();
    Ok(format!("`{}`", value.trim_end_matches(".to_owned()").trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::{Setting, read};

    #[test]
    fn a_field_becomes_a_setting_with_its_default_and_its_meaning() {
        let source = "
pub struct Settings {
    /// Where it
    /// listens.
    #[serde(default = \"default_listen\")]
    pub listen: String,
    /// A file that holds it.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// How many days it is kept; 90 unless set.
    #[serde(default)]
    pub days: Option<u32>,
}

fn default_listen() -> String {
    \"127.0.0.1:8080\".to_owned()
}
";
        let setting = |name: &str, kind, default: &str, meaning: &str| Setting {
            name: name.to_owned(),
            kind,
            default: default.to_owned(),
            meaning: meaning.to_owned(),
        };
        assert_eq!(
            read(source).unwrap(),
            [
                setting("listen", "address and port", "`127.0.0.1:8080`", "Where it listens."),
                setting(
                    "token_file",
                    "file",
                    "–",
                    "A file that holds `KEYGATE_TOKEN`, in the place of that one.",
                ),
                setting("days", "whole number", "`90`", "How many days it is kept."),
            ]
        );
    }

    #[test]
    fn every_setting_has_a_meaning() {
        let page = super::page().unwrap();
        for line in page.lines().filter(|line| line.starts_with("| `KEYGATE_")) {
            assert!(!line.ends_with("|  |"), "{line}");
        }
        assert!(page.contains("| `KEYGATE_ENVIRONMENT` |"));
    }
}
